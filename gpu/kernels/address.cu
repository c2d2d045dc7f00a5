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
//            SUB_KEYS, words]; marginal, slopes (c, f64) [2, SUB_KEYS]; report [3]: entropy of both halves, loss; sub_keys, next
//            [HEADS, 2, SUB_KEYS, HALF_DIM]
// Precision  p, c, slopes, entropy in f64, rounded once; marginal and G in f32, fused multiply-add
// Order      marginal: for each head, 32-row word w belongs to lane w mod 32, rows ascending, tree as in lane order; heads
//            ascending. Entropy: lane order. G: word w belongs to group w mod 8, rows ascending; the groups' sums ascending
// Grid       usage, slopes: a thread per unit. marginal: a warp per (half, sub-key). entropy: one block, a warp per half.
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

DEVICE void use_unit(Index unit, IN(int) kept_count, IN(int) kept_index, IN(float) kept_value, OUT(float) usage,
                     OUT(unsigned) bits, int words) {
    const int row = (int)(unit / (HEADS * 2)), half = (int)(unit % (HEADS * 2)), kept = kept_of(kept_count, unit);
    float best = kept_value[unit * KEPT_MAX];
    for (int j = 1; j < kept; j++) {
        const float x = kept_value[unit * KEPT_MAX + j];
        best = DOT_PRODUCT ? max(best, x) : min(best, x);
    }
    double sum = 0.0;
    for (int j = 0; j < kept; j++) sum += usage_term(kept_value[unit * KEPT_MAX + j], best);
    for (int j = 0; j < kept; j++) {
        usage[unit * KEPT_MAX + j] = (float)(usage_term(kept_value[unit * KEPT_MAX + j], best) / sum);
        const Index list = ((Index)half * SUB_KEYS + kept_index[unit * KEPT_MAX + j]) * words;
        atomicOr(&bits[list + row / 32], 1u << (row % 32));
    }
}

KERNEL void __launch_bounds__(128)
address_usage(IN(int) kept_count, IN(int) kept_index, IN(float) kept_value, OUT(float) usage, OUT(unsigned) bits, int words,
              int units) {
    const Index unit = (Index)blockIdx.x * 128 + threadIdx.x;
    if (unit < units) use_unit(unit, kept_count, kept_index, kept_value, usage, bits, words);
}

// Place of a sub-key among the kept of a unit, which has it.
DEVICE Index place_of(IN(int) kept_count, IN(int) kept_index, Index unit, int key) {
    int place = 0;
#pragma unroll 8
    for (int j = 0; j < kept_of(kept_count, unit); j++)
        if (kept_index[unit * KEPT_MAX + j] == key) place = j;
    return unit * KEPT_MAX + place;
}

DEVICE void set_marginal(float sum, int at, int rows, OUT(float) marginal, OUT(double) slopes) {
    const float p = sum / (float)max(rows * HEADS, 1);
    const double reached = (double)p + (double)LOG_EPSILON;
    marginal[at] = p;
    slopes[at] = p > 0.0f ? log(reached) + (double)p / reached : 0.0;
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

DEVICE double entropy_term(float p) { return p > 0.0f ? -(double)p * log((double)p + (double)LOG_EPSILON) : 0.0; }

DEVICE void report_loss(OUT(int) flag, OUT(float) report) {
    const float loss = (float)ADDRESSING_WEIGHT * (-report[0] - report[1]);
    report[2] = loss;
    if (!isfinite(loss)) raise(flag, FLAG_ADDRESSING_LOSS);
}

// One block, whose first two warps sum; all of its threads must come.
DEVICE void sum_entropy(OUT(int) flag, IN(float) marginal, OUT(float) report) {
    const int lane = threadIdx.x % 32, half = threadIdx.x / 32;
    if (half < 2) {
        double sum = 0.0;
        for (int block = lane * 4; block < SUB_KEYS; block += 128)
            for (int i = block; i < min(block + 4, SUB_KEYS); i++) sum += entropy_term(marginal[half * SUB_KEYS + i]);
        sum = warp_sum_f64(sum);
        if (lane == 0) report[half] = (float)sum;
    }
    __syncthreads();
    if (threadIdx.x == 0) report_loss(flag, report);
}

KERNEL void __launch_bounds__(64) address_entropy(OUT(int) flag, IN(float) marginal, OUT(float) report) {
    sum_entropy(flag, marginal, report);
}

// usage becomes the coefficient of q - K in the sub-key gradient.                                                 ADR-4
DEVICE void slope_of_unit(Index unit, IN(int) kept_count, IN(int) kept_index, IN(float) kept_value, IN(double) slopes,
                          IN(int) half_indices, IN(double) half_gradient, OUT(float) usage, int rows) {
    const int half = (int)(unit % 2), kept = kept_of(kept_count, unit);
    double mean = 0.0;
    for (int j = 0; j < kept; j++)
        mean += (double)usage[unit * KEPT_MAX + j] * slopes[half * SUB_KEYS + kept_index[unit * KEPT_MAX + j]];
    const double scale = (double)ADDRESSING_WEIGHT / max(rows * HEADS, 1);
    for (int j = 0; j < kept; j++) {
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
    const Index unit = (Index)blockIdx.x * 128 + threadIdx.x;
    if (unit < units) slope_of_unit(unit, kept_count, kept_index, kept_value, slopes, half_indices, half_gradient, usage, rows);
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
                const bool here = first + lane < kept && kept_index[query * KEPT_MAX + min(first + lane, kept - 1)] == key;
                const unsigned found = __ballot_sync(FULL_WARP, here);
                if (found != 0) coefficient = coefficients[query * KEPT_MAX + first + __ffs((int)found) - 1];
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
