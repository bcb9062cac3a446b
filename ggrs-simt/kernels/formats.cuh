// Single elements of the block formats, through planes: what get_rows and the generic products read with, and what
// every faster kernel must agree with. Values are those of ggml's dequantisers, bit for bit: all factors but the last sum are
// exact in F32, so it does not matter whether that sum is fused.

#include "planes.cuh"

// Elements of a block; 1 for scalars.
DEVICE constexpr int block_elems(int dtype) {
    switch (dtype) {
        case Q4_0: case Q4_1: case Q5_0: case Q5_1: case Q8_0: case IQ4_NL: case MXFP4: return 32;
        case Q2_K: case Q3_K: case Q4_K: case Q5_K: case Q6_K: case IQ4_XS: return 256;
        default: return 1;
    }
}
DEVICE constexpr bool is_block(int dtype) { return block_elems(dtype) > 1; }

// The planes moved on by so many blocks.
DEVICE Planes planes_from(const Planes& p, i64 block) {
    Planes at = p;
    for (int i = 0; i < 4; i++) at.start[i] = p.start[i] + block * p.pitch[i];
    return at;
}

DEVICE float f16_at(const u8* at) { return f16_to_f32(u16_at(at)); }

// Element `i` of 32 four-bit numbers in 16 bytes: the low halves, then the high ones.
DEVICE int nibble_of_32(const u8* q, int i) { return q[i & 15] >> (i >> 4 << 2) & 15; }
// Element `i` of 256 four-bit numbers: runs of 64 in 32 bytes, the low halves, then the high ones.
DEVICE int nibble_of_64(const u8* q, int i) { return q[i >> 6 << 5 | (i & 31)] >> (i >> 5 << 2 & 4) & 15; }
// Element `i` of 256 two-bit numbers: runs of 128 in 32 bytes, each 32 of a run in the next pair of bits.
DEVICE int pair_of_128(const u8* q, int i) { return q[i >> 7 << 5 | (i & 31)] >> (i >> 5 << 1 & 6) & 3; }
// Bit of element `i` of 256: each 32 in the next bit of 32 bytes.
DEVICE int bit_of_256(const u8* q, int i) { return q[i & 31] >> (i >> 5) & 1; }

// Scale and minimum, six bits each, of group `g` of 8 in the 12 bytes of Q4_K and Q5_K.
DEVICE void scale_and_minimum(const u8* packed, int g, int& scale, int& minimum) {
    if (g < 4) {
        scale = packed[g] & 63;
        minimum = packed[g + 4] & 63;
    } else {
        scale = (packed[g + 4] & 15) | packed[g - 4] >> 6 << 4;
        minimum = packed[g + 4] >> 4 | packed[g] >> 6 << 4;
    }
}
// Scale, six bits, of group `g` of 16 in the 12 bytes of Q3_K.
DEVICE int scale_of_q3_k(const u8* packed, int g) {
    return ((packed[g & 7] >> (g >> 3 << 2) & 15) | (packed[8 + (g & 3)] >> (g >> 2 << 1) & 3) << 4) - 32;
}
// Scale, six bits, of group `g` of 8: `packed` is two bytes with the upper bits, then four with the lower ones.
DEVICE int scale_of_iq4_xs(const u8* packed, int g) {
    return ((packed[2 + (g >> 1)] >> ((g & 1) << 2) & 15) | (u16_at(packed) >> (2 * g) & 3) << 4) - 32;
}

// The sixteen values of IQ4_NL and IQ4_XS, and twice those of E2M1, one in a byte.
#define IQ4_LOW 0xf6eaddcfbfad9881ULL
#define IQ4_HIGH 0x7159453526190d01ULL
#define E2M1_LOW 0x0c08060403020100ULL
#define E2M1_HIGH 0xf4f8fafcfdfeff00ULL
DEVICE int iq4_value(int code) { return (i8)((code & 8 ? IQ4_HIGH : IQ4_LOW) >> (code & 7) * 8); }
DEVICE int e2m1_doubled(int code) { return (i8)((code & 8 ? E2M1_HIGH : E2M1_LOW) >> (code & 7) * 8); }
// Half of the E8M0 scale `e`, 2^(e - 128): the factor of doubled E2M1 values.
DEVICE float e8m0_half(int e) { return __uint_as_float(e < 2 ? 0x00200000u << e : (u32)(e - 1) << 23); }

