// The k largest, the sorting order and the largest of rows. A NaN has no place in an order: it is a fault.

#include "order.cuh"

// Keys that one block sorts of a wide row, and keys that one block joins.
#define TILE 2048
#define CHUNK 1024

struct SelectParams {
    View x;
    // [rows, k], gapless; values only for the k largest.
    i32* positions;
    float* values;
    FaultCell fault;
    // Keys in working memory.
    const u64* from;
    u64* to;
    i32 k;
    i32 descending;
    // Of a row: lists, tiles, or keys.
    i32 n;
    // Keys of a list.
    i32 length;
    // Lists that one block joins.
    i32 group;
    i32 is_last;
};
static_assert(sizeof(SelectParams) == 144, "SelectParams of select.rs");

DEVICE const float* row_of(const SelectParams& p, i64 row) {
    return (const float*)p.x.data + row_offset(p.x, row);
}

// The key of element `at` of a row, if there is one.
DEVICE u64 load_key(const SelectParams& p, i64 row, const float* x, int at) {
    if (at >= p.x.size[4]) return NO_KEY;
    float value = x[at];
    if (value != value) report_fault(p.fault, row, at);
    return key_of(value, at, p.descending);
}

DEVICE void write_result(const SelectParams& p, i64 row, const float* x, int at, u64 key) {
    p.positions[row * p.k + at] = position_of(key);
    if (p.values) p.values[row * p.k + at] = x[position_of(key)];
}

// Rows that fit into shared memory, `n` keys with what is filled up: one block per row.
KERNEL(sort_rows, SelectParams, 1024, 1) {
    WAIT();
    TRIGGER();
    DYNAMIC_SHARED(space);
    u64* keys = (u64*)space;
    i64 row = blockIdx.x;
    const float* x = row_of(p, row);
    for (int i = threadIdx.x; i < p.n; i += blockDim.x) keys[i] = load_key(p, row, x, i);
    __syncthreads();
    sort_keys(keys, p.n);
    for (int i = threadIdx.x; i < p.k; i += blockDim.x) write_result(p, row, x, i, keys[i]);
}

// Wide rows, `n` tiles each: every tile sorted for itself, its first `length` keys kept.
KERNEL(sort_tiles, SelectParams, 1024, 1) {
    WAIT();
    TRIGGER();
    __shared__ u64 keys[TILE];
    i64 row = blockIdx.x / p.n;
    int start = (int)(blockIdx.x % p.n) * TILE;
    const float* x = row_of(p, row);
    for (int i = threadIdx.x; i < TILE; i += blockDim.x) keys[i] = load_key(p, row, x, start + i);
    __syncthreads();
    sort_keys(keys, TILE);
    u64* to = p.to + (i64)blockIdx.x * p.length;
    for (int i = threadIdx.x; i < p.length; i += blockDim.x) to[i] = keys[i];
}

// `n` sorted lists of `length` keys per row: every `group` become one, as long, of the first keys of all.
KERNEL(join_groups, SelectParams, 1024, 1) {
    WAIT();
    TRIGGER();
    DYNAMIC_SHARED(space);
    u64* keys = (u64*)space;
    int n_groups = (p.n + p.group - 1) / p.group;
    i64 row = blockIdx.x / n_groups;
    int first = (int)(blockIdx.x % n_groups) * p.group;
    int n = p.n - first < p.group ? p.n - first : p.group;
    const u64* from = p.from + (row * p.n + first) * p.length;
    for (int i = threadIdx.x; i < n * p.length; i += blockDim.x) keys[i] = from[i];
    __syncthreads();
    join_lists(keys, n, p.length);
    if (p.is_last) {
        const float* x = row_of(p, row);
        for (int i = threadIdx.x; i < p.k; i += blockDim.x) write_result(p, row, x, i, keys[i]);
    } else {
        u64* to = p.to + (i64)blockIdx.x * p.length;
        for (int i = threadIdx.x; i < p.length; i += blockDim.x) to[i] = keys[i];
    }
}

// How many of the first `d` keys of two joined lists are of the first list. A whole warp asks, each lane at another
// place, so that few loads follow one another.
DEVICE int keys_of_first(const u64* a, int n_a, const u64* b, int n_b, int d) {
    int low = d > n_b ? d - n_b : 0, high = d < n_a ? d : n_a;
    while (low < high) {
        int step = (high - low + WARP - 1) / WARP;
        int at = low + LANE * step;
        int n_below = warp_sum((int)(at < high && a[at] <= b[d - 1 - at]));
        if (n_below == 0) break;
        int next = low + n_below * step;
        low += (n_below - 1) * step + 1;
        if (next < high) high = next;
    }
    return low;
}
// How many of `n` sorted keys are before `key`, or not behind it.
DEVICE int keys_before(const u64* keys, int n, u64 key, bool or_equal) {
    int low = 0, high = n;
    while (low < high) {
        int middle = (low + high) / 2;
        if (keys[middle] < key || (or_equal && keys[middle] == key)) low = middle + 1;
        else high = middle;
    }
    return low;
}

