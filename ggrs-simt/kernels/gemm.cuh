// Products of many activations by matrix units: what a block is to compute. Tiles are TILE_ROWS rows of weights (with a
// gated unit: half of them gate and half up, in turns of 8) times N_TILE activations.

#include "floats.cuh"
#include "gate.cuh"
#include "gemm_tiles.cuh"
#include "matrix.cuh"
#include "tile_decode.cuh"

// Weights of block formats are kept in planes by the device alone: they can be read before other launches are waited
// for. Others may be what a launch has just written.
#define IS_KEPT (FORMAT != F16 && FORMAT != BF16)

// `Gemm` of gemm/params.rs.
struct Gemm {
    // Weights twice, or gate and up. Of scalars, the address is the first plane's.
    Planes planes[2];
    // Converted activations: rows of k.
    const u16* x;
    // What the products of each of them are multiplied with.
    const float* scales;
    // Rows of m.
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
    // Of the result.
    i32 dtype;
    i32 pad;
};
static_assert(sizeof(Gemm) == 184, "Gemm of gemm/params.rs");

// Rows of the result that a tile has.
DEVICE int rows_of_tile(const Gemm& p) { return p.is_gated ? TILE_ROWS / 2 : TILE_ROWS; }

struct Task {
    Tile tile;
    // Which rows of weights.
    i32 rows;
};

// Dense: blocks that run together share weights and activations alike, 16 tiles of rows in a band.
DEVICE Task task_of(const Gemm& p, int n_tile, int block) {
    int row_tiles = (p.m + rows_of_tile(p) - 1) / rows_of_tile(p);
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
    const int height = rows_of_tile(p), first = task.rows * height;
    for (int i = threadIdx.x; i < task.tile.count * height; i += n_threads) {
        int row = first + i % height;
        if (row < p.m) store_float(p.out, p.dtype, result_row(p, task.tile, i / height) + row, 0.0f);
    }
}

// Sums of a tile in shared memory, activation by activation: floats from one to the next, so many that the lanes of a
// fragment write to different banks.
#define SUMS_PITCH (TILE_ROWS + 4)

// One fragment of sums: rows `row` and `row + 8` of the tile times columns `column` and `column + 1`.
DEVICE void keep_sums(float* kept, int row, int column, const float (&sums)[4]) {
#pragma unroll
    for (int i = 0; i < 4; i++) kept[(column + i % 2) * SUMS_PITCH + row + i / 2 * 8] = sums[i];
}

// Writes the results of a tile, four neighbours at once.
DEVICE void store_tile(const Gemm& p, const Task& task, const float* scales, const float* kept, int n_threads) {
    const int fours = rows_of_tile(p) / 4, four = threadIdx.x % fours * 4;
    const int at = task.rows * rows_of_tile(p) + four;
    // Gate and up in turns of 8.
    const int row = p.is_gated ? (four >> 3) * 16 + (four & 7) : four;
    const bool is_whole = p.m % 4 == 0 && (u64)p.out % 16 == 0;
#pragma unroll 2
    for (int column = threadIdx.x / fours; column < task.tile.count; column += n_threads / fours) {
        const float* from = kept + column * SUMS_PITCH + row;
        Floats<4> y = *(const Floats<4>*)from;
#pragma unroll
        for (int e = 0; e < 4; e++) y.v[e] *= scales[column];
        if (p.is_gated) {
            const Floats<4> up = *(const Floats<4>*)(from + 8);
#pragma unroll
            for (int e = 0; e < 4; e++) y.v[e] = glu_gate(p.glu, y.v[e]) * (up.v[e] * scales[column]);
        }
        const i64 to = result_row(p, task.tile, column) + at;
        if (is_whole && at < p.m) store_floats<4>(p.out, p.dtype, to, y);
        else for (int e = 0; e < 4 && at + e < p.m; e++) store_float(p.out, p.dtype, to + e, y.v[e]);
    }
}
