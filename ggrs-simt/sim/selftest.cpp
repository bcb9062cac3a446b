// Test of the simulator by itself: selftest FOLDER

#include "selftest.h"

#include <time.h>

void* driver;
void* compiler;
static int n_failed = 0;

static const char* const SOURCE = R"(
struct Vectors { const float* a; const float* b; float* out; long long n; };
static_assert(sizeof(Vectors) == 32, "");
KERNEL(add, Vectors, 256, 1) {
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < p.n) p.out[i] = p.a[i] + p.b[i];
}
KERNEL(block_sum, Vectors, 256, 1) {
    __shared__ float parts[256];
    parts[threadIdx.x] = p.a[blockIdx.x * 256 + threadIdx.x];
    for (int step = 128; step > 0; step /= 2) {
        __syncthreads();
        if (threadIdx.x < step) parts[threadIdx.x] += parts[threadIdx.x + step];
    }
    if (threadIdx.x == 0) p.out[blockIdx.x] = parts[0];
}
KERNEL(shuffles, Vectors, 256, 1) {
    float v = p.a[threadIdx.x];
    for (int i = 0; i < 8; i++) v = __shfl_xor_sync(0xffffffffu, v, 1 << i % 5) + 1.0f;
    p.out[threadIdx.x] = v;
}
// For each lane: from the next lane, lane ^ 5, two lanes up, three lanes down, a ballot, the sum of all lanes.
struct Lanes { unsigned long long* out; };
KERNEL(lanes, Lanes, 128, 1) {
    int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    unsigned long long* out = p.out + threadIdx.x * 8;
    long long own = 1000ll * warp + lane;
    out[0] = __shfl_sync(0xffffffffu, own, (lane + 1) % WARP);
    out[1] = (unsigned long long)__shfl_xor_sync(0xffffffffu, (double)own, 5);
    out[2] = __shfl_up_sync(0xffffffffu, (int)own, 2);
    out[3] = __shfl_down_sync(0xffffffffu, (float)own, 3);
    out[4] = __ballot_sync(0xffffffffu, lane % 3 == 0);
    out[5] = __reduce_add_sync(0xffffffffu, (unsigned)lane);
    out[6] = __shfl_sync(0xffffffffu, (int)own, 3, 8);
    out[7] = lane < 8 ? __shfl_sync(0xffu, (int)own, 7) + __any_sync(0xffu, lane == 2) + __all_sync(0xffu, lane == 2) : 0;
}
KERNEL(votes, Lanes, 100, 1) {
    p.out[threadIdx.x] = __syncthreads_count(threadIdx.x < 10) * 100 + __syncthreads_or(threadIdx.x == 99) * 10 +
                         __syncthreads_and(threadIdx.x != 99);
}
KERNEL(dynamic, Vectors, 256, 1) {
    DYNAMIC_SHARED(shared);
    float* values = (float*)shared;
    values[threadIdx.x] = p.a[threadIdx.x];
    __syncthreads();
    p.out[threadIdx.x] = values[blockDim.x - 1 - threadIdx.x];
}
KERNEL(place, Lanes, 1024, 1) {
    long long block = blockIdx.x + gridDim.x * (blockIdx.y + (long long)gridDim.y * blockIdx.z);
    if (threadIdx.x == 0) atomicAdd(p.out, (unsigned long long)block);
    atomicAdd(p.out + 1, 1ull);
}
struct One { float* at; long long index; };
KERNEL(store, One, 64, 1) { if (threadIdx.x == 37 && blockIdx.x == 1) p.at[p.index] = 1.0f; }
KERNEL(load, One, 64, 1) { if (p.at[p.index + threadIdx.x] == 1.0f) p.at[0] = 2.0f; }
KERNEL(diverging, One, 64, 1) { if (threadIdx.x < 40) __syncthreads(); }
KERNEL(diverging_warp, One, 64, 1) {
    if (threadIdx.x < 7) p.at[0] = __shfl_sync(0xffffffffu, 1.0f, 0);
}
KERNEL(mixed, One, 64, 1) {
    if (threadIdx.x < 7) __syncwarp();
    else __ballot_sync(0xffffffffu, 1);
}
KERNEL(dynamic_beyond, One, 64, 1) {
    DYNAMIC_SHARED(shared);
    ((float*)shared)[p.index] = 1.0f;
}
KERNEL(misaligned, One, 64, 1) { p.at[0] = *(const float*)((const char*)p.at + p.index); }
KERNEL(array_beyond, One, 64, 1) {
    __shared__ float values[64];
    values[threadIdx.x + p.index] = 1.0f;
    __syncthreads();
    p.at[0] = values[0];
}
KERNEL(divide, One, 64, 1) { p.at[0] = (float)(5 / (int)p.index); }
KERNEL(deep, One, 64, 1) {
    volatile float many[40000];
    for (int i = 0; i < 40000; i++) many[i] = p.at[0];
    p.at[0] = many[p.index];
}
KERNEL(uninitialised, One, 64, 1) {
    __shared__ float fresh[64];
    if (p.index == 1) fresh[threadIdx.x] = 1.0f;
    p.at[threadIdx.x] = fresh[threadIdx.x];
}
// Blocks that wait for each other, and launches that do.
struct Meeting { unsigned* own; unsigned* other; unsigned n_rounds; unsigned pad; };
KERNEL(meet, Meeting, 64, 1) {
    __shared__ unsigned round;
    for (unsigned i = 1; i <= p.n_rounds; i++) {
        if (threadIdx.x == 0) {
            round = i;
            atomicAdd(p.own, 1u);
            while (*(volatile unsigned*)p.other < i * gridDim.x) __nanosleep(20);
        }
        __syncthreads();
        if (round != i) p.own[1] = 1;
        __syncthreads();
    }
}
KERNEL(endless, One, 64, 1) { while (*(volatile float*)p.at == 1.0f) { } }
)";