// `n` keys per row, sorted in runs of `length`: neighbouring runs joined. One block makes CHUNK keys.
KERNEL(merge_runs, SelectParams, 256, 4) {
    WAIT();
    TRIGGER();
    __shared__ u64 keys[CHUNK], joined[CHUNK];
    __shared__ int of_first[2];
    int n_chunks = (p.is_last ? p.k + CHUNK - 1 : p.n) / CHUNK;
    i64 row = blockIdx.x / n_chunks;
    int start = (int)(blockIdx.x % n_chunks) * CHUNK;
    int base = start / (2 * p.length) * (2 * p.length);
    const u64* a = p.from + row * p.n + base;
    const u64* b = a + p.length;
    int n_a = p.n - base < p.length ? p.n - base : p.length;
    int n_b = p.n - base - n_a < p.length ? p.n - base - n_a : p.length;
    // Both ends at once.
    if (WARP_ID < 2) {
        int n = keys_of_first(a, n_a, b, n_b, start - base + WARP_ID * CHUNK);
        if (LANE == 0) of_first[WARP_ID] = n;
    }
    __syncthreads();
    int first_a = of_first[0], first_b = start - base - first_a;
    int part_a = of_first[1] - first_a, part_b = CHUNK - part_a;
    for (int i = threadIdx.x; i < CHUNK; i += blockDim.x) {
        keys[i] = i < part_a ? a[first_a + i] : b[first_b + i - part_a];
    }
    __syncthreads();
    for (int i = threadIdx.x; i < CHUNK; i += blockDim.x) {
        u64 key = keys[i];
        int others = i < part_a ? keys_before(keys + part_a, part_b, key, false) : keys_before(keys, part_a, key, true);
        joined[(i < part_a ? i : i - part_a) + others] = key;
    }
    __syncthreads();
    const float* x = row_of(p, row);
    for (int i = threadIdx.x; i < CHUNK; i += blockDim.x) {
        if (!p.is_last) p.to[row * p.n + start + i] = joined[i];
        else if (start + i < p.k) write_result(p, row, x, start + i, joined[i]);
    }
}

// The first key of a part of a row, seen by every `step`th thread.
DEVICE u64 first_of(const SelectParams& p, i64 row, int start, int end, int step) {
    const float* x = row_of(p, row);
    u64 first = NO_KEY;
    bool is_bad = false;
#pragma unroll 4
    for (int i = start; i < end; i += step) {
        float value = x[i];
        is_bad |= value != value;
        u64 key = key_of(value, i, true);
        if (key < first) first = key;
    }
    if (is_bad) report_fault(p.fault, row, 0);
    return first;
}

// The largest of each row: one warp per row.
KERNEL(argmax_rows, SelectParams, 256, 4) {
    WAIT();
    TRIGGER();
    i64 row = (i64)blockIdx.x * N_WARPS + WARP_ID;
    if (row >= view_rows(p.x)) return;
    u64 key = warp_first(first_of(p, row, LANE, p.x.size[4], WARP));
    if (LANE == 0) p.positions[row] = position_of(key);
}

// The largest of wide rows, in `n` parts of `length` elements: one block per part.
KERNEL(argmax_parts, SelectParams, 256, 4) {
    WAIT();
    TRIGGER();
    __shared__ u64 of_warps[32];
    i64 row = blockIdx.x / p.n;
    int start = (int)(blockIdx.x % p.n) * p.length;
    int end = p.x.size[4] - start < p.length ? p.x.size[4] : start + p.length;
    u64 key = warp_first(first_of(p, row, start + (int)threadIdx.x, end, blockDim.x));
    if (LANE == 0) of_warps[WARP_ID] = key;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int w = 0; w < N_WARPS; w++) key = of_warps[w] < key ? of_warps[w] : key;
    if (p.is_last) p.positions[row] = position_of(key);
    else p.to[blockIdx.x] = key;
}

// The first of the `n` keys of each row: one warp per row.
KERNEL(argmax_finish, SelectParams, 256, 4) {
    WAIT();
    TRIGGER();
    i64 row = (i64)blockIdx.x * N_WARPS + WARP_ID;
    if (row >= view_rows(p.x)) return;
    u64 first = NO_KEY;
    for (int i = LANE; i < p.n; i += WARP) {
        u64 key = p.from[row * p.n + i];
        if (key < first) first = key;
    }
    first = warp_first(first);
    if (LANE == 0) p.positions[row] = position_of(first);
}
