// Weights as fragments of matrix products: 32 of 128 elements of a row at once, from planes straight to the registers in
// which the matrix units want them. Files of products define FORMAT for it.
//
// Of every 128 elements of a row, each of four neighbouring lanes has those 32 that lie together in memory. So k is
// walked in an order of the format's own, and activations are converted in the same order: `element_in_order`.
// Decoded are 16 at a time, a half: `out[2 j + h]` holds two values, those of the lane for the step `j` of 16 values of
// k, half `h` of the step. The low half comes first: what both have in common is kept for the other.
//
// Fragments are F16: whole numbers are exact, scales and minimums are rounded to 11 bits, and so is the result. BF16
// weights stay what they are, and MXFP4 is BF16, which holds all of its values.

#include "half_pairs.cuh"
#include "planes.cuh"

// Whether fragments are F16 or BF16.
DEVICE constexpr bool is_f16(int format) { return format != BF16 && format != MXFP4; }

// 1024 in both halves of a register: a number below 1024 is added by setting its bits.
#define BIAS 0x64006400u
// The F16 of a whole number up to 2048, negative, in both halves.
DEVICE constexpr u32 minus(int n) {
    int exponent = 0;
    while (n >> (exponent + 1)) exponent++;
    u32 half = 0x8000u | (u32)(exponent + 15) << 10 | ((u32)n << (10 - exponent) & 0x3ffu);
    return half | half << 16;
}

// `word` with the bits of `mask` alone, and BIAS.
DEVICE u32 biased(u32 word, u32 mask) {
#if !defined(GGRS_SIM) && defined(__CUDA_ARCH__)
    u32 bits;
    asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(bits) : "r"(word), "r"(mask), "r"(BIAS));
    return bits;
#else
    return (word & mask) | BIAS;
#endif
}

// Numbers that are the low (0) or high (1) halves of the bytes of a word, and what more bits `upper` adds to them at bit
// 4 of each byte's 16: bytes 0 and 2, then 1 and 3. Less `LESS`, exact.
template <int HALF, int LESS> DEVICE void numbers(u32 word, u32 upper_even, u32 upper_odd, u32 (&pairs)[2]) {
    if constexpr (HALF == 0) {
        pairs[0] = add_f16(biased(word, 0x000f000fu) + (upper_even << 4), minus(1024 + LESS));
        pairs[1] = add_f16(biased(word >> 8, 0x000f000fu) + (upper_odd << 4), minus(1024 + LESS));
    } else {
        // In place, 16 times too large.
        pairs[0] = fma_f16(biased(word, 0x00f000f0u) + (upper_even << 8), 0x2c002c00u, minus(64 + LESS));
        pairs[1] = fma_f16(biased(word >> 8, 0x00f000f0u) + (upper_odd << 8), 0x2c002c00u, minus(64 + LESS));
    }
}
// Signed bytes: 0 and 2, then 1 and 3.
DEVICE void signed_numbers(u32 word, u32 (&pairs)[2]) {
    pairs[0] = add_f16((word & 0x00ff00ffu) ^ 0x64806480u, minus(1024 + 128));
    pairs[1] = add_f16((word >> 8 & 0x00ff00ffu) ^ 0x64806480u, minus(1024 + 128));
}
// Four codes of 16, one in a byte, by a table of 16 bytes in two words of eight.
DEVICE u32 look_up(u32 codes, u64 low, u64 high) {
    // The codes side by side in 16 bits; a selector has three of their bits, the fourth says which half.
    u32 packed = __byte_perm(codes | codes >> 4, 0, 0x4420);
    u32 first = __byte_perm((u32)low, (u32)(low >> 32), packed & 0x7777u);
    u32 second = __byte_perm((u32)high, (u32)(high >> 32), packed & 0x7777u);
    return __byte_perm(first, second, 0x3210u | (packed & 0x8888u) >> 1);
}

