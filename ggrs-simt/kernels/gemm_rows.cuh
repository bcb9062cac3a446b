// Activations for products by matrix units: rows of 16-bit floats without gaps, in the order in which the weights'
// fragments come (tile_decode.cuh).

#include "tile_decode.cuh"

// Orders of k: which 16 of 64 elements a lane has, in fours.
// RUNS: four times 8 of the first 32 elements, then of the second. HALVES: per 32 elements two lanes, 8 of each half.
// NEIGHBOURS: 16 in a row. SPREAD: as RUNS, but the second 32 are those 64 elements on.
enum KOrder { RUNS, HALVES, NEIGHBOURS, SPREAD };

// `Rows` of gemm/rows.rs.
struct ActivationRows {
    View x;
    u16* to;
    i32 order;
    // 1: F16, 0: BF16.
    i32 is_f16;
};
static_assert(sizeof(ActivationRows) == 88, "ActivationRows of gemm");

// The element of k that stands first of its pair, for pair `t` of the 16 bytes number `chunk` of a row.
DEVICE int element_in_order(int order, int chunk, int t) {
    int half = chunk >> 2 & 1, four = (chunk >> 1 & 1) * 4 + (chunk & 1) * 2, step = chunk >> 3;
    switch (order) {
        case RUNS: return 64 * step + 32 * half + 8 * t + four;
        case HALVES: return 64 * step + 32 * (t >> 1) + 16 * half + 8 * (t & 1) + four;
        case NEIGHBOURS: return 64 * step + 16 * t + 8 * half + four;
        default: return 128 * (step >> 1) + 64 * half + 32 * (step & 1) + 8 * t + four;
    }
}

// Thread `thread` of `n_threads` converts its part.
DEVICE void convert_rows(const ActivationRows& p, i64 thread, i64 n_threads) {
    int chunks = p.x.size[4] / 8;
    bool is_plain = p.x.dtype == F32 && p.x.stride[4] == 1;
    for (i64 i = thread; i < view_rows(p.x) * chunks; i += n_threads) {
        i64 row = i / chunks;
        int chunk = (int)(i % chunks);
        i64 from = row_offset(p.x, row);
        u32 words[4];
#pragma unroll
        for (int t = 0; t < 4; t++) {
            int k = element_in_order(p.order, chunk, t);
            float first, second;
            if (is_plain) {
                first = ((const float*)p.x.data)[from + k];
                second = ((const float*)p.x.data)[from + k + 1];
            } else {
                first = load_float(p.x.data, p.x.dtype, from + k * p.x.stride[4]);
                second = load_float(p.x.data, p.x.dtype, from + (k + 1) * p.x.stride[4]);
            }
            words[t] = p.is_f16 ? pack_f16(first, second) : pack_bf16(first, second);
        }
        uint4 all = {words[0], words[1], words[2], words[3]};
        *(uint4*)(p.to + i * 8) = all;
    }
}
