// Sorts pairs of a token and one of its experts by expert, for products by matrix units, and converts the activations
// meanwhile. A block has one expert: it counts the pairs before its own and lists its own in their order, so no block
// waits for another and the order is always the same.

#include "gemm_rows.cuh"
#include "gemm_tiles.cuh"

#define THREADS 256
#define N_SEGMENTS (THREADS / 32)

// `Sort` of gemm/params.rs.
struct Sort {
    ActivationRows rows;
    View ids;
    FaultCell fault;
    i32* pairs;
    Tile* tiles;
    // Activations of a tile, as the product wants them.
    i32 n_tile;
    // Experts `first..first + held` of `total`; pairs of all others are the last group.
    i32 first;
    i32 held;
    i32 total;
    // Do the ids lie without gaps, at a multiple of 16 bytes?
    i32 is_plain;
    i32 pad;
};
static_assert(sizeof(Sort) == 240, "Sort of gemm/params.rs");

// The groups of four pairs, -1 behind the last pair: a negative id wraps to a large one. Ids are I32.
struct Four {
    int id[4], group[4];
};
DEVICE Four four_at(const Sort& p, int pair, int end) {
    const int n_used = p.ids.size[4];
    const i32* ids = (const i32*)p.ids.data;
    Four four;
    if (p.is_plain && pair + 4 <= end) {
        const int4 all = *(const int4*)(ids + pair);
        four = {{all.x, all.y, all.z, all.w}, {}};
    } else {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const int at = pair + e < end ? pair + e : 0;
            four.id[e] = ids[at / n_used * p.ids.stride[3] + at % n_used * p.ids.stride[4]];
        }
    }
#pragma unroll
    for (int e = 0; e < 4; e++) {
        const u32 place = (u32)four.id[e] - (u32)p.first;
        four.group[e] = pair + e >= end ? -1 : place < (u32)p.held ? (int)place : p.held;
    }
    return four;
}

DEVICE void sort_group(const Sort& p, int group) {
    __shared__ int n_before[N_SEGMENTS];
    __shared__ int n_mine[N_SEGMENTS];
    const int n_pairs = p.ids.size[3] * p.ids.size[4];
    // Each warp looks at a segment of the pairs, each lane at four of 128.
    const int segment = (n_pairs + N_SEGMENTS * 128 - 1) / (N_SEGMENTS * 128) * 128;
    const int from = WARP_ID * segment, to = from + segment < n_pairs ? from + segment : n_pairs;
    int before = 0, mine = 0;
#pragma unroll 4
    for (int i = from; i < to; i += 128) {
        const Four four = four_at(p, i + LANE * 4, to);
#pragma unroll
        for (int e = 0; e < 4; e++) {
            before += four.group[e] >= 0 && four.group[e] < group;
            mine += four.group[e] == group;
        }
    }
    before = warp_sum(before);
    mine = warp_sum(mine);
    if (LANE == 0) {
        n_before[WARP_ID] = before;
        n_mine[WARP_ID] = mine;
    }
    __syncthreads();
    int first = 0, count = 0, place = 0;
    for (int i = 0; i < N_SEGMENTS; i++) {
        first += n_before[i];
        if (i < WARP_ID) place += n_mine[i];
        count += n_mine[i];
    }
    place += first;
#pragma unroll 4
    for (int i = from; mine > 0 && i < to; i += 128) {
        const int pair = i + LANE * 4;
        const Four four = four_at(p, pair, to);
        u32 all[4];
        int own = place;
#pragma unroll
        for (int e = 0; e < 4; e++) {
            all[e] = __ballot_sync(FULL_MASK, four.group[e] == group);
            own += __popc(all[e] & ((1u << LANE) - 1));
            place += __popc(all[e]);
        }
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const int id = four.id[e];
            if (four.group[e] != group) continue;
            p.pairs[own++] = pair + e;
            if (group == p.held && (id < 0 || id >= p.total)) report_fault(p.fault, (pair + e) / p.ids.size[4], id);
        }
    }
    // Room for tiles starts at `first / n_tile + group`: enough for all before, however they are shared out.
    int tile = first / p.n_tile + group, end = (first + count) / p.n_tile + group + 1;
    for (int i = threadIdx.x; tile + i < end; i += THREADS) {
        int left = count - i * p.n_tile;
        Tile made = {group < p.held ? group : -1, first + i * p.n_tile, left < p.n_tile ? left : p.n_tile, 0};
        if (left <= 0) made.count = 0;
        p.tiles[tile + i] = made;
    }
}

KERNEL(moe_sort, Sort, THREADS, 3) {
    WAIT();
    TRIGGER();
    int n_groups = p.held + 1;
    if ((int)blockIdx.x < n_groups) {
        sort_group(p, blockIdx.x);
        return;
    }
    convert_rows(p.rows, (int)blockIdx.x - n_groups, (int)gridDim.x - n_groups);
}
