// CUDA's names for kernels that a C++ compiler turns into code of the host's processor. Included before every kernel
// source (-include), with GGRS_SIM defined.
//
// Every thread of a block is a fiber; it runs until it meets a collective. A loop that waits for another block or
// another launch must call `__nanosleep` each time around, or nothing else gets to run.
#pragma once

#include "device_abi.h"

#define GGRS_SIM 1
#ifndef GGRS_WARP
#define GGRS_WARP 32
#endif
#define WARP GGRS_WARP
#define warpSize GGRS_WARP

#define __device__
#define __host__
#define __global__
#define __constant__ static const
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
// CUDA's compilers take the keyword between `__shared__` and the type as well.
#define alignas(n) __attribute__((aligned(n)))
// The threads of a block run on one thread of the host.
#define __shared__ static thread_local
#define DYNAMIC_SHARED(name) unsigned char* const name = ggrs_sim_dynamic_shared()

#define GGRS_SIM_EXPORT extern "C" __attribute__((visibility("default")))

GGRS_SIM_EXPORT ggrs_sim_module ggrs_sim_module_info;
ggrs_sim_module ggrs_sim_module_info = {GGRS_SIM_ABI, GGRS_WARP, 0};

#define GGRS_SIM_KERNEL(name, Params, n_threads) \
    static void ggrs_sim_body_##name(const Params& p); \
    static void ggrs_sim_run_##name(const void* params) { ggrs_sim_body_##name(*(const Params*)params); } \
    GGRS_SIM_EXPORT const ggrs_sim_kernel ggrs_sim_kernel_##name; \
    const ggrs_sim_kernel ggrs_sim_kernel_##name = {ggrs_sim_run_##name, sizeof(Params), n_threads}; \
    static void ggrs_sim_body_##name(const Params& p)
#define KERNEL(name, Params, n_threads, n_blocks) GGRS_SIM_KERNEL(name, Params, n_threads)

// --- where a thread is --------------------------------------------------------------------------------------------------

// Statements without side effects, so that the compiler may keep what they give: a thread's place never changes.
static __forceinline__ ggrs_sim_thread* ggrs_sim_self() {
    ggrs_sim_thread* self;
    asm("movq %%r15, %0" : "=r"(self));
    return self;
}
template <int AT> static __forceinline__ unsigned ggrs_sim_own_u32() {
    unsigned value;
    asm("movl %c1(%%r15), %0" : "=r"(value) : "i"(AT));
    return value;
}
template <int AT> static __forceinline__ unsigned ggrs_sim_block_u32() {
    unsigned long long value;
    asm("movq %c1(%%r15), %0\n\tmovl %c2(%0), %k0"
        : "=r"(value) : "i"(__builtin_offsetof(ggrs_sim_thread, block)), "i"(AT));
    return (unsigned)value;
}
static __forceinline__ unsigned char* ggrs_sim_dynamic_shared() {
    unsigned char* value;
    asm("movq %c1(%%r15), %0\n\tmovq %c2(%0), %0"
        : "=r"(value)
        : "i"(__builtin_offsetof(ggrs_sim_thread, block)), "i"(__builtin_offsetof(ggrs_sim_block, dynamic_shared)));
    return (unsigned char*)__builtin_assume_aligned(value, 128);
}

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
};
template <int AT> static __forceinline__ uint3 ggrs_sim_own() {
    return {ggrs_sim_own_u32<AT>(), ggrs_sim_own_u32<AT + 4>(), ggrs_sim_own_u32<AT + 8>()};
}
template <int AT> static __forceinline__ dim3 ggrs_sim_of_block() {
    return {ggrs_sim_block_u32<AT>(), ggrs_sim_block_u32<AT + 4>(), ggrs_sim_block_u32<AT + 8>()};
}
#define threadIdx (ggrs_sim_own<__builtin_offsetof(ggrs_sim_thread, thread_idx)>())
#define blockIdx (ggrs_sim_of_block<__builtin_offsetof(ggrs_sim_block, block_idx)>())
#define blockDim (ggrs_sim_of_block<__builtin_offsetof(ggrs_sim_block, block_dim)>())
#define gridDim (ggrs_sim_of_block<__builtin_offsetof(ggrs_sim_block, grid_dim)>())
#define GGRS_SIM_LANE (ggrs_sim_own_u32<__builtin_offsetof(ggrs_sim_thread, lane)>())

