// What the crate, and the standalone program, call.
#pragma once

#include "memory.hpp"

namespace emulator {

// A number in its bits, or memory and a byte offset into it.
struct Argument {
    uint64_t value, offset, is_memory;
};

}  // namespace emulator

extern "C" {
emulator::Memory* emulator_allocate(const char* name, size_t bytes);
void emulator_free(emulator::Memory* memory);
bool emulator_write(emulator::Memory* memory, size_t offset, const void* from, size_t bytes);
bool emulator_read(const emulator::Memory* memory, size_t offset, void* to, size_t bytes);
bool emulator_copy(emulator::Memory* to, size_t to_offset, const emulator::Memory* from, size_t from_offset, size_t bytes);
int emulator_parameters(const char* kernel, unsigned char* is_memory, size_t most);
bool emulator_launch(const char* kernel, const char* const* names, const double* values, size_t constants, unsigned grid,
                     unsigned block, size_t dynamic_bytes, bool cooperative, uint64_t seed,
                     const emulator::Argument* arguments, size_t count, char* error, size_t error_size);
}
