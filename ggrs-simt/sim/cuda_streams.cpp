// CUDA: streams, events, captures, graphs.

#include "cuda_api.h"

using namespace cuda;

namespace {

constexpr unsigned DISABLE_TIMING = 2;

CUresult event_of(CUevent handle, std::shared_ptr<sim::Event>& event) {
    if (!is_initialised()) return CUDA_ERROR_NOT_INITIALIZED;
    event = events.get(handle);
    return event == nullptr ? CUDA_ERROR_INVALID_HANDLE : CUDA_SUCCESS;
}

}  // namespace

CUDA_API CUresult cuStreamCreate(CUstream* handle, unsigned) {
    int ordinal;
    TRY(current(ordinal));
    *handle = streams.add(sim::new_stream(ordinal));
    return CUDA_SUCCESS;
}

CUDA_API CUresult cuStreamCreateWithPriority(CUstream* handle, unsigned flags, int) { return cuStreamCreate(handle, flags); }

CUDA_API CUresult cuStreamGetPriority(CUstream, int* priority) {
    *priority = 0;
    return CUDA_SUCCESS;
}

CUDA_API CUresult cuStreamDestroy_v2(CUstream handle) {
    sim::StreamRef stream = streams.take(handle);
    if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    // What it has to do is done all the same.
    std::shared_ptr<sim::Graph> graph;
    if (stream->capture != nullptr) sim::end_capture(stream, graph);
    sim::synchronize(stream);
    return CUDA_SUCCESS;
}

CUDA_API CUresult cuStreamSynchronize(CUstream handle) {
    sim::StreamRef stream;
    TRY(stream_of(handle, stream));
    return code_of(sim::synchronize(stream));
}

CUDA_API CUresult cuStreamQuery(CUstream handle) {
    sim::StreamRef stream;
    TRY(stream_of(handle, stream));
    return code_of(sim::query(stream));
}

CUDA_API CUresult cuStreamWaitEvent(CUstream handle, CUevent event_handle, unsigned) {
    sim::StreamRef stream;
    std::shared_ptr<sim::Event> event;
    TRY(stream_of(handle, stream));
    TRY(event_of(event_handle, event));
    return code_of(sim::wait(stream, event));
}

CUDA_API CUresult cuLaunchHostFunc(CUstream handle, void (*function)(void*), void* data) {
    sim::StreamRef stream;
    TRY(stream_of(handle, stream));
    sim::Item item;
    item.kind = sim::Item::Host;
    item.host = function;
    item.host_data = data;
    return code_of(sim::put(stream, std::move(item)));
}

// For libnccl.so.2: what is asked again and again, in the stream's order, until it says that it is done.
CUDA_API CUresult ggrs_sim_meet(CUstream handle, const std::function<bool()>* meet) {
    sim::StreamRef stream;
    TRY(stream_of(handle, stream));
    sim::Item item;
    item.kind = sim::Item::Meet;
    item.meet = std::make_shared<std::function<bool()>>(*meet);
    return code_of(sim::put(stream, std::move(item)));
}

CUDA_API CUresult cuEventCreate(CUevent* handle, unsigned flags) {
    auto event = std::make_shared<sim::Event>();
    TRY(current(event->ordinal));
    event->is_timed = (flags & DISABLE_TIMING) == 0;
    *handle = events.add(event);
    return CUDA_SUCCESS;
}

CUDA_API CUresult cuEventDestroy_v2(CUevent handle) {
    return events.take(handle) == nullptr ? CUDA_ERROR_INVALID_HANDLE : CUDA_SUCCESS;
}

CUDA_API CUresult cuEventRecord(CUevent event_handle, CUstream handle) {
    sim::StreamRef stream;
    std::shared_ptr<sim::Event> event;
    TRY(stream_of(handle, stream));
    TRY(event_of(event_handle, event));
    if (event->ordinal != stream->ordinal) {
        return code_of(sim::report(sim::Error::InvalidHandle, "an event of device %d is recorded in a stream of device %d",
                                   event->ordinal, stream->ordinal));
    }
    return code_of(sim::record(stream, event));
}

CUDA_API CUresult cuEventSynchronize(CUevent handle) {
    std::shared_ptr<sim::Event> event;
    TRY(event_of(handle, event));
    return code_of(sim::synchronize(event));
}

CUDA_API CUresult cuEventQuery(CUevent handle) {
    std::shared_ptr<sim::Event> event;
    TRY(event_of(handle, event));
    return code_of(sim::query(event));
}

CUDA_API CUresult cuEventElapsedTime(float* ms, CUevent from_handle, CUevent to_handle) {
    std::shared_ptr<sim::Event> from, to;
    TRY(event_of(from_handle, from));
    TRY(event_of(to_handle, to));
    return code_of(sim::elapsed(*from, *to, ms));
}

