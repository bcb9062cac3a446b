// What kernels compute, and how fast.

#include "selftest.h"

namespace {

struct Vectors {
    u64 a, b, out, n;
};
struct One {
    u64 at;
    long long index;
};
struct Meeting {
    u64 own, other;
    unsigned n_rounds, pad;
};

std::vector<float> counting(size_t n) {
    std::vector<float> values(n);
    for (size_t i = 0; i < n; i++) values[i] = (float)(i % 1000);
    return values;
}

void test_lanes(Session& s) {
    int warp = 0;
    CU(cuDeviceGetAttribute, &warp, 10, 0);
    u64 out = s.alloc(128 * 64);
    CHECK(s.launch("lanes", 1, 128, out) == 0);
    std::vector<u64> got = s.read<u64>(out, 128 * 8);
    for (int i = 0; i < 128; i++) {
        int lane = i % warp, own = i / warp * 1000 + lane;
        const u64* g = &got[i * 8];
        u64 ballot = 0, sum = 0;
        for (int l = 0; l < warp; l++) {
            ballot |= (u64)(l % 3 == 0) << l;
            sum += l;
        }
        CHECK(g[0] == (u64)(own - lane + (lane + 1) % warp));
        CHECK(g[1] == (u64)(own - lane + (lane ^ 5)));
        CHECK(g[2] == (u64)(lane < 2 ? own : own - 2));
        CHECK(g[3] == (u64)(lane + 3 < warp ? own + 3 : own));
        CHECK(g[4] == ballot);
        CHECK(g[5] == sum);
        CHECK(g[6] == (u64)(own - lane % 8 + 3));
        CHECK(g[7] == (u64)(lane < 8 ? own - lane + 7 + 1 : 0));
    }
    CHECK(s.launch("votes", 1, 100, out) == 0);
    got = s.read<u64>(out, 100);
    for (u64 v : got) CHECK(v == 1010);
}

// Launches that wait for one another: of one grid, of two streams, of two devices.
void test_meetings(Session& s, const std::string& image) {
    u64 flags = s.alloc(256);
    CHECK(CU(cuMemsetD8Async, flags, (unsigned char)0, (size_t)256, s.stream) == 0);
    CHECK(s.launch("meet", 20, 64, Meeting{flags, flags, 3, 0}) == 0);
    std::vector<u32> got = s.read<u32>(flags, 2);
    CHECK(got[0] == 60 && got[1] == 0);
    int can = 0;
    CHECK(CU(cuDeviceCanAccessPeer, &can, 0, 1) == 0 && can == 1);
    Session other(1, image);
    u64 theirs = other.alloc(256);
    CHECK(CU(cuMemsetD8Async, theirs, (unsigned char)0, (size_t)256, other.stream) == 0);
    CHECK(other.sync() == 0);
    CHECK(CU(cuCtxEnablePeerAccess, s.context, 0u) == 0);
    CHECK(CU(cuCtxEnablePeerAccess, s.context, 0u) == 704);
    CHECK(other.launch("meet", 5, 64, Meeting{theirs, flags, 4, 0}) == 0);
    CHECK(CU(cuCtxSetCurrent, s.context) == 0);
    CHECK(CU(cuCtxEnablePeerAccess, other.context, 0u) == 0);
    CHECK(CU(cuMemsetD8Async, flags, (unsigned char)0, (size_t)256, s.stream) == 0);
    CHECK(s.launch("meet", 5, 64, Meeting{flags, theirs, 4, 0}) == 0);
    CHECK(s.sync() == 0);
    CHECK(other.sync() == 0);
    got = s.read<u32>(flags, 2);
    CHECK(got[0] == 20 && got[1] == 0);
    // Copies between devices.
    std::vector<float> values = counting(1000);
    u64 from = s.alloc(4000);
    s.write(from, values);
    CHECK(CU(cuCtxSetCurrent, other.context) == 0);
    u64 to = other.alloc(4000);
    CHECK(s.sync() == 0);
    CHECK(CU(cuMemcpyPeerAsync, to, other.context, from, s.context, (size_t)4000, other.stream) == 0);
    CHECK(other.read<float>(to, 1000) == values);
    CHECK(CU(cuMemcpyDtoDAsync_v2, to, from, (size_t)4000, other.stream) == 0);
    CHECK(other.sync() == 0);
    CHECK(CU(cuCtxSetCurrent, s.context) == 0);
    CHECK(CU(cuCtxDisablePeerAccess, other.context) == 0);
}

}  // namespace