// The sixteen values of IQ4_NL and IQ4_XS, and twice those of E2M1 plus 16, one in a byte.
#define IQ4_CODES 0xf6eaddcfbfad9881ULL, 0x7159453526190d01ULL
#define E2M1_CODES 0x1c18161413121110ULL, 0x04080a0c0d0e0f10ULL

DEVICE u32 word16(const u8* at) { return *(const u16*)at; }
DEVICE u32 word32(const u8* at) { return *(const u32*)at; }
DEVICE uint2 word64(const u8* at) { return *(const uint2*)at; }
DEVICE uint4 word128(const u8* at) { return *(const uint4*)at; }
DEVICE void load_words(u32 (&to)[2], const u8* at) {
    uint2 words = word64(at);
    to[0] = words.x;
    to[1] = words.y;
}
DEVICE void load_words(u32 (&to)[4], const u8* at) {
    uint4 words = word128(at);
    to[0] = words.x;
    to[1] = words.y;
    to[2] = words.z;
    to[3] = words.w;
}
// Four bits as numbers: 0 and 2, then 1 and 3.
DEVICE u32 even_bits(u32 bits) { return (bits & 1) | (bits & 4) << 14; }
DEVICE u32 odd_bits(u32 bits) { return (bits >> 1 & 1) | (bits & 8) << 13; }

#define MEMBER __device__ __forceinline__

// What a lane holds of a row between loading and decoding. `row` is the first block of the row, counted from the start
// of the planes; `step` counts 128 elements; `t` is the lane's place among its four. Formats with blocks of 32 can end
// inside a step: what is past `last`, the last block, is the last block, and meets activations that are 0.
template <int FORMAT> struct Piece;

DEVICE u64 block_of_32(u32 row, int step, int t, int last) {
    int block = 4 * step + t;
    return row + (u64)(u32)(block < last ? block : last);
}

// --- blocks of 32 in 16 bytes of halves ----------------------------------------------------------------------------------

template <int FORMAT> struct PieceOf32 {
    u32 quants[4];
    u32 fifth;
    u32 factor;

    MEMBER void load(const Planes& p, u32 row, int step, int t, int last) {
        u64 block = block_of_32(row, step, t, last);
        load_words(quants, p.start[0] + block * 16);
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

    template <int HALF> MEMBER void decode(int, int, u32 (&out)[8]) const {
        const u32 scale = low_twice(factor), shift = high_twice(factor);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            u32 pairs[2];
            if constexpr (FORMAT == IQ4_NL) {
                signed_numbers(look_up(quants[i] >> 4 * HALF & 0x0f0f0f0fu, IQ4_CODES), pairs);
            } else if constexpr (FORMAT == Q5_0 || FORMAT == Q5_1) {
                u32 bits = fifth >> (16 * HALF + 4 * i);
                numbers<HALF, FORMAT == Q5_0 ? 16 : 0>(quants[i], even_bits(bits), odd_bits(bits), pairs);
            } else {
                numbers<HALF, FORMAT == Q4_0 ? 8 : 0>(quants[i], 0, 0, pairs);
            }
            for (int h = 0; h < 2; h++) {
                bool has_minimum = FORMAT == Q4_1 || FORMAT == Q5_1;
                out[2 * i + h] = has_minimum ? fma_f16(pairs[h], scale, shift) : multiply_f16(pairs[h], scale);
            }
        }
    }
};
template <> struct Piece<Q4_0> : PieceOf32<Q4_0> {};
template <> struct Piece<Q4_1> : PieceOf32<Q4_1> {};
template <> struct Piece<Q5_0> : PieceOf32<Q5_0> {};
template <> struct Piece<Q5_1> : PieceOf32<Q5_1> {};
template <> struct Piece<IQ4_NL> : PieceOf32<IQ4_NL> {};

