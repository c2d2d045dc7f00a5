// Stage address, simple: one thread per sub-key and half, then one per number of the sub-keys, without bitmaps.   ADR-2 ... ADR-6
//
// Shapes, precision and the order of sums as address.cu.

// Place of a sub-key among the kept of a unit; -1 if it is not kept.
DEVICE Index place_if_kept(IN(int) kept_count, IN(int) kept_index, Index unit, int key) {
    const int kept = kept_of(kept_count, unit);
    for (int j = 0; j < kept; j++)
        if (kept_index[unit * KEPT_MAX + j] == key) return unit * KEPT_MAX + j;
    return -1;
}

KERNEL void address_marginal_each(IN(int) kept_count, IN(int) kept_index, IN(float) usage, OUT(float) marginal,
                                  OUT(double) slopes, int rows) {
    const int at = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (at >= 2 * SUB_KEYS) return;
    const int half = at / SUB_KEYS, key = at % SUB_KEYS;
    float sum = 0.0f;
    for (int head = 0; head < HEADS; head++) {
        float lanes[32];
        for (int lane = 0; lane < 32; lane++) lanes[lane] = 0.0f;
        for (int row = 0; row < rows; row++) {
            const Index place = place_if_kept(kept_count, kept_index, ((Index)row * HEADS + head) * 2 + half, key);
            if (place >= 0) lanes[row / 32 % 32] += usage[place];
        }
        sum += lanes_sum(lanes);
    }
    set_marginal(sum, at, rows, marginal, slopes);
}

KERNEL void address_entropy_alone(OUT(int) flag, IN(double) slopes, OUT(float) report) {
    for (int half = 0; half < 2; half++) {
        double lanes[32];
        for (int lane = 0; lane < 32; lane++) lanes[lane] = 0.0;
        for (int i = 0; i < SUB_KEYS; i++) lanes[i / 4 % 32] += slopes[(2 + half) * SUB_KEYS + i];
        report[half] = (float)lanes_sum_f64(lanes);
    }
    report_loss(flag, report);
}

KERNEL void address_gradient_each(OUT(int) flag, IN(int) kept_count, IN(int) kept_index, IN(float) coefficients,
                                  IN(float) queries, IN(float) sub_keys, OUT(float) next, int rows) {
    const Index at = (Index)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= (Index)HEADS * 2 * SUB_KEYS * HALF_DIM) return;
    const int d = (int)(at % HALF_DIM), key = (int)(at / HALF_DIM % SUB_KEYS), half = (int)(at / HALF_DIM / SUB_KEYS);
    float sums[GROUPS];
    for (int group = 0; group < GROUPS; group++) sums[group] = 0.0f;
    for (int row = 0; row < rows; row++) {
        const Index query = (Index)row * (HEADS * 2) + half;
        const Index place = place_if_kept(kept_count, kept_index, query, key);
        if (place < 0) continue;
        const float q = queries[query * HALF_DIM + d], k = DOT_PRODUCT ? 0.0f : (float)sub_keys[at];
        sums[row / 32 % GROUPS] = fmaf(coefficients[place], q - k, sums[row / 32 % GROUPS]);
    }
    float gradient = sums[0];
    for (int group = 1; group < GROUPS; group++) gradient += sums[group];
    step_sub_key(flag, sub_keys, next, at, gradient);
}
