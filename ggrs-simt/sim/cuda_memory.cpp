// CUDA: memory and copies.

#include "cuda_api.h"

using namespace cuda;

namespace {

// A call that waits for the device first, as the driver's do.
CUresult enter_waiting(const char* call, int& ordinal) {
    TRY(current(ordinal));
    return code_of(sim::check_unsafe_call(call));
}

CUresult copy_async(void* to, const void* from, size_t bytes, CUstream handle) {
    sim::StreamRef stream;
    TRY(stream_of(handle, stream));
    return code_of(sim::copy(stream, to, from, bytes, false));
}

CUresult copy_now(void* to, const void* from, size_t bytes) {
    int ordinal;
    TRY(current(ordinal));
    TRY(code_of(sim::check_implicit("a copy that waits is called in a capture", ordinal)));
    TRY(code_of(sim::synchronize_device(ordinal)));
    sim::StreamRef stream;
    TRY(stream_of(nullptr, stream));
    return code_of(sim::copy(stream, to, from, bytes, true));
}

// What has to be a device's (or pinned) memory.
CUresult check_not_pageable(CUdeviceptr at, size_t bytes) {
    sim::Range range;
    std::string why;
    if (bytes == 0 || !sim::look_up((void*)at, bytes, range, why) || range.place != sim::Place::Pageable) return CUDA_SUCCESS;
    return code_of(sim::report(sim::Error::InvalidValue, "%p is no address of a device", (void*)at));
}

CUresult fill(CUdeviceptr to, unsigned value, unsigned value_bytes, size_t count, CUstream handle, bool is_waiting) {
    sim::StreamRef stream;
    TRY(stream_of(handle, stream));
    TRY(code_of(sim::fill(stream, (void*)to, value, value_bytes, count)));
    return is_waiting ? code_of(sim::synchronize(stream)) : CUDA_SUCCESS;
}

}  // namespace

CUDA_API CUresult cuMemGetInfo_v2(size_t* free, size_t* total) {
    int ordinal;
    TRY(current(ordinal));
    *total = sim::settings().memory_bytes;
    *free = *total - sim::used_bytes(ordinal);
    return CUDA_SUCCESS;
}

CUDA_API CUresult cuMemAlloc_v2(CUdeviceptr* at, size_t bytes) {
    int ordinal;
    TRY(enter_waiting("cuMemAlloc is called in a capture", ordinal));
    if (sim::Error error = sim::lost(ordinal); error != sim::Error::None) return code_of(error);
    return code_of(sim::alloc_device(ordinal, bytes, (void**)at));
}

CUDA_API CUresult cuMemFree_v2(CUdeviceptr at) {
    int ordinal;
    if (at == 0) return CUDA_SUCCESS;
    TRY(enter_waiting("cuMemFree is called in a capture", ordinal));
    void* start;
    u64 bytes;
    // Any device's memory may be freed; it is the owner's work that is waited for.
    if (sim::allocation_at((void*)at, &start, &bytes, &ordinal) && ordinal >= 0) {
        sim::Error error = sim::synchronize_device(ordinal);
        sim::Error freed = sim::free_device((void*)at);
        return code_of(error != sim::Error::None ? error : freed);
    }
    return code_of(sim::free_device((void*)at));
}

CUDA_API CUresult cuMemHostAlloc(void** at, size_t bytes, unsigned) {
    int ordinal;
    TRY(enter_waiting("cuMemHostAlloc is called in a capture", ordinal));
    return code_of(sim::alloc_pinned(bytes, at));
}

CUDA_API CUresult cuMemAllocHost_v2(void** at, size_t bytes) { return cuMemHostAlloc(at, bytes, 0); }

CUDA_API CUresult cuMemFreeHost(void* at) {
    int ordinal;
    if (at == nullptr) return CUDA_SUCCESS;
    TRY(enter_waiting("cuMemFreeHost is called in a capture", ordinal));
    for (int i = 0; i < sim::device_count(); i++) sim::synchronize_device(i);
    return code_of(sim::free_pinned(at));
}

CUDA_API CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr* at, void* host, unsigned) {
    int ordinal;
    TRY(current(ordinal));
    void* start;
    u64 bytes;
    if (!sim::allocation_at(host, &start, &bytes, &ordinal) || ordinal >= 0) {
        return code_of(sim::report(sim::Error::InvalidValue, "%p is no pinned memory", host));
    }
    *at = (CUdeviceptr)host;
    return CUDA_SUCCESS;
}

