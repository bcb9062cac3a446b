// A row's sum with another, its RMS norm, and the norm in 8 bits: what stands between two products, in one launch.

#include "quantise_q8.cuh"

// `NormQ8` of stages/norm_products.rs. `addend` and `sum` may be missing together, `normed` and `q8.quants` each alone.
struct NormQ8 {
    const float* x;
    const float* addend;
    const float* weight;
    float* sum;
    float* normed;
    Q8 q8;
    i32 width;
    float eps;
};
static_assert(sizeof(NormQ8) == 72, "NormQ8 of stages/norm_products.rs");

struct __attribute__((aligned(16))) Row4 {
    float v[4];
};

// Fours of a row that one thread keeps; rows of up to 4 * 4 * 1024 elements.
#define KEPT 4

// One block per row; the width is a multiple of 32.
KERNEL(norm_q8, NormQ8, 1024, 1) {
    __shared__ double space[32];
    i64 row = blockIdx.x, first = row * p.width;
    int n = p.width / 4;
    Row4 kept[KEPT];
    WAIT();
    TRIGGER();
    float squares = 0;
#pragma unroll
    for (int j = 0; j < KEPT; j++) {
        int i = j * (int)blockDim.x + (int)threadIdx.x;
        if (i >= n) break;
        Row4 x = ((const Row4*)(p.x + first))[i];
        if (p.addend) {
            Row4 other = ((const Row4*)(p.addend + first))[i];
            for (int e = 0; e < 4; e++) x.v[e] += other.v[e];
            ((Row4*)(p.sum + first))[i] = x;
        }
        for (int e = 0; e < 4; e++) squares += x.v[e] * x.v[e];
        kept[j] = x;
    }
    double mean = block_sum((double)squares, space) / p.width;
    float factor = (float)(1.0 / sqrt(mean + (double)p.eps));
#pragma unroll
    for (int j = 0; j < KEPT; j++) {
        int i = j * (int)blockDim.x + (int)threadIdx.x;
        // Whole warps take part in the groups' maxima.
        if (i - LANE >= n) break;
        bool is_there = i < n;
        Row4 y = {};
        if (is_there) {
            Row4 w = ((const Row4*)p.weight)[i];
            for (int e = 0; e < 4; e++) y.v[e] = factor * kept[j].v[e] * w.v[e];
            if (p.normed) ((Row4*)(p.normed + first))[i] = y;
        }
        if (p.q8.quants) q8_store4(p.q8, row, 4 * i, y.v, is_there);
    }
}
