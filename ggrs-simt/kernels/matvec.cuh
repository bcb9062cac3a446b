// Rows of weights times a few activations: what all products of few activations are made of. `lanes` threads have a row
// (a power of two, a multiple of a block's units) and go along it side by side, a unit each. Activations are of 8 bits where the weights
// are of a block format; where they are scalars, `Q8` has F32 rows for quants and no scales.

#include "q8_unit.cuh"
#include "quantise_q8.cuh"

DEVICE int dot16(const u32* w, const Quad& x) {
    int sum = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) sum = __dp4a((int)w[i], (int)x.x[i], sum);
    return sum;
}
DEVICE int sum16(const Quad& x) {
    int sum = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) sum = __dp4a(0x01010101, (int)x.x[i], sum);
    return sum;
}

// The activations that a unit meets.
template <int FORMAT> struct Met {
    Quad q[unit_parts(FORMAT)];
    Q8Scale scale[unit_factors(FORMAT)];
};
// Those from element `at` of a row on.
template <int FORMAT, bool IS_SWIZZLED> DEVICE Met<FORMAT> met_by(const i8* row, u32 at, const Q8Scale* scales) {
    constexpr int STEP = part_step(FORMAT);
    Met<FORMAT> x;
#pragma unroll
    for (int part = 0; part < unit_parts(FORMAT); part++) {
        u32 i = at + part * STEP;
        x.q[part] = load_quad(row + (IS_SWIZZLED ? q8_swizzled(i) : i));
    }
    if constexpr (unit_factors(FORMAT) == 2 && is_joined(FORMAT)) {
        Quad both = load_quad(scales);
        x.scale[0] = {__uint_as_float(both.x[0]), __uint_as_float(both.x[1])};
        x.scale[1] = {__uint_as_float(both.x[2]), __uint_as_float(both.x[3])};
    } else {
#pragma unroll
        for (int i = 0; i < unit_factors(FORMAT); i++) x.scale[i] = scales[i * STEP / 32];
    }
    return x;
}

// A unit times activations, added to `sum`.
template <int FORMAT> DEVICE float dot_unit(const Factors<FORMAT>& f, const Met<FORMAT>& x, float sum) {
    constexpr int PARTS = unit_parts(FORMAT) / unit_factors(FORMAT);
#pragma unroll
    for (int i = 0; i < unit_factors(FORMAT); i++) {
        int dot = dot16(f.w[i * PARTS], x.q[i * PARTS]);
        if constexpr (PARTS == 2) dot += dot16(f.w[i * PARTS + 1], x.q[i * PARTS + 1]);
        float d = x.scale[i].d;
        sum = fmaf(f.scale[i] * d, (float)dot, sum);
        if constexpr (has_minimums(FORMAT)) sum = fmaf(f.minimum[i], x.scale[i].sum, sum);
        if constexpr (has_part_minimums(FORMAT)) sum = fmaf(f.minimum[i] * d, (float)sum16(x.q[i]), sum);
    }
    return sum;
}

// A unit of scalars times F32 activations.
template <int FORMAT> DEVICE float dot_floats(const Unit& unit, const float* x, float sum) {
    constexpr int N = unit_elems(FORMAT);
    float w[N];
    if constexpr (FORMAT == F32) {
#pragma unroll
        for (int i = 0; i < 4; i++) w[i] = __uint_as_float(unit.q.x[i]);
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            u32 two = unit.q.x[i];
            w[2 * i] = FORMAT == F16 ? low_half(two) : __uint_as_float(two << 16);
            w[2 * i + 1] = FORMAT == F16 ? high_half(two) : __uint_as_float(two & 0xffff0000u);
        }
    }
#pragma unroll
    for (int i = 0; i < N / 4; i++) {
        Quad four = load_quad(x + 4 * i);
#pragma unroll
        for (int j = 0; j < 4; j++) sum = fmaf(w[4 * i + j], __uint_as_float(four.x[j]), sum);
    }
    return sum;
}

