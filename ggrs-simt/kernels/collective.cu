// A collective of one member: a copy of gapless bytes.

#include "prelude.cuh"

struct CopyParams {
    const u8* from;
    u8* to;
    i64 n_bytes;
};
static_assert(sizeof(CopyParams) == 24, "CopyParams of collective.rs");

struct alignas(16) Sixteen {
    u32 words[4];
};

KERNEL(copy, CopyParams, 256, 4) {
    WAIT();
    TRIGGER();
    i64 first = (i64)blockIdx.x * blockDim.x + threadIdx.x, step = (i64)gridDim.x * blockDim.x;
    i64 n_wide = (((u64)p.from | (u64)p.to) & 15) == 0 ? p.n_bytes / 16 : 0;
    for (i64 i = first; i < n_wide; i += step) ((Sixteen*)p.to)[i] = ((const Sixteen*)p.from)[i];
    // Elements have four bytes.
    i64 n_words = p.n_bytes / 4;
    for (i64 i = n_wide * 4 + first; i < n_words; i += step) ((u32*)p.to)[i] = ((const u32*)p.from)[i];
}
