// Recordings: what is put into a stream between the beginning and the end of a capture.

#include <pthread.h>

#include "streams.h"

namespace sim {
namespace {

// Captures that go on. Under `stream_mutex`.
std::vector<std::weak_ptr<Capture>>& open_captures = *new std::vector<std::weak_ptr<Capture>>;

}  // namespace

Capture::Branch* Capture::branch(const Stream* stream) {
    for (Branch& branch : branches)
        if (branch.stream.get() == stream) return &branch;
    return nullptr;
}

Error break_capture(Capture& capture, Error error, const char* what) {
    if (capture.is_broken) return Error::CaptureInvalidated;
    capture.is_broken = true;
    return report(error, "%s; the capture is lost", what);
}

Error put_into_capture(const StreamRef& stream, Item& item) {
    Capture& capture = *stream->capture;
    if (capture.is_broken) return Error::CaptureInvalidated;
    capture.graph->nodes.push_back(std::move(item));
    capture.branch(stream.get())->n_nodes++;
    return Error::None;
}

Error begin_capture(const StreamRef& stream, CaptureMode mode) {
    static u64 n_captures = 0;
    std::lock_guard lock(stream_mutex);
    if (stream->capture != nullptr) return report(Error::InvalidValue, "a capture begins in a stream that is captured");
    auto capture = std::make_shared<Capture>();
    capture->id = ++n_captures;
    capture->mode = mode;
    capture->thread = (u64)pthread_self();
    capture->graph = std::make_shared<Graph>();
    capture->graph->ordinal = stream->ordinal;
    capture->origin = stream.get();
    capture->branches.push_back({stream, 0, 0});
    stream->capture = capture;
    for (size_t i = 0; i < open_captures.size();) {
        if (open_captures[i].expired()) open_captures.erase(open_captures.begin() + i);
        else i++;
    }
    open_captures.push_back(capture);
    return Error::None;
}

Error end_capture(const StreamRef& stream, std::shared_ptr<Graph>& graph) {
    std::lock_guard lock(stream_mutex);
    std::shared_ptr<Capture> capture = stream->capture;
    if (capture == nullptr) return report(Error::InvalidValue, "a capture ends in a stream that is not captured");
    if (capture->origin != stream.get()) {
        return break_capture(*capture, Error::CaptureUnmatched, "a capture ends in another stream than it began in");
    }
    if (capture->mode != CaptureMode::Relaxed && capture->thread != (u64)pthread_self()) {
        return report(Error::CaptureWrongThread, "a capture ends on another thread than it began on");
    }
    Error error = capture->is_broken ? Error::CaptureInvalidated : Error::None;
    for (const Capture::Branch& branch : capture->branches) {
        branch.stream->capture = nullptr;
        bool is_joined = branch.stream == stream || branch.n_joined == branch.n_nodes;
        if (error == Error::None && !is_joined) {
            error = report(Error::CaptureUnjoined, "a capture ends before work of another stream is joined");
        }
    }
    if (error == Error::None) graph = capture->graph;
    return error;
}

Error launch_graph(const StreamRef& stream, const Graph& graph) {
    if (Error error = lost(stream->ordinal); error != Error::None) return error;
    for (Item item : graph.nodes) {
        if (item.kind == Item::Kernel && launch_is_to_fail()) {
            auto failing = std::make_shared<Launch>(*item.launch);
            failing->is_to_fail = true;
            item.launch = failing;
        }
        if (Error error = put(stream, std::move(item)); error != Error::None) return error;
    }
    return Error::None;
}

Error check_unsafe_call(const char* call) {
    std::lock_guard lock(stream_mutex);
    for (const auto& place : open_captures) {
        std::shared_ptr<Capture> capture = place.lock();
        if (capture == nullptr || capture->origin->capture != capture || capture->mode == CaptureMode::Relaxed) continue;
        if (capture->mode == CaptureMode::ThreadLocal && capture->thread != (u64)pthread_self()) continue;
        return break_capture(*capture, Error::CaptureUnsupported, call);
    }
    return Error::None;
}

Error check_implicit(const char* call, int ordinal) {
    std::lock_guard lock(stream_mutex);
    for (const auto& place : open_captures) {
        std::shared_ptr<Capture> capture = place.lock();
        if (capture == nullptr || capture->origin->capture != capture) continue;
        if (capture->origin->ordinal == ordinal) return break_capture(*capture, Error::CaptureImplicit, call);
    }
    return Error::None;
}

}  // namespace sim
