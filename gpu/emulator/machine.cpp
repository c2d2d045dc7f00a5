#define EMULATOR_HERE
#include "machine.hpp"

#include <algorithm>
#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>

#include "memory.hpp"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace emulator {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr size_t STACK = 512 << 10;
// The last frames of a fiber are never left, so their red zones stay.
void clean(char* stack) { __asan_unpoison_memory_region(stack, STACK); }
#else
constexpr size_t STACK = 64 << 10;
void clean(char*) {}
#endif

struct Machine {
    Context scheduler;
    Thread* current = nullptr;
    const Launch* launch = nullptr;
    const std::function<void()>* kernel = nullptr;
    std::string error, why;
    uint64_t random = 0;
    uint32_t number = 0;
    std::vector<Thread*> runnable;
    std::vector<std::unique_ptr<char[]>> stacks;
};

// Set by run: whoever asks for something that has to be constructed asks first whether it is.
thread_local Machine* machine = nullptr;
std::atomic<uint32_t> launches{0};

uint64_t next_random() {
    uint64_t x = machine->random += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

bool same(const Site& one, const Site& other) { return one.line == other.line && one.file == other.file; }

void yield() { switch_to(machine->current->context, machine->scheduler); }

void wake(Thread& thread) {
    thread.state = State::Runnable;
    machine->runnable.push_back(&thread);
}

void report(const char* format, va_list arguments) {
    char text[512];
    vsnprintf(text, sizeof text, format, arguments);
    machine->error = std::string(machine->launch->kernel) + ": " + text;
}

void finish() {
    Thread& me = self();
    Block& block = *me.block;
    me.state = State::Finished;
    block.finished++;
    for (Thread& other : block.threads)
        if (other.state == State::AtBarrier)
            fault("divergent barrier in block %u: thread %u waits at %s:%d, thread %u has ended", block.index,
                  other.index, other.site.file, other.site.line, me.index);
    for (;;) yield();
}

// Nothing catches an exception beyond the first function of a stack.
void enter() {
    char wrong[256] = "";
    try {
        (*machine->kernel)();
    } catch (const std::bad_alloc&) {
        snprintf(wrong, sizeof wrong, "the host has no memory for what the kernel asks for");
    } catch (const std::exception& exception) {
        snprintf(wrong, sizeof wrong, "%s", exception.what());
    }
    if (*wrong) fault("%s", wrong);
    finish();
}

// Nobody can run: says who waits for whom.
void report_deadlock(const std::vector<std::unique_ptr<Block>>& blocks) {
    for (const auto& block : blocks)
        for (const Thread& thread : block->threads) {
            if (thread.state == State::Finished) continue;
            const char* what = thread.state == State::AtBarrier ? "barrier" : "warp operation";
            char text[512];
            snprintf(text, sizeof text, "%s never completed in block %u: thread %u waits at %s:%d (mask %08x)", what,
                     block->index, thread.index, thread.site.file, thread.site.line, thread.mask);
            machine->error = std::string(machine->launch->kernel) + ": " + text;
            return;
        }
}

void run_blocks(const std::vector<unsigned>& indices) {
    std::vector<std::unique_ptr<Block>> blocks;
    machine->runnable.clear();
    size_t stack = 0;
    for (unsigned index : indices) {
        auto block = std::make_unique<Block>();
        block->index = index;
        block->dynamic_bytes = machine->launch->dynamic_bytes;
        block->threads.resize(machine->launch->block);
        block->meetings.resize((machine->launch->block + WARP - 1) / WARP);
        for (unsigned i = 0; i < machine->launch->block; i++, stack++) {
            if (stack == machine->stacks.size()) machine->stacks.emplace_back(new char[STACK]);
            clean(machine->stacks[stack].get());
            Thread& thread = block->threads[i];
            thread.index = i;
            thread.block = block.get();
            prepare(thread.context, machine->stacks[stack].get(), STACK, enter);
            machine->runnable.push_back(&thread);
        }
        blocks.push_back(std::move(block));
    }
    while (!machine->runnable.empty() && machine->error.empty()) {
        size_t pick = next_random() % machine->runnable.size();
        Thread* thread = machine->runnable[pick];
        machine->runnable[pick] = machine->runnable.back();
        machine->runnable.pop_back();
        machine->current = thread;
        switch_to(machine->scheduler, thread->context);
    }
    if (!machine->error.empty()) return;
    for (const auto& block : blocks)
        if (block->finished != block->threads.size()) return report_deadlock(blocks);
}

}  // namespace

