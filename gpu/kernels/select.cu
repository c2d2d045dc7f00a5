// Stage select, fast: the TOP_K best sub-keys of each half, and the TOP_K best pairs.      SEL-1 ... SEL-4, SCR-1, SCR-2
//
//   x          epsilon + |q - K_i|^2 of the sub-keys that can win (dot product: q . K_i), from the differences, lane order
//   half       the TOP_K smallest x (largest dot product), equal x by index
//   pair       merit x0 x1, exact in f64, smallest first (dot product: x0 + x1, largest first), equal merit by ranks
//   slot       i SUB_KEYS + j
//
// Which can win: ranking is that of score.cu with the norm added. Let t be the TOP_K-th smallest and e a bound of
// |ranking - exact|. Every sub-key whose ranking exceeds t + 3 e + 2 c (epsilon + |q|^2 + t + e), c = gamma(HALF_DIM + 8), has a
// larger x than each of TOP_K others, after all rounding: x of the others is at most (epsilon + |q|^2 + t + e)(1 + c), its own at
// least (epsilon + |q|^2 + ranking - e)(1 - c). (Dot product: t + 5 e, where e bounds the error of either sum.) The rest, mostly
// TOP_K to TOP_K + 2 of them, are computed and ordered. Where numbers are so large that the bound itself may overflow, are not
// finite, or (dot product) so small that their squares vanish, all are. So the result is that of simple/select.cu bit for bit,
// whatever score_rank rounds to.
//
// e = c max |K|^2 + 2 r |q| max |K|, r = c. With tensor cores r = 2^-10 + (HALF_DIM + 8) 2^-22: both factors rounded to 11 bits,
// sums cut to 24; then more sub-keys are computed.
//
// The order by x, not by -ln x, is finer than SEL-1's: rounding of the logarithm makes ties that x does not have, and NUM-6
// leaves those open. The same holds for merits.
//
// Shapes     queries, sub_keys, norms, ranking as score.cu; half_indices, half_values (x) [rows, HEADS, 2, TOP_K];
//            ranks (32 a + b), merits (f64), slots [rows, HEADS, TOP_K]
// Precision  x in f32, merits in f64: products of two f32 are exact
// Ties       half: lower index; pair: lower rank in half 0, then in half 1
// Grid       8 warps per block, one warp per (row, head); lane l of a warp holds ranking values l, l + 32, ...; then candidate
//            l of the half; then candidate pair l
// Limits     SUB_KEYS <= 2048 (64 registers of ranking values per lane), TOP_K <= 32 (one lane per rank)
//
// Departures from the reference
//   1. Only (a+1)(b+1) <= TOP_K pairs are looked at: SEL-4.
//   2. No half or pair score is computed: merits order alike, and weights follow from merits (read.cu).

#define LANE_VALUES ((SUB_KEYS + 31) / 32)
#define QUADS ((HALF_DIM + 127) / 128)

// Bits that order as the number does.
DEVICE unsigned ordered_bits(float x) {
    const unsigned bits = __float_as_uint(x);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
DEVICE float from_ordered_bits(unsigned bits) {
    return __uint_as_float(bits & 0x80000000u ? bits & 0x7fffffffu : ~bits);
}

// The count-th smallest of all lanes' values.
DEVICE float smallest(const float* values, int count) {
    unsigned floor = 0;
    for (int found = 0;;) {
        unsigned mine = 0xffffffffu;
#pragma unroll
        for (int j = 0; j < LANE_VALUES; j++) {
            const unsigned bits = ordered_bits(values[j]);
            if (bits > floor && bits < mine) mine = bits;
        }
        floor = __reduce_min_sync(FULL_WARP, mine);
        if (floor == 0xffffffffu) return from_ordered_bits(floor);
#pragma unroll
        for (int j = 0; j < LANE_VALUES; j++)
            found += __popc(__ballot_sync(FULL_WARP, ordered_bits(values[j]) == floor));
        if (found >= count) return from_ordered_bits(floor);
    }
}

// Ranking values above the result cannot win; see above. NaN where that is not certain.
DEVICE float cutoff(float kth, float query_norm, float key_norm) {
    if (!(query_norm < 1e37f && key_norm < 1e37f)) return __uint_as_float(0x7fc00000u);
    const float c = 1.05f * (float)(HALF_DIM + 8) * 5.9604645e-8f;
    const float product = sqrtf(query_norm * 1.05f) * sqrtf(key_norm * 1.05f);
    const float underflow = (float)(HALF_DIM + 8) * 2.4e-38f;
    // With tensor cores numbers are rounded to 11 bits, sums are cut to 24 bits, and tiny numbers may count as 0.
    const float r = TENSOR ? 1.05f * (1.0f / 1024.0f + (float)(HALF_DIM + 8) / 4194304.0f) : c;
    const float lost = TENSOR ? 2.0f * underflow * (1.0f + sqrtf(query_norm) + sqrtf(key_norm)) : underflow;
    // The squares of tiny numbers are 0, which says nothing of their products.
    if (DOT_PRODUCT && !(query_norm > 1e-30f && key_norm > 1e-30f)) return __uint_as_float(0x7fc00000u);
    if (DOT_PRODUCT) return kth + 5.05f * r * product + 4.0f * lost;
    const float e = c * key_norm + 2.0f * r * product + lost;
    const float reached = fmaxf(query_norm * 1.05f + kth + e, 0.0f);
    return kth + 3.05f * e + 2.05f * c * ((float)EPSILON + reached);
}

#define TOGETHER 4

// x of the warp's query half and TOGETHER sub-keys, whose loads and sums do not wait for each other.
DEVICE void distances(const float4* query, IN(float) sub_keys, const Index* keys, float* x) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int t = 0; t < TOGETHER; t++) x[t] = 0.0f;
#pragma unroll
    for (int i = 0; i < QUADS; i++) {
        const float4 q = query[i];
#pragma unroll
        for (int t = 0; t < TOGETHER; t++) {
            const float4 k = four_of(sub_keys, keys[t], true, i * 128 + lane * 4);
            const float a = q.x - k.x, b = q.y - k.y, c = q.z - k.z, d = q.w - k.w;
            x[t] = DOT_PRODUCT ? fmaf(q.x, k.x, x[t]) : fmaf(a, a, x[t]);
            x[t] = DOT_PRODUCT ? fmaf(q.y, k.y, x[t]) : fmaf(b, b, x[t]);
            x[t] = DOT_PRODUCT ? fmaf(q.z, k.z, x[t]) : fmaf(c, c, x[t]);
            x[t] = DOT_PRODUCT ? fmaf(q.w, k.w, x[t]) : fmaf(d, d, x[t]);
        }
    }
