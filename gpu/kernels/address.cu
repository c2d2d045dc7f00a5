// Stage address, fast: usage of the sub-keys, its entropy, and the step of the sub-keys.                          ADR-1 ... ADR-6
//
//   p           1 / x over the sum of 1 / x of the kept sub-keys of a row and half (dot product: softmax of x)
//   marginal    mean of p over rows and heads
//   c           ln(marginal + e) + marginal / (marginal + e);   entropy = -sum marginal ln(marginal + e)
//   slope       alpha / R p (c - sum p c), plus MEM-6's gradient;   coefficient = slope 2 / x (dot product: slope)
//   G           sum over rows that keep the sub-key of coefficient (q - K) (dot product: coefficient q)
//   next        K - lr (clip(G) + decay K), into a second table; apply copies it once nothing of the step can fail
//
// Which rows keep a sub-key stands in a bitmap, one bit per row: set by integer atomics in any order, read ascending.
//
// Shapes     unit u = (row, head, half); kept_index, kept_value, usage [units, KEPT_MAX]; kept_count [units] (only where
//            KEEP_TIES; else all TOP_K are kept and kept_index, kept_value are half_indices, half_values); bits [HEADS, 2,
//            SUB_KEYS, words]; marginal [2, SUB_KEYS]; slopes (c, then the entropy's terms, f64) [2, 2, SUB_KEYS]; report [3]:
//            entropy of both halves, loss; sub_keys, next [HEADS, 2, SUB_KEYS, HALF_DIM]
// Precision  p, c, slopes, entropy in f64, rounded once; marginal and G in f32, fused multiply-add
// Order      p, slopes: kept sub-keys ascending. marginal: for each head, 32-row word w belongs to lane w mod 32, rows ascending,
//            tree as in lane order; heads ascending. Entropy: lane order. G: word w belongs to group w mod 8, rows ascending; the groups' sums ascending
// Grid       usage, slopes: KEPT_LANES lanes per unit. marginal: a warp per (half, sub-key). entropy: one block, a warp per half.
//            gradient: a block of 8 warps per (head, half, sub-key), a warp per group, lane l holds numbers 4 l ... 4 l + 3,
//            4 l + 128 and so on. apply: a warp per sub-key, norms as score_norms
//
// Departures from the reference
//   1. No logarithm and exponential between x and p.

#define GROUPS 8

// Number of kept sub-keys of a unit.
DEVICE int kept_of(IN(int) kept_count, Index unit) { return KEEP_TIES ? (int)kept_count[unit] : TOP_K; }

// All sub-keys at least as good as the TOP_K-th best, ascending; distances as simple/score.cu.                    ADR-1
KERNEL void __launch_bounds__(128)
address_ties(IN(float) distances, IN(float) half_values, OUT(int) kept_count, OUT(int) kept_index, OUT(float) kept_value,
             int units) {
    const Index unit = (Index)blockIdx.x * 128 + threadIdx.x;
    if (unit >= units) return;
    const float kth = half_values[unit * TOP_K + TOP_K - 1];
    int count = 0;
    for (int i = 0; i < SUB_KEYS; i++) {
        const float x = distances[unit * SUB_KEYS + i];
        if (DOT_PRODUCT ? x < kth : x > kth) continue;
        kept_index[unit * KEPT_MAX + count] = i;
        kept_value[unit * KEPT_MAX + count++] = x;
    }
    kept_count[unit] = count;
}

DEVICE double usage_term(float x, float best) {
    return DOT_PRODUCT ? exp((double)x - (double)best) : (double)best / (double)x;
}

#define UNITS_OF_WARP (32 / KEPT_LANES)

DEVICE float better(float x, float y) { return DOT_PRODUCT ? max(x, y) : min(x, y); }

// Sum over the kept sub-keys of a unit, ascending; each of its KEPT_LANES lanes brings the term of one, 0 where there is none.
DEVICE double add_ascending(double sum, double term, int count) {
    const int first = (int)(threadIdx.x % 32) / KEPT_LANES * KEPT_LANES;
    for (int l = 0; l < min(KEPT_LANES, count); l++) sum += __shfl_sync(FULL_WARP, term, first + l);
    return sum;
}

