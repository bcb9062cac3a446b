// CUDA: starting, devices, contexts, errors.

#include <dlfcn.h>

#include <cstdio>
#include <cstring>

#include "cuda_api.h"
#include "fibers.h"

namespace cuda {

Handles<sim::Stream>& streams = *new Handles<sim::Stream>("stream");
Handles<sim::Event>& events = *new Handles<sim::Event>("event");
Handles<sim::Module>& modules = *new Handles<sim::Module>("module");
Handles<sim::Kernel>& functions = *new Handles<sim::Kernel>("function");
Handles<sim::Graph>& graphs = *new Handles<sim::Graph>("graph");
Handles<sim::Graph>& graph_execs = *new Handles<sim::Graph>("executable graph");

namespace {

std::atomic<bool> has_started{false};
thread_local std::vector<CUcontext> context_stack;
constexpr u64 CONTEXTS = 0x52'0000'0000ull;

std::mutex default_mutex;
std::unordered_map<int, sim::StreamRef>& default_streams = *new std::unordered_map<int, sim::StreamRef>;

struct Name {
    CUresult code;
    const char* name;
    const char* words;
};
constexpr Name NAMES[] = {
    {0, "CUDA_SUCCESS", "no error"},
    {1, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {3, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {200, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {400, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {500, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {600, "CUDA_ERROR_NOT_READY", "device not ready"},
    {700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {701, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"},
    {702, "CUDA_ERROR_LAUNCH_TIMEOUT", "the launch timed out and was terminated"},
    {704, "CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED", "peer access is already enabled"},
    {705, "CUDA_ERROR_PEER_ACCESS_NOT_ENABLED", "peer access has not been enabled"},
    {709, "CUDA_ERROR_CONTEXT_IS_DESTROYED", "context is destroyed"},
    {712, "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED", "part or all of the requested memory range is already mapped"},
    {713, "CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED", "pointer does not correspond to a registered memory region"},
    {716, "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"},
    {719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {720, "CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE", "too many blocks in cooperative launch"},
    {801, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
    {901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"},
    {902, "CUDA_ERROR_STREAM_CAPTURE_MERGE", "operation would result in a merge of separate capture sequences"},
    {903, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED", "capture was not ended in the same stream as it began"},
    {904, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED", "capturing stream has unjoined work"},
    {905, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION", "dependency created on uncaptured work in another stream"},
    {906, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT", "operation would make the legacy stream depend on a capturing stream"},
    {907, "CUDA_ERROR_CAPTURED_EVENT", "operation not permitted on an event last recorded in a capturing stream"},
    {908, "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD", "attempt to terminate a capture sequence from another thread"},
};

const Name* name_of(CUresult code) {
    for (const Name& name : NAMES)
        if (name.code == code) return &name;
    return nullptr;
}

}  // namespace

CUresult code_of(sim::Error error) {
    using sim::Error;
    switch (error) {
        case Error::None: return 0;
        case Error::InvalidValue: return 1;
        case Error::OutOfMemory: return 2;
        case Error::NotInitialized: return 3;
        case Error::InvalidDevice: return 101;
        case Error::InvalidImage: return 200;
        case Error::InvalidContext: return 201;
        case Error::InvalidHandle: return 400;
        case Error::NotFound: return 500;
        case Error::NotReady: return 600;
        case Error::IllegalAddress: return 700;
        case Error::OutOfResources: return 701;
        case Error::Timeout: return 702;
        case Error::PeerAlreadyEnabled: return 704;
        case Error::PeerNotEnabled: return 705;
        case Error::ContextDestroyed: return 709;
        case Error::AlreadyRegistered: return 712;
        case Error::NotRegistered: return 713;
        case Error::Misaligned: return 716;
        case Error::LaunchFailed: return 719;
        case Error::NotSupported: return 801;
        case Error::CaptureUnsupported: return 900;
        case Error::CaptureInvalidated: return 901;
        case Error::CaptureMerge: return 902;
        case Error::CaptureUnmatched: return 903;
        case Error::CaptureUnjoined: return 904;
        case Error::CaptureIsolation: return 905;
        case Error::CaptureImplicit: return 906;
        case Error::CapturedEvent: return 907;
        case Error::CaptureWrongThread: return 908;
    }
    return 999;
}

bool is_initialised() { return has_started; }

CUcontext context_of(int ordinal) { return (CUcontext)(CONTEXTS + ((u64)ordinal << 8)); }

int ordinal_of(CUcontext context) {
    u64 ordinal = ((u64)context - CONTEXTS) >> 8;
    if (ordinal >= (u64)sim::device_count() || context != context_of((int)ordinal)) return -1;
    return (int)ordinal;
}

CUresult current(int& ordinal) {
    if (!has_started) return CUDA_ERROR_NOT_INITIALIZED;
    if (context_stack.empty() || context_stack.back() == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
    ordinal = ordinal_of(context_stack.back());
    std::lock_guard lock(sim::device_mutex());
    return sim::device(ordinal)->n_users > 0 ? CUDA_SUCCESS : CUDA_ERROR_CONTEXT_IS_DESTROYED;
}

CUresult stream_of(CUstream handle, sim::StreamRef& stream) {
    int ordinal;
    TRY(current(ordinal));
    if ((u64)handle > 2) {
        stream = streams.get(handle);
        return stream == nullptr ? CUDA_ERROR_INVALID_HANDLE : CUDA_SUCCESS;
    }
    std::lock_guard lock(default_mutex);
    sim::StreamRef& own = default_streams[ordinal];
    if (own == nullptr) own = sim::new_stream(ordinal);
    stream = own;
    return CUDA_SUCCESS;
}

namespace {

void end_context(int ordinal) {
    sim::synchronize_device(ordinal);
    streams.drop_all(ordinal);
    events.drop_all(ordinal);
    functions.drop_all(ordinal);
    modules.drop_all(ordinal);
    graphs.drop_all(ordinal);
    graph_execs.drop_all(ordinal);
    {
        std::lock_guard lock(default_mutex);
        default_streams.erase(ordinal);
    }
    sim::free_all(ordinal);
    std::lock_guard lock(sim::device_mutex());
    sim::Device& device = *sim::device(ordinal);
    device.lost = sim::Error::None;
    device.peers.assign(device.peers.size(), false);
}

CUresult check_device(CUdevice device) {
    if (!has_started) return CUDA_ERROR_NOT_INITIALIZED;
    return sim::device(device) == nullptr ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS;
}

}  // namespace
}  // namespace cuda

using namespace cuda;

CUDA_API CUresult cuInit(unsigned flags) {
    if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
    sim::install_handlers();
    sim::settings();
    has_started = true;
    return sim::device_count() == 0 ? 100 : CUDA_SUCCESS;
}

CUDA_API CUresult cuDriverGetVersion(int* version) {
    *version = 13000;
    return CUDA_SUCCESS;
}

CUDA_API CUresult cuGetErrorName(CUresult code, const char** text) {
    const Name* name = name_of(code);
    *text = name == nullptr ? nullptr : name->name;
    return name == nullptr ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

CUDA_API CUresult cuGetErrorString(CUresult code, const char** text) {
    const Name* name = name_of(code);
    *text = name == nullptr ? nullptr : name->words;
    return name == nullptr ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

CUDA_API CUresult cuGetProcAddress_v2(const char* symbol, void** function, int, u64, int* status) {
    // Names are given without their version.
    *function = nullptr;
    Dl_info info;
    void* self = dladdr((void*)cuInit, &info) != 0 ? dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD) : nullptr;
    for (const char* suffix : {"_v3", "_v2", ""}) {
        if (self != nullptr && *function == nullptr) *function = dlsym(self, (std::string(symbol) + suffix).c_str());
    }
    if (self != nullptr) dlclose(self);
    if (status != nullptr) *status = *function == nullptr ? 1 : 0;
    return *function == nullptr ? CUDA_ERROR_NOT_FOUND : CUDA_SUCCESS;
}

CUDA_API CUresult cuDeviceGetCount(int* count) {
    if (!is_initialised()) return CUDA_ERROR_NOT_INITIALIZED;
    *count = sim::device_count();
    return CUDA_SUCCESS;
}

CUDA_API CUresult cuDeviceGet(CUdevice* device, int ordinal) {
    TRY(check_device(ordinal));
    *device = ordinal;
    return CUDA_SUCCESS;
}

CUDA_API CUresult cuDeviceGetName(char* name, int bytes, CUdevice device) {
    TRY(check_device(device));
    if (bytes <= 0) return CUDA_ERROR_INVALID_VALUE;
    std::snprintf(name, (size_t)bytes, "GGRS simulator");
    return CUDA_SUCCESS;
}

CUDA_API CUresult cuDeviceGetUuid_v2(unsigned char* uuid, CUdevice device) {
    TRY(check_device(device));
    std::memcpy(uuid, "GGRS simulator ", 15);
    uuid[15] = (unsigned char)device;
    return CUDA_SUCCESS;
}

CUDA_API CUresult cuDeviceGetPCIBusId(char* text, int bytes, CUdevice device) {
    TRY(check_device(device));
    if (bytes <= 0) return CUDA_ERROR_INVALID_VALUE;
    std::snprintf(text, (size_t)bytes, "0000:%02x:00.0", device + 1);
    return CUDA_SUCCESS;
}

CUDA_API CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice device) {
    TRY(check_device(device));
    *bytes = sim::settings().memory_bytes;
    return CUDA_SUCCESS;
}

CUDA_API CUresult cuDeviceGetAttribute(int* value, int attribute, CUdevice device) {
    TRY(check_device(device));
    switch (attribute) {
        case 1: *value = sim::MAX_THREADS; break;
        case 2: case 3: *value = 1024; break;
        case 4: *value = 64; break;
        case 5: *value = 0x7fffffff; break;
        case 6: case 7: *value = 65535; break;
        case 8: *value = sim::DEFAULT_SHARED; break;
        case 9: *value = 65536; break;
        case 10: *value = (int)sim::settings().warp; break;
        case 11: *value = 0x7fffffff; break;
        case 12: case 82: *value = 65536; break;
        case 13: *value = 1000000; break;
        case 14: *value = 512; break;
        case 15: case 19: case 31: case 41: case 78: case 79: case 80: case 91: case 95: case 99: *value = 1; break;
        case 16: *value = sim::MULTIPROCESSORS; break;
        case 33: *value = device + 1; break;
        // DDR5 at 4 GHz on 64 bits.
        case 36: *value = 4000000; break;
        case 37: *value = 64; break;
        case 38: *value = 4 << 20; break;
        case 39: *value = 2048; break;
        case 40: *value = 2; break;
        case 75: *value = 9; break;
        case 76: *value = 0; break;
        case 81: *value = 228 * 1024; break;
        case 97: *value = sim::MAX_SHARED; break;
        case 106: *value = 32; break;
        case 111: *value = 1024; break;
        default:
            if (attribute <= 0 || attribute > 200) return CUDA_ERROR_INVALID_VALUE;
            *value = 0;
    }
    return CUDA_SUCCESS;
}

CUDA_API CUresult cuDeviceCanAccessPeer(int* can, CUdevice device, CUdevice peer) {
    TRY(check_device(device));
    TRY(check_device(peer));
    *can = device != peer;
    return CUDA_SUCCESS;
}

CUDA_API CUresult cuDeviceGetP2PAttribute(int* value, int attribute, CUdevice device, CUdevice peer) {
    TRY(check_device(device));
    TRY(check_device(peer));
    if (device == peer) return CUDA_ERROR_INVALID_DEVICE;
    // Rank, access, atomics, arrays.
    *value = attribute == 2 || attribute == 3;
    return CUDA_SUCCESS;
}

CUDA_API CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
    TRY(check_device(device));
    std::lock_guard lock(sim::device_mutex());
    sim::device(device)->n_users++;
    *context = context_of(device);
    return CUDA_SUCCESS;
}

CUDA_API CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
    TRY(check_device(device));
    {
        std::lock_guard lock(sim::device_mutex());
        sim::Device& state = *sim::device(device);
        if (state.n_users == 0) return CUDA_ERROR_INVALID_CONTEXT;
        if (--state.n_users > 0) return CUDA_SUCCESS;
    }
    end_context(device);
    return CUDA_SUCCESS;
}

CUDA_API CUresult cuDevicePrimaryCtxReset_v2(CUdevice device) {
    TRY(check_device(device));
    end_context(device);
    return CUDA_SUCCESS;
}

CUDA_API CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned* flags, int* active) {
    TRY(check_device(device));
    std::lock_guard lock(sim::device_mutex());
    *flags = 0;
    *active = sim::device(device)->n_users > 0;
    return CUDA_SUCCESS;
}

CUDA_API CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice device, unsigned) { return check_device(device); }

CUDA_API CUresult cuCtxSetCurrent(CUcontext context) {
    if (!is_initialised()) return CUDA_ERROR_NOT_INITIALIZED;
    if (context != nullptr && ordinal_of(context) < 0) return CUDA_ERROR_INVALID_CONTEXT;
    if (context_stack.empty()) context_stack.push_back(context);
    else context_stack.back() = context;
    return CUDA_SUCCESS;
}

CUDA_API CUresult cuCtxGetCurrent(CUcontext* context) {
    if (!is_initialised()) return CUDA_ERROR_NOT_INITIALIZED;
    *context = context_stack.empty() ? nullptr : context_stack.back();
    return CUDA_SUCCESS;
}

CUDA_API CUresult cuCtxPushCurrent_v2(CUcontext context) {
    if (ordinal_of(context) < 0) return CUDA_ERROR_INVALID_CONTEXT;
    context_stack.push_back(context);
    return CUDA_SUCCESS;
}

CUDA_API CUresult cuCtxPopCurrent_v2(CUcontext* context) {
    if (context_stack.empty()) return CUDA_ERROR_INVALID_CONTEXT;
    if (context != nullptr) *context = context_stack.back();
    context_stack.pop_back();
    return CUDA_SUCCESS;
}

CUDA_API CUresult cuCtxGetDevice(CUdevice* device) { return current(*device); }

CUDA_API CUresult cuCtxSynchronize() {
    int ordinal;
    TRY(current(ordinal));
    TRY(code_of(sim::check_unsafe_call("cuCtxSynchronize is called in a capture")));
    return code_of(sim::synchronize_device(ordinal));
}

CUDA_API CUresult cuCtxGetStreamPriorityRange(int* least, int* greatest) {
    if (least != nullptr) *least = 0;
    if (greatest != nullptr) *greatest = -5;
    return CUDA_SUCCESS;
}

CUDA_API CUresult cuCtxEnablePeerAccess(CUcontext peer, unsigned flags) {
    int ordinal, other = ordinal_of(peer);
    TRY(current(ordinal));
    if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
    if (other < 0) return CUDA_ERROR_INVALID_CONTEXT;
    if (other == ordinal) return CUDA_ERROR_INVALID_DEVICE;
    std::lock_guard lock(sim::device_mutex());
    sim::Device& device = *sim::device(ordinal);
    if (device.peers[other]) return code_of(sim::Error::PeerAlreadyEnabled);
    device.peers[other] = true;
    return CUDA_SUCCESS;
}

CUDA_API CUresult cuCtxDisablePeerAccess(CUcontext peer) {
    int ordinal, other = ordinal_of(peer);
    TRY(current(ordinal));
    if (other < 0) return CUDA_ERROR_INVALID_CONTEXT;
    std::lock_guard lock(sim::device_mutex());
    sim::Device& device = *sim::device(ordinal);
    if (!device.peers[other]) return code_of(sim::Error::PeerNotEnabled);
    device.peers[other] = false;
    return CUDA_SUCCESS;
}
