// What happens to queries, keys and values between their products and attention, in one launch: per-head RMS norm and
// rotation of queries and keys (pairs i and i + D/2), keys and values written to a paged cache.

#include "pages.cuh"
#include "turns.cuh"

#define MAX_PAIRS 128

// `QkPrep` of stages/qk_prep.rs. q, k, v and q_out are gapless F32 rows of heads; D and Dv are multiples of 2.
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
static_assert(sizeof(QkPrep) == 1272, "QkPrep of stages/qk_prep.rs");

// One warp per head of a token: queries, then keys, then values.
KERNEL(qk_prep, QkPrep, 128, 4) {
    WAIT();
    TRIGGER();
    i32 per_token = p.n_heads + 2 * p.n_kv_heads;
    i32 unit = blockIdx.x * N_WARPS + WARP_ID;
    i32 token = unit / per_token, head = unit % per_token;
    if (token >= p.n_tokens) return;
    if (head >= p.n_heads + p.n_kv_heads) {
        head -= p.n_heads + p.n_kv_heads;
        i64 cell = cell_of(p.pages, token, p.faults[1], head == 0 && LANE == 0);
        if (cell < 0) return;
        const float* v = p.v + ((i64)token * p.n_kv_heads + head) * p.value_width;
        i64 at = (cell * p.n_kv_heads + head) * p.value_width;
        for (int i = LANE; i < p.value_width; i += WARP) store_float(p.v_cache, p.cache_dtype, at + i, v[i]);
        return;
    }
    bool is_key = head >= p.n_heads;
    if (is_key) head -= p.n_heads;
    const float* x = is_key ? p.k + ((i64)token * p.n_kv_heads + head) * p.width
                            : p.q + ((i64)token * p.n_heads + head) * p.width;
    const float* weight = is_key ? p.k_weight : p.q_weight;
    float squares = 0;
    for (int i = LANE; i < p.width; i += WARP) squares += x[i] * x[i];
    double mean = warp_sum((double)squares) / p.width;
    float factor = (float)(1.0 / sqrt(mean + (double)p.eps));
    i64 cell = is_key ? cell_of(p.pages, token, p.faults[0], head == 0 && LANE == 0) : 0;
    if (cell < 0) return;
    i64 at = is_key ? (cell * p.n_kv_heads + head) * p.width : ((i64)token * p.n_heads + head) * p.width;
    u8* out = is_key ? p.k_cache : (u8*)p.q_out;
    i32 dtype = is_key ? p.cache_dtype : F32;
    i32 half = p.width / 2, position = p.pages.positions[token];
    for (int i = LANE; i < half; i += WARP) {
        float sine, cosine;
        sine_and_cosine((u64)position * p.turns[i], sine, cosine);
        float a = factor * x[i] * weight[i], b = factor * x[i + half] * weight[i + half];
        store_float(out, dtype, at + i, a * cosine - b * sine);
        store_float(out, dtype, at + i + half, a * sine + b * cosine);
    }
}
