// Writing in place: rows by id, rows of tokens to the cells of a paged cache.

#include "floats.cuh"
#include "pages.cuh"
#include "quantise.cuh"

// `SetRowsParams` of cache.rs. A position is a row; the tensors of `rows` are the rows, the ids, and row 0 of the batch
// that is written to.
struct SetRowsParams {
    Axes rows;
    const u8* x;
    const u8* ids;
    u8* dst;
    FaultCell fault;
    // From an id to the next one, from a written row to the next one.
    i64 id_stride, row_stride;
    // Ids of a batch.
    Divisor n_ids;
    // Rows that can be written, elements of a row.
    i32 n_rows, width;
    i32 dtype, ids_dtype, dst_dtype, block_bytes;
    i32 pad;
};
static_assert(sizeof(SetRowsParams) == 288, "SetRowsParams of cache.rs");

struct RowPlaces {
    i64 x, dst;
    bool writes;
};

// Where row `blockIdx.x` comes from and goes to. Of several rows with one id the last one stays.
DEVICE RowPlaces row_places(const SetRowsParams& p) {
    WAIT();
    TRIGGER();
    i64 row = blockIdx.x;
    Places at = places_of(p.rows, row);
    i64 id = load_id(p.ids, p.ids_dtype, at.at[1]);
    if (id < 0 || id >= p.n_rows) {
        if (threadIdx.x == 0) report_fault(p.fault, row, id);
        return {0, 0, false};
    }
    int i = (int)((u32)row - divide((u32)row, p.n_ids) * p.n_ids.n);
    int is_again = 0;
    for (int j = i + 1 + (int)threadIdx.x; j < (int)p.n_ids.n; j += (int)blockDim.x) {
        is_again |= load_id(p.ids, p.ids_dtype, at.at[1] + (j - i) * p.id_stride) == id;
    }
    return {at.at[0], at.at[2] + id * p.row_stride, !__syncthreads_or(is_again)};
}

KERNEL(set_rows_floats, SetRowsParams, 256, 4) {
    RowPlaces at = row_places(p);
    if (!at.writes) return;
    for (int i = threadIdx.x; i < p.width; i += blockDim.x) {
        store_float(p.dst, p.dst_dtype, at.dst + i, load_float(p.x, p.dtype, at.x + i));
    }
}
KERNEL(set_rows_integers, SetRowsParams, 256, 4) {
    RowPlaces at = row_places(p);
    if (!at.writes) return;
    for (int i = threadIdx.x; i < p.width; i += blockDim.x) {
        if (p.dtype == I32) ((i32*)p.dst)[at.dst + i] = ((const i32*)p.x)[at.x + i];
        else ((i64*)p.dst)[at.dst + i] = ((const i64*)p.x)[at.x + i];
    }
}
// Threads are whole warps.
KERNEL(set_rows_blocks, SetRowsParams, 256, 4) {
    RowPlaces at = row_places(p);
    if (!at.writes) return;
    for (int start = 0; start < p.width; start += (int)blockDim.x) {
        int i = start + (int)threadIdx.x;
        bool is_there = i < p.width;
        float x = is_there ? load_float(p.x, p.dtype, at.x + i) : 0.0f;
        put_block(p.dst + (at.dst + i) / 32 * p.block_bytes, p.dst_dtype, x, is_there);
    }
}

// `CacheWriteParams` of cache.rs. A position is an element, four neighbours, or a block of a token's cell; the tensors of
// `axes` are the rows, the token, and the cell, in elements.
struct CacheWriteParams {
    Axes axes;
    const u8* x;
    u8* cache;
    Pages pages;
    PageFaults faults;
    i64 cell_elems;
    i32 dtype, cache_dtype, block_bytes;
    i32 pad;
};
static_assert(sizeof(CacheWriteParams) == 336, "CacheWriteParams of cache.rs");

// Tokens of a step have cells of their own: the order of writes means nothing.
template <int N> DEVICE void cache_write(const CacheWriteParams& p) {
    WAIT();
    TRIGGER();
    i64 i = thread_index();
    if (i >= p.axes.n) return;
    Places at = places_of(p.axes, i);
    Floats<N> x = load_floats<N>(p.x, p.dtype, at.at[0]);
    i64 cell = cell_of(p.pages, at.at[1], p.faults, true);
    if (cell >= 0) store_floats<N>(p.cache, p.cache_dtype, cell * p.cell_elems + at.at[2], x);
}
KERNEL(cache_write_4, CacheWriteParams, 256, 4) { cache_write<4>(p); }
KERNEL(cache_write_1, CacheWriteParams, 256, 4) { cache_write<1>(p); }

KERNEL(cache_write_blocks, CacheWriteParams, 256, 4) {
    WAIT();
    TRIGGER();
    i64 i = thread_index() / 32;
    bool is_there = i < p.axes.n;
    Places at = places_of(p.axes, is_there ? i : 0);
    float x = load_float(p.x, p.dtype, at.at[0] + LANE_OF_BLOCK);
    i64 cell = is_there ? cell_of(p.pages, at.at[1], p.faults, true) : -1;
    put_block(p.cache + (cell * p.cell_elems + at.at[2]) / 32 * p.block_bytes, p.cache_dtype, x, cell >= 0);
}
