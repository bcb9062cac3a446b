// What happens to queries, keys and values between their products and attention: per-head RMS norm and rotation of
// queries and keys (pairs i and i + D/2), keys and values written to a paged cache.

#include "pages.cuh"
#include "turns.cuh"

#define MAX_PAIRS 128

// `QkPrep` of kernels/qk_prep.rs. q, k, v and q_out are gapless F32 rows of heads; D and Dv are multiples of 2.
struct QkPrep {
    const float* q;
    const float* k;
    const float* v;
    float* q_out;
    const float* q_weight;
    const float* k_weight;
    u8* k_cache;
    u8* v_cache;
    Pages pages;
    // Of the writer of keys and of that of values.
    PageFaults faults[2];
    // Turns per position of each pair, in 2^-64.
    u64 turns[MAX_PAIRS];
    float eps;
    i32 n_tokens;
    i32 n_heads;
    i32 n_kv_heads;
    i32 width;
    i32 value_width;
    i32 cache_dtype;
    i32 pad;
};
static_assert(sizeof(QkPrep) == 1272, "QkPrep of kernels/qk_prep.rs");

// A head of 2 * PAIRS * WARP elements with the weights of its norm, in a warp's registers.
template <int PAIRS> struct Head {
    float a[PAIRS], b[PAIRS], weight_a[PAIRS], weight_b[PAIRS];
};
template <int PAIRS> DEVICE Head<PAIRS> load_head(const float* x, const float* weight) {
    Head<PAIRS> head;
#pragma unroll
    for (int j = 0; j < PAIRS; j++) {
        int i = j * WARP + LANE, other = i + PAIRS * WARP;
        head.a[j] = x[i];
        head.b[j] = x[other];
        head.weight_a[j] = weight[i];
        head.weight_b[j] = weight[other];
    }
    return head;
}

DEVICE float norm_factor(const QkPrep& p, float squares) {
    return rsqrtf(__fdividef(warp_sum(squares), (float)p.width) + p.eps);
}
// A pair `i` and `i + D/2`, turned: `store(i, value)` for both.
template <typename Store> DEVICE void turn_pair(const QkPrep& p, i32 position, int i, float a, float b, Store store) {
    float sine, cosine;
    sine_and_cosine((u64)position * p.turns[i], sine, cosine);
    store(i, a * cosine - b * sine);
    store(i + p.width / 2, a * sine + b * cosine);
}

// Norm and rotation of a head by one warp.
template <int PAIRS, typename Store>
DEVICE void prepare_head(const QkPrep& p, const Head<PAIRS>& head, i32 position, Store store) {
    float squares = 0;
#pragma unroll
    for (int j = 0; j < PAIRS; j++) squares += head.a[j] * head.a[j] + head.b[j] * head.b[j];
    float factor = norm_factor(p, squares);
#pragma unroll
    for (int j = 0; j < PAIRS; j++) {
        float a = factor * head.a[j] * head.weight_a[j], b = factor * head.b[j] * head.weight_b[j];
        turn_pair(p, position, j * WARP + LANE, a, b, store);
    }
}
// The same for a head of any width in memory.
template <typename Store>
DEVICE void prepare_head(const QkPrep& p, const float* x, const float* weight, i32 position, Store store) {
    float squares = 0;
    for (int i = LANE; i < p.width; i += WARP) squares += x[i] * x[i];
    float factor = norm_factor(p, squares);
    i32 half = p.width / 2;
    for (int i = LANE; i < half; i += WARP)
        turn_pair(p, position, i, factor * x[i] * weight[i], factor * x[i + half] * weight[i + half], store);
}

DEVICE const float* query_at(const QkPrep& p, i32 token, i32 head) {
    return p.q + ((i64)token * p.n_heads + head) * p.width;
}
DEVICE const float* key_at(const QkPrep& p, i32 token, i32 head) {
    return p.k + ((i64)token * p.n_kv_heads + head) * p.width;
}
DEVICE const float* value_at(const QkPrep& p, i32 token, i32 head) {
    return p.v + ((i64)token * p.n_kv_heads + head) * p.value_width;
}
// Where a token's key or value goes; below 0 if nowhere. The warp of the first head reports that, if it is told to.
DEVICE i64 key_place(const QkPrep& p, i32 token, i32 head, bool reports) {
    i64 cell = cell_of(p.pages, token, p.faults[0], reports && head == 0 && LANE == 0);
    return cell < 0 ? -1 : (cell * p.n_kv_heads + head) * p.width;
}
DEVICE i64 value_place(const QkPrep& p, i32 token, i32 head, bool reports) {
    i64 cell = cell_of(p.pages, token, p.faults[1], reports && head == 0 && LANE == 0);
    return cell < 0 ? -1 : (cell * p.n_kv_heads + head) * p.value_width;
}