// Element `i` of a block.
template <int FORMAT> DEVICE float element_of(const Planes& p, i64 block, int i) {
    const u8* q = plane(p, 0, block);
    if constexpr (FORMAT == Q4_0) {
        return (float)(nibble_of_32(q, i) - 8) * f16_at(plane(p, 1, block));
    } else if constexpr (FORMAT == Q4_1) {
        const u8* scales = plane(p, 1, block);
        return (float)nibble_of_32(q, i) * f16_at(scales) + f16_at(scales + 2);
    } else if constexpr (FORMAT == Q5_0 || FORMAT == Q5_1) {
        const u8* scales = plane(p, 2, block);
        int five = nibble_of_32(q, i) | (plane(p, 1, block)[i >> 3] >> (i & 7) & 1) << 4;
        if (FORMAT == Q5_0) return (float)(five - 16) * f16_at(scales);
        return (float)five * f16_at(scales) + f16_at(scales + 2);
    } else if constexpr (FORMAT == Q8_0) {
        return (float)(i8)q[i] * f16_at(plane(p, 1, block));
    } else if constexpr (FORMAT == IQ4_NL) {
        return f16_at(plane(p, 1, block)) * (float)iq4_value(nibble_of_32(q, i));
    } else if constexpr (FORMAT == MXFP4) {
        return e8m0_half(*plane(p, 1, block)) * (float)e2m1_doubled(nibble_of_32(q, i));
    } else if constexpr (FORMAT == Q2_K) {
        int scale = plane(p, 1, block)[i >> 4];
        const u8* factors = plane(p, 2, block);
        float part = f16_at(factors) * (float)(scale & 15) * (float)pair_of_128(q, i);
        return part - f16_at(factors + 2) * (float)(scale >> 4);
    } else if constexpr (FORMAT == Q3_K) {
        int three = pair_of_128(q, i) | bit_of_256(plane(p, 1, block), i) << 2;
        float scale = f16_at(plane(p, 3, block)) * (float)scale_of_q3_k(plane(p, 2, block), i >> 4);
        return scale * (float)(three - 4);
    } else if constexpr (FORMAT == Q4_K || FORMAT == Q5_K) {
        const u8* factors = plane(p, FORMAT == Q4_K ? 1 : 2, block);
        int quant = nibble_of_64(q, i);
        if (FORMAT == Q5_K) quant |= bit_of_256(plane(p, 1, block), i) << 4;
        int scale, minimum;
        scale_and_minimum(factors + 4, i >> 5, scale, minimum);
        float part = f16_at(factors) * (float)scale * (float)quant;
        return part - f16_at(factors + 2) * (float)minimum;
    } else if constexpr (FORMAT == Q6_K) {
        // Runs of 128 in 64 bytes of low halves.
        int low = q[i >> 7 << 6 | (i & 63)] >> (i >> 6 << 2 & 4) & 15;
        int six = (low | pair_of_128(plane(p, 1, block), i) << 4) - 32;
        float scale = f16_at(plane(p, 3, block)) * (float)(i8)plane(p, 2, block)[i >> 4];
        return scale * (float)six;
    } else if constexpr (FORMAT == IQ4_XS) {
        const u8* factors = plane(p, 1, block);
        float scale = f16_at(factors) * (float)scale_of_iq4_xs(factors + 2, i >> 5);
        return scale * (float)iq4_value(nibble_of_32(q + (i >> 5 << 4), i & 31));
    } else {
        return 0.0f;
    }
}

// `CALL(FORMAT)` for the block format that `dtype` is.
#define WITH_FORMAT(dtype, CALL) \
    switch (dtype) { \
        case Q4_0: CALL(Q4_0); break; \
        case Q4_1: CALL(Q4_1); break; \
        case Q5_0: CALL(Q5_0); break; \
        case Q5_1: CALL(Q5_1); break; \
        case Q8_0: CALL(Q8_0); break; \
        case Q2_K: CALL(Q2_K); break; \
        case Q3_K: CALL(Q3_K); break; \
        case Q4_K: CALL(Q4_K); break; \
        case Q5_K: CALL(Q5_K); break; \
        case Q6_K: CALL(Q6_K); break; \
        case IQ4_NL: CALL(IQ4_NL); break; \
        case IQ4_XS: CALL(IQ4_XS); break; \
        case MXFP4: CALL(MXFP4); break; \
        default: break; \
    }

// Element `elem` of a tensor of a block format, counted from where the planes start.
DEVICE float element(const Planes& p, i32 dtype, i64 elem) {
    float value = 0.0f;
#define ELEMENT(FORMAT) value = element_of<FORMAT>(p, elem / block_elems(FORMAT), (int)(elem % block_elems(FORMAT)))
    WITH_FORMAT(dtype, ELEMENT)
#undef ELEMENT
    return value;
}
