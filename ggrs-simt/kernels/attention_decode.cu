// Attention of a few tokens over a paged cache, on matrix units. Built with HEAD, the width of keys and values, and KV,
// their dtype.
//
// A block has up to 8 query heads of one key head, for one token and one split of its keys. Keys and values go from
// memory straight to the registers of the matrix units: scores are keys (rows) by heads (columns), the result is values
// (rows) by heads. A product's terms may come in any order, and so may the rows of the result: lanes take those that
// lie side by side in memory. `row` and `pair` of a lane: see matrix.cuh.
//
// Of one token, queries, keys and values may come as their products left them: every block makes its queries ready, and
// those that will read the token's own key write it first.

#include "attention_tile.cuh"
#include "qk_prep.cuh"

#define HEADS 8
#define DECODE_WARPS 8
#define THREADS (32 * DECODE_WARPS)
// Keys of a team at a time. A team is as many warps as it takes for wide heads, each with its part of the width.
#define STEP 16
#define WIDTH (HEAD > 128 ? 128 : HEAD)
#define TEAM (HEAD / WIDTH)
#define TEAMS (DECODE_WARPS / TEAM)
// Steps of a team in the keys that a split has at a time.
#define TURNS (KEYS_AT_A_TIME / STEP / TEAMS)
// In shared memory, so that lanes do not meet in a bank.
#define QUERY_PITCH (HEAD + 32)
#define SUM_PITCH (HEAD + 4)
// A lane has 8 of 32 elements of a key, and 8 of 64 elements of a value.
#define KEY_PARTS (WIDTH / 32)
#define VALUE_PARTS (WIDTH / 64)
// Of a warp's part of a key or value.
#define ROW_BYTES (KV == Q8_0 ? WIDTH / 32 * 34 : WIDTH * 2)

// Queries are copied in eights.
#define QUERY_PARTS (HEADS * HEAD / 8)
#define QUERY_TURNS ((QUERY_PARTS + THREADS - 1) / THREADS)
#define MAX_SPLITS 256
// Eights of the result, how many threads share each when splits are put together, and how many splits a thread has on
// their way at the same time.
#define RESULT_PARTS (HEADS * HEAD / 8)
#define SHARERS (RESULT_PARTS < THREADS ? THREADS / RESULT_PARTS : 1)
#define SPLIT_BATCH 8

struct DecodeShared {
    u16 query[HEADS][QUERY_PITCH];
    union {
        float4 products[2][DECODE_WARPS][32];
        float factors[MAX_SPLITS][HEADS];
    };
    float2 stats[TEAMS][HEADS];
    float shares[HEADS];
    float sums[TEAMS][HEADS][SUM_PITCH];
    u32 n_done, unused[7];
};
static_assert(sizeof(DecodeShared) == 16 * (HEAD + 32) + 8256 + TEAMS * (64 + 32 * (HEAD + 4)), "Tile of matrix.rs");

struct Walk {
    Seen seen;
    i32 token;
    i32 split, n_used;
};

// First key of a turn of all teams. Unsigned: it may lie behind the last.
DEVICE u32 turn_start(const Walk& walk, i32 turn) {
    u32 round = turn / TURNS * walk.n_used + walk.split;
    return walk.seen.first + round * KEYS_AT_A_TIME + turn % TURNS * (TEAMS * STEP);
}
// The cell of key `lane % 16` of the team's turn; -1 if there is none.
DEVICE i32 cell_of_turn(const AttentionParams& p, const Walk& walk, u32 start) {
    u32 key = start + WARP_ID / TEAM * STEP + LANE % STEP;
    return key < (u32)walk.seen.end ? (i32)row_of_key(p, walk.seen, (i32)key, walk.token) : -1;
}

// Brings what a turn will read into the second cache: it takes no registers there.
DEVICE void prefetch_turn(const Rows& keys, const Rows& values, i32 cells) {
    if (cells < 0) return;
    for (int at = LANE / STEP * 128; at < ROW_BYTES; at += 128 * 2) {
        prefetch_l2(keys.start + (u64)(u32)cells * keys.pitch + at);
        prefetch_l2(values.start + (u64)(u32)cells * values.pitch + at);
    }
}

