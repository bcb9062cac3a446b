// The choice of the next token of each sequence: the stages of `ggrs_core::sampling`, to the bit. Sums are of whole
// numbers, so their order does not matter.
//
// Every stage keeps the tokens up to some key. What a block sees of a vocabulary is a tile; its first keys are joined
// with those of the other tiles to a list, in which most sets end. Sets that do not are found by searching all tokens.

#include "sample.cuh"

// Scores of a tile's tokens; its first `length` keys.
KERNEL(sample_tiles, SampleParams, THREADS, 1) {
    __shared__ u64 keys[TILE], space[32];
    __shared__ i32 counts[TILE];
    WAIT();
    TRIGGER();
    const int sequence = (int)(blockIdx.x / p.n_tiles), tile = (int)(blockIdx.x % p.n_tiles), start = tile * TILE;
    const Sequence s(p, sequence);
    if (s.is_padding) return;
    const int n_recent = s.penalises ? n_recent_of(p, s) : 0;
    if (n_recent > 0) {
        for (int i = threadIdx.x; i < TILE; i += blockDim.x) counts[i] = 0;
        __syncthreads();
        for (int i = threadIdx.x; i < n_recent; i += blockDim.x) {
            i32 id = p.cursor[(i64)ring_row(p, s.position - i) * p.n_sequences + sequence];
            if (id >= start && id - start < TILE) atomicAdd(&counts[id - start], 1);
        }
        __syncthreads();
    }
    const float* logits = (const float*)p.logits.data + row_offset(p.logits, sequence);
    float* scores = p.scores + (i64)sequence * p.n_vocab;
    u64 first = NO_KEY;
    for (int i = threadIdx.x; i < TILE; i += blockDim.x) {
        int at = start + i;
        keys[i] = NO_KEY;
        if (at >= p.n_vocab) continue;
        float score = logits[at];
        if (!(score < INFINITY_F)) {
            report_fault(p.fault, sequence, at);
            score = INFINITY_F;
        } else if (n_recent > 0 && counts[i] > 0) {
            score = penalised(s, score, counts[i]);
        }
        scores[at] = score;
        u64 key = key_of(score, at, true);
        keys[i] = key;
        first = key < first ? key : first;
    }
    u64* to = keys_of(p, s) + (i64)tile * s.length;
    if (s.length == 1) {
        first = block_first(first, space);
        if (threadIdx.x == 0) to[0] = first;
    } else {
        __syncthreads();
        sort_keys(keys, TILE);
        for (int i = threadIdx.x; i < s.length; i += blockDim.x) to[i] = keys[i];
    }
}

// Lists of a sequence before a round of joining, and where they are.
struct Lists {
    int n, group;
    const u64* from;
    u64* to;

    __device__ __forceinline__ Lists(const SampleParams& p, const Sequence& s, int round) {
        u64* here = keys_of(p, s);
        u64* there = p.joined + (i64)s.sequence * p.joined_keys;
        n = p.n_tiles;
        group = LIST_KEYS / s.length;
        for (int r = 0; r < round && n > group; r++) {
            n = (n + group - 1) / group;
            u64* swapped = here;
            here = there;
            there = swapped;
        }
        from = here;
        to = there;
    }
};

// Makes the list number `at` of the next round, if there is one.
DEVICE void join_round(const SampleParams& p, const Sequence& s, int at, u64* keys) {
    Lists lists(p, s, p.round);
    int first = at * lists.group;
    if (s.length == 1 || lists.n <= lists.group || first >= lists.n) return;
    int n = lists.n - first < lists.group ? lists.n - first : lists.group;
    const u64* from = lists.from + (i64)first * s.length;
    for (int i = threadIdx.x; i < n * s.length; i += blockDim.x) keys[i] = from[i];
    __syncthreads();
    join_lists(keys, n, s.length);
    for (int i = threadIdx.x; i < s.length; i += blockDim.x) lists.to[(i64)at * s.length + i] = keys[i];
}

// The sums of a tile's weights, where a draw needs them; the first round of joining.
KERNEL(sample_weights, SampleParams, THREADS, 1) {
    __shared__ u64 space[32];
    WAIT();
    TRIGGER();
    DYNAMIC_SHARED(dynamic);
    const int sequence = (int)(blockIdx.x / p.n_tiles), tile = (int)(blockIdx.x % p.n_tiles);
    const Sequence s(p, sequence);
    if (s.is_padding || s.is_greedy) return;
    if (s.needs_sums()) {
        const Scale scale(s, best_of_tiles(p, s, space));
        const float* scores = p.scores + (i64)sequence * p.n_vocab;
        u64 sum = 0;
        for (int i = threadIdx.x; i < TILE && tile * TILE + i < p.n_vocab; i += blockDim.x) {
            float score = scores[tile * TILE + i];
            sum += s.has_order ? scale.plain(score) : scale.kept(score);
        }
        sum = block_sum(sum, space);
        if (threadIdx.x == 0) p.sums[(i64)sequence * p.n_tiles + tile] = sum;
    }
    join_round(p, s, tile, (u64*)dynamic);
}