// The warp takes units `first` to first + UNITS_OF_WARP - 1 that are below `end`, KEPT_LANES lanes each; all lanes must come.
DEVICE void use_units(Index first, Index end, IN(int) kept_count, IN(int) kept_index, IN(float) kept_value, OUT(float) usage,
                      OUT(unsigned) bits, int words) {
    const int lane = threadIdx.x % 32, place = lane % KEPT_LANES;
    const Index unit = min(first + lane / KEPT_LANES, end - 1);
    const bool exists = first + lane / KEPT_LANES < end;
    const int row = (int)(unit / (HEADS * 2)), half = (int)(unit % (HEADS * 2)), kept = kept_of(kept_count, unit);
    float best = kept_value[unit * KEPT_MAX];
    for (int j = place; j < kept; j += KEPT_LANES) best = better(best, kept_value[unit * KEPT_MAX + j]);
#pragma unroll
    for (int apart = KEPT_LANES / 2; apart > 0; apart /= 2) best = better(best, __shfl_xor_sync(FULL_WARP, best, apart));
    double sum = 0.0, term = 0.0;
    for (int from = 0; from < kept; from += KEPT_LANES) {
        term = from + place < kept ? usage_term(kept_value[unit * KEPT_MAX + from + place], best) : 0.0;
        sum = add_ascending(sum, term, kept - from);
    }
    for (int j = place; exists && j < kept; j += KEPT_LANES) {
        const Index at = unit * KEPT_MAX + j;
        if (KEEP_TIES) term = usage_term(kept_value[at], best);
        usage[at] = (float)(term / sum);
        atomicOr(&bits[((Index)half * SUB_KEYS + kept_index[at]) * words + row / 32], 1u << (row % 32));
    }
}

KERNEL void __launch_bounds__(128)
address_usage(IN(int) kept_count, IN(int) kept_index, IN(float) kept_value, OUT(float) usage, OUT(unsigned) bits, int words,
              int units) {
    const Index first = ((Index)blockIdx.x * 4 + threadIdx.x / 32) * UNITS_OF_WARP;
    if (first < units) use_units(first, units, kept_count, kept_index, kept_value, usage, bits, words);
}

// Place of a sub-key among the kept of a unit, which has it.
DEVICE Index place_of(IN(int) kept_count, IN(int) kept_index, Index unit, int key) {
    int place = 0;
#pragma unroll 8
    for (int j = 0; j < kept_of(kept_count, unit); j++)
        if (kept_index[unit * KEPT_MAX + j] == key) place = j;
    return unit * KEPT_MAX + place;
}

// p, c, and p's term of the entropy, which stands behind all c.
DEVICE void set_marginal(float sum, int at, int rows, OUT(float) marginal, OUT(double) slopes) {
    const float p = sum / (float)max(rows * HEADS, 1);
    const double reached = (double)p + (double)LOG_EPSILON, logarithm = p > 0.0f ? log(reached) : 0.0;
    marginal[at] = p;
    slopes[at] = p > 0.0f ? logarithm + (double)p / reached : 0.0;
    slopes[2 * SUB_KEYS + at] = p > 0.0f ? -(double)p * logarithm : 0.0;
}

// The warp sums the usage of one half and sub-key.
DEVICE void sum_marginal(int at, IN(int) kept_count, IN(int) kept_index, IN(float) usage, IN(unsigned) bits, int words,
                         OUT(float) marginal, OUT(double) slopes, int rows) {
    const int lane = threadIdx.x % 32;
    const int half = at / SUB_KEYS, key = at % SUB_KEYS;
    float sum = 0.0f;
    for (int head = 0; head < HEADS; head++) {
        float mine = 0.0f;
        for (int word = lane; word < words; word += 32) {
            unsigned left = bits[((Index)(head * 2 + half) * SUB_KEYS + key) * words + word];
            for (; left != 0; left &= left - 1) {
                const Index row = word * 32 + __ffs((int)left) - 1;
                mine += usage[place_of(kept_count, kept_index, (row * HEADS + head) * 2 + half, key)];
            }
        }
        sum += warp_sum(mine);
    }
    if (lane == 0) set_marginal(sum, at, rows, marginal, slopes);
}

KERNEL void __launch_bounds__(256)
address_marginal(IN(int) kept_count, IN(int) kept_index, IN(float) usage, IN(unsigned) bits, int words, OUT(float) marginal,
                 OUT(double) slopes, int rows) {
    const int at = (int)(blockIdx.x * 8 + threadIdx.x / 32);
    if (at < 2 * SUB_KEYS) sum_marginal(at, kept_count, kept_index, usage, bits, words, marginal, slopes, rows);
}

