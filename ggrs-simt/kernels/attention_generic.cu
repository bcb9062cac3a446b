// Attention of any kind in F32: one block for each query head of each token and each split of its keys.

#include "attention.cuh"
#include "formats.cuh"

#define THREADS 128
#define MAX_WIDTH 512
// Parts of a value that a lane of the narrowest warp has.
#define MAX_PARTS (MAX_WIDTH / 32)
// Lanes that share the product of a query and a key.
#define LANES 8

template <int DTYPE> DEVICE float element_at(const View& view, const Planes& planes, i64 at) {
    if constexpr (DTYPE == F32 || DTYPE == F16 || DTYPE == BF16) return load_float(view.data, DTYPE, at);
    else return element_of<DTYPE>(planes, at / 32, (int)(at % 32));
}

#define WITH_KV_DTYPE(dtype, CALL) \
    switch (dtype) { \
        case F32: CALL(F32); break; \
        case F16: CALL(F16); break; \
        case BF16: CALL(BF16); break; \
        case Q8_0: CALL(Q8_0); break; \
        case Q4_0: CALL(Q4_0); break; \
    }

// Products of the query with a key for each lane, which lies at `offset` (nothing if negative).
template <int DTYPE> DEVICE float products(const AttentionParams& p, const float* query, i64 offset, int n_keys) {
    int n_together = WARP / LANES;
    float own = 0.0f;
    for (int i = 0; i < LANES && i * n_together < n_keys; i++) {
        i64 at = __shfl_sync(FULL_MASK, offset, i * n_together + LANE / LANES);
        float sum = 0.0f;
        if (at >= 0) {
            for (int e = LANE % LANES; e < p.q.size[4]; e += LANES) {
                sum += query[e] * element_at<DTYPE>(p.k, p.key_planes, at + e);
            }
        }
        for (int step = LANES / 2; step > 0; step /= 2) sum += __shfl_xor_sync(FULL_MASK, sum, step);
        float product = __shfl_sync(FULL_MASK, sum, LANE % n_together * LANES);
        if (LANE / n_together == i) own = product;
    }
    return own;
}

// Adds weighted values, of which each lane has a weight and a place; hidden ones are not read.
template <int DTYPE>
DEVICE void add_values(const AttentionParams& p, float (&sums)[MAX_PARTS], float weight, i64 offset, int n_keys) {
    for (int i = 0; i < n_keys; i++) {
        float factor = __shfl_sync(FULL_MASK, weight, i);
        i64 at = __shfl_sync(FULL_MASK, offset, i);
        if (factor == 0.0f) continue;
#pragma unroll
        for (int part = 0; part < MAX_PARTS; part++) {
            int e = part * WARP + LANE;
            if (e < p.v.size[4]) sums[part] += factor * element_at<DTYPE>(p.v, p.value_planes, at + e);
        }
    }
}

