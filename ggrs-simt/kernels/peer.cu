// Collectives inside a run: members write into each other's mailboxes. Sums are in member order, the same on all.

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

struct __attribute__((aligned(16))) Four {
    float v[4];
};
// Four elements on their way: as they are, or in BF16.
struct __attribute__((aligned(8))) FourHalves {
    u16 v[4];
};
DEVICE void pack(Four& to, const Four& f) { to = f; }
DEVICE void pack(FourHalves& to, const Four& f) {
    for (int j = 0; j < 4; j++) to.v[j] = f32_to_bf16(f.v[j]);
}
DEVICE Four unpack(const Four& f) { return f; }
DEVICE Four unpack(const FourHalves& f) {
    return {{bf16_to_f32(f.v[0]), bf16_to_f32(f.v[1]), bf16_to_f32(f.v[2]), bf16_to_f32(f.v[3])}};
}

// Large sums, in pieces of a stage: each member lays its operand out, adds up its own share of all operands, and lays
// the sum out at everybody's. All members have the sum as it was on its way.
template <typename Message> DEVICE void all_reduce(const PeerReduce& p) {
    WAIT();
    TRIGGER();
    const PeerGroup& g = p.group;
    u8* own = g.mailbox[g.rank];
    u32 count = peer_staged_count(own)[blockIdx.x];
    // Elements of a piece: whole shares of fours.
    i64 share = g.stage_bytes / (i64)sizeof(Message) / g.n_members;
    bool in_time = true;
    for (i64 from = 0; from < p.n && in_time; from += share * 4 * g.n_members) {
        i64 n = p.n - from < share * 4 * g.n_members ? p.n - from : share * 4 * g.n_members;
        i64 part = ((n + 3) / 4 + g.n_members - 1) / g.n_members;
        i64 first = (i64)blockIdx.x * blockDim.x + threadIdx.x, step = (i64)gridDim.x * blockDim.x;
        auto load = [&](const float* at, i64 four) {
            Four f = {};
            if (four * 4 + 4 <= n) f = *(const Four*)(at + four * 4);
            else for (int j = 0; four * 4 + j < n && j < 4; j++) f.v[j] = at[four * 4 + j];
            return f;
        };
        Message* stage = (Message*)peer_stage(own, g, 0);
        for (int m = 0; m < g.n_members; m++) {
            if (m == g.rank) continue;
            for (i64 i = first; i < part; i += step) pack(stage[m * part + i], load(p.x + from, m * part + i));
        }
        count++;
        peer_tell(g, false, count);
        in_time = peer_await(g, false, count);
        for (i64 i = first; i < part; i += step) {
            Four mine = load(p.x + from, g.rank * part + i), sum = {};
            for (int m = 0; m < g.n_members; m++) {
                Four f = mine;
                if (m != g.rank) f = unpack(((const Message*)peer_stage(g.mailbox[m], g, 0))[g.rank * part + i]);
                for (int j = 0; j < 4; j++) sum.v[j] = m == 0 ? f.v[j] : sum.v[j] + f.v[j];
            }
            Message message;
            pack(message, sum);
            for (int m = 0; m < g.n_members; m++) ((Message*)peer_stage(g.mailbox[m], g, 1))[g.rank * part + i] = message;
        }
        peer_tell(g, true, count);
        in_time = peer_await(g, true, count) && in_time;
        const Message* sums = (const Message*)peer_stage(own, g, 1);
        for (int m = 0; m < g.n_members; m++) {
            for (i64 i = first; i < part; i += step) {
                i64 four = m * part + i;
                Four f = unpack(sums[four]);
                if (four * 4 + 4 <= n) *(Four*)(p.out + from + four * 4) = f;
                else for (int j = 0; four * 4 + j < n && j < 4; j++) p.out[from + four * 4 + j] = f.v[j];
            }
        }
    }
    if (!in_time && threadIdx.x == 0) report_fault(p.late, 0, 0);
    __syncthreads();
    if (threadIdx.x == 0) peer_staged_count(own)[blockIdx.x] = count;
}

KERNEL(all_reduce_staged, PeerReduce, 512, 1) { all_reduce<Four>(p); }
KERNEL(all_reduce_bf16, PeerReduce, 512, 1) { all_reduce<FourHalves>(p); }

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
                if (m != g.rank) ((u32*)peer_stage(g.mailbox[m], g, 1))[g.rank * piece + i] = v;
        }
        count++;
        peer_tell(g, false, count);
        in_time = peer_await(g, false, count);
        for (int m = 0; m < g.n_members; m++) {
            if (m == g.rank) continue;
            const u32* stage = (const u32*)peer_stage(own, g, 1) + m * piece;
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
