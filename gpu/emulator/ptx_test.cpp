// Tests of ptx.hpp: what instructions give by the PTX ISA, and what is refused. Run by `check`.
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <tuple>

#include "memory.hpp"
#include "ptx.hpp"

namespace {

using std::string;

constexpr uint64_t OUT = 0x1000;
constexpr size_t LANES = 32;
int failures = 0;

void expect(bool good, const string& what) {
    if (!good) failures++, std::printf("FAILED: %s\n", what.c_str());
}

// A kernel whose lanes each store %rd7.
string kernel(const string& body) {
    return ".version 9.0\n.target sm_90\n.address_size 64\n.extern .shared .align 16 .b8 dynamic[];\n"
           ".visible .entry test(\n .param .u64 test_param_0,\n .param .u32 test_param_1\n)\n.maxntid 64, 1, 1\n{\n"
           " .reg .pred %p<8>;\n .reg .b16 %rs<8>;\n .reg .f32 %f<16>;\n .reg .b32 %r<16>;\n .reg .f64 %fd<8>;\n .reg .b64 %rd<8>;\n"
           " .shared .align 16 .b8 fixed[64];\n .shared .align 4 .b8 word[64];\n .local .align 16 .b8 local[32];\n"
           " ld.param.u64 %rd1, [test_param_0];\n ld.param.u32 %r15, [test_param_1];\n cvta.to.global.u64 %rd1, %rd1;\n"
           " mov.u32 %r0, %tid.x;\n mul.wide.u32 %rd2, %r0, 8;\n add.s64 %rd0, %rd1, %rd2;\n" +
           body + "\n st.global.u64 [%rd0], %rd7;\n ret;\n}\n";
}

struct Outcome {
    string error;
    uint64_t lanes[LANES];
};

Outcome run(const string& text, unsigned block = LANES, size_t shared_bytes = 16) {
    Outcome outcome{};
    try {
        const auto program = ptx::read(text);
        emulator::Memory memory("out", LANES * 8);
        const auto find = [&](uint64_t address, size_t bytes, size_t& offset) -> emulator::Memory* {
            offset = size_t(address - OUT);
            return address >= OUT && offset <= LANES * 8 && bytes <= LANES * 8 - offset ? &memory : nullptr;
        };
        outcome.error = ptx::run(program->kernels.at("test"), {"test", 1, block, shared_bytes, false, 1}, {OUT, 7}, find);
        std::memcpy(outcome.lanes, memory.words.get(), LANES * 8);
    } catch (const ptx::Malformed& malformed) {
        outcome.error = malformed.what();
    }
    return outcome;
}

void gives(const string& body, uint64_t expected, size_t lane = 0) {
    const Outcome outcome = run(kernel(body));
    char text[128];
    std::snprintf(text, sizeof text, "\n  lane %zu has %" PRIx64 ", not %" PRIx64 ". ", lane, outcome.lanes[lane], expected);
    expect(outcome.error.empty() && outcome.lanes[lane] == expected, body + text + outcome.error);
}

// Of 32 bits, and a predicate.
void gives_word(const string& body, uint32_t expected, size_t lane = 0) { gives(body + "\n cvt.u64.u32 %rd7, %r7;", expected, lane); }
void holds(const string& body, bool expected) { gives_word(body + "\n selp.b32 %r7, 1, 0, %p1;", expected); }
void gives_float(const string& body, uint32_t expected) { gives_word(body + "\n mov.b32 %r7, %f7;", expected); }

void refused(const string& body, const string& word, unsigned block = LANES) {
    const Outcome outcome = run(kernel("mov.u64 %rd7, 1;\n" + body), block);
    expect(outcome.error.find(word) != string::npos, body + "\n  does not say " + word + ", but: " + outcome.error);
}

void integers() {
    gives_word("shl.b32 %r7, 1, 32;", 0);
    gives_word("shr.u32 %r7, -1, 40;", 0);
    gives_word("shr.s32 %r7, -8, 40;", 0xffffffff);
    gives_word("shr.s32 %r7, -8, 2;", 0xfffffffe);
    gives("shl.b64 %rd7, 3, 33;", uint64_t(3) << 33);
    gives("shr.s64 %rd7, -8, 70;", ~uint64_t(0));
    gives_word("mul.hi.s32 %r7, -2, 3;", 0xffffffff);
    gives("mul.hi.u64 %rd7, -1, 2;", 1);
    gives("mul.wide.s32 %rd7, -2, 3;", uint64_t(-6));
    gives("mul.wide.u32 %rd7, -2, 3;", uint64_t(0xfffffffe) * 3);
    gives_word("mul.lo.s32 %r7, 0x10001, 0x10001;", 0x20001);
    gives_word("mad.lo.s32 %r7, -2, 3, 1;", uint32_t(-5));
    gives_word("div.s32 %r7, -7, 2;", uint32_t(-3));
    gives_word("rem.s32 %r7, -7, 2;", uint32_t(-1));
    gives_word("div.u32 %r7, -7, 2;", 0x7ffffffc);
    gives_word("min.s32 %r7, -1, 1;", 0xffffffff);
    gives_word("min.u32 %r7, -1, 1;", 1);
    gives_word("popc.b32 %r7, 0xf0f;", 8);
    gives_word("popc.b64 %r7, -1;", 64);
    gives_word("clz.b32 %r7, 0;", 32);
    gives_word("clz.b64 %r7, 1;", 63);
    gives_word("brev.b32 %r7, 6;", 0x60000000);
    gives_word("bfind.shiftamt.u32 %r7, 0;", 0xffffffff);
    gives_word("bfind.shiftamt.u32 %r7, 0x40000000;", 1);
    gives_word("bfi.b32 %r7, 0xff, 0, 28, 8;", 0xf0000000);
    gives_word("bfi.b32 %r7, 5, 0xffffffff, 4, 4;", 0xffffff5f);
    gives("cvt.s64.s32 %rd7, -3;", uint64_t(-3));
    gives("cvt.u64.u32 %rd7, -3;", 0xfffffffd);
    gives_word("cvt.u16.u32 %rs1, 0x12345;\n cvt.u32.u16 %r7, %rs1;", 0x2345);
    gives_word("mov.u16 %rs1, -1;\n setp.eq.s16 %p1, %rs1, -1;\n selp.b32 %r7, 4, 5, %p1;", 4);
    holds("setp.lt.s32 %p1, -1, 1;", true);
    holds("setp.lt.u32 %p1, -1, 1;", false);
    holds("mov.pred %p1, -1;", true);
    holds("mov.pred %p2, -1;\n not.pred %p1, %p2;", false);
    gives("mov.b64 %rd7, {1, 2};", uint64_t(2) << 32 | 1);
    gives_word("mov.b64 {%r6, %r7}, 0x500000003;", 5);
    gives_word("{\n .reg .b32 %temp;\n mov.b64 {%r7, %temp}, 0x500000003;\n }", 3);
}

void reals() {
    const uint32_t nan = 0x7fc00000;
    gives_float("max.f32 %f7, 0f7FC00000, 0f3F800000;", 0x3f800000);
    gives_float("min.f32 %f7, 0f3F800000, 0f7FC00000;", 0x3f800000);
    gives_float("max.f32 %f7, 0f7FC00000, 0f7FC00000;", nan);
    gives_float("max.f32 %f7, 0f80000000, 0f00000000;", 0);
    gives_float("min.f32 %f7, 0f00000000, 0f80000000;", 0x80000000);
    // (1 + 2^-12)^2 - (1 + 2^-11) is 2^-24, of which a rounded product leaves nothing.
    gives_float("fma.rn.f32 %f7, 0f3F800800, 0f3F800800, 0fBF801000;", 0x33800000);
    gives_float("mul.rn.f32 %f1, 0f3F800800, 0f3F800800;\n add.rn.f32 %f7, %f1, 0fBF801000;", 0);
    gives_float("div.rn.f32 %f7, 0f3F800000, 0f40400000;", 0x3eaaaaab);
    gives_float("rcp.rn.f32 %f7, 0f40400000;", 0x3eaaaaab);
    gives_float("sqrt.rn.f32 %f7, 0f40000000;", 0x3fb504f3);
    gives_float("neg.f32 %f7, 0f3F800000;", 0xbf800000);
    gives_float("abs.f32 %f7, 0fBF800000;", 0x3f800000);
    gives_float("cvt.rn.f32.f64 %f7, 0d3FF0000010000000;", 0x3f800000);  // halves to even
    gives_float("cvt.rn.f32.s32 %f7, 16777217;", 0x4b800000);
    gives("cvt.f64.f32 %fd1, 0f3F800000;\n mov.b64 %rd7, %fd1;", 0x3ff0000000000000);
    gives("fma.rn.f64 %fd1, 0d3FF0000000000000, 0d4000000000000000, 0dBFF0000000000000;\n mov.b64 %rd7, %fd1;", 0x3ff0000000000000);
    gives("rcp.approx.ftz.f64 %fd1, 0d4000000000000000;\n mov.b64 %rd7, %fd1;", 0x3fe0000000000000);
    gives_word("cvt.rna.tf32.f32 %r7, 0f3F801000;", 0x3f802000);  // halves away from 0
    gives_word("cvt.rna.tf32.f32 %r7, 0f3F800FFF;", 0x3f800000);
    for (const char* ordered : {"eq", "ne", "lt", "le", "gt", "ge", "num"})
        holds(string("setp.") + ordered + ".f32 %p1, 0f7FC00000, 0f3F800000;", false);
    for (const char* unordered : {"equ", "neu", "ltu", "leu", "gtu", "geu", "nan"})
        holds(string("setp.") + unordered + ".f32 %p1, 0f7FC00000, 0f3F800000;", true);
    holds("setp.ltu.f32 %p1, 0f3F800000, 0f3F800000;", false);
    holds("setp.geu.f32 %p1, 0f3F800000, 0f3F800000;", true);
    holds("mov.pred %p2, 0;\n setp.lt.or.f32 %p1, 0f3F800000, 0f40000000, %p2;", true);
}

void together() {
    const string lane = "mov.u32 %r1, %r0;\n";
    gives_word(lane + "shfl.sync.bfly.b32 %r7|%p1, %r1, 5, 31, -1;", 6, 3);
    gives_word(lane + "shfl.sync.idx.b32 %r7, %r1, 40, 31, -1;", 8, 3);
    gives_word(lane + "shfl.sync.up.b32 %r7|%p1, %r1, 4, 0, -1;", 3, 3);
    gives_word(lane + "shfl.sync.up.b32 %r7|%p1, %r1, 4, 0, -1;", 5, 9);
    gives_word(lane + "shfl.sync.up.b32 %r2|%p1, %r1, 4, 0, -1;\n selp.u32 %r7, 1, 0, %p1;", 0, 3);
    gives_word(lane + "shfl.sync.down.b32 %r7|%p1, %r1, 4, 31, -1;", 30, 30);
    // Segments of 8 lanes: mask 24 in bits 8 to 12.
    gives_word(lane + "shfl.sync.idx.b32 %r7|%p1, %r1, 2, 6175, -1;", 18, 21);
    gives_word(lane + "redux.sync.max.u32 %r7, %r1, -1;", 31, 4);
    gives_word(lane + "redux.sync.min.u32 %r7, %r1, -1;", 0, 4);
    gives_word(lane + "setp.lt.u32 %p1, %r1, 3;\n vote.sync.ballot.b32 %r7, %p1, -1;", 7, 20);
    // Only lane 0 jumps, and all meet again.
    gives_word(lane + "setp.eq.s32 %p1, %r1, 0;\n mov.u32 %r7, 1;\n @%p1 bra $L__over;\n mov.u32 %r7, 2;\n$L__over:\n"
                      " bar.warp.sync -1;", 1);
    gives_word(lane + "setp.eq.s32 %p1, %r1, 0;\n mov.u32 %r7, 1;\n @!%p1 mov.u32 %r7, 2;", 2, 1);
}

// D = A B of an mma by rows and columns, of numbers that say where they stand.
void products() {
    const auto a = [](int row, int k) { return row * 8 + k + 1; };
    const auto b = [](int k, int column) { return (k + 1) * (column + 3); };
    // Lane 4 g + t: a0..3 = A(g, t), A(g + 8, t), A(g, t + 4), A(g + 8, t + 4); b0..1 = B(t, g), B(t + 4, g).
    const string factors = "shr.u32 %r1, %r0, 2;\n and.b32 %r2, %r0, 3;\n"          // g, t
                           "mad.lo.s32 %r3, %r1, 8, %r2;\n add.s32 %r3, %r3, 1;\n"  // A(g, t)
                           "add.s32 %r4, %r3, 64;\n add.s32 %r5, %r3, 4;\n add.s32 %r6, %r3, 68;\n"
                           "add.s32 %r8, %r2, 1;\n add.s32 %r9, %r1, 3;\n mul.lo.s32 %r10, %r8, %r9;\n"  // B(t, g)
                           "mad.lo.s32 %r11, %r9, 4, %r10;\n"
                           "cvt.rn.f32.s32 %f3, %r3;\n cvt.rn.f32.s32 %f4, %r4;\n cvt.rn.f32.s32 %f5, %r5;\n"
                           "cvt.rn.f32.s32 %f6, %r6;\n cvt.rn.f32.s32 %f8, %r10;\n cvt.rn.f32.s32 %f9, %r11;\n"
                           "cvt.rna.tf32.f32 %r3, %f3;\n cvt.rna.tf32.f32 %r4, %f4;\n cvt.rna.tf32.f32 %r5, %f5;\n"
                           "cvt.rna.tf32.f32 %r6, %f6;\n cvt.rna.tf32.f32 %r10, %f8;\n cvt.rna.tf32.f32 %r11, %f9;\n"
                           "mov.f32 %f10, 0f3F800000;\n mov.f32 %f11, 0f40000000;\n mov.f32 %f12, 0f40400000;\n mov.f32 %f13, 0f40800000;\n"
                           "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%f10, %f11, %f12, %f13}, {%r3, %r4, %r5, %r6}, "
                           "{%r10, %r11}, {%f10, %f11, %f12, %f13};\n";
    for (int d = 0; d < 4; d++) {
        const string result = factors + "mov.f32 %f7, %f1" + std::to_string(d) + ";\n";
        for (int lane : {0, 6, 31}) {
            // D(g, 2 t), D(g, 2 t + 1), D(g + 8, 2 t), D(g + 8, 2 t + 1), and what was there before: 1, 2, 3, 4.
            const int row = lane / 4 + d / 2 * 8, column = 2 * (lane % 4) + d % 2;
            float sum = float(d + 1);
            for (int k = 0; k < 8; k++) sum += float(a(row, k) * b(k, column));
            uint32_t word;
            std::memcpy(&word, &sum, 4);
            gives_word(result + " mov.b32 %r7, %f7;", word, size_t(lane));
        }
    }
    refused("mov.b32 %r3, 0x3f800001;\n mov.f32 %f1, 0f00000000;\n"
            "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%f2, %f3, %f4, %f5}, {%r3, %r3, %r3, %r3}, {%r3, %r3}, "
            "{%f1, %f1, %f1, %f1};", "was not rounded");
}

// Every lane writes its place of `fixed`; `meet`; every lane reads its neighbour's.
string neighbours(const string& meet) {
    return "mov.u32 %r3, fixed;\n and.b32 %r1, %r0, 15;\n setp.gt.u32 %p1, %r0, 15;\n @%p1 bra $L__meet;\n"
           "shl.b32 %r2, %r1, 2;\n add.s32 %r2, %r2, %r3;\n st.shared.u32 [%r2], %r0;\n$L__meet:\n" + meet +
           "\n add.s32 %r4, %r1, 1;\n and.b32 %r4, %r4, 15;\n shl.b32 %r4, %r4, 2;\n add.s32 %r4, %r4, %r3;\n"
           "ld.shared.u32 %r7, [%r4];\n";
}

void order() {
    gives_word(neighbours("bar.warp.sync -1;"), 4, 3);
    gives_word(neighbours("bar.sync 0;"), 4, 3);
    for (const char* meet : {"", "shfl.sync.idx.b32 %r5, %r0, 0, 31, -1;", "vote.sync.ballot.b32 %r5, %p1, -1;",
                             "redux.sync.min.u32 %r5, %r0, -1;"}) {
        const Outcome outcome = run(kernel(neighbours(meet)));
        expect(outcome.error.find("unordered") != string::npos || outcome.error.find("nobody wrote") != string::npos,
               string("order by ") + meet + ": " + outcome.error);
    }
    refused("mov.u32 %r3, fixed;\n st.shared.u32 [%r3], %r0;", "unordered");
    // Of numbers that several change, none may be lost.
    const string zero = "mov.u32 %r3, fixed;\n setp.ne.s32 %p1, %r0, 0;\n @%p1 bra $L__over;\n st.shared.v4.u32 [%r3], {5, 5, 5, 5};\n"
                        "$L__over:\n bar.sync 0;\n";
    const string then = "bar.sync 0;\n ld.shared.u32 %r7, [%r3];";
    gives_word(zero + "atom.shared.add.u32 %r2, [%r3], 2;\n" + then, 5 + 64);
    gives_word(zero + "atom.shared.min.s32 %r2, [%r3], -3;\n" + then, uint32_t(-3));
    gives_word(zero + "atom.shared.min.u32 %r2, [%r3], -3;\n" + then, 5);
    gives_word(zero + "atom.shared.max.s32 %r2, [%r3], -3;\n" + then, 5);
    gives_word(zero + "atom.shared.max.u32 %r2, [%r3], -3;\n" + then, uint32_t(-3));
    gives_word(zero + "atom.shared.exch.b32 %r2, [%r3], 9;\n" + then, 9);
}

// Each unlike its neighbours in one number at least.
void plain() {
    gives_word("add.s32 %r7, 7, -9;", uint32_t(-2));
    gives_word("sub.s32 %r7, 7, 9;", uint32_t(-2));
    gives_word("neg.s32 %r7, 7;", uint32_t(-7));
    gives_word("abs.s32 %r7, -7;", 7);
    gives_word("max.s32 %r7, -1, 1;", 1);
    gives_word("max.u32 %r7, -1, 1;", 0xffffffff);
    gives_word("and.b32 %r7, 12, 10;", 8);
    gives_word("or.b32 %r7, 12, 10;", 14);
    gives_word("xor.b32 %r7, 12, 10;", 6);
    gives_word("not.b32 %r7, 12;", ~12u);
    gives_word("selp.b32 %r7, 4, 5, 1;", 4);
    gives_word("div.s32 %r7, 0x80000000, -1;", 0x80000000);
    gives_word("rem.s32 %r7, 0x80000000, -1;", 0);
    gives("ld.param.s32 %rd7, [test_param_1];", 7);
    gives("add.s64 %rd7, 7, -9;", uint64_t(-2));
    gives("cvt.s64.s32 %rd7, 7;", 7);
    for (const auto& [name, less, same, more] : {std::tuple<const char*, bool, bool, bool>{"lt", true, false, false}, {"le", true, true, false}, {"gt", false, false, true},
                                                 {"ge", false, true, true}, {"eq", false, true, false}, {"ne", true, false, true}}) {
        for (const char* type : {"s32", "u32"}) {
            holds(string("setp.") + name + "." + type + " %p1, 3, 4;", less);
            holds(string("setp.") + name + "." + type + " %p1, 4, 4;", same);
            holds(string("setp.") + name + "." + type + " %p1, 5, 4;", more);
        }
        holds(string("setp.") + name + ".f32 %p1, 0f40400000, 0f40800000;", less);
        holds(string("setp.") + name + ".f32 %p1, 0f40800000, 0f40800000;", same);
        holds(string("setp.") + name + ".f64 %p1, 0d4014000000000000, 0d4010000000000000;", more);
    }
    holds("mov.pred %p2, 0;\n setp.lt.and.s32 %p1, 3, 4, %p2;", false);
    holds("mov.pred %p2, -1;\n setp.lt.or.s32 %p1, 5, 4, %p2;", true);
    holds("mov.pred %p2, -1;\n mov.pred %p3, 0;\n and.pred %p1, %p2, %p3;", false);
    holds("mov.pred %p2, -1;\n mov.pred %p3, 0;\n or.pred %p1, %p2, %p3;", true);
    holds("mov.pred %p2, -1;\n mov.pred %p3, -1;\n xor.pred %p1, %p2, %p3;", false);
    gives_float("add.rn.f32 %f7, 0f40400000, 0f3F800000;", 0x40800000);
    gives_float("sub.rn.f32 %f7, 0f40400000, 0f3F800000;", 0x40000000);
    const auto gives_double = [](const string& body, uint64_t expected) { gives(body + "\n mov.b64 %rd7, %fd7;", expected); };
    gives_double("add.rn.f64 %fd7, 0d4008000000000000, 0d3FF0000000000000;", 0x4010000000000000);
    gives_double("sub.rn.f64 %fd7, 0d4008000000000000, 0d3FF0000000000000;", 0x4000000000000000);
    gives_double("mul.rn.f64 %fd7, 0d4008000000000000, 0d4000000000000000;", 0x4018000000000000);
    gives_double("div.rn.f64 %fd7, 0d4008000000000000, 0d4000000000000000;", 0x3ff8000000000000);
    gives_double("min.f64 %fd7, 0d4008000000000000, 0d4000000000000000;", 0x4000000000000000);
    gives_double("max.f64 %fd7, 0d4008000000000000, 0d4000000000000000;", 0x4008000000000000);
    gives_double("rcp.approx.ftz.f64 %fd7, 0d4008000000000000;", 0x3fd5555500000000);  // 1/3, its upper half
    gives_double("cvt.rn.f64.s32 %fd7, -3;", 0xc008000000000000);
}

void memory() {
    const string neighbour = "shl.b32 %r2, %r0, 2;\n mov.u32 %r3, dynamic;\n add.s32 %r3, %r3, %r2;\n";
    gives_word("mov.u64 %rd3, local;\n st.local.v2.u32 [%rd3+8], {3, 4};\n ld.local.u32 %r7, [%rd3+12];", 4);
    gives_word("mov.u32 %r3, fixed;\n setp.ne.s32 %p1, %r0, 0;\n @%p1 bra $L__over;\n st.shared.v4.u32 [%r3+16], {1, 2, 3, 4};\n"
               "$L__over:\n bar.sync 0;\n ld.shared.u32 %r7, [%r3+24];", 3, 9);
    gives_word("mov.u32 %r3, fixed;\n setp.ne.s32 %p1, %r0, 0;\n @%p1 bra $L__over;\n st.shared.u32 [%r3], 0;\n$L__over:\n"
               " bar.sync 0;\n atom.shared.or.b32 %r2, [%r3], 4;\n bar.sync 0;\n ld.shared.u32 %r7, [%r3];", 4, 9);
    refused(neighbour + "st.shared.u32 [%r3], 0;", "out of bounds");  // 16 bytes are given
    refused("ld.shared.u32 %r7, [fixed];", "nobody wrote");
    refused("st.global.u32 [%rd1], 1;", "unordered");
    refused("st.global.u32 [%rd1+256], 1;", "no memory of 4 bytes");
    refused("st.global.u64 [%rd0+4], 1;", "misaligned");
    refused("st.global.u64 [%rd0], 1;\n ld.global.nc.u64 %rd7, [%rd0];", "cache for constants");
    refused("mov.u64 %rd3, local;\n st.local.u32 [%rd3+32], 1;", "no local memory");
    refused("setp.eq.s32 %p1, %r0, 5;\n @%p1 bra $L__over;\n bar.sync 0;\n$L__over:\n", "divergent barrier");
    refused("", "at most 64", 96);
    gives_word("mov.u64 %rd3, local;\n st.local.v4.u32 [%rd3+16], {1, 2, 3, 4};\n ld.local.v2.u32 {%r5, %r7}, [%rd3+24];", 4);
    gives("mov.u32 %r3, fixed;\n setp.ne.s32 %p1, %r0, 0;\n @%p1 bra $L__over;\n st.shared.u32 [%r3], -3;\n$L__over:\n bar.sync 0;\n"
          " ld.shared.s32 %rd7, [%r3];", uint64_t(-3));
    refused("mov.u32 %r3, word;\n add.s32 %r3, %r3, 4;\n ld.shared.v4.u32 {%r1, %r2, %r4, %r5}, [%r3];", "misaligned");
    // What nobody computed.
    refused("add.s64 %rd7, %rd6, 1;", "stores what nobody computed");
    refused("mov.u64 %rd3, local;\n ld.local.u64 %rd7, [%rd3];", "stores what nobody computed");
    refused("@%p3 mov.u32 %r7, 1;", "depends on what nobody computed");
    refused("ld.global.u32 %r7, [%rd6];", "no memory");
    // Read as a constant, then written, by another thread and word of what was there before.
    expect(run(kernel("mov.u64 %rd7, 1;\n ld.global.nc.u32 %r7, [%rd1];")).error.find("nobody wrote") != string::npos, "nc of nothing");
    expect(run(kernel("mov.u64 %rd7, 1;"), LANES, 48 << 10).error.find("bytes of shared memory") != string::npos, "shared memory");
}

void text() {
    refused("add.f32 %f1, %f2, %f3;", "instruction add.f32 is not known");  // may be fused
    refused("mov.u32 %r99, 1;", "neither a register nor a number: %r99");
    refused("bra $L__nowhere;", "no label $L__nowhere");
    refused("ld.param.u32 %r1, [test_param_9];", "no parameter test_param_9");
    refused(".strange;", "not expected");
    refused("setp.eq.s32 %p1|%p2, %r0, 1;", "a second predicate");
    refused("bar.sync 1;", "a barrier other than 0");
    refused("bra;", "no label");
    expect(run(".version 9.0\nnonsense;").error.find("line 2 of the PTX: not expected: nonsense") != string::npos, "nonsense");
    expect(run(".visible .entry test()\n{\n ret;\n").error.find("test has no end") != string::npos, "a kernel without an end");
}

}  // namespace

int main() {
    plain(), integers(), reals(), together(), products(), order(), memory(), text();
    if (failures) return std::printf("%d failed\n", failures), 1;
    return std::printf("the PTX tests passed\n"), 0;
}
