// What the lanes of a warp do together, in CUDA C++ and in PTX.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>

#include "machine.hpp"

namespace emulator {

inline unsigned lane() { return self().index % WARP; }

// What another lane brought, in its bits.
inline uint64_t shuffle(Site site, unsigned mask, uint64_t bits, unsigned from) {
    const uint64_t* brought = warp_meet(site, mask, bits);
    if (!(mask >> (from % WARP) & 1))
        fault("%s:%d reads lane %u, which is not in the mask %08x", site.file, site.line, from % WARP, mask);
    return brought[from % WARP];
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

inline unsigned rounded_to_tf32(float x) {
    unsigned word;
    std::memcpy(&word, &x, 4);
    return std::isfinite(x) ? (word + 0x1000u) & ~0x1fffu : word;
}

// mma.m16n8k8 with TF32: lane 4 g + t brings a[0..3] = A(g, t), A(g + 8, t), A(g, t + 4), A(g + 8, t + 4) and b[0..1] = B(t, g),
// B(t + 4, g), and gets D(g, 2 t), D(g, 2 t + 1), D(g + 8, 2 t), D(g + 8, 2 t + 1). Factors are rounded before: a device cuts their
// lowest 13 bits.
inline void multiply_add(Site site, float* sums, const unsigned* a, const unsigned* b) {
    uint64_t brought[3][WARP];
    const uint64_t mine[3] = {a[0] | uint64_t(a[1]) << 32, a[2] | uint64_t(a[3]) << 32, b[0] | uint64_t(b[1]) << 32};
    for (int part = 0; part < 3; part++) std::copy_n(warp_meet(site, FULL, mine[part]), WARP, brought[part]);
    const auto number = [&](int part, int from, bool high) {
        const unsigned word = unsigned(high ? brought[part][from] >> 32 : brought[part][from]);
        float x;
        std::memcpy(&x, &word, 4);
        if ((word & 0x1fffu) && std::isfinite(x))
            fault("%s:%d: a factor of a matrix product was not rounded", site.file, site.line);
        return x;
    };
    const int g = int(lane()) / 4, t = int(lane()) % 4;
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 8; k++)
            sums[i] += number(k / 4, 4 * g + k % 4, i >= 2) * number(2, 4 * (2 * t + i % 2) + k % 4, k >= 4);
}

}  // namespace emulator
