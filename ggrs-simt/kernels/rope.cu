// Rotary position embedding.

#include "axes.cuh"
#include "turns.cuh"

// Pairs of one launch.
#define MAX_PAIRS 256

// `RopeParams` of rope.rs. A position is a token of a batch; the tensors of `tokens` are x and the token's position.
struct RopeParams {
    Axes tokens;
    const u8* x;
    u8* out;
    const i32* positions;
    // May be missing; divide the frequencies.
    const float* factors;
    // From a head to the next one; heads of a token and of a thread.
    i64 head_stride;
    i32 n_heads, n_heads_each;
    // From one row of positions to the next one.
    i32 n_tokens;
    i32 dtype, width;
    // Pairs of a head; pairs `first..first + n_pairs` are turned here.
    i32 half, first, n_pairs;
    // Are pairs neighbours? Else they are a half apart.
    i32 is_adjacent;
    // Threads of a token: one for each pair, one for each element that is copied.
    Divisor n_threads;
    float magnitude;
    i32 pad;
    // Turns per position of each pair, in 2^-64; as F64 if there are factors.
    u64 turns[MAX_PAIRS];
    // The row of positions that turns each pair.
    u8 rows[MAX_PAIRS];
};
static_assert(sizeof(RopeParams) == 2592, "RopeParams of rope.rs");

DEVICE u64 turn_of(const RopeParams& p, int k) {
    u64 turn = p.turns[k];
    if (!p.factors) return turn;
    return wrapped(__longlong_as_double((i64)turn) / (double)p.factors[p.first + k]);
}

template <bool IS_F32> DEVICE float load_of(const RopeParams& p, i64 at) {
    return IS_F32 ? ((const float*)p.x)[at] : load_float(p.x, p.dtype, at);
}
template <bool IS_F32> DEVICE void store_of(const RopeParams& p, i64 at, float x) {
    if (IS_F32) ((float*)p.out)[at] = x;
    else store_float(p.out, p.dtype, at, x);
}

template <bool IS_F32> DEVICE void rope(const RopeParams& p) {
    WAIT();
    TRIGGER();
    i64 i = thread_index();
    i64 token = i < (1LL << 31) ? divide((u32)i, p.n_threads) : i / p.n_threads.n;
    if (token >= p.tokens.n) return;
    int k = (int)(i - token * p.n_threads.n);
    Places at = places_of(p.tokens, token);
    int first = (int)blockIdx.y * p.n_heads_each;
    int n = p.n_heads - first < p.n_heads_each ? p.n_heads - first : p.n_heads_each;
    i64 from = at.at[0] + first * p.head_stride, to = (token * p.n_heads + first) * p.width;
    if (k >= p.n_pairs) {
        int rest = 2 * p.half + k - p.n_pairs;
        for (int h = 0; h < n; h++, from += p.head_stride, to += p.width) {
            store_of<IS_F32>(p, to + rest, load_of<IS_F32>(p, from + rest));
        }
        return;
    }
    i64 position = p.positions[p.rows[k] * p.n_tokens + at.at[1]];
    float sine, cosine;
    sine_and_cosine((u64)position * turn_of(p, k), sine, cosine);
    sine *= p.magnitude;
    cosine *= p.magnitude;
    int a = p.is_adjacent ? 2 * (p.first + k) : p.first + k;
    int gap = p.is_adjacent ? 1 : p.half;
    from += a;
    to += a;
    // Several heads are on their way at once.
    constexpr int TOGETHER = IS_F32 ? 4 : 1;
    for (; n > 0; n -= TOGETHER, from += TOGETHER * p.head_stride, to += TOGETHER * p.width) {
        float x[TOGETHER], y[TOGETHER];
#pragma unroll
        for (int h = 0; h < TOGETHER; h++) {
            if (h >= n) break;
            x[h] = load_of<IS_F32>(p, from + h * p.head_stride);
            y[h] = load_of<IS_F32>(p, from + h * p.head_stride + gap);
        }
#pragma unroll
        for (int h = 0; h < TOGETHER; h++) {
            if (h >= n) break;
            store_of<IS_F32>(p, to + h * p.width, x[h] * cosine - y[h] * sine);
            store_of<IS_F32>(p, to + h * p.width + gap, x[h] * sine + y[h] * cosine);
        }
    }
}
KERNEL(rope_f32, RopeParams, 256, 4) { rope<true>(p); }
KERNEL(rope_any, RopeParams, 256, 4) { rope<false>(p); }
