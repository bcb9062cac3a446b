// Arithmetic on two 16-bit floats in a register.

#include "prelude.cuh"

#if !defined(GGRS_SIM) && defined(__CUDA_ARCH__)

DEVICE u32 add_f16(u32 a, u32 b) {
    u32 sum;
    asm("add.rn.f16x2 %0, %1, %2;" : "=r"(sum) : "r"(a), "r"(b));
    return sum;
}
DEVICE u32 multiply_f16(u32 a, u32 b) {
    u32 product;
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(product) : "r"(a), "r"(b));
    return product;
}
// a b + c, rounded once.
DEVICE u32 fma_f16(u32 a, u32 b, u32 c) {
    u32 sum;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(a), "r"(b), "r"(c));
    return sum;
}
DEVICE u32 fma_bf16(u32 a, u32 b, u32 c) {
    u32 sum;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(a), "r"(b), "r"(c));
    return sum;
}

#else

#define LOW(x) f16_to_f32((u16)(x))
#define HIGH(x) f16_to_f32((u16)((x) >> 16))
DEVICE u32 both_f16(float low, float high) { return (u32)f32_to_f16(low) | (u32)f32_to_f16(high) << 16; }
DEVICE u32 add_f16(u32 a, u32 b) { return both_f16(LOW(a) + LOW(b), HIGH(a) + HIGH(b)); }
DEVICE u32 multiply_f16(u32 a, u32 b) { return both_f16(LOW(a) * LOW(b), HIGH(a) * HIGH(b)); }
// a b + c: the product of two F16 is exact in F32.
DEVICE u32 fma_f16(u32 a, u32 b, u32 c) { return both_f16(LOW(a) * LOW(b) + LOW(c), HIGH(a) * HIGH(b) + HIGH(c)); }
#undef LOW
#undef HIGH
DEVICE u32 fma_bf16(u32 a, u32 b, u32 c) {
    float low = bf16_to_f32((u16)a) * bf16_to_f32((u16)b) + bf16_to_f32((u16)c);
    float high = bf16_to_f32((u16)(a >> 16)) * bf16_to_f32((u16)(b >> 16)) + bf16_to_f32((u16)(c >> 16));
    return (u32)f32_to_bf16(low) | (u32)f32_to_bf16(high) << 16;
}

#endif

// One of a pair, twice.
DEVICE u32 low_twice(u32 pair) { return __byte_perm(pair, 0, 0x1010); }
DEVICE u32 high_twice(u32 pair) { return __byte_perm(pair, 0, 0x3232); }
