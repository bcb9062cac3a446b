// Streams, events and recordings. Work is put off until somebody waits for it, so that a host that touches memory too
// early sees it.
#pragma once

#include <deque>
#include <functional>
#include <memory>

#include "grids.h"
#include "memory.h"

namespace sim {

struct Event;
struct Stream;

// A place in a stream: reached once so many of its items are done.
struct Point {
    std::shared_ptr<Stream> stream;
    u64 n_done = 0;
};

struct Item {
    enum Kind { Kernel, Copy, Fill, Record, Wait, Host, Meet } kind = Kernel;
    std::shared_ptr<const Launch> launch;
    // Copy and fill.
    u8* to = nullptr;
    const u8* from = nullptr;
    u64 bytes = 0;
    // Pageable memory as it was when the copy was asked for.
    std::shared_ptr<std::vector<u8>> staged;
    u32 value = 0;
    unsigned value_bytes = 1;
    std::shared_ptr<Event> event;
    Point point;
    void (*host)(void*) = nullptr;
    void* host_data = nullptr;
    // Of several streams: asked again and again; true once it is done.
    std::shared_ptr<std::function<bool()>> meet;
};

struct Graph {
    std::vector<Item> nodes;
    int ordinal = 0;
};

enum class CaptureMode { Global, ThreadLocal, Relaxed };

struct Capture {
    u64 id = 0;
    CaptureMode mode = CaptureMode::Global;
    u64 thread = 0;
    bool is_broken = false;
    std::shared_ptr<Graph> graph;
    Stream* origin = nullptr;
    // Streams that came in through events, and how much of them the others have waited for.
    struct Branch {
        std::shared_ptr<Stream> stream;
        u64 n_nodes = 0, n_joined = 0;
    };
    std::vector<Branch> branches;
    Branch* branch(const Stream* stream);
};

struct Stream : std::enable_shared_from_this<Stream> {
    int ordinal = 0;
    std::deque<Item> items;
    u64 n_put = 0, n_done = 0;
    // Somebody runs the first item.
    bool is_busy = false;
    bool is_destroyed = false;
    std::shared_ptr<Capture> capture;
};

struct Event {
    int ordinal = 0;
    bool is_timed = true;
    bool is_destroyed = false;
    Point point;
    double passed_at = 0;
    // If it was last recorded in a capture.
    std::weak_ptr<Capture> capture;
    Stream* captured_stream = nullptr;
    u64 n_captured = 0;
};

using StreamRef = std::shared_ptr<Stream>;

StreamRef new_stream(int ordinal);
std::vector<StreamRef> streams_of(int ordinal);

// Puts work into a stream, or into its recording.
Error put(const StreamRef& stream, Item item);
Error record(const StreamRef& stream, const std::shared_ptr<Event>& event);
Error wait(const StreamRef& stream, const std::shared_ptr<Event>& event);
Error copy(const StreamRef& stream, void* to, const void* from, u64 bytes, bool is_waiting);
Error fill(const StreamRef& stream, void* to, u32 value, unsigned value_bytes, u64 count);

// Runs what is in the stream; gives the device's fault, if it has one.
Error synchronize(const StreamRef& stream);
Error synchronize_device(int ordinal);
Error synchronize(const std::shared_ptr<Event>& event);
// One step, and whether all is done.
Error query(const StreamRef& stream);
Error query(const std::shared_ptr<Event>& event);
Error elapsed(const Event& from, const Event& to, float* ms);
Error lost(int ordinal);

Error begin_capture(const StreamRef& stream, CaptureMode mode);
Error end_capture(const StreamRef& stream, std::shared_ptr<Graph>& graph);
Error launch_graph(const StreamRef& stream, const Graph& graph);
// A call that no capture allows while one of this thread goes on.
Error check_unsafe_call(const char* call);
// Work without a stream of its own while another one is captured.
Error check_implicit(const char* call, int ordinal);

// Shared by streams.cpp and captures.cpp.
extern std::mutex stream_mutex;
Error put_into_capture(const StreamRef& stream, Item& item);
Error break_capture(Capture& capture, Error error, const char* what);

}  // namespace sim
