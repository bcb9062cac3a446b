// Products of many activations by `mma.sync`: blocks of 4 warps, each with 32 of the 128 rows of a tile and all of its
// N_TILE activations. A warp decodes its weights straight into the registers of the fragments; activations come
// through shared memory. A step is 128 values of k.

#define TILE_ROWS 128
#include "gemm.cuh"

#define THREADS 128
#define MIN_BLOCKS 2
#define STAGES (N_TILE > 64 ? 2 : 3)
#define PANEL_BYTES (N_TILE * 128)
#define STAGE_BYTES (2 * PANEL_BYTES)

DEVICE void multiply(float (&sums)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    if constexpr (is_f16(FORMAT)) mma_f16(sums, a, b);
    else mma_bf16(sums, a, b);
}

// Four steps of 16 values of k: a panel of activations times the weights `w`, rows by eights.
DEVICE void multiply_panel(float (&sums)[2][N_TILE / 8][4], const u32 (&w)[4][8], const u8* panel) {
    // Matrix `LANE / 8` of four: the low or high half of 16 values of k, of the first or second 8 activations.
    const int matrix = LANE / 8, row = (matrix >> 1) * 8 + LANE % 8;
#pragma unroll
    for (int j = 0; j < 4; j++) {
        const u32 a[2][4] = {{w[0][2 * j], w[1][2 * j], w[0][2 * j + 1], w[1][2 * j + 1]},
                             {w[2][2 * j], w[3][2 * j], w[2][2 * j + 1], w[3][2 * j + 1]}};
        const u8* from = panel + swizzled(row, 2 * j + (matrix & 1));
#pragma unroll
        for (int n = 0; n < N_TILE / 16; n++) {
            u32 x[4];
            ldmatrix_x4(x, from + n * 16 * 128);
            const u32 first[2] = {x[0], x[1]}, second[2] = {x[2], x[3]};
#pragma unroll
            for (int i = 0; i < 2; i++) {
                multiply(sums[i][2 * n], a[i], first);
                multiply(sums[i][2 * n + 1], a[i], second);
            }
        }
    }
}

KERNEL(gemm, Gemm, THREADS, MIN_BLOCKS) {
    DYNAMIC_SHARED(space);
    // Dense: weights are loaded while the activations are still converted.
    const bool waits_late = IS_KEPT && !p.tiles;
    if (!waits_late) WAIT();
    TRIGGER();
    const Task task = task_of(p, N_TILE, blockIdx.x);
    if (task.tile.count == 0) return;
    if (task.tile.expert < 0) {
        clear_tile(p, task, THREADS);
        return;
    }
    const int g = LANE / 4, t = LANE % 4;
    const int n_steps = (p.k + 127) / 128, last = p.k / 32 - 1;

    u32 w_row[4];
#pragma unroll
    for (int i = 0; i < 4; i++) w_row[i] = weight_row(p, task, WARP_ID * 32 + 8 * i + g);
    Piece<FORMAT> pieces[4];
    auto load = [&](int step) {
#pragma unroll
        for (int i = 0; i < 4; i++) pieces[i].load(p.planes[i & 1], w_row[i], step, t, last);
    };
    load(0);
    if (waits_late) WAIT();

    // Where each activation starts, in 16 bytes, and its scale: registers are scarce.
    __shared__ u32 x_rows[N_TILE];
    __shared__ float scales[N_TILE];
    if (threadIdx.x < N_TILE) {
        u32 row = activation_row(p, task.tile, threadIdx.x);
        x_rows[threadIdx.x] = row * (u32)n_steps * 16;
        scales[threadIdx.x] = p.scales[row];
    }
    __syncthreads();
    // A thread copies one chunk of both panels of every 16th activation.
    auto copy = [&](int step) {
        u8* stage = space + step % STAGES * STAGE_BYTES;
        const int chunk = threadIdx.x % 8;
#pragma unroll
        for (int i = 0; i < N_TILE * 8 / THREADS; i++) {
            const int row = threadIdx.x / 8 + i * (THREADS / 8);
            const u16* from = p.x + ((u64)x_rows[row] + (u32)(step * 16 + chunk)) * 8;
            cp_async_16(stage + swizzled(row, chunk), from);
            cp_async_16(stage + PANEL_BYTES + swizzled(row, chunk), from + 64);
        }
    };

    float sums[2][N_TILE / 8][4];
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < N_TILE / 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) sums[i][j][e] = 0.0f;

#pragma unroll
    for (int step = 0; step < STAGES - 1; step++) {
        if (step < n_steps) copy(step);
        cp_async_commit();
    }
#pragma unroll 1
    for (int step = 0; step < n_steps; step++) {
        cp_async_wait<STAGES - 2>();
        __syncthreads();
        if (step + STAGES - 1 < n_steps) copy(step + STAGES - 1);
        cp_async_commit();

        const u8* stage = space + step % STAGES * STAGE_BYTES;
        u32 w[4][8];
#pragma unroll
        for (int i = 0; i < 4; i++) pieces[i].template decode<0>(step, t, w[i]);
        multiply_panel(sums, w, stage);
#pragma unroll
        for (int i = 0; i < 4; i++) pieces[i].template decode<1>(step, t, w[i]);
        if (step + 1 < n_steps) load(step + 1);
        multiply_panel(sums, w, stage + PANEL_BYTES);
    }
    __syncthreads();
    float* kept = (float*)space;
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < N_TILE / 8; j++) keep_sums(kept, WARP_ID * 32 + i * 16 + g, j * 8 + 2 * t, sums[i][j]);
    __syncthreads();
    store_tile(p, task, scales, kept, THREADS);
}
