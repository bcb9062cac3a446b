// CUDA's driver interface as far as the simulator has it: types, codes, handles. The engine behind knows none of it.
#pragma once

#include <atomic>
#include <memory>
#include <unordered_map>

#include "streams.h"

typedef int CUresult;
typedef int CUdevice;
typedef unsigned long long CUdeviceptr;
typedef void* CUcontext;
typedef void* CUstream;
typedef void* CUevent;
typedef void* CUmodule;
typedef void* CUfunction;
typedef void* CUgraph;
typedef void* CUgraphExec;

#define CUDA_API extern "C" __attribute__((visibility("default")))

constexpr CUresult CUDA_SUCCESS = 0;
constexpr CUresult CUDA_ERROR_INVALID_VALUE = 1;
constexpr CUresult CUDA_ERROR_NOT_INITIALIZED = 3;
constexpr CUresult CUDA_ERROR_INVALID_DEVICE = 101;
constexpr CUresult CUDA_ERROR_INVALID_CONTEXT = 201;
constexpr CUresult CUDA_ERROR_INVALID_HANDLE = 400;
constexpr CUresult CUDA_ERROR_NOT_FOUND = 500;
constexpr CUresult CUDA_ERROR_CONTEXT_IS_DESTROYED = 709;
constexpr CUresult CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE = 720;
constexpr CUresult CUDA_ERROR_NOT_SUPPORTED = 801;

namespace cuda {

using sim::u64;

CUresult code_of(sim::Error error);

// Objects by handles that are never used twice.
template <typename T> class Handles {
public:
    explicit Handles(const char* what) : name(what) {}

    void* add(std::shared_ptr<T> object) {
        std::lock_guard lock(mutex);
        // Handles of different kinds differ too.
        static std::atomic<u64> next{1};
        u64 handle = (next++ << 4) + 0x51'0000'0000ull;
        objects[handle] = std::move(object);
        return (void*)handle;
    }
    // Null, and a text, if there is none (any more).
    std::shared_ptr<T> get(void* handle) {
        std::lock_guard lock(mutex);
        auto it = objects.find((u64)handle);
        if (it != objects.end()) return it->second;
        sim::report(sim::Error::InvalidHandle, "%p is no %s, or it is destroyed", handle, name);
        return nullptr;
    }
    std::shared_ptr<T> take(void* handle) {
        std::shared_ptr<T> object = get(handle);
        std::lock_guard lock(mutex);
        objects.erase((u64)handle);
        return object;
    }
    template <typename F> void drop_if(F is_dropped) {
        std::lock_guard lock(mutex);
        for (auto it = objects.begin(); it != objects.end();) {
            if (is_dropped(*it->second)) it = objects.erase(it);
            else ++it;
        }
    }
    // As the context of a device ends.
    void drop_all(int ordinal) {
        drop_if([ordinal](const T& object) { return object.ordinal == ordinal; });
    }

private:
    const char* name;
    std::mutex mutex;
    std::unordered_map<u64, std::shared_ptr<T>> objects;
};

extern Handles<sim::Stream>& streams;
extern Handles<sim::Event>& events;
extern Handles<sim::Module>& modules;
extern Handles<sim::Kernel>& functions;
extern Handles<sim::Graph>& graphs;
extern Handles<sim::Graph>& graph_execs;

bool is_initialised();
// The device of the current context. The code is not 0 if there is none.
CUresult current(int& ordinal);
CUcontext context_of(int ordinal);
// -1 if it is none.
int ordinal_of(CUcontext context);
// The stream, or the current device's own for 0, 1 and 2.
CUresult stream_of(CUstream handle, sim::StreamRef& stream);

}  // namespace cuda

#define TRY(call) \
    do { \
        CUresult code_ = (call); \
        if (code_ != CUDA_SUCCESS) return code_; \
    } while (0)
