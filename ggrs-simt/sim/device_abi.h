// What compiled kernels and the engine agree on: the parts of a thread's and a block's state that kernels read, the
// functions that kernels call. Included by both; plain C++ without system headers.
#pragma once

struct ggrs_sim_block {
    unsigned block_idx[3];
    unsigned block_dim[3];
    unsigned grid_dim[3];
    unsigned dynamic_bytes;
    unsigned char* dynamic_shared;
};

// While a kernel runs, r15 points to the thread's own one; modules are compiled with -ffixed-r15.
struct ggrs_sim_thread {
    unsigned thread_idx[3];
    unsigned lane;
    const ggrs_sim_block* block;
};

// What a collective is. Lanes that meet must be at the same kind.
enum ggrs_sim_kind {
    GGRS_SIM_SYNC,
    GGRS_SIM_SHUFFLE,
    GGRS_SIM_BALLOT,
    GGRS_SIM_ANY,
    GGRS_SIM_ALL,
    GGRS_SIM_REDUCE,
    GGRS_SIM_MATCH,
    GGRS_SIM_COUNT,
};

struct ggrs_sim_engine {
    // A barrier of the block: how many threads came with a predicate that is not 0.
    unsigned (*barrier)(ggrs_sim_thread* self, int kind, int predicate);
    // A collective of a warp's lanes in `mask` (all, if the low 32 bits are set): the values of all lanes, valid until
    // this lane's next collective. Lanes that are not there have all bits set.
    const unsigned long long* (*exchange)(ggrs_sim_thread* self, int kind, unsigned long long mask,
                                          unsigned long long value);
    // The same of predicates: a bit for each lane.
    unsigned long long (*vote)(ggrs_sim_thread* self, int kind, unsigned long long mask, int predicate);
    // Lets others run.
    void (*yield)(ggrs_sim_thread* self);
    // Ends the launch with an error.
    void (*fail)(ggrs_sim_thread* self, const char* why);
    // The same for an access that a device would not do: the address is no multiple of `alignment`, or, with 0 for that,
    // an array has no element of this index.
    void (*fail_access)(ggrs_sim_thread* self, const char* file, unsigned line, unsigned long long value,
                        unsigned alignment);
};

// One for each kernel, exported as `ggrs_sim_kernel_<name>`.
struct ggrs_sim_kernel {
    void (*run)(const void* params);
    unsigned param_bytes;
    unsigned max_threads;
};

#define GGRS_SIM_ABI 2

// One for each module, exported as `ggrs_sim_module`.
struct ggrs_sim_module {
    unsigned abi;
    unsigned warp;
    const ggrs_sim_engine* engine;
};
