// Products of many activations by `mma.sync`: blocks of 4 warps, each with 32 of the 128 rows of a tile and all of its
// N_TILE activations. A warp decodes its weights straight into the registers of the fragments, one step of 64 elements
// ahead of the loads; activations come through shared memory, three steps ahead.

#include "gemm.cuh"

#define THREADS 128
#define STAGES 4
#define STAGE_BYTES (N_TILE * 128)

// Of F16 weights in F16, of all others in BF16.
DEVICE void multiply(float (&sums)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    if constexpr (FORMAT == F16) mma_f16(sums, a, b);
    else mma_bf16(sums, a, b);
}

KERNEL(gemm, Gemm, THREADS, MIN_BLOCKS) {
    DYNAMIC_SHARED(space);
    WAIT();
    TRIGGER();
    Task task = task_of(p, N_TILE);
    if (task.tile.count == 0) return;
    if (task.tile.expert < 0) {
        clear_tile(p, task, THREADS);
        return;
    }
    const int g = LANE / 4, t = LANE % 4;
    const int n_steps = p.k / 64;

    // What this thread copies of each step: one chunk of every 16th activation.
    const int PER_THREAD = N_TILE / 16;
    u32 x_row[PER_THREAD];
#pragma unroll
    for (int i = 0; i < PER_THREAD; i++) {
        x_row[i] = activation_row(p, task.tile, (int)threadIdx.x / 8 + i * 16) * (u32)(p.k / 8) + threadIdx.x % 8;
    }
    auto copy = [&](int step) {
        u8* stage = space + step % STAGES * STAGE_BYTES;
#pragma unroll
        for (int i = 0; i < PER_THREAD; i++) {
            const u16* from = p.x + ((u64)x_row[i] + (u32)step * 8) * 8;
            cp_async_16(stage + swizzled((int)threadIdx.x / 8 + i * 16, threadIdx.x % 8), from);
        }
    };

    u32 w_row[4];
    Piece<FORMAT> pieces[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        w_row[i] = weight_row(p, task, WARP_ID * 32 + 8 * i + g);
        pieces[i].load(p.planes[i & 1], w_row[i], 0, t);
    }

    float sums[2][N_TILE / 8][4];
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < N_TILE / 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) sums[i][j][e] = 0.0f;

    for (int step = 0; step < STAGES - 1; step++) {
        if (step < n_steps) copy(step);
        cp_async_commit();
    }
    // Matrix `LANE / 8` of four: the low or high half of 16 values of k, of the first or second 8 activations.
    const int matrix = LANE / 8, row_in_16 = (matrix >> 1) * 8 + LANE % 8;

#pragma unroll 1
    for (int step = 0; step < n_steps; step++) {
        cp_async_wait<STAGES - 2>();
        __syncthreads();
        if (step + STAGES - 1 < n_steps) copy(step + STAGES - 1);
        cp_async_commit();

        u32 w[4][8];
#pragma unroll
        for (int i = 0; i < 4; i++) pieces[i].decode(step, t, w[i]);
        if (step + 1 < n_steps) {
#pragma unroll
            for (int i = 0; i < 4; i++) pieces[i].load(p.planes[i & 1], w_row[i], step + 1, t);
        }

        const u8* stage = space + step % STAGES * STAGE_BYTES;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            u32 a[2][4];
#pragma unroll
            for (int i = 0; i < 2; i++) {
                a[i][0] = w[2 * i][2 * j];
                a[i][1] = w[2 * i + 1][2 * j];
                a[i][2] = w[2 * i][2 * j + 1];
                a[i][3] = w[2 * i + 1][2 * j + 1];
            }
            const u8* from = stage + swizzled(row_in_16, 2 * j + (matrix & 1));
#pragma unroll
            for (int n = 0; n < N_TILE / 16; n++) {
                u32 x[4];
                ldmatrix_x4(x, from + n * 16 * 128);
                u32 first[2] = {x[0], x[1]}, second[2] = {x[2], x[3]};
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    multiply(sums[i][2 * n], a[i], first);
                    multiply(sums[i][2 * n + 1], a[i], second);
                }
            }
        }
    }
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < N_TILE / 8; j++) {
            store_sums(p, task, WARP_ID * 32 + i * 16 + g, j * 8 + 2 * t, sums[i][j]);
        }
}
