// Collectives inside a run: members write into each other's mailboxes. Sums are in member order, the same on all.

#include "floats.cuh"
#include "peer.cuh"

// `PeerReduce` of collective.rs.
struct PeerReduce {
    PeerGroup group;
    const float* x;
    float* out;
    i64 n;
    FaultCell late;
};
static_assert(sizeof(PeerReduce) == 120, "PeerReduce of collective.rs");

#define MARKED_PER_BLOCK 256

// Small sums: every element travels with a mark, so that one message is one store and no fence.
KERNEL(all_reduce_marked, PeerReduce, 256, 1) {
    WAIT();
    TRIGGER();
    const PeerGroup& g = p.group;
    u8* own = g.mailbox[g.rank];
    u32 mark = peer_marked_count(own)[blockIdx.x] + 1;
    u32 parity = mark & 1;
    float mine[MARKED_PER_BLOCK / 256];
#pragma unroll
    for (int j = 0; j < MARKED_PER_BLOCK / 256; j++) {
        i64 i = (i64)blockIdx.x * MARKED_PER_BLOCK + j * 256 + threadIdx.x;
        if (i >= p.n) break;
        mine[j] = p.x[i];
        u64 message = (u64)mark << 32 | __float_as_uint(mine[j]);
        for (int m = 0; m < g.n_members; m++)
            if (m != g.rank) store_marked(peer_marked(g.mailbox[m], parity, g.rank) + i, message);
    }
    bool late = false;
#pragma unroll
    for (int j = 0; j < MARKED_PER_BLOCK / 256; j++) {
        i64 i = (i64)blockIdx.x * MARKED_PER_BLOCK + j * 256 + threadIdx.x;
        if (i >= p.n) break;
        float sum = 0;
        for (int m = 0; m < g.n_members; m++) {
            u32 bits = __float_as_uint(mine[j]);
            if (m != g.rank) late |= !await_marked(peer_marked(own, parity, m) + i, mark, bits);
            sum = m == 0 ? __uint_as_float(bits) : sum + __uint_as_float(bits);
        }
        p.out[i] = sum;
    }
    if (late) report_fault(p.late, 0, 0);
    __syncthreads();
    if (threadIdx.x == 0) peer_marked_count(own)[blockIdx.x] = mark;
}

// Elements on their way, 16 bytes at once: as they are, or in BF16.
typedef Row<float, 4> InF32;
typedef Row<u16, 8> InBf16;
DEVICE InF32 pack(const Floats<4>& x) { return x; }
DEVICE InBf16 pack(const Floats<8>& x) {
    InBf16 to;
#pragma unroll
    for (int j = 0; j < 8; j++) to.v[j] = f32_to_bf16(x.v[j]);
    return to;
}
DEVICE Floats<4> unpack(const InF32& x) { return x; }
DEVICE Floats<8> unpack(const InBf16& x) {
    Floats<8> to;
#pragma unroll
    for (int j = 0; j < 8; j++) to.v[j] = bf16_to_f32(x.v[j]);
    return to;
}

// `PeerSum` of collective.rs.
struct PeerSum {
    PeerReduce sum;
    // Messages of a share that a block has in one turn: at most one for each thread, and what a slot holds.
    i64 piece;
    // May x and out be read and written a message's floats at a time?
    i64 is_aligned;
};
static_assert(sizeof(PeerSum) == 136, "PeerSum of collective.rs");