// A further round of joining, for vocabularies of very many tiles.
KERNEL(sample_join, SampleParams, THREADS, 1) {
    WAIT();
    TRIGGER();
    DYNAMIC_SHARED(dynamic);
    const int sequence = (int)(blockIdx.x / p.n_lists);
    const Sequence s(p, sequence);
    if (s.is_padding || s.is_greedy) return;
    join_round(p, s, (int)(blockIdx.x % p.n_lists), (u64*)dynamic);
}

// Draws in the order of ids: the tile, then the place in it. -1 but in the thread that has the token.
DEVICE int draw_by_id(const SampleParams& p, const Sequence& s, const Scale& scale, u64* space) {
    __shared__ int place;
    __shared__ u64 before;
    const u64* sums = p.sums + (i64)s.sequence * p.n_tiles;
    const float* scores = p.scores + (i64)s.sequence * p.n_vocab;
    const u64 need = beyond(s.random, sum_of_tiles(p, s, space));
    u64 passed = 0, all;
    for (int start = 0; start < p.n_tiles; start += blockDim.x) {
        int t = start + (int)threadIdx.x;
        u64 sum = t < p.n_tiles ? sums[t] : 0;
        u64 upto = passed + block_scan(sum, space, all);
        if (upto >= need && upto - sum < need) {
            place = t;
            before = upto - sum;
        }
        passed += all;
    }
    __syncthreads();
    passed = before;
    int token = -1;
    for (int start = 0; start < TILE; start += blockDim.x) {
        int at = place * TILE + start + (int)threadIdx.x;
        u64 weight = at < p.n_vocab ? scale.kept(scores[at]) : 0;
        u64 upto = passed + block_scan(weight, space, all);
        if (upto >= need && upto - weight < need) token = at;
        passed += all;
    }
    return token;
}

// Draws in the order of scores, from the first keys of all tokens if the set ends among them; likewise.
DEVICE int draw_in_order(const SampleParams& p, const Sequence& s, const Scale& scale, u64* keys, u64* space) {
    __shared__ int place;
    const int own = threadIdx.x;
    const u64 key = own < s.length ? keys[own] : NO_KEY;
    const float score = score_of(key);
    // How many are kept: those of top_k, or of all tokens.
    u64 total;
    block_scan(descending_rank(key) < MASKED && (s.top_k == 0 || own < s.top_k), space, total);
    int n = (int)total;
    const bool is_all = n < s.length || (s.top_k > 0 && s.top_k <= s.length);
    bool ends = is_all, knows_total = true;
    const u64 plain = own < n && (s.top_p < 1.0f || s.min_p > 0.0f) ? scale.plain(score) : 0;
    if (s.top_p < 1.0f) {
        u64 upto = block_scan(plain, space, total);
        if (!is_all) {
            // Of all tokens; of those of top_k, if they are more than the list, it takes a search.
            knows_total = s.top_k == 0 || s.top_k >= p.n_vocab;
            total = sum_of_tiles(p, s, space);
        }
        u64 need = reaching(s.top_p, total);
        if (own == 0) place = 0;
        __syncthreads();
        if (own < n && upto >= need && upto - plain < need) place = own + 1;
        __syncthreads();
        if (knows_total && place > 0) {
            n = place;
            ends = true;
        }
    }
    if (s.min_p > 0.0f) {
        block_scan(own < n && scale.is_probable(plain), space, total);
        ends |= knows_total && (int)total < n;
        n = (int)total;
    }
    if (ends) {
        u64 weight = own < n ? scale.tempered(score) : 0;
        u64 upto = block_scan(weight, space, total), need = beyond(s.random, total);
        return upto >= need && upto - weight < need ? position_of(key) : -1;
    }
    // The lists are no longer needed.
    u64 limit = ((u64)MASKED << 32) - 1;
    if (s.top_k > 0) limit = find_key(p, s, scale, OF_TOKENS, limit, keys, space);
    if (s.top_p < 1.0f) limit = find_key(p, s, scale, OF_PLAIN, limit, keys, space);
    limit = find_key(p, s, scale, OF_KEPT, limit, keys, space);
    return own == 0 ? position_of(limit) : -1;
}

// The choice, and the cursor after it: one block per sequence.
KERNEL(sample_choose, SampleParams, THREADS, 1) {
    __shared__ u64 space[32];
    WAIT();
    TRIGGER();
    DYNAMIC_SHARED(dynamic);
    u64* keys = (u64*)dynamic;
    const Sequence s(p, blockIdx.x);
    if (s.is_padding) return;
    u64 best;
    if (s.length == 1) {
        best = best_of_tiles(p, s, space);
    } else {
        Lists lists(p, s, p.round);
        for (int i = threadIdx.x; i < lists.n * s.length; i += blockDim.x) keys[i] = lists.from[i];
        __syncthreads();
        join_lists(keys, lists.n, s.length);
        best = keys[0];
    }
    // The tile that saw a bad logit has said so.
    if (descending_rank(best) <= INFINITE) return;
    if (descending_rank(best) >= MASKED) {
        if (threadIdx.x == 0) report_fault(p.fault, s.sequence, 0);
        return;
    }
    int token;
    if (s.is_greedy) token = threadIdx.x == 0 ? position_of(best) : -1;
    else if (s.has_order) token = draw_in_order(p, s, Scale(s, best), keys, space);
    else token = draw_by_id(p, s, Scale(s, best), space);
    if (token >= 0) move_on(p, s, token);
}
