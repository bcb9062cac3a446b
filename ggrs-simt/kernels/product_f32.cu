// Products of F32 weights with many F32 activations (a router over a prompt): tiles of 32 rows by 32 activations. Four
// groups of 64 threads have a quarter of each step along k; their sums are added at the end in the groups' order.

#include "memory.cuh"
#include "product_f32.cuh"

#define TILE 32
#define STEP 128
#define GROUPS 4
#define THREADS 256
// Fours of a tile that each thread fetches.
#define FETCHED (TILE * STEP / 4 / THREADS)
// Floats from one row to the next in shared memory: eight neighbouring rows lie in different banks.
#define PITCH (STEP + 4)

// Four elements of row `row` from `k` on; zeros behind the last row and the last element.
DEVICE Quad fetch(const float* data, i64 pitch, int row, int n_rows, int k, int n_k) {
    if (row < n_rows && k < n_k) return load_quad(data + row * pitch + k);
    return Quad{{0, 0, 0, 0}};
}

KERNEL(product_f32, ProductF32, THREADS, 2) {
    __shared__ __attribute__((aligned(16))) float tiles[2 * TILE * PITCH];
    float* w_tile = tiles;
    float* x_tile = tiles + TILE * PITCH;
    WAIT();
    TRIGGER();
    int first_row = blockIdx.x * TILE, first_token = blockIdx.y * TILE;
    // Each thread fetches fours of each tile, from `part` on: of row `of` and every eighth from there.
    int of = threadIdx.x / (STEP / 4), part = threadIdx.x % (STEP / 4) * 4;
    // It multiplies rows `row + 8 * r` with activations `token + 8 * t`.
    int group = threadIdx.x / 64, row = threadIdx.x % 8, token = threadIdx.x % 64 / 8;
    Quad w[FETCHED], x[FETCHED];
    float sum[4][4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) sum[i][j] = 0.0f;
#pragma unroll
    for (int i = 0; i < FETCHED; i++) {
        w[i] = fetch(p.weights, p.weight_pitch, first_row + of + TILE / FETCHED * i, p.m, part, p.k);
        x[i] = fetch(p.x, p.x_pitch, first_token + of + TILE / FETCHED * i, p.n, part, p.k);
    }
    for (int k = 0; k < p.k; k += STEP) {
        __syncthreads();
#pragma unroll
        for (int i = 0; i < FETCHED; i++) {
            *(Quad*)(w_tile + (of + TILE / FETCHED * i) * PITCH + part) = w[i];
            *(Quad*)(x_tile + (of + TILE / FETCHED * i) * PITCH + part) = x[i];
        }
        __syncthreads();
#pragma unroll
        for (int i = 0; i < FETCHED; i++) {
            w[i] = fetch(p.weights, p.weight_pitch, first_row + of + TILE / FETCHED * i, p.m, k + STEP + part, p.k);
            x[i] = fetch(p.x, p.x_pitch, first_token + of + TILE / FETCHED * i, p.n, k + STEP + part, p.k);
        }
#pragma unroll
        for (int i = 0; i < STEP / GROUPS / 4; i++) {
            int at = group * (STEP / GROUPS) + i * 4;
            Quad a[4];
#pragma unroll
            for (int r = 0; r < 4; r++) a[r] = load_quad(w_tile + (row + 8 * r) * PITCH + at);
#pragma unroll
            for (int t = 0; t < 4; t++) {
                Quad b = load_quad(x_tile + (token + 8 * t) * PITCH + at);
#pragma unroll
                for (int r = 0; r < 4; r++)
#pragma unroll
                    for (int j = 0; j < 4; j++)
                        sum[t][r] = fmaf(__uint_as_float(a[r].x[j]), __uint_as_float(b.x[j]), sum[t][r]);
            }
        }
    }
    __syncthreads();
    // `tiles` has room for the four groups' sums: 32 by 33 each.
    static_assert(GROUPS * TILE * 33 <= 2 * TILE * PITCH, "sums in the place of tiles");
#pragma unroll
    for (int t = 0; t < 4; t++)
#pragma unroll
        for (int r = 0; r < 4; r++) tiles[group * (TILE * 33) + (token + 8 * t) * 33 + row + 8 * r] = sum[t][r];
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
