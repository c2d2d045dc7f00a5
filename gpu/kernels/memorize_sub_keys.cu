// Stage memorize, fast: the gradient of the objective with respect to the chosen half scores.                     MEM-6
//
//   along_e   = residual_r . V_slot(e)                            for each entry e = (row, head, place)
//   slope_e   = what the activation makes of along, over the entries that share its weights
//   half gradient of (row, head, half, rank) = sum of slope_e / temperature over the places whose pair has that rank
//
// Shapes     half_gradient [rows, HEADS, 2, TOP_K], 0 for rows without a pair; along [rows, HEADS, TOP_K] is scratch
// Precision  products with residuals in f32, fused; slopes in f64
// Order      sums over features in lane order; over places ascending
// Grid       a warp per row, 8 in a block
KERNEL void __launch_bounds__(256)
memorize_to_scores(IN(float) residuals, IN(float) slot_values, IN(int) slots, IN(int) ranks, IN(double) merits,
                   IN(float) weights, OUT(double) along, OUT(double) half_gradient, int pair_rows, int rows) {
    const int lane = threadIdx.x % 32;
    const int row = (int)(blockIdx.x * 8 + threadIdx.x / 32);
    if (row >= rows) return;
    const Index first = (Index)row * ENTRIES;
    const double scale = SUB_KEY_MEAN ? 1.0 / ((double)pair_rows * VALUE_DIM) : 1.0;
    for (int e = 0; e < ENTRIES && row < pair_rows; e++) {
        float sum = 0.0f;
        for (int block = lane * 4; block < VALUE_DIM; block += 128)
            for (int d = block; d < min(block + 4, VALUE_DIM); d++)
                sum = fmaf(residuals[(Index)row * VALUE_DIM + d], slot_values[(Index)slots[first + e] * VALUE_DIM + d], sum);
        sum = warp_sum(sum);
        if (lane == 0) along[first + e] = scale * sum;
    }
    __syncwarp();
    for (int at = lane; at < HEADS * 2 * TOP_K; at += 32) {
        const int head = at / (2 * TOP_K), half = at / TOP_K % 2, rank = at % TOP_K;
        double gradient = 0.0;
        for (int place = 0; place < TOP_K && row < pair_rows; place++) {
            const int e = head * TOP_K + place, pair = ranks[first + e];
            if ((half == 0 ? pair / 32 : pair % 32) != rank) continue;
            const double x = ACTIVATION != 0 ? scaled_score(merits[first + e]) : 0.0;
            double slope = along[first + e];
            if (ACTIVATION == 0) {
                const int group = e / GROUP * GROUP;
                double mean = 0.0;
                for (int other = group; other < group + GROUP; other++) mean += weights[first + other] * along[first + other];
                slope = weights[first + e] * (slope - mean);
            } else if (ACTIVATION == 1) {
                const double sigmoid = 1.0 / (1.0 + exp(-x));
                slope = slope * (sigmoid * (1.0 + x * (1.0 - sigmoid)));
            } else {
                slope = x > 0.0 ? slope : 0.0;
            }
            gradient += slope / (double)TEMPERATURE;
        }
        half_gradient[(Index)row * (HEADS * 2 * TOP_K) + at] = gradient;
    }
}
