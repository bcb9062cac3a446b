// The simulator's libraries as a test sees them: opened at run time, called through CUDA's interface.
#pragma once

#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

typedef unsigned long long u64;
typedef unsigned u32;

extern void* driver;
extern void* compiler;

// Calls a function of a library by its name, with arguments of exactly its types.
template <typename... Args> int call_in(void* library, const char* name, Args... args) {
    auto function = (int (*)(Args...))dlsym(library, name);
    if (function == nullptr) {
        std::fprintf(stderr, "no function %s\n", name);
        std::exit(1);
    }
    return function(args...);
}
#define CU(name, ...) call_in(driver, #name, ##__VA_ARGS__)

// Ends the test once too many have come.
void failed(const char* file, int line, const char* text);
#define CHECK(condition) \
    do { \
        if (!(condition)) failed(__FILE__, __LINE__, #condition); \
    } while (0)
// The code of a call, and a part of the simulator's message.
#define EXPECT(code, expected, words) \
    do { \
        int code_ = (code); \
        if (code_ != (expected) || last_error().find(words) == std::string::npos) { \
            failed(__FILE__, __LINE__, #code " == " #expected ", " #words); \
            std::printf("    it is %d, message \"%s\"\n", code_, last_error().c_str()); \
        } \
    } while (0)

std::string last_error();

// A device's context with a module in it, and a stream.
struct Session {
    int ordinal;
    void* context = nullptr;
    void* stream = nullptr;
    void* module = nullptr;

    Session(int ordinal, const std::string& image);
    ~Session();
    void* function(const char* name);
    u64 alloc(size_t bytes);
    int sync();
    template <typename P>
    int launch(const char* name, unsigned grid, unsigned threads, const P& params, unsigned shared = 0, size_t bytes = sizeof(P)) {
        return launch_bytes(name, grid, threads, &params, bytes, shared);
    }
    int launch_bytes(const char* name, unsigned grid, unsigned threads, const void* params, size_t bytes, unsigned shared);
    template <typename T> std::vector<T> read(u64 at, size_t n) {
        std::vector<T> values(n);
        CHECK(CU(cuMemcpyDtoHAsync_v2, (void*)values.data(), at, n * sizeof(T), stream) == 0);
        return values;
    }
    template <typename T> void write(u64 at, const std::vector<T>& values) {
        CHECK(CU(cuMemcpyHtoDAsync_v2, at, (const void*)values.data(), values.size() * sizeof(T), stream) == 0);
    }
};

// An image, or nothing and the log.
std::string compile(const char* source, const std::vector<const char*>& options, std::string* log = nullptr);
double now();
// Of all threads of the process.
double processor_time();

void test_kernels(const std::string& image);
void test_streams(const std::string& image);
void test_checks(const std::string& image);
void measure(const std::string& image);
