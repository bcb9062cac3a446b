// Up to four matrices of weights, of any dtypes, times the same activations in one launch (-DTOKENS=1, 2 or 4 of them
// at once): queries, keys and values, or a router beside its shared expert.

#include "matvec.cuh"
#include "norm_q8.cuh"

#define THREADS 256
// Threads of a block that makes the one row for itself: as many as the launch says, so that few make it.
#define OF_ROW_THREADS 640
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

// `Joined` of kernels/fused.rs. Block formats multiply the rows in 8 bits, scalars those in F32.
struct Joined {
    Matrix matrices[4];
    // As a launch before this one left them, or to be made.
    NormQ8 rows;
    i32 n_matrices;
    // Activations.
    i32 n;
};
static_assert(sizeof(Joined) == 432, "Joined of kernels/fused.rs");

// Units in flight at most.
DEVICE constexpr int most_units(int format) { return format == Q5_K ? 1 : 2; }

// Blocks along y share the activations. With MAKES every block makes the one row for itself.
template <bool MAKES> DEVICE void multiply(const Joined& p) {
    DYNAMIC_SHARED(memory);
    __shared__ float space[(MAKES ? OF_ROW_THREADS : THREADS) / WARP * 2 * TOKENS];
    __shared__ float norm_space[32];
    TRIGGER();
    int which = 0;
    while (which + 1 < p.n_matrices && (int)blockIdx.x >= p.matrices[which + 1].first_block) which++;
    const Matrix& a = p.matrices[which];
    int block = blockIdx.x - a.first_block, token = blockIdx.y * TOKENS;
    OwnRow own = own_row(memory, p.rows);
    Q8 x = MAKES ? own.q8 : p.rows.q8;
    Q8 floats = {(i8*)(MAKES ? own.floats : p.rows.normed), nullptr, p.rows.width, 0};
    auto ready = [&] {
        if constexpr (MAKES) make_row<1>(p.rows, 0, own, blockIdx.x == 0, norm_space);
        else WAIT();
    };
#define MULTIPLY(FORMAT) \
    multiply_rows<FORMAT, TOKENS == 1 ? 1 : rows_together(FORMAT), TOKENS, most_units(FORMAT), MAKES && is_block(FORMAT)>( \
        a.weights, a.row_pitch, a.m, 1u << a.lane_bits, block, is_block(FORMAT) ? x : floats, token, p.n, a.out, \
        a.out_pitch, space, ready)
    switch (a.dtype) {
        case F32: MULTIPLY(F32); break;
        case F16: MULTIPLY(F16); break;
        case BF16: MULTIPLY(BF16); break;
        default: WITH_FORMAT(a.dtype, MULTIPLY)
    }
#undef MULTIPLY
}

KERNEL(joined_products, Joined, THREADS, TOKENS == 1 ? 3 : TOKENS == 2 ? 2 : 1) { multiply<false>(p); }
#if TOKENS == 1
KERNEL(joined_products_of_row, Joined, OF_ROW_THREADS, 1) { multiply<true>(p); }
#endif
