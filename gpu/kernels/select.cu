// Stage select, fast: the TOP_K best sub-keys of each half, and the TOP_K best pairs.      SEL-1 ... SEL-4, SCR-1, SCR-2
//
//   x          epsilon + |q - K_i|^2 of the sub-keys that can win (dot product: q . K_i), from the differences, lane order
//   half       the TOP_K smallest x (largest dot product), equal x by index
//   pair       merit x0 x1, exact in f64, smallest first (dot product: x0 + x1, largest first), equal merit by ranks
//   slot       i SUB_KEYS + j
//
// Which can win: ranking is that of score.cu with the norm added. Let t be the TOP_K-th smallest, or larger, and e a bound of
// |ranking - exact|. Every sub-key whose ranking exceeds t + 3 e + 2 c (epsilon + |q|^2 + t + e), c = gamma(HALF_DIM + 8), has a
// larger x than each of TOP_K others, after all rounding: x of the others is at most (epsilon + |q|^2 + t + e)(1 + c), its own at
// least (epsilon + |q|^2 + ranking - e)(1 - c). (Dot product: t + 5 e, where e bounds the error of either sum.) The rest, mostly
// TOP_K to TOP_K + 3 of them, are computed and ordered. Where numbers are so large that the bound itself may overflow, are not
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
// Grid       8 warps per block for 4 (row, head), one warp per half; lane l of a warp holds ranking values l, l + 32, ...; then
//            candidate l of the half; then one of the two warps candidate pair l
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

// A number that TOP_K of all lanes' values do not exceed, and few others.
DEVICE float nearly_smallest(const float* values) {
    if (TOP_K <= 8) {
        // The TOP_K-th smallest of the different ones among the lanes' smallest: at least that of all, and no more than a few are
        // between. NaN where there are fewer.
        float smallest = values[0];
#pragma unroll
        for (int j = 1; j < LANE_VALUES; j++) smallest = fminf(smallest, values[j]);
        unsigned mine = ordered_bits(smallest), least = 0;
#pragma unroll
        for (int found = 0; found < TOP_K; found++) {
            least = __reduce_min_sync(FULL_WARP, mine);
            if (mine == least) mine = 0xffffffffu;
        }
        return from_ordered_bits(least);
    }
    // The TOP_K-th smallest of the different values; what was found wraps around, beyond all that was not.
    unsigned from = 0;
#pragma unroll 1
    for (int found = 1;; found++) {
        unsigned mine = 0xffffffffu;
#pragma unroll
        for (int j = 0; j < LANE_VALUES; j++) mine = min(mine, ordered_bits(values[j]) - from);
        const unsigned least = __reduce_min_sync(FULL_WARP, mine);
        if (least >= 0u - from && from != 0) return __uint_as_float(0x7f800000u);
        if (found == TOP_K) return from_ordered_bits(from + least);
        from += least + 1;
        if (from == 0) return __uint_as_float(0x7f800000u);
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

#define TOGETHER (WALK ? 4 : 8)  // the walk has fewer registers left
#define MANY (WALK ? 12 : 16)

// Lane-order sums of TOGETHER numbers: that of number t from lane t 32 / TOGETHER on. Each step adds what warp_sum adds, where it
// is still wanted.
DEVICE float warp_sums(float* x) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int left = TOGETHER / 2, apart = 16; left > 0; left /= 2, apart /= 2)
#pragma unroll
        for (int t = 0; t < left; t++) {
            const bool upper = (lane & apart) != 0;
            const float wanted = upper ? x[t + left] : x[t], given = upper ? x[t] : x[t + left];
            x[t] = wanted + __shfl_xor_sync(FULL_WARP, given, apart);
        }
#pragma unroll
    for (int apart = 16 / TOGETHER; apart > 0; apart /= 2) x[0] += __shfl_xor_sync(FULL_WARP, x[0], apart);
    return x[0];
}