// Where a lane reads the activations, and where those after the first are from there.
template <int N> struct Activations {
    const i8* quants;
    const Q8Scale* scales;
    const float* floats;
    u32 start;
    u32 row_start[N];
};
template <int FORMAT, int N, bool IS_SWIZZLED>
DEVICE Activations<N> activations_at(const Q8& x, i64 x_row, int n_rows, u32 lane) {
    Activations<N> at;
    u32 start = unit_start<FORMAT>(lane);
    at.start = IS_SWIZZLED ? start : 0;
    at.quants = q8_quants(x, x_row) + (IS_SWIZZLED ? 0 : start);
    at.scales = q8_scales(x, x_row) + start / 32;
    at.floats = (const float*)x.quants + x_row * x.k + start;
#pragma unroll
    for (int t = 0; t < N; t++) at.row_start[t] = t == 0 ? 0 : (u32)((t < n_rows ? t : n_rows - 1) * x.k);
    return at;
}

// Adds a unit of each row, `skip` elements on, to `sum`.
template <int FORMAT, int ROWS, int N, bool IS_SWIZZLED>
DEVICE void add_unit(const Unit (&unit)[ROWS], const Place& place, const Activations<N>& x, u32 skip,
                     float (&sum)[ROWS][N]) {
    if constexpr (is_block(FORMAT) && N == 1) {
        // One row's factors at a time: registers.
        Met<FORMAT> met = met_by<FORMAT, IS_SWIZZLED>(x.quants, x.start + skip, x.scales + skip / 32);
#pragma unroll
        for (int r = 0; r < ROWS; r++) sum[r][0] = dot_unit<FORMAT>(factors_of<FORMAT>(unit[r], place), met, sum[r][0]);
    } else if constexpr (is_block(FORMAT)) {
        Factors<FORMAT> f[ROWS];
#pragma unroll
        for (int r = 0; r < ROWS; r++) f[r] = factors_of<FORMAT>(unit[r], place);
#pragma unroll
        for (int t = 0; t < N; t++) {
            u32 at = x.row_start[t] + skip;
            Met<FORMAT> met = met_by<FORMAT, false>(x.quants, x.start + at, x.scales + at / 32);
#pragma unroll
            for (int r = 0; r < ROWS; r++) sum[r][t] = dot_unit<FORMAT>(f[r], met, sum[r][t]);
        }
    } else {
#pragma unroll
        for (int t = 0; t < N; t++) {
#pragma unroll
            for (int r = 0; r < ROWS; r++)
                sum[r][t] = dot_floats<FORMAT>(unit[r], x.floats + x.row_start[t] + skip, sum[r][t]);
        }
    }
}

// Rows that the same threads have at once of several activations: two read those half as often, where there are
// registers.
DEVICE constexpr int rows_together(int format) { return unit_elems(format) > 32 ? 1 : 2; }

// The units of a lane at `u` and behind it, as many as are in flight, of those that there are; moves on behind them.
template <int FORMAT, int BATCH, int ROWS>
DEVICE void load_batch(Unit (&units)[BATCH][ROWS], Row (&at)[ROWS], u32 u, u32 lanes, u32 n_units) {
#pragma unroll
    for (int i = 0; i < BATCH; i++) {
        if (u + i * lanes < n_units) {
#pragma unroll
            for (int r = 0; r < ROWS; r++) units[i][r] = load_unit<FORMAT>(at[r]);
        }
#pragma unroll
        for (int r = 0; r < ROWS; r++) move_on<FORMAT>(at[r], lanes);
    }
}

