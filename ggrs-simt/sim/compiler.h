// Kernel sources to code of the host's processor, by the C++ compiler. What CUDA's and HIP's run-time compilers stand on.
#pragma once

#include <string>
#include <vector>

namespace sim {

struct Compilation {
    bool is_done = false;
    std::string image;
    // What the compiler said.
    std::string log;
};

// Options other than definitions are ignored: they are of other compilers. Equal compilations happen once in a process;
// and once at all as long as the folder GGRS_SIM_CACHE (or `kernels` beside the library) keeps what was made.
Compilation compile(const std::string& source, const std::string& name, const std::vector<std::string>& options);

}  // namespace sim