DEVICE void report_loss(OUT(int) flag, OUT(float) report) {
    const float loss = (float)ADDRESSING_WEIGHT * (-report[0] - report[1]);
    report[2] = loss;
    if (!isfinite(loss)) raise(flag, FLAG_ADDRESSING_LOSS);
}

// One block, whose first two warps sum; all of its threads must come.
DEVICE void sum_entropy(OUT(int) flag, IN(double) slopes, OUT(float) report) {
    const int lane = threadIdx.x % 32, half = threadIdx.x / 32;
    if (half < 2) {
        double sum = 0.0;
        for (int block = lane * 4; block < SUB_KEYS; block += 128)
            for (int i = block; i < min(block + 4, SUB_KEYS); i++) sum += slopes[(2 + half) * SUB_KEYS + i];
        sum = warp_sum_f64(sum);
        if (lane == 0) report[half] = (float)sum;
    }
    __syncthreads();
    if (threadIdx.x == 0) report_loss(flag, report);
}

KERNEL void __launch_bounds__(64) address_entropy(OUT(int) flag, IN(double) slopes, OUT(float) report) {
    sum_entropy(flag, slopes, report);
}

// usage becomes the coefficient of q - K in the sub-key gradient. The warp takes units as use_units.                ADR-4
DEVICE void slope_units(Index first, Index end, IN(int) kept_count, IN(int) kept_index, IN(float) kept_value, IN(double) slopes,
                        IN(int) half_indices, IN(double) half_gradient, OUT(float) usage, int rows) {
    const int lane = threadIdx.x % 32, place = lane % KEPT_LANES;
    const Index unit = min(first + lane / KEPT_LANES, end - 1);
    const bool exists = first + lane / KEPT_LANES < end;
    const int half = (int)(unit % 2), kept = kept_of(kept_count, unit);
    double mean = 0.0;
    for (int from = 0; from < kept; from += KEPT_LANES) {
        const Index at = unit * KEPT_MAX + from + place;
        // Not of a unit that another lane has.
        const double term = exists && from + place < kept ? (double)usage[at] * slopes[half * SUB_KEYS + kept_index[at]] : 0.0;
        mean = add_ascending(mean, term, kept - from);
    }
    const double scale = (double)ADDRESSING_WEIGHT / max(rows * HEADS, 1);
    for (int j = place; exists && j < kept; j += KEPT_LANES) {
        const Index at = unit * KEPT_MAX + j;
        const int key = kept_index[at];
        double slope = scale * (double)usage[at] * (slopes[half * SUB_KEYS + key] - mean);
        if (MEMORY_TO_SUB_KEYS)
            for (int rank = 0; rank < TOP_K; rank++)
                if (half_indices[unit * TOP_K + rank] == key) slope += half_gradient[unit * TOP_K + rank];
        usage[at] = (float)(DOT_PRODUCT ? slope : slope * 2.0 / (double)kept_value[at]);
    }
}

KERNEL void __launch_bounds__(128)
address_slopes(IN(int) kept_count, IN(int) kept_index, IN(float) kept_value, IN(double) slopes, IN(int) half_indices,
               IN(double) half_gradient, OUT(float) usage, int rows, int units) {
    const Index first = ((Index)blockIdx.x * 4 + threadIdx.x / 32) * UNITS_OF_WARP;
    if (first < units)
        slope_units(first, units, kept_count, kept_index, kept_value, slopes, half_indices, half_gradient, usage, rows);
}

DEVICE void step_sub_key(OUT(int) flag, IN(float) sub_keys, OUT(float) next, Index at, float gradient) {
    const float after = descend(sub_keys[at], gradient);
    if (!isfinite(gradient)) raise(flag, FLAG_SUB_KEY_GRADIENT);
    if (!isfinite(after)) raise(flag, FLAG_SUB_KEYS);
    next[at] = after;
}

