// Queues of work, run by whoever waits for them.

#include "streams.h"

#include <chrono>
#include <condition_variable>
#include <cstring>

namespace sim {

std::mutex stream_mutex;

namespace {

// Of any stream: an item is done.
std::condition_variable& progress = *new std::condition_variable;
std::vector<std::weak_ptr<Stream>>& all_streams = *new std::vector<std::weak_ptr<Stream>>;
// A longer queue is run from its beginning.
constexpr u64 MAX_QUEUE = 1024;

// How many items this thread is in the middle of.
thread_local int n_running = 0;

void run_copy(const Item& item, Device& device) {
    std::string why;
    Range range;
    const u8* from = item.staged ? item.staged->data() : item.from;
    bool is_whole = look_up(item.to, item.bytes, range, why);
    if (is_whole && !item.staged) is_whole = look_up(from, item.bytes, range, why);
    if (is_whole) {
        std::memmove(item.to, from, item.bytes);
        return;
    }
    report(Error::IllegalAddress, "a copy of %zu bytes from %p to %p runs when its memory is gone: %s", item.bytes,
           (const void*)item.from, (void*)item.to, why.c_str());
    std::lock_guard lock(device_mutex());
    device.lost = Error::IllegalAddress;
}

void run_fill(const Item& item, Device& device) {
    std::string why;
    Range range;
    if (!look_up(item.to, item.bytes, range, why)) {
        report(Error::IllegalAddress, "a fill of %zu bytes runs when its memory is gone: %s", item.bytes, why.c_str());
        std::lock_guard lock(device_mutex());
        device.lost = Error::IllegalAddress;
        return;
    }
    if (item.value_bytes == 1) {
        std::memset(item.to, (int)item.value, item.bytes);
        return;
    }
    for (u64 at = 0; at < item.bytes; at += item.value_bytes) std::memcpy(item.to + at, &item.value, item.value_bytes);
}

void run_item(const Item& item, int ordinal) {
    Device& owner = *device(ordinal);
    if (item.kind == Item::Record) {
        std::lock_guard lock(stream_mutex);
        item.event->passed_at = seconds();
        return;
    }
    if (lost(ordinal) != Error::None) return;
    switch (item.kind) {
        case Item::Kernel: run_launch(*item.launch, owner); break;
        case Item::Copy: run_copy(item, owner); break;
        case Item::Fill: run_fill(item, owner); break;
        case Item::Host: item.host(item.host_data); break;
        default: break;
    }
}

using Lock = std::unique_lock<std::mutex>;

bool has_passed(const Point& point) { return point.stream == nullptr || point.stream->n_done >= point.n_done; }

bool run_until(Lock& lock, const StreamRef& stream, u64 n_done);

// Runs the first item of a stream that nobody runs; false if it waits for what this thread is in the middle of, or for
// other streams to meet it.
bool step(Lock& lock, const StreamRef& stream) {
    Item& item = stream->items.front();
    if (item.kind == Item::Wait && !has_passed(item.point)) {
        Point point = item.point;
        return run_until(lock, point.stream, point.n_done);
    }
    stream->is_busy = true;
    if (item.kind == Item::Meet && lost(stream->ordinal) == Error::None) {
        auto meet = item.meet;
        lock.unlock();
        bool is_done = (*meet)();
        lock.lock();
        if (!is_done) {
            stream->is_busy = false;
            return false;
        }
    }
    n_running++;
    Item own = std::move(item);
    lock.unlock();
    run_item(own, stream->ordinal);
    own = {};
    lock.lock();
    n_running--;
    stream->items.pop_front();
    stream->n_done++;
    stream->is_busy = false;
    progress.notify_all();
    return true;
}

bool run_until(Lock& lock, const StreamRef& stream, u64 n_done) {
    while (stream->n_done < n_done) {
        if (stream->is_busy) {
            // In the middle of another item nothing may be waited for: its blocks may be what the others wait for.
            if (n_running > 0) return false;
            progress.wait(lock);
        } else if (!step(lock, stream)) {
            return false;
        }
    }
    return true;
}

// A step of any other stream.
bool step_elsewhere(Lock& lock) {
    for (size_t i = 0; i < all_streams.size(); i++) {
        StreamRef stream = all_streams[i].lock();
        if (stream == nullptr || stream->is_busy || stream->items.empty()) continue;
        u64 before = stream->n_done;
        if (step(lock, stream) && stream->n_done != before) return true;
    }
    return false;
}

// While a kernel of this thread waits.
bool run_elsewhere() {
    Lock lock(stream_mutex);
    return step_elsewhere(lock);
}

void wait_here(Lock& lock, const StreamRef& stream, u64 n_done) {
    while (!run_until(lock, stream, n_done)) {
        if (n_running > 0) progress.wait(lock);
        // Those whom it is to meet may come in a step of theirs, or be put into their streams later.
        else if (!step_elsewhere(lock)) progress.wait_for(lock, std::chrono::milliseconds(1));
    }
}

}  // namespace

StreamRef new_stream(int ordinal) {
    auto stream = std::make_shared<Stream>();
    stream->ordinal = ordinal;
    set_elsewhere(run_elsewhere);
    std::lock_guard lock(stream_mutex);
    for (auto& place : all_streams) {
        if (!place.expired()) continue;
        place = stream;
        return stream;
    }
    all_streams.push_back(stream);
    return stream;
}

std::vector<StreamRef> streams_of(int ordinal) {
    std::lock_guard lock(stream_mutex);
    std::vector<StreamRef> found;
    for (auto& place : all_streams) {
        StreamRef stream = place.lock();
        if (stream != nullptr && stream->ordinal == ordinal) found.push_back(stream);
    }
    return found;
}

Error lost(int ordinal) {
    std::lock_guard lock(device_mutex());
    return device(ordinal)->lost;
}

Error put(const StreamRef& stream, Item item) {
    if (Error error = lost(stream->ordinal); error != Error::None) return error;
    Lock lock(stream_mutex);
    if (stream->capture != nullptr) return put_into_capture(stream, item);
    stream->items.push_back(std::move(item));
    stream->n_put++;
    if (stream->items.size() > MAX_QUEUE) run_until(lock, stream, stream->n_put - MAX_QUEUE / 2);
    return Error::None;
}

Error record(const StreamRef& stream, const std::shared_ptr<Event>& event) {
    if (Error error = lost(stream->ordinal); error != Error::None) return error;
    Lock lock(stream_mutex);
    if (stream->capture != nullptr) {
        Capture& capture = *stream->capture;
        if (capture.is_broken) return Error::CaptureInvalidated;
        event->capture = stream->capture;
        event->captured_stream = stream.get();
        event->n_captured = capture.branch(stream.get())->n_nodes;
        return Error::None;
    }
    event->capture.reset();
    Item item;
    item.kind = Item::Record;
    item.event = event;
    stream->items.push_back(std::move(item));
    event->point = {stream, ++stream->n_put};
    return Error::None;
}

Error wait(const StreamRef& stream, const std::shared_ptr<Event>& event) {
    if (Error error = lost(stream->ordinal); error != Error::None) return error;
    Lock lock(stream_mutex);
    if (std::shared_ptr<Capture> capture = event->capture.lock(); capture != nullptr) {
        if (capture->is_broken) return Error::CaptureInvalidated;
        if (stream->capture == nullptr) {
            stream->capture = capture;
            capture->branches.push_back({stream, 0, 0});
        } else if (stream->capture != capture) {
            return break_capture(*capture, Error::CaptureMerge, "two captures are joined by an event");
        }
        Capture::Branch* from = capture->branch(event->captured_stream);
        if (from != nullptr && from->n_joined < event->n_captured) from->n_joined = event->n_captured;
        return Error::None;
    }
    if (stream->capture != nullptr) {
        return break_capture(*stream->capture, Error::CaptureIsolation,
                             "a captured stream waits for an event from outside");
    }
    // One that was never recorded has passed.
    if (has_passed(event->point)) return Error::None;
    Item item;
    item.kind = Item::Wait;
    item.point = event->point;
    stream->items.push_back(std::move(item));
    stream->n_put++;
    return Error::None;
}

Error copy(const StreamRef& stream, void* to, const void* from, u64 bytes, bool is_waiting) {
    if (bytes == 0) return Error::None;
    Range target, source;
    std::string why;
    if (!look_up(to, bytes, target, why) || !look_up(from, bytes, source, why)) {
        return report(Error::InvalidValue, "a copy of %zu bytes from %p to %p: %s", bytes, from, to, why.c_str());
    }
    bool is_pageable = target.place == Place::Pageable || source.place == Place::Pageable;
    if (is_pageable) {
        std::lock_guard lock(stream_mutex);
        if (stream->capture != nullptr) {
            return break_capture(*stream->capture, Error::CaptureUnsupported, "a copy of pageable memory is captured");
        }
    }
    Item item;
    item.kind = Item::Copy;
    item.to = (u8*)to;
    item.from = (const u8*)from;
    item.bytes = bytes;
    if (source.place == Place::Pageable) {
        item.staged = std::make_shared<std::vector<u8>>((const u8*)from, (const u8*)from + bytes);
    }
    Error error = put(stream, std::move(item));
    if (error == Error::None && (is_waiting || target.place == Place::Pageable)) return synchronize(stream);
    return error;
}

Error fill(const StreamRef& stream, void* to, u32 value, unsigned value_bytes, u64 count) {
    if (count == 0) return Error::None;
    Range range;
    std::string why;
    if (!look_up(to, count * value_bytes, range, why)) {
        return report(Error::InvalidValue, "a fill of %zu bytes: %s", count * value_bytes, why.c_str());
    }
    if (range.place == Place::Pageable) return report(Error::InvalidValue, "a fill of memory of the host at %p", to);
    if ((u64)to % value_bytes != 0) return report(Error::InvalidValue, "a fill at %p, which is not aligned", to);
    Item item;
    item.kind = Item::Fill;
    item.to = (u8*)to;
    item.bytes = count * value_bytes;
    item.value = value;
    item.value_bytes = value_bytes;
    return put(stream, std::move(item));
}

Error synchronize(const StreamRef& stream) {
    {
        Lock lock(stream_mutex);
        if (stream->capture != nullptr) {
            return break_capture(*stream->capture, Error::CaptureUnsupported, "a captured stream is waited for");
        }
        wait_here(lock, stream, stream->n_put);
    }
    return lost(stream->ordinal);
}

Error synchronize_device(int ordinal) {
    for (const StreamRef& stream : streams_of(ordinal)) {
        Lock lock(stream_mutex);
        wait_here(lock, stream, stream->n_put);
    }
    return lost(ordinal);
}

Error synchronize(const std::shared_ptr<Event>& event) {
    {
        Lock lock(stream_mutex);
        if (std::shared_ptr<Capture> capture = event->capture.lock(); capture != nullptr) {
            return break_capture(*capture, Error::CapturedEvent, "an event of a capture is waited for");
        }
        Point point = event->point;
        if (point.stream != nullptr) wait_here(lock, point.stream, point.n_done);
    }
    return lost(event->ordinal);
}

static Error one_step(Lock& lock, const StreamRef& stream, u64 n_done, int ordinal) {
    if (stream != nullptr && stream->n_done < n_done) {
        if (!stream->is_busy && !step(lock, stream)) step_elsewhere(lock);
        // What ran just now is told the next time.
        return Error::NotReady;
    }
    lock.unlock();
    return lost(ordinal);
}

Error query(const StreamRef& stream) {
    Lock lock(stream_mutex);
    if (stream->capture != nullptr) {
        return break_capture(*stream->capture, Error::CaptureUnsupported, "a captured stream is asked whether it is done");
    }
    return one_step(lock, stream, stream->n_put, stream->ordinal);
}

Error query(const std::shared_ptr<Event>& event) {
    Lock lock(stream_mutex);
    if (std::shared_ptr<Capture> capture = event->capture.lock(); capture != nullptr) {
        return break_capture(*capture, Error::CapturedEvent, "an event of a capture is asked whether it has passed");
    }
    return one_step(lock, event->point.stream, event->point.n_done, event->ordinal);
}

Error elapsed(const Event& from, const Event& to, float* ms) {
    Lock lock(stream_mutex);
    if (!from.is_timed || !to.is_timed || from.point.stream == nullptr || to.point.stream == nullptr) {
        return report(Error::InvalidHandle, "the time between events of which one is not timed or was never recorded");
    }
    if (!has_passed(from.point) || !has_passed(to.point)) return Error::NotReady;
    *ms = (float)((to.passed_at - from.passed_at) * 1e3);
    return Error::None;
}

}  // namespace sim
