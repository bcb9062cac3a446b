// Switching between fibers, their stacks, and the order in which they run.

#include "fibers.h"

#include <pthread.h>
#include <sys/mman.h>

#include <cstring>

// Saves what a call must keep, and goes on where another saved it.
asm(R"(
    .text
    .globl ggrs_sim_switch
    .hidden ggrs_sim_switch
    .type ggrs_sim_switch, @function
ggrs_sim_switch:
    // Not by pushes and pops: processors that guess what a pop gets from the last push guess wrong here.
    movq %rbp, -8(%rsp)
    movq %rbx, -16(%rsp)
    movq %r12, -24(%rsp)
    movq %r13, -32(%rsp)
    movq %r14, -40(%rsp)
    movq %r15, -48(%rsp)
    movq %rsp, (%rdi)
    movq -8(%rsi), %rbp
    movq -16(%rsi), %rbx
    movq -24(%rsi), %r12
    movq -32(%rsi), %r13
    movq -40(%rsi), %r14
    movq -48(%rsi), %r15
    movq %rsi, %rsp
    // Mostly to where the fiber before came from, as the processor guesses.
    ret
    .size ggrs_sim_switch, .-ggrs_sim_switch

    // Where a fault in a kernel goes on: rsp is as the scheduler saved it.
    .globl ggrs_sim_resume_scheduler
    .hidden ggrs_sim_resume_scheduler
    .type ggrs_sim_resume_scheduler, @function
ggrs_sim_resume_scheduler:
    movq -8(%rsp), %rbp
    movq -16(%rsp), %rbx
    movq -24(%rsp), %r12
    movq -32(%rsp), %r13
    movq -40(%rsp), %r14
    movq -48(%rsp), %r15
    ret
    .size ggrs_sim_resume_scheduler, .-ggrs_sim_resume_scheduler

    // First code of a fiber on a stack of its own.
    .globl ggrs_sim_fiber_start
    .hidden ggrs_sim_fiber_start
    .type ggrs_sim_fiber_start, @function
ggrs_sim_fiber_start:
    movq %r15, %rdi
    call ggrs_sim_fiber_main
    ud2
    .size ggrs_sim_fiber_start, .-ggrs_sim_fiber_start

    // Calls a kernel (rdi) with its parameters (rsi) as a thread (rdx).
    .globl ggrs_sim_run_as
    .hidden ggrs_sim_run_as
    .type ggrs_sim_run_as, @function
ggrs_sim_run_as:
    pushq %r15
    movq %rdx, %r15
    movq %rdi, %rax
    movq %rsi, %rdi
    call *%rax
    popq %r15
    ret
    .size ggrs_sim_run_as, .-ggrs_sim_run_as
)");

extern "C" {
void ggrs_sim_switch(void** save, void* load);
void ggrs_sim_fiber_start();
void ggrs_sim_run_as(void (*run)(const void*), const void* params, sim::Fiber* fiber);
}