#pragma unroll
    for (int t = 0; t < TOGETHER; t++) {
        const float sum = warp_sum(x[t]);
        x[t] = DOT_PRODUCT ? sum : (float)EPSILON + sum;
    }
}

// A half's best, one per lane: x and sub-key of rank l in lane l.
struct Best {
    float x;
    int key;
};

// The sub-keys of the first lanes, ascending and after all that came before, find their places. Whether all x are finite.
DEVICE bool admit(Best& best, const float4* query, IN(float) sub_keys, int half, int mine, int count) {
    const int lane = threadIdx.x % 32;
    bool finite = true;
#pragma unroll 1
    for (int first = 0; first < count; first += TOGETHER) {
        Index keys[TOGETHER];
        float x[TOGETHER];
#pragma unroll
        for (int t = 0; t < TOGETHER; t++)
            keys[t] = (Index)half * SUB_KEYS + __shfl_sync(FULL_WARP, mine, min(first + t, count - 1));
        distances(query, sub_keys, keys, x);
#pragma unroll
        for (int t = 0; t < TOGETHER; t++) {
            if (first + t >= count) continue;
            finite &= isfinite(x[t]);
            // An equal one that is already there stays in front.
            const bool ahead = DOT_PRODUCT ? best.x >= x[t] : best.x <= x[t];
            const int place = __popc(__ballot_sync(FULL_WARP, best.key < SUB_KEYS && ahead));
            const float shifted_x = __shfl_up_sync(FULL_WARP, best.x, 1);
            const int shifted_key = __shfl_up_sync(FULL_WARP, best.key, 1);
            if (lane > place) best.x = shifted_x, best.key = shifted_key;
            if (lane == place) best.x = x[t], best.key = (int)(keys[t] - (Index)half * SUB_KEYS);
        }
    }
    return finite;
}

