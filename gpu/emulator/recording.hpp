// Launches in a file, with their memory before and after, for the standalone program.
//
// Written where the environment names a file in FWPKM_RECORD. Numbers are u64 in the machine's order, texts have their length
// in front:
//   kernel; count of constants, each name and value; grid, block, dynamic bytes, cooperative, seed; count of arguments, each is_memory, then
//   value, or offset, words, for each word its value and whether it was written; then for each memory its words afterwards
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>

#include "interface.hpp"

namespace emulator {

struct Shape {
    uint64_t grid, block, dynamic_bytes, cooperative, seed;
};

class Recording {
public:
    void before(const char* kernel, const char* const* names, const double* values, size_t constants, Shape shape,
                const Argument* arguments, size_t count) {
        const char* path = std::getenv("FWPKM_RECORD");
        if (path) file = std::fopen(path, "ab");
        if (!file) return;
        text(kernel);
        number(constants);
        for (size_t i = 0; i < constants; i++) {
            text(names[i]);
            std::fwrite(&values[i], 8, 1, file);
        }
        std::fwrite(&shape, sizeof shape, 1, file);
        number(count);
        for (size_t i = 0; i < count; i++) {
            number(arguments[i].is_memory);
            if (arguments[i].is_memory) number(arguments[i].offset), memory(arguments[i]);
            else number(arguments[i].value);
        }
    }

    void after(const Argument* arguments, size_t count) {
        if (!file) return;
        for (size_t i = 0; i < count; i++)
            if (arguments[i].is_memory) memory(arguments[i]);
        std::fclose(file);
        file = nullptr;
    }

private:
    std::FILE* file = nullptr;

    void number(uint64_t value) { std::fwrite(&value, 8, 1, file); }
    void text(const char* value) {
        number(std::strlen(value));
        std::fwrite(value, 1, std::strlen(value), file);
    }
    void memory(const Argument& argument) {
        const Memory& of = *reinterpret_cast<const Memory*>(argument.value);
        number(of.size);
        for (size_t i = 0; i < of.size; i++) {
            uint32_t both[2] = {of.words[i], of.shadow[i].initialised};
            std::fwrite(both, 8, 1, file);
        }
    }
};

}  // namespace emulator
