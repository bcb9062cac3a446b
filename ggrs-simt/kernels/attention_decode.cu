// Attention of a few tokens over a paged cache, on matrix units. Built with HEAD, the width of keys and values, and KV,
// their dtype.
//
// A block has up to 8 query heads of one key head, for one token and one split of its keys. Keys and values go from
// memory straight to the registers of the matrix units: scores are keys (rows) by heads (columns), the result is values
// (rows) by heads. A product's terms may come in any order, and so may the rows of the result: lanes take those that
// lie side by side in memory. `row` and `pair` of a lane: see matrix.cuh.

#include "attention_tile.cuh"

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

struct DecodeShared {
    u16 query[HEADS][QUERY_PITCH];
    float4 products[2][DECODE_WARPS][32];
    float2 stats[TEAMS][HEADS];
    float sums[TEAMS][HEADS][SUM_PITCH];
};

static_assert(sizeof(DecodeShared) == 16 * (HEAD + 32) + 8192 + TEAMS * (64 + 32 * (HEAD + 4)), "Tile of matrix.rs");

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

KERNEL(attention_decode, AttentionParams, THREADS, 1) {
    DYNAMIC_SHARED(memory);
    DecodeShared& shared = *(DecodeShared*)memory;
    i32 split = blockIdx.x, token = blockIdx.z;
    i32 n_tiles = (p.group + HEADS - 1) / HEADS;
    i32 key_head = blockIdx.y / n_tiles, tile = blockIdx.y % n_tiles;
    i32 first_head = key_head * p.group + tile * HEADS;
    i32 n_heads = p.group - tile * HEADS < HEADS ? p.group - tile * HEADS : HEADS;
    i32 row = LANE / 4, pair = LANE % 4, team = WARP_ID / TEAM, first_elem = WARP_ID % TEAM * WIDTH;
    WAIT();
    TRIGGER();
    Seen seen = seen_by(p, token);
    i32 n_used = splits_in_use(p, seen.end - seen.first);
    if (split >= n_used) return;
    Walk walk = {seen, token, split, n_used};
    Rows keys = rows_of(p.k, p.key_planes, key_head, first_elem);
    Rows values = rows_of(p.v, p.value_planes, key_head, first_elem);

    // Keys and values of the next step are asked for as soon as the registers of this step's are free.
    Eight k[2][KEY_PARTS], v[4][VALUE_PARTS];
    i32 turn = 0;
    u32 start = turn_start(walk, turn), end = seen.end;
    i32 cells = cell_of_turn(p, walk, start);
    load_keys(k, keys, cells);
    load_values(v, values, cells);
    for (int i = threadIdx.x; i < HEADS * HEAD; i += THREADS) {
        int head = i / HEAD, e = i % HEAD;
        i64 at = token * p.q.stride[2] + (first_head + head) * p.q.stride[3] + e;
        shared.query[head][e] = head < n_heads ? half_of(load_float(p.q.data, p.q.dtype, at)) : (u16)0;
    }
    __syncthreads();

    // Of the heads `2 pair` and `2 pair + 1`; totals of this lane's keys only.
    float largest[2] = {-INFINITY_F, -INFINITY_F}, totals[2] = {0.0f, 0.0f};
    float sums[VALUE_PARTS * 4][4] = {};
    while (start < end) {
        u32 next = turn_start(walk, turn + 1);
        i32 next_cells = cell_of_turn(p, walk, next);
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

        // Pages without cells were reported and count as hidden.
        bool upper = __shfl_sync(FULL_MASK, cells, row) >= 0, lower = __shfl_sync(FULL_MASK, cells, row + 8) >= 0;
        float scores[4] = {
            upper ? scaled_score(p, products.x) : -INFINITY_F, upper ? scaled_score(p, products.y) : -INFINITY_F,
            lower ? scaled_score(p, products.z) : -INFINITY_F, lower ? scaled_score(p, products.w) : -INFINITY_F};
        float factors[2];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            float before = largest[i], own = fmaxf(scores[i], scores[i + 2]);
            for (int step = 4; step < 32; step *= 2) own = fmaxf(own, __shfl_xor_sync(FULL_MASK, own, step));
            largest[i] = fmaxf(before, own);
            float base = largest[i] == -INFINITY_F ? 0.0f : largest[i];
            factors[i] = exp2_fast(before - base);
            scores[i] = exp2_fast(scores[i] - base);
            scores[i + 2] = exp2_fast(scores[i + 2] - base);
            totals[i] = totals[i] * factors[i] + scores[i] + scores[i + 2];
        }
        u32 weights[2] = {turned_matrix(pack(scores[0], scores[1])), turned_matrix(pack(scores[2], scores[3]))};
#pragma unroll
        for (int i = 0; i < VALUE_PARTS * 4; i++) {
            for (int j = 0; j < 4; j++) sums[i][j] *= factors[j % 2];
        }
        add_values(sums, v, weights);
        load_values(v, values, next_cells);
        start = next;
        cells = next_cells;
        turn++;
    }

    // The teams' results: sums lie in the order of registers.
    for (int i = 0; i < 2; i++) {
        for (int step = 4; step < 32; step *= 2) totals[i] += __shfl_xor_sync(FULL_MASK, totals[i], step);
        if (row == 0 && first_elem == 0) shared.stats[team][pair * 2 + i] = {largest[i], totals[i]};
    }
#pragma unroll
    for (int i = 0; i < VALUE_PARTS * 4; i++) {
        for (int j = 0; j < 2; j++) {
            float* at = &shared.sums[team][pair * 2 + j][first_elem + i * 16 + row * 2];
            *(float2*)at = {sums[i][j], sums[i][j + 2]};
        }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < n_heads * HEAD; i += THREADS) {
        int head = i / HEAD, at = i % HEAD;
        float sink = n_used == 1 ? sink_of(p, first_head + head) * LOG2_E : -INFINITY_F, top = sink;
        for (int t = 0; t < TEAMS; t++) top = fmaxf(top, shared.stats[t][head].x);
        float base = top == -INFINITY_F ? 0.0f : top, total = exp2_fast(sink - base), sum = 0.0f;
        for (int t = 0; t < TEAMS; t++) {
            float weight = exp2_fast(shared.stats[t][head].x - base);
            total += shared.stats[t][head].y * weight;
            sum += shared.sums[t][head][at] * weight;
        }
        // Register i / 16 of lane row (i / 2) % 8: see `add_values`.
        int e = at / 64 * 64 + at % 16 / 2 * 8 + at % 64 / 16 * 2 + at % 2;
        if (n_used == 1) {
            float share = total > 0.0f ? 1.0f / total : 0.0f;
            ((float*)p.out.data)[out_offset(p, 0, token, first_head + head) + e] = sum * share;
            continue;
        }
        i64 part = ((i64)token * p.q.size[3] + first_head + head) * p.n_splits + split;
        p.partial_sums[part * HEAD + e] = sum;
        // The combining launch counts in powers of e.
        if (at == 0) p.partial_stats[part] = {top * LN_2, total};
    }
}
