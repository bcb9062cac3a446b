// The two halves of a layer of experts for a few tokens, of weights of one format (-DFORMAT=Q4_K): gate and up with the
// hidden activations left in 8 bits, and down with the experts' results weighted and added.

#include "gate.cuh"
#include "matvec.cuh"
#include "router.cuh"

// `Experts` of kernels/fused.rs: who goes where. `ids` are I32 `[tokens, n_used]`; experts `first..first + held` of
// `total` are here.
struct Experts {
    const i32* ids;
    i64 token_pitch;
    i64 choice_pitch;
    FaultCell fault;
    i32 n_used;
    i32 first;
    i32 held;
    i32 total;
};
static_assert(sizeof(Experts) == 56, "Experts of kernels/fused.rs");

// The place of an expert among those held, or -1.
DEVICE i32 place_of_id(const Experts& e, i32 id) {
    i32 place = id - e.first;
    return place >= 0 && place < e.held ? place : -1;
}
// That of a token's choice.
DEVICE i32 place_of_expert(const Experts& e, int token, int choice, bool reports) {
    i32 id = e.ids[token * e.token_pitch + choice * e.choice_pitch];
    if (id < 0 || id >= e.total) {
        if (reports) report_fault(e.fault, token, id);
        return -1;
    }
    return place_of_id(e, id);
}

// `ExpertsUp` of kernels/fused.rs. `x` has `x_per_token` rows for each token, `hidden` one for each pair of a token and
// one of its experts.
struct ExpertsUp {
    Planes weights[2];
    i64 row_pitch[2];
    i64 expert_pitch[2];
    Experts experts;
    Q8 x;
    Q8 hidden;
    // With logits, the choice is made here too: every block makes it for itself, and one more for each token writes it.
    RouterParams router;
    i32 x_per_token;
    i32 glu;
    i32 n_blocks;
    i32 pad;
};
static_assert(sizeof(ExpertsUp) == 368, "ExpertsUp of kernels/fused.rs");

// Formats whose kernel has registers for two blocks of 512.
#define IS_SMALL (FORMAT == Q4_K || FORMAT == Q4_0 || FORMAT == Q4_1 || FORMAT == Q8_0)
#define UP_THREADS (IS_SMALL ? 512 : 256)

// A row in 8 bits, copied to shared memory and swizzled.
DEVICE Q8 shared_row(u8* memory, const Q8& x, i64 row) {
    Q8 own = {(i8*)memory, (Q8Scale*)(memory + x.k), x.k, 0};
    for (int i = threadIdx.x * 16; i < x.k; i += UP_THREADS * 16)
        *(Quad*)(own.quants + q8_swizzled(i)) = load_quad(q8_quants(x, row) + i);
    for (int i = threadIdx.x; i < x.k / 32; i += UP_THREADS) own.scales[i] = q8_scales(x, row)[i];
    return own;
}

// A block has 32 rows of gate and up, a group of hidden activations; blocks along y are the pairs.
KERNEL(experts_up, ExpertsUp, UP_THREADS, 2) {
    DYNAMIC_SHARED(memory);
    __shared__ float hidden[32];
    __shared__ FoundShared found;
    WAIT();
    TRIGGER();
    int pair = blockIdx.y, token = pair / p.experts.n_used, choice = pair % p.experts.n_used;
    i64 x_row = (i64)token * p.x_per_token + (choice < p.x_per_token ? choice : p.x_per_token - 1);
    if ((int)blockIdx.x == p.n_blocks) {
        if (choice > 0 || WARP_ID > 0) return;
        if (p.router.logits.size[4] <= 4 * WARP) route_token<Held<4>>(p.router, token);
        else route_token<Held<8>>(p.router, token);
        return;
    }
    Q8 x = shared_row(memory, p.x, x_row);
    i32 expert;
    if (p.router.logits.data) {
        expert = place_of_id(p.experts, find_expert(p.router, token, choice, found));
    } else {
        expert = place_of_expert(p.experts, token, choice, blockIdx.x == 0 && threadIdx.x == 0);
        __syncthreads();
    }
    constexpr u32 LANES = UP_THREADS / 32;
    u32 lane = threadIdx.x % LANES;
    int row = threadIdx.x / LANES;
    float sum[2][1] = {{0.0f}, {0.0f}};
    if (expert >= 0) {
        Row rows[2];
#pragma unroll
        for (int r = 0; r < 2; r++) {
            i64 block = expert * p.expert_pitch[r] + (i64)(blockIdx.x * 32 + row) * p.row_pitch[r];
            rows[r] = row_at<FORMAT>(p.weights[r], block);
        }
        dot_rows<FORMAT, 2, 1, 1, true>(rows, lane, LANES, x, 0, 1, sum, [] {});
    }
    // Within a warp: no shared memory.
    sum_lanes<2, 1>(sum, LANES, hidden);
    if (lane == 0) hidden[row] = glu_gate(p.glu, sum[0][0]) * sum[1][0];
    __syncthreads();
    if (WARP_ID == 0) {
        int i = blockIdx.x * 32 + LANE % 32;
        q8_store1(p.hidden, pair, i, hidden[LANE % 32], LANE < 32);
    }
}

// `ExpertsDown` of kernels/fused.rs. `hidden` has a row for each pair; `factors` are F32 `[tokens, n_used]`, `out`
// F32 `[tokens, m]`, one row behind the other.
struct ExpertsDown {
    Planes weights;
    i64 row_pitch;
    i64 expert_pitch;
    Experts experts;
    Q8 hidden;
    const float* factors;
    i64 factor_token_pitch;
    i64 factor_choice_pitch;
    float* out;
    i32 m;
    // `1 << lane_bits` threads have a row of one expert together, `1 << expert_bits` such groups share the experts.
    i32 lane_bits;
    i32 expert_bits;
    i32 pad;
};
static_assert(sizeof(ExpertsDown) == 192, "ExpertsDown of kernels/fused.rs");

#define DOWN_THREADS 128

// Blocks along x share the rows, blocks along y are the tokens.
KERNEL(experts_down, ExpertsDown, DOWN_THREADS, 4) {
    __shared__ float space[DOWN_THREADS / WARP];
    WAIT();
    TRIGGER();
    int token = blockIdx.y;
    u32 lanes = 1u << p.lane_bits, lane = threadIdx.x & (lanes - 1);
    u32 all = lanes << p.expert_bits;
    int row = blockIdx.x * (DOWN_THREADS / all) + threadIdx.x / all;
    int at = row < p.m ? row : p.m - 1;
    float total[1][1] = {{0.0f}};
    int first = (threadIdx.x & (all - 1)) >> p.lane_bits, step = 1 << p.expert_bits;
    for (int choice = first; choice < p.experts.n_used; choice += step) {
        i32 expert = place_of_expert(p.experts, token, choice, false);
        if (expert < 0) continue;
        float factor = p.factors[token * p.factor_token_pitch + choice * p.factor_choice_pitch];
        Row rows[1] = {row_at<FORMAT>(p.weights, expert * p.expert_pitch + at * p.row_pitch)};
        float sum[1][1] = {{0.0f}};
        i64 x_row = (i64)token * p.experts.n_used + choice;
        dot_rows<FORMAT, 1, 1, 3, false>(rows, lane, lanes, p.hidden, x_row, 1, sum, [] {});
        total[0][0] = fmaf(factor, sum[0][0], total[0][0]);
    }
    sum_lanes<1, 1>(total, all, space);
    if ((threadIdx.x & (all - 1)) != 0 || row >= p.m) return;
    p.out[(i64)token * p.m + row] = total[0][0];
}
