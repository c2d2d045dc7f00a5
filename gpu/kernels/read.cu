// Stage read, fast: weights of the chosen slots, and their weighted sum.                            RD-1 ... RD-3
//
//   softmax, inverse distance, tau = 1    weight_e = (1 / merit_e) / sum of 1 / merit        over the group
//   softmax otherwise                     weight_e = exp(s_e / tau - max) / sum              s = -ln merit, or -merit
//   silu, relu                            of s_e / tau
//   reads[r, :] = sum over entries e = (head, place) of weight_e slot_values[slot_e, :]
//
// Shapes     merits (f64), slots, weights [rows, HEADS, TOP_K]; slot_values [SUB_KEYS^2, VALUE_DIM]; reads [rows, VALUE_DIM];
//            limits: [0] largest |slot value| read, [1] largest weight, as bits; both only ever grow between steps
// Precision  weights in f64, rounded once; sums of a group in lane order with one term per lane and pass (term e of lane e mod
//            32); reads in f32, entries ascending, fused multiply-add
// Grid       one block of 128 per row: warp 0 computes the weights, then thread t holds features 4 t ... 4 t + 3, 4 (t + 128)
//            and so on; the loads of AT_ONCE entries are under way together, the first before the weights
//
// Departures from the reference
//   1. Weights come from merits: no logarithm and exponential for the paper's settings, and only one rounding to f32.

#define ENTRIES (HEADS * TOP_K)
#define GROUP (EACH_HEAD ? TOP_K : ENTRIES)

// s / tau, the scaled pair score.
DEVICE double scaled_score(double merit) { return (DOT_PRODUCT ? -merit : -log(merit)) / (double)TEMPERATURE; }

#define INVERSE_PRODUCTS (!DOT_PRODUCT && TEMPERATURE == 1.0)

// Logarithm-free e^(s - max) where it can be had: the best entry of a group has the smallest merit.
DEVICE double softmax_term(double merit, double best) {
    return INVERSE_PRODUCTS ? best / merit : exp(scaled_score(merit) - scaled_score(best));
}

DEVICE double activated(double x) {
    if (ACTIVATION == 1) return x / (1.0 + exp(-x));
    return x > 0.0 ? x : 0.0;
}

// The warp computes all weights of a row.
DEVICE void weigh(IN(double) merits, Index first, OUT(float) weights) {
    const int lane = threadIdx.x % 32;
    if (ACTIVATION != 0) {
        for (int e = lane; e < ENTRIES; e += 32) weights[first + e] = (float)activated(scaled_score(merits[first + e]));
        return;
    }
    for (int group = 0; group < ENTRIES; group += GROUP) {
        double best = merits[first + group];
        for (int head = group; head < group + GROUP; head += TOP_K) best = min(best, (double)merits[first + head]);
        double sum = 0.0;
        for (int e = lane; e < GROUP; e += 32) sum += softmax_term(merits[first + group + e], best);
        sum = warp_sum_f64(sum);
        for (int e = lane; e < GROUP; e += 32)
            weights[first + group + e] = (float)(softmax_term(merits[first + group + e], best) / sum);
    }
}

DEVICE void grow(OUT(unsigned) limits, int which, float magnitude) {
    const unsigned largest = __reduce_max_sync(FULL_WARP, __float_as_uint(magnitude));
    // They only grow, so an older one that is as large will do.
    if (threadIdx.x % 32 == 0 && largest > load_recent(&limits[which])) atomicMax(&limits[which], largest);
}

#define AT_ONCE 8

// Four numbers, from d on, of the slots of entries `first` to first + AT_ONCE - 1; the last entry again beyond the end.
DEVICE void load_slots(IN(int) slots, IN(float) slot_values, Index row, int first, int d, float4* numbers) {
#pragma unroll
    for (int i = 0; i < AT_ONCE; i++)
        numbers[i] = load4(slot_values, (Index)slots[row * ENTRIES + min(first + i, ENTRIES - 1)] * VALUE_DIM + d);
}

