// Order and delay of work: pinned memory, events, captures, handles that are no more.

#include "selftest.h"

namespace {

struct Vectors {
    u64 a, b, out, n;
};

void test_delay(Session& s) {
    u64 at = s.alloc(64);
    float* pinned = nullptr;
    CHECK(CU(cuMemHostAlloc, (void**)&pinned, (size_t)64, 3u) == 0);
    pinned[0] = 1;
    CHECK(CU(cuMemcpyHtoDAsync_v2, at, (const void*)pinned, (size_t)4, s.stream) == 0);
    CHECK(CU(cuStreamQuery, s.stream) == 600);
    CHECK(CU(cuStreamQuery, s.stream) == 0);
    // Used again too early.
    CHECK(CU(cuMemcpyHtoDAsync_v2, at, (const void*)pinned, (size_t)4, s.stream) == 0);
    pinned[0] = 2;
    CHECK(s.read<float>(at, 1)[0] == 2);
    // Pageable memory may be.
    float pageable = 3;
    CHECK(CU(cuMemcpyHtoDAsync_v2, at, (const void*)&pageable, (size_t)4, s.stream) == 0);
    pageable = 4;
    CHECK(CU(cuMemcpyDtoHAsync_v2, (void*)(pinned + 1), at, (size_t)4, s.stream) == 0);
    CHECK(pinned[1] != 3);
    CHECK(s.sync() == 0);
    CHECK(pinned[1] == 3);
    CHECK(CU(cuMemFreeHost, (void*)pinned) == 0);
}

void test_events(Session& s) {
    void *before = nullptr, *after = nullptr, *second = nullptr;
    CHECK(CU(cuEventCreate, &before, 0u) == 0);
    CHECK(CU(cuEventCreate, &after, 0u) == 0);
    CHECK(CU(cuStreamCreate, &second, 1u) == 0);
    u64 at = s.alloc(1024);
    float ms = -1;
    EXPECT(CU(cuEventElapsedTime_v2, &ms, before, after), 400, "never recorded");
    CHECK(CU(cuEventRecord, before, s.stream) == 0);
    CHECK(CU(cuMemsetD32Async, at, 7u, (size_t)256, s.stream) == 0);
    CHECK(CU(cuEventRecord, after, s.stream) == 0);
    CHECK(CU(cuEventElapsedTime, &ms, before, after) == 600);
    // The other stream sees what the first one did.
    CHECK(CU(cuStreamWaitEvent, second, after, 0u) == 0);
    u32* pinned = nullptr;
    CHECK(CU(cuMemHostAlloc, (void**)&pinned, (size_t)1024, 3u) == 0);
    CHECK(CU(cuMemcpyDtoHAsync_v2, (void*)pinned, at, (size_t)1024, second) == 0);
    CHECK(CU(cuStreamSynchronize, second) == 0);
    CHECK(pinned[255] == 7);
    CHECK(CU(cuEventQuery, after) == 0);
    CHECK(CU(cuEventElapsedTime, &ms, before, after) == 0 && ms >= 0);
    CHECK(CU(cuEventDestroy_v2, after) == 0);
    EXPECT(CU(cuEventRecord, after, s.stream), 400, "no event, or it is destroyed");
    CHECK(CU(cuStreamDestroy_v2, second) == 0);
    EXPECT(CU(cuStreamSynchronize, second), 400, "no stream, or it is destroyed");
    CHECK(CU(cuMemFreeHost, (void*)pinned) == 0);
}

void test_capture(Session& s) {
    u64 a = s.alloc(1024), out = s.alloc(1024);
    float *in = nullptr, *result = nullptr;
    CHECK(CU(cuMemHostAlloc, (void**)&in, (size_t)1024, 3u) == 0);
    CHECK(CU(cuMemHostAlloc, (void**)&result, (size_t)1024, 3u) == 0);
    CHECK(CU(cuStreamBeginCapture_v2, s.stream, 2) == 0);
    int status = 0;
    CHECK(CU(cuStreamIsCapturing, s.stream, &status) == 0 && status == 1);
    CHECK(CU(cuMemcpyHtoDAsync_v2, a, (const void*)in, (size_t)1024, s.stream) == 0);
    CHECK(CU(cuMemsetD8Async, out, (unsigned char)0, (size_t)1024, s.stream) == 0);
    CHECK(s.launch("add", 1, 256, Vectors{a, a, out, 256}) == 0);
    CHECK(CU(cuMemcpyDtoHAsync_v2, (void*)result, out, (size_t)1024, s.stream) == 0);
    void *graph = nullptr, *exec = nullptr;
    CHECK(CU(cuStreamEndCapture, s.stream, &graph) == 0);
    CHECK(CU(cuGraphInstantiateWithFlags, &exec, graph, 0ull) == 0);
    CHECK(CU(cuGraphDestroy, graph) == 0);
    CHECK(CU(cuGraphUpload, exec, s.stream) == 0);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 256; i++) in[i] = (float)(i + round);
        CHECK(CU(cuGraphLaunch, exec, s.stream) == 0);
        CHECK(s.sync() == 0);
        for (int i = 0; i < 256; i++) CHECK(result[i] == (float)(2 * (i + round)));
    }
    CHECK(CU(cuGraphExecDestroy, exec) == 0);
    EXPECT(CU(cuGraphLaunch, exec, s.stream), 400, "no executable graph, or it is destroyed");
    // What must not happen meanwhile.
    CHECK(CU(cuStreamBeginCapture_v2, s.stream, 2) == 0);
    EXPECT(s.sync(), 900, "a captured stream is waited for");
    CHECK(s.launch("add", 1, 256, Vectors{a, a, out, 256}) == 901);
    CHECK(CU(cuStreamEndCapture, s.stream, &graph) == 901);
    CHECK(s.sync() == 0);
    CHECK(CU(cuStreamBeginCapture_v2, s.stream, 0) == 0);
    u64 more = 0;
    EXPECT(CU(cuMemAlloc_v2, &more, (size_t)16), 900, "cuMemAlloc");
    CHECK(CU(cuStreamEndCapture, s.stream, &graph) == 901);
    CHECK(CU(cuStreamBeginCapture_v2, s.stream, 2) == 0);
    CHECK(CU(cuMemAlloc_v2, &more, (size_t)16) == 0);
    float pageable = 0;
    EXPECT(CU(cuMemcpyHtoDAsync_v2, a, (const void*)&pageable, (size_t)4, s.stream), 900, "pageable");
    CHECK(CU(cuStreamEndCapture, s.stream, &graph) == 901);
    // A fork and a join, and a fork without one.
    void *fork = nullptr, *join = nullptr, *second = nullptr;
    CHECK(CU(cuEventCreate, &fork, 2u) == 0 && CU(cuEventCreate, &join, 2u) == 0);
    CHECK(CU(cuStreamCreate, &second, 1u) == 0);
    for (int is_joined = 0; is_joined < 2; is_joined++) {
        CHECK(CU(cuStreamBeginCapture_v2, s.stream, 1) == 0);
        CHECK(CU(cuEventRecord, fork, s.stream) == 0);
        CHECK(CU(cuStreamWaitEvent, second, fork, 0u) == 0);
        CHECK(CU(cuMemsetD8Async, out, (unsigned char)0, (size_t)1024, second) == 0);
        CHECK(CU(cuEventRecord, join, second) == 0);
        if (is_joined) CHECK(CU(cuStreamWaitEvent, s.stream, join, 0u) == 0);
        CHECK(CU(cuStreamEndCapture, s.stream, &graph) == (is_joined ? 0 : 904));
    }
    CHECK(CU(cuMemFreeHost, (void*)in) == 0 && CU(cuMemFreeHost, (void*)result) == 0);
}

}  // namespace

void test_streams(const std::string& image) {
    Session s(0, image);
    test_delay(s);
    test_events(s);
    test_capture(s);
    void* add = s.function("add");
    CHECK(CU(cuModuleUnload, s.module) == 0);
    EXPECT(CU(cuFuncSetAttribute, add, 8, 1024), 400, "no function, or it is destroyed");
}
