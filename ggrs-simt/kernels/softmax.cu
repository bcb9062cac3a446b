// Softmax of rows, with scale, mask and sinks.

#include "axes.cuh"

// `SoftmaxParams` of softmax.rs. A position is a row; the tensors of `rows` are x, the mask and the sinks.
struct SoftmaxParams {
    Axes rows;
    const u8* x;
    // May be missing.
    const u8* mask;
    const float* sinks;
    u8* out;
    i32 dtype, mask_dtype;
    i32 width;
    float scale;
};
static_assert(sizeof(SoftmaxParams) == 240, "SoftmaxParams of softmax.rs");

#define NOTHING (-INFINITY_F)

DEVICE float logit(const SoftmaxParams& p, const Places& at, int i) {
    float x = p.scale * load_float(p.x, p.dtype, at.at[0] + i);
    return p.mask ? x + load_float(p.mask, p.mask_dtype, at.at[1] + i) : x;
}

template <bool IS_WARP> DEVICE void softmax(const SoftmaxParams& p) {
    __shared__ float space[32];
    WAIT();
    TRIGGER();
    i64 row = IS_WARP ? (i64)blockIdx.x * N_WARPS + WARP_ID : blockIdx.x;
    if (row >= p.rows.n) return;
    int first = IS_WARP ? LANE : (int)threadIdx.x, step = IS_WARP ? WARP : (int)blockDim.x;
    Places at = places_of(p.rows, row);
    float sink = p.sinks ? p.sinks[at.at[2]] : NOTHING;
    float max = sink;
    for (int i = first; i < p.width; i += step) max = fmaxf(max, logit(p, at, i));
    max = IS_WARP ? warp_max(max) : block_max(max, space);
    i64 to = row * p.width;
    if (max == NOTHING) {
        // A NaN is never the largest, but must not become a 0.
        for (int i = first; i < p.width; i += step) {
            float x = logit(p, at, i);
            store_float(p.out, p.dtype, to + i, x == x ? 0.0f : x);
        }
        return;
    }
    float sum = 0.0f;
    for (int i = first; i < p.width; i += step) sum += expf(logit(p, at, i) - max);
    sum = IS_WARP ? warp_sum(sum) : block_sum(sum, space);
    if (p.sinks) sum += expf(sink - max);
    float inverse = 1.0f / sum;
    for (int i = first; i < p.width; i += step) {
        store_float(p.out, p.dtype, to + i, expf(logit(p, at, i) - max) * inverse);
    }
}
KERNEL(softmax_warp, SoftmaxParams, 256, 4) { softmax<true>(p); }
KERNEL(softmax_block, SoftmaxParams, 512, 2) { softmax<false>(p); }
