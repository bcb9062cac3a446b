// Functions of the elements of one tensor or of two that are repeated against each other. Arithmetic is in F32.

#include "axes.cuh"
#include "floats.cuh"
#include "gate.cuh"

// `MapParams` of elementwise.rs. The tensors of `axes` are a, b and the result; a position is an element, or four
// neighbours of each tensor that is not repeated along the last axis.
struct MapParams {
    Axes axes;
    const u8* a;
    const u8* b;
    u8* out;
    i32 dtypes[3];
    i32 kind;
    float alpha, beta;
};
static_assert(sizeof(MapParams) == 240, "MapParams of elementwise.rs");

template <int N> DEVICE Floats<N> operand(const MapParams& p, int tensor, const Places& at) {
    const u8* data = tensor == 0 ? p.a : p.b;
    if (N == 1 || p.axes.stride[tensor][4] != 0) return load_floats<N>(data, p.dtypes[tensor], at.at[tensor]);
    float one = load_float(data, p.dtypes[tensor], at.at[tensor]);
    Floats<N> all;
#pragma unroll
    for (int i = 0; i < N; i++) all.v[i] = one;
    return all;
}

template <int N, typename F> DEVICE void map_one(const MapParams& p, F f) {
    WAIT();
    TRIGGER();
    i64 i = thread_index();
    if (i >= p.axes.n) return;
    Places at = places_of(p.axes, i);
    Floats<N> x = operand<N>(p, 0, at);
#pragma unroll
    for (int j = 0; j < N; j++) x.v[j] = f(x.v[j]);
    store_floats<N>(p.out, p.dtypes[2], at.at[2], x);
}

template <int N, typename F> DEVICE void map_two(const MapParams& p, F f) {
    WAIT();
    TRIGGER();
    i64 i = thread_index();
    if (i >= p.axes.n) return;
    Places at = places_of(p.axes, i);
    Floats<N> a = operand<N>(p, 0, at), b = operand<N>(p, 1, at);
#pragma unroll
    for (int j = 0; j < N; j++) a.v[j] = f(a.v[j], b.v[j]);
    store_floats<N>(p.out, p.dtypes[2], at.at[2], a);
}

// Numbered as `BinaryKind`.
enum BinaryKind { ADD, SUB, MUL, DIV };
DEVICE float binary(i32 kind, float a, float b) {
    switch (kind) {
        case ADD: return a + b;
        case SUB: return a - b;
        case MUL: return a * b;
        default: return a / b;
    }
}
KERNEL(binary_4, MapParams, 256, 4) { map_two<4>(p, [&](float a, float b) { return binary(p.kind, a, b); }); }
KERNEL(binary_1, MapParams, 256, 4) { map_two<1>(p, [&](float a, float b) { return binary(p.kind, a, b); }); }
KERNEL(glu_4, MapParams, 256, 4) { map_two<4>(p, [&](float a, float b) { return glu_gate(p.kind, a) * b; }); }
KERNEL(glu_1, MapParams, 256, 4) { map_two<1>(p, [&](float a, float b) { return glu_gate(p.kind, a) * b; }); }

// `alpha * x + beta`, or x limited to alpha..=beta, where a NaN stays one; or a change of the dtype alone.
enum LinearKind { AS_IT_IS, SCALE, CLAMP };
DEVICE float linear(const MapParams& p, float x) {
    switch (p.kind) {
        case AS_IT_IS: return x;
        case SCALE: return p.alpha * x + p.beta;
        default: return x < p.alpha ? p.alpha : x > p.beta ? p.beta : x;
    }
}
KERNEL(linear_4, MapParams, 256, 4) { map_one<4>(p, [&](float x) { return linear(p, x); }); }
KERNEL(linear_1, MapParams, 256, 4) { map_one<1>(p, [&](float x) { return linear(p, x); }); }

// Numbered as `UnaryKind`.
enum UnaryKind {
    SILU, SIGMOID, SOFTPLUS, TANH, GELU, GELU_ERF, GELU_QUICK, EXP, NEG, RELU, SQR, SQRT, SIN, COS
};
DEVICE float unary(i32 kind, float x) {
    switch (kind) {
        case SILU: return glu_gate(SWIGLU, x);
        case SIGMOID: return sigmoid(x);
        case SOFTPLUS: return fmaxf(x, 0.0f) + log1pf(expf(-fabsf(x)));
        case TANH: return tanhf(x);
        case GELU: return glu_gate(GEGLU, x);
        case GELU_ERF: return glu_gate(GEGLU_ERF, x);
        case GELU_QUICK: return glu_gate(GEGLU_QUICK, x);
        case EXP: return expf(x);
        case NEG: return -x;
        case RELU: return glu_gate(REGLU, x);
        case SQR: return x * x;
        case SQRT: return sqrtf(x);
        case SIN: return sinf(x);
        default: return cosf(x);
    }
}
KERNEL(unary_4, MapParams, 256, 2) { map_one<4>(p, [&](float x) { return unary(p.kind, x); }); }
KERNEL(unary_1, MapParams, 256, 2) { map_one<1>(p, [&](float x) { return unary(p.kind, x); }); }