// --- collectives ----------------------------------------------------------------------------------------------------------

// All threads of a block, or all lanes in a mask, must come here; a warp may not come with some of its lanes gone.

#if GGRS_WARP == 64
typedef unsigned long long ggrs_sim_lanes;
#else
typedef unsigned ggrs_sim_lanes;
#endif

#define GGRS_SIM_ENGINE (ggrs_sim_module_info.engine)

static __forceinline__ void __syncthreads() { GGRS_SIM_ENGINE->barrier(ggrs_sim_self(), GGRS_SIM_SYNC, 0); }
static __forceinline__ int __syncthreads_count(int predicate) {
    return (int)GGRS_SIM_ENGINE->barrier(ggrs_sim_self(), GGRS_SIM_COUNT, predicate);
}
static __forceinline__ int __syncthreads_or(int predicate) {
    return GGRS_SIM_ENGINE->barrier(ggrs_sim_self(), GGRS_SIM_ANY, predicate) != 0;
}
static __forceinline__ int __syncthreads_and(int predicate) {
    return GGRS_SIM_ENGINE->barrier(ggrs_sim_self(), GGRS_SIM_ALL, !predicate) == 0;
}

static __forceinline__ const unsigned long long* ggrs_sim_exchange(int kind, unsigned long long mask,
                                                                   unsigned long long value) {
    return GGRS_SIM_ENGINE->exchange(ggrs_sim_self(), kind, mask, value);
}
static __forceinline__ void __syncwarp(unsigned long long mask = 0xffffffffu) {
    ggrs_sim_exchange(GGRS_SIM_SYNC, mask, 0);
}

// From lane `from`; values of up to 8 bytes.
template <typename T> static __forceinline__ T ggrs_sim_shuffle(unsigned long long mask, T value, unsigned from) {
    static_assert(sizeof(T) <= 8, "a shuffle moves 32 or 64 bits");
    unsigned long long bits = 0;
    __builtin_memcpy(&bits, &value, sizeof(T));
    bits = ggrs_sim_exchange(GGRS_SIM_SHUFFLE, mask, bits)[from % WARP];
    __builtin_memcpy(&value, &bits, sizeof(T));
    return value;
}
template <typename T> static __forceinline__ T __shfl_sync(unsigned long long mask, T value, int lane, int width = WARP) {
    unsigned own = GGRS_SIM_LANE, segment = own & ~(unsigned)(width - 1);
    return ggrs_sim_shuffle(mask, value, segment | ((unsigned)lane & (unsigned)(width - 1)));
}
template <typename T>
static __forceinline__ T __shfl_xor_sync(unsigned long long mask, T value, int bits, int width = WARP) {
    unsigned own = GGRS_SIM_LANE, from = own ^ (unsigned)bits, segment = own & ~(unsigned)(width - 1);
    return ggrs_sim_shuffle(mask, value, from < segment + (unsigned)width ? from : own);
}
template <typename T>
static __forceinline__ T __shfl_up_sync(unsigned long long mask, T value, unsigned step, int width = WARP) {
    unsigned own = GGRS_SIM_LANE, at = own & (unsigned)(width - 1);
    return ggrs_sim_shuffle(mask, value, at >= step ? own - step : own);
}
template <typename T>
static __forceinline__ T __shfl_down_sync(unsigned long long mask, T value, unsigned step, int width = WARP) {
    unsigned own = GGRS_SIM_LANE, at = own & (unsigned)(width - 1);
    return ggrs_sim_shuffle(mask, value, at + step < (unsigned)width ? own + step : own);
}

static __forceinline__ ggrs_sim_lanes __ballot_sync(unsigned long long mask, int predicate) {
    return (ggrs_sim_lanes)GGRS_SIM_ENGINE->vote(ggrs_sim_self(), GGRS_SIM_BALLOT, mask, predicate);
}
static __forceinline__ int __any_sync(unsigned long long mask, int predicate) {
    return GGRS_SIM_ENGINE->vote(ggrs_sim_self(), GGRS_SIM_ANY, mask, predicate) != 0;
}
static __forceinline__ int __all_sync(unsigned long long mask, int predicate) {
    return GGRS_SIM_ENGINE->vote(ggrs_sim_self(), GGRS_SIM_ALL, mask, !predicate) == 0;
}

