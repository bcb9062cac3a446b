// The threads of a block as fibers of one thread of the host.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "device_abi.h"
#include "engine.h"

namespace sim {

constexpr unsigned MAX_WARP = 64;

struct Block;
struct Stack;
struct Worker;

// A thread of a block. `own` comes first: kernels see it.
struct alignas(64) Fiber {
    ggrs_sim_thread own;
    void* saved = nullptr;
    Stack* stack = nullptr;
    Block* block = nullptr;
    unsigned warp = 0;
    // What it waits for, if only with some lanes.
    int kind = 0;
    u64 mask = 0;
};

struct alignas(64) Warp {
    // Lanes, as bits. A lane is in one of these, or none while it runs.
    u64 lanes = 0;
    u64 fresh = 0;
    u64 ready = 0;
    u64 yielded = 0;
    u64 at_barrier = 0;
    u64 arrived = 0;
    u64 arrived_in_part = 0;
    u64 done = 0;

    int kind = 0;
    u64 values_in[MAX_WARP];
    u64 values_out[MAX_WARP];
    // The same of collectives of some lanes: those of all may still be read.
    u64 part_out[MAX_WARP];

    u64 runnable() const { return fresh | ready; }
};

// Why a block came to an end, or why a fiber was stopped.
struct Fault {
    Error error = Error::None;
    // A signal, or 0.
    int signal = 0;
    int code = 0;
    u64 address = 0;
    bool is_write = false;
    std::string text;
};

enum class Outcome { Done, Stalled, Failed };

// The state of a block that runs; used again for others.
struct Block {
    ggrs_sim_block own;
    unsigned width = 0;
    unsigned n_threads = 0;
    unsigned n_warps = 0;
    std::unique_ptr<Fiber[]> fibers;
    std::unique_ptr<Warp[]> warps;
    // Warps with lanes that can run, as bits.
    u64 runnable_warps = 0;
    bool is_reversed = false;
    unsigned n_at_barrier = 0;
    int barrier_kind = 0;
    unsigned barrier_votes = 0;
    unsigned barrier_result = 0;

    void (*run)(const void*) = nullptr;
    const void* params = nullptr;
    // Dynamic shared memory that ends at a guard page.
    u8* shared_end = nullptr;
    // Static shared memory while another block runs on the same thread.
    std::vector<u8> parked_shared;
    // The launch that it belongs to.
    void* grid = nullptr;
    Worker* worker = nullptr;

    Block();
    ~Block();
    Block(const Block&) = delete;
    // Makes it a block of a launch.
    void set_up(const unsigned (&grid_dim)[3], const unsigned (&block_dim)[3], unsigned warp);
    void begin(u64 index, unsigned dynamic_bytes);
};

struct Stack {
    u8* top;
    Stack* next;
};

// What a thread of the host has to run blocks.
struct Worker {
    // The running block's fiber; null outside of kernels.
    Fiber* volatile current = nullptr;
    void* scheduler = nullptr;
    Fault fault;
    bool has_fault = false;
    Stack* free_stacks = nullptr;
    unsigned n_free_stacks = 0;
    std::vector<std::unique_ptr<Block>> free_blocks;
    // Blocks whose threads all wait for something outside.
    std::vector<Block*> parked;
    u64 thread = 0;
    // Counts runs of blocks; odd while one runs. For the watchdog.
    std::atomic<u64> runs{0};

    Stack* take_stack();
    void give_stack(Stack* stack);
    Block* take_block();
    // After a fault as well: stacks of unfinished fibers come back.
    void give_block(Block* block);
};

// The calling thread's.
Worker& this_worker();
// Null if it never ran a block. Safe in signal handlers.
Worker* this_worker_if_any();

// Runs a block until it is done, or all its threads wait for others, or it fails; then the worker has the fault.
Outcome run_block(Worker& worker, Block* block);

extern const ggrs_sim_engine engine_functions;

inline unsigned first_bit(u64 bits, bool is_reversed) {
    return is_reversed ? 63 - (unsigned)__builtin_clzll(bits) : (unsigned)__builtin_ctzll(bits);
}

// The next fiber that can run, from now on neither fresh nor ready; null if there is none. Lanes of the same warp first,
// so that a collective of a warp is met soon.
inline Fiber* take_next(Block* block, unsigned w, bool& is_fresh) {
    Warp* warp = &block->warps[w];
    u64 lanes = warp->runnable();
    if (lanes == 0) {
        block->runnable_warps &= ~(1ull << w);
        if (block->runnable_warps == 0) return nullptr;
        w = first_bit(block->runnable_warps, block->is_reversed);
        warp = &block->warps[w];
        lanes = warp->runnable();
    }
    unsigned lane = first_bit(lanes, block->is_reversed);
    u64 others = ~(1ull << lane);
    is_fresh = (warp->fresh & ~others) != 0;
    warp->fresh &= others;
    warp->ready &= others;
    return &block->fibers[w * block->width + lane];
}

// Leaves a fiber that waits.
void leave(Fiber* self);
[[noreturn]] void stop_block(Fiber* self, Error error, std::string text);
// How a block hangs, in words.
std::string stuck_words(Block* block);

// Of signals.cpp.
void install_handlers();
void prepare_thread();
void watch(Worker* worker);
void unwatch(Worker* worker);
extern "C" void ggrs_sim_resume_scheduler();

}  // namespace sim
