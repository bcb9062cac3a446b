// Faults of the processor inside kernels, and kernels that never end. Whatever happens elsewhere goes to the handler that
// was there before.

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstdio>
#include <map>
#include <thread>

#include "fibers.h"
#include "memory.h"

namespace sim {
namespace {

constexpr int SIGNALS[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
constexpr size_t SIGNAL_STACK = 64 * 1024;

struct sigaction before[NSIG];

int timeout_signal() { return SIGRTMIN + 6; }

// Leaves the kernel: the scheduler goes on as if the fiber had switched to it.
void stop_kernel(Worker& worker, int signal, const siginfo_t* info, ucontext_t* context) {
    worker.fault.error = Error::None;
    worker.fault.signal = signal;
    worker.fault.code = info->si_code;
    worker.fault.address = (u64)info->si_addr;
    worker.fault.is_write = (context->uc_mcontext.gregs[REG_ERR] & 2) != 0;
    worker.has_fault = true;
    context->uc_mcontext.gregs[REG_RSP] = (greg_t)worker.scheduler;
    context->uc_mcontext.gregs[REG_RIP] = (greg_t)ggrs_sim_resume_scheduler;
}

void on_fault(int signal, siginfo_t* info, void* raw) {
    ucontext_t* context = (ucontext_t*)raw;
    Worker* worker = this_worker_if_any();
    if (worker != nullptr && worker->current != nullptr && !worker->has_fault) {
        stop_kernel(*worker, signal, info, context);
        return;
    }
    if (signal == SIGSEGV && is_ours((u64)info->si_addr)) {
        // Nothing that allocates may be called here.
        const char text[] = "GGRS simulator: the host touches memory of the simulator that is not allocated (any more)\n";
        if (write(2, text, sizeof text - 1) < 0) return;
    }
    const struct sigaction& old = before[signal];
    if ((old.sa_flags & SA_SIGINFO) != 0 && old.sa_sigaction != nullptr) {
        old.sa_sigaction(signal, info, raw);
    } else if (old.sa_handler != SIG_DFL && old.sa_handler != SIG_IGN) {
        old.sa_handler(signal);
    } else {
        // The fault comes again, without a handler.
        ::signal(signal, SIG_DFL);
    }
}

void on_timeout(int signal, siginfo_t* info, void* raw) {
    Worker* worker = this_worker_if_any();
    if (worker != nullptr && worker->current != nullptr && !worker->has_fault) {
        stop_kernel(*worker, signal, info, (ucontext_t*)raw);
    }
}

struct Watched {
    u64 runs = 0;
    double since = 0;
};
std::mutex watch_mutex;
std::map<Worker*, Watched>& watched = *new std::map<Worker*, Watched>;

void watch_all() {
    while (true) {
        usleep(250000);
        std::lock_guard lock(watch_mutex);
        for (auto& [worker, state] : watched) {
            u64 runs = worker->runs.load(std::memory_order_relaxed);
            double now = seconds();
            if (runs % 2 == 0 || runs != state.runs) {
                state = {runs, now};
            } else if (now - state.since > settings().timeout) {
                state.since = now;
                pthread_kill((pthread_t)worker->thread, timeout_signal());
            }
        }
    }
}

}  // namespace

void install_handlers() {
    static const bool once = [] {
        struct sigaction action = {};
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
        action.sa_sigaction = on_fault;
        for (int signal : SIGNALS) sigaction(signal, &action, &before[signal]);
        action.sa_sigaction = on_timeout;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
        sigaction(timeout_signal(), &action, nullptr);
        return true;
    }();
    (void)once;
}

void prepare_thread() {
    stack_t stack = {};
    sigaltstack(nullptr, &stack);
    if ((stack.ss_flags & SS_DISABLE) == 0) return;
    stack.ss_sp = mmap(nullptr, SIGNAL_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stack.ss_size = SIGNAL_STACK;
    stack.ss_flags = 0;
    if (stack.ss_sp != MAP_FAILED) sigaltstack(&stack, nullptr);
}

void watch(Worker* worker) {
    std::lock_guard lock(watch_mutex);
    static const bool once = [] {
        std::thread(watch_all).detach();
        return true;
    }();
    (void)once;
    watched[worker] = {worker->runs, seconds()};
}

void unwatch(Worker* worker) {
    std::lock_guard lock(watch_mutex);
    watched.erase(worker);
}

}  // namespace sim
