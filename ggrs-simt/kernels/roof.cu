// The most that matrix units give: products of F16 with F32 sums that read nothing but registers and shared memory. No
// kernel of a model; benchmarks compare products with it. Values are random: units that multiply zeros run faster.

#include "matrix.cuh"

struct Roof {
    // A sum of each thread: what is not used is not computed.
    float* sums;
    i32 n_rounds;
    i32 pad;
};

// Two small F16 values.
DEVICE u32 random_pair(u32 seed) {
    u32 x = seed * 0x9e3779b9u + 0x7f4a7c15u;
    x = (x ^ (x >> 15)) * 0x85ebca6bu;
    x = (x ^ (x >> 13)) * 0xc2b2ae35u;
    return ((x ^ (x >> 16)) & 0x83ff83ffu) | 0x28002800u;
}

#define MMA_THREADS 256
#define MMA_CHAINS 8

// `mma.sync`: 8 chains of sums a warp, 8 products a round.
KERNEL(roof_mma, Roof, MMA_THREADS, 2) {
    const u32 seed = blockIdx.x * MMA_THREADS + threadIdx.x;
    u32 a[4], b[MMA_CHAINS][2];
    float c[MMA_CHAINS][4];
#pragma unroll
    for (int i = 0; i < 4; i++) a[i] = random_pair(seed * 4 + i);
#pragma unroll
    for (int i = 0; i < MMA_CHAINS; i++) {
        for (int j = 0; j < 2; j++) b[i][j] = random_pair(~seed * 16 + i * 2 + j);
        for (int j = 0; j < 4; j++) c[i][j] = 0.0f;
    }
    for (int round = 0; round < p.n_rounds; round++) {
#pragma unroll
        for (int i = 0; i < MMA_CHAINS; i++) mma_f16(c[i], a, b[i]);
    }
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < MMA_CHAINS; i++) sum += c[i][0] + c[i][1] + c[i][2] + c[i][3];
    p.sums[seed] = sum;
}

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

#include "wgmma.cuh"

#define WGMMA_THREADS 256
#define WGMMA_N 128
#define WGMMA_STARTED 16

// `wgmma`: two groups of four warps a block, 16 products of 64 x 128 x 16 a round, the right factor in shared memory.
KERNEL(roof_wgmma, Roof, WGMMA_THREADS, 2) {
    __shared__ __align__(1024) u32 right[WGMMA_N * 32];
    const u32 seed = blockIdx.x * WGMMA_THREADS + threadIdx.x;
    for (int i = threadIdx.x; i < WGMMA_N * 32; i += WGMMA_THREADS) right[i] = random_pair(~seed * 64 + i);
    u32 a[4][4];
    float sums[WGMMA_N / 2];
#pragma unroll
    for (int i = 0; i < 16; i++) a[i / 4][i % 4] = random_pair(seed * 16 + i);
#pragma unroll
    for (int i = 0; i < WGMMA_N / 2; i++) sums[i] = 0.0f;
    wgmma_publish();
    __syncthreads();
    const u32 space = shared_address(right);
    for (int round = 0; round < p.n_rounds; round++) {
        wgmma_fence();
#pragma unroll
        for (int i = 0; i < WGMMA_STARTED; i++) wgmma<true>(sums, a[i % 4], shared_factor(space + 32 * (i % 4)));
        wgmma_commit();
        wgmma_wait<0>();
    }
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < WGMMA_N / 2; i++) sum += sums[i];
    p.sums[seed] = sum;
}

#endif
