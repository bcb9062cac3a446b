// Attention of many tokens over a paged cache, on matrix units. Built with HEAD, the width of keys and values, and KV,
// their dtype.
//
// A block has some neighbouring tokens with all query heads of one key head: a row for each. It walks the keys that
// they see in tiles, which are copied to shared memory while the one before is worked on. Neighbouring tokens of one
// slot are one run; of several runs in a block each has its own walk, in which the rows of the others see nothing.
// Where there are few such blocks, each walk is split over several. Blocks of many runs may be left to
// `attention_decode`.

#include "attention_tile.cuh"

#define PREFILL_WARPS (HEAD == 256 ? 4 : 8)
#define THREADS (32 * PREFILL_WARPS)
// Warps with the same 16 rows, of which each has its part of the values: registers do not take wider ones.
#define TEAM (HEAD > 256 ? 2 : 1)
#define ROWS (16 * PREFILL_WARPS / TEAM)
#define KEYS (HEAD > 128 ? 32 : 64)
// Are there registers to keep the queries?
#define KEEPS_QUERY (HEAD <= 128)
#define STEPS (HEAD / 16)
// Columns of the result in eights.
#define COLUMNS (HEAD / TEAM / 8)
// 16 bytes of a row.
#define CHUNKS (HEAD / 8)

struct __align__(16) Chunk {
    u16 elems[8];
};
struct PrefillShared {
    Chunk query[ROWS][CHUNKS];
    Chunk keys[2][KEYS][CHUNKS];
    Chunk values[2][KEYS][CHUNKS];
    i32 cells[2][KEYS];
    // Of each token: what it sees, and its slot; -1 if it sees nothing.
    i32 first[ROWS], end[ROWS], slot[ROWS];
    // A bit for each token that is the last of a run.
    u32 last_of_run[(ROWS + 31) / 32];
};

static_assert(sizeof(PrefillShared) == 2 * HEAD * (ROWS + 4 * KEYS) + 8 * KEYS + 12 * ROWS + (ROWS / 32 * 4 + 15) / 16 * 16,
              "Tile of matrix.rs");

// Chunk `chunk` of 8 from `first` on, a multiple of 8. Those of eight neighbouring rows lie in different banks.
template <int N> DEVICE Chunk* chunk_at(Chunk (&rows)[N][CHUNKS], int row, int first, int chunk) {
    return &rows[row][first] + (chunk ^ (row & 7));
}

// The 16x16 part `step` of 16 rows of queries.
DEVICE void load_query(u32 (&q)[4], PrefillShared& shared, int first_row, int step) {
    ldmatrix_x4(q, chunk_at(shared.query, first_row + LANE % 16, step / 4 * 8, step % 4 * 2 + LANE / 16));
}

DEVICE void copy_query(const AttentionParams& p, PrefillShared& shared, i32 first_token, i32 n_rows, i32 key_head) {
    for (int i = threadIdx.x; i < ROWS * CHUNKS; i += THREADS) {
        int row = i / CHUNKS, chunk = i % CHUNKS;
        i64 at = (first_token + row / p.group) * p.q.stride[2] + (key_head * p.group + row % p.group) * p.q.stride[3];
        float x[8] = {};
        if (row < n_rows) load_query_part(x, p, at + chunk * 8);
        *(uint4*)chunk_at(shared.query, row, chunk & ~7, chunk & 7) = packed(x);
    }
}

// Finds the cells of a tile of keys.
DEVICE void find_cells(const AttentionParams& p, i32 (&cells)[KEYS], const Seen& seen, i32 start, i32 token) {
    for (int i = threadIdx.x; i < KEYS; i += THREADS) {
        u32 key = (u32)start + i;
        cells[i] = key < (u32)seen.end ? (i32)row_of_key(p, seen, (i32)key, token) : -1;
    }
}

// Starts to copy a tile; rows without a cell are zeros.
DEVICE void copy_tile(Chunk (&tile)[KEYS][CHUNKS], const i32 (&cells)[KEYS], const Rows& rows) {
    static_assert(THREADS % CHUNKS == 0, "a thread stays in its column");
    int chunk = threadIdx.x % CHUNKS;
#pragma unroll 4
    for (int row = threadIdx.x / CHUNKS; row < KEYS; row += THREADS / CHUNKS) {
        i32 cell = cells[row];
        // The address must be good even if nothing is read.
        const u8* from = rows.start + (u64)(u32)(cell < 0 ? 0 : cell) * rows.pitch;
        copy_eight<KV>(chunk_at(tile, row, chunk & ~7, chunk & 7), from, chunk * 8, cell >= 0);
    }
}

// A lane's share of 16 rows: `row` and `row + 8`.
struct RowState {
    float sums[COLUMNS][4];
    float largest[2];
    // Of this lane's columns only.
    float totals[2];
};

