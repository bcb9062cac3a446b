// Writers of the block formats of 32 elements, each element in one of 32 neighbouring lanes. Rounding is that of ggml's
// reference quantisers, to the bit: no multiplication is joined with an addition.

#include "formats.cuh"

// The lane's element of its block.
#define LANE_OF_BLOCK ((int)threadIdx.x & 31)

// `x` of the lane that has it, and what all 32 lanes have, taken together.
template <typename T> DEVICE T of_block(T x, int lane) { return __shfl_sync(FULL_MASK, x, lane, 32); }
template <typename T, typename F> DEVICE T reduce_block(T x, F join) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) x = join(x, __shfl_xor_sync(FULL_MASK, x, step));
    return x;
}

// The element of largest magnitude, with its sign; the first one where several are equal. A NaN is never the largest.
DEVICE float extreme_of_block(float x) {
    u32 bits = x == x ? __float_as_uint(x) & 0x7fffffffu : 0;
    u32 most = reduce_block(bits, [](u32 a, u32 b) { return a > b ? a : b; });
    int lane = reduce_block(bits == most ? LANE_OF_BLOCK : 32, [](int a, int b) { return a < b ? a : b; });
    float extreme = of_block(x, lane);
    return most == 0 ? 0.0f : extreme;
}
DEVICE float inverse_or_0(float d) { return d == 0.0f ? 0.0f : 1.0f / d; }

DEVICE void put_half(u8* at, float x) { *(u16*)at = f32_to_f16(x); }
// `(x - minimum) * inverse + half`, cut off, as a level of 0..=most.
DEVICE int level_of(float x, float minimum, float inverse, float half, int most) {
    int level = __float2int_rz(__fadd_rn(__fmul_rn(x - minimum, inverse), half));
    return level < 0 ? 0 : level > most ? most : level;
}
// Levels of four bits: byte `j` has those of the elements `j` and `j + 16`.
DEVICE void put_nibbles(u8* at, int level, bool writes) {
    int other = __shfl_xor_sync(FULL_MASK, level, 16);
    if (writes && LANE_OF_BLOCK < 16) at[LANE_OF_BLOCK] = (u8)((level & 15) | (other & 15) << 4);
}
// Levels of five bits: all fifth bits, then the rest.
DEVICE void put_fives(u8* at, int level, bool writes) {
    u32 fifth = reduce_block((u32)level >> 4 << LANE_OF_BLOCK, [](u32 a, u32 b) { return a | b; });
    if (writes && LANE_OF_BLOCK < 2) ((u16*)at)[LANE_OF_BLOCK] = (u16)(fifth >> 16 * LANE_OF_BLOCK);
    put_nibbles(at + 4, level, writes);
}

DEVICE void put_q8_0(u8* block, float x, bool writes) {
    float d = reduce_block(fabsf(x), [](float a, float b) { return fmaxf(a, b); }) / 127.0f;
    float scaled = __fmul_rn(x, inverse_or_0(d));
    int whole = __float2int_rz(scaled);
    float rest = scaled - (float)whole;
    if (!writes) return;
    block[2 + LANE_OF_BLOCK] = (u8)(whole + (rest >= 0.5f) - (rest <= -0.5f));
    if (LANE_OF_BLOCK == 0) put_half(block, d);
}

// Q4_0 and Q5_0: levels around a middle one.
DEVICE void put_centred(u8* block, bool has_fives, float x, bool writes) {
    float middle = has_fives ? 16.0f : 8.0f;
    float d = extreme_of_block(x) / -middle;
    int level = level_of(x, 0.0f, inverse_or_0(d), middle + 0.5f, has_fives ? 31 : 15);
    if (writes && LANE_OF_BLOCK == 0) put_half(block, d);
    if (has_fives) put_fives(block + 2, level, writes);
    else put_nibbles(block + 2, level, writes);
}

// Q4_1 and Q5_1: levels above the minimum.
DEVICE void put_from_minimum(u8* block, bool has_fives, float x, bool writes) {
    float low = reduce_block(x, [](float a, float b) { return fminf(a, b); });
    float high = reduce_block(x, [](float a, float b) { return fmaxf(a, b); });
    int most = has_fives ? 31 : 15;
    float d = (high - low) / (float)most;
    int level = level_of(x, low, inverse_or_0(d), 0.5f, most);
    if (writes && LANE_OF_BLOCK == 0) {
        put_half(block, d);
        put_half(block + 2, low);
    }
    if (has_fives) put_fives(block + 4, level, writes);
    else put_nibbles(block + 4, level, writes);
}

// The level whose value is next to `x`, the upper one where `x` lies in the middle.
DEVICE int nearest_iq4(float x) {
    int upper = 0;
    while (upper < 15 && x >= (float)iq4_value(upper)) upper++;
    int lower = upper > 0 ? upper - 1 : 0;
    return x - (float)iq4_value(lower) < (float)iq4_value(upper) - x ? lower : upper;
}
DEVICE void put_iq4_nl(u8* block, float x, bool writes) {
    float most = extreme_of_block(x);
    bool is_zero = fabsf(most) < 1e-15f;
    int level = is_zero ? 0 : nearest_iq4(__fmul_rn(1.0f / (most / (float)iq4_value(0)), x));
    // The scale that is best for these levels with errors weighted by x^2, summed in order.
    float q = (float)iq4_value(level), weighted = x * x * q;
    float qx = 0.0f, qq = 0.0f;
    for (int lane = 0; lane < 32; lane++) {
        qx = __fadd_rn(qx, of_block(weighted * x, lane));
        qq = __fadd_rn(qq, of_block(weighted * q, lane));
    }
    if (writes && LANE_OF_BLOCK == 0) put_half(block, is_zero ? 0.0f : qx / qq);
    put_nibbles(block + 2, level, writes);
}

// Writes a block; all lanes of a warp must come, those of a block with the same `block`, `dtype` and `writes`.
DEVICE void put_block(u8* block, i32 dtype, float x, bool writes) {
    switch (dtype) {
        case Q8_0: put_q8_0(block, x, writes); break;
        case Q4_0: put_centred(block, false, x, writes); break;
        case Q5_0: put_centred(block, true, x, writes); break;
        case Q4_1: put_from_minimum(block, false, x, writes); break;
        case Q5_1: put_from_minimum(block, true, x, writes); break;
        case IQ4_NL: put_iq4_nl(block, x, writes); break;
        default: break;
    }
}
