// What kernels call: barriers, exchanges between lanes, yielding.

#include <cstdio>
#include <cstring>

#include "fibers.h"

namespace sim {
namespace {

const char* name_of(int kind) {
    switch (kind) {
        case GGRS_SIM_SYNC: return "a sync";
        case GGRS_SIM_SHUFFLE: return "a shuffle";
        case GGRS_SIM_BALLOT: return "a ballot";
        case GGRS_SIM_ANY: return "an `any` or `or`";
        case GGRS_SIM_ALL: return "an `all` or `and`";
        case GGRS_SIM_REDUCE: return "a reduction";
        case GGRS_SIM_COUNT: return "a count";
        default: return "a collective";
    }
}

Fiber* fiber_of(ggrs_sim_thread* self) { return (Fiber*)self; }

void become_ready(Block* block, unsigned w, u64 lanes) {
    block->warps[w].ready |= lanes;
    if (lanes != 0) block->runnable_warps |= 1ull << w;
}

[[noreturn]] void mismatch(Fiber* self, int here, int there, const char* where) {
    stop_block(self, Error::LaunchFailed,
               std::string("it comes to ") + name_of(here) + " while others of the same " + where + " are at " +
                   name_of(there));
}

unsigned barrier(ggrs_sim_thread* thread, int kind, int predicate) {
    Fiber* self = fiber_of(thread);
    Block* block = self->block;
    if (block->n_at_barrier == 0) block->barrier_kind = kind;
    else if (block->barrier_kind != kind) mismatch(self, kind, block->barrier_kind, "block");
    block->barrier_votes += predicate != 0;
    if (++block->n_at_barrier == block->n_threads) {
        block->barrier_result = block->barrier_votes;
        block->barrier_votes = 0;
        block->n_at_barrier = 0;
        for (unsigned w = 0; w < block->n_warps; w++) {
            become_ready(block, w, block->warps[w].at_barrier);
            block->warps[w].at_barrier = 0;
        }
        return block->barrier_result;
    }
    block->warps[self->warp].at_barrier |= 1ull << thread->lane;
    leave(self);
    return block->barrier_result;
}

[[noreturn, gnu::cold]] void left_out(Fiber* self) {
    stop_block(self, Error::LaunchFailed, "it calls a collective of a warp with a mask that leaves it out");
}

// The lanes that are to meet; ends the block if this one is not among them.
inline u64 members(Fiber* self, const Warp& warp, u64 mask) {
    // The low half stands for all of a wide warp.
    if ((u32)mask == 0xffffffffu) return warp.lanes;
    u64 lanes = mask & warp.lanes;
    if ((lanes >> self->own.lane & 1) == 0) left_out(self);
    return lanes;
}

// Comes with some lanes of the warp; true if it was the last.
bool arrive_in_part(Fiber* self, Warp& warp, int kind, u64 lanes) {
    self->kind = kind;
    self->mask = lanes;
    warp.arrived_in_part |= 1ull << self->own.lane;
    if ((warp.arrived_in_part & lanes) != lanes) return false;
    for (u64 rest = lanes; rest != 0; rest &= rest - 1) {
        const Fiber& other = self->block->fibers[self->warp * self->block->width + __builtin_ctzll(rest)];
        if (other.mask != lanes) return false;
        if (other.kind != kind) mismatch(self, kind, other.kind, "warp");
    }
    warp.arrived_in_part &= ~lanes;
    return true;
}

// Comes with all lanes.
bool arrive(Fiber* self, Warp& warp, int kind) {
    if (warp.arrived == 0) warp.kind = kind;
    else if (warp.kind != kind) mismatch(self, kind, warp.kind, "warp");
    warp.arrived |= 1ull << self->own.lane;
    if (warp.arrived != warp.lanes) return false;
    warp.arrived = 0;
    return true;
}

const unsigned long long* exchange(ggrs_sim_thread* thread, int kind, unsigned long long mask,
                                   unsigned long long value) {
    Fiber* self = fiber_of(thread);
    Block* block = self->block;
    Warp& warp = block->warps[self->warp];
    u64 lanes = members(self, warp, mask), own = 1ull << thread->lane;
    warp.values_in[thread->lane] = value;
    bool is_whole = lanes == warp.lanes;
    if (is_whole) {
        if (arrive(self, warp, kind)) {
            std::memcpy(warp.values_out, warp.values_in, block->width * sizeof(u64));
            become_ready(block, self->warp, lanes & ~own);
            return (const unsigned long long*)warp.values_out;
        }
    } else if (arrive_in_part(self, warp, kind, lanes)) {
        for (u64 rest = lanes; rest != 0; rest &= rest - 1) {
            unsigned lane = (unsigned)__builtin_ctzll(rest);
            warp.part_out[lane] = warp.values_in[lane];
        }
        become_ready(block, self->warp, lanes & ~own);
        return (const unsigned long long*)warp.part_out;
    }
    leave(self);
    return (const unsigned long long*)(is_whole ? warp.values_out : warp.part_out);
}

unsigned long long vote(ggrs_sim_thread* thread, int kind, unsigned long long mask, int predicate) {
    const unsigned long long* values = exchange(thread, kind, mask, predicate != 0);
    Fiber* self = fiber_of(thread);
    const Warp& warp = self->block->warps[self->warp];
    u64 bits = 0;
    for (u64 rest = members(self, warp, mask); rest != 0; rest &= rest - 1) {
        unsigned lane = (unsigned)__builtin_ctzll(rest);
        bits |= values[lane] << lane;
    }
    return bits;
}

void yield(ggrs_sim_thread* thread) {
    Fiber* self = fiber_of(thread);
    self->block->warps[self->warp].yielded |= 1ull << thread->lane;
    leave(self);
}

void fail(ggrs_sim_thread* thread, const char* why) { stop_block(fiber_of(thread), Error::LaunchFailed, why); }

void fail_access(ggrs_sim_thread* thread, const char* file, unsigned line, unsigned long long value, unsigned alignment) {
    std::string place = std::string(file) + ":" + std::to_string(line) + ": ";
    if (alignment == 0) {
        stop_block(fiber_of(thread), Error::IllegalAddress,
                   place + "index " + std::to_string((long long)value) + " is outside of an array");
    }
    char address[32];
    std::snprintf(address, sizeof address, "%p", (void*)value);
    stop_block(fiber_of(thread), Error::Misaligned,
               place + "address " + address + " is no multiple of " + std::to_string(alignment));
}

}  // namespace

const ggrs_sim_engine engine_functions = {barrier, exchange, vote, yield, fail, fail_access};

std::string stuck_words(Block* block) {
    // Numbers of threads in each state, and the first of them.
    struct Group {
        const char* words;
        unsigned n = 0, first = 0;
    } groups[] = {{"wait at __syncthreads"}, {"wait at a collective of a warp"}, {"have ended"}};
    for (unsigned i = 0; i < block->n_threads; i++) {
        const Warp& warp = block->warps[i / block->width];
        u64 bit = 1ull << i % block->width;
        int group = warp.at_barrier & bit ? 0 : (warp.arrived | warp.arrived_in_part) & bit ? 1 : 2;
        if (groups[group].n++ == 0) groups[group].first = i;
    }
    std::string words = "its threads wait for each other in different places:";
    for (const Group& group : groups) {
        if (group.n == 0) continue;
        words += " " + std::to_string(group.n) + " " + group.words + " (the first is " + std::to_string(group.first) + ");";
    }
    words.pop_back();
    return words;
}

}  // namespace sim