// The block steps one sub-key of a head and half into the other table; sums has room for GROUPS HALF_DIM.
DEVICE void step_key(int unit, OUT(float) sums, OUT(int) flag, IN(int) kept_count, IN(int) kept_index, IN(float) coefficients,
                     OUT(unsigned) bits, int words, IN(float) queries, IN(float) sub_keys, OUT(float) next) {
    const int lane = threadIdx.x % 32, group = threadIdx.x / 32;
    const int half = unit / SUB_KEYS, key = unit % SUB_KEYS;
    float4 k[QUADS], sum[QUADS];
#pragma unroll
    for (int i = 0; i < QUADS; i++) {
        k[i] = four_of(sub_keys, (Index)half * SUB_KEYS + key, !DOT_PRODUCT, i * 128 + lane * 4);
        sum[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    }
    for (int word = group; word < words; word += GROUPS) {
        unsigned left = bits[(Index)unit * words + word];
        for (; left != 0; left &= left - 1) {
            const Index query = (Index)(word * 32 + __ffs((int)left) - 1) * (HEADS * 2) + half;
            float4 q[QUADS];
#pragma unroll
            for (int i = 0; i < QUADS; i++) q[i] = four_of(queries, query, true, i * 128 + lane * 4);
            float coefficient = 0.0f;
            for (int first = 0, kept = kept_of(kept_count, query); first < kept; first += 32) {
                const Index at = query * KEPT_MAX + min(first + lane, kept - 1);
                const bool here = first + lane < kept && kept_index[at] == key;
                const float mine = coefficients[at];
                const unsigned found = __ballot_sync(FULL_WARP, here);
                if (found != 0) coefficient = __shfl_sync(FULL_WARP, mine, __ffs((int)found) - 1);
            }
#pragma unroll
            for (int i = 0; i < QUADS; i++) {
                sum[i].x = fmaf(coefficient, q[i].x - k[i].x, sum[i].x), sum[i].y = fmaf(coefficient, q[i].y - k[i].y, sum[i].y);
                sum[i].z = fmaf(coefficient, q[i].z - k[i].z, sum[i].z), sum[i].w = fmaf(coefficient, q[i].w - k[i].w, sum[i].w);
            }
        }
    }
#pragma unroll
    for (int i = 0; i < QUADS; i++) {
        const float of[4] = {sum[i].x, sum[i].y, sum[i].z, sum[i].w};
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int d = i * 128 + lane * 4 + j;
            if (d < HALF_DIM) sums[group * HALF_DIM + d] = of[j];
        }
    }
    __syncthreads();
    for (int word = (int)threadIdx.x; word < words; word += 256) bits[(Index)unit * words + word] = 0;
    for (int d = (int)threadIdx.x; d < HALF_DIM; d += 256) {
        float gradient = sums[d];
        for (int other = 1; other < GROUPS; other++) gradient += sums[other * HALF_DIM + d];
        step_sub_key(flag, sub_keys, next, (Index)unit * HALF_DIM + d, gradient);
    }
}

KERNEL void __launch_bounds__(256)
address_gradient(OUT(int) flag, IN(int) kept_count, IN(int) kept_index, IN(float) coefficients, OUT(unsigned) bits,
                 int words, IN(float) queries, IN(float) sub_keys, OUT(float) next) {
    SHARED(float, sums, GROUPS * HALF_DIM);
    step_key((int)blockIdx.x, sums, flag, kept_count, kept_index, coefficients, bits, words, queries, sub_keys, next);
}

DEVICE void put_four_of(OUT(float) vectors, Index vector, int d, float4 numbers) {
    const Index at = vector * HALF_DIM + d;
    if (HALF_DIM % 4 == 0) return store4(vectors, at, numbers);
    vectors[at] = numbers.x;
    if (d + 1 < HALF_DIM) vectors[at + 1] = numbers.y;
    if (d + 2 < HALF_DIM) vectors[at + 2] = numbers.z;
    if (d + 3 < HALF_DIM) vectors[at + 3] = numbers.w;
}

// The warp copies one sub-key, and its norm.
DEVICE void apply_key(int key, IN(float) next, OUT(float) sub_keys, OUT(float) norms) {
    const int lane = threadIdx.x % 32;
    float sum = 0.0f;
    for (int d = lane * 4; d < HALF_DIM; d += 128) {
        const float4 k = four_of(next, key, true, d);
        sum = add_squares(sum, k);
        put_four_of(sub_keys, key, d, k);
    }
    sum = warp_sum(sum);
    if (lane == 0) norms[key] = sum;
}

KERNEL void __launch_bounds__(256) address_apply(IN(int) flag, IN(float) next, OUT(float) sub_keys, OUT(float) norms) {
    const int key = (int)(blockIdx.x * 8 + threadIdx.x / 32);
    if (key < HEADS * 2 * SUB_KEYS && flag[0] == FLAG_NONE) apply_key(key, next, sub_keys, norms);
}
