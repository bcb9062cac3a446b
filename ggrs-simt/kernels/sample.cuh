// What choosing a token is made of: a sequence's settings, scores, weights, sums, searches.

#include "order.cuh"

// Tokens that one block sees at a time; threads of a block.
#define TILE 2048
#define THREADS 1024
// The longest list of first keys, and the keys that are joined at once.
#define MAX_LIST 512
#define LIST_KEYS 5120

struct SampleParams {
    // [sequences, vocabulary]; rows have no gaps.
    View logits;
    // [4 + ring, sequences]: token, position, slot, draws, and the last tokens.
    i32* cursor;
    // [sequences, 8]
    const float* settings;
    const i64* seeds;
    FaultCell fault;
    // Working memory of each sequence: scores, the first keys of every tile, lists made of them, a sum of each tile.
    float* scores;
    u64* keys;
    u64* joined;
    u64* sums;
    i32 n_sequences;
    i32 n_vocab;
    i32 ring;
    i32 n_tiles;
    // Keys of the lists made of tiles; which round of joining; lists that it makes of a sequence at most.
    i32 joined_keys;
    i32 round;
    i32 n_lists;
    i32 unused;
};
static_assert(sizeof(SampleParams) == 176, "SampleParams of sample.rs");

enum CursorRow { TOKEN, POSITION, SLOT, DRAWS, RING };

// In the upper halves of keys: those from the first on are masked, those up to the other no finite scores.
#define MASKED 0xff800000u
#define INFINITE 0x007fffffu

DEVICE u32 descending_rank(u64 key) { return (u32)(key >> 32); }
DEVICE float score_of(u64 key) { return float_of_rank(~descending_rank(key)); }

// Number `draw` of the random numbers of a seed (`ggrs_core::sampling::random`).
DEVICE u64 random_of(u64 seed, u32 draw) {
    u64 x = seed + ((u64)draw + 1) * 0x9e3779b97f4a7c15ULL;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
    return x ^ x >> 31;
}

// Settings and state of one sequence.
struct Sequence {
    int sequence, position, window, top_k, length;
    u32 draws;
    u64 random;
    float temperature, top_p, min_p, repetition, presence, frequency;
    bool is_padding, is_greedy, has_order, penalises;

    __device__ __forceinline__ Sequence(const SampleParams& p, int own) : sequence(own) {
        const i32* cursor = p.cursor + own;
        const float* settings = p.settings + own * 8;
        is_padding = cursor[SLOT * p.n_sequences] < 0;
        position = cursor[POSITION * p.n_sequences];
        draws = (u32)cursor[DRAWS * p.n_sequences];
        random = random_of((u64)p.seeds[own], draws);
        temperature = settings[0];
        top_k = number(settings[1]);
        top_p = settings[2];
        min_p = settings[3];
        repetition = settings[4];
        presence = settings[5];
        frequency = settings[6];
        window = number(settings[7]);
        penalises = (repetition != 1.0f || presence != 0.0f || frequency != 0.0f) && window > 0;
        is_greedy = !(temperature > 0.0f);
        has_order = top_k > 0 || top_p < 1.0f;
        length = is_greedy || !has_order ? 1 : MAX_LIST;
        if (length > 1 && top_k > 0) {
            int needed = 2;
            while (needed < top_k && needed < MAX_LIST) needed *= 2;
            length = needed;
        }
    }
    // The whole part, at most what an i32 holds; 0 of what is below 1 and of NaN.
    static __device__ __forceinline__ int number(float x) { return x >= 1.0f ? (x < 2147483520.0f ? (int)x : 2147483520) : 0; }
    // Does its draw take more than a list?
    __device__ __forceinline__ bool needs_sums() const {
        return !has_order || (top_p < 1.0f && (top_k == 0 || top_k > length));
    }
};

DEVICE int ring_row(const SampleParams& p, int position) {
    int at = p.ring > 0 ? position % p.ring : 0;
    return RING + (at < 0 ? at + p.ring : at);
}
DEVICE int n_recent_of(const SampleParams& p, const Sequence& s) {
    return s.window < p.ring ? s.window : p.ring;
}

