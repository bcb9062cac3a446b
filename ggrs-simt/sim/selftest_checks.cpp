// What the simulator finds and drivers do not, or not in words.

#include "selftest.h"

namespace {

struct One {
    u64 at;
    long long index;
};

// A kernel that fails: the code comes with the next wait, stays, and goes with the context.
void fails(const std::string& image, const char* kernel, long long index, int code, const char* words, unsigned shared = 0) {
    Session s(0, image);
    u64 at = s.alloc(1024);
    std::vector<float> zeros(256);
    s.write(at, zeros);
    CHECK(s.sync() == 0);
    CHECK(s.launch(kernel, 2, 64, One{at, index}, shared) == 0);
    EXPECT(s.sync(), code, words);
    EXPECT(s.sync(), code, kernel);
    u64 more = 0;
    CHECK(CU(cuMemAlloc_v2, &more, (size_t)16) == code);
}

void test_memory(const std::string& image) {
    Session s(0, image);
    u64 before = 0, at = s.alloc(1000), other = s.alloc(1024);
    CHECK(at % 256 == 0 && other % 256 == 0);
    EXPECT(CU(cuMemAlloc_v2, &before, (size_t)0), 1, "0 bytes");
    CHECK(CU(cuMemAlloc_v2, &before, (size_t)1 << 40) == 2);
    size_t free = 0, total = 0;
    CHECK(CU(cuMemGetInfo_v2, &free, &total) == 0 && free == total - 2048);
    std::vector<float> values(257);
    EXPECT(CU(cuMemcpyHtoDAsync_v2, other, (const void*)values.data(), (size_t)1028, s.stream), 1, "3 bytes behind an allocation of 1024 bytes");
    CHECK(CU(cuMemFree_v2, other) == 0);
    EXPECT(CU(cuMemFree_v2, other), 1, "0 bytes into a freed allocation");
    EXPECT(CU(cuMemsetD8Async, other, (unsigned char)0, (size_t)4, s.stream), 1, "freed");
    // Freed memory stays out of reach, and is told by its name.
    CHECK(s.launch("store", 2, 64, One{other, 5}) == 0);
    EXPECT(s.sync(), 700, "kernel store, block (1, 0, 0), thread (37, 0, 0): it writes to address");
    EXPECT(s.sync(), 700, "20 bytes into a freed allocation of 1024 bytes on device 0");
}

void test_slack(const std::string& image) {
    Session s(0, image);
    // Behind an allocation whose size is no multiple of the alignment a little is not guarded; writes show when it is freed.
    u64 at = s.alloc(1000);
    CHECK(s.launch("store", 2, 64, One{at, 251}) == 0);
    CHECK(s.sync() == 0);
    EXPECT(CU(cuMemFree_v2, at), 700, "4 bytes behind an allocation of 1000 bytes");
}

void test_launches(const std::string& image) {
    Session s(0, image);
    u64 at = s.alloc(1024);
    One one = {at, 0};
    EXPECT(s.launch("store", 1, 64, one, 0, 12), 1, "12 bytes of parameters, it has 16");
    EXPECT(s.launch("store", 1, 65, one), 701, "blocks of 65 threads, it is compiled for 64");
    EXPECT(s.launch("store", 0, 64, one), 1, "a grid of 0");
    EXPECT(s.launch("store", 1, 64, one, 50000), 1, "50000 bytes of dynamic shared memory, it may have 49152");
    EXPECT(CU(cuFuncSetAttribute, s.function("store"), 8, 240000), 1, "240000 bytes");
    void* none = nullptr;
    EXPECT(CU(cuModuleGetFunction, &none, s.module, "none"), 500, "no kernel none");
    EXPECT(CU(cuModuleLoadData, &none, (const void*)std::string(100, ' ').c_str()), 200, "image");
    // Another device's memory without leave.
    Session second(1, image);
    CHECK(second.launch("store", 2, 64, one) == 0);
    EXPECT(second.sync(), 700, "without peer access");
    CHECK(CU(cuCtxSetCurrent, s.context) == 0);
    CHECK(s.sync() == 0);
}

void test_injection(const std::string& image) {
    {
        Session s(0, image);
        call_in(driver, "ggrs_sim_set_fault", "launch:2,alloc:2");
        u64 at = s.alloc(1024);
        CHECK(CU(cuMemAlloc_v2, &at, (size_t)16) == 2);
        CHECK(CU(cuMemAlloc_v2, &at, (size_t)16) == 0);
        CHECK(s.launch("store", 1, 64, One{at, 0}) == 0);
        CHECK(s.sync() == 0);
        CHECK(s.launch("store", 1, 64, One{at, 0}) == 0);
        EXPECT(s.sync(), 719, "as asked for");
        call_in(driver, "ggrs_sim_set_fault", "");
    }
    u64 left = ((u64 (*)())dlsym(driver, "ggrs_sim_live_allocations"))();
    Session s(0, image);
    u64 at = s.alloc(16);
    CHECK(((u64 (*)())dlsym(driver, "ggrs_sim_live_allocations"))() == left + 1);
    CHECK(CU(cuMemFree_v2, at) == 0);
    CHECK(((u64 (*)())dlsym(driver, "ggrs_sim_live_allocations"))() == left);
}

}  // namespace

void test_checks(const std::string& image) {
    fails(image, "store", 256, 700, "kernel store, block (1, 0, 0), thread (37, 0, 0): it writes to address");
    fails(image, "store", 256, 700, "0 bytes behind an allocation of 1024 bytes on device 0");
    fails(image, "load", 256, 700, "bytes behind an allocation of 1024 bytes on device 0");
    fails(image, "store", 1ll << 40, 700, "no memory of a device");
    fails(image, "diverging", 0, 719, "40 wait at __syncthreads (the first is 0); 24 have ended (the first is 40)");
    fails(image, "diverging_warp", 0, 719, "7 wait at a collective of a warp");
    fails(image, "mixed", 0, 719, "others of the same warp are at");
    fails(image, "dynamic_beyond", 256, 700, "address 1024 of 1024 bytes of dynamic shared memory", 1024);
    fails(image, "misaligned", 6, 716, "is no multiple of 4");
    fails(image, "array_beyond", 3, 700, "is outside of an array");
    fails(image, "divide", 0, 719, "divided by zero");
    fails(image, "deep", 0, 700, "local variables");
    test_memory(image);
    test_slack(image);
    test_launches(image);
    test_injection(image);
    if (std::getenv("GGRS_SIM_TIMEOUT") == nullptr) return;
    Session s(0, image);
    u64 at = s.alloc(256);
    s.write(at, std::vector<float>{1.0f});
    CHECK(s.launch("endless", 1, 64, One{at, 0}) == 0);
    EXPECT(s.sync(), 702, "without end");
}