CUDA_API CUresult cuEventElapsedTime_v2(float* ms, CUevent from, CUevent to) { return cuEventElapsedTime(ms, from, to); }

CUDA_API CUresult cuStreamBeginCapture_v2(CUstream handle, int mode) {
    sim::StreamRef stream;
    TRY(stream_of(handle, stream));
    if ((u64)handle <= 1) return code_of(sim::report(sim::Error::CaptureUnsupported, "the legacy stream is captured"));
    if (mode < 0 || mode > 2) return CUDA_ERROR_INVALID_VALUE;
    return code_of(sim::begin_capture(stream, (sim::CaptureMode)mode));
}

CUDA_API CUresult cuStreamEndCapture(CUstream handle, CUgraph* graph_handle) {
    sim::StreamRef stream;
    TRY(stream_of(handle, stream));
    std::shared_ptr<sim::Graph> graph;
    *graph_handle = nullptr;
    TRY(code_of(sim::end_capture(stream, graph)));
    *graph_handle = graphs.add(graph);
    return CUDA_SUCCESS;
}

CUDA_API CUresult cuStreamIsCapturing(CUstream handle, int* status) {
    sim::StreamRef stream;
    TRY(stream_of(handle, stream));
    std::lock_guard lock(sim::stream_mutex);
    *status = stream->capture == nullptr ? 0 : stream->capture->is_broken ? 2 : 1;
    return CUDA_SUCCESS;
}

CUDA_API CUresult cuStreamGetCaptureInfo(CUstream handle, int* status, u64* id) {
    TRY(cuStreamIsCapturing(handle, status));
    if (*status == 0 || id == nullptr) return CUDA_SUCCESS;
    sim::StreamRef stream;
    TRY(stream_of(handle, stream));
    std::lock_guard lock(sim::stream_mutex);
    if (stream->capture != nullptr) *id = stream->capture->id;
    return CUDA_SUCCESS;
}

// The graph of an unfinished capture and its nodes are not given out.
CUDA_API CUresult cuStreamGetCaptureInfo_v2(CUstream handle, int* status, u64* id, CUgraph* graph, const void** nodes,
                                            size_t* n_nodes) {
    if (graph != nullptr) *graph = nullptr;
    if (nodes != nullptr) *nodes = nullptr;
    if (n_nodes != nullptr) *n_nodes = 0;
    return cuStreamGetCaptureInfo(handle, status, id);
}

CUDA_API CUresult cuStreamGetCaptureInfo_v3(CUstream handle, int* status, u64* id, CUgraph* graph, const void** nodes,
                                            const void** edges, size_t* n_nodes) {
    if (edges != nullptr) *edges = nullptr;
    return cuStreamGetCaptureInfo_v2(handle, status, id, graph, nodes, n_nodes);
}

CUDA_API CUresult cuGraphGetNodes(CUgraph handle, void** nodes, size_t* n_nodes) {
    std::shared_ptr<sim::Graph> graph = graphs.get(handle);
    if (graph == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    size_t n = graph->nodes.size();
    for (size_t i = 0; nodes != nullptr && i < n && i < *n_nodes; i++) nodes[i] = (void*)(i + 1);
    if (nodes == nullptr || *n_nodes > n) *n_nodes = n;
    return CUDA_SUCCESS;
}

CUDA_API CUresult cuGraphDestroy(CUgraph handle) {
    return graphs.take(handle) == nullptr ? CUDA_ERROR_INVALID_HANDLE : CUDA_SUCCESS;
}

CUDA_API CUresult cuGraphInstantiateWithFlags(CUgraphExec* exec, CUgraph handle, unsigned long long) {
    std::shared_ptr<sim::Graph> graph = graphs.get(handle);
    if (graph == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    *exec = graph_execs.add(std::make_shared<sim::Graph>(*graph));
    return CUDA_SUCCESS;
}

CUDA_API CUresult cuGraphExecDestroy(CUgraphExec handle) {
    return graph_execs.take(handle) == nullptr ? CUDA_ERROR_INVALID_HANDLE : CUDA_SUCCESS;
}

CUDA_API CUresult cuGraphUpload(CUgraphExec handle, CUstream stream_handle) {
    sim::StreamRef stream;
    TRY(stream_of(stream_handle, stream));
    return graph_execs.get(handle) == nullptr ? CUDA_ERROR_INVALID_HANDLE : CUDA_SUCCESS;
}

CUDA_API CUresult cuGraphLaunch(CUgraphExec handle, CUstream stream_handle) {
    sim::StreamRef stream;
    TRY(stream_of(stream_handle, stream));
    std::shared_ptr<sim::Graph> exec = graph_execs.get(handle);
    if (exec == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    return code_of(sim::launch_graph(stream, *exec));
}
