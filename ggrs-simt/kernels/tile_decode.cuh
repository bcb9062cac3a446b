// Weights as fragments of matrix products: 16 of 64 elements of a row at once, from planes straight to the registers in
// which the matrix units want them, as BF16 rounded from the exact value. Files of products define FORMAT for it.
//
// Of every 64 elements of a row, each of four neighbouring lanes decodes those 16 that lie together in memory. So k is
// walked in an order of the format's own, and activations are converted in the same order: `element_in_order`.
// `out[2 j + h]` holds two values: those of the lane for the step `j` of 16 values of k, half `h`.

#include "matrix.cuh"
#include "planes.cuh"

// Four whole numbers up to 127, one in a byte, times `scale` plus `shift`. A byte becomes 128 + n by its place in a
// float: the product is exact and the sum the only rounding, of 2^-17 scales at most.
DEVICE void scale_bytes(u32 bytes, float scale, float shift, u32* out) {
    float from = fmaf(-128.0f, scale, shift);
#define SCALED(sel) fmaf(__uint_as_float(__byte_perm(bytes, 0x43000000u, sel)), scale, from)
    out[0] = pack_bf16(SCALED(0x7044), SCALED(0x7144));
    out[1] = pack_bf16(SCALED(0x7244), SCALED(0x7344));
#undef SCALED
}
// Four signed bytes times `scale`, exact: a byte becomes 2^15 + 128 + n.
DEVICE void scale_signed(u32 bytes, float scale, u32* out) {
    bytes ^= 0x80808080u;
#define SCALED(sel) ((__uint_as_float(__byte_perm(bytes, 0x47000000u, sel)) - 32896.0f) * scale)
    out[0] = pack_bf16(SCALED(0x7404), SCALED(0x7414));
    out[1] = pack_bf16(SCALED(0x7424), SCALED(0x7434));
#undef SCALED
}
// Four codes of 16, one in a byte, by a table of 16 bytes in two words of eight.
DEVICE u32 look_up(u32 codes, u64 low, u64 high) {
    // The codes side by side in 16 bits; a selector has three of their bits, the fourth says which half.
    u32 packed = __byte_perm(codes | codes >> 4, 0, 0x4420);
    u32 first = __byte_perm((u32)low, (u32)(low >> 32), packed & 0x7777u);
    u32 second = __byte_perm((u32)high, (u32)(high >> 32), packed & 0x7777u);
    return __byte_perm(first, second, 0x3210u | (packed & 0x8888u) >> 1);
}

// The sixteen values of IQ4_NL and IQ4_XS, and twice those of E2M1, one in a byte.
#define IQ4_CODES 0xf6eaddcfbfad9881ULL, 0x7159453526190d01ULL
#define E2M1_CODES 0x0c08060403020100ULL, 0xf4f8fafcfdfeff00ULL

DEVICE u32 low_nibbles(u32 word) { return word & 0x0f0f0f0fu; }
DEVICE u32 high_nibbles(u32 word) { return word >> 4 & 0x0f0f0f0fu; }
// Byte `i` of a word, below 64, as a float.
DEVICE float small_float(u32 word, int i) {
    return __uint_as_float(__byte_perm(word, 0x43000000u, 0x7044u | (u32)i << 8)) - 128.0f;
}
DEVICE u32 byte_of(u32 word, int i) { return word >> 8 * i & 255; }
DEVICE u32 word16(const u8* at) { return *(const u16*)at; }
DEVICE u32 word32(const u8* at) { return *(const u32*)at; }
DEVICE uint2 word64(const u8* at) { return *(const uint2*)at; }
DEVICE uint4 word128(const u8* at) { return *(const uint4*)at; }
// Four bits, each in bit 4 of a byte.
DEVICE u32 spread_bits(u32 bits) { return ((bits & 15) * 0x00204081u & 0x01010101u) << 4; }

// What a lane holds of a row between loading and decoding. `row` is the first block of the row, counted from the start
// of the planes; `step` counts 64 elements; `t` is the lane's place among its four.
template <int FORMAT> struct Piece;

// --- blocks of 32 in 16 bytes of halves: a lane has 8 bytes of one block ------------------------------------------------

