// The words of CUDA C++ that the kernels use, for a host compiler.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "memory.hpp"

#define EMULATOR 1
#define SITE (emulator::Site{__FILE__, __LINE__})

// What kernels/prelude.cuh defines for the device.
#define KERNEL static
#define DEVICE static inline
#define IN(type) emulator::Pointer<const type>
#define OUT(type) emulator::Pointer<type>
#define SHARED(type, name, count) \
    emulator::Pointer<type> name(&emulator::shared_array(#name, size_t(count) * sizeof(type)))
#define DYNAMIC_SHARED(type, name) emulator::Pointer<type> name(&emulator::dynamic_shared_array(#name))
#define SPIN_PAUSE() emulator::pause(SITE)
#define GRID_BARRIER_PASSED() emulator::passed_grid_barrier()
#define __launch_bounds__(...)

struct Dimension { unsigned x; };
#define threadIdx (Dimension{emulator::self().index})
#define blockIdx (Dimension{emulator::self().block->index})
#define blockDim (Dimension{emulator::block_size()})
#define gridDim (Dimension{emulator::grid_size()})

#define __syncthreads() emulator::block_barrier(SITE)
#define __syncwarp() emulator::warp_barrier(SITE, emulator::FULL)
#define __threadfence() ((void)0)
#define __shfl_sync(mask, value, lane) emulator::shuffle(SITE, mask, value, unsigned(lane))
#define __shfl_xor_sync(mask, value, bits) emulator::shuffle(SITE, mask, value, emulator::lane() ^ unsigned(bits))
#define __shfl_up_sync(mask, value, by) \
    emulator::shuffle(SITE, mask, value, emulator::lane() < unsigned(by) ? emulator::lane() : emulator::lane() - unsigned(by))
#define __ballot_sync(mask, predicate) emulator::ballot(SITE, mask, predicate)
#define __reduce_min_sync(mask, value) emulator::reduce_min(SITE, mask, value)
#define __reduce_max_sync(mask, value) emulator::reduce_max(SITE, mask, value)

namespace emulator {

inline unsigned lane() { return self().index % WARP; }

template <class T> T shuffle(Site site, unsigned mask, T value, unsigned from) {
    static_assert(sizeof(T) <= 8, "a shuffle moves 4 or 8 bytes");
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(T));
    const uint64_t* brought = warp_meet(site, mask, bits);
    if (!(mask >> (from % WARP) & 1))
        fault("%s:%d reads lane %u, which is not in the mask %08x", site.file, site.line, from % WARP, mask);
    std::memcpy(&value, &brought[from % WARP], sizeof(T));
    return value;
}

inline unsigned ballot(Site site, unsigned mask, bool predicate) {
    const uint64_t* brought = warp_meet(site, mask, predicate);
    unsigned bits = 0;
    for (unsigned i = 0; i < WARP; i++)
        if ((mask >> i & 1) && brought[i]) bits |= 1u << i;
    return bits;
}

template <class Pick> unsigned reduce(Site site, unsigned mask, unsigned value, Pick pick) {
    const uint64_t* brought = warp_meet(site, mask, value);
    for (unsigned i = 0; i < WARP; i++)
        if (mask >> i & 1) value = pick(value, unsigned(brought[i]));
    return value;
}
inline unsigned reduce_min(Site site, unsigned mask, unsigned value) {
    return reduce(site, mask, value, [](unsigned a, unsigned b) { return std::min(a, b); });
}
inline unsigned reduce_max(Site site, unsigned mask, unsigned value) {
    return reduce(site, mask, value, [](unsigned a, unsigned b) { return std::max(a, b); });
}

// An integer read-modify-write; the fiber is not switched inside.
template <class T, class Change> T atomic(Pointer<T> at, Change change) {
    static_assert(std::is_integral_v<T>, "sums of floats by atomics have no fixed order");
    T old = at.element().load(true);
    at.element().store(change(old), true);
    return old;
}

}  // namespace emulator

// On a device these take a pointer to the element, as here.
template <class T> T atomicAdd(emulator::Pointer<T> at, std::common_type_t<T> by) {
    return emulator::atomic(at, [&](T old) { return T(old + by); });
}
template <class T> T atomicMin(emulator::Pointer<T> at, std::common_type_t<T> by) {
    return emulator::atomic(at, [&](T old) { return std::min(old, by); });
}
template <class T> T atomicMax(emulator::Pointer<T> at, std::common_type_t<T> by) {
    return emulator::atomic(at, [&](T old) { return std::max(old, by); });
}
template <class T> T atomicOr(emulator::Pointer<T> at, std::common_type_t<T> by) {
    return emulator::atomic(at, [&](T old) { return T(old | by); });
}
template <class T> T atomicExch(emulator::Pointer<T> at, std::common_type_t<T> by) {
    return emulator::atomic(at, [&](T) { return by; });
}

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __float_as_uint(float x) { unsigned bits; std::memcpy(&bits, &x, 4); return bits; }
inline float __uint_as_float(unsigned bits) { float x; std::memcpy(&x, &bits, 4); return x; }
inline int __double2int_rn(double x) { return int(std::nearbyint(x)); }
using std::exp, std::fabs, std::fmin, std::isfinite, std::log, std::max, std::min, std::sqrt;

struct float4 { float x, y, z, w; };
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

// 16 bytes at once: the element must be a multiple of 4.
inline float4 load4(IN(float) from, ptrdiff_t at) {
    if ((from.word + at) % 4 != 0) emulator::fault("misaligned load of 16 bytes at word %td", from.word + at);
    return {from[at], from[at + 1], from[at + 2], from[at + 3]};
}
inline void store4(OUT(float) to, ptrdiff_t at, float4 value) {
    if ((to.word + at) % 4 != 0) emulator::fault("misaligned store of 16 bytes at word %td", to.word + at);
    to[at] = value.x, to[at + 1] = value.y, to[at + 2] = value.z, to[at + 3] = value.w;
}
inline int load_now(OUT(int) from) { return from.element().load(true); }
inline void prefetch(IN(float)) {}
inline int again(int number) { return number; }
inline unsigned load_recent(OUT(unsigned) from) { return from.element().load(true); }

inline float to_tf32(float x) {
    if (!std::isfinite(x)) return x;
    return __uint_as_float((__float_as_uint(x) + 0x1000u) & ~0x1fffu);
}

namespace emulator {

// mma.m16n8k8 with TF32: lane 4 g + t brings a[0..3] = A(g, t), A(g + 8, t), A(g, t + 4), A(g + 8, t + 4) and b[0..1] = B(t, g),
// B(t + 4, g), and gets D(g, 2 t), D(g, 2 t + 1), D(g + 8, 2 t), D(g + 8, 2 t + 1).
inline void multiply_add(Site site, float* sums, const unsigned* a, const unsigned* b) {
    uint64_t brought[3][WARP];
    const uint64_t mine[3] = {a[0] | uint64_t(a[1]) << 32, a[2] | uint64_t(a[3]) << 32, b[0] | uint64_t(b[1]) << 32};
    for (int part = 0; part < 3; part++) std::copy_n(warp_meet(site, FULL, mine[part]), WARP, brought[part]);
    const auto number = [&](int part, int from, bool high) {
        const float x = __uint_as_float(unsigned(high ? brought[part][from] >> 32 : brought[part][from]));
        if (std::isfinite(x) && to_tf32(x) != x) fault("%s:%d: a number of a matrix product was not rounded", site.file, site.line);
        return x;
    };
    const int g = int(lane()) / 4, t = int(lane()) % 4;
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 8; k++)
            sums[i] += number(k / 4, 4 * g + k % 4, i >= 2) * number(2, 4 * (2 * t + i % 2) + k % 4, k >= 4);
}

}  // namespace emulator

#define multiply_add_tf32(sums, a, b) emulator::multiply_add(SITE, sums, a, b)
