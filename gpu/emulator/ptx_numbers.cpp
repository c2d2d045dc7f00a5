// Instructions of PTX that compute numbers from numbers.
#include <algorithm>
#include <cmath>
#include <limits>

#include "ptx_lane.hpp"
#include "warp.hpp"

namespace ptx {
namespace {

using std::string;

template <class T> struct Wide;
template <> struct Wide<int16_t> { using Type = int32_t; };
template <> struct Wide<uint16_t> { using Type = uint32_t; };
template <> struct Wide<int32_t> { using Type = int64_t; };
template <> struct Wide<uint32_t> { using Type = uint64_t; };
template <> struct Wide<int64_t> { using Type = __int128; };
template <> struct Wide<uint64_t> { using Type = unsigned __int128; };

// An action that computes its first operand from the others.
#define UNARY(T, R, expression) \
    [](Lane& l, const Instruction& i) { const T a = l.get<T>(i.at[1]); l.set<R>(i.at[0], R(expression)); }
#define BINARY(T, R, expression) \
    [](Lane& l, const Instruction& i) { \
        const T a = l.get<T>(i.at[1]), b = l.get<T>(i.at[2]); \
        l.set<R>(i.at[0], R(expression)); \
    }
#define TERNARY(T, C, R, expression) \
    [](Lane& l, const Instruction& i) { \
        const T a = l.get<T>(i.at[1]), b = l.get<T>(i.at[2]); \
        const C c = l.get<C>(i.at[3]); \
        l.set<R>(i.at[0], R(expression)); \
    }

template <class T> void compare(Table& t, const string& type) {
#define COMPARE(name, expression) \
    t["setp." name "." + type] = BINARY(T, bool, expression); \
    t["setp." name ".and." + type] = TERNARY(T, bool, bool, (expression) && c); \
    t["setp." name ".or." + type] = TERNARY(T, bool, bool, (expression) || c);
    COMPARE("eq", a == b)
    COMPARE("ne", a != b && a == a && b == b)
    COMPARE("lt", a < b)
    COMPARE("le", a <= b)
    COMPARE("gt", a > b)
    COMPARE("ge", a >= b)
    if constexpr (std::is_floating_point_v<T>) {
        COMPARE("equ", !(a < b || a > b))
        COMPARE("neu", !(a == b))
        COMPARE("ltu", !(a >= b))
        COMPARE("leu", !(a > b))
        COMPARE("gtu", !(a <= b))
        COMPARE("geu", !(a < b))
        COMPARE("num", a == a && b == b)
        COMPARE("nan", !(a == a && b == b))
    }
#undef COMPARE
}

template <class T> void bits(Table& t, const string& size) {
    t["and.b" + size] = BINARY(T, T, a & b);
    t["or.b" + size] = BINARY(T, T, a | b);
    t["xor.b" + size] = BINARY(T, T, a ^ b);
    t["not.b" + size] = UNARY(T, T, ~a);
    // Shifts are by 32 bits, of any size; beyond the number nothing is left.
    t["shl.b" + size] = [](Lane& l, const Instruction& i) {
        const uint32_t by = l.get<uint32_t>(i.at[2]);
        l.set<T>(i.at[0], by >= 8 * sizeof(T) ? T(0) : T(l.get<T>(i.at[1]) << by));
    };
    t["popc.b" + size] = UNARY(T, uint32_t, __builtin_popcountll(a));
    t["clz.b" + size] = UNARY(T, uint32_t, a == 0 ? 8 * sizeof(T) : __builtin_clzll(a) - (64 - 8 * sizeof(T)));
    t["brev.b" + size] = [](Lane& l, const Instruction& i) {
        const T a = l.get<T>(i.at[1]);
        T reversed = 0;
        for (unsigned bit = 0; bit < 8 * sizeof(T); bit++) reversed |= T(a >> bit & 1) << (8 * sizeof(T) - 1 - bit);
        l.set<T>(i.at[0], reversed);
    };
    t["bfi.b" + size] = [](Lane& l, const Instruction& i) {
        const T a = l.get<T>(i.at[1]);
        T b = l.get<T>(i.at[2]);
        const uint32_t from = l.get<uint32_t>(i.at[3]) & 255, length = l.get<uint32_t>(i.at[4]) & 255;
        for (uint32_t bit = 0; bit < length && from + bit < 8 * sizeof(T); bit++)
            b = T((b & ~(T(1) << (from + bit))) | (T(a >> bit & 1) << (from + bit)));
        l.set<T>(i.at[0], b);
    };
    compare<T>(t, "b" + size);
}

template <class T> T shifted_right(T a, uint32_t by) {
    constexpr uint32_t most = 8 * sizeof(T) - 1;
    return by <= most ? T(a >> by) : T(a >> most >> 1);
}

template <class T> void integers(Table& t, const string& type) {
    using U = std::make_unsigned_t<T>;
    using W = typename Wide<T>::Type;
    t["add." + type] = BINARY(U, U, a + b);
    t["sub." + type] = BINARY(U, U, a - b);
    t["neg." + type] = UNARY(U, U, U(0) - a);
    t["mul.lo." + type] = BINARY(U, U, typename Wide<U>::Type(a) * b);
    t["mul.hi." + type] = BINARY(T, T, W(a) * W(b) >> (8 * sizeof(T)));
    if constexpr (sizeof(T) < 8) t["mul.wide." + type] = BINARY(T, W, W(a) * W(b));
    t["mad.lo." + type] = TERNARY(U, U, U, typename Wide<U>::Type(a) * b + c);
    // What a division by 0 gives is not specified: none is sent.
    t["div." + type] = BINARY(T, T, b == 0 ? (emulator::fault("a division by 0"), T(0)) : b == T(-1) && a < 0 ? T(U(0) - U(a)) : T(a / b));
    t["rem." + type] = BINARY(T, T, b == 0 ? (emulator::fault("a division by 0"), T(0)) : b == T(-1) && a < 0 ? T(0) : T(a % b));
    t["min." + type] = BINARY(T, T, a < b ? a : b);
    t["max." + type] = BINARY(T, T, a > b ? a : b);
    t["abs." + type] = UNARY(T, T, a < 0 ? U(0) - U(a) : U(a));
    t["shr." + type] = [](Lane& l, const Instruction& i) {
        l.set<T>(i.at[0], shifted_right(l.get<T>(i.at[1]), l.get<uint32_t>(i.at[2])));
    };
    // The distance of the highest bit from the left end.
    if (std::is_unsigned_v<T>)
        t["bfind.shiftamt." + type] = UNARY(T, uint32_t, a == 0 ? ~0u : unsigned(__builtin_clzll(a)) - (64 - 8 * sizeof(T)));
    compare<T>(t, type);
}

// The number of two that is one; -0 is below +0.
template <class T> T smaller(T a, T b) { return a != a ? b : b != b ? a : a == b ? (std::signbit(a) ? a : b) : std::min(a, b); }
template <class T> T greater(T a, T b) { return a != a ? b : b != b ? a : a == b ? (std::signbit(a) ? b : a) : std::max(a, b); }

// Which NaN an instruction of f32 gives is open; a device gives this one, the host another.
template <class T> T settled(T x) {
    if (sizeof(T) == 4 && x != x) std::memcpy(&x, "\xff\xff\xff\x7f", 4);
    return x;
}

template <class T> void reals(Table& t, const string& type) {
    t["add.rn." + type] = BINARY(T, T, settled(a + b));
    t["sub.rn." + type] = BINARY(T, T, settled(a - b));
    t["mul.rn." + type] = BINARY(T, T, settled(a * b));
    t["div.rn." + type] = BINARY(T, T, settled(a / b));
    t["fma.rn." + type] = TERNARY(T, T, T, settled(std::fma(a, b, c)));
    t["sqrt.rn." + type] = UNARY(T, T, settled(std::sqrt(a)));
    t["rcp.rn." + type] = UNARY(T, T, settled(T(1) / a));
    t["neg." + type] = UNARY(T, T, -a);
    t["abs." + type] = UNARY(T, T, std::fabs(a));
    t["min." + type] = BINARY(T, T, settled(smaller(a, b)));
    t["max." + type] = BINARY(T, T, settled(greater(a, b)));
    compare<T>(t, type);
}

// The upper halves of a number and of its reciprocal: as much as a device computes at once.
double rough_reciprocal(double x) {
    const auto upper = [](double y) {
        uint64_t whole;
        std::memcpy(&whole, &y, 8);
        whole &= ~uint64_t(0xffffffff);
        std::memcpy(&y, &whole, 8);
        return std::fabs(y) < std::numeric_limits<double>::min() ? std::copysign(0.0, y) : y;
    };
    return upper(1.0 / upper(x));
}

template <class T> void moves(Table& t, const string& type) {
    t["mov." + type] = UNARY(T, T, a);
    t["selp." + type] = TERNARY(T, bool, T, c ? a : b);
}

template <class From, class To> void widen(Table& t, const string& from, const string& to) {
    t["cvt." + to + "." + from] = UNARY(From, To, a);
}

void conversions(Table& t) {
    widen<int32_t, int64_t>(t, "s32", "s64");
    widen<uint32_t, uint64_t>(t, "u32", "u64");
    widen<uint64_t, uint32_t>(t, "u64", "u32");
    widen<int64_t, int32_t>(t, "s64", "s32");
    widen<uint32_t, uint16_t>(t, "u32", "u16");
    widen<uint16_t, uint32_t>(t, "u16", "u32");
    widen<int16_t, int32_t>(t, "s16", "s32");
    widen<uint16_t, uint64_t>(t, "u16", "u64");
    widen<uint64_t, uint16_t>(t, "u64", "u16");
    widen<float, double>(t, "f32", "f64");
    t["cvt.rn.f32.f64"] = UNARY(double, float, a);
    t["cvt.rn.f32.s32"] = UNARY(int32_t, float, a);
    t["cvt.rn.f32.u32"] = UNARY(uint32_t, float, a);
    t["cvt.rn.f64.s32"] = UNARY(int32_t, double, a);
    t["cvt.rn.f64.u32"] = UNARY(uint32_t, double, a);
    t["cvt.rn.f32.s64"] = UNARY(int64_t, float, a);
    t["cvt.rn.f64.s64"] = UNARY(int64_t, double, a);
    t["cvt.rna.tf32.f32"] = UNARY(float, uint32_t, emulator::rounded_to_tf32(a));
}

}  // namespace

void add_numbers(Table& t) {
    bits<uint16_t>(t, "16"), bits<uint32_t>(t, "32"), bits<uint64_t>(t, "64");
    integers<int16_t>(t, "s16"), integers<int32_t>(t, "s32"), integers<int64_t>(t, "s64");
    integers<uint16_t>(t, "u16"), integers<uint32_t>(t, "u32"), integers<uint64_t>(t, "u64");
    reals<float>(t, "f32"), reals<double>(t, "f64");
    t["rcp.approx.ftz.f64"] = UNARY(double, double, rough_reciprocal(a));
    t["and.pred"] = BINARY(bool, bool, a && b);
    t["or.pred"] = BINARY(bool, bool, a || b);
    t["xor.pred"] = BINARY(bool, bool, a != b);
    t["not.pred"] = UNARY(bool, bool, !a);
    moves<bool>(t, "pred");
    for (const char* kind : {"b", "u", "s"})
        moves<uint16_t>(t, kind + string("16")), moves<uint32_t>(t, kind + string("32")), moves<uint64_t>(t, kind + string("64"));
    moves<float>(t, "f32"), moves<double>(t, "f64");
    conversions(t);
}

}  // namespace ptx
