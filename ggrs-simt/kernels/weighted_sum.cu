// The answers of a token's experts, each times its weight, added up in the order of the choices.

#include "floats.cuh"

// `WeightedSum` of stages/weighted_sum.rs: answers F32 `[tokens, n_used, width]`, weights F32 `[tokens, n_used]` and
// result F32 `[tokens, width]`, all gapless; the width is a multiple of 4.
struct WeightedSum {
    const float* answers;
    const float* weights;
    float* out;
    i32 n_used;
    i32 width;
};
static_assert(sizeof(WeightedSum) == 32, "WeightedSum of stages/weighted_sum.rs");

// Blocks along y are the tokens.
KERNEL(weighted_sum, WeightedSum, 256, 4) {
    WAIT();
    TRIGGER();
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i * 4 >= p.width) return;
    i64 token = blockIdx.y;
    const float* answers = p.answers + token * p.n_used * p.width;
    Floats<4> sum = {};
#pragma unroll 8
    for (int j = 0; j < p.n_used; j++) {
        Floats<4> y = ((const Floats<4>*)(answers + (i64)j * p.width))[i];
        float weight = p.weights[token * p.n_used + j];
        for (int e = 0; e < 4; e++) sum.v[e] += weight * y.v[e];
    }
    ((Floats<4>*)(p.out + token * p.width))[i] = sum;
}