// x of the warp's query half and of the sub-keys that the first lanes hold, each in its lane.
DEVICE float distances(const float4* query, IN(float) sub_keys, int half, int key, int count) {
    const int lane = threadIdx.x % 32;
    float mine = 0.0f;
#pragma unroll 1
    for (int first = 0; first < count; first += TOGETHER) {
        int vectors[TOGETHER];
        float x[TOGETHER];
#pragma unroll
        for (int t = 0; t < TOGETHER; t++) {
            vectors[t] = half * SUB_KEYS + __shfl_sync(FULL_WARP, key, min(first + t, count - 1));
            x[t] = 0.0f;
        }
#pragma unroll
        for (int i = 0; i < QUADS; i++) {
            const float4 q = query[i];
            float4 k[TOGETHER];
#pragma unroll
            for (int t = 0; t < TOGETHER; t++) k[t] = four_of(sub_keys, vectors[t], true, i * 128 + lane * 4);
#pragma unroll
            for (int t = 0; t < TOGETHER; t++) {
                const float a = q.x - k[t].x, b = q.y - k[t].y, c = q.z - k[t].z, d = q.w - k[t].w;
                x[t] = DOT_PRODUCT ? fmaf(q.x, k[t].x, x[t]) : fmaf(a, a, x[t]);
                x[t] = DOT_PRODUCT ? fmaf(q.y, k[t].y, x[t]) : fmaf(b, b, x[t]);
                x[t] = DOT_PRODUCT ? fmaf(q.z, k[t].z, x[t]) : fmaf(c, c, x[t]);
                x[t] = DOT_PRODUCT ? fmaf(q.w, k[t].w, x[t]) : fmaf(d, d, x[t]);
            }
        }
        const float sum = __shfl_sync(FULL_WARP, warp_sums(x), (lane - first) * (32 / TOGETHER) & 31);
        if (lane >= first && lane < first + TOGETHER) mine = DOT_PRODUCT ? sum : (float)EPSILON + sum;
    }
    return mine;
}

// A half's best, one per lane: x and sub-key of rank l in lane l.
struct Best {
    float x;
    int key;
};

// Whether x at index i comes before y at index j.
DEVICE bool precedes(float x, int i, float y, int j) {
    return (DOT_PRODUCT ? x > y : x < y) || (x == y && i < j);
}

// The best of those of the first `held` lanes and of the sub-keys that the first `count` lanes hold, with their x.
DEVICE Best join(Best best, int held, float x, int key, int count) {
    const int lane = threadIdx.x % 32;
    int place = 0, best_place = lane;
#pragma unroll 4
    for (int c = 0; c < count; c++) {
        const float its = __shfl_sync(FULL_WARP, x, c);
        const int its_key = __shfl_sync(FULL_WARP, key, c);
        place += precedes(its, its_key, x, key);
        best_place += precedes(its, its_key, best.x, best.key);
    }
    for (int b = 0; b < held; b++) {
        const float its = __shfl_sync(FULL_WARP, best.x, b);
        place += precedes(its, __shfl_sync(FULL_WARP, best.key, b), x, key);
    }
    int from = 0;
    bool here = false, of_best = false;
#pragma unroll 4
    for (int c = 0; c < count; c++)
        if (__shfl_sync(FULL_WARP, place, c) == lane) from = c, here = true;
    for (int b = 0; b < held; b++)
        if (__shfl_sync(FULL_WARP, best_place, b) == lane) from = b, of_best = true;
    const Best new_one = {__shfl_sync(FULL_WARP, x, from), __shfl_sync(FULL_WARP, key, from)};
    const Best old_one = {__shfl_sync(FULL_WARP, best.x, from), __shfl_sync(FULL_WARP, best.key, from)};
    return of_best ? old_one : here ? new_one : Best{0.0f, 0};
}

// The number of the first bits of a warp, before this lane's.
DEVICE int bits_below(unsigned bits) { return __popc(bits & ((1u << (threadIdx.x % 32)) - 1)); }

