// Compiled modules and their kernels. A module's code stays loaded until the process ends; equal images share it.
#pragma once

#include <memory>

#include "device_abi.h"
#include "engine.h"

namespace sim {

struct Code {
    void* library = nullptr;
    unsigned warp = 32;
    // Static shared memory is the library's thread-local memory.
    u64 tls_module = 0;
    u64 shared_bytes = 0;

    // That of the calling thread.
    u8* shared() const;
};

struct Module {
    std::shared_ptr<const Code> code;
    int ordinal = 0;
};

struct Kernel {
    std::string name;
    std::shared_ptr<const Code> code;
    int ordinal = 0;
    // Only to be compared.
    const Module* module = nullptr;
    ggrs_sim_kernel entry = {};
    unsigned max_dynamic = DEFAULT_SHARED;
};

// The length of an image is in its own header.
Error load_code(const void* image, std::shared_ptr<const Code>& out);
Error find_kernel(const Module& module, const char* name, Kernel& out);

}  // namespace sim
