// Weights that later launches will read, brought into the second cache while the memory has nothing else to do.

#include "prelude.cuh"

// Brings 128 bytes of global memory into the second cache.
#if defined(GGRS_SIM) || defined(__HIP_PLATFORM_AMD__)
DEVICE void prefetch_l2(const void*) {}
#else
DEVICE void prefetch_l2(const void* global) { asm volatile("prefetch.global.L2 [%0];" ::"l"(global)); }
#endif

// `Ahead` of lookahead.rs: ranges of memory; null where there is none.
struct Ahead {
    const u8* start[4];
    u32 n_bytes[4];
};
static_assert(sizeof(Ahead) == 48, "Ahead of lookahead.rs");

// The share of thread `own` of `n` in some bytes.
DEVICE void prefetch_share(const u8* start, u64 n_bytes, u32 own, u32 n) {
    for (u64 at = (u64)own * 128; at < n_bytes; at += (u64)n * 128) prefetch_l2(start + at);
}
// The share of this thread in all of them; every thread of the launch calls it.
DEVICE void prefetch_ahead(const Ahead& ahead) {
    u32 block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    u32 own = block * blockDim.x + threadIdx.x, n = gridDim.x * gridDim.y * gridDim.z * blockDim.x;
#pragma unroll
    for (int i = 0; i < 4; i++) prefetch_share(ahead.start[i], ahead.n_bytes[i], own, n);
}
