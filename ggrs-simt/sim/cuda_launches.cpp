// CUDA: modules, functions, launches, and what only the simulator has.

#include <cstring>

#include "cuda_api.h"

using namespace cuda;

namespace {

// The first entries of `extra`.
constexpr u64 END = 0, BUFFER_POINTER = 1, BUFFER_SIZE = 2;

enum FunctionAttribute { MAX_THREADS_PER_BLOCK = 0, SHARED_SIZE = 1, MAX_DYNAMIC_SHARED = 8, N_FUNCTION_ATTRIBUTES = 18 };
enum LaunchAttribute { COOPERATIVE = 2, CLUSTER_DIMENSION = 4 };

struct CUlaunchAttribute {
    unsigned id;
    char pad[4];
    unsigned value[16];
};

struct CUlaunchConfig {
    unsigned grid[3];
    unsigned block[3];
    unsigned shared_bytes;
    CUstream stream;
    const CUlaunchAttribute* attributes;
    unsigned n_attributes;
};

CUresult function_of(CUfunction handle, std::shared_ptr<sim::Kernel>& kernel) {
    if (!is_initialised()) return CUDA_ERROR_NOT_INITIALIZED;
    kernel = functions.get(handle);
    return kernel == nullptr ? CUDA_ERROR_INVALID_HANDLE : CUDA_SUCCESS;
}

int blocks_at_once(unsigned n_threads, u64 shared_bytes) {
    u64 by_threads = 2048 / (n_threads == 0 ? 1 : n_threads), by_shared = 228 * 1024 / (shared_bytes + 1024);
    u64 n = by_threads < by_shared ? by_threads : by_shared;
    return (int)(n < 32 ? n : 32);
}

// The parameters, whichever way they come.
CUresult read_params(const sim::Kernel& kernel, void** params, void** extra, std::vector<u64>& words, u64& bytes) {
    const void* from = nullptr;
    bytes = 0;
    if (extra != nullptr) {
        for (void** at = extra; (u64)at[0] != END; at += 2) {
            if ((u64)at[0] == BUFFER_POINTER) from = at[1];
            else if ((u64)at[0] == BUFFER_SIZE) bytes = *(const size_t*)at[1];
            else return CUDA_ERROR_INVALID_VALUE;
        }
    } else if (params != nullptr) {
        from = params[0];
        bytes = kernel.entry.param_bytes;
    }
    if (bytes > 32764 || (bytes != 0 && from == nullptr)) return CUDA_ERROR_INVALID_VALUE;
    words.assign((bytes + 7) / 8, 0);
    if (bytes != 0) std::memcpy(words.data(), from, bytes);
    return CUDA_SUCCESS;
}

CUresult launch(const CUlaunchConfig& config, CUfunction function, void** params, void** extra) {
    std::shared_ptr<sim::Kernel> kernel;
    sim::StreamRef stream;
    TRY(stream_of(config.stream, stream));
    TRY(function_of(function, kernel));
    if (kernel->ordinal != stream->ordinal) {
        return code_of(sim::report(sim::Error::InvalidHandle, "kernel %s of device %d is launched in a stream of device %d",
                                   kernel->name.c_str(), kernel->ordinal, stream->ordinal));
    }
    auto work = std::make_shared<sim::Launch>();
    u64 bytes;
    TRY(read_params(*kernel, params, extra, work->params, bytes));
    work->kernel = kernel;
    std::memcpy(work->grid, config.grid, sizeof work->grid);
    std::memcpy(work->block, config.block, sizeof work->block);
    work->dynamic_bytes = config.shared_bytes;
    TRY(code_of(sim::check_launch(*work, bytes)));
    for (unsigned i = 0; i < config.n_attributes; i++) {
        const CUlaunchAttribute& attribute = config.attributes[i];
        const unsigned* value = attribute.value;
        if (attribute.id == CLUSTER_DIMENSION && value[0] * value[1] * value[2] != 1) return CUDA_ERROR_NOT_SUPPORTED;
        u64 n_blocks = (u64)config.grid[0] * config.grid[1] * config.grid[2];
        unsigned n_threads = config.block[0] * config.block[1] * config.block[2];
        u64 limit = (u64)sim::MULTIPROCESSORS * blocks_at_once(n_threads, config.shared_bytes);
        if (attribute.id == COOPERATIVE && value[0] != 0 && n_blocks > limit) return CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE;
    }
    // A recorded launch fails as it runs.
    bool is_recorded;
    {
        std::lock_guard lock(sim::stream_mutex);
        is_recorded = stream->capture != nullptr;
    }
    if (!is_recorded) work->is_to_fail = sim::launch_is_to_fail();
    sim::Item item;
    item.kind = sim::Item::Kernel;
    item.launch = std::move(work);
    return code_of(sim::put(stream, std::move(item)));
}

}  // namespace