// Works a tile of keys into the rows that see some of [first, end).
DEVICE void add_tile(const AttentionParams& p, PrefillShared& shared, const u32 (&query)[STEPS][4], RowState& state,
                     int buffer, i32 start, const i32 (&first)[2], const i32 (&end)[2], int first_row, int first_column,
                     float unit) {
    i32 stop = start + KEYS;
    bool sees_some = first[0] < stop && end[0] > start || first[1] < stop && end[1] > start;
    if (!__any_sync(FULL_MASK, sees_some)) return;
    float scores[KEYS / 8][4] = {};
#pragma unroll
    for (int step = 0; step < STEPS; step++) {
        u32 q[4];
        if (KEEPS_QUERY) for (int i = 0; i < 4; i++) q[i] = query[step][i];
        else load_query(q, shared, first_row, step);
#pragma unroll
        for (int tile = 0; tile < KEYS / 16; tile++) {
            u32 k[4];
            int key = tile * 16 + LANE / 16 * 8 + LANE % 8;
            ldmatrix_x4(k, chunk_at(shared.keys[buffer], key, step / 4 * 8, step % 4 * 2 + LANE / 8 % 2));
            mma(scores[tile * 2], q, {k[0], k[1]});
            mma(scores[tile * 2 + 1], q, {k[2], k[3]});
        }
    }

    finish_scores(p, scores);
    bool sees_all = first[0] <= start && end[0] >= stop && first[1] <= start && end[1] >= stop;
    if (!__all_sync(FULL_MASK, sees_all)) {
#pragma unroll
        for (int tile = 0; tile < KEYS / 8; tile++) {
            for (int i = 0; i < 4; i++) {
                i32 key = start + tile * 8 + LANE % 4 * 2 + i % 2;
                if (key < first[i / 2] || key >= end[i / 2]) scores[tile][i] = -INFINITY_F;
            }
        }
    }
    float bases[2], factors[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        float before = state.largest[i], top = before;
#pragma unroll
        for (int tile = 0; tile < KEYS / 8; tile++) top = fmaxf(top, fmaxf(scores[tile][i * 2], scores[tile][i * 2 + 1]));
        for (int step = 1; step < 4; step *= 2) top = fmaxf(top, __shfl_xor_sync(FULL_MASK, top, step));
        state.largest[i] = top;
        bases[i] = top == -INFINITY_F ? 0.0f : top * unit;
        factors[i] = exp2_fast(before * unit - bases[i]);
        state.totals[i] *= factors[i];
    }
    if (__any_sync(FULL_MASK, factors[0] != 1.0f || factors[1] != 1.0f)) {
#pragma unroll
        for (int column = 0; column < COLUMNS; column++) {
            for (int i = 0; i < 4; i++) state.sums[column][i] *= factors[i / 2];
        }
    }
#pragma unroll
    for (int tile = 0; tile < KEYS / 16; tile++) {
        float w[2][4];
        for (int half = 0; half < 2; half++) {
            for (int i = 0; i < 4; i++) {
                w[half][i] = exp2_fast(scores[tile * 2 + half][i] * unit - bases[i / 2]);
                state.totals[i / 2] += w[half][i];
            }
        }
        u32 weights[4] = {pack(w[0][0], w[0][1]), pack(w[0][2], w[0][3]), pack(w[1][0], w[1][1]), pack(w[1][2], w[1][3])};
#pragma unroll
        for (int column = 0; column < COLUMNS; column += 2) {
            u32 v[4];
            int key = tile * 16 + LANE % 16, first = first_column + column / 8 * 8;
            ldmatrix_x4_trans(v, chunk_at(shared.values[buffer], key, first, column % 8 + LANE / 16));
            mma(state.sums[column], weights, {v[0], v[1]});
            mma(state.sums[column + 1], weights, {v[2], v[3]});
        }
    }
}

