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
    if (head < p.n_heads) {
        float* out = p.q_out + ((i64)token * p.n_heads + head) * p.width;
        prepare_query<0>(p, token, head, [&](int i, float value) { out[i] = value; });
    } else if (head < p.n_heads + p.n_kv_heads) {
        prepare_key<0>(p, token, head - p.n_heads, true);
    } else {
        prepare_value(p, token, head - p.n_heads - p.n_kv_heads, true);
    }
}
