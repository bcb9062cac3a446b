// Memory that the members of a group share: each has a mailbox that all of them can reach. What is written by one device
// and read by another goes through these few loads and stores.

#include "prelude.cuh"

#define PEER_MAX 8
#define PEER_BLOCKS 128
// Elements of a message whose every element carries its own mark.
#define PEER_MARKED 16384
// Pieces of large sums on their way from each member to each other, by block.
#define PEER_SLOTS 3

// `PeerGroup` of peers.rs. A mailbox is: counts of the marked messages by block, counts of the staged ones, arrivals of
// each member by block, departures likewise, marked elements [2][members][PEER_MARKED], then two stages: what is to be added
// up or gathered, and sums.
struct PeerGroup {
    u8* mailbox[PEER_MAX];
    i64 stage_bytes;
    i32 n_members;
    i32 rank;
};
static_assert(sizeof(PeerGroup) == 80, "PeerGroup of peers.rs");

DEVICE u32* peer_marked_count(u8* box) { return (u32*)box; }
DEVICE u32* peer_staged_count(u8* box) { return (u32*)box + PEER_BLOCKS; }
DEVICE u32* peer_arrivals(u8* box, i32 member) { return (u32*)box + (2 + member) * PEER_BLOCKS; }
DEVICE u32* peer_departures(u8* box, i32 member) { return (u32*)box + (2 + PEER_MAX + member) * PEER_BLOCKS; }
DEVICE u64* peer_marked(u8* box, u32 parity, i32 member) {
    u64* first = (u64*)(box + (2 + 2 * PEER_MAX) * PEER_BLOCKS * 4);
    return first + ((i64)parity * PEER_MAX + member) * PEER_MARKED;
}
DEVICE u8* peer_stage(u8* box, const PeerGroup& g, i32 which) {
    return (u8*)peer_marked(box, 2, 0) + which * g.stage_bytes;
}

#if defined(GGRS_SIM)
DEVICE void store_marked(u64* at, u64 v) { __atomic_store_n(at, v, __ATOMIC_RELEASE); }
DEVICE u64 load_marked(const u64* at) { return __atomic_load_n(at, __ATOMIC_ACQUIRE); }
DEVICE void store_release(u32* at, u32 v) { __atomic_store_n(at, v, __ATOMIC_RELEASE); }
DEVICE u32 load_acquire(const u32* at) { return __atomic_load_n(at, __ATOMIC_ACQUIRE); }
DEVICE void spin() { __nanosleep(20); }
#elif defined(__HIP_PLATFORM_AMD__)
DEVICE void store_marked(u64* at, u64 v) { __hip_atomic_store(at, v, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_SYSTEM); }
DEVICE u64 load_marked(const u64* at) { return __hip_atomic_load(at, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_SYSTEM); }
DEVICE void store_release(u32* at, u32 v) { __hip_atomic_store(at, v, __ATOMIC_RELEASE, __HIP_MEMORY_SCOPE_SYSTEM); }
DEVICE u32 load_acquire(const u32* at) { return __hip_atomic_load(at, __ATOMIC_ACQUIRE, __HIP_MEMORY_SCOPE_SYSTEM); }
DEVICE void spin() {}
#else
DEVICE void store_marked(u64* at, u64 v) { asm volatile("st.relaxed.sys.global.u64 [%0], %1;" ::"l"(at), "l"(v) : "memory"); }
DEVICE u64 load_marked(const u64* at) {
    u64 v;
    asm volatile("ld.relaxed.sys.global.u64 %0, [%1];" : "=l"(v) : "l"(at) : "memory");
    return v;
}
DEVICE void store_release(u32* at, u32 v) { asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(at), "r"(v) : "memory"); }
DEVICE u32 load_acquire(const u32* at) {
    u32 v;
    asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(v) : "l"(at) : "memory");
    return v;
}
DEVICE void spin() {}
#endif

// How often a wait looks before it gives up: seconds on real hardware.
#if defined(GGRS_SIM)
#define PEER_PATIENCE (1ull << 24)
#else
#define PEER_PATIENCE (1ull << 26)
#endif

// Waits for the mark of a marked element; `false` if the peer is late.
DEVICE bool await_marked(const u64* at, u32 mark, u32& bits) {
    for (u64 i = 0; i < PEER_PATIENCE; i++) {
        u64 v = load_marked(at);
        if ((u32)(v >> 32) == mark) {
            bits = (u32)v;
            return true;
        }
        spin();
    }
    bits = 0;
    return false;
}

// Tells all others that this block has come so far: everything that its threads wrote before is seen with it. The store
// releases what the barrier has gathered; a fence of its own would double what that costs.
DEVICE void peer_tell(const PeerGroup& g, bool departs, u32 count) {
    __syncthreads();
    if ((int)threadIdx.x < g.n_members && (int)threadIdx.x != g.rank) {
        u8* box = g.mailbox[threadIdx.x];
        store_release((departs ? peer_departures(box, g.rank) : peer_arrivals(box, g.rank)) + blockIdx.x, count);
    }
}
// Waits until all others' blocks of the same number have come so far or farther; `false` if one is late.
DEVICE bool peer_await(const PeerGroup& g, bool departs, u32 count) {
    bool late = false;
    if ((int)threadIdx.x < g.n_members && (int)threadIdx.x != g.rank) {
        u8* box = g.mailbox[g.rank];
        const u32* at = (departs ? peer_departures(box, threadIdx.x) : peer_arrivals(box, threadIdx.x)) + blockIdx.x;
        u64 i = 0;
        while ((i32)(load_acquire(at) - count) < 0 && i < PEER_PATIENCE) {
            spin();
            i++;
        }
        late = i == PEER_PATIENCE;
    }
    return !__syncthreads_or(late);
}