// The same for the first turn, while the launch before this one still runs. Who sees what may yet change, and nothing
// is done with it but to ask for memory that is there.
DEVICE void prefetch_guess(const AttentionParams& p, const Rows& keys, const Rows& values, i32 token, i32 split) {
    i32 slot = *(const volatile i32*)&p.slots[token], position = *(const volatile i32*)&p.positions[token];
    if (slot < 0 || slot >= p.n_slots || position < 0 || position >= (i64)p.n_pages * p.block.n) return;
    Walk walk = {seen_from(p, slot, position), token, split, 0};
    walk.n_used = splits_in_use(p, walk.seen.end - walk.seen.first);
    u32 key = turn_start(walk, 0) + WARP_ID / TEAM * STEP + LANE % STEP;
    if (split >= walk.n_used || key >= (u32)walk.seen.end) return;
    u32 at = divide(key, p.block);
    i32 page = *(const volatile i32*)&walk.seen.pages[at];
    i64 cell = (i64)page * p.block.n + (key - at * p.block.n);
    if (page >= 0 && cell < p.k.size[2]) prefetch_turn(keys, values, (i32)cell);
}

// Parts of the keys `row` and `row + 8`.
DEVICE void load_keys(Eight (&keys)[2][KEY_PARTS], const Rows& rows, i32 cells) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        i32 cell = __shfl_sync(FULL_MASK, cells, LANE / 4 + i * 8);
        const u8* at = rows.start + (u64)(u32)cell * rows.pitch;
#pragma unroll
        for (int part = 0; part < KEY_PARTS; part++) {
            keys[i][part] = load_eight(at, part * 32 + LANE % 4 * 8, cell >= 0);
        }
    }
}
// Parts of the values of keys `2 pair`, `2 pair + 1`, `2 pair + 8`, `2 pair + 9`.
DEVICE void load_values(Eight (&values)[4][VALUE_PARTS], const Rows& rows, i32 cells) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        i32 cell = __shfl_sync(FULL_MASK, cells, LANE % 4 * 2 + i % 2 + i / 2 * 8);
        const u8* at = rows.start + (u64)(u32)cell * rows.pitch;
#pragma unroll
        for (int part = 0; part < VALUE_PARTS; part++) {
            values[i][part] = load_eight(at, part * 64 + LANE / 4 * 8, cell >= 0);
        }
    }
}

// Products of keys with queries, of which `query` are this lane's. Two sums, so that one need not wait for the other.
DEVICE float4 products_of(const Eight (&keys)[2][KEY_PARTS], const u16* query) {
    float even[4] = {}, odd[4] = {};
#pragma unroll
    for (int part = 0; part < KEY_PARTS; part++) {
        uint4 q = *(const uint4*)&query[part * 32];
        uint4 upper = halves_of(keys[0][part]), lower = halves_of(keys[1][part]);
        mma(even, {upper.x, lower.x, upper.y, lower.y}, {q.x, q.y});
        mma(odd, {upper.z, lower.z, upper.w, lower.w}, {q.z, q.w});
    }
    return {even[0] + odd[0], even[1] + odd[1], even[2] + odd[2], even[3] + odd[3]};
}

// Adds values times weights: 16 rows of the result for each register of a part.
DEVICE void add_values(float (&sums)[VALUE_PARTS * 4][4], const Eight (&values)[4][VALUE_PARTS], const u32 (&weights)[2]) {
#pragma unroll
    for (int part = 0; part < VALUE_PARTS; part++) {
        uint4 v[4];
        for (int i = 0; i < 4; i++) v[i] = halves_of(values[i][part]);
#define ADD(i, word) \
    mma(sums[part * 4 + i], {lower_halves(v[0].word, v[1].word), upper_halves(v[0].word, v[1].word), \
                             lower_halves(v[2].word, v[3].word), upper_halves(v[2].word, v[3].word)}, weights)
        ADD(0, x);
        ADD(1, y);
        ADD(2, z);
        ADD(3, w);
#undef ADD
    }
}