void failed(const char* file, int line, const char* text) {
    std::printf("FAILED %s:%d: %s\n", file, line, text);
    if (++n_failed == 30) std::exit(1);
}

std::string last_error() {
    char text[1024];
    call_in(driver, "ggrs_sim_last_error", (char*)text, sizeof text);
    return text;
}

static double seconds_of(clockid_t clock) {
    timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
double now() { return seconds_of(CLOCK_MONOTONIC); }
double processor_time() { return seconds_of(CLOCK_PROCESS_CPUTIME_ID); }

std::string compile(const char* source, const std::vector<const char*>& options, std::string* log) {
    void* program = nullptr;
    size_t bytes = 0;
    call_in(compiler, "nvrtcCreateProgram", &program, source, "test", 0, (const char* const*)nullptr,
            (const char* const*)nullptr);
    int failed = call_in(compiler, "nvrtcCompileProgram", program, (int)options.size(), options.data());
    call_in(compiler, "nvrtcGetProgramLogSize", program, &bytes);
    std::string text(bytes, 0);
    call_in(compiler, "nvrtcGetProgramLog", program, text.data());
    if (log != nullptr) *log = text;
    std::string image;
    if (failed == 0) {
        call_in(compiler, "nvrtcGetCUBINSize", program, &bytes);
        image.resize(bytes);
        call_in(compiler, "nvrtcGetCUBIN", program, image.data());
    }
    call_in(compiler, "nvrtcDestroyProgram", &program);
    return image;
}

Session::Session(int ordinal, const std::string& image) : ordinal(ordinal) {
    CHECK(CU(cuDevicePrimaryCtxRetain, &context, ordinal) == 0);
    CHECK(CU(cuCtxSetCurrent, context) == 0);
    CHECK(CU(cuStreamCreate, &stream, 1u) == 0);
    CHECK(CU(cuModuleLoadData, &module, (const void*)image.data()) == 0);
}

Session::~Session() {
    CU(cuStreamDestroy_v2, stream);
    CHECK(CU(cuDevicePrimaryCtxRelease_v2, ordinal) == 0);
}

void* Session::function(const char* name) {
    void* function = nullptr;
    CHECK(CU(cuModuleGetFunction, &function, module, name) == 0);
    return function;
}

u64 Session::alloc(size_t bytes) {
    u64 at = 0;
    CHECK(CU(cuMemAlloc_v2, &at, bytes) == 0);
    return at;
}

int Session::sync() { return CU(cuStreamSynchronize, stream); }

int Session::launch_bytes(const char* name, unsigned grid, unsigned threads, const void* params, size_t bytes, unsigned shared) {
    void* extra[] = {(void*)1, (void*)params, (void*)2, &bytes, nullptr};
    return CU(cuLaunchKernel, function(name), grid, 1u, 1u, threads, 1u, 1u, shared, stream, (void**)nullptr, (void**)extra);
}

static void* open_library(const std::string& path) {
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) std::printf("%s\n", dlerror());
    return library;
}

int main(int n_args, char** args) {
    if (n_args != 2) return 2;
    std::string folder = args[1];
    driver = open_library(folder + "/libcuda.so.1");
    compiler = open_library(folder + "/libnvrtc.so.13");
    if (driver == nullptr || compiler == nullptr) return 1;
    // Whoever asks for the bare names from here on gets these.
    for (const char* name : {"libcuda.so.1", "libnvrtc.so.13"}) {
        void* again = dlopen(name, RTLD_NOW);
        CHECK(again != nullptr && (again == driver || again == compiler));
    }
    CHECK(CU(cuInit, 1u) == 1);
    CHECK(CU(cuInit, 0u) == 0);

    std::string log;
    CHECK(compile("KERNEL(broken, int, 1, 1) { nonsense }", {}, &log).empty());
    CHECK(log.find("nonsense") != std::string::npos);
    double began = now();
    std::string image = compile(SOURCE, {"--gpu-architecture=sm_90a", "-DVALUE=3", "--std=c++17"});
    std::printf("compiled in %.2f s\n", now() - began);
    if (image.empty()) return 1;

    test_kernels(image);
    test_streams(image);
    test_checks(image);
    measure(image);
    std::printf(n_failed == 0 ? "all is well\n" : "%d checks failed\n", n_failed);
    return n_failed != 0;
}
