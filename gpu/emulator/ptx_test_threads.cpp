// Tests of ptx.hpp: what threads do together, and memory.
#include "ptx_test.hpp"

namespace ptx_test {
namespace {

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
    gives_word(lane + "shfl.sync.idx.b32 %r7|%p1, %r1, 10, 6175, -1;", 18, 21);
    gives_word(lane + "shfl.sync.down.b32 %r7|%p1, %r1, 4, 6175, -1;", 6, 6);
    // The last lane that is inside, and the first that is not.
    gives_word(lane + "shfl.sync.up.b32 %r7, %r1, 4, 0, -1;", 0, 4);
    gives_word(lane + "shfl.sync.down.b32 %r7, %r1, 4, 31, -1;", 31, 27);
    gives_word(lane + "shfl.sync.bfly.b32 %r7|%p1, %r1, 5, 3, -1;", 3, 3);
    gives_word(lane + "redux.sync.max.u32 %r7, %r1, -1;", 31, 4);
    gives_word(lane + "redux.sync.min.u32 %r7, %r1, -1;", 0, 4);
    gives_word(lane + "setp.lt.u32 %p1, %r1, 3;\n vote.sync.ballot.b32 %r7, %p1, -1;", 7, 20);
    // Only lane 0 jumps, and all meet again.
    gives_word(lane + "setp.eq.s32 %p1, %r1, 0;\n mov.u32 %r7, 1;\n @%p1 bra $L__over;\n mov.u32 %r7, 2;\n$L__over:\n"
                      " bar.warp.sync -1;", 1);
    gives_word(lane + "setp.eq.s32 %p1, %r1, 0;\n mov.u32 %r7, 1;\n @!%p1 mov.u32 %r7, 2;", 2, 1);
}

// Where a thread stands.
void places() {
    gives_word("mov.u32 %r7, %ntid.x;", 32);
    gives_word("mov.u32 %r7, %nctaid.x;", 1);
    gives_word("mov.u32 %r7, %ctaid.x;", 0);
    gives_word("mov.u32 %r7, %laneid;", 9, 9);
    const string of_40 = "mov.u32 %r3, fixed;\n setp.ne.s32 %p1, %r0, 40;\n @%p1 bra $L__over;\n mov.u32 %r1, %laneid;\n"
                         "st.shared.u32 [%r3], %r1;\n$L__over:\n bar.sync 0;\n ld.shared.u32 %r7, [%r3];\n cvt.u64.u32 %rd7, %r7;\n"
                         "setp.gt.s32 %p1, %r0, 31;\n @%p1 ret;\n";
    const Outcome outcome = run(kernel(of_40), 64);
    expect(outcome.error.empty() && outcome.lanes[3] == 8, "the lane of thread 40: " + outcome.error);
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

// Two rounds: in each, thread 9 of each of 4 blocks writes, all blocks wait, and thread 5 reads what the next block wrote.
string rounds(const string& gather, const string& release, const string& signal, const string& look, const string& acquire,
              const string& part) {
    const string round = "add.s32 %r5, %r5, 4;\n mul.wide.u32 %rd3, %r1, 8;\n add.s64 %rd3, %rd3, %rd1;\n"
                         "setp.ne.s32 %p1, %r0, 9;\n @%p1 bra $L__written;\n st.global.u32 [%rd3], %r5;\n$L__written:\n" + gather +
                         "setp.ne.s32 %p1, %r0, 0;\n @%p1 bra $L__waited;\n" + release + signal + "$L__wait:\n" + look +
                         "setp.ge.s32 %p2, %r6, %r5;\n @%p2 bra $L__seen;\n nanosleep.u32 20;\n bra $L__wait;\n$L__seen:\n" + acquire +
                         "$L__waited:\n" + part +
                         "setp.ne.s32 %p1, %r0, 5;\n @%p1 bra $L__read;\n add.s32 %r3, %r1, 1;\n and.b32 %r3, %r3, 3;\n"
                         "mul.wide.u32 %rd4, %r3, 8;\n add.s64 %rd4, %rd4, %rd1;\n ld.global.u32 %r4, [%rd4];\n"
                         "st.global.u32 [%rd3+128], %r4;\n$L__read:\n";
    string other = round;
    for (size_t at = 0; (at = other.find("$L__", at)) != string::npos; at += 4) other.insert(at + 4, "2");
    for (size_t at = 0; (at = other.find("%rd3", at)) != string::npos; at += 4) other.replace(at, 4, "%rd5");
    // In the second round each writes and reads 32 bytes further on.
    other.insert(other.find("setp.ne.s32 %p1, %r0, 9"), "add.s64 %rd5, %rd5, 32;\n");
    other.insert(other.find("ld.global.u32 %r4"), "add.s64 %rd4, %rd4, 32;\n");
    return ".version 9.0\n.target sm_90\n.address_size 64\n.visible .entry test(\n .param .u64 test_param_0,\n .param .u32 test_param_1\n)\n{\n"
           " .reg .pred %p<8>;\n .reg .b32 %r<16>;\n .reg .b64 %rd<8>;\n ld.param.u64 %rd1, [test_param_0];\n mov.u64 %rd2, 0x9000;\n"
           " mov.u32 %r0, %tid.x;\n mov.u32 %r1, %ctaid.x;\n mov.u32 %r5, 0;\n" + round + other + " ret;\n}\n";
}

// What one thread finds, alone.
string alone(const string& body) {
    return "setp.ne.s32 %p1, %r0, 0;\n mov.u64 %rd7, 0;\n mov.u64 %rd3, 0x9000;\n @%p1 bra $L__over;\n" + body + "$L__over:\n";
}

// What a launch reads through the cache for constants, it must not write.
void constants() {
    for (const char* writes : {"st.global.u32 [%rd3+4], 1;\n", "atom.global.add.u32 %r7, [%rd3+4], 1;\n"}) {
        refused(alone(string("ld.global.nc.v2.u32 {%r1, %r2}, [%rd3];\n") + writes), "has read through the cache for constants");
        refused(alone(string(writes) + "ld.global.nc.v2.u32 {%r1, %r2}, [%rd3];\n"), "the launch has written it");
    }
}

// Nothing may follow from what nobody computed.
void unknown() {
    refused("add.s64 %rd7, %rd6, 1;", "stores what nobody computed");
    refused("mov.u64 %rd3, local;\n ld.local.u64 %rd7, [%rd3];", "stores what nobody computed");
    refused("mov.u64 %rd3, local;\n st.local.u64 [%rd3], %rd6;\n ld.local.u64 %rd7, [%rd3];", "stores what nobody computed");
    refused("mov.u64 %rd3, local;\n st.local.u32 [%rd3+4], 1;\n ld.local.u64 %rd7, [%rd3];", "stores what nobody computed");
    refused("@%p3 mov.u32 %r7, 1;", "depends on what nobody computed");
    refused("ld.global.u32 %r7, [%rd6];", "no memory");
    // An address that is right by chance.
    const string chance = "and.b64 %rd3, %rd6, 0;\n add.s64 %rd3, %rd3, ";
    refused("st.global.u64 [%rd0], 1;\n" + chance + "%rd0;\n ld.global.u64 %rd7, [%rd3];", "reads at what nobody computed");
    refused(chance + "%rd0;\n st.global.u64 [%rd3], 1;", "stores what nobody computed");
    refused("mov.u64 %rd4, local;\n st.local.u32 [%rd4], 1;\n" + chance + "%rd4;\n ld.local.u32 %r7, [%rd3];", "reads at what nobody computed");
    refused("mov.u64 %rd4, local;\n" + chance + "%rd4;\n st.local.u32 [%rd3], 1;", "stores at what nobody computed");
    refused(alone("atom.global.add.u32 %r7, [%rd3], %r9;\n"), "changes a number by what nobody computed");
}

// Each step of a barrier of the grid is needed, under every schedule.
void fences() {
    const string meet = "bar.sync 0;\n", fence = "membar.gl;\n", signal = "atom.global.add.u32 %r7, [%rd2], 1;\n";
    const string look = "ld.volatile.global.u32 %r6, [%rd2];\n", change = "atom.global.add.u32 %r6, [%rd2], 0;\n";
    const string unsent = "has seen no signal of block", unfenced = "but passed no fence and barrier after that";
    for (uint64_t seed = 0; seed < 20; seed++) {
        const auto at_seed = [&](const string& text) { return run(text, {"test", 4, 32, 0, true, seed}); };
        for (const string& sees : {look, change}) {
            const Outcome sound = at_seed(rounds(meet, fence, signal, sees, fence, meet));
            expect(sound.error.empty(), "rounds: " + sound.error);
            for (size_t block = 0; block < 4; block++)
                expect(uint32_t(sound.lanes[16 + block]) == 4 && uint32_t(sound.lanes[20 + block]) == 8, "what rounds leave");
        }
        const auto found = [&](const char* what, const string& text, const string& why) {
            const string error = at_seed(text).error;
            expect(error.find("read of out[") != string::npos && error.find(why) != string::npos, string("without ") + what + ": " + error);
        };
        found("the fence before", rounds(meet, "", signal, look, fence, meet), unsent);
        found("the fence after", rounds(meet, fence, signal, look, "", meet), unfenced);
        found("the barrier before", rounds("", fence, signal, look, fence, meet), "");  // or nobody wrote yet
        found("the barrier after", rounds(meet, fence, signal, look, fence, ""), "");
        found("the signal last", rounds(meet, signal, fence, look, fence, meet), unsent);
        found("a strong load", rounds(meet, fence, signal, "ld.global.ca.u32 %r6, [%rd2];\n", fence, meet), unsent);
        const string plain = at_seed(rounds(meet, fence, signal, "ld.global.u32 %r6, [%rd2];\n", fence, meet)).error;
        expect(plain.find("unordered") != string::npos && plain.find("signals[0]") != string::npos, "a plain load of a signal: " + plain);
    }
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
    refused("", "no memory of 8 bytes", 64);  // so many may run, and the last have no place
    refused("ld.shared.u32 %r7, [%r0];", "no shared memory at");
    refused("mov.u32 %r3, 0x900000;\n ld.shared.u32 %r7, [%r3];", "no shared memory at");
    // The number that was there.
    gives(alone("atom.global.add.u32 %r7, [%rd3], 2;\n atom.global.add.u32 %r7, [%rd3], 2;\n cvt.u64.u32 %rd7, %r7;\n"), 2);
    gives_word("mov.u64 %rd3, local;\n st.local.v4.u32 [%rd3+16], {1, 2, 3, 4};\n ld.local.v2.u32 {%r5, %r7}, [%rd3+24];", 4);
    gives("mov.u32 %r3, fixed;\n setp.ne.s32 %p1, %r0, 0;\n @%p1 bra $L__over;\n st.shared.u32 [%r3], -3;\n$L__over:\n bar.sync 0;\n"
          " ld.shared.s32 %rd7, [%r3];", uint64_t(-3));
    refused("mov.u32 %r3, word;\n add.s32 %r3, %r3, 4;\n ld.shared.v4.u32 {%r1, %r2, %r4, %r5}, [%r3];", "misaligned");
    gives_word("mov.u64 %rd3, narrow;\n st.local.u32 [%rd3+4], 3;\n ld.local.u32 %r7, [%rd3+4];", 3);
    for (const char* at : {"[%rd3]", "[%rd3+4]", "[%rd3+12]"})  // not aligned; half of it, all of it beyond the end
        refused("mov.u64 %rd3, narrow;\n st.local.v2.u32 " + string(at) + ", {1, 2};", "no local memory of 8 bytes");
    expect(run(kernel("mov.u64 %rd7, 1;\n ld.global.nc.u32 %r7, [%rd1];")).error.find("nobody wrote") != string::npos, "nc of nothing");
    expect(run(kernel("mov.u64 %rd7, 1;"), LANES, 48 << 10).error.find("bytes of shared memory") != string::npos, "shared memory");
}

}  // namespace

void threads() { together(), places(), products(), order(), fences(), constants(), unknown(), memory(); }

}  // namespace ptx_test