CUDA_API CUresult cuModuleLoadData(CUmodule* handle, const void* image) {
    auto module = std::make_shared<sim::Module>();
    TRY(current(module->ordinal));
    TRY(code_of(sim::load_code(image, module->code)));
    *handle = modules.add(module);
    return CUDA_SUCCESS;
}

CUDA_API CUresult cuModuleLoadDataEx(CUmodule* handle, const void* image, unsigned, int*, void**) {
    return cuModuleLoadData(handle, image);
}

CUDA_API CUresult cuModuleUnload(CUmodule handle) {
    std::shared_ptr<sim::Module> module = modules.take(handle);
    if (module == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    sim::synchronize_device(module->ordinal);
    functions.drop_if([&](const sim::Kernel& kernel) { return kernel.module == module.get(); });
    return CUDA_SUCCESS;
}

CUDA_API CUresult cuModuleGetFunction(CUfunction* handle, CUmodule module_handle, const char* name) {
    std::shared_ptr<sim::Module> module = modules.get(module_handle);
    if (module == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    auto kernel = std::make_shared<sim::Kernel>();
    TRY(code_of(sim::find_kernel(*module, name, *kernel)));
    *handle = functions.add(kernel);
    return CUDA_SUCCESS;
}

CUDA_API CUresult cuFuncGetAttribute(int* value, int attribute, CUfunction handle) {
    std::shared_ptr<sim::Kernel> kernel;
    TRY(function_of(handle, kernel));
    if (attribute < 0 || attribute >= N_FUNCTION_ATTRIBUTES) return CUDA_ERROR_INVALID_VALUE;
    *value = 0;
    // Static shared memory is not known by kernel.
    if (attribute == MAX_THREADS_PER_BLOCK) *value = (int)kernel->entry.max_threads;
    else if (attribute == MAX_DYNAMIC_SHARED) *value = (int)kernel->max_dynamic;
    return CUDA_SUCCESS;
}

CUDA_API CUresult cuFuncSetAttribute(CUfunction handle, int attribute, int value) {
    std::shared_ptr<sim::Kernel> kernel;
    TRY(function_of(handle, kernel));
    if (attribute != MAX_DYNAMIC_SHARED) return CUDA_SUCCESS;
    if (value < 0 || value > (int)sim::MAX_SHARED) {
        return code_of(sim::report(sim::Error::InvalidValue, "kernel %s: %d bytes of dynamic shared memory, %u are there",
                                   kernel->name.c_str(), value, sim::MAX_SHARED));
    }
    kernel->max_dynamic = (unsigned)value;
    return CUDA_SUCCESS;
}

CUDA_API CUresult cuFuncGetParamInfo(CUfunction handle, size_t index, size_t* offset, size_t* bytes) {
    std::shared_ptr<sim::Kernel> kernel;
    TRY(function_of(handle, kernel));
    if (index != 0) return CUDA_ERROR_INVALID_VALUE;
    if (offset != nullptr) *offset = 0;
    if (bytes != nullptr) *bytes = kernel->entry.param_bytes;
    return CUDA_SUCCESS;
}

CUDA_API CUresult cuFuncGetName(const char** name, CUfunction handle) {
    std::shared_ptr<sim::Kernel> kernel;
    TRY(function_of(handle, kernel));
    *name = kernel->name.c_str();
    return CUDA_SUCCESS;
}

CUDA_API CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* n, CUfunction handle, int n_threads, size_t shared_bytes) {
    std::shared_ptr<sim::Kernel> kernel;
    TRY(function_of(handle, kernel));
    if (n_threads <= 0) return CUDA_ERROR_INVALID_VALUE;
    *n = blocks_at_once((unsigned)n_threads, shared_bytes);
    return CUDA_SUCCESS;
}

CUDA_API CUresult cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction function, void** params, void** extra) {
    if (config == nullptr) return CUDA_ERROR_INVALID_VALUE;
    return launch(*config, function, params, extra);
}

CUDA_API CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                                 unsigned block_y, unsigned block_z, unsigned shared_bytes, CUstream stream, void** params,
                                 void** extra) {
    CUlaunchConfig config = {{grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes, stream, nullptr, 0};
    return launch(config, function, params, extra);
}

// The last message, cut to `bytes` with the zero behind it; gives its whole length.
CUDA_API size_t ggrs_sim_last_error(char* text, size_t bytes) {
    std::string last = sim::last_error();
    if (bytes == 0) return last.size();
    size_t n = last.size() < bytes - 1 ? last.size() : bytes - 1;
    std::memcpy(text, last.data(), n);
    text[n] = 0;
    return last.size();
}

CUDA_API u64 ggrs_sim_live_allocations() { return sim::n_live_allocations(); }

// "launch:3,alloc:7": the third launch and the seventh allocation from now on fail. Nothing does with an empty text.
CUDA_API void ggrs_sim_set_fault(const char* list) { sim::set_faults(list); }