// The warp finds the best of a half. waiting has room for a sub-key per lane.
DEVICE Best best_of_half(OUT(int) flag, IN(float) queries, IN(float) sub_keys, IN(float) norms, IN(float) ranking, int row,
                         int half, OUT(int) waiting) {
    const int lane = threadIdx.x % 32;
    const Index query = (Index)row * (HEADS * 2) + half;
    float4 q[QUADS];
#pragma unroll
    for (int i = 0; i < QUADS; i++) q[i] = four_of(queries, query, true, i * 128 + lane * 4);
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
    float query_norm = 0.0f;
#pragma unroll
    for (int i = 0; i < QUADS; i++) {
        query_norm = fmaf(q[i].x, q[i].x, query_norm), query_norm = fmaf(q[i].y, q[i].y, query_norm);
        query_norm = fmaf(q[i].z, q[i].z, query_norm), query_norm = fmaf(q[i].w, q[i].w, query_norm);
    }
    query_norm = warp_sum(query_norm);
    const bool all = __ballot_sync(FULL_WARP, !finite) != 0 || !(query_norm < 1e37f && key_norm < 1e37f);
    const float highest = all ? 0.0f : cutoff(nearly_smallest(values), query_norm, key_norm);

    // Sub-key 32 j + lane can win where bit j is set; the lanes' sub-keys come one lane after the other.
    unsigned long long can_win = 0;
#pragma unroll
    for (int j = 0; j < LANE_VALUES; j++)
        if (j * 32 + lane < SUB_KEYS && (all || !(values[j] > highest))) can_win |= 1ull << j;
    int before = __popcll(can_win);
#pragma unroll
    for (int apart = 1; apart < 32; apart *= 2) {
        const int its = __shfl_up_sync(FULL_WARP, before, apart);
        if (lane >= apart) before += its;
    }
    const int total = __shfl_sync(FULL_WARP, before, 31);
    before -= __popcll(can_win);

    Best best = {0.0f, 0};
    int held = 0;
    bool finite_x = true;
#pragma unroll 1
    for (int first = 0; first < total; first += 32) {
        int count = min(total - first, 32), place = before - first;
        __syncwarp();
        for (unsigned long long left = can_win; left != 0; left &= left - 1, place++)
            if (place >= 0 && place < 32) waiting[place] = (__ffsll((long long)left) - 1) * 32 + lane;
        __syncwarp();
        int key = lane < count ? (int)waiting[lane] : 0;
        if (TOP_K <= 8 && !all && total <= 32 && total > MANY) {
            // All that can win are here, so the TOP_K-th smallest is now known; that costs as much as two times TOGETHER distances.
            const float product = ranking[query * SUB_KEYS + key];
            const float value = DOT_PRODUCT ? product : norms[half * SUB_KEYS + key] + product;
            int rank = 0;
#pragma unroll 4
            for (int c = 0; c < count; c++) {
                const float its = __shfl_sync(FULL_WARP, value, c);
                rank += its < value || (its == value && c < lane);
            }
            const unsigned kth = __ballot_sync(FULL_WARP, lane < count && rank == TOP_K - 1);
            const float reached = cutoff(__shfl_sync(FULL_WARP, value, __ffs((int)kth) - 1), query_norm, key_norm);
            const bool stays = lane < count && !(value > reached);
            const unsigned staying = __ballot_sync(FULL_WARP, stays);
            __syncwarp();
            if (stays) waiting[bits_below(staying)] = key;
            __syncwarp();
            count = __popc(staying);
            key = lane < count ? (int)waiting[lane] : 0;
        }
        const float x = distances(q, sub_keys, half, key, count);
        finite_x &= lane >= count || isfinite(x);
        // What is no number has no order; as the last of all it leaves each place to one sub-key, so that a row names a slot once.
        best = join(best, held, x == x ? x : __uint_as_float(DOT_PRODUCT ? 0xff800000u : 0x7f800000u), key, count);
        held = min(held + count, 32);
    }
    if (!finite_x) raise(flag, FLAG_HALF_SCORES);
    return best;
}

