// Tests of ptx.hpp: what instructions give by the PTX ISA, and what is refused. Run by `check`.
#include <tuple>

#include "ptx_test.hpp"

using namespace ptx_test;

namespace {

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
    gives_double("rcp.approx.ftz.f64 %fd7, 0d401C000000000000;", 0x3fc2492400000000);  // 1/7, whose lower half is above a half
    gives_double("rcp.approx.ftz.f64 %fd7, 0d3FF00000FFFFFFFF;", 0x3ff0000000000000);  // of the upper half
    gives_double("rcp.approx.ftz.f64 %fd7, 0d0000000100000000;", 0x7ff0000000000000);  // of a subnormal number, as of 0
    gives_double("rcp.approx.ftz.f64 %fd7, 0dFFE0000000000000;", 0x8000000000000000);  // which is one
    gives_double("cvt.rn.f64.s32 %fd7, -3;", 0xc008000000000000);
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
    gives_word("clz.b32 %r7, 1;", 31);
    gives_word("clz.b64 %r7, 1;", 63);
    gives_word("brev.b32 %r7, 6;", 0x60000000);
    gives_word("bfind.shiftamt.u32 %r7, 0;", 0xffffffff);
    gives_word("bfind.shiftamt.u32 %r7, 0x40000000;", 1);
    gives_word("bfi.b32 %r7, 0xff, 0, 28, 8;", 0xf0000000);
    gives_word("bfi.b32 %r7, 5, 0xffffffff, 4, 4;", 0xffffff5f);
    gives_word("bfi.b32 %r7, -1, 0, 0, 32;", 0xffffffff);
    gives("cvt.s64.s32 %rd7, -3;", uint64_t(-3));
    gives_word("mov.u16 %rs1, -1;\n cvt.s32.s16 %r7, %rs1;", 0xffffffff);
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
    const uint32_t nan = 0x7fffffff;
    gives_float("max.f32 %f7, 0f7FC00000, 0f3F800000;", 0x3f800000);
    gives_float("min.f32 %f7, 0f3F800000, 0f7FC00000;", 0x3f800000);
    gives_float("max.f32 %f7, 0f3F800000, 0f7FC00000;", 0x3f800000);
    gives_float("max.f32 %f7, 0f7FC00000, 0f7FC00000;", nan);
    for (const char* of : {"add.rn.f32 %f7, 0f7FC00001, 0f3F800000;", "sub.rn.f32 %f7, 0f7F800000, 0f7F800000;", "sqrt.rn.f32 %f7, 0fBF800000;",
                           "mul.rn.f32 %f7, 0f00000000, 0f7F800000;", "div.rn.f32 %f7, 0f00000000, 0f00000000;",
                           "fma.rn.f32 %f7, 0f00000000, 0f7F800000, 0f00000000;", "rcp.rn.f32 %f7, 0fFFC00000;",
                           "min.f32 %f7, 0fFFC00000, 0f7FC00000;"})
        gives_float(of, nan);
    gives("add.rn.f64 %fd1, 0d7FF8000000000001, 0d3FF0000000000000;\n mov.b64 %rd7, %fd1;", 0x7ff8000000000001);  // keeps it
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
    gives_float("cvt.rn.f32.u32 %f7, -1;", 0x4f800000);
    gives_float("cvt.rn.f32.s64 %f7, 0x10000000000;", 0x53800000);
    gives("cvt.rn.f64.u32 %fd1, -1;\n mov.b64 %rd7, %fd1;", 0x41efffffffe00000);
    gives("cvt.rn.f64.s64 %fd1, -0x10000000000;\n mov.b64 %rd7, %fd1;", 0xc270000000000000);
    gives("cvt.f64.f32 %fd1, 0f3F800000;\n mov.b64 %rd7, %fd1;", 0x3ff0000000000000);
    gives("fma.rn.f64 %fd1, 0d3FF0000000000000, 0d4000000000000000, 0dBFF0000000000000;\n mov.b64 %rd7, %fd1;", 0x3ff0000000000000);
    gives("rcp.approx.ftz.f64 %fd1, 0d4000000000000000;\n mov.b64 %rd7, %fd1;", 0x3fe0000000000000);
    gives_word("cvt.rna.tf32.f32 %r7, 0f3F801000;", 0x3f802000);  // halves away from 0
    gives_word("cvt.rna.tf32.f32 %r7, 0f3F800FFF;", 0x3f800000);
    for (const char* ordered : {"eq", "ne", "lt", "le", "gt", "ge", "num"})
        holds(string("setp.") + ordered + ".f32 %p1, 0f7FC00000, 0f3F800000;", false);
    for (const char* unordered : {"equ", "neu", "ltu", "leu", "gtu", "geu", "nan"})
        holds(string("setp.") + unordered + ".f32 %p1, 0f7FC00000, 0f3F800000;", true);
    for (const auto& [name, same, less] : {std::tuple<const char*, bool, bool>{"equ", true, false}, {"neu", false, true}, {"ltu", false, true},
                                           {"leu", true, true}, {"gtu", false, false}, {"geu", true, false}, {"num", true, true}, {"nan", false, false}}) {
        holds(string("setp.") + name + ".f32 %p1, 0f3F800000, 0f3F800000;", same);
        holds(string("setp.") + name + ".f32 %p1, 0f3F800000, 0f40000000;", less);
    }
    holds("mov.pred %p2, 0;\n setp.lt.or.f32 %p1, 0f3F800000, 0f40000000, %p2;", true);
}

void text() {
    refused("add.f32 %f1, %f2, %f3;", "instruction add.f32 is not known");  // may be fused
    refused("mov.u32 %r99, 1;", "neither a register nor a number: %r99");
    refused("bra $L__nowhere;", "no label $L__nowhere");
    refused("ld.param.u32 %r1, [test_param_9];", "no parameter test_param_9");
    refused(".strange;", "not expected");
    refused("setp.eq.s32 %p1|%p2, %r0, 1;", "a second predicate");
    refused("bar.sync 1;", "a barrier other than 0");
    refused("bar.sync 0, 32;", "a barrier other than 0");
    refused("bra;", "no label");
    gives_word("mov.u32 %r7, 5U;", 5);
    const auto program = ptx::read(".visible .entry test(.param .b64 a, .param .u64 b, .param .f64 c, .param .b32 d, .param .u32 e, .param .f32 f)\n"
                                   "{\n ret;\n}\n");
    expect(program->kernels.at("test").parameters == std::vector<size_t>{8, 8, 8, 4, 4, 4}, "bytes of parameters");
    refused(".local .align 4 .b8 huge[524289];", "a local array that no device has");
    refused(".shared .align 4 .b8 huge[1048576];", "a shared array that no device has");
    expect(run(".version 9.0\nnonsense;").error.find("line 2 of the PTX: not expected: nonsense") != string::npos, "nonsense");
    expect(run(".visible .entry test()\n{\n ret;\n").error.find("test has no end") != string::npos, "a kernel without an end");
}

}  // namespace

int main() {
    plain(), integers(), reals(), text(), threads();
    if (failures) return std::printf("%d failed\n", failures), 1;
    return std::printf("the PTX tests passed\n"), 0;
}
