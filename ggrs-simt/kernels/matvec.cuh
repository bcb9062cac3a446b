// Rows of weights times a few activations: what all products of few activations are made of. `lanes` threads have a row
// (a power of two, at least 8) and go along it side by side, a unit each. Activations are of 8 bits where the weights
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

// A unit times the activations that start at `quants` and `scales` (of the row), added to `sum`.
template <int FORMAT>
DEVICE float dot_unit(const Factors<FORMAT>& f, const i8* quants, const Q8Scale* scales, int start, float sum) {
    constexpr int PARTS = unit_parts(FORMAT), STEP = part_step(FORMAT);
    if constexpr (is_joined(FORMAT)) {
        Q8Scale x = scales[start / 32];
        int dot = dot16(f.w[0], load_quad(quants + start)) + dot16(f.w[1], load_quad(quants + start + 16));
        sum = fmaf(f.scale[0] * x.d, (float)dot, sum);
        if constexpr (has_minimums(FORMAT)) sum = fmaf(f.minimum[0], x.sum, sum);
    } else {
#pragma unroll
        for (int part = 0; part < PARTS; part++) {
            int at = start + part * STEP;
            Q8Scale x = scales[at / 32];
            Quad q = load_quad(quants + at);
            sum = fmaf(f.scale[part] * x.d, (float)dot16(f.w[part], q), sum);
            if constexpr (has_minimums(FORMAT)) sum = fmaf(f.minimum[part], x.sum, sum);
            if constexpr (has_part_minimums(FORMAT)) sum = fmaf(f.minimum[part] * x.d, (float)sum16(q), sum);
        }
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

// Adds to `sum[r][t]` the lane's share of the dot product of row `r` and activations `x_row + t`, of which there are
// `n_rows`: those past the last are it. With WAITS the first weights are read before WAIT.
template <int FORMAT, int ROWS, int N, bool WAITS>
DEVICE void dot_rows(const Row (&rows)[ROWS], int lane, int lanes, const Q8& x, i64 x_row, int n_rows,
                     float (&sum)[ROWS][N]) {
    // Units in flight: as many as keep the memory busy without taking registers from other warps.
    constexpr int BATCH = ROWS * N > 2 || unit_elems(FORMAT) > 32 ? 1 : (is_block(FORMAT) ? 2 : 4) / ROWS;
    constexpr int PER_BLOCK = units_per_block(FORMAT);
    int n_units = x.k / unit_elems(FORMAT), c = lane % PER_BLOCK;
    Unit units[ROWS][BATCH];
#pragma unroll
    for (int i = 0; i < BATCH; i++) {
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            int u = lane + i * lanes;
            if (u < n_units) units[r][i] = load_unit<FORMAT>(rows[r], u, c);
        }
    }
    if constexpr (WAITS) WAIT();
    const i8* quants = q8_quants(x, x_row);
    const Q8Scale* scales = q8_scales(x, x_row);
    const float* floats = (const float*)x.quants + x_row * x.k;
    for (int first = lane; first < n_units; first += BATCH * lanes) {
#pragma unroll
        for (int i = 0; i < BATCH; i++) {
            int u = first + i * lanes, next = u + BATCH * lanes;
            if (u >= n_units) break;
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
                if constexpr (is_block(FORMAT)) {
                    int start = unit_start<FORMAT>(u, c);
                    Factors<FORMAT> f = factors_of<FORMAT>(units[r][i], c);
                    if (next < n_units) units[r][i] = load_unit<FORMAT>(rows[r], next, c);
#pragma unroll
                    for (int t = 0; t < N; t++) {
                        int row = t < n_rows ? t : n_rows - 1;
                        const Q8Scale* x_scales = scales + row * (x.k / 32);
                        sum[r][t] = dot_unit<FORMAT>(f, quants + row * x.k, x_scales, start, sum[r][t]);
                    }
                } else {
                    Unit unit = units[r][i];
                    if (next < n_units) units[r][i] = load_unit<FORMAT>(rows[r], next, c);
#pragma unroll
                    for (int t = 0; t < N; t++) {
                        int row = t < n_rows ? t : n_rows - 1;
                        sum[r][t] = dot_floats<FORMAT>(unit, floats + row * x.k + u * unit_elems(FORMAT), sum[r][t]);
                    }
                }
            }
        }
    }
}

// Sums of the `lanes` neighbours that have a row, in the first of them; in the same order from run to run. `space` is
// shared memory for a value of each warp and sum. All threads of the block must call it.
template <int ROWS, int N> DEVICE void sum_lanes(float (&sum)[ROWS][N], int lanes, float* space) {
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
#pragma unroll
        for (int t = 0; t < N; t++) {
            for (int step = (lanes < WARP ? lanes : WARP) / 2; step > 0; step /= 2)
                sum[r][t] += __shfl_xor_sync(FULL_MASK, sum[r][t], step);
        }
    }
    if (lanes <= WARP) return;
    int n_warps = lanes / WARP;
    if (LANE == 0) {
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
#pragma unroll
            for (int t = 0; t < N; t++) space[WARP_ID * ROWS * N + r * N + t] = sum[r][t];
        }
    }
    __syncthreads();
    if (threadIdx.x % lanes != 0) return;
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
#pragma unroll
        for (int t = 0; t < N; t++) {
            for (int w = 1; w < n_warps; w++) sum[r][t] += space[(WARP_ID + w) * ROWS * N + r * N + t];
        }
    }
}
