// Moving elements: copies of any view into any other, integers of another width, blocks as floats, rows by id.

#include "axes.cuh"
#include "formats.cuh"
#include "memory.cuh"

// `CopyParams` of movement.rs. The tensors of `axes` are both views, in bytes.
struct CopyParams {
    Axes axes;
    const u8* from;
    u8* to;
};
static_assert(sizeof(CopyParams) == 208, "CopyParams of movement.rs");

template <typename T> DEVICE void copy(const CopyParams& p) {
    WAIT();
    TRIGGER();
    i64 i = thread_index();
    if (i >= p.axes.n) return;
    Places at = places_of(p.axes, i);
    *(T*)(p.to + at.at[1]) = *(const T*)(p.from + at.at[0]);
}
KERNEL(copy_16, CopyParams, 256, 4) { copy<Quad>(p); }
KERNEL(copy_8, CopyParams, 256, 4) { copy<u64>(p); }
KERNEL(copy_4, CopyParams, 256, 4) { copy<u32>(p); }
KERNEL(copy_2, CopyParams, 256, 4) { copy<u16>(p); }
KERNEL(copy_1, CopyParams, 256, 4) { copy<u8>(p); }

// `ConvertParams` of movement.rs. The tensors of `axes` are x and the result.
struct ConvertParams {
    Axes axes;
    Planes planes;
    const u8* x;
    u8* out;
    i32 dtype, out_dtype;
};
static_assert(sizeof(ConvertParams) == 264, "ConvertParams of movement.rs");

// I32 to I64, and back: the low half.
KERNEL(cast_integers, ConvertParams, 256, 4) {
    WAIT();
    TRIGGER();
    i64 i = thread_index();
    if (i >= p.axes.n) return;
    Places at = places_of(p.axes, i);
    i64 value = load_id(p.x, p.dtype, at.at[0]);
    if (p.out_dtype == I32) ((i32*)p.out)[at.at[1]] = (i32)value;
    else ((i64*)p.out)[at.at[1]] = value;
}

// Elements of a block format as floats.
KERNEL(decode, ConvertParams, 256, 4) {
    WAIT();
    TRIGGER();
    i64 i = thread_index();
    if (i >= p.axes.n) return;
    Places at = places_of(p.axes, i);
    store_float(p.out, p.out_dtype, at.at[1], element(p.planes, p.dtype, at.at[0]));
}

// `GetRowsParams` of movement.rs. A position is a unit of a row of the result: an element, or some bytes. The tensors of
// `axes` are the ids and row 0 of the batch's table, in elements or in bytes.
struct GetRowsParams {
    Axes axes;
    Planes planes;
    const u8* table;
    const u8* ids;
    u8* out;
    FaultCell fault;
    // From a row of the table to the next one, likewise.
    i64 row_stride;
    // Rows `first..first + n` are here.
    i64 first, n, total;
    // Units of a row.
    i32 width;
    i32 dtype, ids_dtype;
    i32 pad;
};
static_assert(sizeof(GetRowsParams) == 328, "GetRowsParams of movement.rs");

// Where unit `i` lies in the table; below 0 if its row is elsewhere or nowhere.
DEVICE i64 place_in_table(const GetRowsParams& p, i64 i) {
    Places at = places_of(p.axes, i);
    i64 id = load_id(p.ids, p.ids_dtype, at.at[0]);
    if (id < 0 || id >= p.total) {
        report_fault(p.fault, i / p.width, id);
        return -1;
    }
    id -= p.first;
    return id < 0 || id >= p.n ? -1 : at.at[1] + id * p.row_stride;
}
template <typename T> DEVICE void get_rows(const GetRowsParams& p) {
    WAIT();
    TRIGGER();
    i64 i = thread_index();
    if (i >= p.axes.n) return;
    i64 at = place_in_table(p, i);
    ((T*)p.out)[i] = at < 0 ? T() : *(const T*)(p.table + at);
}
KERNEL(get_rows_16, GetRowsParams, 256, 4) { get_rows<Quad>(p); }
KERNEL(get_rows_4, GetRowsParams, 256, 4) { get_rows<u32>(p); }

// Halves and blocks as F32; a unit is an element.
KERNEL(get_rows_floats, GetRowsParams, 256, 4) {
    WAIT();
    TRIGGER();
    i64 i = thread_index();
    if (i >= p.axes.n) return;
    i64 at = place_in_table(p, i);
    float x = 0.0f;
    if (at >= 0) x = is_block(p.dtype) ? element(p.planes, p.dtype, at) : load_float(p.table, p.dtype, at);
    ((float*)p.out)[i] = x;
}
