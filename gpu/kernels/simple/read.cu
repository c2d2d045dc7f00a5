// Stage read, simple: one thread per row.                                                           RD-1 ... RD-3
//
// Shapes, precision and the order of sums as read.cu.

KERNEL void read_each(OUT(int) flag, IN(double) merits, IN(int) slots, IN(float) slot_values, OUT(float) weights,
                      OUT(float) reads, OUT(unsigned) limits, int rows) {
    const int row = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (row >= rows) return;
    const Index first = (Index)row * ENTRIES;
    for (int e = 0; e < ENTRIES; e++) {
        const int group = e / GROUP * GROUP;
        double best = merits[first + group];
        double lanes[32];
        for (int lane = 0; lane < 32; lane++) lanes[lane] = 0.0;
        for (int other = group; other < group + GROUP; other++) best = min(best, (double)merits[first + other]);
        for (int other = 0; other < GROUP; other++)
            lanes[other % 32] += softmax_term(merits[first + group + other], best);
        const double total = lanes_sum_f64(lanes);
        const float weight = (float)(ACTIVATION != 0 ? activated(scaled_score(merits[first + e]))
                                                     : softmax_term(merits[first + e], best) / total);
        if (!isfinite(weight)) raise(flag, FLAG_WEIGHTS);
        weights[first + e] = weight;
        atomicMax(&limits[1], __float_as_uint(fabsf(weight)));
    }
    for (int d = 0; d < VALUE_DIM; d++) {
        float sum = 0.0f;
        for (int e = 0; e < ENTRIES; e++) {
            const float v = slot_values[(Index)slots[first + e] * VALUE_DIM + d];
            sum = fmaf(weights[first + e], v, sum);
            atomicMax(&limits[0], __float_as_uint(fabsf(v)));
        }
        reads[(Index)row * VALUE_DIM + d] = sum;
        if (!isfinite(sum)) raise(flag, FLAG_READS);
    }
}