void test_kernels(const std::string& image) {
    Session s(0, image);
    size_t n = 1 << 20;
    u64 a = s.alloc(n * 4), b = s.alloc(n * 4), out = s.alloc(n * 4);
    std::vector<float> values = counting(n);
    s.write(a, values);
    s.write(b, values);
    CHECK(s.launch("add", (unsigned)(n / 256), 256, Vectors{a, b, out, n}) == 0);
    std::vector<float> sums = s.read<float>(out, n);
    for (size_t i = 0; i < n; i++) CHECK(sums[i] == 2 * values[i]);
    CHECK(s.launch("block_sum", (unsigned)(n / 256), 256, Vectors{a, 0, out, n}) == 0);
    sums = s.read<float>(out, n / 256);
    for (size_t i = 0; i < n / 256; i++) {
        float sum = 0;
        for (size_t j = 0; j < 256; j++) sum += values[i * 256 + j];
        CHECK(sums[i] == sum);
    }
    void* dynamic = s.function("dynamic");
    CHECK(CU(cuFuncSetAttribute, dynamic, 8, 1024) == 0);
    CHECK(s.launch("dynamic", 1, 256, Vectors{a, 0, out, n}, 1024) == 0);
    sums = s.read<float>(out, 256);
    for (size_t i = 0; i < 256; i++) CHECK(sums[i] == values[255 - i]);
    // Blocks along all axes.
    u64 zeros[2] = {}, bytes = 8;
    CHECK(CU(cuMemcpyHtoDAsync_v2, out, (const void*)zeros, sizeof zeros, s.stream) == 0);
    void* extra[] = {(void*)1, &out, (void*)2, &bytes, nullptr};
    CHECK(CU(cuLaunchKernel, s.function("place"), 7u, 5u, 3u, 6u, 2u, 2u, 0u, s.stream, (void**)nullptr, (void**)extra) == 0);
    std::vector<u64> places = s.read<u64>(out, 2);
    CHECK(places[0] == 104 * 105 / 2 * 4 && places[1] == 105 * 24);
    // Fresh memory is no number.
    for (float v : s.read<float>(s.alloc(400), 100)) CHECK(v != v);
    CHECK(s.launch("uninitialised", 1, 64, One{out, 0}) == 0);
    for (float v : s.read<float>(out, 64)) CHECK(v != v);
    test_lanes(s);
    test_meetings(s, image);
}

void measure(const std::string& image) {
    Session s(0, image);
    size_t n = 4 << 20;
    u64 a = s.alloc(n * 4), out = s.alloc(n * 4);
    s.write(a, counting(n));
    auto run = [&](const char* name, unsigned grid, const char* what, double per_launch, int n_launches) {
        void* function = s.function(name);
        Vectors params = {a, a, out, n};
        size_t bytes = sizeof params;
        void* extra[] = {(void*)1, &params, (void*)2, &bytes, nullptr};
        double began = processor_time();
        for (int i = 0; i < n_launches; i++) {
            CHECK(CU(cuLaunchKernel, function, grid, 1u, 1u, 256u, 1u, 1u, 0u, s.stream, (void**)nullptr, (void**)extra) == 0);
        }
        CHECK(s.sync() == 0);
        double seconds = processor_time() - began;
        std::printf("%-10s %10.2f us of the processor a launch, %8.2f M/s %s\n", name, seconds / n_launches * 1e6,
                    per_launch * n_launches / seconds * 1e-6, what);
    };
    run("add", (unsigned)(n / 256), "threads without collectives", (double)n, 3);
    run("block_sum", (unsigned)(n / 256), "waits at a barrier", (double)n * 8, 3);
    run("shuffles", 1000, "shuffles", 256000 * 8, 3);
    run("add", 1, "threads, one block", 256, 20000);
    run("block_sum", 1, "waits at a barrier, one block", 256 * 8, 20000);
}
