// Products of F32 weights with F32 activations.

#include "prelude.cuh"

// `ProductF32` of product/floats.rs. Rows of weights and of x begin at multiples of 16 bytes; k is a multiple of 4.
struct ProductF32 {
    const float* weights;
    const float* x;
    float* out;
    i64 weight_pitch;
    i64 x_pitch;
    i32 m;
    i32 n;
    i32 k;
    i32 pad;
};
static_assert(sizeof(ProductF32) == 56, "ProductF32 of product/floats.rs");
