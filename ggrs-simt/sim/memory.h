// Memory of the simulated devices and pinned memory of the host. Every allocation ends at a page that nothing may touch,
// and no address is given out twice as long as there are others.
#pragma once

#include "engine.h"

namespace sim {

enum class Place { Device, Pinned, Pageable };

// What lies at a range of addresses.
struct Range {
    Place place = Place::Pageable;
    // Whose memory; -1 for the host's.
    int ordinal = -1;
};

Error alloc_device(int ordinal, u64 bytes, void** out);
Error alloc_pinned(u64 bytes, void** out);
Error free_device(void* at);
Error free_pinned(void* at);
Error register_host(void* at, u64 bytes);
Error unregister_host(void* at);
// Frees all that is left of a device, as its context ends.
void free_all(int ordinal);

u64 used_bytes(int ordinal);
// Of all devices and pinned, with those that nobody freed before their device's context ended.
u64 n_live_allocations();

// Where the range lies. False, and `why`, if it is not wholly inside one live allocation although it begins in the
// simulator's memory; memory that it does not know is the host's.
bool look_up(const void* at, u64 bytes, Range& range, std::string& why);
// The start and size of the live allocation around an address.
bool allocation_at(const void* at, void** start, u64* bytes, int* ordinal);
// Is this an address inside a live allocation of a device other than this one? Gives its ordinal, or -1.
int other_device_at(u64 address, int ordinal);
// Is it in the simulator's memory at all, live or not? Safe in signal handlers.
bool is_ours(u64 address);
// An address in words: "16 bytes behind an allocation of 4096 bytes on device 0".
std::string describe(u64 address);

}  // namespace sim
