// The two halves of a layer of experts for a few tokens, of weights of one format (-DFORMAT=Q4_K): gate and up, and down
// with the experts' results weighted and added.

#include "axes.cuh"
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

// `ExpertsUp` of kernels/fused.rs. `x` has `x_per_token` rows for each token, `hidden` F32 `[tokens, n_used, m]`.
struct ExpertsUp {
    Planes weights[2];
    i64 row_pitch[2];
    i64 expert_pitch[2];
    Experts experts;
    Q8 x;
    float* hidden;
    // With logits, the choice is made here too: every block makes it for itself, and those behind the last pair write it.
    RouterParams router;
    i32 m;
    i32 x_per_token;
    i32 glu;
    i32 n_pairs;
};
static_assert(sizeof(ExpertsUp) == 352, "ExpertsUp of kernels/fused.rs");

#define UP_THREADS 256
#define UP_LANES 16
#define UP_ROWS (UP_THREADS / UP_LANES)
// Formats whose kernel has registers for three blocks.
#define IS_SMALL (FORMAT == Q4_K || FORMAT == Q4_0 || FORMAT == Q4_1 || FORMAT == Q8_0 || FORMAT == IQ4_NL)

// A row in 8 bits, copied to shared memory.
DEVICE Q8 shared_row(u8* memory, const Q8& x, i64 row) {
    Q8 own = q8_shared(memory, 1, 0, x.k);
    for (int i = threadIdx.x * 16; i < x.k; i += UP_THREADS * 16)
        *(Quad*)(own.quants + q8_swizzled(i)) = load_quad(q8_quants(x, row) + i);
    for (int i = threadIdx.x; i < x.k / 32; i += UP_THREADS) own.scales[i] = q8_scales(x, row)[i];
    return own;
}

// Blocks along x share the rows of gate and up, blocks along y are the pairs of a token and one of its experts.
KERNEL(experts_up, ExpertsUp, UP_THREADS, IS_SMALL ? 3 : 2) {
    DYNAMIC_SHARED(memory);
    __shared__ i32 chosen;
    WAIT();
    TRIGGER();
    bool routes = p.router.logits.data;
    // Experts that a warp has in four registers of each lane.
    bool are_few = p.router.logits.size[4] <= 4 * WARP;
    int pair = blockIdx.y;
    if (pair >= p.n_pairs) {
        if (blockIdx.x > 0 || WARP_ID > 0) return;
        if (are_few) route_token<Held<4>>(p.router, pair - p.n_pairs);
        else route_token<Held<8>>(p.router, pair - p.n_pairs);
        return;
    }
    int token = pair / p.experts.n_used, choice = pair % p.experts.n_used;
    if (WARP_ID == 0) {
        i32 place;
        if (routes) {
            int id = are_few ? choose_expert<Held<4>>(p.router, token, choice)
                             : choose_expert<Held<8>>(p.router, token, choice);
            place = place_of_id(p.experts, id);
        } else {
            place = place_of_expert(p.experts, token, choice, blockIdx.x == 0 && LANE == 0);
        }
        if (LANE == 0) chosen = place;
    }
    i64 x_row = (i64)token * p.x_per_token + (choice < p.x_per_token ? choice : p.x_per_token - 1);
    Q8 x = shared_row(memory, p.x, x_row);
    __syncthreads();
    i32 expert = chosen;
    u32 lane = threadIdx.x % UP_LANES;
    int row = blockIdx.x * UP_ROWS + threadIdx.x / UP_LANES;
    int at = row < p.m ? row : p.m - 1;
    float sum[2][1] = {{0.0f}, {0.0f}};
    if (expert >= 0) {
        Row rows[2];
#pragma unroll
        for (int r = 0; r < 2; r++) rows[r] = row_at<FORMAT>(p.weights[r], expert * p.expert_pitch[r] + at * p.row_pitch[r]);
        dot_rows<FORMAT, 2, 1, 1, true>(rows, lane, UP_LANES, x, 0, 1, sum, [] {});
    }
    // Within a warp: no shared memory.
    sum_lanes<2, 1>(sum, UP_LANES, nullptr);
    if (lane == 0 && row < p.m) p.hidden[(i64)pair * p.m + row] = glu_gate(p.glu, sum[0][0]) * sum[1][0];
}

