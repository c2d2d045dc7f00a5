// Replays recorded launches and compares the memory they leave: a program without Rust, for sanitizers.
//
//   standalone FILE        FILE as recording.hpp writes it; exits 1 at the first launch that fails or leaves other memory

#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>

#include "interface.hpp"
#include "recording.hpp"

namespace {

struct Words {
    std::vector<uint32_t> values, written;
};

struct Reader {
    std::ifstream file;

    bool number(uint64_t& value) { return bool(file.read(reinterpret_cast<char*>(&value), 8)); }
    uint64_t number() {
        uint64_t value = 0;
        number(value);
        return value;
    }
    std::string text(uint64_t length) {
        std::string value(length, ' ');
        file.read(value.data(), std::streamsize(length));
        return value;
    }
    Words words() {
        Words all;
        all.values.resize(number());
        all.written.resize(all.values.size());
        for (size_t i = 0; i < all.values.size(); i++) {
            uint32_t both[2] = {};
            file.read(reinterpret_cast<char*>(both), 8);
            all.values[i] = both[0], all.written[i] = both[1];
        }
        return all;
    }
};

emulator::Memory* memory_of(const Words& words) {
    emulator::Memory* memory = emulator_allocate("memory", words.values.size() * 4);
    for (size_t i = 0; i < words.values.size(); i++)
        if (words.written[i]) emulator_write(memory, i * 4, &words.values[i], 4);
    return memory;
}

bool replay(Reader& reader, const std::string& kernel) {
    std::vector<std::string> names(reader.number());
    std::vector<double> values(names.size());
    for (size_t i = 0; i < names.size(); i++) {
        names[i] = reader.text(reader.number());
        reader.file.read(reinterpret_cast<char*>(&values[i]), 8);
    }
    emulator::Shape shape{};
    reader.file.read(reinterpret_cast<char*>(&shape), sizeof shape);
    std::vector<emulator::Argument> arguments(reader.number());
    for (auto& argument : arguments) {
        argument.is_memory = reader.number();
        uint64_t number = reader.number();
        if (argument.is_memory) argument = {reinterpret_cast<uint64_t>(memory_of(reader.words())), number, 1};
        else argument = {number, 0, 0};
    }
    std::vector<const char*> pointers;
    for (const auto& name : names) pointers.push_back(name.c_str());
    char error[1024] = "";
    bool good = emulator_launch(kernel.c_str(), pointers.data(), values.data(), names.size(), unsigned(shape.grid),
                                unsigned(shape.block), shape.dynamic_bytes, shape.cooperative != 0, shape.seed, arguments.data(),
                                arguments.size(), error, sizeof error);
    if (!good) std::printf("%s: %s\n", kernel.c_str(), error);
    for (auto& argument : arguments) {
        if (!argument.is_memory) continue;
        Words expected = reader.words();
        emulator::Memory* memory = reinterpret_cast<emulator::Memory*>(argument.value);
        for (size_t i = 0; i < expected.values.size() && good; i++) {
            uint32_t value = 0;
            bool written = emulator_read(memory, i * 4, &value, 4);
            if (written != bool(expected.written[i]) || (written && value != expected.values[i])) {
                std::printf("%s: word %zu of an argument differs from the recording\n", kernel.c_str(), i);
                good = false;
            }
        }
        emulator_free(memory);
    }
    return good;
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 2) return std::puts("usage: standalone FILE"), 2;
    Reader reader{std::ifstream(arguments[1], std::ios::binary)};
    std::map<std::string, int> launches;
    uint64_t length = 0;
    while (reader.number(length)) {
        std::string kernel = reader.text(length);
        if (!replay(reader, kernel)) return 1;
        launches[kernel]++;
    }
    for (const auto& [kernel, times] : launches) std::printf("%6d %s\n", times, kernel.c_str());
    std::printf("%zu kernels as recorded\n", launches.size());
    return launches.empty() ? 1 : 0;
}