KERNEL(attention_generic, AttentionParams, THREADS, 1) {
    __shared__ float query[MAX_WIDTH];
    // Warps are at least 32 wide.
    __shared__ float warp_sums[THREADS / 32][MAX_WIDTH];
    __shared__ float2 warp_stats[THREADS / 32];
    WAIT();
    TRIGGER();
    i32 n_heads = p.q.size[3], n_tokens = p.q.size[2], width = p.v.size[4];
    i64 row = blockIdx.x;
    i32 head = (i32)(row % n_heads), token = (i32)(row / n_heads % n_tokens), batch = (i32)(row / n_heads / n_tokens);
    i32 key_head = head / p.group;

    Seen seen = seen_by(p, token);
    i32 n_used = splits_in_use(p, seen.end - seen.first), split = blockIdx.y;
    if (split >= n_used) return;

    i64 query_at = batch * p.q.stride[1] + token * p.q.stride[2] + head * p.q.stride[3];
    for (int e = threadIdx.x; e < p.q.size[4]; e += THREADS) {
        query[e] = load_float(p.q.data, p.q.dtype, query_at + e) * p.scale;
    }
    __syncthreads();

    float largest = -INFINITY_F, total = 0.0f, sums[MAX_PARTS] = {};
    i64 key_at = batch * p.k.stride[1] + key_head * p.k.stride[3];
    i64 value_at = batch * p.v.stride[1] + key_head * p.v.stride[3];
    i64 mask_at = 0;
    if (p.visibility == MASK) {
        if (p.mask.size[1] > 1) mask_at += batch * p.mask.stride[1];
        if (p.mask.size[2] > 1) mask_at += head * p.mask.stride[2];
        mask_at += token * p.mask.stride[3];
    }
    static_assert(THREADS == KEYS_AT_A_TIME, "every warp has its keys");
    for (i64 at = seen.first + (i64)split * THREADS + WARP_ID * WARP; at < seen.end; at += (i64)n_used * THREADS) {
        i32 base = (i32)at;
        int n_keys = seen.end - base < WARP ? seen.end - base : WARP;
        i32 key = base + LANE;
        float added = 0.0f;
        if (LANE < n_keys && p.visibility == MASK) added = load_float(p.mask.data, p.mask.dtype, mask_at + key);
        i64 key_row = LANE < n_keys && added != -INFINITY_F ? row_of_key(p, seen, key, token) : -1;
        i64 key_offset = key_row < 0 ? -1 : key_at + key_row * p.k.stride[2];
        float score = 0.0f;
#define PRODUCTS(DTYPE) score = products<DTYPE>(p, query, key_offset, n_keys)
        WITH_KV_DTYPE(p.k.dtype, PRODUCTS)
#undef PRODUCTS
        score = key_row < 0 ? -INFINITY_F : soft_capped(p, score) + added;

        float before = largest;
        largest = fmaxf(largest, warp_max(score));
        float factor = weight_of(before, largest), weight = weight_of(score, largest);
        total = total * factor + warp_sum(weight);
#pragma unroll
        for (int part = 0; part < MAX_PARTS; part++) sums[part] *= factor;
        i64 value_offset = value_at + key_row * p.v.stride[2];
#define ADD_VALUES(DTYPE) add_values<DTYPE>(p, sums, weight, value_offset, n_keys)
        WITH_KV_DTYPE(p.v.dtype, ADD_VALUES)
#undef ADD_VALUES
    }

    if (LANE == 0) warp_stats[WARP_ID] = {largest, total};
#pragma unroll
    for (int part = 0; part < MAX_PARTS; part++) {
        int e = part * WARP + LANE;
        if (e < width) warp_sums[WARP_ID][e] = sums[part];
    }
    __syncthreads();
    largest = -INFINITY_F;
    total = 0.0f;
    for (int w = 0; w < N_WARPS; w++) largest = fmaxf(largest, warp_stats[w].x);
    float sink = n_used == 1 ? sink_of(p, head) : -INFINITY_F;
    largest = fmaxf(largest, sink);
    for (int w = 0; w < N_WARPS; w++) total += warp_stats[w].y * weight_of(warp_stats[w].x, largest);
    total += weight_of(sink, largest);
    float factor = n_used > 1 ? 1.0f : total > 0.0f ? 1.0f / total : 0.0f;
    i64 part_row = row * p.n_splits + split;
    float* out = n_used > 1 ? p.partial_sums + part_row * width
                                : (float*)p.out.data + out_offset(p, batch, token, head);
    if (n_used > 1 && threadIdx.x == 0) p.partial_stats[part_row] = {largest, total};
    for (int e = threadIdx.x; e < width; e += THREADS) {
        float sum = 0.0f;
        for (int w = 0; w < N_WARPS; w++) {
            float weight = weight_of(warp_stats[w].x, largest);
            if (weight > 0.0f) sum += warp_sums[w][e] * weight;
        }
        out[e] = sum * factor;
    }
}
