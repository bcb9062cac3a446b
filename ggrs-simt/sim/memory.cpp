// Allocation with guard pages.

#include "memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <map>

namespace sim {
namespace {

constexpr u64 PAGE = 4096;
constexpr u64 ALIGNMENT = 256;
// Addresses of one device. Far from those of ordinary mappings, with an uncommon upper half.
constexpr u64 SPACE = 1ull << 38;
constexpr u64 FIRST = 0x3a57'0000'0000;
constexpr int MAX_SPACES = 17;
// Fresh memory is all ones, a NaN in every float format; what surrounds an allocation has another pattern.
constexpr int POISON = 0xff;
constexpr int SURROUND = 0xa5;
// From here on fresh memory is mapped from a file of ones and not written.
constexpr u64 LARGE = 1 << 20;
constexpr u64 ONES = 2 << 20;

struct Allocation {
    u64 bytes = 0;
    u64 first_page = 0;
    u64 end_page = 0;
    int ordinal = -1;
    bool is_registered = false;
};

// Addresses of one device, or of pinned memory.
struct Space {
    u64 start = 0;
    u64 next = 0;
    u64 used = 0;
};

std::mutex mutex;
Space spaces[MAX_SPACES];
std::atomic<u64> space_starts[MAX_SPACES];
// By their first address.
std::map<u64, Allocation>& live = *new std::map<u64, Allocation>;
std::map<u64, Allocation>& freed = *new std::map<u64, Allocation>;
// Allocations that were left when their device's context ended.
u64 n_left_over = 0;

u64 rounded(u64 bytes, u64 to) { return (bytes + to - 1) / to * to; }

int space_of(int ordinal) { return ordinal < 0 ? MAX_SPACES - 1 : ordinal; }

Space* open_space(int ordinal) {
    int i = space_of(ordinal);
    Space& space = spaces[i];
    if (space.start != 0) return &space;
    void* hint = (void*)(FIRST + (u64)i * 4 * SPACE);
    void* at = mmap(hint, SPACE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return nullptr;
    space.start = space.next = (u64)at;
    space_starts[i] = space.start;
    return &space;
}

// So many free pages and one behind them. Addresses are used again only once all have been.
u64 find_pages(Space& space, u64 bytes) {
    u64 end = space.start + SPACE;
    if (space.next + bytes + PAGE <= end) {
        u64 at = space.next;
        space.next += bytes + PAGE;
        return at;
    }
    u64 at = space.start;
    for (auto it = live.lower_bound(space.start); it != live.end() && it->first < end; ++it) {
        if (it->second.first_page >= at + bytes + PAGE) break;
        at = it->second.end_page + PAGE;
    }
    if (at + bytes + PAGE > end) return 0;
    freed.erase(freed.lower_bound(at), freed.lower_bound(at + bytes));
    return at;
}

int file_of_ones() {
    static const int file = [] {
        int fd = memfd_create("ggrs-sim-ones", MFD_CLOEXEC);
        if (fd < 0 || ftruncate(fd, ONES) != 0) return -1;
        void* at = mmap(nullptr, ONES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (at == MAP_FAILED) return -1;
        std::memset(at, POISON, ONES);
        munmap(at, ONES);
        return fd;
    }();
    return file;
}

bool map_fresh(u64 at, u64 bytes) {
    if (bytes >= LARGE && file_of_ones() >= 0) {
        for (u64 done = 0; done < bytes; done += ONES) {
            u64 part = bytes - done < ONES ? bytes - done : ONES;
            void* got = mmap((void*)(at + done), part, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE,
                             file_of_ones(), 0);
            if (got == MAP_FAILED) return false;
        }
        return true;
    }
    if (mprotect((void*)at, bytes, PROT_READ | PROT_WRITE) != 0) return false;
    std::memset((void*)at, POISON, bytes);
    return true;
}

void unmap(u64 at, u64 bytes) {
    mmap((void*)at, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}

Error allocate(int ordinal, u64 bytes, u64 limit, void** out) {
    if (bytes == 0) return report(Error::InvalidValue, "an allocation of 0 bytes");
    if (alloc_is_to_fail()) return report(Error::OutOfMemory, "an allocation of %zu bytes fails as asked for", bytes);
    std::lock_guard lock(mutex);
    Space* space = open_space(ordinal);
    u64 taken = rounded(bytes, ALIGNMENT), pages = rounded(taken, PAGE);
    if (space == nullptr || bytes > SPACE / 2 || space->used + taken > limit) return Error::OutOfMemory;
    u64 first_page = find_pages(*space, pages);
    if (first_page == 0 || !map_fresh(first_page, pages)) return Error::OutOfMemory;
    u64 start = first_page + pages - taken;
    std::memset((void*)first_page, SURROUND, start - first_page);
    std::memset((void*)(start + bytes), SURROUND, taken - bytes);
    live[start] = {bytes, first_page, first_page + pages, ordinal, false};
    space->used += taken;
    *out = (void*)start;
    return Error::None;
}

// The first byte around an allocation that was written, or 0.
u64 spoiled(u64 start, const Allocation& a) {
    for (u64 at = a.first_page; at < start; at++)
        if (*(const u8*)at != SURROUND) return at;
    for (u64 at = start + a.bytes; at < a.end_page; at++)
        if (*(const u8*)at != SURROUND) return at;
    return 0;
}

std::string words(u64 address, u64 start, const Allocation& a, const char* kind) {
    char text[256];
    u64 end = start + a.bytes;
    u64 distance = address < start ? start - address : address < end ? address - start : address - end;
    const char* relation = address < start ? "before" : address < end ? "into" : "behind";
    char owner[32] = "pinned";
    if (a.ordinal >= 0) std::snprintf(owner, sizeof owner, "on device %d", a.ordinal);
    std::snprintf(text, sizeof text, "%zu bytes %s %s allocation of %zu bytes %s", distance, relation, kind, a.bytes,
                  owner);
    return text;
}

std::string describe_locked(u64 address) {
    const std::pair<const u64, Allocation>* best = nullptr;
    const char* kind = "an";
    u64 least = ~0ull;
    auto look = [&](std::map<u64, Allocation>& all, const char* word) {
        auto after = all.upper_bound(address);
        auto consider = [&](const std::pair<const u64, Allocation>& entry) {
            u64 start = entry.first, end = start + entry.second.bytes;
            u64 distance = address < start ? start - address : address < end ? 0 : address - end + 1;
            if (distance >= least) return;
            least = distance;
            best = &entry;
            kind = word;
        };
        if (after != all.end()) consider(*after);
        if (after != all.begin()) consider(*std::prev(after));
    };
    look(live, "an");
    look(freed, "a freed");
    if (best == nullptr) return "in no allocation";
    return words(address, best->first, best->second, kind);
}

Error release(std::map<u64, Allocation>::iterator it) {
    u64 start = it->first;
    Allocation a = it->second;
    Error result = Error::None;
    if (!a.is_registered) {
        u64 bad = spoiled(start, a);
        if (bad != 0) {
            result = report(Error::IllegalAddress, "something wrote to address %p, %s; seen as the allocation was freed",
                            (void*)bad, words(bad, start, a, "an").c_str());
        }
        unmap(a.first_page, a.end_page - a.first_page);
        spaces[space_of(a.ordinal)].used -= rounded(a.bytes, ALIGNMENT);
        freed[start] = a;
        if (freed.size() > 100000) freed.erase(freed.begin());
    }
    live.erase(it);
    return result;
}

Error free_at(void* at, bool is_device) {
    std::lock_guard lock(mutex);
    auto it = live.find((u64)at);
    if (it == live.end() || (it->second.ordinal >= 0) != is_device || it->second.is_registered) {
        return report(Error::InvalidValue, "%p is freed and is no live allocation: %s", at,
                      describe_locked((u64)at).c_str());
    }
    return release(it);
}

// The live allocation that an address lies in, or behind which it lies.
std::map<u64, Allocation>::iterator around(u64 address) {
    auto it = live.upper_bound(address);
    return it == live.begin() ? live.end() : std::prev(it);
}

}  // namespace

Error alloc_device(int ordinal, u64 bytes, void** out) {
    return allocate(ordinal, bytes, settings().memory_bytes, out);
}
Error alloc_pinned(u64 bytes, void** out) { return allocate(-1, bytes, SPACE / 2, out); }
Error free_device(void* at) { return free_at(at, true); }
Error free_pinned(void* at) { return free_at(at, false); }

Error register_host(void* at, u64 bytes) {
    if (at == nullptr || bytes == 0) return Error::InvalidValue;
    std::lock_guard lock(mutex);
    auto it = around((u64)at + bytes - 1);
    if (it != live.end() && it->first + it->second.bytes > (u64)at) return Error::AlreadyRegistered;
    live[(u64)at] = {bytes, 0, 0, -1, true};
    return Error::None;
}

Error unregister_host(void* at) {
    std::lock_guard lock(mutex);
    auto it = live.find((u64)at);
    if (it == live.end() || !it->second.is_registered) return Error::NotRegistered;
    return release(it);
}

void free_all(int ordinal) {
    std::lock_guard lock(mutex);
    for (auto it = live.begin(); it != live.end();) {
        auto next = std::next(it);
        if (it->second.ordinal == ordinal) {
            release(it);
            n_left_over++;
        }
        it = next;
    }
}

u64 used_bytes(int ordinal) {
    std::lock_guard lock(mutex);
    return spaces[space_of(ordinal)].used;
}

u64 n_live_allocations() {
    std::lock_guard lock(mutex);
    u64 n = n_left_over;
    for (const auto& entry : live) n += !entry.second.is_registered;
    return n;
}

bool look_up(const void* at, u64 bytes, Range& range, std::string& why) {
    std::lock_guard lock(mutex);
    u64 address = (u64)at;
    auto it = around(address);
    if (it != live.end() && address < it->first + it->second.bytes) {
        range.place = it->second.ordinal >= 0 ? Place::Device : Place::Pinned;
        range.ordinal = it->second.ordinal;
        if (address + bytes <= it->first + it->second.bytes) return true;
        // Pageable memory may have a registered part.
        if (it->second.is_registered) {
            range = {};
            return true;
        }
        why = "the range ends " + describe_locked(address + bytes - 1);
        return false;
    }
    range = {};
    if (!is_ours(address)) return true;
    why = "the range begins " + describe_locked(address);
    return false;
}

bool allocation_at(const void* at, void** start, u64* bytes, int* ordinal) {
    std::lock_guard lock(mutex);
    auto it = around((u64)at);
    if (it == live.end() || (u64)at >= it->first + it->second.bytes) return false;
    *start = (void*)it->first;
    *bytes = it->second.bytes;
    *ordinal = it->second.ordinal;
    return true;
}

int other_device_at(u64 address, int ordinal) {
    if (!is_ours(address)) return -1;
    std::lock_guard lock(mutex);
    auto it = around(address);
    if (it == live.end() || address >= it->first + it->second.bytes) return -1;
    return it->second.ordinal == ordinal ? -1 : it->second.ordinal;
}

bool is_ours(u64 address) {
    for (auto& start : space_starts) {
        u64 at = start.load(std::memory_order_relaxed);
        if (at != 0 && address >= at && address < at + SPACE) return true;
    }
    return false;
}

std::string describe(u64 address) {
    std::lock_guard lock(mutex);
    return describe_locked(address);
}

}  // namespace sim
