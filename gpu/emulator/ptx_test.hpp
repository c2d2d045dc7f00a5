// A kernel of a few instructions, and what is expected of it.
#pragma once

#include <cinttypes>
#include <cstdio>
#include <cstring>

#include "memory.hpp"
#include "ptx.hpp"

namespace ptx_test {

using std::string;

constexpr uint64_t OUT = 0x1000, SIGNALS = 0x9000;
constexpr size_t LANES = 32;
inline int failures = 0;

inline void expect(bool good, const string& what) {
    if (!good) failures++, std::printf("FAILED: %s\n", what.c_str());
}

// A kernel whose lanes each store %rd7.
inline string kernel(const string& body) {
    return ".version 9.0\n.target sm_90\n.address_size 64\n.extern .shared .align 16 .b8 dynamic[];\n"
           ".visible .entry test(\n .param .u64 test_param_0,\n .param .u32 test_param_1\n)\n.maxntid 64, 1, 1\n{\n"
           " .reg .pred %p<8>;\n .reg .b16 %rs<8>;\n .reg .f32 %f<16>;\n .reg .b32 %r<16>;\n .reg .f64 %fd<8>;\n .reg .b64 %rd<8>;\n"
           " .shared .align 16 .b8 fixed[64];\n .shared .align 4 .b8 word[64];\n .local .align 16 .b8 local[32];\n"
           " .local .align 16 .b8 more[16];\n .local .align 4 .b8 narrow[8];\n .local .align 4 .b8 behind[8];\n"
           " ld.param.u64 %rd1, [test_param_0];\n ld.param.u32 %r15, [test_param_1];\n cvta.to.global.u64 %rd1, %rd1;\n"
           " mov.u32 %r0, %tid.x;\n mul.wide.u32 %rd2, %r0, 8;\n add.s64 %rd0, %rd1, %rd2;\n" +
           body + "\n st.global.u64 [%rd0], %rd7;\n ret;\n}\n";
}

struct Outcome {
    string error;
    uint64_t lanes[LANES];
};

// Runs `test` on 256 bytes that nobody wrote, and on 16 bytes of 0 in memory of its own.
inline Outcome run(const string& text, const emulator::Launch& launch) {
    Outcome outcome{};
    try {
        const auto program = ptx::read(text);
        emulator::Memory memory("out", LANES * 8), signals("signals", 16);
        for (size_t word = 0; word < 4; word++) signals.words[word] = 0, signals.shadow[word].initialised = true;
        const auto find = [&](uint64_t address, size_t bytes, size_t& offset) -> emulator::Memory* {
            offset = size_t(address - OUT);
            if (address >= OUT && offset <= LANES * 8 && bytes <= LANES * 8 - offset) return &memory;
            offset = size_t(address - SIGNALS);
            return address >= SIGNALS && offset <= 16 && bytes <= 16 - offset ? &signals : nullptr;
        };
        outcome.error = ptx::run(program->kernels.at("test"), launch, {OUT, 7}, find);
        std::memcpy(outcome.lanes, memory.words.get(), LANES * 8);
    } catch (const ptx::Malformed& malformed) {
        outcome.error = malformed.what();
    }
    return outcome;
}
inline Outcome run(const string& text, unsigned block = LANES, size_t shared_bytes = 16) {
    return run(text, {"test", 1, block, shared_bytes, false, 1});
}

inline void gives(const string& body, uint64_t expected, size_t lane = 0) {
    const Outcome outcome = run(kernel(body));
    char text[128];
    std::snprintf(text, sizeof text, "\n  lane %zu has %" PRIx64 ", not %" PRIx64 ". ", lane, outcome.lanes[lane], expected);
    expect(outcome.error.empty() && outcome.lanes[lane] == expected, body + text + outcome.error);
}

// Of 32 bits, and a predicate.
inline void gives_word(const string& body, uint32_t expected, size_t lane = 0) { gives(body + "\n cvt.u64.u32 %rd7, %r7;", expected, lane); }
inline void holds(const string& body, bool expected) { gives_word(body + "\n selp.b32 %r7, 1, 0, %p1;", expected); }
inline void gives_float(const string& body, uint32_t expected) { gives_word(body + "\n mov.b32 %r7, %f7;", expected); }

inline void refused(const string& body, const string& word, unsigned block = LANES) {
    const Outcome outcome = run(kernel("mov.u64 %rd7, 1;\n" + body), block);
    expect(outcome.error.find(word) != string::npos, body + "\n  does not say " + word + ", but: " + outcome.error);
}

// What ptx_test_threads.cpp tests.
void threads();

}  // namespace ptx_test
