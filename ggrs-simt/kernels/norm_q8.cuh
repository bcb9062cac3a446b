// A row of activations as products want it: its sum with another, its RMS norm, and that in 8 bits. A launch of its own
// makes the rows of several tokens; of one token every block of the product makes the row for itself.

#include "quantise_q8.cuh"

// `NormQ8` of kernels/norm_q8.rs. `addend` and `sum` may be missing together, `normed` and `q8.quants` each alone, and
// `weight`, then the row is only put in 8 bits.
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
static_assert(sizeof(NormQ8) == 72, "NormQ8 of kernels/norm_q8.rs");

struct __attribute__((aligned(16))) Row4 {
    float v[4];
};

// What a block keeps of a row in shared memory: the norm in F32, unless there is none, and in 8 bits, if it is asked for.
struct OwnRow {
    float* floats;
    Q8 q8;
};
// Of `memory`, for a row of `width` elements; as `OwnRow::bytes` of kernels/norm_q8.rs.
DEVICE OwnRow own_row(u8* memory, const NormQ8& p) {
    u8* quants = memory + (p.weight ? p.width * 4 : 0);
    return {(float*)memory, {(i8*)quants, (Q8Scale*)(quants + p.width), p.width, 0}};
}

// Fours of a row that a thread has on their way at once; with addends and weights, as many of each.
#define FOURS 4
#define NORM_FOURS 2

// Makes row `row` in `own`; what others read of it is written by whoever `keeps` it. The width is a multiple of 32. Every
// thread of the block calls it; `space` is shared memory for 32 values.
DEVICE void make_row(const NormQ8& p, i64 row, const OwnRow& own, bool keeps, float* space) {
    Row4* floats = (Row4*)own.floats;
    const Row4* from = (const Row4*)(p.x + row * p.width);
    int n = p.width / 4, step = blockDim.x;
    float factor = 1.0f;
    WAIT();
    if (p.weight) {
        float squares = 0.0f;
        for (int start = threadIdx.x; start < n; start += NORM_FOURS * step) {
            Row4 x[NORM_FOURS] = {}, other[NORM_FOURS] = {}, w[NORM_FOURS] = {};
#pragma unroll
            for (int j = 0; j < NORM_FOURS; j++) {
                int i = start + j * step;
                if (i >= n) continue;
                x[j] = from[i];
                w[j] = ((const Row4*)p.weight)[i];
                if (p.addend) other[j] = ((const Row4*)(p.addend + row * p.width))[i];
            }
#pragma unroll
            for (int j = 0; j < NORM_FOURS; j++) {
                int i = start + j * step;
                if (i >= n) continue;
                for (int e = 0; e < 4; e++) {
                    x[j].v[e] += other[j].v[e];
                    squares += x[j].v[e] * x[j].v[e];
                    w[j].v[e] *= x[j].v[e];
                }
                if (keeps && p.addend) ((Row4*)(p.sum + row * p.width))[i] = x[j];
                floats[i] = w[j];
            }
        }
        factor = rsqrtf(block_sum(squares, space) / (float)p.width + p.eps);
        from = floats;
    }
    // Whole warps take part in the groups' maxima.
    for (int start = threadIdx.x; start - LANE < n; start += FOURS * step) {
        Row4 y[FOURS] = {};
#pragma unroll
        for (int j = 0; j < FOURS; j++) {
            if (start + j * step < n) y[j] = from[start + j * step];
        }
#pragma unroll
        for (int j = 0; j < FOURS; j++) {
            int i = start + j * step;
            if (i - LANE >= n) continue;
            bool is_there = i < n;
            if (p.weight && is_there) {
                for (int e = 0; e < 4; e++) y[j].v[e] *= factor;
                floats[i] = y[j];
                if (keeps && p.normed) ((Row4*)(p.normed + row * p.width))[i] = y[j];
            }
            if (own.q8.quants) q8_store4(own.q8, 0, 4 * i, y[j].v, is_there);
            if (keeps && p.q8.quants) q8_store4(p.q8, row, 4 * i, y[j].v, is_there);
        }
    }
    __syncthreads();
}