// Ranks (a, b) of candidate pair number c, in the order of a, then b.
DEVICE int pair_ranks(int c) {
    int a = 0, first = 0, before = 0;
#pragma unroll
    for (int next = 0; next < TOP_K; next++) {
        if (c >= before) a = next, first = before;
        before += TOP_K / (next + 1);
    }
    return a * 32 + c - first;
}

// What pairs are ordered by, smallest first. A sum that is not a number comes last: the run has failed, the order stays one.
DEVICE double merit(float x0, float x1) {
    const double value = DOT_PRODUCT ? -((double)x0 + (double)x1) : (double)x0 * (double)x1;
    return value == value ? value : 1e308;
}

// The warp selects the best pairs of a row and head; x and keys hold the best of both halves.
DEVICE void select_pairs(int unit, OUT(int) flag, OUT(float) x, OUT(int) keys, OUT(int) ranks, OUT(double) merits, OUT(int) slots) {
    const int lane = threadIdx.x % 32;
    for (int group = 0; group < PAIRS; group += 32) {
        const bool exists = group + lane < PAIRS;
        const int mine = pair_ranks(min(group + lane, PAIRS - 1));
        const double my_merit = merit(x[mine / 32], x[32 + mine % 32]);
        int place = 0;
        for (int others = 0; others < PAIRS; others += 32) {
            const int other = pair_ranks(min(others + lane, PAIRS - 1));
            const double theirs = PAIRS <= 32 ? my_merit : merit(x[other / 32], x[32 + other % 32]);
#pragma unroll 4
            for (int c = 0; c < min(32, PAIRS - others); c++) {
                const double its = __shfl_sync(FULL_WARP, theirs, c);
                place += its < my_merit || (its == my_merit && others + c < group + lane);
            }
        }
        if (exists && place < TOP_K) {
            const Index at = (Index)unit * TOP_K + place;
            ranks[at] = mine, merits[at] = my_merit, slots[at] = keys[mine / 32] * SUB_KEYS + keys[32 + mine % 32];
            if (!isfinite((float)my_merit) && DOT_PRODUCT) raise(flag, FLAG_PAIR_SCORES);
        }
    }
}

// A block of 8 warps selects for rows and heads from `first` up to `end`, four at a time: two warps find the best of the halves,
// one the pairs. All threads must come; x and keys have room for 256.
DEVICE void select_units(int first, int end, OUT(float) x, OUT(int) keys, OUT(int) flag, IN(float) queries, IN(float) sub_keys,
                         IN(float) norms, IN(float) ranking, OUT(int) half_indices, OUT(float) half_values, OUT(int) ranks,
                         OUT(double) merits, OUT(int) slots) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (int four = first; four < end; four += 4) {
        const int unit = four + warp / 2;
        if (unit < end) {
            const Best best = best_of_half(flag, queries, sub_keys, norms, ranking, unit / HEADS, unit % HEADS * 2 + warp % 2,
                                           keys + warp * 32);
            if (lane < TOP_K) {
                const Index at = ((Index)unit * 2 + warp % 2) * TOP_K + lane;
                half_indices[at] = best.key, half_values[at] = best.x;
            }
            __syncwarp();
            x[warp * 32 + lane] = best.x, keys[warp * 32 + lane] = best.key;
        }
        __syncthreads();
        if (warp < 4 && four + warp < end)
            select_pairs(four + warp, flag, x + warp * 64, keys + warp * 64, ranks, merits, slots);
        __syncthreads();
    }
}

KERNEL void __launch_bounds__(256, 2)
select_best(OUT(int) flag, IN(float) queries, IN(float) sub_keys, IN(float) norms, IN(float) ranking,
            OUT(int) half_indices, OUT(float) half_values, OUT(int) ranks, OUT(double) merits, OUT(int) slots, int rows) {
    SHARED(float, x, 256);
    SHARED(int, keys, 256);
    const int first = (int)blockIdx.x * 4;
    select_units(first, min(first + 4, rows * HEADS), x, keys, flag, queries, sub_keys, norms, ranking, half_indices, half_values,
                 ranks, merits, slots);
}
