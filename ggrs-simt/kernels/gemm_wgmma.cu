// Products of many activations by the matrix units of sm_90a: blocks of two groups of four warps, each with 64 of the
// 128 rows of a tile and all of its N_TILE activations. A warp decodes its weights straight into the registers of
// the left factor while the matrix units work for the other groups; activations come through shared memory. A step is
// 128 values of k, half of it is decoded at a time.

#define TILE_ROWS 128
#include "gemm.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

#include "wgmma.cuh"

#define THREADS 256
#define STAGES 3

// The left factors of one half of a step, of two rows.
template <int HALF> DEVICE void decode(const Piece<FORMAT> (&pieces)[2], int step, int t, u32 (&w)[4][4]) {
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

// Starts the products of one half of a step.
template <int SUMS> DEVICE void start(float (&sums)[SUMS], const u32 (&w)[4][4], const u8* panel) {
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
template <int N> DEVICE void multiply_tile(const Gemm& p, const u32 (&w_rows)[2], u8* space, const u32* x_rows,
                                           const float* scales) {
    const int PANEL_BYTES = N * 128, STAGE_BYTES = 2 * PANEL_BYTES;
    const int t = LANE % 4;
    const int n_steps = (p.k + 127) / 128, last = p.k / 32 - 1;

    // A thread copies one chunk of both panels of some activations.
    auto copy = [&](int step) {
        u8* stage = space + step % STAGES * STAGE_BYTES;
        const int chunk = threadIdx.x % 8;
#pragma unroll
        for (int i = 0; i < N * 8 / THREADS; i++) {
            const int at = threadIdx.x / 8 + i * (THREADS / 8);
            const u16* from = p.x + ((u64)x_rows[at] + (u32)(step * 16 + chunk)) * 8;
            cp_async_16(stage + swizzled(at, chunk), from);
            cp_async_16(stage + PANEL_BYTES + swizzled(at, chunk), from + 64);
        }
    };

    Piece<FORMAT> pieces[2];
    auto load = [&](int step) {
#pragma unroll
        for (int i = 0; i < 2; i++) pieces[i].load(p.planes[i], w_rows[i], step, t, last);
    };
    u32 w[4][4];
    float sums[N / 2];
#pragma unroll
    for (int i = 0; i < N / 2; i++) sums[i] = 0.0f;

    load(0);
#pragma unroll
    for (int step = 0; step < STAGES - 1; step++) {
        if (step < n_steps) copy(step);
        cp_async_commit();
    }
#pragma unroll 1
    for (int step = 0; step < n_steps; step++) {
        decode<0>(pieces, step, t, w);
        // After the barrier the stage is there for all, and none reads the one before it any more.
        cp_async_wait<STAGES - 2>();
        wgmma_publish();
        __syncthreads();
        const u8* stage = space + step % STAGES * STAGE_BYTES;
        start(sums, w, stage);
        if (step + STAGES - 1 < n_steps) copy(step + STAGES - 1);
        cp_async_commit();
        finish(w);
        decode<1>(pieces, step, t, w);
        if (step + 1 < n_steps) load(step + 1);
        start(sums, w, stage + PANEL_BYTES);
        finish(w);
    }
    // Known again rather than kept.
    const Task same = task_of(p, N_TILE);
#pragma unroll
    for (int j = 0; j < N / 8; j++) {
        const float four[4] = {sums[4 * j], sums[4 * j + 1], sums[4 * j + 2], sums[4 * j + 3]};
        store_sums(p, same, scales, WARP_ID * 16 + LANE / 4, j * 8 + 2 * t, four);
    }
}

KERNEL(gemm_wgmma, Gemm, THREADS, N_TILE == 256 ? 1 : 2) {
    DYNAMIC_SHARED(shared);
    u8* space = shared + (-shared_address(shared) & 1023);
    WAIT();
    TRIGGER();
    const Task task = task_of(p, N_TILE);
    if (task.tile.count == 0) return;
    if (task.tile.expert < 0) {
        clear_tile(p, task, THREADS);
        return;
    }
    // Where each activation starts, in 16 bytes, and its scale: registers are scarce.
    __shared__ u32 x_rows[N_TILE];
    __shared__ float scales[N_TILE];
    if (threadIdx.x < N_TILE) {
        u32 row = activation_row(p, task.tile, threadIdx.x);
        x_rows[threadIdx.x] = row * (u32)((p.k + 127) / 128) * 16;
        scales[threadIdx.x] = p.scales[row];
    }
    __syncthreads();
    const int row = WARP_ID * 16 + LANE / 4;
    const u32 w_rows[2] = {weight_row(p, task, row), weight_row(p, task, row + 8)};
    // The last tile of an expert is often a small one.
    if (N_TILE > 128 && task.tile.count > 128) multiply_tile<N_TILE>(p, w_rows, space, x_rows, scales);
    else if (N_TILE > 64 && task.tile.count > 64) multiply_tile<N_TILE < 128 ? N_TILE : 128>(p, w_rows, space, x_rows, scales);
    else multiply_tile<64>(p, w_rows, space, x_rows, scales);
}

#endif
