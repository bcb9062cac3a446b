// Blocks of a weight from the file's layout into planes, and back: one field of every block per launch.

#include "prelude.cuh"

// `Repack` of weights.rs.
struct Repack {
    u8* native;
    u8* plane;
    u64 n_blocks;
    u32 block_bytes;
    u32 field_start;
    u32 field_bytes;
    u32 back;
};
static_assert(sizeof(Repack) == 40, "Repack of weights.rs");

// Units of bytes that divide the block and the field.
template <typename T> DEVICE void repack_units(const Repack& p) {
    u32 per_block = p.block_bytes / sizeof(T), per_field = p.field_bytes / sizeof(T), first = p.field_start / sizeof(T);
    u64 n = p.n_blocks * per_field;
    T* native = (T*)p.native;
    T* plane = (T*)p.plane;
    u64 stride = (u64)gridDim.x * blockDim.x;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += stride) {
        u64 at = i / per_field * per_block + first + i % per_field;
        if (p.back) native[at] = plane[i];
        else plane[i] = native[at];
    }
}

KERNEL(repack, Repack, 256, 1) {
    WAIT();
    u32 bits = p.block_bytes | p.field_bytes | p.field_start;
    if (bits % 16 == 0) repack_units<uint4>(p);
    else if (bits % 4 == 0) repack_units<u32>(p);
    else if (bits % 2 == 0) repack_units<u16>(p);
    else repack_units<u8>(p);
}