#define GGRS_SIM_FIRST_OF_WARP \
    (threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z) - GGRS_SIM_LANE)

// What all lanes have, taken together; every lane must come.
template <typename T, typename F> static __forceinline__ T ggrs_sim_reduce(T value, F join) {
    const unsigned long long* values = ggrs_sim_exchange(GGRS_SIM_REDUCE, 0xffffffffu, (unsigned long long)value);
    unsigned n = blockDim.x * blockDim.y * blockDim.z - GGRS_SIM_FIRST_OF_WARP;
    T sum = (T)values[0];
    for (unsigned i = 1; i < WARP && i < n; i++) sum = join(sum, (T)values[i]);
    return sum;
}
#define GGRS_SIM_REDUCTION(name, T, EXPRESSION) \
    static __forceinline__ T name(unsigned long long, T value) { \
        return ggrs_sim_reduce(value, [](T a, T b) -> T { return EXPRESSION; }); \
    }
GGRS_SIM_REDUCTION(__reduce_add_sync, int, (int)((unsigned)a + (unsigned)b))
GGRS_SIM_REDUCTION(__reduce_add_sync, unsigned, a + b)
GGRS_SIM_REDUCTION(__reduce_min_sync, int, a < b ? a : b)
GGRS_SIM_REDUCTION(__reduce_min_sync, unsigned, a < b ? a : b)
GGRS_SIM_REDUCTION(__reduce_max_sync, int, a > b ? a : b)
GGRS_SIM_REDUCTION(__reduce_max_sync, unsigned, a > b ? a : b)
GGRS_SIM_REDUCTION(__reduce_and_sync, unsigned, a & b)
GGRS_SIM_REDUCTION(__reduce_or_sync, unsigned, a | b)
GGRS_SIM_REDUCTION(__reduce_xor_sync, unsigned, a ^ b)

// --- accesses that the compiler checks -------------------------------------------------------------------------------------

// By the names and with the data of the compiler's own checks (-fsanitize=alignment,bounds).

struct ggrs_sim_place {
    const char* file;
    unsigned line, column;
};
struct ggrs_sim_misaligned {
    ggrs_sim_place place;
    const void* type;
    unsigned char log_alignment, kind;
};
struct ggrs_sim_beyond {
    ggrs_sim_place place;
    const void *array, *index;
};
#define GGRS_SIM_CHECK extern "C" __attribute__((visibility("hidden"), used, cold))
GGRS_SIM_CHECK void __ubsan_handle_type_mismatch_v1_abort(const ggrs_sim_misaligned* data, unsigned long long address) {
    GGRS_SIM_ENGINE->fail_access(ggrs_sim_self(), data->place.file, data->place.line, address, 1u << data->log_alignment);
}
GGRS_SIM_CHECK void __ubsan_handle_out_of_bounds_abort(const ggrs_sim_beyond* data, unsigned long long index) {
    GGRS_SIM_ENGINE->fail_access(ggrs_sim_self(), data->place.file, data->place.line, index, 0);
}

// --- time and order -------------------------------------------------------------------------------------------------------

static __forceinline__ void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
static __forceinline__ void __threadfence_block() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
static __forceinline__ void __threadfence_system() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
static __forceinline__ void __nanosleep(unsigned) { GGRS_SIM_ENGINE->yield(ggrs_sim_self()); }
static __forceinline__ long long clock64() { return (long long)__builtin_ia32_rdtsc(); }
static __forceinline__ int clock() { return (int)clock64(); }
static __forceinline__ unsigned long long globaltimer() { return __builtin_ia32_rdtsc(); }
static __forceinline__ void __trap() { GGRS_SIM_ENGINE->fail(ggrs_sim_self(), "__trap"); }
extern "C" int printf(const char* format, ...);

#include "device_integers.h"
#include "device_math.h"
