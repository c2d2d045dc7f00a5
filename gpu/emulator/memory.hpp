// Memory that checks each access: bounds, alignment, reads of what nobody wrote, and accesses that nothing orders.
//
// Two accesses of one word, one of them a write, must be ordered: by being of one thread, by a barrier of the block or the
// grid, by __syncwarp within the warp (shuffles and ballots order nothing), or by the end of a launch. Atomic operations need no order among
// themselves. So a missing barrier is found under every schedule.
#pragma once

#include <cstring>
#include <memory>
#include <type_traits>

#include "machine.hpp"

namespace emulator {

constexpr unsigned MANY = ~0u;

// When and by whom a word was accessed; MANY where several were, and then the latest of each count.
struct Access {
    uint32_t launch = 0, block = 0, thread = 0, warp = 0;
    uint32_t barriers = 0, warp_syncs = 0, grid_barriers = 0;
    bool atomic = false;

    static Access now(bool atomic) {
        Thread& me = self();
        return {launch_number(), me.block->index, me.index, me.index / WARP, me.barriers, me.warp_syncs, me.grid_barriers, atomic};
    }

    bool before(const Access& next) const { return (atomic && next.atomic) || ordered(next); }

    bool ordered(const Access& next) const {
        if (launch != next.launch) return true;
        if (block != next.block) return grid_barriers < next.grid_barriers;
        if (barriers < next.barriers || grid_barriers < next.grid_barriers || thread == next.thread) return true;
        return warp == next.warp && warp_syncs < next.warp_syncs;
    }

    void join(const Access& next) {
        if (ordered(next)) { *this = next; return; }
        if (block != next.block) block = MANY;
        if (warp != next.warp) warp = MANY;
        if (thread != next.thread) thread = MANY;
        barriers = std::max(barriers, next.barriers);
        warp_syncs = std::max(warp_syncs, next.warp_syncs);
        grid_barriers = std::max(grid_barriers, next.grid_barriers);
        atomic &= next.atomic;
    }
};

struct Word {
    Access written, read;
    bool initialised = false;
    uint32_t constant = 0;  // the launch that read it through the cache for constants
};

// Words of 4 bytes, each with its shadow.
struct Memory {
    std::string name;
    size_t size;
    std::unique_ptr<uint32_t[]> words;
    std::unique_ptr<Word[]> shadow;

    Memory(std::string name, size_t bytes)
        : name(std::move(name)), size((bytes + 3) / 4), words(new uint32_t[size]), shadow(new Word[size]) {
        for (size_t i = 0; i < size; i++) words[i] = 0x7fedbeefu; // a NaN, and an absurd index
    }

    void check(size_t word, size_t count, const char* what) const {
        if (word > size || count > size - word)
            fault("%s of %s[%zd] out of bounds, which has %zu words (thread %u of block %u)", what, name.c_str(),
                  ssize_t(word), size, self().index, self().block->index);
    }

    void on_read(size_t word, size_t count, bool atomic) {
        check(word, count, "read");
        Access now = Access::now(atomic);
        for (size_t i = word; i < word + count; i++) {
            Word& at = shadow[i];
            if (!at.initialised)
                fault("read of %s[%zu], which nobody wrote (thread %u of block %u)", name.c_str(), i, now.thread, now.block);
            if (!at.written.before(now)) race(i, "read", now, "write", at.written);
            at.read.join(now);
        }
    }

    void on_write(size_t word, size_t count, bool atomic) {
        check(word, count, "write");
        Access now = Access::now(atomic);
        for (size_t i = word; i < word + count; i++) {
            Word& at = shadow[i];
            if (!at.written.before(now)) race(i, "write", now, "write", at.written);
            if (!at.read.before(now)) race(i, "write", now, "read", at.read);
            if (atomic && at.written.atomic) at.written.join(now);
            else at.written = now;
            at.initialised = true;
        }
    }

    [[noreturn]] void race(size_t word, const char* what, const Access& now, const char* earlier, const Access& then) {
        fault("unordered %s of %s[%zu] by thread %u of block %u after a %s by thread %d of block %d", what, name.c_str(),
              word, now.thread, now.block, earlier, int(then.thread), int(then.block));
    }
};

template <class T> struct Pointer;

// An element: reads and writes go through the checks.
template <class T> struct Element {
    Memory* memory;
    ptrdiff_t word;
    static constexpr size_t COUNT = sizeof(T) / 4;

    Element(Memory* memory, ptrdiff_t word) : memory(memory), word(word) {}
    Element(const Element&) = default;

    T load(bool atomic = false) const {
        memory->on_read(size_t(word), COUNT, atomic);
        T value;
        std::memcpy(&value, &memory->words[size_t(word)], sizeof(T));
        return value;
    }
    void store(T value, bool atomic = false) const {
        memory->on_write(size_t(word), COUNT, atomic);
        std::memcpy(&memory->words[size_t(word)], &value, sizeof(T));
    }
    operator T() const { return load(); }
    T operator=(T value) const { store(value); return value; }
    T operator=(const Element& other) const { return *this = other.load(); }
    T operator+=(T value) const { return *this = load() + value; }
    T operator|=(T value) const { return *this = load() | value; }
    Pointer<T> operator&() const;
};

// A pointer into checked memory. Pointer<const T> cannot write.
template <class T> struct Pointer {
    using Value = std::remove_const_t<T>;
    Memory* memory = nullptr;
    ptrdiff_t word = 0;
    static constexpr ptrdiff_t COUNT = sizeof(T) / 4;

    Pointer() = default;
    Pointer(Memory* memory, ptrdiff_t word = 0) : memory(memory), word(word) {}
    template <class U, class = std::enable_if_t<std::is_same_v<const U, T>>>
    Pointer(const Pointer<U>& other) : memory(other.memory), word(other.word) {}

    Pointer operator+(ptrdiff_t offset) const { return {memory, word + offset * COUNT}; }
    auto operator[](ptrdiff_t index) const {
        Element<Value> element{memory, word + index * COUNT};
        if constexpr (std::is_const_v<T>) return element.load();
        else return element;
    }
    Element<Value> element(ptrdiff_t index = 0) const { return {memory, word + index * COUNT}; }
};

template <class T> Pointer<T> Element<T>::operator&() const { return {memory, word}; }

}  // namespace emulator