template <int FORMAT> struct PieceOf32 {
    uint2 quants;
    u32 fifth;
    u32 factor;

    __device__ __forceinline__ void load(const Planes& p, u32 row, int step, int t) {
        u64 block = row + (u32)step * 2;
        quants = word64(p.start[0] + block * 16 + 8 * t);
        block += t >> 1;
        if constexpr (FORMAT == Q5_0 || FORMAT == Q5_1) {
            fifth = word32(p.start[1] + block * 4);
            factor = FORMAT == Q5_0 ? word16(p.start[2] + block * 2) : word32(p.start[2] + block * 4);
        } else if constexpr (FORMAT == Q4_1) {
            factor = word32(p.start[1] + block * 4);
        } else if constexpr (FORMAT == MXFP4) {
            factor = p.start[1][block];
        } else {
            factor = word16(p.start[1] + block * 2);
        }
    }

    __device__ __forceinline__ void decode(int, int t, u32 (&out)[8]) const {
        u32 words[4] = {low_nibbles(quants.x), low_nibbles(quants.y), high_nibbles(quants.x), high_nibbles(quants.y)};
        if constexpr (FORMAT == IQ4_NL) {
            float scale = f16_to_f32((u16)factor);
            for (int i = 0; i < 4; i++) scale_signed(look_up(words[i], IQ4_CODES), scale, out + 2 * i);
        } else if constexpr (FORMAT == MXFP4) {
            // Half of 2^(e - 127): the values of the table are doubled.
            float scale = __uint_as_float(factor < 2 ? 0x00200000u << factor : (factor - 1) << 23);
            for (int i = 0; i < 4; i++) scale_signed(look_up(words[i], E2M1_CODES), scale, out + 2 * i);
        } else {
            float scale = f16_to_f32((u16)factor), shift = 0.0f;
            if constexpr (FORMAT == Q5_0 || FORMAT == Q5_1) {
                u32 bits = fifth >> 8 * (t & 1);
                for (int i = 0; i < 4; i++) words[i] |= spread_bits(bits >> (4 * (i & 1) + 16 * (i >> 1)));
            }
            if constexpr (FORMAT == Q4_0) shift = -8.0f * scale;
            if constexpr (FORMAT == Q5_0) shift = -16.0f * scale;
            if constexpr (FORMAT == Q4_1 || FORMAT == Q5_1) shift = f16_to_f32((u16)(factor >> 16));
            for (int i = 0; i < 4; i++) scale_bytes(words[i], scale, shift, out + 2 * i);
        }
    }
};
template <> struct Piece<Q4_0> : PieceOf32<Q4_0> {};
template <> struct Piece<Q4_1> : PieceOf32<Q4_1> {};
template <> struct Piece<Q5_0> : PieceOf32<Q5_0> {};
template <> struct Piece<Q5_1> : PieceOf32<Q5_1> {};
template <> struct Piece<IQ4_NL> : PieceOf32<IQ4_NL> {};
template <> struct Piece<MXFP4> : PieceOf32<MXFP4> {};

// --- 16 neighbours --------------------------------------------------------------------------------------------------------

template <> struct Piece<Q8_0> {
    uint4 quants;
    u32 factor;

    __device__ __forceinline__ void load(const Planes& p, u32 row, int step, int t) {
        u64 block = row + (u32)step * 2;
        quants = word128(p.start[0] + block * 32 + 16 * t);
        factor = word16(p.start[1] + (block + (t >> 1)) * 2);
    }
    __device__ __forceinline__ void decode(int, int, u32 (&out)[8]) const {
        float scale = f16_to_f32((u16)factor);
        scale_signed(quants.x, scale, out);
        scale_signed(quants.y, scale, out + 2);
        scale_signed(quants.z, scale, out + 4);
        scale_signed(quants.w, scale, out + 6);
    }
};

// Scalars of 16 bits; a block is 8 of them.
template <int FORMAT> struct PieceOfScalars {
    uint4 first, second;

    __device__ __forceinline__ void load(const Planes& p, u32 row, int step, int t) {
        const u8* at = p.start[0] + (u64)row * 16 + (u64)(u32)step * 128 + 32 * t;
        first = word128(at);
        second = word128(at + 16);
    }
    __device__ __forceinline__ void decode(int, int, u32 (&out)[8]) const {
        u32 words[8] = {first.x, first.y, first.z, first.w, second.x, second.y, second.z, second.w};
        for (int i = 0; i < 8; i++) out[i] = words[i];
    }
};
template <> struct Piece<F16> : PieceOfScalars<F16> {};
template <> struct Piece<BF16> : PieceOfScalars<BF16> {};

