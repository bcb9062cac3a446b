// Queries, keys and values of several tokens made ready for attention, in one launch.

#include "qk_prep.cuh"

// One warp per head of a token: queries, then keys, then values.
KERNEL(qk_prep, QkPrep, 128, 4) {
    WAIT();
    TRIGGER();
    i32 per_token = p.n_heads + 2 * p.n_kv_heads;
    i32 unit = blockIdx.x * N_WARPS + WARP_ID;
    i32 token = unit / per_token, head = unit % per_token;
    if (token >= p.n_tokens) return;
    i32 position = p.pages.positions[token];
    if (head < p.n_heads) {
        float* out = p.q_out + ((i64)token * p.n_heads + head) * p.width;
        prepare_head(p, query_at(p, token, head), p.q_weight, position, [&](int i, float x) { out[i] = x; });
    } else if (head < p.n_heads + p.n_kv_heads) {
        head -= p.n_heads;
        i64 at = key_place(p, token, head, true);
        if (at < 0) return;
        prepare_head(p, key_at(p, token, head), p.k_weight, position,
                     [&](int i, float x) { store_float(p.k_cache, p.cache_dtype, at + i, x); });
    } else {
        head -= p.n_heads + p.n_kv_heads;
        i64 at = value_place(p, token, head, true);
        if (at < 0) return;
        const float* v = value_at(p, token, head);
        for (int i = LANE; i < p.value_width; i += WARP) store_float(p.v_cache, p.cache_dtype, at + i, v[i]);
    }
}