Block::Block() = default;
Block::~Block() = default;

std::string run(const Launch& launch, const std::function<void()>& kernel) {
    static thread_local Machine own;
    machine = &own;
    machine->launch = &launch;
    machine->kernel = &kernel;
    machine->error.clear();
    machine->random = launch.seed;
    machine->number = ++launches;
    std::vector<unsigned> order(launch.grid);
    for (unsigned i = 0; i < launch.grid; i++) order[i] = i;
    for (unsigned i = launch.grid; i > 1; i--) std::swap(order[i - 1], order[next_random() % i]);
    if (launch.cooperative) {
        run_blocks(order);
    } else {
        for (unsigned index : order) {
            run_blocks({index});
            if (!machine->error.empty()) break;
        }
    }
    return machine->error;
}

void fault(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    report(format, arguments);
    va_end(arguments);
    for (;;) yield();
}

Thread& self() { return *machine->current; }
unsigned grid_size() { return machine->launch->grid; }
unsigned block_size() { return machine->launch->block; }
uint32_t launch_number() { return machine->number; }
bool cooperative() { return machine->launch->cooperative; }
const char* kernel_name() { return machine->launch->kernel; }

void block_barrier(Site site) {
    Thread& me = self();
    Block& block = *me.block;
    if (block.finished || (block.at_barrier && !same(block.barrier, site)))
        for (Thread& other : block.threads) {
            if (other.state == State::Finished)
                fault("divergent barrier in block %u: thread %u is at %s:%d, thread %u has ended", block.index, me.index,
                      site.file, site.line, other.index);
            if (other.state == State::AtBarrier)
                fault("divergent barrier in block %u: thread %u is at %s:%d, thread %u at %s:%d", block.index, me.index,
                      site.file, site.line, other.index, other.site.file, other.site.line);
        }
    me.site = block.barrier = site;
    me.state = State::AtBarrier;
    if (++block.at_barrier == block.threads.size()) {
        block.at_barrier = 0;
        for (Thread& other : block.threads) {
            block.known.add(other.known);
            other.known.clear();
            other.barriers++;
            wake(other);
        }
    }
    yield();
}

