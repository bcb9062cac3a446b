// The router of a mixture of experts: the largest logits of a token, and their weights, by one warp.

#include "order.cuh"

struct RouterParams {
    View logits;
    // [tokens, n_used], gapless.
    float* weights;
    i32* ids;
    FaultCell fault;
    i32 n_used;
    // Sigmoid of each expert; else softmax over all.
    i32 is_sigmoid;
    i32 normalises;
    float scale;
};
static_assert(sizeof(RouterParams) == 120, "RouterParams of select.rs");

// The least sum that weights are divided by.
#define MIN_SUM 6.103515625e-5f

#if !defined(GGRS_SIM) && defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
DEVICE u32 warp_max_of(u32 v) { return __reduce_max_sync(FULL_MASK, v); }
DEVICE u32 warp_min_of(u32 v) { return __reduce_min_sync(FULL_MASK, v); }
#else
DEVICE u32 warp_max_of(u32 v) {
    for (int step = WARP / 2; step > 0; step /= 2) {
        u32 other = __shfl_xor_sync(FULL_MASK, v, step);
        v = other > v ? other : v;
    }
    return v;
}
DEVICE u32 warp_min_of(u32 v) { return ~warp_max_of(~v); }
#endif

// The experts of a token, up to ITEMS in every lane.
template <int ITEMS> struct Held {
    u32 ranks[ITEMS];
    bool is_bad = false;

    __device__ __forceinline__ Held(const float* logits, int n) {
#pragma unroll
        for (int i = 0; i < ITEMS; i++) {
            int at = i * WARP + LANE;
            float x = at < n ? logits[at] : 0.0f;
            is_bad |= x != x;
            // No float has rank 0.
            ranks[i] = at < n ? rank_of(x) : 0;
        }
    }
    // Sum of exp(logit - max) over this lane's experts; before any is taken.
    __device__ __forceinline__ float exp_sum(float max) const {
        float sum = 0.0f;
#pragma unroll
        for (int i = 0; i < ITEMS; i++) {
            if (ranks[i] != 0) sum += expf(float_of_rank(ranks[i]) - max);
        }
        return sum;
    }
    // The next best expert, no more there from then on.
    __device__ __forceinline__ void take(float& logit, int& id) {
        u32 best = 0;
        int at = 0;
#pragma unroll
        for (int i = 0; i < ITEMS; i++) {
            if (ranks[i] > best) {
                best = ranks[i];
                at = i * WARP + LANE;
            }
        }
        u32 top = warp_max_of(best);
        id = (int)warp_min_of(best == top ? (u32)at : 0x7fffffffu);
        logit = float_of_rank(top);
#pragma unroll
        for (int i = 0; i < ITEMS; i++) {
            if (i * WARP + LANE == id) ranks[i] = 0;
        }
    }
};

// Any number of experts: read anew for every choice.
struct Streamed {
    const float* logits;
    int n;
    // The last one taken; keys are larger.
    u64 last = 0;
    bool is_bad = false;

    __device__ __forceinline__ Streamed(const float* from, int n_experts) : logits(from), n(n_experts) {
        for (int i = LANE; i < n; i += WARP) is_bad |= logits[i] != logits[i];
    }
    __device__ __forceinline__ float exp_sum(float max) const {
        float sum = 0.0f;
        for (int i = LANE; i < n; i += WARP) sum += expf(logits[i] - max);
        return sum;
    }
    __device__ __forceinline__ void take(float& logit, int& id) {
        u64 next = NO_KEY;
        for (int i = LANE; i < n; i += WARP) {
            u64 key = key_of(logits[i], i, true);
            if (key > last && key < next) next = key;
        }
        last = warp_first(next);
        // A NaN, which is a fault, may leave nothing to take.
        id = last == NO_KEY ? 0 : position_of(last);
        logit = logits[id];
    }
};

// The experts of a token and their weights, written by one warp; what is bad is reported.
template <typename Experts> DEVICE void route_token(const RouterParams& p, i64 row) {
    Experts experts((const float*)p.logits.data + row_offset(p.logits, row), p.logits.size[4]);
    bool is_bad = experts.is_bad;
    float* weights = p.weights + row * p.n_used;
    i32* ids = p.ids + row * p.n_used;
    // The weight that this lane writes, and those behind it as they were written.
    float mine = 0.0f, sum = 0.0f, max = 0.0f, total = 1.0f;
    Experts all = experts;
    for (int j = 0; j < p.n_used; j++) {
        float logit;
        int id;
        experts.take(logit, id);
        float weight;
        if (p.is_sigmoid) {
            weight = 1.0f / (1.0f + expf(-logit));
        } else {
            if (j == 0) {
                max = logit;
                total = warp_sum(all.exp_sum(max));
            }
            weight = expf(logit - max) / total;
        }
        sum += weight;
        if (j % WARP == LANE) {
            ids[j] = id;
            if (j < WARP) mine = weight;
            else weights[j] = weight;
        }
    }
    float factor = p.scale;
    // A NaN stays one.
    if (p.normalises) factor /= sum < MIN_SUM ? MIN_SUM : sum;
    for (int j = LANE; j < p.n_used; j += WARP) {
        float weight = (j < WARP ? mine : weights[j]) * factor;
        weights[j] = weight;
        // Infinite logits have no weights.
        is_bad |= weight != weight;
    }
    if (is_bad) report_fault(p.fault, row, 0);
}

// The expert that `choice` others go before, by one warp.
template <typename Experts> DEVICE int choose_expert(const RouterParams& p, i64 row, int choice) {
    Experts experts((const float*)p.logits.data + row_offset(p.logits, row), p.logits.size[4]);
    float logit;
    int id;
    for (int j = 0; j <= choice; j++) experts.take(logit, id);
    return id;
}
