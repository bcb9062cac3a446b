// The answers of a token's experts, each times its weight, added up in the order of the choices.

#include "floats.cuh"

// `WeightedSum` of stages/experts_many.rs: answers F32 or BF16 `[tokens, n_used, width]`, weights F32
// `[tokens, n_used]` and result F32 `[tokens, width]`, all gapless; the width is a multiple of 4.
struct WeightedSum {
    const u8* answers;
    const float* weights;
    float* out;
    i32 n_used;
    i32 width;
    i32 dtype;
    i32 pad;
};
static_assert(sizeof(WeightedSum) == 40, "WeightedSum of stages/experts_many.rs");

// Blocks along y are the tokens.
KERNEL(weighted_sum, WeightedSum, 256, 4) {
    WAIT();
    TRIGGER();
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i * 4 >= p.width) return;
    i64 token = blockIdx.y;
    Floats<4> sum = {};
#pragma unroll 8
    for (int j = 0; j < p.n_used; j++) {
        const Floats<4> y = load_floats<4>(p.answers, p.dtype, (token * p.n_used + j) * p.width + i * 4);
        float weight = p.weights[token * p.n_used + j];
        for (int e = 0; e < 4; e++) sum.v[e] += weight * y.v[e];
    }
    ((Floats<4>*)(p.out + token * p.width))[i] = sum;
}
