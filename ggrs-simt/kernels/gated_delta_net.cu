// The gated delta rule: rows of the states stay in registers through all tokens, eight lanes to a row.
//
// Per token and row: `m *= exp(g)`, `d = (v - m k) beta`, `m += d k`, `out = m q scale`. Both products are taken before
// the update, since `(m + d k) q = m q + d (k q)`: the second need not wait for the first.

#include "prelude.cuh"

struct DeltaParams {
    // q, k [B, T, Hk, D], v [B, T, Hv, D], g [B, T, Hv, 1 or D], beta [B, T, Hv].
    View q, k, v, g, beta;
    // [B, Hv, D, D], [B, T, Hv, D], [B, snapshots, Hv, D, D], gapless.
    const float* state;
    float* out;
    float* states;
    i32 n_snapshots;
    float scale;
};
static_assert(sizeof(DeltaParams) == 392, "DeltaParams of recurrent.rs");

struct alignas(16) Four {
    float x, y, z, w;
};

DEVICE const float* vector_of(const View& x, int batch, int token, int head) {
    return (const float*)x.data + batch * x.stride[1] + token * x.stride[2] + head * x.stride[3];
}
DEVICE const float* strength_of(const DeltaParams& p, int batch, int token, int head) {
    return (const float*)p.beta.data + batch * p.beta.stride[2] + token * p.beta.stride[3] + head * p.beta.stride[4];
}

// Lanes of a row, rows of a block, tokens that a block holds at a time.
#define LANES 8
#define ROWS 32
#define TOKENS 8
#define THREADS (LANES * ROWS)

// What a thread loads of some tokens while the block is at work on those before.
template <int COLUMNS, bool WIDE> struct Ahead {
    float key[COLUMNS], query[COLUMNS], decay[WIDE ? COLUMNS : 1], value, strength;
};

