// Up to four matrices of weights, of any dtypes, times the same activations in one launch (-DTOKENS=1, 2 or 4 of them
// at once): queries, keys and values, or a router beside its shared expert.

#include "matvec.cuh"

#define THREADS 256
// With four activations older targets need a few registers more than two blocks leave.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 890
#define BLOCKS_OF_4 1
#else
#define BLOCKS_OF_4 2
#endif

// `Matrix` of kernels/fused.rs: rows `row_pitch` blocks apart, `m` of them; results of a token, `out_pitch` from the
// next one's; `1 << lane_bits` threads have a row together; blocks from `first_block` on are its own.
struct Matrix {
    Planes weights;
    i64 row_pitch;
    float* out;
    i64 out_pitch;
    i32 m;
    i32 dtype;
    i32 lane_bits;
    i32 first_block;
};
static_assert(sizeof(Matrix) == 88, "Matrix of kernels/fused.rs");

// `Joined` of kernels/fused.rs. `x` is for block formats, `floats` (F32 rows for quants) for scalars.
struct Joined {
    Matrix matrices[4];
    Q8 x;
    Q8 floats;
    i32 n_matrices;
    // Activations.
    i32 n;
};
static_assert(sizeof(Joined) == 408, "Joined of kernels/fused.rs");

// Rows that the threads of a row have at once: two read the activations half as often, where there are registers.
DEVICE constexpr int rows_together(int format) { return TOKENS == 1 || unit_elems(format) > 32 ? 1 : 2; }

// Blocks along y share the activations.
KERNEL(joined_products, Joined, THREADS, TOKENS == 1 ? 3 : TOKENS == 4 ? BLOCKS_OF_4 : 2) {
    __shared__ float space[THREADS / WARP * 2 * TOKENS];
    TRIGGER();
    int which = 0;
    while (which + 1 < p.n_matrices && (int)blockIdx.x >= p.matrices[which + 1].first_block) which++;
    const Matrix& a = p.matrices[which];
    int block = blockIdx.x - a.first_block, token = blockIdx.y * TOKENS;
#define MULTIPLY(FORMAT) \
    multiply_rows<FORMAT, rows_together(FORMAT), TOKENS>(a.weights, a.row_pitch, a.m, 1u << a.lane_bits, block, \
                                   is_block(FORMAT) ? p.x : p.floats, token, p.n, a.out, a.out_pitch, space)
    switch (a.dtype) {
        case F32: MULTIPLY(F32); break;
        case F16: MULTIPLY(F16); break;
        case BF16: MULTIPLY(BF16); break;
        default: WITH_FORMAT(a.dtype, MULTIPLY)
    }
#undef MULTIPLY
}
