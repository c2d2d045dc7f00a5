// The words of CUDA C++ that the kernels use, for a host compiler.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "memory.hpp"
#include "warp.hpp"

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
#define __launch_bounds__(...)

struct Dimension { unsigned x; };
#define threadIdx (Dimension{emulator::self().index})
#define blockIdx (Dimension{emulator::self().block->index})
#define blockDim (Dimension{emulator::block_size()})
#define gridDim (Dimension{emulator::grid_size()})

#define __syncthreads() emulator::block_barrier(SITE)
#define __syncwarp() emulator::warp_barrier(SITE, emulator::FULL)
#define __threadfence() emulator::fence()
#define __nanosleep(time) emulator::pause(SITE)
#define __shfl_sync(mask, value, lane) emulator::shuffled(SITE, mask, value, unsigned(lane))
#define __shfl_xor_sync(mask, value, bits) emulator::shuffled(SITE, mask, value, emulator::lane() ^ unsigned(bits))
#define __shfl_up_sync(mask, value, by) \
    emulator::shuffled(SITE, mask, value, emulator::lane() < unsigned(by) ? emulator::lane() : emulator::lane() - unsigned(by))
#define __ballot_sync(mask, predicate) emulator::ballot(SITE, mask, predicate)
#define __reduce_min_sync(mask, value) emulator::reduce(SITE, mask, value, emulator::smaller)
#define __reduce_max_sync(mask, value) emulator::reduce(SITE, mask, value, emulator::greater)

namespace emulator {

template <class T> T shuffled(Site site, unsigned mask, T value, unsigned from) {
    static_assert(sizeof(T) <= 8, "a shuffle moves 4 or 8 bytes");
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(T));
    bits = shuffle(site, mask, bits, from);
    std::memcpy(&value, &bits, sizeof(T));
    return value;
}

inline unsigned smaller(unsigned a, unsigned b) { return std::min(a, b); }
inline unsigned greater(unsigned a, unsigned b) { return std::max(a, b); }

template <class T, class Change> T atomic(Pointer<T> at, Change change) {
    static_assert(std::is_integral_v<T>, "sums of floats by atomics have no fixed order");
    return at.element().change(change);
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
inline int load_now(OUT(int) from) { return from.element().watch(); }
inline void prefetch(IN(float)) {}
inline int again(int number) { return number; }
inline unsigned load_recent(OUT(unsigned) from) { return from.element().load(true); }

inline float to_tf32(float x) { return __uint_as_float(emulator::rounded_to_tf32(x)); }
#define multiply_add_tf32(sums, a, b) emulator::multiply_add(SITE, sums, a, b)
