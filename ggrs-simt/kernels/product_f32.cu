// Products of F32 weights with many F32 activations (a router over a prompt): tiles of 32 rows by 32 activations. Four
// groups of 64 threads have a quarter of each step along k; their sums are added at the end in the groups' order.

#include "memory.cuh"

#define TILE 32
#define STEP 64
#define GROUPS 4
#define THREADS 256
// Floats from one k to the next in shared memory: a multiple of four that spreads rows over the banks.
#define PITCH 36

// `ProductF32` of product/floats.rs. Rows of weights and of x begin at multiples of 16 bytes; k is a multiple of 4.
struct ProductF32 {
    const float* weights;
    const float* x;
    float* out;
    i64 weight_pitch;
    i64 x_pitch;
    i32 m;
    i32 n;
    i32 k;
    i32 pad;
};
static_assert(sizeof(ProductF32) == 56, "ProductF32 of product/floats.rs");

// Four elements of row `row` from `k` on; zeros behind the last row and the last element.
DEVICE Quad fetch(const float* data, i64 pitch, int row, int n_rows, int k, int n_k) {
    if (row < n_rows && k < n_k) return load_quad(data + row * pitch + k);
    return Quad{{0, 0, 0, 0}};
}
DEVICE void keep(float* tile, int row, int k, const Quad& four) {
#pragma unroll
    for (int i = 0; i < 4; i++) tile[(k + i) * PITCH + row] = __uint_as_float(four.x[i]);
}

KERNEL(product_f32, ProductF32, THREADS, 3) {
    __shared__ __attribute__((aligned(16))) float tiles[2 * STEP * PITCH];
    float* w_tile = tiles;
    float* x_tile = tiles + STEP * PITCH;
    WAIT();
    TRIGGER();
    int first_row = blockIdx.x * TILE, first_token = blockIdx.y * TILE;
    // Each thread fetches two fours of each tile: row `of`, from `4 * part` and `4 * part + 32` on.
    int of = threadIdx.x % TILE, part = threadIdx.x / TILE * 4;
    int group = threadIdx.x / 64, place = threadIdx.x % 64;
    int row = place % 8 * 4, token = place / 8 * 4;
    Quad w[2], x[2];
    float sum[4][4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) sum[i][j] = 0.0f;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        w[i] = fetch(p.weights, p.weight_pitch, first_row + of, p.m, part + 32 * i, p.k);
        x[i] = fetch(p.x, p.x_pitch, first_token + of, p.n, part + 32 * i, p.k);
    }
    for (int k = 0; k < p.k; k += STEP) {
        __syncthreads();
#pragma unroll
        for (int i = 0; i < 2; i++) {
            keep(w_tile, of, part + 32 * i, w[i]);
            keep(x_tile, of, part + 32 * i, x[i]);
        }
        __syncthreads();
#pragma unroll
        for (int i = 0; i < 2; i++) {
            w[i] = fetch(p.weights, p.weight_pitch, first_row + of, p.m, k + STEP + part + 32 * i, p.k);
            x[i] = fetch(p.x, p.x_pitch, first_token + of, p.n, k + STEP + part + 32 * i, p.k);
        }
#pragma unroll
        for (int i = 0; i < STEP / GROUPS; i++) {
            int at = (group * (STEP / GROUPS) + i) * PITCH;
            Quad a = load_quad(w_tile + at + row), b = load_quad(x_tile + at + token);
#pragma unroll
            for (int t = 0; t < 4; t++)
#pragma unroll
                for (int r = 0; r < 4; r++)
                    sum[t][r] = fmaf(__uint_as_float(a.x[r]), __uint_as_float(b.x[t]), sum[t][r]);
        }
    }
    __syncthreads();
    // `tiles` has room for the four groups' sums: 32 by 33 each.
#pragma unroll
    for (int t = 0; t < 4; t++)
#pragma unroll
        for (int r = 0; r < 4; r++) tiles[group * (TILE * 33) + (token + t) * 33 + row + r] = sum[t][r];
    __syncthreads();
#pragma unroll
    for (int i = 0; i < TILE * TILE / THREADS; i++) {
        int t = threadIdx.x / TILE + i * (THREADS / TILE), r = threadIdx.x % TILE;
        float total = 0.0f;
#pragma unroll
        for (int g = 0; g < GROUPS; g++) total += tiles[g * (TILE * 33) + t * 33 + r];
        if (first_token + t < p.n && first_row + r < p.m) p.out[(i64)(first_token + t) * p.m + first_row + r] = total;
    }
}