// Eight sums from `at` on of a row, which lie in the order of registers: register at / 16 of lane row (at / 2) % 8.
DEVICE void store_result(const AttentionParams& p, i32 token, i32 head, int at, const float (&sum)[8]) {
    int elem = at / 64 * 64 + at % 16 / 2 * 8 + at % 64 / 16 * 2;
    float* out = (float*)p.out.data + out_offset(p, 0, token, head) + elem;
    for (int i = 0; i < 4; i++) *(float2*)(out + i * 8) = {sum[i * 2], sum[i * 2 + 1]};
}

// Asks for a part of the results of some splits from `first` on.
DEVICE void load_splits(uint4 (&batch)[SPLIT_BATCH], const u16* from, i32 first, i32 n_used) {
#pragma unroll
    for (int i = 0; i < SPLIT_BATCH; i++) {
        i32 split = first + i * SHARERS;
        batch[i] = {0, 0, 0, 0};
        if (split < n_used) batch[i] = *(const uint4*)(from + (i64)split * HEAD);
    }
}
DEVICE void add_scaled(float (&sum)[8], const uint4& x, float factor) {
    u32 pairs[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
    for (int i = 0; i < 8; i++) sum[i] += float_of((u16)(pairs[i / 2] >> i % 2 * 16)) * factor;
}
// The weight of each split in each head, and what they add up to.
DEVICE void weigh_splits(const AttentionParams& p, DecodeShared& shared, i64 first_row, i32 first_head, i32 n_heads,
                         i32 n_used) {
    for (int head = WARP_ID; head < n_heads; head += DECODE_WARPS) {
        const float2* stats = p.partial_stats + (first_row + head) * p.n_splits;
        float sink = sink_of(p, first_head + head) * LOG2_E, top = sink, total = 0.0f;
        for (int i = LANE; i < n_used; i += 32) top = fmaxf(top, stats[i].x);
        top = warp_max(top);
        float base = top == -INFINITY_F ? 0.0f : top;
        for (int i = LANE; i < n_used; i += 32) {
            float weight = stats[i].y * exp2_fast(stats[i].x - base);
            shared.factors[i][head] = weight;
            total += weight;
        }
        total = warp_sum(total) + exp2_fast(sink - base);
        if (LANE == 0) shared.shares[head] = total > 0.0f ? 1.0f / total : 0.0f;
    }
    __syncthreads();
}

// A token's heads as their products left them: each warp has a query, the first also the key, the second the value.
struct Unprepared {
    Head<HEAD / 2 / 32> query, key;
    float value[HEAD / 32];
};
DEVICE Unprepared load_unprepared(const QkPrep& heads, i32 token, i32 first_head, i32 n_heads, i32 key_head) {
    Unprepared own = {};
    if (WARP_ID < n_heads) own.query = load_head<HEAD / 2 / 32>(query_at(heads, token, first_head + WARP_ID), heads.q_weight);
    if (WARP_ID == 0) own.key = load_head<HEAD / 2 / 32>(key_at(heads, token, key_head), heads.k_weight);
    if (WARP_ID == 1) {
        const float* from = value_at(heads, token, key_head);
#pragma unroll
        for (int j = 0; j < HEAD / 32; j++) own.value[j] = from[j * 32 + LANE];
    }
    return own;
}
// Queries to shared memory; key and value to their cell, if the block will read it. All blocks that do write the same.
DEVICE void prepare(const QkPrep& heads, const Unprepared& own, DecodeShared& shared, i32 token, i32 key_head,
                    bool has_own_key) {
    i32 position = heads.pages.positions[token];
    bool reports = blockIdx.y == 0;
    u16* query = shared.query[WARP_ID];
    // What there is not is zeros.
    prepare_head(heads, own.query, position, [&](int i, float x) { query[i] = (u16)pack(x, 0.0f); });
    if (has_own_key && WARP_ID == 0) {
        i64 at = key_place(heads, token, key_head, reports);
        auto store = [&](int i, float x) { if (at >= 0) store_float(heads.k_cache, heads.cache_dtype, at + i, x); };
        prepare_head(heads, own.key, position, store);
    }
    if (has_own_key && WARP_ID == 1) {
        i64 at = value_place(heads, token, key_head, reports);
        for (int j = 0; j < HEAD / 32 && at >= 0; j++)
            store_float(heads.v_cache, heads.cache_dtype, at + j * 32 + LANE, own.value[j]);
    }
}

// With PREPARES, the one token's heads are made ready here; without, `heads` are not looked at.
template <bool PREPARES> DEVICE void decode(const AttentionParams& p, const QkPrep* heads) {
    DYNAMIC_SHARED(memory);
    DecodeShared& shared = *(DecodeShared*)memory;
    i32 split = blockIdx.x, token = blockIdx.z;
    i32 n_tiles = (p.group + HEADS - 1) / HEADS;
    i32 key_head = blockIdx.y / n_tiles, tile = blockIdx.y % n_tiles;
    i32 first_head = key_head * p.group + tile * HEADS;
    i32 n_heads = p.group - tile * HEADS < HEADS ? p.group - tile * HEADS : HEADS;
    i32 row = LANE / 4, pair = LANE % 4, team = WARP_ID / TEAM, first_elem = WARP_ID % TEAM * WIDTH;
    Rows keys = rows_of(p.k, p.key_planes, key_head, first_elem);
    Rows values = rows_of(p.v, p.value_planes, key_head, first_elem);
    if (!PREPARES && p.tile_tokens == 0) prefetch_guess(p, keys, values, token, split);
    WAIT();
    TRIGGER();
    if (!PREPARES && p.tile_tokens > 0) {
        i32 first = token / p.tile_tokens * p.tile_tokens, own = threadIdx.x;
        i32 n_own = p.q.size[2] - first < p.tile_tokens ? p.q.size[2] - first : p.tile_tokens;
        bool is_last = own < n_own && (own + 1 == n_own || ends_run(p, first + own));
        if (!is_mixed(__syncthreads_count(is_last), n_own)) return;
    }
    // Asked for first, used last.
    float query[QUERY_TURNS][8];
#pragma unroll
    for (int i = 0; i < QUERY_TURNS && !PREPARES; i++) {
        int at = i * THREADS + threadIdx.x, head = at / (HEAD / 8);
        i64 offset = token * p.q.stride[2] + (first_head + head) * p.q.stride[3] + at % (HEAD / 8) * 8;
        for (int e = 0; e < 8; e++) query[i][e] = 0.0f;
        if (at < QUERY_PARTS && head < n_heads) load_query_part(query[i], p, offset);
    }
    Unprepared unprepared = {};
    if constexpr (PREPARES) unprepared = load_unprepared(*heads, token, first_head, n_heads, key_head);
    Seen seen = seen_by(p, token);
    i32 n_used = splits_in_use(p, seen.end - seen.first);
    if (split >= n_used) return;
    Walk walk = {seen, token, split, n_used};

    // Keys and values of the next step are asked for as soon as the registers of this step's are free.
    Eight k[2][KEY_PARTS], v[4][VALUE_PARTS];
    i32 turn = 0;
    u32 start = turn_start(walk, turn), end = seen.end;
    i32 cells = cell_of_turn(p, walk, start);
    if constexpr (PREPARES) {
        // The last key is the token's own; where there is none, the first split says so.
        i32 last = end - seen.first - 1;
        prepare(*heads, unprepared, shared, token, key_head, split == (last < 0 ? 0 : last / KEYS_AT_A_TIME % n_used));
        __syncthreads();
    }
    load_keys(k, keys, cells);
    load_values(v, values, cells);
    i32 next_cells = cell_of_turn(p, walk, turn_start(walk, 1));
    prefetch_turn(keys, values, next_cells);
    if constexpr (!PREPARES) {
#pragma unroll
        for (int i = 0; i < QUERY_TURNS; i++) {
            int at = i * THREADS + threadIdx.x;
            if (at < QUERY_PARTS) *(uint4*)&shared.query[at / (HEAD / 8)][at % (HEAD / 8) * 8] = packed(query[i]);
        }
        __syncthreads();
    }

    float unit = score_unit(p);
    // Of the heads `2 pair` and `2 pair + 1`; totals of this lane's keys only.
    float largest[2] = {-INFINITY_F, -INFINITY_F}, totals[2] = {0.0f, 0.0f};
    float sums[VALUE_PARTS * 4][4] = {};
    while (start < end) {
        u32 next = turn_start(walk, turn + 1);
        i32 later_cells = cell_of_turn(p, walk, turn_start(walk, turn + 2));
        prefetch_turn(keys, values, later_cells);
        float4 products = products_of(k, &shared.query[row][first_elem + pair * 8]);
        if (TEAM > 1) {
            // One barrier for each step: the next step writes elsewhere.
            float4(&shares)[DECODE_WARPS][32] = shared.products[turn % 2];
            shares[WARP_ID][LANE] = products;
            __syncthreads();
            products = {0.0f, 0.0f, 0.0f, 0.0f};
            for (int i = 0; i < TEAM; i++) {
                float4 share = shares[team * TEAM + i][LANE];
                products = {products.x + share.x, products.y + share.y, products.z + share.z, products.w + share.w};
            }
        }
        load_keys(k, keys, next_cells);

        float scores[1][4] = {{products.x, products.y, products.z, products.w}};
        finish_scores(p, scores);
        // Pages without cells were reported and count as hidden.
        bool upper = __shfl_sync(FULL_MASK, cells, row) >= 0, lower = __shfl_sync(FULL_MASK, cells, row + 8) >= 0;
        float factors[2], w[4];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            float first = upper ? scores[0][i] : -INFINITY_F, second = lower ? scores[0][i + 2] : -INFINITY_F;
            float before = largest[i], own = fmaxf(first, second);
            for (int step = 4; step < 32; step *= 2) own = fmaxf(own, __shfl_xor_sync(FULL_MASK, own, step));
            largest[i] = fmaxf(before, own);
            float base = largest[i] == -INFINITY_F ? 0.0f : largest[i] * unit;
            factors[i] = exp2_fast(before * unit - base);
            w[i] = exp2_fast(first * unit - base);
            w[i + 2] = exp2_fast(second * unit - base);
            totals[i] = totals[i] * factors[i] + w[i] + w[i + 2];
        }
        u32 weights[2] = {turned_matrix(pack(w[0], w[1])), turned_matrix(pack(w[2], w[3]))};
#pragma unroll
        for (int i = 0; i < VALUE_PARTS * 4; i++) {
            for (int j = 0; j < 4; j++) sums[i][j] *= factors[j % 2];
        }
        add_values(sums, v, weights);
        load_values(v, values, next_cells);
        start = next;
        cells = next_cells;
        next_cells = later_cells;
        turn++;
    }

    // The teams' results: sums lie in the order of registers.
    for (int i = 0; i < 2; i++) {
        for (int step = 4; step < 32; step *= 2) totals[i] += __shfl_xor_sync(FULL_MASK, totals[i], step);
        if (row == 0 && first_elem == 0) shared.stats[team][pair * 2 + i] = {largest[i] * unit, totals[i]};
    }
#pragma unroll
    for (int i = 0; i < VALUE_PARTS * 4; i++) {
        for (int j = 0; j < 2; j++) {
            float* at = &shared.sums[team][pair * 2 + j][first_elem + i * 16 + row * 2];
            *(float2*)at = {sums[i][j], sums[i][j + 2]};
        }
    }
    __syncthreads();
    bool is_only = n_used == 1;
    i64 first_row = (i64)token * p.q.size[3] + first_head;
    // The first lane of each head's has its team's share in the result.
    if (threadIdx.x < HEADS * TEAMS) {
        int head = threadIdx.x % HEADS, own = threadIdx.x / HEADS;
        float sink = is_only && head < n_heads ? sink_of(p, first_head + head) * LOG2_E : -INFINITY_F, top = sink;
        for (int t = 0; t < TEAMS; t++) top = fmaxf(top, shared.stats[t][head].x);
        float base = top == -INFINITY_F ? 0.0f : top, total = exp2_fast(sink - base);
        for (int t = 0; t < TEAMS; t++) total += shared.stats[t][head].y * exp2_fast(shared.stats[t][head].x - base);
        float share = total > 0.0f ? 1.0f / total : 0.0f;
        shared.factors[own][head] = share * exp2_fast(shared.stats[own][head].x - base);
        if (!is_only && own == 0 && head < n_heads) {
            p.partial_stats[(first_row + head) * p.n_splits + split] = {top, total};
        }
    }
    __syncthreads();
    u16* partial = (u16*)p.partial_sums;
    for (int i = threadIdx.x; i < n_heads * (HEAD / 8); i += THREADS) {
        int head = i / (HEAD / 8), at = i % (HEAD / 8) * 8;
        float sum[8] = {};
        for (int t = 0; t < TEAMS; t++) {
            for (int e = 0; e < 8; e++) sum[e] += shared.sums[t][head][at + e] * shared.factors[t][head];
        }
        // A split's result is a mean of values: it needs no more bits than they have.
        if (is_only) store_result(p, token, first_head + head, at, sum);
        else *(uint4*)&partial[((first_row + head) * p.n_splits + split) * HEAD + at] = packed(sum);
    }
    if (is_only) return;

    // The last block of these rows to come here puts the splits together.
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) shared.n_done = atomicInc(&p.counters[token * gridDim.y + blockIdx.y], n_used - 1);
    __syncthreads();
    if (shared.n_done != (u32)n_used - 1) return;
    __threadfence();
    int sharer = threadIdx.x / RESULT_PARTS;
    for (int i = threadIdx.x % RESULT_PARTS; i < RESULT_PARTS; i += THREADS) {
        int head = i / (HEAD / 8), at = i % (HEAD / 8) * 8;
        bool is_there = head < n_heads;
        const u16* from = partial + (first_row + head) * p.n_splits * HEAD + at;
        uint4 batch[SPLIT_BATCH];
        load_splits(batch, from, sharer, is_there ? n_used : 0);
        if (i < THREADS) weigh_splits(p, shared, first_row, first_head, n_heads, n_used);
        float sum[8] = {};
        for (i32 s = sharer; s < n_used; s += SHARERS * SPLIT_BATCH) {
            if (s != sharer) load_splits(batch, from, s, is_there ? n_used : 0);
#pragma unroll
            for (int j = 0; j < SPLIT_BATCH; j++) {
                i32 own = s + j * SHARERS;
                if (own < n_used) add_scaled(sum, batch[j], shared.factors[own][head]);
            }
        }
        if (SHARERS > 1) {
            for (int e = 0; e < 8; e++) shared.sums[sharer][head][at + e] = sum[e];
            __syncthreads();
        }
        if (sharer > 0 || !is_there) continue;
        for (int other = 1; other < SHARERS; other++) {
            for (int e = 0; e < 8; e++) sum[e] += shared.sums[other][head][at + e];
        }
        for (int e = 0; e < 8; e++) sum[e] *= shared.shares[head];
        store_result(p, token, first_head + head, at, sum);
    }
}

KERNEL(attention_decode, AttentionParams, THREADS, HEAD > 64 ? 1 : 2) { decode<false>(p, nullptr); }

// `PreparedAttention` of attention/matrix.rs.
struct PreparedAttention {
    AttentionParams attention;
    QkPrep heads;
};
static_assert(sizeof(PreparedAttention) == 1888, "PreparedAttention of attention/matrix.rs");

KERNEL(attention_decode_heads, PreparedAttention, THREADS, 1) { decode<true>(p.attention, &p.heads); }