// `ExpertsDown` of kernels/fused.rs. `hidden` is F32 `[tokens, n_used, k]`, `factors` F32 `[tokens, n_used]`, `out` F32
// `[tokens, m]`, one row behind the other.
struct ExpertsDown {
    Planes weights;
    i64 row_pitch;
    i64 expert_pitch;
    Experts experts;
    const float* hidden;
    const float* factors;
    i64 factor_token_pitch;
    i64 factor_choice_pitch;
    float* out;
    Divisor k;
    i32 m;
    // `1 << lane_bits` threads have a row of one expert together, `1 << expert_bits` such groups of a warp share the
    // experts.
    i32 lane_bits;
    i32 expert_bits;
};
static_assert(sizeof(ExpertsDown) == 184, "ExpertsDown of kernels/fused.rs");

#define DOWN_THREADS 512

// Blocks along x share the rows, blocks along y are the tokens. Every block puts its token's hidden activations in 8 bits.
KERNEL(experts_down, ExpertsDown, DOWN_THREADS, 1) {
    DYNAMIC_SHARED(memory);
    WAIT();
    TRIGGER();
    int token = blockIdx.y, n_used = p.experts.n_used, k = p.k.n;
    auto make_rows = [&] {
        const Row4* from = (const Row4*)(p.hidden + (i64)token * n_used * k);
        int n = n_used * k / 4;
        // Four at once.
        for (int first = threadIdx.x; first - LANE < n; first += 4 * blockDim.x) {
            Row4 y[4];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                int i = first + j * blockDim.x;
                y[j] = from[i < n ? i : n - 1];
            }
#pragma unroll
            for (int j = 0; j < 4; j++) {
                int i = first + j * blockDim.x;
                if (i - LANE >= n) break;
                int row = divide(4 * i, p.k);
                q8_store4<true>(q8_shared(memory, n_used, row, k), 0, 4 * i - row * k, y[j].v, i < n);
            }
        }
        __syncthreads();
    };
    u32 lanes = 1u << p.lane_bits, lane = threadIdx.x & (lanes - 1);
    u32 all = lanes << p.expert_bits;
    int row = blockIdx.x * (blockDim.x / all) + threadIdx.x / all;
    int at = row < p.m ? row : p.m - 1;
    float total[1][1] = {{0.0f}};
    // All threads go the same way: there is a barrier on it.
    int step = 1 << p.expert_bits, own = (threadIdx.x & (all - 1)) >> p.lane_bits;
    for (int first = 0; first < n_used; first += step) {
        int choice = first + own;
        i32 expert = choice < n_used ? place_of_expert(p.experts, token, choice, false) : -1;
        float factor = 0.0f;
        if (expert >= 0) factor = p.factors[token * p.factor_token_pitch + choice * p.factor_choice_pitch];
        Q8 x = q8_shared(memory, n_used, expert >= 0 ? choice : 0, k);
        // Of an expert that is not here nothing is read.
        if (expert < 0) x.k = 0;
        Row rows[1] = {row_at<FORMAT>(p.weights, (expert >= 0 ? expert : 0) * p.expert_pitch + at * p.row_pitch)};
        float sum[1][1] = {{0.0f}};
        dot_rows<FORMAT, 1, 1, 3, true>(rows, lane, lanes, x, 0, 1, sum, [&] {
            if (first == 0) make_rows();
        });
        total[0][0] = fmaf(factor, sum[0][0], total[0][0]);
    }
    // Within a warp: no shared memory.
    sum_lanes<1, 1>(total, all, nullptr);
    if ((threadIdx.x & (all - 1)) == 0 && row < p.m) p.out[(i64)token * p.m + row] = total[0][0];
}
