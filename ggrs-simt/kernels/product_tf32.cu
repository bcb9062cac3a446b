// Products of F32 weights with many F32 activations by matrix units: a factor is the sum of two TF32 of 11 bits, and a
// product that of the larger ones plus both mixed ones, which leaves an error of 2^-21 of it. Sums over 32 values of k are
// added up outside of the matrix units, which cut off what they cannot hold. An infinite factor makes a NaN.
//
// A block has 32 activations times 128 rows of weights; two groups of four warps have every other 32 values of k.

#include "matrix.cuh"
#include "product_f32.cuh"

#define TOKENS 32
#define ROWS 128
#define GROUPS 2
#define STAGES 2
#define THREADS 256
// Rows of 32 values of k, activations first.
#define PANEL_ROWS (TOKENS + ROWS)
#define PANEL_BYTES (PANEL_ROWS * 128)
#define STAGE_BYTES (GROUPS * PANEL_BYTES)
static_assert(STAGES * STAGE_BYTES == 81920, "shared memory of product/floats.rs");

// The larger and the smaller part of factors.
template <int N> struct Split {
    u32 large[N], small[N];

    __device__ __forceinline__ explicit Split(const u32 (&x)[N]) {
#pragma unroll
        for (int i = 0; i < N; i++) {
            large[i] = x[i] & 0xffffe000u;
            small[i] = __float_as_uint(__uint_as_float(x[i]) - __uint_as_float(large[i]));
        }
    }
};

DEVICE void copy_panels(const ProductF32& p, u8* stage, int first_row, int first_token, int first_k) {
#pragma unroll
    for (int i = 0; i < GROUPS * PANEL_ROWS * 8 / THREADS; i++) {
        const int at = threadIdx.x + i * THREADS, chunk = at % 8, row = at / 8 % PANEL_ROWS, panel = at / 8 / PANEL_ROWS;
        const int k = first_k + panel * 32 + chunk * 4;
        const bool is_weight = row >= TOKENS;
        const int of = is_weight ? first_row + row - TOKENS : first_token + row;
        const bool is_there = k < p.k && of < (is_weight ? p.m : p.n);
        const float* from = is_weight ? p.weights + of * p.weight_pitch : p.x + of * p.x_pitch;
        cp_async_16_or_zero(stage + panel * PANEL_BYTES + swizzled(row, chunk), is_there ? from + k : p.x, is_there);
    }
}

// 32 values of k: all activations times the 32 rows of a warp.
DEVICE void multiply_panel(float (&sums)[2][4][4], const u8* panel, int row) {
    const int matrix = LANE / 8, of = LANE % 8;
    float part[2][4][4] = {};
#pragma unroll
    for (int j = 0; j < 4; j++) {
        u32 x[2][4], w[2][4];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            // Activations: rows by eights, then halves of 8 values of k. Weights: halves, then rows by eights.
            ldmatrix_x4(x[i], panel + swizzled(i * 16 + (matrix & 1) * 8 + of, 2 * j + (matrix >> 1)));
            ldmatrix_x4(w[i], panel + swizzled(TOKENS + row + i * 16 + (matrix >> 1) * 8 + of, 2 * j + (matrix & 1)));
        }
#pragma unroll
        for (int t = 0; t < 2; t++) {
            const Split<4> a(x[t]);
#pragma unroll
            for (int r = 0; r < 4; r++) {
                const u32 two[2] = {w[r / 2][r % 2 * 2], w[r / 2][r % 2 * 2 + 1]};
                const Split<2> b(two);
                mma_tf32(part[t][r], a.small, b.large);
                mma_tf32(part[t][r], a.large, b.small);
                mma_tf32(part[t][r], a.large, b.large);
            }
        }
    }
#pragma unroll
    for (int t = 0; t < 2; t++)
#pragma unroll
        for (int r = 0; r < 4; r++)
#pragma unroll
            for (int e = 0; e < 4; e++) sums[t][r][e] += part[t][r][e];
}

KERNEL(product_tf32, ProductF32, THREADS, 1) {
    DYNAMIC_SHARED(space);
    WAIT();
    TRIGGER();
    const int first_row = blockIdx.x * ROWS, first_token = blockIdx.y * TOKENS;
    const int group = WARP_ID / 4, row = WARP_ID % 4 * 32;
    float sums[2][4][4] = {};
    copy_panels(p, space, first_row, first_token, 0);
    cp_async_commit();
    for (int k = 0, step = 0; k < p.k; k += GROUPS * 32, step++) {
        const int next = k + GROUPS * 32;
        if (next < p.k) copy_panels(p, space + (step + 1) % STAGES * STAGE_BYTES, first_row, first_token, next);
        cp_async_commit();
        cp_async_wait<1>();
        __syncthreads();
        multiply_panel(sums, space + step % STAGES * STAGE_BYTES + group * PANEL_BYTES, row);
        __syncthreads();
    }
    // The second group's sums go to the first.
    float* given = (float*)space + (WARP_ID % 4) * 32 * 32 + LANE;
#pragma unroll
    for (int i = 0; i < 32; i++)
        if (group == 1) given[i * 32] = sums[i / 16][i / 4 % 4][i % 4];
    __syncthreads();
    if (group == 1) return;
#pragma unroll
    for (int i = 0; i < 32; i++) {
        const int t = i / 16, r = i / 4 % 4, e = i % 4;
        const int token = first_token + t * 16 + e / 2 * 8 + LANE / 4, of = first_row + row + r * 8 + LANE % 4 * 2 + e % 2;
        if (token < p.n && of < p.m) p.out[(i64)token * p.m + of] = sums[t][r][e] + given[i * 32];
    }
}