// 128 threads of a block, of which this is number t, read a row, if it exists; all threads of the block must come.
DEVICE void read_row(bool exists, Index row, int t, OUT(int) flag, IN(double) merits, IN(int) slots, IN(float) slot_values,
                     OUT(float) weights, OUT(float) reads, OUT(unsigned) limits) {
    // The first numbers are on their way while the weights are computed: to registers where there are enough, else nearer.
    const bool early = !WALK && VALUE_DIM % 4 == 0 && ACTIVATION == 0 && INVERSE_PRODUCTS;
    float4 numbers[AT_ONCE];
    if (early && exists && t * 4 < VALUE_DIM) load_slots(slots, slot_values, row, 0, t * 4, numbers);
    // Not by the warp that computes the weights.
    if (!early && exists && t >= 32)
        for (int at = t - 32; at < min(ENTRIES, AT_ONCE) * 32; at += 96)
            for (int d = at % 32 * 32; d < VALUE_DIM; d += 1024)
                prefetch(slot_values + ((Index)slots[row * ENTRIES + at / 32] * VALUE_DIM + d));
    if (exists && t < 32) {
        weigh(merits, row * ENTRIES, weights);
        float largest = 0.0f;
        __syncwarp();
        for (int e = t; e < ENTRIES; e += 32) {
            const float weight = weights[row * ENTRIES + e];
            if (!isfinite(weight)) raise(flag, FLAG_WEIGHTS);
            largest = fmaxf(largest, fabsf(weight));
        }
        grow(limits, 1, largest);
    }
    __syncthreads();
    if (!exists) return;
    float largest = 0.0f;
    for (int d = t * 4; d < VALUE_DIM; d += 512) {
        if (VALUE_DIM % 4 == 0) {
            float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
            for (int first = 0; first < ENTRIES; first += AT_ONCE) {
                if (!early || first > 0 || d != t * 4) load_slots(slots, slot_values, row, first, d, numbers);
#pragma unroll
                for (int i = 0; i < AT_ONCE; i++) {
                    if (first + i >= ENTRIES) break;
                    const float w = weights[row * ENTRIES + first + i];
                    const float4 v = numbers[i];
                    sum.x = fmaf(w, v.x, sum.x), sum.y = fmaf(w, v.y, sum.y);
                    sum.z = fmaf(w, v.z, sum.z), sum.w = fmaf(w, v.w, sum.w);
                    largest = fmaxf(fmaxf(fmaxf(largest, fabsf(v.x)), fabsf(v.y)), fmaxf(fabsf(v.z), fabsf(v.w)));
                }
            }
            store4(reads, row * VALUE_DIM + d, sum);
            if (!isfinite(sum.x) || !isfinite(sum.y) || !isfinite(sum.z) || !isfinite(sum.w)) raise(flag, FLAG_READS);
        } else {
            for (int f = d; f < min(d + 4, VALUE_DIM); f++) {
                float sum = 0.0f;
                for (int e = 0; e < ENTRIES; e++) {
                    const float v = slot_values[(Index)slots[row * ENTRIES + e] * VALUE_DIM + f];
                    sum = fmaf(weights[row * ENTRIES + e], v, sum);
                    largest = fmaxf(largest, fabsf(v));
                }
                reads[row * VALUE_DIM + f] = sum;
                if (!isfinite(sum)) raise(flag, FLAG_READS);
            }
        }
    }
    grow(limits, 0, largest);
}

KERNEL void __launch_bounds__(128, 6)
read_slots(OUT(int) flag, IN(double) merits, IN(int) slots, IN(float) slot_values, OUT(float) weights,
           OUT(float) reads, OUT(unsigned) limits) {
    read_row(true, blockIdx.x, (int)threadIdx.x, flag, merits, slots, slot_values, weights, reads, limits);
}