// --- blocks of 256 --------------------------------------------------------------------------------------------------------

// Runs of 64 in 32 bytes of halves, a scale and a minimum for each 32.
template <int FORMAT> struct PieceOfRuns {
    uint2 quants;
    uint2 fifth;
    uint4 factors;

    __device__ __forceinline__ void load(const Planes& p, u32 row, int step, int t) {
        u64 block = row + ((u32)step >> 2);
        int run = step & 3;
        quants = word64(p.start[0] + block * 128 + 32 * run + 8 * t);
        if constexpr (FORMAT == Q5_K) fifth = word64(p.start[1] + block * 32 + 8 * t);
        factors = word128(p.start[FORMAT == Q5_K ? 2 : 1] + block * 16);
    }
    __device__ __forceinline__ void decode(int step, int, u32 (&out)[8]) const {
        int run = step & 3;
        // Scales and minimums of both halves of the run, six bits each, in the lowest two bytes.
        u32 scales = factors.y >> 16 * (run & 1), minimums = factors.z >> 16 * (run & 1);
        if (run < 2) {
            scales &= 0x3f3fu;
            minimums &= 0x3f3fu;
        } else {
            u32 lower = factors.w >> 16 * (run & 1);
            scales = (scales & 0xc0c0u) >> 2 | (lower & 0x0f0fu);
            minimums = (minimums & 0xc0c0u) >> 2 | (lower >> 4 & 0x0f0fu);
        }
        float scale = f16_to_f32((u16)factors.x), minimum = -f16_to_f32((u16)(factors.x >> 16));
        u32 words[4] = {low_nibbles(quants.x), low_nibbles(quants.y), high_nibbles(quants.x), high_nibbles(quants.y)};
        if constexpr (FORMAT == Q5_K) {
            words[0] |= (fifth.x >> 2 * run & 0x01010101u) << 4;
            words[1] |= (fifth.y >> 2 * run & 0x01010101u) << 4;
            words[2] |= (fifth.x >> (2 * run + 1) & 0x01010101u) << 4;
            words[3] |= (fifth.y >> (2 * run + 1) & 0x01010101u) << 4;
        }
        for (int half = 0; half < 2; half++) {
            float of_half = scale * small_float(scales, half);
            float shift = minimum * small_float(minimums, half);
            scale_bytes(words[2 * half], of_half, shift, out + 4 * half);
            scale_bytes(words[2 * half + 1], of_half, shift, out + 4 * half + 2);
        }
    }
};
template <> struct Piece<Q4_K> : PieceOfRuns<Q4_K> {};
template <> struct Piece<Q5_K> : PieceOfRuns<Q5_K> {};

template <> struct Piece<IQ4_XS> {
    uint2 quants;
    uint2 factors;

    __device__ __forceinline__ void load(const Planes& p, u32 row, int step, int t) {
        u64 block = row + ((u32)step >> 2);
        quants = word64(p.start[0] + block * 128 + 32 * (step & 3) + 8 * t);
        factors = word64(p.start[1] + block * 8);
    }
    __device__ __forceinline__ void decode(int step, int t, u32 (&out)[8]) const {
        int group = 2 * (step & 3) + (t >> 1);
        int six = (int)((factors.y >> 4 * group & 15) | (factors.x >> (16 + 2 * group) & 3) << 4) - 32;
        float scale = f16_to_f32((u16)factors.x) * (float)six;
        scale_signed(look_up(low_nibbles(quants.x), IQ4_CODES), scale, out);
        scale_signed(look_up(low_nibbles(quants.y), IQ4_CODES), scale, out + 2);
        scale_signed(look_up(high_nibbles(quants.x), IQ4_CODES), scale, out + 4);
        scale_signed(look_up(high_nibbles(quants.y), IQ4_CODES), scale, out + 6);
    }
};

