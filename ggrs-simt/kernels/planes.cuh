// Blocks of the block formats through their planes, and single elements of any dtype: what every kernel can fall back
// on. Field order per format: `fields` in planes.rs. Values are those of ggml's dequantisers, bit for bit.

#include "prelude.cuh"

// `Planes` of planes.rs. A scalar tensor has none.
struct Planes {
    const u8* start[4];
    u32 pitch[4];
};
static_assert(sizeof(Planes) == 48, "Planes of planes.rs");

DEVICE const u8* plane(const Planes& p, int i, i64 block) { return p.start[i] + block * p.pitch[i]; }
// Fields of tensors in the file's layout lie at odd addresses.
DEVICE u16 u16_at(const u8* at) { return (u16)(at[0] | at[1] << 8); }
