// Products of many activations by the matrix units of sm_90a: blocks of two groups of four warps, each with 64 of the
// 128 rows of a tile and all of its N_TILE activations. A warp decodes its weights straight into the registers of
// the left factor while the matrix units work for the other groups; activations come through shared memory. A step is
// 128 values of k, half of it is decoded at a time.

#define TILE_ROWS 128
#include "gemm.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

#include "memory.cuh"
#include "wgmma.cuh"

#define THREADS 256
#define STAGES 3

// The left factors of one half of a step, of two rows.
template <int HALF> DEVICE void decode(Piece<FORMAT> (&pieces)[2], int step, int t, u32 (&w)[4][4]) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        u32 words[8];
        pieces[i].template decode<HALF>(step, t, words);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            w[j][i] = words[2 * j];
            w[j][2 + i] = words[2 * j + 1];
        }
    }
}

// Starts the products of one half of a step with the activations at an address of shared memory.
template <int SUMS> DEVICE void start(float (&sums)[SUMS], const u32 (&w)[4][4], u32 panel) {
    wgmma_fence();
#pragma unroll
    for (int j = 0; j < 4; j++) wgmma<is_f16(FORMAT)>(sums, w[j], shared_factor(panel + 32 * j));
    wgmma_commit();
}

// Waits until all that was started is done. Only then are the factors used for the last time: until here, their
// registers hold nothing else.
DEVICE void finish(const u32 (&w)[4][4]) {
    wgmma_wait<0>();
#pragma unroll
    for (int j = 0; j < 4; j++) asm volatile("" ::"r"(w[j][0]), "r"(w[j][1]), "r"(w[j][2]), "r"(w[j][3]));
}

// The product of a tile of at most N activations.
template <int N> DEVICE void multiply_tile(const Gemm& p, const Task& task, u32 space, float* kept, u32* x_rows, float* scales) {
    const int PANEL_BYTES = N * 128, STAGE_BYTES = 2 * PANEL_BYTES;
    const int t = LANE % 4, row = WARP_ID * 16 + LANE / 4;
    const int n_steps = (p.k + 127) / 128, last = p.k / 32 - 1;

    const u32 w_rows[2] = {weight_row(p, task, row), weight_row(p, task, row + 8)};
    Piece<FORMAT> pieces[2];
    auto load = [&](int step) {
#pragma unroll
        for (int i = 0; i < 2; i++) pieces[i].load(p.planes[i], w_rows[i], step, t, last);
    };
    load(0);
    if (IS_KEPT && !p.tiles) WAIT();

    // Where each activation starts, in 16 bytes, and its scale: registers are scarce.
    if (threadIdx.x < N) {
        u32 x_row = activation_row(p, task.tile, threadIdx.x);
        x_rows[threadIdx.x] = x_row * (u32)n_steps * 16;
        scales[threadIdx.x] = p.scales[x_row];
    }
    __syncthreads();
    // A thread copies one chunk of both panels of every 32nd activation.
    const u32 copy_from = threadIdx.x % 8, copy_to = swizzled(threadIdx.x / 8, threadIdx.x % 8);
    auto copy = [&](int step, u32 stage) {
#pragma unroll
        for (int i = 0; i < N / 32; i++) {
            const u32 at = x_rows[threadIdx.x / 8 + i * 32] + (u32)step * 16 + copy_from;
            const u8* from = (const u8*)p.x + (u64)at * 16;
            copy_16(stage + copy_to + i * 32 * 128, from);
            copy_16(stage + copy_to + i * 32 * 128 + PANEL_BYTES, from + 128);
        }
    };
    u32 w[4][4];
    float sums[N / 2];
#pragma unroll
    for (int i = 0; i < N / 2; i++) sums[i] = 0.0f;

#pragma unroll
    for (int step = 0; step < STAGES - 1; step++) {
        if (step < n_steps) copy(step, space + step * STAGE_BYTES);
        cp_async_commit();
    }
    u32 stage = space;
#pragma unroll 1
    for (int step = 0; step < n_steps; step++) {
        decode<0>(pieces, step, t, w);
        // After the barrier the stage is there for all, and none reads the one before it any more.
        cp_async_wait<STAGES - 2>();
        wgmma_publish();
        __syncthreads();
        start(sums, w, stage);
        // The stage before this one, which is the one after the next.
        u32 free = stage == space ? space + (STAGES - 1) * STAGE_BYTES : stage - STAGE_BYTES;
        if (step + STAGES - 1 < n_steps) copy(step + STAGES - 1, free);
        cp_async_commit();
        finish(w);
        decode<1>(pieces, step, t, w);
        if (step + 1 < n_steps) load(step + 1);
        start(sums, w, stage + PANEL_BYTES);
        stage = stage == space + (STAGES - 1) * STAGE_BYTES ? space : stage + STAGE_BYTES;
        finish(w);
    }
    // Nobody reads activations any more.
    __syncthreads();
#pragma unroll
    for (int j = 0; j < N / 8; j++) {
        const float four[4] = {sums[4 * j], sums[4 * j + 1], sums[4 * j + 2], sums[4 * j + 3]};
        keep_sums(kept, WARP_ID * 16 + LANE / 4, j * 8 + 2 * t, four);
    }
    __syncthreads();
    // Found again rather than kept; the compiler must not see that it is the same.
    int block = blockIdx.x;
    KEEP(block);
    store_tile(p, task_of(p, N_TILE, block), scales, kept, THREADS);
}

KERNEL(gemm_wgmma, Gemm, THREADS, 2) {
    DYNAMIC_SHARED(shared);
    __shared__ u32 x_rows[N_TILE];
    __shared__ float scales[N_TILE];
    const u32 space = (shared_address(shared) + 1023) & ~1023u;
    // Dense: weights are loaded while the activations are still converted.
    if (!IS_KEPT || p.tiles) WAIT();
    TRIGGER();
    const Task task = task_of(p, N_TILE, blockIdx.x);
    if (task.tile.count == 0) return;
    if (task.tile.expert < 0) {
        clear_tile(p, task, THREADS);
        return;
    }
    // The last tile of an expert is often a small one.
    if (N_TILE > 64 && task.tile.count > 64) multiply_tile<N_TILE>(p, task, space, (float*)shared, x_rows, scales);
    else multiply_tile<64>(p, task, space, (float*)shared, x_rows, scales);
}

#endif