namespace {

// Ends the launch if a lane that the thread waits for has ended, or waits elsewhere.
void check_lanes(const Thread& me) {
    const Block& block = *me.block;
    const unsigned first = me.index / WARP * WARP;
    for (unsigned lane = 0; lane < WARP && first + lane < block.threads.size(); lane++) {
        const Thread& other = block.threads[first + lane];
        if (!(me.mask >> lane & 1)) continue;
        if (other.state == State::Finished)
            fault("thread %u of block %u waits at %s:%d for thread %u, which has ended", me.index, block.index,
                  me.site.file, me.site.line, other.index);
        if (other.state == State::AtWarp && (!same(other.site, me.site) || other.mask != me.mask))
            fault("divergent warp operation in block %u: thread %u at %s:%d (mask %08x), thread %u at %s:%d (mask %08x)",
                  block.index, me.index, me.site.file, me.site.line, me.mask, other.index, other.site.file,
                  other.site.line, other.mask);
    }
}

// Waits for all lanes of the mask. Those that are ordered by it know then what one of them knew.
void meet(Site site, unsigned mask, uint64_t value, bool ordered) {
    Thread& me = self();
    Block& block = *me.block;
    const unsigned first = me.index / WARP * WARP, lanes = std::min(WARP, unsigned(block.threads.size()) - first);
    const unsigned mine = 1u << (me.index - first), all = FULL >> (WARP - lanes) & mask;
    if (!(mask & mine))
        fault("thread %u of block %u is not in the mask %08x of %s:%d", me.index, block.index, mask, site.file, site.line);
    me.site = site;
    me.mask = mask;
    me.deposit = value;
    me.state = State::AtWarp;
    std::vector<Meeting>& meetings = block.meetings[me.index / WARP];
    Meeting* ours = nullptr;
    bool divergent = block.finished != 0;
    for (Meeting& meeting : meetings) {
        if (meeting.mask == mask && same(meeting.site, site)) ours = &meeting;
        else divergent |= (meeting.arrived & mask) != 0;
    }
    if (divergent) check_lanes(me);
    if (!ours) ours = &meetings.emplace_back(Meeting{site, mask, 0});
    ours->arrived |= mine;
    if (ours->arrived == all) {
        *ours = meetings.back();
        meetings.pop_back();
        uint64_t brought[WARP] = {};
        Fences known;
        for (unsigned lane = 0; lane < lanes; lane++) {
            brought[lane] = block.threads[first + lane].deposit;
            if (ordered) known.add(block.threads[first + lane].known);
        }
        for (unsigned lane = 0; lane < lanes; lane++) {
            Thread& other = block.threads[first + lane];
            if (!(mask >> lane & 1)) continue;
            std::copy(brought, brought + WARP, other.snapshot);
            if (ordered) other.known = known, other.warp_syncs++;
            wake(other);
        }
    }
    yield();
}

}  // namespace

const uint64_t* warp_meet(Site site, unsigned mask, uint64_t value) {
    meet(site, mask, value, false);
    return self().snapshot;
}

// A part of the warp is not ordered by it: an access knows only how often the whole warp met.
void warp_barrier(Site site, unsigned mask) { meet(site, mask, 0, mask == FULL); }

void pause(Site site) {
    Thread& me = self();
    if (++me.pauses > machine->launch->most_pauses)
        fault("thread %u of block %u waits forever at %s:%d", me.index, me.block->index, site.file, site.line);
    wake(me);
    yield();
}

void fence() {
    if (!cooperative()) return;
    Thread& me = self();
    for (const Access& theirs : me.seen)
        if (!me.block->known.include(theirs) && !me.known.include(theirs)) me.known.add(theirs), me.pauses = 0;
    me.seen.clear();
    me.fences++;
    me.handed = me.block->known;
    me.handed.add(me.known);
    me.handed.add(access_now(true));
}

void see(const Fences& handed) {
    for (const Access& fence : handed)
        if (fence.block != self().block->index) self().seen.add(fence);
}

bool known(const Access& access) { return self().known.cover(access) || self().block->known.cover(access); }

const char* why_unknown(const Access& access) {
    std::string& why = machine->why;
    if (!cooperative()) return "; nothing orders blocks of such a launch";
    const Block& block = *self().block;
    const std::string here = "; block " + std::to_string(block.index) + " has seen ", there = "block " + std::to_string(access.block);
    why = here + "no signal of " + there + " that came after it and a fence";
    for (const Thread& thread : block.threads)
        if (thread.seen.cover(access) || thread.known.cover(access))
            why = here + "what " + there + " signalled after it and a fence, but passed no fence and barrier after that";
    return why.c_str();
}

Memory& shared_array(const char* name, size_t bytes) {
    auto& array = self().block->shared[name];
    if (!array) array = std::make_unique<Memory>(name, bytes);
    return *array;
}

Memory& dynamic_shared_array(const char* name) { return shared_array(name, self().block->dynamic_bytes); }

}  // namespace emulator