namespace sim {
namespace {

constexpr u64 PAGE = 4096;
constexpr u64 STACK = 64 * 1024;
constexpr unsigned STACKS_AT_ONCE = 32;
// A worker's own: those of a large block.
constexpr unsigned STACKS_KEPT = 1024;
// Dynamic shared memory with room for what the alignment loses.
constexpr u64 SHARED = 256 * 1024;
// Stacks begin at different lines of the cache.
constexpr u64 COLOURS = 16, COLOUR_BYTES = 192;

Stack* make_stacks() {
    u8* at = (u8*)mmap(nullptr, STACKS_AT_ONCE * (STACK + PAGE), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) {
        report(Error::OutOfMemory, "no memory for the stacks of a block's threads");
        abort();
    }
    Stack* first = nullptr;
    for (unsigned i = 0; i < STACKS_AT_ONCE; i++) {
        u8* base = at + i * (STACK + PAGE);
        mprotect(base, PAGE, PROT_NONE);
        first = new Stack{base + PAGE + STACK - i % COLOURS * COLOUR_BYTES, first};
    }
    return first;
}

void prepare_stack(Fiber* fiber, Stack* stack) {
    fiber->stack = stack;
    // A return address, six registers as `ggrs_sim_switch` takes them; the call in the first code wants 16 bytes.
    void** frame = (void**)(stack->top - 16);
    *--frame = (void*)ggrs_sim_fiber_start;
    for (int i = 1; i < 6; i++) frame[-i] = nullptr;
    frame[-6] = (void*)fiber;
    fiber->saved = frame;
}

}  // namespace

static void* entry_of(Worker& worker, Fiber* next, bool is_fresh) {
    if (is_fresh) prepare_stack(next, worker.take_stack());
    worker.current = next;
    return next->saved;
}

void leave(Fiber* self) {
    Worker& worker = *self->block->worker;
    bool is_fresh;
    Fiber* next = take_next(self->block, self->warp, is_fresh);
    void* to = next == nullptr ? worker.scheduler : entry_of(worker, next, is_fresh);
    ggrs_sim_switch(&self->saved, to);
}

// Threads that meet no collective run one after another on one stack, without any switch.
extern "C" __attribute__((noreturn, used, visibility("hidden"))) void ggrs_sim_fiber_main(Fiber* fiber) {
    Block* block = fiber->block;
    Worker& worker = *block->worker;
    while (true) {
        ggrs_sim_run_as(block->run, block->params, fiber);
        block->warps[fiber->warp].done |= 1ull << fiber->own.lane;
        Stack* stack = fiber->stack;
        fiber->stack = nullptr;
        bool is_fresh;
        Fiber* next = take_next(block, fiber->warp, is_fresh);
        if (next != nullptr && is_fresh) {
            next->stack = stack;
            worker.current = next;
            fiber = next;
            continue;
        }
        // Nothing else takes the stack before the switch.
        worker.give_stack(stack);
        void* unused;
        worker.current = next;
        ggrs_sim_switch(&unused, next == nullptr ? worker.scheduler : next->saved);
    }
}

void stop_block(Fiber* self, Error error, std::string text) {
    Worker& worker = *self->block->worker;
    worker.fault = {};
    worker.fault.error = error;
    worker.fault.text = std::move(text);
    worker.has_fault = true;
    ggrs_sim_switch(&self->saved, worker.scheduler);
    abort();
}

Outcome run_block(Worker& worker, Block* block) {
    worker.has_fault = false;
    block->worker = &worker;
    worker.runs.fetch_add(1, std::memory_order_relaxed);
    for (unsigned w = 0; w < block->n_warps; w++) {
        Warp& warp = block->warps[w];
        warp.ready |= warp.yielded;
        warp.yielded = 0;
        if (warp.runnable() != 0) block->runnable_warps |= 1ull << w;
    }
    bool is_fresh;
    Fiber* first = take_next(block, 0, is_fresh);
    if (first != nullptr) ggrs_sim_switch(&worker.scheduler, entry_of(worker, first, is_fresh));
    Fiber* last = worker.current;
    worker.current = nullptr;
    worker.runs.fetch_add(1, std::memory_order_relaxed);
    if (worker.has_fault) {
        // Who it was, for the text.
        worker.current = last;
        return Outcome::Failed;
    }
    u64 yielded = 0;
    bool is_done = true;
    for (unsigned w = 0; w < block->n_warps; w++) {
        yielded |= block->warps[w].yielded;
        is_done &= block->warps[w].done == block->warps[w].lanes;
    }
    if (is_done) return Outcome::Done;
    if (yielded != 0) return Outcome::Stalled;
    worker.fault = {};
    worker.fault.error = Error::LaunchFailed;
    worker.fault.text = stuck_words(block);
    worker.current = nullptr;
    return Outcome::Failed;
}

Block::Block() {
    fibers.reset(new Fiber[MAX_THREADS + MAX_WARP]);
    warps.reset(new Warp[MAX_THREADS / 32]);
    u8* at = (u8*)mmap(nullptr, SHARED + PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at != MAP_FAILED && mprotect(at, SHARED, PROT_READ | PROT_WRITE) == 0) shared_end = at + SHARED;
}

Block::~Block() {
    if (shared_end != nullptr) munmap(shared_end - SHARED, SHARED + PAGE);
}

void Block::set_up(const unsigned (&grid_dim)[3], const unsigned (&block_dim)[3], unsigned warp) {
    std::memcpy(own.grid_dim, grid_dim, sizeof grid_dim);
    if (width == warp && std::memcmp(own.block_dim, block_dim, sizeof block_dim) == 0) return;
    std::memcpy(own.block_dim, block_dim, sizeof block_dim);
    width = warp;
    is_reversed = settings().is_reversed;
    n_threads = block_dim[0] * block_dim[1] * block_dim[2];
    n_warps = (n_threads + warp - 1) / warp;
    for (unsigned i = 0; i < n_threads; i++) {
        Fiber& fiber = fibers[i];
        unsigned place[3] = {i % block_dim[0], i / block_dim[0] % block_dim[1], i / block_dim[0] / block_dim[1]};
        std::memcpy(fiber.own.thread_idx, place, sizeof place);
        fiber.own.lane = i % warp;
        fiber.own.block = &own;
        fiber.block = this;
        fiber.warp = i / warp;
    }
    for (unsigned w = 0; w < n_warps; w++) {
        unsigned n = n_threads - w * warp < warp ? n_threads - w * warp : warp;
        warps[w].lanes = n == 64 ? ~0ull : (1ull << n) - 1;
        std::memset(warps[w].values_in, 0xff, sizeof warps[w].values_in);
        std::memset(warps[w].values_out, 0xff, sizeof warps[w].values_out);
        std::memset(warps[w].part_out, 0xff, sizeof warps[w].part_out);
    }
}

void Block::begin(u64 index, unsigned dynamic_bytes) {
    own.block_idx[0] = (unsigned)(index % own.grid_dim[0]);
    own.block_idx[1] = (unsigned)(index / own.grid_dim[0] % own.grid_dim[1]);
    own.block_idx[2] = (unsigned)(index / own.grid_dim[0] / own.grid_dim[1]);
    own.dynamic_bytes = dynamic_bytes;
    own.dynamic_shared = shared_end - (dynamic_bytes + 127) / 128 * 128;
    std::memset(own.dynamic_shared, 0xff, shared_end - own.dynamic_shared);
    n_at_barrier = 0;
    barrier_votes = 0;
    runnable_warps = n_warps == 64 ? ~0ull : (1ull << n_warps) - 1;
    for (unsigned w = 0; w < n_warps; w++) {
        Warp& warp = warps[w];
        warp.fresh = warp.lanes;
        warp.ready = warp.yielded = warp.at_barrier = warp.arrived = warp.arrived_in_part = warp.done = 0;
    }
}

namespace {

std::mutex spare_mutex;
// Stacks that workers have no use for: a process may map only so many.
Stack* spare_stacks = nullptr;

Stack* take_spare() {
    std::lock_guard lock(spare_mutex);
    Stack* stack = spare_stacks;
    if (stack != nullptr) spare_stacks = stack->next;
    return stack;
}

}  // namespace

Stack* Worker::take_stack() {
    if (free_stacks == nullptr) {
        Stack* spare = take_spare();
        if (spare != nullptr) return spare;
        free_stacks = make_stacks();
        n_free_stacks = STACKS_AT_ONCE;
    }
    Stack* stack = free_stacks;
    free_stacks = stack->next;
    n_free_stacks--;
    return stack;
}

void Worker::give_stack(Stack* stack) {
    stack->next = free_stacks;
    free_stacks = stack;
    n_free_stacks++;
}

Block* Worker::take_block() {
    if (free_blocks.empty()) return new Block;
    Block* block = free_blocks.back().release();
    free_blocks.pop_back();
    return block;
}

void Worker::give_block(Block* block) {
    for (unsigned i = 0; i < block->n_threads; i++) {
        Fiber& fiber = block->fibers[i];
        if (fiber.stack == nullptr) continue;
        give_stack(fiber.stack);
        fiber.stack = nullptr;
    }
    while (n_free_stacks > STACKS_KEPT) {
        Stack* stack = take_stack();
        std::lock_guard lock(spare_mutex);
        stack->next = spare_stacks;
        spare_stacks = stack;
    }
    free_blocks.emplace_back(block);
}

namespace {

std::mutex pool_mutex;
// Of threads that have ended.
std::vector<Worker*>& pool = *new std::vector<Worker*>;

struct Holder {
    Worker* worker = nullptr;
    ~Holder() {
        if (worker == nullptr) return;
        unwatch(worker);
        std::lock_guard lock(pool_mutex);
        pool.push_back(worker);
    }
};
thread_local Holder holder;
// Without a call, as the signal handlers read it.
thread_local __attribute__((tls_model("initial-exec"))) Worker* own_worker = nullptr;

}  // namespace

Worker* this_worker_if_any() { return own_worker; }

Worker& this_worker() {
    Worker* worker = own_worker;
    if (__builtin_expect(worker != nullptr, 1)) return *worker;
    {
        std::lock_guard lock(pool_mutex);
        if (!pool.empty()) {
            worker = pool.back();
            pool.pop_back();
        }
    }
    if (worker == nullptr) worker = new Worker;
    worker->thread = (u64)pthread_self();
    own_worker = holder.worker = worker;
    prepare_thread();
    watch(worker);
    return *worker;
}

}  // namespace sim