// Steps of 64 are two runs of 32 that share their bytes of low halves: 64 elements apart.
template <> struct Piece<Q6_K> {
    uint2 low;
    uint2 high;
    uint2 scales;
    u32 factor;

    __device__ __forceinline__ void load(const Planes& p, u32 row, int step, int t) {
        u64 block = row + ((u32)step >> 2);
        int half = step >> 1 & 1, run = step & 1;
        low = word64(p.start[0] + block * 128 + 64 * half + 32 * run + 8 * t);
        high = word64(p.start[1] + block * 64 + 32 * half + 8 * t);
        scales = word64(p.start[2] + block * 16 + 8 * half);
        factor = word16(p.start[3] + block * 2);
    }
    __device__ __forceinline__ void decode(int step, int t, u32 (&out)[8]) const {
        int run = step & 1, group = 2 * run + (t >> 1);
        float scale = f16_to_f32((u16)factor);
        float first = scale * (float)(i8)byte_of(scales.x, group), second = scale * (float)(i8)byte_of(scales.y, group);
        u32 x = high.x >> 2 * run, y = high.y >> 2 * run;
        scale_bytes(low_nibbles(low.x) | (x & 0x03030303u) << 4, first, -32.0f * first, out);
        scale_bytes(low_nibbles(low.y) | (y & 0x03030303u) << 4, first, -32.0f * first, out + 2);
        scale_bytes(high_nibbles(low.x) | (x & 0x30303030u), second, -32.0f * second, out + 4);
        scale_bytes(high_nibbles(low.y) | (y & 0x30303030u), second, -32.0f * second, out + 6);
    }
};

// Two bits: runs of 128 in 32 bytes.
template <> struct Piece<Q2_K> {
    uint2 quants;
    u32 scales;
    u32 factors;

    __device__ __forceinline__ void load(const Planes& p, u32 row, int step, int t) {
        u64 block = row + ((u32)step >> 2);
        quants = word64(p.start[0] + block * 64 + 32 * (step >> 1 & 1) + 8 * t);
        scales = word32(p.start[1] + block * 16 + 4 * (step & 3));
        factors = word32(p.start[2] + block * 4);
    }
    __device__ __forceinline__ void decode(int step, int t, u32 (&out)[8]) const {
        float scale = f16_to_f32((u16)factors), minimum = -f16_to_f32((u16)(factors >> 16));
        for (int half = 0; half < 2; half++) {
            u32 both = byte_of(scales, 2 * half + (t >> 1));
            float of_half = scale * (float)(int)(both & 15), shift = minimum * (float)(int)(both >> 4);
            int at = 4 * (step & 1) + 2 * half;
            scale_bytes(quants.x >> at & 0x03030303u, of_half, shift, out + 4 * half);
            scale_bytes(quants.y >> at & 0x03030303u, of_half, shift, out + 4 * half + 2);
        }
    }
};
template <> struct Piece<Q3_K> {
    uint2 quants;
    uint2 third;
    u32 lower, upper;
    u32 factor;

    __device__ __forceinline__ void load(const Planes& p, u32 row, int step, int t) {
        u64 block = row + ((u32)step >> 2);
        quants = word64(p.start[0] + block * 64 + 32 * (step >> 1 & 1) + 8 * t);
        third = word64(p.start[1] + block * 32 + 8 * t);
        lower = word32(p.start[2] + block * 12 + 4 * (step & 1));
        upper = word32(p.start[2] + block * 12 + 8);
        factor = word16(p.start[3] + block * 2);
    }
    __device__ __forceinline__ void decode(int step, int t, u32 (&out)[8]) const {
        int run = step & 3;
        float scale = f16_to_f32((u16)factor);
        for (int half = 0; half < 2; half++) {
            int group = 2 * half + (t >> 1);
            u32 six = (byte_of(lower, group) >> 4 * (run >> 1) & 15) | (byte_of(upper, group) >> 2 * run & 3) << 4;
            float of_half = scale * (float)((int)six - 32), shift = -4.0f * of_half;
            int at = 4 * (run & 1) + 2 * half, bit = 2 * run + half;
            u32 x = (quants.x >> at & 0x03030303u) | (third.x >> bit & 0x01010101u) << 2;
            u32 y = (quants.y >> at & 0x03030303u) | (third.y >> bit & 0x01010101u) << 2;
            scale_bytes(x, of_half, shift, out + 4 * half);
            scale_bytes(y, of_half, shift, out + 4 * half + 2);
        }
    }
};
