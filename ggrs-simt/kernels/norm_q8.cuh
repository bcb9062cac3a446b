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

// What a block keeps of a row in shared memory: the norm in F32, unless there is none, and in 8 bits, swizzled, if it is
// asked for.
struct OwnRow {
    float* floats;
    Q8 q8;
};
// Of `memory`, for a row of `width` elements; as `NormQ8::own_bytes` of kernels/norm_q8.rs.
DEVICE OwnRow own_row(u8* memory, const NormQ8& p) {
    return {(float*)memory, q8_shared(memory + (p.weight ? p.width * 4 : 0), 1, 0, p.width)};
}

// Makes row `row` in `own`; what others read of it is written by whoever `keeps` it. The width is a multiple of 32. Every
// thread of the block calls it; `space` is shared memory for 32 values. A thread puts so many fours AT_ONCE in 8 bits.
template <int AT_ONCE>
DEVICE void make_row(const NormQ8& p, i64 row, const OwnRow& own, bool keeps, float* space) {
    Row4* floats = (Row4*)own.floats;
    const Row4* from = (const Row4*)(p.x + row * p.width);
    int n = p.width / 4, step = blockDim.x;
    float factor = 1.0f;
    WAIT();
    if (p.weight) {
        float squares = 0.0f;
        for (int i = threadIdx.x; i < n; i += step) {
            Row4 x = from[i], w = ((const Row4*)p.weight)[i];
            if (p.addend) {
                Row4 other = ((const Row4*)(p.addend + row * p.width))[i];
                for (int e = 0; e < 4; e++) x.v[e] += other.v[e];
                if (keeps) ((Row4*)(p.sum + row * p.width))[i] = x;
            }
            for (int e = 0; e < 4; e++) {
                squares += x.v[e] * x.v[e];
                w.v[e] *= x.v[e];
            }
            floats[i] = w;
        }
        factor = rsqrtf(__fdividef(block_sum(squares, space), (float)p.width) + p.eps);
        from = floats;
    }
    // Whole warps take part in the groups' maxima.
    for (int first = threadIdx.x; first - LANE < n; first += AT_ONCE * step) {
        Row4 y[AT_ONCE] = {};
#pragma unroll
        for (int j = 0; j < AT_ONCE; j++) {
            if (first + j * step < n) y[j] = from[first + j * step];
        }
#pragma unroll
        for (int j = 0; j < AT_ONCE; j++) {
            int i = first + j * step;
            if (i - LANE >= n) break;
            bool is_there = i < n;
            if (p.weight && is_there) {
                for (int e = 0; e < 4; e++) y[j].v[e] *= factor;
                floats[i] = y[j];
                if (keeps && p.normed) ((Row4*)(p.normed + row * p.width))[i] = y[j];
            }
            if (own.q8.quants) q8_store4<true>(own.q8, 0, 4 * i, y[j].v, is_there);
            if (keeps && p.q8.quants) q8_store4(p.q8, row, 4 * i, y[j].v, is_there);
        }
    }
    __syncthreads();
}
