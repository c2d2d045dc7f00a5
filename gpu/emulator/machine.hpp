// A CUDA device in one thread of the host: blocks of fibers, warps, barriers, shuffled schedules.
//
// Every fault ends the launch with a report; nothing hangs. Memory that checks itself is in memory.hpp.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "fiber.hpp"
#include "order.hpp"

namespace emulator {

constexpr unsigned WARP = 32;
constexpr unsigned FULL = 0xffffffffu;

struct Site {
    const char* file;
    int line;
};

struct Memory;

enum class State { Runnable, AtBarrier, AtWarp, Finished };

struct Thread {
    Context context;
    State state = State::Runnable;
    unsigned index = 0;
    struct Block* block = nullptr;
    Site site{};             // of the barrier or warp operation it waits at
    unsigned mask = 0;       // of that operation
    uint64_t deposit = 0;    // what it brings to it
    uint64_t snapshot[WARP]; // what all lanes brought, once they are there
    unsigned barriers = 0, warp_syncs = 0, fences = 0;
    unsigned pauses = 0;
    // Fences of other blocks: those behind what it saw; those it knows of, by a fence of its own after that; those, and its own,
    // that its next atomic operation hands on.
    Fences seen, known, handed;
};

// Lanes of a warp that wait for each other.
struct Meeting {
    Site site{};
    unsigned mask = 0, arrived = 0;
};

struct Block {
    unsigned index = 0;
    std::vector<Thread> threads;
    std::vector<std::vector<Meeting>> meetings;  // of each warp
    Site barrier{};                              // where its threads wait, if any do
    std::map<std::string, std::unique_ptr<Memory>> shared;
    size_t dynamic_bytes = 0;
    unsigned at_barrier = 0, finished = 0;
    Fences known;  // by all its threads

    Block();
    ~Block();
};

struct Launch {
    const char* kernel;
    unsigned grid, block;
    size_t dynamic_bytes;
    bool cooperative;   // all blocks are alive at once
    uint64_t seed;      // of the schedule
    uint64_t most_pauses = 1u << 20;
};

// Runs a kernel; an empty string, or what went wrong.
std::string run(const Launch& launch, const std::function<void()>& kernel);

// Ends the launch with a report. Called from within a kernel.
[[noreturn]] void fault(const char* format, ...) __attribute__((format(printf, 1, 2)));

Thread& self();
unsigned grid_size();
unsigned block_size();
uint32_t launch_number();
bool cooperative();
const char* kernel_name();

void block_barrier(Site site);
// Waits until every lane of the mask is at this site; then snapshot[] holds what each brought. Memory is not ordered by it.
const uint64_t* warp_meet(Site site, unsigned mask, uint64_t value);
// Waits likewise, and orders the lanes' accesses of memory.
void warp_barrier(Site site, unsigned mask);
// A turn of a spin loop: lets others run.
void pause(Site site);
// __threadfence.
void fence();
// What other blocks hand on is seen.
void see(const Fences& handed);
// Whether an access of another block came before what this thread does now.
bool known(const Access& access);
// Why not; valid until the launch ends.
const char* why_unknown(const Access& access);

// The block's array of this name; the first thread makes it.
Memory& shared_array(const char* name, size_t bytes);
Memory& dynamic_shared_array(const char* name);

}  // namespace emulator
