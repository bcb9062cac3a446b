// Launches: checking them, and running their blocks on the threads of the host.
#pragma once

#include <memory>

#include "modules.h"

namespace sim {

// A launch that is to come; it may run many times, as part of a recording.
struct Launch {
    std::shared_ptr<const Kernel> kernel;
    unsigned grid[3] = {1, 1, 1};
    unsigned block[3] = {1, 1, 1};
    unsigned dynamic_bytes = 0;
    std::vector<u64> params;
    bool is_to_fail = false;
};

// What a driver refuses at once.
Error check_launch(const Launch& launch, u64 param_bytes);
// Runs it to its end; a fault of it makes the device lost.
void run_launch(const Launch& launch, Device& device);

// Called with nothing else to do, while a kernel waits for something outside: false if there was nothing.
using Elsewhere = bool (*)();
void set_elsewhere(Elsewhere elsewhere);

}  // namespace sim
