// Places in up to three tensors that are walked together. The host merges axes that all of them allow to be merged, so
// that a walk over gapless tensors divides nothing.

#include "prelude.cuh"

// A number to divide by, below 2^31, with what makes it a multiplication.
struct Divisor {
    u32 n, magic, shift;
};

// `Axes` of axes.rs: sizes and strides, the last axis at index 4; missing axes are in front.
struct Axes {
    i64 n;
    i64 stride[3][5];
    Divisor size[5];
    i32 n_axes;
};
static_assert(sizeof(Axes) == 192, "Axes of axes.rs");

// Where each tensor is.
struct Places {
    i64 at[3];
};

DEVICE i64 thread_index() { return (i64)blockIdx.x * blockDim.x + threadIdx.x; }

DEVICE u32 divide(u32 i, const Divisor& d) { return (__umulhi(i, d.magic) + i) >> d.shift; }

// The places of position `i`.
DEVICE Places places_of(const Axes& axes, i64 i) {
    Places p = {};
    int first = 5 - axes.n_axes;
    if (axes.n < (1LL << 31)) {
        u32 rest = (u32)i;
#pragma unroll
        for (int axis = 4; axis >= 0; axis--) {
            u32 k = rest;
            if (axis > first) {
                rest = divide(k, axes.size[axis]);
                k -= rest * axes.size[axis].n;
            }
#pragma unroll
            for (int t = 0; t < 3; t++) p.at[t] += k * axes.stride[t][axis];
            if (axis <= first) break;
        }
    } else {
#pragma unroll
        for (int axis = 4; axis >= 0; axis--) {
            i64 k = i;
            if (axis > first) {
                i /= axes.size[axis].n;
                k -= i * axes.size[axis].n;
            }
#pragma unroll
            for (int t = 0; t < 3; t++) p.at[t] += k * axes.stride[t][axis];
            if (axis <= first) break;
        }
    }
    return p;
}