CUDA_API CUresult cuMemHostRegister_v2(void* at, size_t bytes, unsigned) {
    int ordinal;
    TRY(current(ordinal));
    return code_of(sim::register_host(at, bytes));
}

CUDA_API CUresult cuMemHostUnregister(void* at) {
    int ordinal;
    TRY(current(ordinal));
    for (int i = 0; i < sim::device_count(); i++) sim::synchronize_device(i);
    return code_of(sim::unregister_host(at));
}

CUDA_API CUresult cuMemGetAddressRange_v2(CUdeviceptr* start, size_t* bytes, CUdeviceptr at) {
    void* first;
    u64 size;
    int ordinal;
    if (!sim::allocation_at((void*)at, &first, &size, &ordinal)) return CUDA_ERROR_NOT_FOUND;
    if (start != nullptr) *start = (CUdeviceptr)first;
    if (bytes != nullptr) *bytes = size;
    return CUDA_SUCCESS;
}

CUDA_API CUresult cuPointerGetAttribute(void* value, int attribute, CUdeviceptr at) {
    void* start;
    u64 bytes;
    int ordinal;
    if (!sim::allocation_at((void*)at, &start, &bytes, &ordinal)) return CUDA_ERROR_INVALID_VALUE;
    switch (attribute) {
        case 1: *(CUcontext*)value = context_of(ordinal < 0 ? 0 : ordinal); break;
        // Host or device.
        case 2: *(unsigned*)value = ordinal < 0 ? 1 : 2; break;
        case 3: *(CUdeviceptr*)value = at; break;
        case 9: *(int*)value = ordinal < 0 ? 0 : ordinal; break;
        case 11: *(CUdeviceptr*)value = (CUdeviceptr)start; break;
        case 12: *(size_t*)value = bytes; break;
        default: return CUDA_ERROR_NOT_SUPPORTED;
    }
    return CUDA_SUCCESS;
}

CUDA_API CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) {
    TRY(check_not_pageable(to, bytes));
    return copy_async((void*)to, from, bytes, stream);
}

CUDA_API CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
    TRY(check_not_pageable(from, bytes));
    return copy_async(to, (void*)from, bytes, stream);
}

CUDA_API CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
    TRY(check_not_pageable(to, bytes));
    TRY(check_not_pageable(from, bytes));
    return copy_async((void*)to, (void*)from, bytes, stream);
}

CUDA_API CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
    return copy_async((void*)to, (void*)from, bytes, stream);
}

CUDA_API CUresult cuMemcpyPeerAsync(CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context,
                                    size_t bytes, CUstream stream) {
    if (ordinal_of(to_context) < 0 || ordinal_of(from_context) < 0) return CUDA_ERROR_INVALID_CONTEXT;
    sim::Range range;
    std::string why;
    if (sim::look_up((void*)to, bytes, range, why) && range.ordinal != ordinal_of(to_context)) return CUDA_ERROR_INVALID_VALUE;
    if (sim::look_up((void*)from, bytes, range, why) && range.ordinal != ordinal_of(from_context)) return CUDA_ERROR_INVALID_VALUE;
    return copy_async((void*)to, (void*)from, bytes, stream);
}

CUDA_API CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, size_t bytes) { return copy_now((void*)to, from, bytes); }
CUDA_API CUresult cuMemcpyDtoH_v2(void* to, CUdeviceptr from, size_t bytes) { return copy_now(to, (void*)from, bytes); }
CUDA_API CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes) { return copy_now((void*)to, (void*)from, bytes); }
CUDA_API CUresult cuMemcpy(CUdeviceptr to, CUdeviceptr from, size_t bytes) { return copy_now((void*)to, (void*)from, bytes); }

CUDA_API CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t count, CUstream stream) {
    return fill(to, value, 1, count, stream, false);
}
CUDA_API CUresult cuMemsetD16Async(CUdeviceptr to, unsigned short value, size_t count, CUstream stream) {
    return fill(to, value, 2, count, stream, false);
}
CUDA_API CUresult cuMemsetD32Async(CUdeviceptr to, unsigned value, size_t count, CUstream stream) {
    return fill(to, value, 4, count, stream, false);
}
CUDA_API CUresult cuMemsetD8_v2(CUdeviceptr to, unsigned char value, size_t count) {
    return fill(to, value, 1, count, nullptr, true);
}
CUDA_API CUresult cuMemsetD32_v2(CUdeviceptr to, unsigned value, size_t count) {
    return fill(to, value, 4, count, nullptr, true);
}