KERNEL(attention_prefill, AttentionParams, THREADS, 1) {
    DYNAMIC_SHARED(memory);
    PrefillShared& shared = *(PrefillShared*)memory;
    i32 n_key_heads = p.k.size[3], n_tokens = p.q.size[2];
    i32 tile_tokens = ROWS / p.group;
    // Later tokens see more keys: the long walks come first.
    i32 tile = (i32)((gridDim.x - 1 - blockIdx.x) / n_key_heads), key_head = blockIdx.x % n_key_heads;
    i32 first_token = tile * tile_tokens;
    i32 n_own = n_tokens - first_token < tile_tokens ? n_tokens - first_token : tile_tokens;
    i32 n_rows = n_own * p.group;
    i32 first_row = WARP_ID / TEAM * 16, first_column = WARP_ID % TEAM * COLUMNS;
    WAIT();
    TRIGGER();

    if (threadIdx.x < ROWS) {
        i32 own = threadIdx.x;
        Seen seen = own < n_own ? seen_by(p, first_token + own) : Seen{0, 0, nullptr};
        shared.first[own] = seen.first;
        shared.end[own] = seen.end;
        shared.slot[own] = seen.end > seen.first ? p.slots[first_token + own] : -1;
    }
    copy_query(p, shared, first_token, n_rows, key_head);
    __syncthreads();
    // A run has no key that none of its tokens sees: it could hold anything.
    for (int base = 0; base < ROWS; base += THREADS) {
        int own = base + threadIdx.x;
        bool is_last = false;
        if (own < n_own) {
            is_last = own + 1 == n_own || ends_run(p, first_token + own);
        }
        u32 lanes = (u32)__ballot_sync(FULL_MASK, is_last);
        if (LANE == 0 && own < ROWS) shared.last_of_run[own / 32] = lanes;
    }
    __syncthreads();
    i32 n_runs = 0;
    for (int i = 0; i < (ROWS + 31) / 32; i++) n_runs += __popc(shared.last_of_run[i]);
    if (p.tile_tokens > 0 && is_mixed(n_runs, n_own)) return;

    u32 query[STEPS][4];
    if (KEEPS_QUERY) {
#pragma unroll
        for (int step = 0; step < STEPS; step++) load_query(query[step], shared, first_row, step);
    }
    float unit = score_unit(p);
    RowState state = {{}, {-INFINITY_F, -INFINITY_F}, {0.0f, 0.0f}};
    Rows keys = rows_of(p.k, p.key_planes, key_head, 0), values = rows_of(p.v, p.value_planes, key_head, 0);
    i32 row = first_row + LANE / 4, own[2] = {row / p.group, (row + 8) / p.group};

    for (i32 run = 0, next_run; run < n_own; run = next_run) {
        // The bit is there: the last token has one.
        i32 word = run / 32;
        u32 bits = shared.last_of_run[word] & (FULL_MASK << run % 32);
        while (bits == 0) bits = shared.last_of_run[++word];
        next_run = word * 32 + __ffs(bits);
        i32 slot = shared.slot[run];
        if (slot < 0) continue;
        i32 token = first_token + run;
        Seen seen = {shared.first[run], shared.end[next_run - 1], p.table + (i64)slot * p.n_pages};
        i32 first[2], end[2];
        for (int i = 0; i < 2; i++) {
            bool is_in = own[i] >= run && own[i] < next_run;
            first[i] = is_in ? shared.first[own[i]] : 0;
            end[i] = is_in ? shared.end[own[i]] : 0;
        }

        // The tiles are dealt out to the splits in turn.
        i32 stride = p.n_splits * KEYS, start = seen.first + (i32)blockIdx.y * KEYS;
        if (start >= seen.end) continue;
        i32 n_tiles = (seen.end - start + stride - 1) / stride;
        __syncthreads();
        find_cells(p, shared.cells[0], seen, start, token);
        find_cells(p, shared.cells[1], seen, start + stride, token);
        __syncthreads();
        copy_tile(shared.keys[0], shared.cells[0], keys);
        copy_tile(shared.values[0], shared.cells[0], values);
        cp_async_commit();
        for (i32 i = 0; i < n_tiles; i++) {
            int buffer = i % 2;
            cp_async_wait<0>();
            __syncthreads();
            if (i + 1 < n_tiles) {
                copy_tile(shared.keys[1 - buffer], shared.cells[1 - buffer], keys);
                copy_tile(shared.values[1 - buffer], shared.cells[1 - buffer], values);
                cp_async_commit();
                find_cells(p, shared.cells[buffer], seen, start + (i + 2) * stride, token);
            }
            add_tile(p, shared, query, state, buffer, start + i * stride, first, end, first_row, first_column,
                     unit);
        }
    }

    for (int i = 0; i < 2; i++) {
        for (int step = 1; step < 4; step *= 2) state.totals[i] += __shfl_xor_sync(FULL_MASK, state.totals[i], step);
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        if (row + i * 8 >= n_rows) continue;
        i32 head = key_head * p.group + (row + i * 8) % p.group, token = first_token + own[i];
        bool is_only = p.n_splits == 1;
        float sink = is_only ? sink_of(p, head) * LOG2_E : -INFINITY_F, own_top = state.largest[i] * unit;
        float top = fmaxf(own_top, sink);
        float base = top == -INFINITY_F ? 0.0f : top, weight = exp2_fast(own_top - base);
        float total = state.totals[i] * weight + exp2_fast(sink - base);
        float share = !is_only ? weight : total > 0.0f ? weight / total : 0.0f;
        i64 part = ((i64)token * p.q.size[3] + head) * p.n_splits + blockIdx.y;
        float* out = is_only ? (float*)p.out.data + out_offset(p, 0, token, head) : p.partial_sums + part * HEAD;
        // The combining launch counts in powers of e.
        if (!is_only && first_column == 0 && LANE % 4 == 0) p.partial_stats[part] = {top * LN_2, total};
        out += LANE % 4 * 2;
#pragma unroll
        for (int column = 0; column < COLUMNS; column++) {
            float2 two = {state.sums[column][i * 2] * share, state.sums[column][i * 2 + 1] * share};
            *(float2*)(out + (first_column + column) * 8) = two;
        }
    }
}