// Large sums. Each member adds up its own share of all operands and sends the sum to everybody; all have the sum as it
// was on its way. In turn `t` a block sends piece `t` of the others' shares, adds up piece `t - 1` of its own, which came
// in the turn before, and writes out the sums of piece `t - 2`: it meets the same block of the others once in a turn.
//
// Three slots are enough. Who sends piece `t` has seen the others end turn `t - 2`, so they have added up piece `t - 3`;
// who sends the sum of piece `t - 1` has seen them end turn `t - 1`, so they have written out piece `t - 3`.
template <typename Message, int N> DEVICE void all_reduce(const PeerSum& all) {
    WAIT();
    TRIGGER();
    const PeerReduce& p = all.sum;
    const PeerGroup& g = p.group;
    u8* own = g.mailbox[g.rank];
    const u32 count = peer_staged_count(own)[blockIdx.x];
    const i64 share = ((p.n + N - 1) / N + g.n_members - 1) / g.n_members;
    const i64 step = all.piece * gridDim.x, n_pieces = (share + step - 1) / step;
    // This thread's message of a piece: where in the share, and has it one?
    auto place = [&](i64 piece) { return piece * step + blockIdx.x * all.piece + threadIdx.x; };
    auto has = [&](i64 piece) { return threadIdx.x < all.piece && place(piece) < share; };
    auto slot = [&](int member, int stage, int from, i64 piece) -> Message& {
        const i64 number = ((i64)blockIdx.x * g.n_members + from) * PEER_SLOTS + piece % PEER_SLOTS;
        return ((Message*)peer_stage(g.mailbox[member], g, stage))[number * all.piece + threadIdx.x];
    };
    auto load = [&](int member, i64 piece) {
        const i64 first = (member * share + place(piece)) * N;
        Floats<N> x = {};
        if (all.is_aligned && first + N <= p.n) x = *(const Floats<N>*)(p.x + first);
        else for (int e = 0; e < N && first + e < p.n; e++) x.v[e] = p.x[first + e];
        return x;
    };
    auto store = [&](int member, i64 piece, const Message& message) {
        const i64 first = (member * share + place(piece)) * N;
        const Floats<N> x = unpack(message);
        if (all.is_aligned && first + N <= p.n) *(Floats<N>*)(p.out + first) = x;
        else for (int e = 0; e < N && first + e < p.n; e++) p.out[first + e] = x.v[e];
    };
    bool in_time = true;
    for (i64 turn = 0; turn < n_pieces + 2 && in_time; turn++) {
        const i64 sent = turn, summed = turn - 1, written = turn - 2;
        for (int m = 0; m < g.n_members; m++)
            if (m != g.rank && has(sent)) slot(m, 0, g.rank, sent) = pack(load(m, sent));
        if (turn > 0) in_time = peer_await(g, false, count + (u32)turn);
        if (summed >= 0 && has(summed)) {
            const Floats<N> mine = load(g.rank, summed);
            Floats<N> sum;
            for (int m = 0; m < g.n_members; m++) {
                const Floats<N> x = m == g.rank ? mine : unpack(slot(g.rank, 0, m, summed));
#pragma unroll
                for (int e = 0; e < N; e++) sum.v[e] = m == 0 ? x.v[e] : sum.v[e] + x.v[e];
            }
            const Message message = pack(sum);
            for (int m = 0; m < g.n_members; m++)
                if (m != g.rank) slot(m, 1, g.rank, summed) = message;
            store(g.rank, summed, message);
        }
        for (int m = 0; m < g.n_members; m++)
            if (m != g.rank && written >= 0 && has(written)) store(m, written, slot(g.rank, 1, m, written));
        if (turn <= n_pieces) peer_tell(g, false, count + (u32)turn + 1);
    }
    if (!in_time && threadIdx.x == 0) report_fault(p.late, 0, 0);
    __syncthreads();
    if (threadIdx.x == 0) peer_staged_count(own)[blockIdx.x] = count + (u32)n_pieces + 1;
}

KERNEL(all_reduce_staged, PeerSum, 1024, 1) { all_reduce<InF32, 4>(p); }
KERNEL(all_reduce_bf16, PeerSum, 1024, 1) { all_reduce<InBf16, 8>(p); }

// `PeerGather` of collective.rs: parts joined along an axis; `outer` axes before it, `inner` elements behind it.
struct PeerGather {
    PeerGroup group;
    const u32* x;
    u32* out;
    i64 outer;
    i64 inner;
    i64 start[PEER_MAX];
    i64 len[PEER_MAX];
    i64 whole;
    FaultCell late;
};
static_assert(sizeof(PeerGather) == 264, "PeerGather of collective.rs");

// Through the stage that nobody reads any more when a sum has ended here.
KERNEL(all_gather_staged, PeerGather, 512, 1) {
    WAIT();
    TRIGGER();
    const PeerGroup& g = p.group;
    u8* own = g.mailbox[g.rank];
    u32 count = peer_staged_count(own)[blockIdx.x];
    i64 piece = g.stage_bytes / 4 / g.n_members, longest = 0;
    for (int m = 0; m < g.n_members; m++) {
        i64 n = p.outer * p.len[m] * p.inner;
        longest = n > longest ? n : longest;
    }
    i64 first = (i64)blockIdx.x * blockDim.x + threadIdx.x, step = (i64)gridDim.x * blockDim.x;
    auto place = [&](int m, i64 i) {
        i64 row = p.len[m] * p.inner;
        return i / row * p.whole * p.inner + p.start[m] * p.inner + i % row;
    };
    bool in_time = true;
    for (i64 from = 0; from < longest && in_time; from += piece) {
        auto in_piece = [&](int m) {
            i64 rest = p.outer * p.len[m] * p.inner - from;
            return rest < 0 ? 0 : rest < piece ? rest : piece;
        };
        for (i64 i = first; i < in_piece(g.rank); i += step) {
            u32 v = p.x[from + i];
            p.out[place(g.rank, from + i)] = v;
            for (int m = 0; m < g.n_members; m++)
                if (m != g.rank) ((u32*)peer_stage(g.mailbox[m], g, 0))[g.rank * piece + i] = v;
        }
        count++;
        peer_tell(g, false, count);
        in_time = peer_await(g, false, count);
        for (int m = 0; m < g.n_members; m++) {
            if (m == g.rank) continue;
            const u32* stage = (const u32*)peer_stage(own, g, 0) + m * piece;
            for (i64 i = first; i < in_piece(m); i += step) p.out[place(m, from + i)] = stage[i];
        }
        // Nobody may write here again before all have read.
        peer_tell(g, true, count);
        in_time = peer_await(g, true, count) && in_time;
    }
    if (!in_time && threadIdx.x == 0) report_fault(p.late, 0, 0);
    __syncthreads();
    if (threadIdx.x == 0) peer_staged_count(own)[blockIdx.x] = count;
}