// The score of a token that occurred `count` times.
DEVICE float penalised(const Sequence& s, float logit, int count) {
    if (logit == -INFINITY_F) return logit;
    double score = logit, repetition = s.repetition;
    score = logit > 0.0f ? score / repetition : score * repetition;
    score = __dadd_rn(score, -__dadd_rn(__dmul_rn(count, s.frequency), s.presence));
    // What overflows is neither masked nor infinite.
    const double most = 3.4028234663852886e38;
    return (float)(score > most ? most : score < -most ? -most : score);
}

// exp(x) for x up to 0, the host's operations one by one.
DEVICE double exp_of_non_positive(double x) {
    const double inverse_factorials[14] = {
        1.0, 1.0, 1.0 / 2, 1.0 / 6, 1.0 / 24, 1.0 / 120, 1.0 / 720, 1.0 / 5040, 1.0 / 40320, 1.0 / 362880,
        1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800,
    };
    i64 halvings = (i64)__dadd_rn(__dmul_rn(-x, 1.4426950408889634), 0.5);
    double rest = __dadd_rn(x, __dmul_rn((double)halvings, 0.6931471803691238));
    rest = __dadd_rn(rest, __dmul_rn((double)halvings, 1.9082149292705877e-10));
    double sum = 0.0;
#pragma unroll
    for (int i = 13; i >= 0; i--) sum = __dadd_rn(__dmul_rn(sum, rest), inverse_factorials[i]);
    return __dmul_rn(sum, __longlong_as_double((1023 - halvings) << 52));
}

// Scores against the best one: weights, of which the best token's is 2^39.
struct Scale {
    double best, temperature, least;
    bool all_probable;

    __device__ __forceinline__ Scale(const Sequence& s, u64 best_key) {
        best = score_of(best_key);
        temperature = s.temperature;
        all_probable = s.min_p <= 0.0f;
        least = (double)fminf(s.min_p, 1.0f) * 549755813888.0;
    }
    static __device__ __forceinline__ u64 weight(double distance) {
        // What is below rounds to 0.
        if (!(distance >= -28.0)) return 0;
        return (u64)__dadd_rn(exp_of_non_positive(distance) * 549755813888.0, 0.5);
    }
    __device__ __forceinline__ u64 plain(float score) const { return weight((double)score - best); }
    __device__ __forceinline__ u64 tempered(float score) const { return weight(((double)score - best) / temperature); }
    __device__ __forceinline__ bool is_probable(u64 plain) const { return all_probable || (double)plain >= least; }
    // At the temperature, of a token that min_p keeps.
    __device__ __forceinline__ u64 kept(float score) const {
        return all_probable || is_probable(plain(score)) ? tempered(score) : 0;
    }
};

// The least sum that is so much of the total; the least that exceeds a random point of it.
DEVICE u64 reaching(float part, u64 total) {
    double target = (double)part * (double)total;
    u64 need = target > 0.0 ? (u64)target : 0;
    if ((double)need < target) need++;
    return need < 1 ? 1 : need < total ? need : total;
}
DEVICE u64 beyond(u64 random, u64 total) { return __umul64hi(random, total) + 1; }

// The first of all keys that the threads of a block have; `space` is for 32 keys.
DEVICE u64 block_first(u64 key, u64* space) {
    key = warp_first(key);
    __syncthreads();
    if (LANE == 0) space[WARP_ID] = key;
    __syncthreads();
    for (int w = 0; w < N_WARPS; w++) key = space[w] < key ? space[w] : key;
    return key;
}
// Sum over the threads up to this one, and over all.
DEVICE u64 block_scan(u64 v, u64* space, u64& total) {
    for (int step = 1; step < WARP; step *= 2) {
        u64 before = __shfl_up_sync(FULL_MASK, v, step);
        if (LANE >= step) v += before;
    }
    __syncthreads();
    if (LANE == WARP - 1) space[WARP_ID] = v;
    __syncthreads();
    u64 before = 0;
    total = 0;
    for (int w = 0; w < N_WARPS; w++) {
        if (w < WARP_ID) before += space[w];
        total += space[w];
    }
    return before + v;
}