// Adds to `sum[r][t]` the lane's share of the dot product of row `r` and activations `x_row + t`, of which there are
// `n_rows`: those past the last are it. The first weights are asked for before `ready()`, which every thread of the
// block calls once and behind which the activations may be read; those are one row in shared memory if IS_SWIZZLED. MOST
// limits units in flight.
template <int FORMAT, int ROWS, int N, int MOST, bool IS_SWIZZLED, typename Ready>
DEVICE void dot_rows(const Row (&rows)[ROWS], u32 lane, u32 lanes, const Q8& x, i64 x_row, int n_rows,
                     float (&sum)[ROWS][N], Ready ready) {
    constexpr int WANTED = N > 1 ? 1 : units_in_flight(FORMAT);
    constexpr int BATCH = WANTED < MOST ? WANTED : MOST;
    u32 n_units = (u32)x.k / unit_elems(FORMAT), step = lanes * unit_elems(FORMAT);
    Place place = place_of<FORMAT>(lane);
    Row at[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++) at[r] = unit_at<FORMAT>(rows[r], lane);
    Unit units[BATCH][ROWS];
    load_batch<FORMAT>(units, at, lane, lanes, n_units);
    ready();
    Activations<N> from = activations_at<FORMAT, N, IS_SWIZZLED>(x, x_row, n_rows, lane);
    u32 skip = 0;
    for (u32 u = lane; u < n_units; u += BATCH * lanes) {
        if (u != lane) load_batch<FORMAT>(units, at, u, lanes, n_units);
        // Whole batches without a branch for each unit, so that all activations are under way at once.
        if (u + (BATCH - 1) * lanes < n_units) {
#pragma unroll
            for (int i = 0; i < BATCH; i++) add_unit<FORMAT, ROWS, N, IS_SWIZZLED>(units[i], place, from, skip + i * step, sum);
        } else {
#pragma unroll
            for (int i = 0; i + 1 < BATCH; i++) {
                if (u + i * lanes < n_units) add_unit<FORMAT, ROWS, N, IS_SWIZZLED>(units[i], place, from, skip + i * step, sum);
            }
        }
        skip += BATCH * step;
    }
}

// Sums of the `lanes` neighbours that have a row, in the first of them; in the same order from run to run. `space` is
// shared memory for a value of each warp and sum. All threads of the block must call it.
template <int ROWS, int N> DEVICE void sum_lanes(float (&sum)[ROWS][N], u32 lanes, float* space) {
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
#pragma unroll
        for (int t = 0; t < N; t++) {
            for (u32 step = (lanes < WARP ? lanes : WARP) / 2; step > 0; step /= 2)
                sum[r][t] += __shfl_xor_sync(FULL_MASK, sum[r][t], step);
        }
    }
    if (lanes <= WARP) return;
    u32 n_warps = lanes / WARP;
    if (LANE == 0) {
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
#pragma unroll
            for (int t = 0; t < N; t++) space[WARP_ID * ROWS * N + r * N + t] = sum[r][t];
        }
    }
    __syncthreads();
    if ((threadIdx.x & (lanes - 1)) != 0) return;
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
#pragma unroll
        for (int t = 0; t < N; t++) {
            for (u32 w = 1; w < n_warps; w++) sum[r][t] += space[(WARP_ID + w) * ROWS * N + r * N + t];
        }
    }
}

// Rows of one matrix, those of block `block` of all that share it, times activations `token..` of `n`: `out` has a row
// of `m` for each, `out_pitch` apart. `lanes` threads have ROWS rows together. `space` is shared memory for a value of
// each warp, row and activation. The last three parameters as of `dot_rows`.
template <int FORMAT, int ROWS, int N, int MOST, bool IS_SWIZZLED, typename Ready>
DEVICE void multiply_rows(const Planes& weights, i64 row_pitch, int m, u32 lanes, int block, const Q8& x, int token,
                          int n, float* out, i64 out_pitch, float* space, Ready ready) {
    u32 lane = threadIdx.x & (lanes - 1);
    int row = (block * (int)(blockDim.x / lanes) + (int)(threadIdx.x / lanes)) * ROWS;
    Row rows[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++) rows[r] = row_at<FORMAT>(weights, (row + r < m ? row + r : m - 1) * row_pitch);
    float sum[ROWS][N];
#pragma unroll
    for (int r = 0; r < ROWS; r++)
        for (int t = 0; t < N; t++) sum[r][t] = 0.0f;
    dot_rows<FORMAT, ROWS, N, MOST, IS_SWIZZLED>(rows, lane, lanes, x, token, n - token, sum, ready);
    sum_lanes<ROWS, N>(sum, lanes, space);
    if (lane != 0) return;
#pragma unroll
    for (int t = 0; t < N; t++) {
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            if (token + t < n && row + r < m) out[(token + t) * out_pitch + row + r] = sum[r][t];
    }
}
