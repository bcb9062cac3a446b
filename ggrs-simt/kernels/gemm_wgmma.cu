// Products of many activations by the matrix units of sm_90a: blocks of two groups of four warps, each with 64 of the
// 128 rows of a tile and all of its N_TILE activations. A warp decodes its weights straight into the registers of the
// left factor while the matrix units are at the step before; activations come through shared memory.

#include "gemm.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

#include "wgmma.cuh"

#define THREADS 256
#define STAGES 5
#define STAGE_BYTES (N_TILE * 128)
#define MIN_BLOCKS (N_TILE == 256 ? 1 : 2)

KERNEL(gemm_wgmma, Gemm, THREADS, MIN_BLOCKS) {
    DYNAMIC_SHARED(shared);
    u8* space = shared + (-shared_address(shared) & 1023);
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

    // What this thread copies of each step: one chunk of every 32nd activation.
    const int PER_THREAD = N_TILE / 32;
    u32 x_row[PER_THREAD];
#pragma unroll
    for (int i = 0; i < PER_THREAD; i++) {
        x_row[i] = activation_row(p, task.tile, (int)threadIdx.x / 8 + i * 32) * (u32)(p.k / 8) + threadIdx.x % 8;
    }
    auto copy = [&](int step) {
        u8* stage = space + step % STAGES * STAGE_BYTES;
#pragma unroll
        for (int i = 0; i < PER_THREAD; i++) {
            const u16* from = p.x + ((u64)x_row[i] + (u32)step * 8) * 8;
            cp_async_16(stage + swizzled((int)threadIdx.x / 8 + i * 32, threadIdx.x % 8), from);
        }
    };

    const int row = WARP_ID * 16 + g;
    const u32 w_row[2] = {weight_row(p, task, row), weight_row(p, task, row + 8)};
    Piece<FORMAT> pieces[2];
    auto load = [&](int step) {
        pieces[0].load(p.planes[0], w_row[0], step, t);
        pieces[1].load(p.planes[1], w_row[1], step, t);
    };
    u32 w[2][4][4];
    auto decode = [&](int step, u32(&to)[4][4]) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            u32 words[8];
            pieces[i].decode(step, t, words);
#pragma unroll
            for (int j = 0; j < 4; j++) {
                to[j][i] = words[2 * j];
                to[j][2 + i] = words[2 * j + 1];
            }
        }
    };

    float sums[N_TILE / 2];
#pragma unroll
    for (int i = 0; i < N_TILE / 2; i++) sums[i] = 0.0f;

    load(0);
    for (int step = 0; step < STAGES - 1; step++) {
        if (step < n_steps) copy(step);
        cp_async_commit();
    }
    decode(0, w[0]);
    if (n_steps > 1) load(1);
    cp_async_wait<STAGES - 2>();
    wgmma_publish();
    __syncthreads();

    // A step: its products start; while they run, all that the next one needs is made ready. `now` and `next` are
    // constants once the loop is unrolled: registers cannot be indexed.
    auto advance = [&](int step, u32(&now)[4][4], u32(&next)[4][4]) {
        const u8* stage = space + step % STAGES * STAGE_BYTES;
        wgmma_fence();
#pragma unroll
        for (int j = 0; j < 4; j++) wgmma<FORMAT == F16>(sums, now[j], shared_factor(stage + 32 * j));
        wgmma_commit();
        // The products of the step before are done: in all warps after the barrier.
        wgmma_wait<1>();
        cp_async_wait<STAGES - 3>();
        wgmma_publish();
        __syncthreads();
        if (step + STAGES - 1 < n_steps) copy(step + STAGES - 1);
        cp_async_commit();
        if (step + 1 < n_steps) decode(step + 1, next);
        if (step + 2 < n_steps) load(step + 2);
    };
    for (int step = 0; step < n_steps; step += 2) {
        advance(step, w[0], w[1]);
        if (step + 1 < n_steps) advance(step + 1, w[1], w[0]);
    }
    wgmma_wait<0>();
#pragma unroll
    for (int j = 0; j < N_TILE / 8; j++) {
        float four[4] = {sums[4 * j], sums[4 * j + 1], sums[4 * j + 2], sums[4 * j + 3]};
        store_sums(p, task, row, j * 8 + 2 * t, four);
    }
}

#endif
