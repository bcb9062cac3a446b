// Products of many activations by matrix units: what a block is to compute. Tiles are TILE_ROWS rows of weights (with a
// gated unit: half of them gate and half up, in turns of 8) times N_TILE activations.

#include "gate.cuh"
#include "gemm_tiles.cuh"
#include "matrix.cuh"
#include "tile_decode.cuh"

// Weights of block formats are kept in planes by the device alone: they can be read before other launches are waited
// for. Others may be what a launch has just written.
#define IS_KEPT (FORMAT != F16 && FORMAT != BF16)

// Activations in shared memory: panels of 64 values of k, a row of 128 bytes for each activation. Where 16 bytes of a
// row lie: rows below each other use different banks.
DEVICE int swizzled(int row, int chunk) { return row * 128 + ((chunk ^ (row & 7)) << 4); }

// `Gemm` of gemm/params.rs.
struct Gemm {
    // Weights twice, or gate and up. Of scalars, the address is the first plane's.
    Planes planes[2];
    // Converted activations: rows of k.
    const u16* x;
    // What the products of each of them are multiplied with.
    const float* scales;
    // Rows of m: F32, or BF16 with an even m.
    u8* out;
    // By expert: runs of pairs, and the pairs. A pair is a row of the result. Dense: null.
    const Tile* tiles;
    const i32* pairs;
    // Blocks from a row of weights to the next, and from an expert to the next.
    u32 row_blocks[2];
    u32 expert_blocks[2];
    i32 m;
    // A multiple of 32; the rows of x have zeros up to whole steps of 128.
    i32 k;
    // Dense: activations.
    i32 n;
    // By expert: pairs that share a row of x.
    i32 pairs_per_row;
    i32 is_gated;
    i32 glu;
    i32 is_bf16;
    i32 pad;
};
static_assert(sizeof(Gemm) == 184, "Gemm of gemm/params.rs");

struct Task {
    Tile tile;
    // Which rows of weights.
    i32 rows;
};

// Dense: blocks that run together share weights and activations alike, 16 tiles of rows in a band.
DEVICE Task task_of(const Gemm& p, int n_tile, int block) {
    int rows_of_result = p.is_gated ? TILE_ROWS / 2 : TILE_ROWS;
    int row_tiles = (p.m + rows_of_result - 1) / rows_of_result;
    Task task;
    if (p.tiles) {
        task.rows = block % row_tiles;
        task.tile = p.tiles[block / row_tiles];
        return task;
    }
    const int BAND = 16;
    int column_tiles = (p.n + n_tile - 1) / n_tile;
    int band = block / (BAND * column_tiles), in_band = block % (BAND * column_tiles);
    int height = row_tiles - band * BAND < BAND ? row_tiles - band * BAND : BAND;
    task.rows = band * BAND + in_band % height;
    int first = in_band / height * n_tile;
    task.tile = {0, first, p.n - first < n_tile ? p.n - first : n_tile, 0};
    return task;
}

// First block of row `row` of the tile; rows past the last are the last.
DEVICE u32 weight_row(const Gemm& p, const Task& task, int row) {
    int which = row >> 3 & 1, at = task.rows * TILE_ROWS + row;
    if (p.is_gated) at = task.rows * (TILE_ROWS / 2) + (row >> 4) * 8 + (row & 7);
    if (at >= p.m) at = p.m - 1;
    return (u32)task.tile.expert * p.expert_blocks[which] + (u32)at * p.row_blocks[which];
}

// The row of x of activation `i` of the tile; those past the last are the last.
DEVICE u32 activation_row(const Gemm& p, const Tile& tile, int i) {
    int at = tile.first + (i < tile.count ? i : tile.count - 1);
    return (u32)(p.tiles ? p.pairs[at] / p.pairs_per_row : at);
}

// Where the row of the result of activation `i` of the tile begins, in elements.
DEVICE i64 result_row(const Gemm& p, const Tile& tile, int i) {
    int at = tile.first + i;
    return (i64)(p.tiles ? p.pairs[at] : at) * p.m;
}

// Pairs whose expert is elsewhere.
DEVICE void clear_tile(const Gemm& p, const Task& task, int n_threads) {
    int height = p.is_gated ? TILE_ROWS / 2 : TILE_ROWS, first = task.rows * height;
    for (int i = threadIdx.x; i < task.tile.count * height; i += n_threads) {
        int row = first + i % height;
        if (row < p.m) store_float(p.out, p.is_bf16 ? BF16 : F32, result_row(p, task.tile, i / height) + row, 0.0f);
    }
}

// The row of the result that a row of the tile has.
DEVICE int row_of_result(const Gemm& p, const Task& task, int row) {
    return p.is_gated ? task.rows * (TILE_ROWS / 2) + (row >> 4) * 8 + (row & 7) : task.rows * TILE_ROWS + row;
}

// A fragment of a lane: rows `row` and `row + 8` of the tile times columns `column` and `column + 1`. In a gated unit,
// these rows are the same row of gate and up.
struct Fragment {
    float first[2], second[2];
};

DEVICE void store_f32(const Gemm& p, const Task& task, int row, int column, const Fragment& f) {
    const int at = row_of_result(p, task, row);
    for (int i = 0; i < 2; i++) {
        if (column + i >= task.tile.count) return;
        float* out = (float*)p.out + result_row(p, task.tile, column + i);
        if (at < p.m) out[at] = f.first[i];
        if (!p.is_gated && at + 8 < p.m) out[at + 8] = f.second[i];
    }
}

// Two neighbouring rows at once: a lane swaps what the lane of the row above or below it stores. All lanes come here.
DEVICE void store_bf16(const Gemm& p, const Task& task, int row, int column, const Fragment& f) {
    const bool is_odd = row & 1;
    const int at = row_of_result(p, task, row & ~1);
    auto swap = [&](float for_even, float for_odd) {
        const float given = __shfl_xor_sync(FULL_MASK, is_odd ? for_even : for_odd, 4);
        return is_odd ? pack_bf16(given, for_odd) : pack_bf16(for_even, given);
    };
    auto store = [&](int i, int at, u32 two) {
        if (column + i < task.tile.count && at < p.m) *(u32*)((u16*)p.out + result_row(p, task.tile, column + i) + at) = two;
    };
    if (p.is_gated) {
        store(is_odd, at, swap(f.first[0], f.first[1]));
        return;
    }
    for (int i = 0; i < 2; i++) store(i, is_odd ? at + 8 : at, swap(f.first[i], f.second[i]));
}

DEVICE void store_sums(const Gemm& p, const Task& task, const float* scales, int row, int column, const float (&sums)[4]) {
    Fragment f;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        f.first[i] = sums[i] * scales[column + i];
        f.second[i] = sums[2 + i] * scales[column + i];
        if (p.is_gated) f.first[i] = glu_gate(p.glu, f.first[i]) * f.second[i];
    }
    if (p.is_bf16) store_bf16(p, task, row, column, f);
    else store_f32(p, task, row, column, f);
}
