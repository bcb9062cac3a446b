// Errors, settings, devices.

#include "engine.h"

#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <thread>

namespace sim {
namespace {

std::mutex text_mutex;
std::string& last_text = *new std::string;

std::mutex devices_mutex;

u64 number(const char* name, u64 otherwise, u64 low, u64 high) {
    const char* text = std::getenv(name);
    if (text == nullptr || *text == 0) return otherwise;
    char* end;
    unsigned long long value = std::strtoull(text, &end, 0);
    if (*end != 0 || value < low || value > high) {
        std::fprintf(stderr, "GGRS simulator: %s=%s is not understood\n", name, text);
        return otherwise;
    }
    return value;
}

Settings from_environment() {
    Settings s;
    s.n_devices = (int)number("GGRS_SIM_DEVICES", 3, 0, 16);
    s.memory_bytes = number("GGRS_SIM_MEMORY", s.memory_bytes, 1, 1ull << 38);
    s.warp = number("GGRS_SIM_WARP", GGRS_SIM_DEFAULT_WARP, 32, 64) == 64 ? 64 : 32;
    unsigned n_cores = std::thread::hardware_concurrency();
    s.n_threads = (unsigned)number("GGRS_SIM_THREADS", n_cores == 0 ? 1 : n_cores, 1, 256);
    s.timeout = (double)number("GGRS_SIM_TIMEOUT", 60, 1, 1000000);
    const char* order = std::getenv("GGRS_SIM_ORDER");
    s.is_reversed = order != nullptr && std::strcmp(order, "reverse") == 0;
    return s;
}

// How many more until one fails; 0 or less: none.
std::atomic<long> launches_left{0}, allocs_left{0};

bool is_last(std::atomic<long>& left) {
    return left.load(std::memory_order_relaxed) > 0 && left.fetch_sub(1) == 1;
}

}  // namespace

Error report(Error error, const char* format, ...) {
    char text[2048];
    va_list args;
    va_start(args, format);
    std::vsnprintf(text, sizeof text, format, args);
    va_end(args);
    std::lock_guard lock(text_mutex);
    last_text = text;
    std::fprintf(stderr, "GGRS simulator: %s\n", text);
    return error;
}

std::string last_error() {
    std::lock_guard lock(text_mutex);
    return last_text;
}

const Settings& settings() {
    static const Settings s = [] {
        Settings s = from_environment();
        if (const char* faults = std::getenv("GGRS_SIM_FAULT")) set_faults(faults);
        return s;
    }();
    return s;
}

void set_faults(const char* list) {
    auto count_of = [list](const char* what) {
        const char* at = std::strstr(list, what);
        return at == nullptr ? 0 : std::atol(at + std::strlen(what));
    };
    launches_left = count_of("launch:");
    allocs_left = count_of("alloc:");
}

bool launch_is_to_fail() { return is_last(launches_left); }
bool alloc_is_to_fail() { return is_last(allocs_left); }

int device_count() { return settings().n_devices; }

Device* device(int ordinal) {
    static Device* const devices = [] {
        int n = device_count();
        Device* devices = new Device[n > 0 ? n : 1];
        for (int i = 0; i < n; i++) {
            devices[i].ordinal = i;
            devices[i].peers.assign(n, false);
        }
        return devices;
    }();
    return ordinal >= 0 && ordinal < device_count() ? &devices[ordinal] : nullptr;
}

std::mutex& device_mutex() { return devices_mutex; }

double seconds() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

}  // namespace sim
