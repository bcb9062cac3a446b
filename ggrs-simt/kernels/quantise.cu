// Floats, or blocks of another format, to blocks of 32: one lane for each element.

#include "axes.cuh"
#include "quantise.cuh"

// `QuantiseParams` of movement.rs. A position is a block of the result; the tensors of `axes` are x, by its elements,
// and the result, by its blocks.
struct QuantiseParams {
    Axes axes;
    Planes planes;
    const u8* x;
    u8* out;
    // From an element of x to the next one of its row.
    i64 step;
    i32 dtype, out_dtype, block_bytes;
    i32 pad;
};
static_assert(sizeof(QuantiseParams) == 280, "QuantiseParams of movement.rs");

KERNEL(quantise, QuantiseParams, 256, 4) {
    WAIT();
    TRIGGER();
    i64 block = thread_index() / 32;
    bool is_there = block < p.axes.n;
    Places at = places_of(p.axes, is_there ? block : 0);
    i64 from = at.at[0] + LANE_OF_BLOCK * p.step;
    float x = is_block(p.dtype) ? element(p.planes, p.dtype, from) : load_float(p.x, p.dtype, from);
    put_block(p.out + at.at[1] * p.block_bytes, p.out_dtype, x, is_there);
}
