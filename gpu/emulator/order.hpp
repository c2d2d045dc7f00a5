// When memory was accessed, and which accesses of other blocks a thread knows to have come before.
//
// Between blocks a write and a read are ordered as CUDA's memory model says: the writer's block meets, one of its threads fences and
// then changes a word by an atomic operation; a thread of the reader's block sees that word, by an atomic operation or a volatile
// load, fences, and its block meets. Where one of these is missing, nothing is ordered, whatever the schedule was.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace emulator {

constexpr unsigned MANY = ~0u;

// When and by whom a word was accessed; MANY where several were, and then the latest of each count.
struct Access {
    uint32_t launch = 0, block = 0, thread = 0, warp = 0;
    uint32_t barriers = 0, warp_syncs = 0, fences = 0;  // that the thread had passed
    bool atomic = false;

    // By a barrier of the block or the warp that lies between two accesses of one block.
    bool parted(const Access& next) const { return barriers < next.barriers || (warp == next.warp && warp_syncs < next.warp_syncs); }

    // Whether a fence, written as the access of its thread right after it, comes after this access.
    bool fenced_by(const Access& fence) const {
        return block == fence.block && (parted(fence) || (thread == fence.thread && fences < fence.fences));
    }
};

// Fences, at most one that says as much as another.
class Fences {
public:
    bool empty() const { return all.empty(); }
    void clear() { all.clear(); }
    auto begin() const { return all.begin(); }
    auto end() const { return all.end(); }

    // Whether one of them comes after an access.
    bool cover(const Access& access) const {
        return std::any_of(begin(), end(), [&](const Access& fence) { return access.fenced_by(fence); });
    }
    bool include(const Access& fence) const {
        return std::any_of(begin(), end(), [&](const Access& other) { return no_later(fence, other); });
    }
    void add(const Access& fence) {
        if (include(fence)) return;
        all.erase(std::remove_if(all.begin(), all.end(), [&](const Access& other) { return no_later(other, fence); }), all.end());
        all.push_back(fence);
    }
    void add(const Fences& others) {
        for (const Access& fence : others) add(fence);
    }

private:
    std::vector<Access> all;

    static bool no_later(const Access& fence, const Access& other) {
        return fence.block == other.block && (fence.parted(other) || (fence.thread == other.thread && fence.fences <= other.fences));
    }
};

}  // namespace emulator