template <> struct Piece<MXFP4> : PieceOf32<MXFP4> {
    template <int HALF> MEMBER void decode(int, int, u32 (&out)[8]) const {
        // Half of 2^(e - 127): the values of the table are doubled. -0 keeps the sign of what is 0.
        u32 half = factor < 2 ? 0x0020u << factor : (factor - 1) << 7, scale = half | half << 16;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            u32 values = look_up(quants[i] >> 4 * HALF & 0x0f0f0f0fu, E2M1_CODES);
            // 128 and the number, less 144.
            u32 even = fma_bf16((values & 0x00ff00ffu) | 0x43004300u, 0x3f803f80u, 0xc310c310u);
            u32 odd = fma_bf16((values >> 8 & 0x00ff00ffu) | 0x43004300u, 0x3f803f80u, 0xc310c310u);
            out[2 * i] = fma_bf16(even, scale, 0x80008000u);
            out[2 * i + 1] = fma_bf16(odd, scale, 0x80008000u);
        }
    }
};

// --- 32 neighbours ----------------------------------------------------------------------------------------------------------

template <> struct Piece<Q8_0> {
    u32 quants[2][4];
    u32 factor;

    MEMBER void load(const Planes& p, u32 row, int step, int t, int last) {
        u64 block = block_of_32(row, step, t, last);
        load_words(quants[0], p.start[0] + block * 32);
        load_words(quants[1], p.start[0] + block * 32 + 16);
        factor = word16(p.start[1] + block * 2);
    }
    template <int HALF> MEMBER void decode(int, int, u32 (&out)[8]) const {
        const u32 scale = low_twice(factor);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            u32 pairs[2];
            signed_numbers(quants[HALF][i], pairs);
            out[2 * i] = multiply_f16(pairs[0], scale);
            out[2 * i + 1] = multiply_f16(pairs[1], scale);
        }
    }
};

// Scalars of 16 bits; a block is 32 of them.
template <int FORMAT> struct PieceOfScalars {
    u32 values[4][4];

    MEMBER void load(const Planes& p, u32 row, int step, int t, int last) {
        const u8* at = p.start[0] + (u64)row * 16 + block_of_32(0, step, t, last) * 64;
        for (int i = 0; i < 4; i++) load_words(values[i], at + 16 * i);
    }
    template <int HALF> MEMBER void decode(int, int, u32 (&out)[8]) const {
#pragma unroll
        for (int i = 0; i < 8; i++) out[i] = values[2 * HALF + i / 4][i % 4];
    }
};
template <> struct Piece<F16> : PieceOfScalars<F16> {};
template <> struct Piece<BF16> : PieceOfScalars<BF16> {};

// --- blocks of 256 --------------------------------------------------------------------------------------------------------

