// Floats in an order, as integers: a key has a float's rank above its position, so that keys of a row are never equal
// and any sort of them is stable. Sorting and joining of keys in shared memory.

#include "prelude.cuh"

// Behind every key.
#define NO_KEY 0xffffffffffffffffULL

// Larger for larger floats; 0 and -0 are one.
DEVICE u32 rank_of(float x) {
    u32 bits = __float_as_uint(x);
    if (bits == 0x80000000u) bits = 0;
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}
DEVICE float float_of_rank(u32 rank) { return __uint_as_float(rank >> 31 ? rank & 0x7fffffffu : ~rank); }

// Smaller keys come first; of equal floats, the lower position.
DEVICE u64 key_of(float x, int position, bool descending) {
    u32 rank = rank_of(x);
    return (u64)(descending ? ~rank : rank) << 32 | (u32)position;
}
DEVICE int position_of(u64 key) { return (int)(u32)key; }

DEVICE u64 warp_first(u64 key) {
    for (int step = WARP / 2; step > 0; step /= 2) {
        u64 other = __shfl_xor_sync(FULL_MASK, key, step);
        if (other < key) key = other;
    }
    return key;
}

DEVICE void put_in_order(u64& a, u64& b, bool ascending) {
    u64 first = a, second = b;
    if ((second < first) == ascending) {
        a = second;
        b = first;
    }
}

// Where the stages below need not wait for the whole block: pairs so close stay inside a warp's keys.
DEVICE void wait_for_stage(int step, int next) {
    if (step > WARP || next > WARP) __syncthreads();
    else __syncwarp();
}

// Sorts `n` keys in shared memory, a power of two and at least 2 (a bitonic network). All threads must call it, and
// have stored the keys before a barrier.
DEVICE void sort_keys(u64* keys, int n) {
    for (int size = 2; size <= n; size *= 2) {
        for (int step = size / 2; step > 0; step /= 2) {
            for (int i = threadIdx.x; i < n / 2; i += blockDim.x) {
                int at = 2 * i - (i & (step - 1));
                put_in_order(keys[at], keys[at + step], (at & size) == 0);
            }
            wait_for_stage(step, step > 1 ? step / 2 : size);
        }
    }
    __syncthreads();
}

// Of `n` sorted lists of `k` keys each in shared memory, the first `k` of all, sorted, in place of the first list; `k`
// is a power of two and at least 2.
DEVICE void join_lists(u64* keys, int n, int k) {
    for (int apart = 1; apart < n; apart *= 2) {
        int n_pairs = (n + apart - 1) / (2 * apart);
        // The smaller of one list forwards and the other backwards: the first k of both, rising and then falling.
        for (int i = threadIdx.x; i < n_pairs * k; i += blockDim.x) {
            u64* list = keys + i / k * 2 * apart * k;
            int at = i % k;
            u64 other = list[apart * k + k - 1 - at];
            if (other < list[at]) list[at] = other;
        }
        __syncthreads();
        for (int step = k / 2; step > 0; step /= 2) {
            for (int i = threadIdx.x; i < n_pairs * (k / 2); i += blockDim.x) {
                u64* list = keys + i / (k / 2) * 2 * apart * k;
                int j = i % (k / 2), at = 2 * j - (j & (step - 1));
                put_in_order(list[at], list[at + step], true);
            }
            if (step == 1) __syncthreads();
            else wait_for_stage(step, step / 2);
        }
    }
}
