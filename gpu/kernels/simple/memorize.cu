// Stage memorize, simple: one thread per pair row, then one per slot, which looks at every entry.                 MEM-1 ... MEM-5
//
// Shapes, precision and the order of sums as memorize.cu.

KERNEL void memorize_residual_each(OUT(int) flag, IN(float) reads, IN(float) values, IN(float) gates, IN(int) mask,
                                   int has_gates, int has_mask, int ahead, OUT(float) pair_weights, OUT(float) residuals,
                                   OUT(float) pair_losses, OUT(int) counters, OUT(unsigned) limits, int rows) {
    const int row = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (row >= rows) return;
    const float f = pair_weight(gates, mask, has_gates, has_mask, row);
    float lanes[32];
    for (int lane = 0; lane < 32; lane++) lanes[lane] = 0.0f;
    for (int d = 0; d < VALUE_DIM; d++) {
        const float residual = reads[(Index)row * VALUE_DIM + d] - values[(Index)(row + ahead) * VALUE_DIM + d];
        lanes[d / 4 % 32] = fmaf(residual, residual, lanes[d / 4 % 32]);
        residuals[(Index)row * VALUE_DIM + d] = weighted(f, residual);
        atomicMax(&limits[2], __float_as_uint(fabsf(weighted(f, residual))));
    }
    const float loss = weighted(f, lanes_sum(lanes) / (float)VALUE_DIM);
    pair_weights[row] = f;
    pair_losses[row] = loss;
    if (!isfinite(loss)) raise(flag, FLAG_PAIR_LOSSES);
    if (!has_mask || mask[row] != 0) atomicAdd(&counters[COUNT_UNMASKED], 1);
}

KERNEL void memorize_each(OUT(int) flag, int mode, IN(int) counted, int counted_entries, IN(int) slots,
                          IN(float) pair_weights, IN(float) weights, IN(float) residuals, OUT(float) slot_values,
                          OUT(int) counters, int samples, int pair_rows, int has_mask) {
    const int slot = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (slot >= SUB_KEYS * SUB_KEYS || (mode == MODE_APPLY && flag[0] != FLAG_NONE)) return;
    int count = 0;
    bool written = false;
    for (int e = 0; e < counted_entries; e++) count += counted[e] == slot;
    for (int e = 0; e < pair_rows * ENTRIES; e++) written |= slots[e] == slot && pair_weights[e / ENTRIES] != 0.0f;
    if (mode == MODE_CHECK && (count > 0 || written)) atomicAdd(&counters[COUNT_TOUCHED], 1);
    if (!written && !DECAY) return;
    const float scale = step_factor(counters, samples, pair_rows, has_mask) / (float)max(count, 1);
    for (int d = 0; d < VALUE_DIM; d++) {
        float total = 0.0f, sum = 0.0f;
        int taken = 0;
        for (int e = 0; e < pair_rows * ENTRIES; e++) {
            if (slots[e] != slot || pair_weights[e / ENTRIES] == 0.0f) continue;
            if (taken > 0 && taken % SEGMENT == 0) total = taken == SEGMENT ? sum : total + sum, sum = 0.0f;
            sum = fmaf(weights[e], residuals[(Index)(e / ENTRIES) * VALUE_DIM + d], sum);
            taken++;
        }
        total = taken > SEGMENT ? total + sum : sum;
        step_feature(flag, mode, slot_values, (Index)slot * VALUE_DIM + d, written ? scale * total : 0.0f);
    }
}
