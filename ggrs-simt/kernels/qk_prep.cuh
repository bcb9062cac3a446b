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

// Norm and rotation of the head at `x` by one warp: `store(i, value)` for each of its elements. With PAIRS a lane has so
// many pairs, asked for at once; else any number.
template <int PAIRS, typename Store>
DEVICE void prepare_head(const QkPrep& p, const float* x, const float* weight, i32 position, Store store) {
    i32 half = p.width / 2;
    float squares = 0;
    constexpr int KEPT = PAIRS > 0 ? PAIRS : 1;
    float a[KEPT], b[KEPT], weight_a[KEPT], weight_b[KEPT];
    if constexpr (PAIRS > 0) {
#pragma unroll
        for (int j = 0; j < PAIRS; j++) {
            int i = j * WARP + LANE;
            a[j] = x[i];
            b[j] = x[i + half];
            weight_a[j] = weight[i];
            weight_b[j] = weight[i + half];
        }
#pragma unroll
        for (int j = 0; j < PAIRS; j++) squares += a[j] * a[j] + b[j] * b[j];
    } else {
        for (int i = LANE; i < p.width; i += WARP) squares += x[i] * x[i];
    }
    float factor = rsqrtf(warp_sum(squares) / (float)p.width + p.eps);
    auto turn = [&](int i, float first, float second) {
        float sine, cosine;
        sine_and_cosine((u64)position * p.turns[i], sine, cosine);
        store(i, first * cosine - second * sine);
        store(i + half, first * sine + second * cosine);
    };
    if constexpr (PAIRS > 0) {
#pragma unroll
        for (int j = 0; j < PAIRS; j++)
            turn(j * WARP + LANE, factor * a[j] * weight_a[j], factor * b[j] * weight_b[j]);
    } else {
        for (int i = LANE; i < half; i += WARP) turn(i, factor * x[i] * weight[i], factor * x[i + half] * weight[i + half]);
    }
}
// A query to wherever `store` puts it.
template <int PAIRS, typename Store> DEVICE void prepare_query(const QkPrep& p, i32 token, i32 head, Store store) {
    const float* x = p.q + ((i64)token * p.n_heads + head) * p.width;
    prepare_head<PAIRS>(p, x, p.q_weight, p.pages.positions[token], store);
}
// A key to its cell. The warp of the first head reports what is nowhere, if it is told to.
template <int PAIRS> DEVICE void prepare_key(const QkPrep& p, i32 token, i32 head, bool reports) {
    i64 cell = cell_of(p.pages, token, p.faults[0], reports && head == 0 && LANE == 0);
    if (cell < 0) return;
    i64 at = (cell * p.n_kv_heads + head) * p.width;
    const float* x = p.k + ((i64)token * p.n_kv_heads + head) * p.width;
    prepare_head<PAIRS>(p, x, p.k_weight, p.pages.positions[token],
                        [&](int i, float value) { store_float(p.k_cache, p.cache_dtype, at + i, value); });
}
// A value to its cell, likewise.
DEVICE void prepare_value(const QkPrep& p, i32 token, i32 head, bool reports) {
    i64 cell = cell_of(p.pages, token, p.faults[1], reports && head == 0 && LANE == 0);
    if (cell < 0) return;
    const float* v = p.v + ((i64)token * p.n_kv_heads + head) * p.value_width;
    i64 at = (cell * p.n_kv_heads + head) * p.value_width;
    for (int i = LANE; i < p.value_width; i += WARP) store_float(p.v_cache, p.cache_dtype, at + i, v[i]);
}
