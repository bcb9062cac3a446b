// What all parts of the simulator's engine share: errors, settings, devices. Nothing here knows of CUDA or HIP.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace sim {

using u8 = unsigned char;
using u32 = uint32_t;
using u64 = uint64_t;

enum class Error {
    None,
    InvalidValue,
    OutOfMemory,
    NotInitialized,
    InvalidDevice,
    InvalidImage,
    InvalidContext,
    ContextDestroyed,
    InvalidHandle,
    NotFound,
    NotReady,
    IllegalAddress,
    Misaligned,
    OutOfResources,
    Timeout,
    LaunchFailed,
    PeerAlreadyEnabled,
    PeerNotEnabled,
    NotSupported,
    AlreadyRegistered,
    NotRegistered,
    CaptureUnsupported,
    CaptureInvalidated,
    CaptureMerge,
    CaptureUnmatched,
    CaptureUnjoined,
    CaptureIsolation,
    CaptureImplicit,
    CapturedEvent,
    CaptureWrongThread,
};

// Writes the text to stderr, keeps it for `last_error`, and gives the error back.
[[gnu::format(printf, 2, 3)]] Error report(Error error, const char* format, ...);
std::string last_error();

struct Settings {
    int n_devices = 2;
    u64 memory_bytes = 2ull << 30;
    unsigned warp = 32;
    // Threads of the host that run blocks.
    unsigned n_threads = 1;
    // Seconds that a kernel may run without getting on.
    double timeout = 60;
    // Threads run from the last to the first.
    bool is_reversed = false;
};
// As the environment has them when first asked for.
const Settings& settings();

// Faults to come: "launch:3,alloc:7" lets the third launch and the seventh allocation from now on fail.
void set_faults(const char* list);
bool launch_is_to_fail();
bool alloc_is_to_fail();

constexpr unsigned MULTIPROCESSORS = 4;
constexpr unsigned MAX_THREADS = 1024;
constexpr unsigned MAX_SHARED = 227 * 1024;
constexpr unsigned DEFAULT_SHARED = 48 * 1024;

struct Device {
    int ordinal = 0;
    // How often the primary context is retained; with 0 it is no more.
    int n_users = 0;
    // The first fault of a kernel; the device does nothing more until its context is gone.
    Error lost = Error::None;
    // Devices whose memory kernels may use.
    std::vector<bool> peers;
};

Device* device(int ordinal);
int device_count();
std::mutex& device_mutex();

double seconds();

}  // namespace sim
