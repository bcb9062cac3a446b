// Blocks over the threads of the host.

#include "grids.h"

#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <thread>

#include "fibers.h"
#include "memory.h"

namespace sim {
namespace {

// A launch that has run so long calls other threads.
constexpr u64 ALONE_CYCLES = 100000;
// Blocks of a launch that can wait at the same time: what a device would hold.
constexpr u64 RESIDENT_THREADS = (u64)MULTIPROCESSORS * 2048;

struct Grid {
    const Launch* launch;
    Device* device;
    u64 n_blocks;
    std::atomic<u64> next{0};
    std::atomic<u64> n_ended{0};
    std::atomic<bool> has_failed{false};
    // Some block waited for others.
    std::atomic<bool> has_waited{false};
    // Helpers that look at it.
    std::atomic<int> n_helpers{0};
};

Elsewhere elsewhere_function = nullptr;

// Never destroyed, as nothing of the engine's is: threads go on until the process ends, and to destroy a condition that
// is waited for takes for ever.
std::mutex& help_mutex = *new std::mutex;
std::condition_variable& help_wanted = *new std::condition_variable;
std::vector<Grid*>& in_need = *new std::vector<Grid*>;

void place_of(const Worker& worker, const Block& block, char* text, size_t bytes) {
    const unsigned* b = block.own.block_idx;
    int n = std::snprintf(text, bytes, "block (%u, %u, %u)", b[0], b[1], b[2]);
    const Fiber* fiber = worker.current;
    if (fiber == nullptr) return;
    const unsigned* t = fiber->own.thread_idx;
    std::snprintf(text + n, bytes - n, ", thread (%u, %u, %u)", t[0], t[1], t[2]);
}

// A fault of the processor in words.
std::string signal_words(Fault& fault, const Worker& worker, const Block& block) {
    char text[512];
    u64 at = fault.address;
    const char* verb = fault.is_write ? "writes to" : "reads";
    fault.error = Error::LaunchFailed;
    if (fault.signal == SIGILL) return "undefined behaviour of the source (a trap that the compiler put there)";
    if (fault.signal == SIGFPE) return "an integer is divided by zero, or the result does not fit";
    if (fault.signal != SIGSEGV && fault.signal != SIGBUS) {
        fault.error = Error::Timeout;
        return "it runs without end; a loop that waits for others must call __nanosleep";
    }
    if (fault.code == SI_KERNEL || fault.signal == SIGBUS) {
        fault.error = Error::Misaligned;
        return "an access of 16 or more bytes that is not aligned, or to no address at all";
    }
    const u8* stack_end = worker.current == nullptr || worker.current->stack == nullptr ? nullptr : worker.current->stack->top;
    fault.error = Error::IllegalAddress;
    if (stack_end != nullptr && at < (u64)stack_end - 60000 && at > (u64)stack_end - 80000) {
        return "a thread's local variables take more than 60 KB";
    }
    if (at >= (u64)block.shared_end && at < (u64)block.shared_end + 4096) {
        std::snprintf(text, sizeof text, "it %s address %zu of %u bytes of dynamic shared memory", verb,
                      at - (u64)block.own.dynamic_shared, block.own.dynamic_bytes);
        return text;
    }
    std::string where = is_ours(at) ? describe(at) : "no memory of a device";
    std::snprintf(text, sizeof text, "it %s address %p: %s", verb, (void*)at, where.c_str());
    return text;
}

void lose(Grid& grid, Error error) {
    grid.has_failed = true;
    std::lock_guard lock(device_mutex());
    if (grid.device->lost == Error::None) grid.device->lost = error;
}

void fail(Grid& grid, Worker& worker, Block& block) {
    Fault fault = worker.fault;
    std::string words = fault.error == Error::None ? signal_words(fault, worker, block) : fault.text;
    char place[128];
    place_of(worker, block, place, sizeof place);
    worker.current = nullptr;
    // One is enough of a launch.
    if (!grid.has_failed.exchange(true)) {
        report(fault.error, "kernel %s, %s: %s", grid.launch->kernel->name.c_str(), place, words.c_str());
    }
    lose(grid, fault.error);
}

void end_block(Grid& grid, Worker& worker, Block* block) {
    worker.give_block(block);
    grid.n_ended.fetch_add(1, std::memory_order_release);
}

// Runs a block from its beginning or from where it waits; true if it is at its end.
bool run(Grid& grid, Worker& worker, Block* block) {
    Outcome outcome = run_block(worker, block);
    if (outcome == Outcome::Stalled) return false;
    if (outcome == Outcome::Failed) fail(grid, worker, *block);
    end_block(grid, worker, block);
    return true;
}

void park(Grid& grid, Worker& worker, Block* block) {
    const Code& code = *grid.launch->kernel->code;
    grid.has_waited.store(true, std::memory_order_relaxed);
    block->parked_shared.resize(code.shared_bytes);
    if (code.shared_bytes != 0) std::memcpy(block->parked_shared.data(), code.shared(), code.shared_bytes);
    worker.parked.push_back(block);
}

void run_new(Grid& grid, Worker& worker, u64 index) {
    const Launch& launch = *grid.launch;
    const Code& code = *launch.kernel->code;
    Block* block = worker.take_block();
    block->set_up(launch.grid, launch.block, code.warp);
    block->run = launch.kernel->entry.run;
    block->params = launch.params.data();
    block->grid = &grid;
    block->begin(index, launch.dynamic_bytes);
    if (code.shared_bytes != 0) std::memset(code.shared(), 0xff, code.shared_bytes);
    if (!run(grid, worker, block)) park(grid, worker, block);
}

// Lets each waiting block of this thread look again, whatever launch it is of; true if one came to its end.
bool run_parked(Worker& worker) {
    std::vector<Block*> blocks = std::move(worker.parked);
    worker.parked.clear();
    bool has_ended = false;
    for (Block* block : blocks) {
        Grid& grid = *(Grid*)block->grid;
        if (grid.has_failed) {
            end_block(grid, worker, block);
            has_ended = true;
            continue;
        }
        const Code& code = *grid.launch->kernel->code;
        if (code.shared_bytes != 0) std::memcpy(code.shared(), block->parked_shared.data(), code.shared_bytes);
        if (run(grid, worker, block)) has_ended = true;
        else park(grid, worker, block);
    }
    return has_ended;
}

u64 max_parked(const Grid& grid) {
    const unsigned* b = grid.launch->block;
    return std::max<u64>(1, RESIDENT_THREADS / ((u64)b[0] * b[1] * b[2]));
}

void call_helpers(Grid& grid) {
    std::lock_guard lock(help_mutex);
    in_need.push_back(&grid);
    help_wanted.notify_all();
}

// Takes blocks of a launch until there are no more. The one that owns it calls helpers once it takes long.
void take_blocks(Grid& grid, Worker& worker, bool is_owner) {
    u64 began = __builtin_ia32_rdtsc(), limit = max_parked(grid);
    bool may_call = is_owner && settings().n_threads > 1;
    while (!grid.has_failed && worker.parked.size() < limit) {
        u64 index = grid.next.fetch_add(1, std::memory_order_relaxed);
        if (index >= grid.n_blocks) return;
        if (settings().is_reversed) index = grid.n_blocks - 1 - index;
        run_new(grid, worker, index);
        if (may_call && __builtin_ia32_rdtsc() - began > ALONE_CYCLES && grid.n_blocks - grid.next > 1 &&
            grid.next < grid.n_blocks) {
            call_helpers(grid);
            may_call = false;
        }
    }
}

void help() {
    Worker& worker = this_worker();
    while (true) {
        Grid* grid;
        {
            std::unique_lock lock(help_mutex);
            help_wanted.wait(lock, [] { return !in_need.empty(); });
            grid = in_need.back();
            if (grid->next.load() >= grid->n_blocks || grid->has_failed) {
                in_need.pop_back();
                continue;
            }
            grid->n_helpers++;
        }
        while (true) {
            take_blocks(*grid, worker, false);
            if (worker.parked.empty()) break;
            if (!run_parked(worker)) sched_yield();
        }
        grid->n_helpers--;
    }
}

void start_helpers() {
    static const bool once = [] {
        for (unsigned i = 1; i < settings().n_threads; i++) std::thread(help).detach();
        return true;
    }();
    (void)once;
}

// Waits for blocks that wait for others, here and on helpers. What they wait for may be work of other streams.
void run_to_end(Grid& grid, Worker& worker) {
    double since = seconds();
    u64 n_ended = 0, rounds = 0;
    // Blocks that were not taken, as too many waited, have to be taken before the end.
    while (grid.n_ended.load(std::memory_order_acquire) < std::min<u64>(grid.next, grid.n_blocks) ||
           (!grid.has_failed && grid.next < grid.n_blocks)) {
        if (!run_parked(worker)) {
            bool has_more = elsewhere_function != nullptr && grid.has_waited && elsewhere_function();
            if (!has_more && ++rounds % 16 == 0) sched_yield();
        }
        take_blocks(grid, worker, true);
        u64 now_ended = grid.n_ended;
        if (now_ended != n_ended) {
            n_ended = now_ended;
            since = seconds();
        } else if (rounds % 1024 == 0 && seconds() - since > settings().timeout && !grid.has_failed.exchange(true)) {
            report(Error::Timeout, "kernel %s: its blocks wait for something that never happens",
                   grid.launch->kernel->name.c_str());
            lose(grid, Error::Timeout);
        }
    }
}

}  // namespace

void set_elsewhere(Elsewhere elsewhere) { elsewhere_function = elsewhere; }

Error check_launch(const Launch& launch, u64 param_bytes) {
    const Kernel& kernel = *launch.kernel;
    const char* name = kernel.name.c_str();
    const unsigned *g = launch.grid, *b = launch.block;
    if (g[0] == 0 || g[1] == 0 || g[2] == 0 || g[0] > 0x7fffffffu || g[1] > 65535 || g[2] > 65535) {
        return report(Error::InvalidValue, "kernel %s: a grid of %u x %u x %u blocks", name, g[0], g[1], g[2]);
    }
    u64 n_threads = (u64)b[0] * b[1] * b[2];
    if (n_threads == 0 || n_threads > MAX_THREADS || b[2] > 64) {
        return report(Error::InvalidValue, "kernel %s: blocks of %u x %u x %u threads", name, b[0], b[1], b[2]);
    }
    if (n_threads > kernel.entry.max_threads) {
        return report(Error::OutOfResources, "kernel %s: blocks of %zu threads, it is compiled for %u", name, n_threads,
                      kernel.entry.max_threads);
    }
    if (launch.dynamic_bytes > kernel.max_dynamic) {
        return report(Error::InvalidValue, "kernel %s: %u bytes of dynamic shared memory, it may have %u", name,
                      launch.dynamic_bytes, kernel.max_dynamic);
    }
    if (param_bytes != kernel.entry.param_bytes) {
        return report(Error::InvalidValue, "kernel %s: %zu bytes of parameters, it has %u", name, param_bytes,
                      kernel.entry.param_bytes);
    }
    return Error::None;
}

// Addresses among the parameters that lie in the memory of a device that this one may not reach.
static bool reaches_too_far(const Launch& launch, Device& device) {
    for (u64 word : launch.params) {
        int other = other_device_at(word, device.ordinal);
        if (other < 0) continue;
        std::lock_guard lock(device_mutex());
        if (device.peers[other]) continue;
        report(Error::IllegalAddress, "kernel %s on device %d gets address %p of device %d without peer access",
               launch.kernel->name.c_str(), device.ordinal, (void*)word, other);
        device.lost = Error::IllegalAddress;
        return true;
    }
    return false;
}

void run_launch(const Launch& launch, Device& device) {
    if (launch.is_to_fail) {
        report(Error::LaunchFailed, "kernel %s fails as asked for", launch.kernel->name.c_str());
        std::lock_guard lock(device_mutex());
        device.lost = Error::LaunchFailed;
        return;
    }
    if (device_count() > 1 && reaches_too_far(launch, device)) return;
    start_helpers();
    const unsigned* g = launch.grid;
    Grid grid{&launch, &device, (u64)g[0] * g[1] * g[2]};
    Worker& worker = this_worker();
    take_blocks(grid, worker, true);
    run_to_end(grid, worker);
    {
        std::lock_guard lock(help_mutex);
        in_need.erase(std::remove(in_need.begin(), in_need.end(), &grid), in_need.end());
    }
    while (grid.n_helpers != 0) sched_yield();
}

}  // namespace sim
