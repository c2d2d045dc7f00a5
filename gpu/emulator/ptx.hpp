// Runs what NVRTC makes of the kernels, on the machine of machine.hpp.
//
// PTX is the compiler's output before registers are given out: what it moved, merged, unrolled or fused is in it. So this finds what
// the host's compiler cannot show: a load merged across a barrier, a fused product, an instruction whose operands mean something
// else. It knows the instructions that the kernels use, as the PTX ISA 9.0 says; another one is an error when it is read.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "machine.hpp"

namespace ptx {

struct Lane;
struct Instruction;
using Action = void (*)(Lane&, const Instruction&);

// A shared array begins at a multiple of this; what lies beyond its end is no address.
constexpr unsigned SHARED_STRIDE = 1u << 20;
// Registers of every kernel, before its own.
enum Special : int { TID, CTAID, NTID, NCTAID, LANEID, SINK, SPECIALS };

struct Instruction {
    Action action = nullptr;
    int line = 0;
    int guard = -1;         // the predicate it depends on
    bool unless = false;    // it runs where the guard is false
    std::vector<int> at{};  // registers of its operands, numbers among them
    int64_t offset = 0;     // of its address
    size_t target = 0;      // of a branch
};

// Of a byte of local memory, beside whether it was written.
constexpr char NOWHERE = 2;

struct Array {
    std::string name;
    size_t bytes;  // 0: what the launch gives
    size_t align;
};

// How far beyond a multiple of 16 an array begins: at its own alignment, and no better one.
inline unsigned beyond_alignment(const Array& array) { return array.align < 16 ? unsigned(array.align) : 0; }

inline unsigned shared_address(const std::vector<Array>& arrays, size_t index) {
    return unsigned(index + 1) * SHARED_STRIDE + beyond_alignment(arrays[index]);
}

struct Kernel {
    std::string name;
    std::vector<size_t> parameters;         // bytes of each
    std::vector<Instruction> instructions;
    std::vector<uint64_t> registers;        // as a thread begins with: what is a number is there
    std::vector<char> known;                // which of them are numbers
    std::vector<char> local_known;          // as a thread begins with: 0, or NOWHERE where no array is
    size_t shared_bytes = 0, most_threads = 1024;
    const std::vector<Array>* shared = nullptr;
};

struct Program {
    std::map<std::string, Kernel> kernels;
    std::vector<Array> shared;
};

struct Malformed : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// What an instruction does, by its name with all its modifiers; `pack` and `unpack` are the two mov.b64 with two halves. Null where
// there is none.
Action action_of(const std::string& name);

// Throws Malformed, which says where and what.
std::unique_ptr<Program> read(const std::string& text);

// The memory that holds so many bytes at an address, and the offset; null where none does.
using Find = std::function<emulator::Memory*(uint64_t address, size_t bytes, size_t& offset)>;

// An empty string, or what went wrong. Arguments are given in their bits.
std::string run(const Kernel& kernel, const emulator::Launch& launch, const std::vector<uint64_t>& arguments, const Find& find);

}  // namespace ptx
