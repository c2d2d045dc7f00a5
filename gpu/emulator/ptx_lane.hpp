// A thread that runs PTX, for those who define instructions.
#pragma once

#include <cstring>
#include <type_traits>
#include <unordered_map>

#include "machine.hpp"
#include "ptx.hpp"

namespace ptx {

using Table = std::unordered_map<std::string, Action>;

struct Run {
    const Kernel& kernel;
    const std::vector<uint64_t>& arguments;
    const Find& find;
};

struct Lane {
    const Run& run;
    std::vector<uint64_t>& registers;
    std::vector<char>& known;  // registers that were written, with what follows from what was
    std::vector<unsigned char>& local;
    std::vector<char>& local_known;
    size_t next = 0;
    bool ended = false;
    mutable bool unknown = false;  // what the instruction has read so far includes what nobody wrote

    template <class T> T get(int at) const {
        if (!known[size_t(at)]) unknown = true;
        if constexpr (std::is_same_v<T, bool>) return registers[size_t(at)] != 0;  // true is written as -1
        T value;
        std::memcpy(&value, &registers[size_t(at)], sizeof(T));
        return value;
    }
    template <class T> void set(int at, T value) {
        registers[size_t(at)] = 0;
        known[size_t(at)] = !unknown;
        std::memcpy(&registers[size_t(at)], &value, sizeof(T));
    }
    // What must not depend on what nobody wrote: an address, what is stored, where it goes on.
    void must_be_known(const Instruction& i, const char* what) const {
        if (unknown) emulator::fault("line %d %s what nobody computed (thread %u)", i.line, what, emulator::self().index);
    }
    emulator::Site site(const Instruction& i) const { return {run.kernel.name.c_str(), i.line}; }
};

// Instructions that compute numbers from numbers: ptx_numbers.cpp.
void add_numbers(Table& table);

}  // namespace ptx