DEVICE Best best_of_half(OUT(int) flag, IN(float) queries, IN(float) sub_keys, IN(float) norms, IN(float) ranking,
                         int row, int half) {
    const int lane = threadIdx.x % 32;
    const Index query = (Index)row * (HEADS * 2) + half;
    float values[LANE_VALUES];
    float key_norm = 0.0f;
    bool finite = true;
#pragma unroll
    for (int j = 0; j < LANE_VALUES; j++) {
        const int key = j * 32 + lane;
        const bool exists = key < SUB_KEYS;
        const float norm = exists ? norms[half * SUB_KEYS + key] : 0.0f;
        const float product = exists ? ranking[query * SUB_KEYS + key] : __uint_as_float(0x7f800000u);
        values[j] = DOT_PRODUCT ? product : norm + product;
        finite &= isfinite(norm);
        key_norm = fmaxf(key_norm, norm);
    }
    key_norm = __uint_as_float(__reduce_max_sync(FULL_WARP, __float_as_uint(key_norm)));
    float4 q[QUADS];
    float query_norm = 0.0f;
#pragma unroll
    for (int i = 0; i < QUADS; i++) {
        q[i] = four_of(queries, query, true, i * 128 + lane * 4);
        query_norm = fmaf(q[i].x, q[i].x, query_norm), query_norm = fmaf(q[i].y, q[i].y, query_norm);
        query_norm = fmaf(q[i].z, q[i].z, query_norm), query_norm = fmaf(q[i].w, q[i].w, query_norm);
    }
    query_norm = warp_sum(query_norm);
    const bool all = __ballot_sync(FULL_WARP, !finite) != 0 || !(query_norm < 1e37f && key_norm < 1e37f);
    const float highest = all ? 0.0f : cutoff(smallest(values, TOP_K), query_norm, key_norm);

    unsigned long long can_win = 0;
#pragma unroll
    for (int j = 0; j < LANE_VALUES; j++)
        if (j * 32 + lane < SUB_KEYS && (all || !(values[j] > highest))) can_win |= 1ull << j;

    const float worst = __uint_as_float(0x7f800000u);
    Best best = {DOT_PRODUCT ? -worst : worst, SUB_KEYS};
    bool finite_x = true;
    int mine = 0, waiting = 0;  // sub-keys that await their distance: the i-th in lane i, ascending
#pragma unroll 1
    for (int j = 0; j < LANE_VALUES; j++) {
        unsigned left = __ballot_sync(FULL_WARP, (int)(can_win >> j & 1));
        while (left != 0) {
            const int taken = min(__popc(left), 32 - waiting);
            for (int i = 0; i < taken; i++, left &= left - 1)
                if (lane == waiting + i) mine = j * 32 + __ffs((int)left) - 1;
            waiting += taken;
            if (waiting < 32) break;
            finite_x &= admit(best, q, sub_keys, half, mine, waiting);
            waiting = 0;
        }
    }
    finite_x &= admit(best, q, sub_keys, half, mine, waiting);
    if (!finite_x && lane == 0) raise(flag, FLAG_HALF_SCORES);
    best.key = min(best.key, SUB_KEYS - 1);
    return best;
}

// Ranks (a, b) of candidate pair number c, in the order of a, then b.
DEVICE int pair_ranks(int c) {
    int a = 0;
    while (c >= TOP_K / (a + 1)) c -= TOP_K / (a + 1), a++;
    return a * 32 + c;
}

// What pairs are ordered by, smallest first. A sum that is not a number comes last: the run has failed, the order stays one.
DEVICE double merit(float x0, float x1) {
    const double value = DOT_PRODUCT ? -((double)x0 + (double)x1) : (double)x0 * (double)x1;
    return value == value ? value : 1e308;
}

// The warp selects for one row and head.
DEVICE void select_unit(int unit, OUT(int) flag, IN(float) queries, IN(float) sub_keys, IN(float) norms, IN(float) ranking,
                        OUT(int) half_indices, OUT(float) half_values, OUT(int) ranks, OUT(double) merits, OUT(int) slots) {
    const int lane = threadIdx.x % 32;
    const int row = unit / HEADS, head = unit % HEADS;
    const Best first = best_of_half(flag, queries, sub_keys, norms, ranking, row, head * 2);
    const Best second = best_of_half(flag, queries, sub_keys, norms, ranking, row, head * 2 + 1);
    if (lane < TOP_K) {
        const Index at = (Index)unit * 2 * TOP_K + lane;
        half_indices[at] = first.key, half_values[at] = first.x;
        half_indices[at + TOP_K] = second.key, half_values[at + TOP_K] = second.x;
    }
    for (int group = 0; group < PAIRS; group += 32) {
        const bool exists = group + lane < PAIRS;
        const int mine = pair_ranks(exists ? group + lane : 0);
        const float x0 = __shfl_sync(FULL_WARP, first.x, mine / 32), x1 = __shfl_sync(FULL_WARP, second.x, mine % 32);
        const int i = __shfl_sync(FULL_WARP, first.key, mine / 32), j = __shfl_sync(FULL_WARP, second.key, mine % 32);
        const double my_merit = merit(x0, x1);
        int place = 0;
        for (int c = 0; c < PAIRS; c++) {
            const int other = pair_ranks(c);
            const double its = merit(__shfl_sync(FULL_WARP, first.x, other / 32), __shfl_sync(FULL_WARP, second.x, other % 32));
            place += its < my_merit || (its == my_merit && c < group + lane);
        }
        if (exists && place < TOP_K) {
            const Index at = (Index)unit * TOP_K + place;
            ranks[at] = mine, merits[at] = my_merit, slots[at] = i * SUB_KEYS + j;
            if (!isfinite((float)my_merit) && DOT_PRODUCT) raise(flag, FLAG_PAIR_SCORES);
        }
    }
}

KERNEL void __launch_bounds__(256, 2)
select_best(OUT(int) flag, IN(float) queries, IN(float) sub_keys, IN(float) norms, IN(float) ranking,
            OUT(int) half_indices, OUT(float) half_values, OUT(int) ranks, OUT(double) merits, OUT(int) slots, int rows) {
    const int unit = (int)(blockIdx.x * 8 + threadIdx.x / 32);
    if (unit >= rows * HEADS) return;
    select_unit(unit, flag, queries, sub_keys, norms, ranking, half_indices, half_values, ranks, merits, slots);
}
