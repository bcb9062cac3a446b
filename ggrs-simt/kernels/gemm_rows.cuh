// Activations for products by matrix units: rows of 16-bit floats without gaps, in the order in which the weights'
// fragments come (tile_decode.cuh), and with zeros up to whole steps of 128. Rows of F16 are divided by a power of two
// of their own, which keeps what is far from 1 in range.

#include "floats.cuh"
#include "matrix.cuh"

// Which 32 of 128 elements each of four lanes has.
// RUNS: 16 of each half of a run of 64 that two lanes share. BLOCKS: 32 in a row. FAR: 16, and the 16 that are 64 on.
// PAIRS: 8 of every 32. Of four in a row, elements 0 and 2 come first, then 1 and 3; but of NEIGHBOURS, 32 in a row,
// they come as they are.
enum KOrder { RUNS, BLOCKS, FAR, PAIRS, NEIGHBOURS };

// `ActivationRows` of gemm/params.rs.
struct ActivationRows {
    View x;
    u16* to;
    // What the product of each row must be multiplied with.
    float* scales;
    // Elements between rows if it is the same for all, else -1.
    i64 pitch;
    i32 n_rows;
    i32 order;
    // 1: F16, 0: BF16.
    i32 is_f16;
    // Are elements neighbours, and fours of them at multiples of their bytes?
    i32 is_plain;
};
static_assert(sizeof(ActivationRows) == 112, "ActivationRows of gemm/params.rs");

// The element of 128 that comes first of the four that lane `t` has in step `j` of 16.
DEVICE int element_in_order(int order, int j, int t) {
    int half = j >> 2, four = j & 3;
    switch (order) {
        case RUNS: return 64 * (t >> 1) + 32 * half + 16 * (t & 1) + 4 * four;
        case FAR: return 64 * half + 16 * t + 4 * four;
        case PAIRS: return 32 * (2 * half + (four >> 1)) + 8 * t + 4 * (four & 1);
        default: return 32 * t + 16 * half + 4 * four;
    }
}

// Four elements of a row from `at` on; a row has a multiple of four.
DEVICE float4 four_of_row(const ActivationRows& p, i64 row, int at) {
    const View& x = p.x;
    float4 four = {0.0f, 0.0f, 0.0f, 0.0f};
    if (at >= x.size[4]) return four;
    if (p.is_plain) {
        const Floats<4> y = load_floats<4>(x.data, x.dtype, row + at);
        return {y.v[0], y.v[1], y.v[2], y.v[3]};
    }
    four.x = load_float(x.data, x.dtype, row + at * x.stride[4]);
    four.y = load_float(x.data, x.dtype, row + (at + 1) * x.stride[4]);
    four.z = load_float(x.data, x.dtype, row + (at + 2) * x.stride[4]);
    four.w = load_float(x.data, x.dtype, row + (at + 3) * x.stride[4]);
    return four;
}

// 16 elements of a row: what four lanes have in one step of 16.
struct Unit {
    float4 fours[4];
};
DEVICE Unit unit_of_row(const ActivationRows& p, i64 row, int unit) {
    Unit u;
#pragma unroll
    for (int t = 0; t < 4; t++) {
        u.fours[t] = four_of_row(p, row, (unit >> 3) * 128 + element_in_order(p.order, unit & 7, t));
    }
    return u;
}
DEVICE float largest_of(const Unit& u) {
    float most = 0.0f;
#pragma unroll
    for (int t = 0; t < 4; t++) {
        const float4& four = u.fours[t];
        most = fmaxf(fmaxf(most, fmaxf(fabsf(four.x), fabsf(four.y))), fmaxf(fabsf(four.z), fabsf(four.w)));
    }
    return most;
}
DEVICE void store_unit(const ActivationRows& p, const Unit& u, float factor, uint4* to) {
    u32 words[8];
#pragma unroll
    for (int t = 0; t < 4; t++) {
        float4 four = u.fours[t];
        if (p.order != NEIGHBOURS) {
            float second = four.y;
            four.y = four.z;
            four.z = second;
        }
        if (p.is_f16) {
            words[t] = pack_f16(four.x * factor, four.y * factor);
            words[4 + t] = pack_f16(four.z * factor, four.w * factor);
        } else {
            words[t] = pack_bf16(four.x, four.y);
            words[4 + t] = pack_bf16(four.z, four.w);
        }
    }
    uint4 first = {words[0], words[1], words[2], words[3]}, second = {words[4], words[5], words[6], words[7]};
    to[0] = first;
    to[1] = second;
}

// Units of a row that a lane keeps; others are read twice.
#define UNITS_KEPT 2

// Block `block` of `n_blocks` converts its rows: so many warps have a row together that their lanes keep all of it, if
// the block has as many.
DEVICE void convert_rows(const ActivationRows& p, int block, int n_blocks) {
    __shared__ float most_of_warp[32];
    const int units = (p.x.size[4] + 127) / 128 * 8;
    int warps = 1;
    while (warps * WARP * UNITS_KEPT < units && warps < N_WARPS) warps *= 2;
    const int together = N_WARPS / warps, first_warp = WARP_ID / warps * warps;
    const int lanes = warps * WARP, lane = threadIdx.x % lanes;
    for (int first = block * together; first < p.n_rows; first += n_blocks * together) {
        const int row = first + WARP_ID / warps;
        const bool is_there = row < p.n_rows;
        const i64 from = !is_there ? 0 : p.pitch >= 0 ? row * p.pitch : row_offset(p.x, row);
        Unit kept[UNITS_KEPT] = {};
#pragma unroll
        for (int i = 0; i < UNITS_KEPT; i++)
            if (is_there && lane + i * lanes < units) kept[i] = unit_of_row(p, from, lane + i * lanes);
        u32 exponent = 127;
        if (p.is_f16) {
            float most = 0.0f;
#pragma unroll
            for (int i = 0; i < UNITS_KEPT; i++) most = fmaxf(most, largest_of(kept[i]));
            for (int unit = lane + UNITS_KEPT * lanes; is_there && unit < units; unit += lanes)
                most = fmaxf(most, largest_of(unit_of_row(p, from, unit)));
            most = warp_max(most);
            if (warps > 1) {
                if (LANE == 0) most_of_warp[WARP_ID] = most;
                __syncthreads();
                for (int i = 0; i < warps; i++) most = fmaxf(most, most_of_warp[first_warp + i]);
                __syncthreads();
            }
            // The largest becomes less than 1024. Infinities and NaNs stay what they are.
            u32 largest = __float_as_uint(most) >> 23;
            if (largest > 0 && largest < 255) exponent = largest > 10 ? largest - 9 : 1;
        }
        if (!is_there) continue;
        const float factor = __uint_as_float((254 - exponent) << 23);
        if (lane == 0) p.scales[row] = __uint_as_float(exponent << 23);
        uint4* to = (uint4*)p.to + (i64)row * units * 2;
#pragma unroll
        for (int i = 0; i < UNITS_KEPT; i++)
            if (lane + i * lanes < units) store_unit(p, kept[i], factor, to + (lane + i * lanes) * 2);
        for (int unit = lane + UNITS_KEPT * lanes; unit < units; unit += lanes)
            store_unit(p, unit_of_row(p, from, unit), factor, to + unit * 2);
    }
}