// Columns of a lane: pieces of four, LANES pieces apart. Rows are as wide as the lanes, filled up with zeros.
template <int COLUMNS, bool WIDE> DEVICE void delta_net(const DeltaParams& p) {
    constexpr int WIDTH = COLUMNS * LANES;
    __shared__ alignas(16) float keys[TOKENS][WIDTH], queries[TOKENS][WIDTH], decays[TOKENS][WIDE ? WIDTH : 4];
    __shared__ float values[TOKENS][ROWS], answers[TOKENS][ROWS], strengths[TOKENS], key_queries[TOKENS];
    WAIT();
    TRIGGER();
    const int n_tokens = p.v.size[2], n_heads = p.v.size[3], width = p.v.size[4];
    const int n_bands = (width + ROWS - 1) / ROWS, first_row = (int)(blockIdx.x % n_bands) * ROWS;
    const int head = (int)(blockIdx.x / n_bands % n_heads), batch = (int)(blockIdx.x / n_bands / n_heads);
    const int key_head = head % p.k.size[3];
    const int thread = threadIdx.x, lane = thread % LANES, own = thread / LANES, row = first_row + own;
    const bool is_row = row < width;

    float m[COLUMNS];
    const float* start = p.state + (((i64)batch * n_heads + head) * width + row) * width;
    const bool is_even = width % 4 == 0 && ((u64)p.state & 15) == 0;
#pragma unroll
    for (int i = 0; i < COLUMNS; i += 4) {
        int c = (i / 4 * LANES + lane) * 4;
        if (is_row && is_even && c < width) {
            Four four = *(const Four*)(start + c);
            m[i] = four.x, m[i + 1] = four.y, m[i + 2] = four.z, m[i + 3] = four.w;
        } else {
#pragma unroll
            for (int j = 0; j < 4; j++) m[i + j] = is_row && c + j < width ? start[c + j] : 0.0f;
        }
    }

    Ahead<TOKENS * WIDTH / THREADS, WIDE> ahead;
    auto load = [&](int token) {
#pragma unroll
        for (int n = 0; n < TOKENS * WIDTH / THREADS; n++) {
            int at = thread + n * THREADS, t = token + at / WIDTH, c = at % WIDTH;
            bool is_there = t < n_tokens && c < width;
            ahead.key[n] = is_there ? vector_of(p.k, batch, t, key_head)[c] : 0.0f;
            ahead.query[n] = is_there ? vector_of(p.q, batch, t, key_head)[c] : 0.0f;
            if (WIDE) ahead.decay[n] = is_there ? vector_of(p.g, batch, t, head)[c] : 0.0f;
        }
        int t = token + thread / ROWS, r = first_row + thread % ROWS;
        ahead.value = t < n_tokens && r < width ? vector_of(p.v, batch, t, head)[r] : 0.0f;
        t = token + thread % TOKENS;
        bool is_there = thread < TOKENS && t < n_tokens;
        ahead.strength = is_there ? *strength_of(p, batch, t, head) : 0.0f;
        if (!WIDE) ahead.decay[0] = is_there ? *vector_of(p.g, batch, t, head) : 0.0f;
    };

    load(0);
    for (int token = 0; token < n_tokens; token += TOKENS) {
#pragma unroll
        for (int n = 0; n < TOKENS * WIDTH / THREADS; n++) {
            int at = thread + n * THREADS;
            keys[at / WIDTH][at % WIDTH] = ahead.key[n];
            queries[at / WIDTH][at % WIDTH] = ahead.query[n];
            if (WIDE) decays[at / WIDTH][at % WIDTH] = expf(ahead.decay[n]);
        }
        values[thread / ROWS][thread % ROWS] = ahead.value;
        if (thread < TOKENS) {
            strengths[thread] = ahead.strength;
            if (!WIDE) decays[thread][0] = expf(ahead.decay[0]);
        }
        __syncthreads();
        for (int t = WARP_ID; t < TOKENS; t += N_WARPS) {
            float sum = 0.0f;
            for (int c = LANE; c < WIDTH; c += WARP) sum += keys[t][c] * queries[t][c];
            sum = warp_sum(sum);
            if (LANE == 0) key_queries[t] = sum;
        }
        __syncthreads();
        if (token + TOKENS < n_tokens) load(token + TOKENS);

        int n = n_tokens - token < TOKENS ? n_tokens - token : TOKENS;
        for (int t = 0; t < n; t++) {
            const Four* key = (const Four*)keys[t] + lane;
            const Four* query = (const Four*)queries[t] + lane;
            float recalled = 0.0f, answer = 0.0f, recalled_too = 0.0f, answer_too = 0.0f;
            float decay = decays[t][0];
#pragma unroll
            for (int i = 0; i < COLUMNS; i += 4) {
                Four k = key[i / 4 * LANES], q = query[i / 4 * LANES], g = {decay, decay, decay, decay};
                if (WIDE) g = ((const Four*)decays[t])[i / 4 * LANES + lane];
                m[i] *= g.x, m[i + 1] *= g.y, m[i + 2] *= g.z, m[i + 3] *= g.w;
                recalled += m[i] * k.x, recalled_too += m[i + 1] * k.y;
                answer += m[i] * q.x, answer_too += m[i + 1] * q.y;
                recalled += m[i + 2] * k.z, recalled_too += m[i + 3] * k.w;
                answer += m[i + 2] * q.z, answer_too += m[i + 3] * q.w;
            }
            recalled += recalled_too;
            answer += answer_too;
#pragma unroll
            for (int step = LANES / 2; step > 0; step /= 2) {
                recalled += __shfl_xor_sync(FULL_MASK, recalled, step);
                answer += __shfl_xor_sync(FULL_MASK, answer, step);
            }
            float correction = (values[t][own] - recalled) * strengths[t];
            if (lane == 0) answers[t][own] = (answer + correction * key_queries[t]) * p.scale;
#pragma unroll
            for (int i = 0; i < COLUMNS; i += 4) {
                Four k = key[i / 4 * LANES];
                m[i] += correction * k.x, m[i + 1] += correction * k.y;
                m[i + 2] += correction * k.z, m[i + 3] += correction * k.w;
            }
            int age = n_tokens - 1 - token - t;
            if (age < p.n_snapshots && is_row) {
                i64 at = (((i64)batch * p.n_snapshots + age) * n_heads + head) * width + row;
                float* to = p.states + at * width;
#pragma unroll
                for (int i = 0; i < COLUMNS; i += 4) {
                    int c = (i / 4 * LANES + lane) * 4;
                    if (is_even && c < width) {
                        *(Four*)(to + c) = {m[i], m[i + 1], m[i + 2], m[i + 3]};
                    } else {
#pragma unroll
                        for (int j = 0; j < 4; j++) {
                            if (c + j < width) to[c + j] = m[i + j];
                        }
                    }
                }
            }
        }
        __syncthreads();
        int t = token + thread / ROWS, r = first_row + thread % ROWS;
        if (t < n_tokens && r < width) {
            p.out[(((i64)batch * n_tokens + t) * n_heads + head) * width + r] = answers[thread / ROWS][thread % ROWS];
        }
    }
}

