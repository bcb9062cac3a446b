// Sorts pairs of a token and one of its experts by expert, for products by matrix units, and converts the activations
// meanwhile. A block has one expert: it counts the pairs before its own and lists its own in their order, so no block
// waits for another and the order is always the same.

#include "gemm_rows.cuh"
#include "gemm_tiles.cuh"

#define THREADS 1024
#define SEGMENTS (THREADS / 32)

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
};
static_assert(sizeof(Sort) == 216, "Sort of gemm/params.rs");

// Ids are I32.
DEVICE int id_of(const Sort& p, bool is_plain, int pair) {
    int n_used = p.ids.size[4];
    i64 at = is_plain ? pair : pair / n_used * p.ids.stride[3] + pair % n_used * p.ids.stride[4];
    return ((const i32*)p.ids.data)[at];
}
// A negative id wraps to a large one.
DEVICE int group_of(const Sort& p, int id) {
    u32 place = (u32)id - (u32)p.first;
    return place < (u32)p.held ? (int)place : p.held;
}

DEVICE void sort_group(const Sort& p, int group) {
    __shared__ int n_before[SEGMENTS];
    __shared__ int n_mine[SEGMENTS];
    const int n_pairs = p.ids.size[3] * p.ids.size[4];
    const bool is_plain = p.ids.stride[4] == 1 && (p.ids.stride[3] == p.ids.size[4] || p.ids.size[3] == 1);
    // Each warp looks at a segment of the pairs.
    int segment = (n_pairs + THREADS - 1) / THREADS * 32;
    int from = WARP_ID * segment, to = from + segment < n_pairs ? from + segment : n_pairs;
    int before = 0, mine = 0;
#pragma unroll 8
    for (int i = from; i < to; i += 32) {
        int at = i + LANE < to ? group_of(p, id_of(p, is_plain, i + LANE)) : -1;
        before += at >= 0 && at < group;
        mine += at == group;
    }
    before = warp_sum(before);
    mine = warp_sum(mine);
    if (LANE == 0) {
        n_before[WARP_ID] = before;
        n_mine[WARP_ID] = mine;
    }
    __syncthreads();
    int first = 0, count = 0, place = 0;
    for (int i = 0; i < SEGMENTS; i++) {
        first += n_before[i];
        if (i < WARP_ID) place += n_mine[i];
        count += n_mine[i];
    }
    place += first;
#pragma unroll 4
    for (int i = from; mine > 0 && i < to; i += 32) {
        bool is_there = i + LANE < to;
        int id = is_there ? id_of(p, is_plain, i + LANE) : 0;
        bool is_mine = is_there && group_of(p, id) == group;
        u32 all = __ballot_sync(FULL_MASK, is_mine);
        if (is_mine) {
            p.pairs[place + __popc(all & ((1u << LANE) - 1))] = i + LANE;
            if (group == p.held && (id < 0 || id >= p.total)) report_fault(p.fault, (i + LANE) / p.ids.size[4], id);
        }
        place += __popc(all);
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

KERNEL(moe_sort, Sort, THREADS, 1) {
    WAIT();
    TRIGGER();
    int n_groups = p.held + 1;
    if ((int)blockIdx.x < n_groups) {
        sort_group(p, blockIdx.x);
        return;
    }
    convert_rows(p.rows, (int)blockIdx.x - n_groups, (int)gridDim.x - n_groups);
}