// Runs of 64 in 32 bytes of halves, two lanes a run; a scale and a minimum for each 32.
template <int FORMAT> struct PieceOfRuns {
    u32 quants[4];
    u32 fifth[4];
    uint4 factors;
    // Of each half: the scale and the minimum.
    u32 both[2];

    MEMBER void load(const Planes& p, u32 row, int step, int t, int) {
        u64 block = row + ((u32)step >> 1);
        load_words(quants, p.start[0] + block * 128 + 64 * (step & 1) + 16 * t);
        if constexpr (FORMAT == Q5_K) load_words(fifth, p.start[1] + block * 32 + 16 * (t & 1));
        factors = word128(p.start[FORMAT == Q5_K ? 2 : 1] + block * 16);
    }
    template <int HALF> MEMBER void decode(int step, int t, u32 (&out)[8]) {
        if constexpr (HALF == 0) {
            // Scales and minimums of both halves of the run, six bits each, in the lowest two bytes.
            u32 scales = factors.y >> 16 * (t >> 1), minimums = factors.z >> 16 * (t >> 1);
            if (step & 1) {
                u32 lower = factors.w >> 16 * (t >> 1);
                scales = (scales & 0xc0c0u) >> 2 | (lower & 0x0f0fu);
                minimums = (minimums & 0xc0c0u) >> 2 | (lower >> 4 & 0x0f0fu);
            } else {
                scales &= 0x3f3fu;
                minimums &= 0x3f3fu;
            }
            // The scale in the low half, the minimum in the high one, times those of all; the minimum's sign turned.
            u32 of_all = factors.x ^ 0x80000000u;
            both[0] = multiply_f16(add_f16(__byte_perm(scales, minimums, 0x7470) | BIAS, minus(1024)), of_all);
            both[1] = multiply_f16(add_f16(__byte_perm(scales, minimums, 0x7571) | BIAS, minus(1024)), of_all);
        }
        const u32 scale = low_twice(both[HALF]), shift = high_twice(both[HALF]);
        const int bit = 4 * (step & 1) + 2 * (t >> 1) + HALF;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            u32 pairs[2];
            if constexpr (FORMAT == Q5_K) {
                u32 upper = fifth[i] >> bit;
                numbers<HALF, 0>(quants[i], upper & 0x00010001u, upper >> 8 & 0x00010001u, pairs);
            } else {
                numbers<HALF, 0>(quants[i], 0, 0, pairs);
            }
            out[2 * i] = fma_f16(pairs[0], scale, shift);
            out[2 * i + 1] = fma_f16(pairs[1], scale, shift);
        }
    }
};
template <> struct Piece<Q4_K> : PieceOfRuns<Q4_K> {};
template <> struct Piece<Q5_K> : PieceOfRuns<Q5_K> {};

template <> struct Piece<IQ4_XS> {
    u32 quants[4];
    uint2 factors;

    MEMBER void load(const Planes& p, u32 row, int step, int t, int) {
        u64 block = row + ((u32)step >> 1);
        load_words(quants, p.start[0] + block * 128 + 64 * (step & 1) + 16 * t);
        factors = word64(p.start[1] + block * 8);
    }
    template <int HALF> MEMBER void decode(int step, int t, u32 (&out)[8]) const {
        int group = 4 * (step & 1) + t;
        u32 six = (factors.y >> 4 * group & 15) | (factors.x >> (16 + 2 * group) & 3) << 4;
        const u32 scale = low_twice(multiply_f16(add_f16(six | BIAS, minus(1024 + 32)), factors.x));
#pragma unroll
        for (int i = 0; i < 4; i++) {
            u32 pairs[2];
            signed_numbers(look_up(quants[i] >> 4 * HALF & 0x0f0f0f0fu, IQ4_CODES), pairs);
            out[2 * i] = multiply_f16(pairs[0], scale);
            out[2 * i + 1] = multiply_f16(pairs[1], scale);
        }
    }
};

// Runs of 128 in 64 bytes of low halves; two more bits of each, 32 bytes for a run; a scale for each 16.
template <> struct Piece<Q6_K> {
    u32 low[4];
    u32 high[4];
    uint2 scales;
    u32 factor;
    // The scales of both halves.
    u32 both;

    MEMBER void load(const Planes& p, u32 row, int step, int t, int) {
        u64 block = row + ((u32)step >> 1);
        int run = step & 1;
        load_words(low, p.start[0] + block * 128 + 64 * run + 16 * t);
        load_words(high, p.start[1] + block * 64 + 32 * run + 16 * (t & 1));
        scales = word64(p.start[2] + block * 16 + 8 * run);
        factor = word16(p.start[3] + block * 2);
    }
    template <int HALF> MEMBER void decode(int, int t, u32 (&out)[8]) {
        if constexpr (HALF == 0) {
            // Signed bytes, those of the halves side by side, times that of all.
            u32 bytes = (scales.x >> 8 * t & 255) | (scales.y >> 8 * t & 255) << 16;
            both = multiply_f16(add_f16(bytes ^ 0x64806480u, minus(1024 + 128)), low_twice(factor));
        }
        const u32 scale = HALF ? high_twice(both) : low_twice(both);
        const int at = 2 * (t >> 1) + 4 * HALF;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            u32 pairs[2], upper = high[i] >> at;
            numbers<HALF, 32>(low[i], upper & 0x00030003u, upper >> 8 & 0x00030003u, pairs);
            out[2 * i] = multiply_f16(pairs[0], scale);
            out[2 * i + 1] = multiply_f16(pairs[1], scale);
        }
    }
};

