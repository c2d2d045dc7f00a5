// Memory that checks each access: bounds, alignment, reads of what nobody wrote, and accesses that nothing orders.
//
// Two accesses of one word, one of them a write, must be ordered: by being of one thread, by a barrier of the block, by __syncwarp
// within the warp (shuffles and ballots order nothing), by what order.hpp says between blocks, or by the end of a launch. Atomic
// operations need no order among themselves. So a missing barrier or fence is found under every schedule.
#pragma once

#include <cstring>
#include <memory>
#include <type_traits>
#include <unordered_map>

#include "machine.hpp"

namespace emulator {

inline Access access_now(bool atomic) {
    const Thread& me = self();
    return {launch_number(), me.block->index, me.index, me.index / WARP, me.barriers, me.warp_syncs, me.fences, atomic};
}

// Accesses of a word of one kind: the latest and, in a launch whose blocks wait for each other, those of other blocks that nothing
// ordered before it.
class Accesses {
public:
    const Access& latest() const { return last; }

    // One that is not before an access now; null where all are.
    const Access* unordered(const Access& now) const {
        if (!before(last, now)) return &last;
        if (others)
            for (const Access& other : *others)
                if (!before(other, now)) return &other;
        return nullptr;
    }

    void add(const Access& now) {
        if (!cooperative() || last.block == now.block || ordered(last, now)) return join(last, now);
        if (!others) others = std::make_unique<std::vector<Access>>();
        for (Access& other : *others)
            if (other.block == now.block) return join(other, now);
        others->push_back(now);
    }

    void set(const Access& now) { last = now, others.reset(); }

private:
    Access last;
    std::unique_ptr<std::vector<Access>> others;

    static bool before(const Access& then, const Access& now) { return (then.atomic && now.atomic) || ordered(then, now); }

    static bool ordered(const Access& then, const Access& now) {
        if (then.launch != now.launch) return true;
        if (then.block != now.block) return known(then);
        return then.thread == now.thread || then.parted(now);
    }

    static void join(Access& then, const Access& now) {
        if (ordered(then, now)) { then = now; return; }
        if (then.block != now.block) then.block = MANY;
        if (then.warp != now.warp) then.warp = MANY;
        if (then.thread != now.thread) then.thread = MANY;
        then.barriers = std::max(then.barriers, now.barriers);
        then.warp_syncs = std::max(then.warp_syncs, now.warp_syncs);
        then.fences = std::max(then.fences, now.fences);
        then.atomic &= now.atomic;
    }
};

struct Word {
    Accesses written, read;
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
        const Access now = access_now(atomic);
        for (size_t i = word; i < word + count; i++) {
            Word& at = shadow[i];
            if (!at.initialised)
                fault("read of %s[%zu], which nobody wrote (thread %u of block %u)", name.c_str(), i, now.thread, now.block);
            if (const Access* then = at.written.unordered(now)) race(i, "read", now, "write", *then);
            at.read.add(now);
        }
    }

    void on_write(size_t word, size_t count, bool atomic) {
        check(word, count, "write");
        const Access now = access_now(atomic);
        for (size_t i = word; i < word + count; i++) {
            Word& at = shadow[i];
            if (const Access* then = at.written.unordered(now)) race(i, "write", now, "write", *then);
            if (const Access* then = at.read.unordered(now)) race(i, "write", now, "read", *then);
            if (atomic && at.written.latest().atomic) at.written.add(now);
            else at.written.set(now);
            if (!atomic && !signals.empty()) signals.erase(i);
            at.initialised = true;
        }
    }

    // A load that sees what others write.
    void on_watch(size_t word, size_t count) {
        on_read(word, count, true);
        if (const Fences* handed = signal(word)) see(*handed);
    }

    // An atomic operation.
    void on_change(size_t word, size_t count) {
        on_read(word, count, true);
        on_write(word, count, true);
        if (!cooperative()) return;
        if (const Fences* handed = signal(word)) see(*handed);
        if (!self().handed.empty()) signals[word].add(self().handed);
    }

    [[noreturn]] void race(size_t word, const char* what, const Access& now, const char* earlier, const Access& then) {
        const char* why = then.block == now.block ? "" : why_unknown(then);
        fault("unordered %s of %s[%zu] by thread %u of block %u after a %s by thread %d of block %d%s", what, name.c_str(),
              word, now.thread, now.block, earlier, int(then.thread), int(then.block), why);
    }

private:
    uint32_t signals_of = 0;  // the launch of
    std::unordered_map<size_t, Fences> signals;  // which fences a word hands on

    const Fences* signal(size_t word) {
        if (signals_of != launch_number()) signals.clear(), signals_of = launch_number();
        const auto found = signals.find(word);
        return found == signals.end() ? nullptr : &found->second;
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
        return bits();
    }
    // What others have written by now.
    T watch() const {
        memory->on_watch(size_t(word), COUNT);
        return bits();
    }
    void store(T value) const {
        memory->on_write(size_t(word), COUNT, false);
        put(value);
    }
    // What was there; no other thread runs in between.
    template <class Change> T change(Change change) const {
        memory->on_change(size_t(word), COUNT);
        const T old = bits();
        put(change(old));
        return old;
    }
    operator T() const { return load(); }
    T operator=(T value) const { store(value); return value; }
    T operator=(const Element& other) const { return *this = other.load(); }
    T operator+=(T value) const { return *this = load() + value; }
    T operator|=(T value) const { return *this = load() | value; }
    Pointer<T> operator&() const;

private:
    T bits() const {
        T value;
        std::memcpy(&value, &memory->words[size_t(word)], sizeof(T));
        return value;
    }
    void put(T value) const { std::memcpy(&memory->words[size_t(word)], &value, sizeof(T)); }
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