// The lists of a sequence's tiles. Every sequence has room for the longest, since lengths differ.
DEVICE u64* keys_of(const SampleParams& p, const Sequence& s) { return p.keys + (i64)s.sequence * p.n_tiles * MAX_LIST; }

DEVICE u64 best_of_tiles(const SampleParams& p, const Sequence& s, u64* space) {
    const u64* keys = keys_of(p, s);
    u64 best = NO_KEY;
    for (int t = threadIdx.x; t < p.n_tiles; t += blockDim.x) {
        u64 key = keys[(i64)t * s.length];
        best = key < best ? key : best;
    }
    return block_first(best, space);
}
DEVICE u64 sum_of_tiles(const SampleParams& p, const Sequence& s, u64* space) {
    u64 sum = 0;
    for (int t = threadIdx.x; t < p.n_tiles; t += blockDim.x) sum += p.sums[(i64)s.sequence * p.n_tiles + t];
    return block_sum(sum, space);
}

// --- sets of tokens that no list holds --------------------------------------------------------------------------------

#define DIGIT 11
#define BINS (1 << DIGIT)

// What is counted: tokens up to top_k, weights at temperature 1 up to top_p, those of the draw up to its point.
enum Measure { OF_TOKENS, OF_PLAIN, OF_KEPT };

// The first key at which the sum over all keys up to `limit` reaches what is wanted, digit by digit of the keys. `bins`
// is shared memory for BINS numbers.
DEVICE u64 find_key(
    const SampleParams& p, const Sequence& s, const Scale& scale, Measure measure, u64 limit, u64* bins, u64* space
) {
    __shared__ u64 digit, passed;
    constexpr int PER_THREAD = BINS / THREADS, FIRST = 63 / DIGIT * DIGIT;
    const float* scores = p.scores + (i64)s.sequence * p.n_vocab;
    u64 prefix = 0, before = 0, need = 0;
    for (int shift = FIRST; shift >= 0; shift -= DIGIT) {
        __syncthreads();
        for (int i = threadIdx.x; i < BINS; i += blockDim.x) bins[i] = 0;
        __syncthreads();
        for (int at = threadIdx.x; at < p.n_vocab; at += blockDim.x) {
            float score = scores[at];
            u64 key = key_of(score, at, true);
            if (key > limit || (shift < FIRST && key >> (shift + DIGIT) != prefix)) continue;
            u64 amount = measure == OF_TOKENS ? 1 : measure == OF_PLAIN ? scale.plain(score) : scale.kept(score);
            if (amount > 0) atomicAdd(&bins[key >> shift & (BINS - 1)], amount);
        }
        __syncthreads();
        u64 sum = 0, all;
        for (int i = 0; i < PER_THREAD; i++) sum += bins[threadIdx.x * PER_THREAD + i];
        u64 upto = block_scan(sum, space, all);
        if (shift == FIRST) {
            u64 k = s.top_k;
            need = measure == OF_KEPT ? beyond(s.random, all)
                 : measure == OF_PLAIN ? reaching(s.top_p, all)
                 : k < all ? k : all;
        }
        u64 wanted = need - before;
        if (upto >= wanted && upto - sum < wanted) {
            u64 reached = upto - sum;
            int i = threadIdx.x * PER_THREAD;
            for (; reached + bins[i] < wanted; i++) reached += bins[i];
            digit = i;
            passed = reached;
        }
        __syncthreads();
        prefix = prefix << DIGIT | digit;
        before += passed;
    }
    return prefix;
}

// The cursor after the choice; one thread.
DEVICE void move_on(const SampleParams& p, const Sequence& s, int token) {
    i32* cursor = p.cursor + s.sequence;
    int position = (int)((u32)s.position + 1);
    cursor[(i64)TOKEN * p.n_sequences] = token;
    cursor[(i64)POSITION * p.n_sequences] = position;
    cursor[(i64)DRAWS * p.n_sequences] = (i32)(s.draws + 1);
    if (p.ring > 0) cursor[(i64)ring_row(p, position) * p.n_sequences] = token;
}