// Two bits: runs of 128 in 32 bytes, each 32 of a run in the next pair of bits; a scale for each 16.
template <> struct Piece<Q2_K> {
    u32 quants[2];
    uint2 scales;
    u32 factors;

    MEMBER void load(const Planes& p, u32 row, int step, int t, int) {
        u64 block = row + ((u32)step >> 1);
        load_words(quants, p.start[0] + block * 64 + 32 * (step & 1) + 8 * t);
        scales = word64(p.start[1] + block * 16 + 8 * (step & 1));
        factors = word32(p.start[2] + block * 4);
    }
    template <int HALF> MEMBER void decode(int, int t, u32 (&out)[8]) const {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            // Scale and minimum in halves of a byte.
            u32 byte = (HALF ? scales.y : scales.x) >> (16 * i + 8 * (t >> 1));
            u32 both = (byte & 15) | (byte << 12 & 0x000f0000u);
            both = multiply_f16(add_f16(both | BIAS, minus(1024)), factors ^ 0x80000000u);
            const u32 scale = low_twice(both), shift = high_twice(both);
#pragma unroll
            for (int j = 0; j < 2; j++) {
                u32 two = quants[j] >> (4 * HALF + 2 * i);
                u32 even = add_f16(biased(two, 0x00030003u), minus(1024));
                u32 odd = add_f16(biased(two >> 8, 0x00030003u), minus(1024));
                out[4 * i + 2 * j] = fma_f16(even, scale, shift);
                out[4 * i + 2 * j + 1] = fma_f16(odd, scale, shift);
            }
        }
    }
};
template <> struct Piece<Q3_K> {
    u32 quants[2];
    u32 third[2];
    u32 scales[3];
    u32 factor;

    MEMBER void load(const Planes& p, u32 row, int step, int t, int) {
        u64 block = row + ((u32)step >> 1);
        load_words(quants, p.start[0] + block * 64 + 32 * (step & 1) + 8 * t);
        load_words(third, p.start[1] + block * 32 + 8 * t);
        for (int i = 0; i < 3; i++) scales[i] = word32(p.start[2] + block * 12 + 4 * i);
        factor = word16(p.start[3] + block * 2);
    }
    template <int HALF> MEMBER void decode(int step, int t, u32 (&out)[8]) const {
        const int run = step & 1;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            // Of 16 scales, the lower bits are halves of eight bytes, the upper ones pairs of four.
            int at = 16 * i + 8 * (t >> 1);
            u32 six = (scales[HALF] >> (4 * run + at) & 15) | (scales[2] >> (4 * run + 2 * HALF + at) & 3) << 4;
            const u32 scale = low_twice(multiply_f16(add_f16(six | BIAS, minus(1024 + 32)), factor));
#pragma unroll
            for (int j = 0; j < 2; j++) {
                u32 two = quants[j] >> (4 * HALF + 2 * i), one = third[j] >> (4 * run + 2 * HALF + i);
                u32 even = biased(two, 0x00030003u) + ((one & 0x00010001u) << 2);
                u32 odd = biased(two >> 8, 0x00030003u) + ((one >> 8 & 0x00010001u) << 2);
                out[4 * i + 2 * j] = multiply_f16(add_f16(even, minus(1024 + 4)), scale);
                out[4 * i + 2 * j + 1] = multiply_f16(add_f16(odd, minus(1024 + 4)), scale);
            }
        }
    }
};