// By the width up to which they go, and by the width of the decay.
KERNEL(delta_32, DeltaParams, THREADS, 2) { delta_net<4, false>(p); }
KERNEL(delta_64, DeltaParams, THREADS, 2) { delta_net<8, false>(p); }
KERNEL(delta_128, DeltaParams, THREADS, 2) { delta_net<16, false>(p); }
KERNEL(delta_256, DeltaParams, THREADS, 1) { delta_net<32, false>(p); }
KERNEL(delta_32_wide, DeltaParams, THREADS, 2) { delta_net<4, true>(p); }
KERNEL(delta_64_wide, DeltaParams, THREADS, 2) { delta_net<8, true>(p); }
KERNEL(delta_128_wide, DeltaParams, THREADS, 2) { delta_net<16, true>(p); }
KERNEL(delta_256_wide, DeltaParams, THREADS, 1) { delta_net<32, true>(p); }

// Rows of any width, in shared memory: one warp per row, and every lane on its own columns.
KERNEL(delta_any, DeltaParams, 128, 2) {
    WAIT();
    TRIGGER();
    DYNAMIC_SHARED(space);
    const int n_tokens = p.v.size[2], n_heads = p.v.size[3], width = p.v.size[4];
    i64 all = (i64)blockIdx.x * N_WARPS + WARP_ID;
    if (all >= (i64)p.v.size[1] * n_heads * width) return;
    const int row = (int)(all % width), head = (int)(all / width % n_heads), batch = (int)(all / width / n_heads);
    const int key_head = head % p.k.size[3];
    float* m = (float*)space + WARP_ID * width;
    for (int c = LANE; c < width; c += WARP) m[c] = p.state[all * width + c];
    for (int t = 0; t < n_tokens; t++) {
        const float* key = vector_of(p.k, batch, t, key_head);
        const float* query = vector_of(p.q, batch, t, key_head);
        const float* decay = vector_of(p.g, batch, t, head);
        float recalled = 0.0f;
        for (int c = LANE; c < width; c += WARP) {
            m[c] *= expf(decay[p.g.size[4] == 1 ? 0 : c]);
            recalled += m[c] * key[c];
        }
        recalled = warp_sum(recalled);
        float correction = (vector_of(p.v, batch, t, head)[row] - recalled) * *strength_of(p, batch, t, head);
        int age = n_tokens - 1 - t;
        float answer = 0.0f;
        for (int c = LANE; c < width; c += WARP) {
            m[c] += correction * key[c];
            answer += m[c] * query[c];
            if (age < p.n_snapshots) {
                i64 at = (((i64)batch * p.n_snapshots + age) * n_heads + head) * width + row;
                p.states[at * width + c] = m[c];
            }
        }
        answer = warp_sum(answer);
        if (LANE == 0) p.out[(((i64)batch * n_tokens + t) * n_heads + head) * width + row] = answer * p.scale;
    }
}
