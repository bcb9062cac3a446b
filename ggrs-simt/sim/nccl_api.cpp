// NCCL's functions for the simulator's devices: sums of floats in the members' order, met in their streams.

#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#define NCCL_API extern "C" __attribute__((visibility("default")))

// Of libcuda.so.1.
extern "C" int ggrs_sim_meet(void* stream, const std::function<bool()>* meet);

namespace {

enum Result { Success = 0, UnhandledCudaError = 1, InvalidArgument = 4, InvalidUsage = 5 };
constexpr int FLOAT32 = 7, SUM = 0;

struct Group {
    std::mutex mutex;
    bool is_aborted = false;
    struct Member {
        // It has come to a sum with these; the sum is made.
        bool has_come = false, has_sum = false;
        const float* from = nullptr;
        float* to = nullptr;
        size_t n = 0;
    };
    std::vector<Member> members;
};

struct Communicator {
    std::shared_ptr<Group> group;
    size_t rank = 0;
};

void add_up(Group& group) {
    size_t n = group.members[0].n;
    std::vector<float> sums(n);
    for (const Group::Member& member : group.members) {
        // Who sums less than the others would hang or write nonsense on a device.
        if (member.n != n) std::abort();
        bool is_first = &member == &group.members[0];
        for (size_t i = 0; i < n; i++) sums[i] = is_first ? member.from[i] : sums[i] + member.from[i];
    }
    for (Group::Member& member : group.members) {
        std::memcpy(member.to, sums.data(), n * sizeof(float));
        member.has_sum = true;
    }
}

// A member's part of a sum: comes to it, then asks for the result.
bool meet(Group& group, size_t rank, const float* from, float* to, size_t n) {
    std::lock_guard lock(group.mutex);
    if (group.is_aborted) return true;
    Group::Member& own = group.members[rank];
    if (!own.has_come) {
        own = {true, false, from, to, n};
        bool have_all_come = true;
        for (const Group::Member& member : group.members) have_all_come &= member.has_come && !member.has_sum;
        if (have_all_come) add_up(group);
    }
    if (!own.has_sum) return false;
    own = {};
    return true;
}

}  // namespace

NCCL_API int ncclGetVersion(int* version) {
    *version = 22809;
    return Success;
}

NCCL_API int ncclCommInitAll(void** made, int n, const int* devices) {
    if (made == nullptr || devices == nullptr || n < 1) return InvalidArgument;
    // GGRS is to see to it that no device does multicast.
    const char* multicast = std::getenv("NCCL_NVLS_ENABLE");
    if (multicast == nullptr || std::strcmp(multicast, "0") != 0) return InvalidUsage;
    auto group = std::make_shared<Group>();
    group->members.resize((size_t)n);
    for (int i = 0; i < n; i++) made[i] = new Communicator{group, (size_t)i};
    return Success;
}

NCCL_API int ncclCommDestroy(void* communicator) {
    delete (Communicator*)communicator;
    return Success;
}

NCCL_API int ncclCommAbort(void* communicator) {
    {
        Group& group = *((Communicator*)communicator)->group;
        std::lock_guard lock(group.mutex);
        group.is_aborted = true;
    }
    return ncclCommDestroy(communicator);
}

NCCL_API int ncclCommGetAsyncError(void*, int* code) {
    *code = Success;
    return Success;
}

NCCL_API int ncclAllReduce(const void* from, void* to, size_t n, int dtype, int op, void* communicator, void* stream) {
    if (dtype != FLOAT32 || op != SUM) return InvalidArgument;
    Communicator own = *(Communicator*)communicator;
    std::function<bool()> step = [own, from, to, n] {
        return meet(*own.group, own.rank, (const float*)from, (float*)to, n);
    };
    return ggrs_sim_meet(stream, &step) == 0 ? Success : UnhandledCudaError;
}
