// Rows of activations to 8 bits.

#include "quantise_q8.cuh"

// `Quantise` of product/q8.rs.
struct Quantise {
    View x;
    Q8 to;
    i64 n_rows;
};
static_assert(sizeof(Quantise) == 104, "Quantise of product/q8.rs");

// Every thread has four elements; the last axis of x is without gaps, but rows may begin anywhere.
KERNEL(quantise_q8, Quantise, 128, 8) {
    WAIT();
    TRIGGER();
    int k = p.to.k;
    i64 n = p.n_rows * k, step = (i64)gridDim.x * blockDim.x * 4;
    // All lanes of a warp stay to the end.
    for (i64 first = ((i64)blockIdx.x * blockDim.x + WARP_ID * WARP) * 4; first < n; first += step) {
        i64 at = first + LANE * 4;
        bool is_inside = at < n;
        i64 row = is_inside ? at / k : 0;
        int i = is_inside ? (int)(at % k) : 0;
        i64 offset = row_offset(p.x, row) + i;
        float x[4];
#pragma unroll
        for (int j = 0; j < 4; j++) x[j] = load_float(p.x.data, p.x.dtype, offset + j);
        q8_store4(p.to, row, i, x, is_inside);
    }
}
