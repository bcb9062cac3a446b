// Products of weights of one dtype (-DFORMAT=Q4_K) with up to eight activations at once: block formats in planes with
// activations of 8 bits, scalars with F32.

#include "gate.cuh"
#include "matvec.cuh"
#include "norm_q8.cuh"

#define THREADS 256
// Threads of a block that makes the one row for itself: as many as the launch says, so that few make it.
#define OF_ROW_THREADS 768
#define GLU_OF_ROW_THREADS 512
// Smaller blocks where there are many short rows: the last ones to run are then fewer.
#define THREADS_BY_ID 128

// `Matvec` of product/matvec.rs. `weights` are one matrix, or gate and up, or banks of them.
struct Matvec {
    Planes weights[2];
    // Blocks from one row to the next, and from one expert to the next.
    i64 row_pitch[2];
    i64 expert_pitch[2];
    Q8 x;
    // The one row that every block puts in 8 bits for itself, in place of `x`; null if `x` is there.
    const float* row;
    // `[.., m]`, all rows one behind the other.
    float* out;
    const u8* ids;
    i64 id_pitch[2];
    FaultCell fault;
    i32 m;
    // Activations; by id, tokens.
    i32 n;
    // Threads that have a row together: a power of two.
    i32 lane_bits;
    i32 glu;
    // By id: experts per token, rows of x for each token; the first of the `held` experts, and how many there are.
    i32 n_used;
    i32 x_per_token;
    i32 first;
    i32 held;
    i32 total;
    i32 pad;
};
static_assert(sizeof(Matvec) == 248, "Matvec of product/matvec.rs");

template <bool GLU> DEVICE float joined(const Matvec& p, float first, float second) {
    return GLU ? glu_gate(p.glu, first) * second : first;
}

// Blocks along x share the rows of weights, blocks along y the activations, N at a time. `lanes` threads have ROWS rows
// together, or one of gate and up each. With MAKES every block puts the one row of activations in 8 bits for itself.
template <bool GLU, int ROWS, int N, bool MAKES> DEVICE void dense(const Matvec& p) {
    DYNAMIC_SHARED(memory);
    __shared__ float space[(MAKES ? OF_ROW_THREADS : THREADS) / WARP * ROWS * N];
    TRIGGER();
    constexpr int OUTPUTS = GLU ? 1 : ROWS;
    u32 lanes = 1u << p.lane_bits, lane = threadIdx.x & (lanes - 1);
    int row = (blockIdx.x * (blockDim.x >> p.lane_bits) + (threadIdx.x >> p.lane_bits)) * OUTPUTS;
    int token = blockIdx.y * N;
    Row rows[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        int at = row + (GLU ? 0 : r), which = GLU ? r : 0;
        rows[r] = row_at<FORMAT>(p.weights[which], (at < p.m ? at : p.m - 1) * p.row_pitch[which]);
    }
    float sum[ROWS][N];
#pragma unroll
    for (int r = 0; r < ROWS; r++)
        for (int t = 0; t < N; t++) sum[r][t] = 0.0f;
    NormQ8 made = {p.row, nullptr, nullptr, nullptr, nullptr, {}, p.x.k, 0.0f};
    OwnRow own = own_row(memory, made);
    Q8 x = MAKES ? own.q8 : p.x;
    auto ready = [&] {
        if constexpr (MAKES) make_row<2>(made, 0, own, false, nullptr);
        else WAIT();
    };
    constexpr int MOST = ROWS > 1 || FORMAT == Q5_K ? 1 : FORMAT == Q4_K || FORMAT == Q6_K ? 2 : 4;
    dot_rows<FORMAT, ROWS, N, MOST, MAKES>(rows, lane, lanes, x, token, p.n - token, sum, ready);
    sum_lanes<ROWS, N>(sum, lanes, space);
    if (lane != 0) return;
#pragma unroll
    for (int t = 0; t < N; t++) {
#pragma unroll
        for (int r = 0; r < OUTPUTS; r++) {
            float value = joined<GLU>(p, sum[r][t], sum[ROWS - 1][t]);
            if (token + t < p.n && row + r < p.m) p.out[(i64)(token + t) * p.m + row + r] = value;
        }
    }
}

