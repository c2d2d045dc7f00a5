// Instructions of PTX that touch memory or bring threads together, and the threads that run them.
#include <algorithm>

#include "memory.hpp"
#include "ptx_lane.hpp"
#include "warp.hpp"

namespace ptx {

using emulator::Memory;
using emulator::WARP;

namespace {

using std::string;

// ---- Memory ----

Memory& device_memory(Lane& l, uint64_t address, size_t bytes, size_t& word) {
    size_t offset = 0;
    Memory* memory = l.run.find(address, bytes, offset);
    if (!memory) emulator::fault("no memory of %zu bytes at 0x%llx", bytes, (unsigned long long)address);
    if (address % bytes) emulator::fault("misaligned: %zu bytes at word %zu of %s", bytes, offset / 4, memory->name.c_str());
    word = offset / 4;
    return *memory;
}

Memory& shared_memory(Lane& l, uint64_t address, size_t bytes, size_t& word) {
    const size_t array = uint32_t(address) / SHARED_STRIDE;
    const auto& arrays = *l.run.kernel.shared;
    if (array == 0 || array > arrays.size()) emulator::fault("no shared memory at 0x%x", uint32_t(address));
    const size_t offset = uint32_t(address) - shared_address(arrays, array - 1);
    if (address % bytes) emulator::fault("misaligned: %zu bytes at byte %zu of %s", bytes, offset, arrays[array - 1].name.c_str());
    word = offset / 4;
    const char* name = arrays[array - 1].name.c_str();
    return arrays[array - 1].bytes ? emulator::shared_array(name, arrays[array - 1].bytes) : emulator::dynamic_shared_array(name);
}

// What a block has, and what a thread may take: a kernel that takes more does not end.
constexpr size_t MOST_SHARED = 48 << 10;
constexpr uint64_t MOST_TURNS = uint64_t(1) << 32;

// A register is wider than what is loaded: signed numbers keep their sign.
template <class T> void put(Lane& l, int at, T value) {
    if constexpr (std::is_same_v<T, int32_t>) l.set<int64_t>(at, value);
    else l.set<T>(at, value);
}

enum class Space { GLOBAL, SHARED };
enum class Kind { PLAIN, CONSTANT, RECENT, VOLATILE };

template <Space SPACE> Memory& memory_at(Lane& l, uint64_t address, size_t bytes, size_t& word) {
    if constexpr (SPACE == Space::GLOBAL) return device_memory(l, address, bytes, word);
    else return shared_memory(l, address, bytes, word);
}

template <Space SPACE> uint64_t address_of(Lane& l, const Instruction& i, int operand) {
    const int at = i.at[size_t(operand)];
    return (SPACE == Space::GLOBAL ? l.get<uint64_t>(at) : l.get<uint32_t>(at)) + uint64_t(i.offset);
}

template <class T, int COUNT, Space SPACE, Kind KIND> void load(Lane& l, const Instruction& i) {
    size_t word;
    constexpr size_t bytes = sizeof(T) * COUNT;
    Memory& memory = memory_at<SPACE>(l, address_of<SPACE>(l, i, COUNT), bytes, word);
    l.must_be_known(i, "reads at");
    if (KIND == Kind::VOLATILE) memory.on_watch(word, bytes / 4);
    else memory.on_read(word, bytes / 4, KIND == Kind::RECENT);
    for (size_t at = word; KIND == Kind::CONSTANT && at < word + bytes / 4; at++) {
        if (memory.shadow[at].written.latest().launch == emulator::launch_number())
            emulator::fault("line %d reads %s[%zu] through the cache for constants, and the launch has written it", i.line,
                            memory.name.c_str(), at);
        memory.shadow[at].constant = emulator::launch_number();
    }
    for (int part = 0; part < COUNT; part++) {
        T value;
        std::memcpy(&value, &memory.words[word + size_t(part) * sizeof(T) / 4], sizeof(T));
        put(l, i.at[size_t(part)], value);
    }
}

// What the launch has read through the cache for constants stay as they are.
void not_constant(const Instruction& i, const Memory& memory, size_t word, size_t count) {
    for (size_t at = word; at < word + count; at++)
        if (memory.shadow[at].constant == emulator::launch_number())
            emulator::fault("line %d writes %s[%zu], which the launch has read through the cache for constants", i.line,
                            memory.name.c_str(), at);
}

template <class T, int COUNT, Space SPACE> void store(Lane& l, const Instruction& i) {
    size_t word;
    constexpr size_t bytes = sizeof(T) * COUNT;
    Memory& memory = memory_at<SPACE>(l, address_of<SPACE>(l, i, 0), bytes, word);
    memory.on_write(word, bytes / 4, false);
    not_constant(i, memory, word, bytes / 4);
    for (int part = 0; part < COUNT; part++) {
        const T value = l.get<T>(i.at[size_t(1 + part)]);
        l.must_be_known(i, "stores");
        std::memcpy(&memory.words[word + size_t(part) * sizeof(T) / 4], &value, sizeof(T));
    }
}

unsigned char* local_at(Lane& l, uint64_t address, size_t bytes) {
    bool here = address <= l.local.size() && bytes <= l.local.size() - address && address % bytes == 0;
    for (size_t at = 0; here && at < bytes; at++) here = l.local_known[address + at] != NOWHERE;
    if (!here) emulator::fault("no local memory of %zu bytes at %llu", bytes, (unsigned long long)address);
    return &l.local[address];
}

template <class T, int COUNT> void load_local(Lane& l, const Instruction& i) {
    const unsigned char* from = local_at(l, address_of<Space::GLOBAL>(l, i, COUNT), sizeof(T) * COUNT);
    l.must_be_known(i, "reads at");
    const size_t first = size_t(from - l.local.data());
    for (size_t part = 0; part < COUNT; part++) {
        T value;
        std::memcpy(&value, from + part * sizeof(T), sizeof(T));
        const auto known = l.local_known.begin() + ptrdiff_t(first + part * sizeof(T));
        l.unknown = !std::all_of(known, known + sizeof(T), [](char is) { return is; });
        put(l, i.at[part], value);
    }
}

template <class T, int COUNT> void store_local(Lane& l, const Instruction& i) {
    unsigned char* to = local_at(l, address_of<Space::GLOBAL>(l, i, 0), sizeof(T) * COUNT);
    l.must_be_known(i, "stores at");
    for (size_t part = 0; part < COUNT; part++) {
        l.unknown = false;
        const T value = l.get<T>(i.at[1 + part]);
        std::fill_n(l.local_known.begin() + (to - l.local.data()) + ptrdiff_t(part * sizeof(T)), sizeof(T), char(!l.unknown));
        std::memcpy(to + part * sizeof(T), &value, sizeof(T));
    }
}

template <class T, int COUNT> void memory_of(Table& t, const string& type) {
    t["ld.global." + type] = load<T, COUNT, Space::GLOBAL, Kind::PLAIN>;
    t["ld.global.nc." + type] = load<T, COUNT, Space::GLOBAL, Kind::CONSTANT>;
    t["ld.global.ca." + type] = load<T, COUNT, Space::GLOBAL, Kind::RECENT>;
    t["ld.volatile.global." + type] = load<T, COUNT, Space::GLOBAL, Kind::VOLATILE>;
    t["ld.shared." + type] = load<T, COUNT, Space::SHARED, Kind::PLAIN>;
    t["st.global." + type] = store<T, COUNT, Space::GLOBAL>;
    t["st.shared." + type] = store<T, COUNT, Space::SHARED>;
    t["ld.local." + type] = load_local<T, COUNT>;
    t["st.local." + type] = store_local<T, COUNT>;
}

template <class T> void memories(Table& t, const string& type) {
    memory_of<T, 1>(t, type);
    memory_of<T, 2>(t, "v2." + type);
    if constexpr (sizeof(T) == 4) memory_of<T, 4>(t, "v4." + type);
    t["ld.param." + type] = [](Lane& l, const Instruction& i) {
        T value;
        std::memcpy(&value, &l.run.arguments[size_t(i.offset)], sizeof(T));
        put(l, i.at[0], value);
    };
}

// An integer read, changed and written; no other thread runs in between.
template <class T, Space SPACE, class Change> void change(Lane& l, const Instruction& i) {
    size_t word;
    Memory& memory = memory_at<SPACE>(l, address_of<SPACE>(l, i, 1), sizeof(T), word);
    memory.on_change(word, 1);
    T old;
    std::memcpy(&old, &memory.words[word], sizeof(T));
    const T by = l.get<T>(i.at[2]), changed = Change()(old, by);
    l.must_be_known(i, "changes a number by");
    not_constant(i, memory, word, 1);
    std::memcpy(&memory.words[word], &changed, sizeof(T));
    l.set<T>(i.at[0], old);
}

struct Add { template <class T> T operator()(T a, T b) const { return T(a + b); } };
struct Or { template <class T> T operator()(T a, T b) const { return T(a | b); } };
struct Min { template <class T> T operator()(T a, T b) const { return std::min(a, b); } };
struct Max { template <class T> T operator()(T a, T b) const { return std::max(a, b); } };
struct Exchange { template <class T> T operator()(T, T b) const { return b; } };

template <Space SPACE> void atomics(Table& t, const string& space) {
    t["atom." + space + ".add.u32"] = t["atom." + space + ".add.s32"] = change<uint32_t, SPACE, Add>;
    t["atom." + space + ".or.b32"] = change<uint32_t, SPACE, Or>;
    t["atom." + space + ".min.s32"] = change<int32_t, SPACE, Min>;
    t["atom." + space + ".min.u32"] = change<uint32_t, SPACE, Min>;
    t["atom." + space + ".max.s32"] = change<int32_t, SPACE, Max>;
    t["atom." + space + ".max.u32"] = change<uint32_t, SPACE, Max>;
    t["atom." + space + ".exch.b32"] = change<uint32_t, SPACE, Exchange>;
}

// ---- Threads together ----

// shfl.sync: what one lane brings, another takes. From says from which, and whether it is inside of the segment; else a lane takes
// its own.
template <class From> void shuffle(Lane& l, const Instruction& i) {
    const uint32_t by = l.get<uint32_t>(i.at[3]), clamp = l.get<uint32_t>(i.at[4]), mask = l.get<uint32_t>(i.at[5]);
    const int lane = int(emulator::self().index % WARP), segment = int(clamp >> 8 & 31);
    const int first = lane & segment, last = first | (int(clamp & 31) & ~segment);
    const auto [wanted, inside] = From()(lane, int(by & 31), first, last, segment);
    const int from = inside ? wanted : lane;
    l.set<uint32_t>(i.at[0], uint32_t(emulator::shuffle(l.site(i), mask, l.get<uint32_t>(i.at[2]), unsigned(from))));
    l.set<bool>(i.at[1], inside);
}
struct Wanted { int lane; bool inside; };
struct Up { Wanted operator()(int lane, int by, int, int last, int) const { return {lane - by, lane - by >= last}; } };
struct Down { Wanted operator()(int lane, int by, int, int last, int) const { return {lane + by, lane + by <= last}; } };
struct Butterfly { Wanted operator()(int lane, int by, int, int last, int) const { return {lane ^ by, (lane ^ by) <= last}; } };
struct Indexed {
    Wanted operator()(int, int by, int first, int last, int segment) const {
        const int from = first | (by & ~segment);
        return {from, from <= last};
    }
};

template <class Pick> void reduce(Lane& l, const Instruction& i) {
    const uint32_t value = l.get<uint32_t>(i.at[1]), mask = l.get<uint32_t>(i.at[2]);
    l.set<uint32_t>(i.at[0], emulator::reduce(l.site(i), mask, value, Pick()));
}

void multiply_add(Lane& l, const Instruction& i) {
    uint32_t factors[6];
    float sums[4];
    for (size_t at = 0; at < 6; at++) factors[at] = l.get<uint32_t>(i.at[4 + at]);
    for (size_t d = 0; d < 4; d++) sums[d] = l.get<float>(i.at[10 + d]);
    emulator::multiply_add(l.site(i), sums, factors, factors + 4);
    for (size_t d = 0; d < 4; d++) l.set<float>(i.at[d], sums[d]);
}

void nothing(Lane&, const Instruction&) {}

void cooperation(Table& t) {
    t["shfl.sync.idx.b32"] = shuffle<Indexed>;
    t["shfl.sync.bfly.b32"] = shuffle<Butterfly>;
    t["shfl.sync.up.b32"] = shuffle<Up>;
    t["shfl.sync.down.b32"] = shuffle<Down>;
    t["redux.sync.min.u32"] = reduce<Min>;
    t["redux.sync.max.u32"] = reduce<Max>;
    t["vote.sync.ballot.b32"] = [](Lane& l, const Instruction& i) {
        l.set<uint32_t>(i.at[0], emulator::ballot(l.site(i), l.get<uint32_t>(i.at[2]), l.get<bool>(i.at[1])));
    };
    t["bar.warp.sync"] = [](Lane& l, const Instruction& i) { emulator::warp_barrier(l.site(i), l.get<uint32_t>(i.at[0])); };
    t["bar.sync"] = [](Lane& l, const Instruction& i) { emulator::block_barrier(l.site(i)); };
    t["membar.gl"] = [](Lane&, const Instruction&) { emulator::fence(); };
    t["nanosleep.u32"] = [](Lane& l, const Instruction& i) { emulator::pause(l.site(i)); };
    t["mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32"] = multiply_add;
    t["prefetch.global.L2"] = nothing;
    t["ret"] = t["exit"] = [](Lane& l, const Instruction&) { l.ended = true; };
    t["bra"] = t["bra.uni"] = [](Lane& l, const Instruction& i) { l.next = i.target; };
    t["pack"] = [](Lane& l, const Instruction& i) {
        l.set<uint64_t>(i.at[0], l.get<uint32_t>(i.at[1]) | uint64_t(l.get<uint32_t>(i.at[2])) << 32);
    };
    t["unpack"] = [](Lane& l, const Instruction& i) {
        const uint64_t whole = l.get<uint64_t>(i.at[2]);
        l.set<uint32_t>(i.at[0], uint32_t(whole)), l.set<uint32_t>(i.at[1], uint32_t(whole >> 32));
    };
}

Table make_table() {
    Table t;
    add_numbers(t);
    for (const char* kind : {"b", "u"})
        memories<uint32_t>(t, kind + string("32")), memories<uint64_t>(t, kind + string("64"));
    memories<int32_t>(t, "s32"), memories<int64_t>(t, "s64");
    memories<float>(t, "f32"), memories<double>(t, "f64");
    // Addresses say themselves where they lie.
    t["cvta.to.global.u64"] = t["cvta.local.u64"] = t.at("mov.u64");
    atomics<Space::GLOBAL>(t, "global"), atomics<Space::SHARED>(t, "shared");
    cooperation(t);
    return t;
}

}  // namespace

Action action_of(const string& name) {
    static const Table table = make_table();
    const auto action = table.find(name);
    return action == table.end() ? nullptr : action->second;
}

string run(const Kernel& kernel, const emulator::Launch& launch, const std::vector<uint64_t>& arguments, const Find& find) {
    if (launch.block > kernel.most_threads)
        return kernel.name + ": blocks of " + std::to_string(launch.block) + " threads, at most " +
               std::to_string(kernel.most_threads);
    if (kernel.shared_bytes + launch.dynamic_bytes > MOST_SHARED)
        return kernel.name + ": " + std::to_string(kernel.shared_bytes) + " and " + std::to_string(launch.dynamic_bytes) +
               " bytes of shared memory, at most " + std::to_string(MOST_SHARED);
    const Run state{kernel, arguments, find};
    const size_t at_once = launch.cooperative ? launch.grid : 1;
    std::vector<std::vector<uint64_t>> registers(at_once * launch.block);
    std::vector<std::vector<unsigned char>> local(at_once * launch.block);
    std::vector<std::vector<char>> known(at_once * launch.block), local_known(at_once * launch.block);
    return emulator::run(launch, [&] {
        const emulator::Thread& me = emulator::self();
        const unsigned block = me.block->index, thread = me.index;
        const size_t slot = (launch.cooperative ? block : 0) * size_t(launch.block) + thread;
        registers[slot] = kernel.registers;
        known[slot] = kernel.known;
        local_known[slot] = kernel.local_known;
        local[slot].assign(kernel.local_known.size(), 0xef);
        Lane lane{state, registers[slot], known[slot], local[slot], local_known[slot]};
        lane.set<uint32_t>(TID, thread), lane.set<uint32_t>(LANEID, thread % WARP), lane.set<uint32_t>(CTAID, block);
        lane.set<uint32_t>(NTID, launch.block), lane.set<uint32_t>(NCTAID, launch.grid);
        for (uint64_t turn = 0; !lane.ended; turn++) {
            const Instruction& instruction = kernel.instructions[lane.next++];
            if (turn > MOST_TURNS) emulator::fault("thread %u runs without end at line %d", thread, instruction.line);
            lane.unknown = instruction.guard >= 0 && !known[slot][size_t(instruction.guard)];
            lane.must_be_known(instruction, "depends on");
            if (instruction.guard < 0 || lane.get<bool>(instruction.guard) != instruction.unless)
                instruction.action(lane, instruction);
        }
    });
}

}  // namespace ptx
