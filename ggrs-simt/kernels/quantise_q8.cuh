// Activations of 8 bits: what the products of block formats multiply. A group is 32 elements of a row with one scale
// `d`, so that x = d * q, -127 <= q <= 127. The scale lies with d * (sum of the q), which formats with a minimum need.
//
// The layout of rows, wherever they are written (a launch of its own, or the end of a norm, an attention, a gate):
// row `r` has its `k` quants at `quants + r * k` and its `k / 32` scales at `scales + r * k / 32`. `k` is a multiple
// of 32; `quants` starts at a multiple of 16 bytes, `scales` at one of 8.

#include "prelude.cuh"

struct __attribute__((aligned(16))) Row4 {
    float v[4];
};

struct __attribute__((aligned(8))) Q8Scale {
    float d, sum;
};

// `Q8` of product/q8.rs.
struct Q8 {
    i8* quants;
    Q8Scale* scales;
    i32 k;
    i32 pad;
};
static_assert(sizeof(Q8) == 24, "Q8 of product/q8.rs");

// Of a row in shared memory, quants lie so that threads that are a unit of 32 or 64 apart do not meet in a bank: 16 bytes
// within 128 change places, in another way for each of four 128.
DEVICE u32 q8_swizzled(u32 i) { return i ^ (i >> 3 & 0x30) ^ (i >> 1 & 0x40); }
// Bytes of its quants: whole 128.
DEVICE i32 q8_padded(i32 k) { return (k + 127) & ~127; }
// Row `row` of `n` in shared memory: quants of all, then scales of all. As `Q8::shared_bytes` of product/q8.rs.
DEVICE Q8 q8_shared(u8* memory, i32 n, i32 row, i32 k) {
    u8* scales = memory + n * q8_padded(k);
    return {(i8*)memory + row * q8_padded(k), (Q8Scale*)scales + row * (k / 32), k, 0};
}

DEVICE i8* q8_quants(const Q8& q, i64 row) { return q.quants + row * q.k; }
DEVICE Q8Scale* q8_scales(const Q8& q, i64 row) { return q.scales + row * (q.k / 32); }

// The largest magnitude of a group from its bits, which keep a NaN on top: the lanes that hold it are `n` neighbours.
template <int N> DEVICE float q8_magnitude(u32 bits) {
#pragma unroll
    for (int step = N / 2; step > 0; step /= 2) {
        u32 other = __shfl_xor_sync(FULL_MASK, bits, step);
        bits = bits > other ? bits : other;
    }
    return __uint_as_float(bits);
}
DEVICE u32 q8_bits(float x) { return __float_as_uint(x) & 0x7fffffffu; }
// Where the magnitude is too small for its inverse to be finite, or none, all quants are 0.
DEVICE float q8_inverse(float magnitude) { return magnitude > 1e-36f ? __fdividef(127.0f, magnitude) : 0.0f; }
DEVICE float q8_scale(float magnitude) { return magnitude * (1.0f / 127.0f); }
DEVICE int q8_quant(float x, float inverse) { return __float2int_rn(x * inverse); }

// Writes four elements `i..i + 4` of a row; `i` is a multiple of 4. The 8 lanes `8 * n..` of a warp must hold one group
// in order, and all lanes of the warp must call it; what a lane with `writes` false holds is not stored.
template <bool IS_SWIZZLED = false>
DEVICE void q8_store4(const Q8& q, i64 row, int i, const float x[4], bool writes = true) {
    u32 bits = q8_bits(x[0]);
#pragma unroll
    for (int j = 1; j < 4; j++) bits = bits > q8_bits(x[j]) ? bits : q8_bits(x[j]);
    float magnitude = q8_magnitude<8>(bits);
    float d = q8_scale(magnitude), inverse = q8_inverse(magnitude);
    u32 quants[4];
#pragma unroll
    for (int j = 0; j < 4; j++) quants[j] = (u32)q8_quant(x[j], inverse);
    u32 packed = __byte_perm(__byte_perm(quants[0], quants[1], 0x0040), __byte_perm(quants[2], quants[3], 0x0040), 0x5410);
    int sum = __dp4a(0x01010101, (int)packed, 0);
#pragma unroll
    for (int step = 4; step > 0; step /= 2) sum += __shfl_xor_sync(FULL_MASK, sum, step);
    if (!writes) return;
    *(u32*)(q8_quants(q, row) + (IS_SWIZZLED ? q8_swizzled(i) : i)) = packed;
    if (i % 32 == 0) q8_scales(q, row)[i / 32] = Q8Scale{d, d * (float)sum};
}

// The same for one element: the 32 lanes `32 * n..` of a warp must hold one group in order.
DEVICE void q8_store1(const Q8& q, i64 row, int i, float x, bool writes = true) {
    float magnitude = q8_magnitude<32>(q8_bits(x));
    float d = q8_scale(magnitude), inverse = q8_inverse(magnitude);
    int quant = q8_quant(x, inverse);
    int sum = quant;
#pragma unroll
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(FULL_MASK, sum, step);
    if (!writes) return;
    q8_quants(q, row)[i] = (i8)quant;
    if (i % 32 == 0) q8_scales(q, row)[i / 32] = Q8Scale{d, d * (float)sum};
}