// Blocks along y are the pairs of a token and one of its experts.
template <bool GLU> DEVICE void by_id(const Matvec& p) {
    constexpr int ROWS = GLU ? 2 : 1;
    __shared__ float space[THREADS_BY_ID / WARP * ROWS];
    WAIT();
    TRIGGER();
    int pair = blockIdx.y, token = pair / p.n_used, choice = pair % p.n_used;
    i64 id = *(const i32*)(p.ids + (token * p.id_pitch[0] + choice * p.id_pitch[1]) * 4);
    i64 expert = id - p.first;
    if ((id < 0 || id >= p.total) && blockIdx.x == 0 && threadIdx.x == 0) report_fault(p.fault, token, id);
    bool is_held = id >= 0 && id < p.total && expert >= 0 && expert < p.held;
    u32 lanes = 1u << p.lane_bits, lane = threadIdx.x & (lanes - 1);
    int row = blockIdx.x * (THREADS_BY_ID >> p.lane_bits) + (threadIdx.x >> p.lane_bits);
    bool is_inside = row < p.m;
    float sum[ROWS][1];
    for (int r = 0; r < ROWS; r++) sum[r][0] = 0.0f;
    if (is_held) {
        Row rows[ROWS];
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            i64 block = expert * p.expert_pitch[r] + (is_inside ? row : p.m - 1) * p.row_pitch[r];
            rows[r] = row_at<FORMAT>(p.weights[r], block);
        }
        i64 x_row = (i64)token * p.x_per_token + (choice < p.x_per_token ? choice : p.x_per_token - 1);
        dot_rows<FORMAT, ROWS, 1, (ROWS > 1 || unit_elems(FORMAT) > 32 ? 1 : 2), false>(rows, lane, lanes, p.x, x_row, 1, sum, [] {});
    }
    sum_lanes<ROWS, 1>(sum, lanes, space);
    if (lane == 0 && is_inside) p.out[(i64)pair * p.m + row] = joined<GLU>(p, sum[0][0], sum[ROWS - 1][0]);
}

#define TOGETHER rows_together(FORMAT)
// Formats whose units take many registers.
#define HAS_MANY (FORMAT == Q3_K || FORMAT == Q5_K)
KERNEL(matvec_1, Matvec, THREADS, 3) { dense<false, 1, 1, false>(p); }
KERNEL(matvec_2, Matvec, THREADS, 2) { dense<false, TOGETHER, 2, false>(p); }
KERNEL(matvec_4, Matvec, THREADS, 2) { dense<false, TOGETHER, 4, false>(p); }
// Of blocks, eight activations at once take so many registers that reading the weights twice is faster.
KERNEL(matvec_8, Matvec, THREADS, 1) {
    if constexpr (!is_block(FORMAT)) dense<false, TOGETHER, 8, false>(p);
}
KERNEL(matvec_glu_1, Matvec, THREADS, HAS_MANY ? 2 : 3) { dense<true, 2, 1, false>(p); }
KERNEL(matvec_glu_2, Matvec, THREADS, HAS_MANY ? 1 : 2) { dense<true, 2, 2, false>(p); }
KERNEL(matvec_glu_4, Matvec, THREADS, 1) { dense<true, 2, 4, false>(p); }
KERNEL(matvec_by_id, Matvec, THREADS_BY_ID, HAS_MANY ? 6 : 8) { by_id<false>(p); }
KERNEL(matvec_by_id_glu, Matvec, THREADS_BY_ID, HAS_MANY ? 4 : 6) { by_id<true>(p); }
KERNEL(matvec_of_row, Matvec, OF_ROW_THREADS, 1) {
    if constexpr (is_block(FORMAT)) dense<false, 1, 1, true>(p);
}
KERNEL(matvec_glu_of_row, Matvec, GLU_OF_ROW_THREADS, 1) {
    if constexpr (is_block(FORMAT)) dense<true, 2, 1, true>(p);
}
