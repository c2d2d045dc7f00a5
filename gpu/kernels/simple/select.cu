// Stage select, simple: one thread per row and head looks at every sub-key and every pair.          SEL-1 ... SEL-4
//
// Shapes     as select.cu; distances as simple/score.cu
// Ties       as select.cu
// Grid       one thread per (row, head)

KERNEL void select_each(OUT(int) flag, IN(float) distances, OUT(int) half_indices, OUT(float) half_values,
                        OUT(int) ranks, OUT(double) merits, OUT(int) slots, int rows) {
    const int unit = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (unit >= rows * HEADS) return;
    float x[2][TOP_K];
    int keys[2][TOP_K];
    for (int half = 0; half < 2; half++)
        for (int rank = 0; rank < TOP_K; rank++) {
            int best = -1;
            float best_x = 0.0f;
            for (int i = 0; i < SUB_KEYS; i++) {
                const float candidate = distances[((Index)unit * 2 + half) * SUB_KEYS + i];
                const bool left = rank == 0 || precedes(x[half][rank - 1], keys[half][rank - 1], candidate, i);
                if (left && (best < 0 || precedes(candidate, i, best_x, best))) best = i, best_x = candidate;
            }
            x[half][rank] = best_x, keys[half][rank] = best < 0 ? 0 : best;
            half_indices[((Index)unit * 2 + half) * TOP_K + rank] = keys[half][rank];
            half_values[((Index)unit * 2 + half) * TOP_K + rank] = best_x;
        }
    double last = 0.0;
    int last_ranks = -1;
    for (int place = 0; place < TOP_K; place++) {
        double best = 0.0;
        int best_ranks = -1;
        for (int a = 0; a < TOP_K; a++)
            for (int b = 0; b < TOP_K; b++) {
                const double sum = merit(x[0][a], x[1][b]);
                const int here = a * 32 + b;
                const bool left = last_ranks < 0 || last < sum || (last == sum && last_ranks < here);
                if (left && (best_ranks < 0 || sum < best)) best = sum, best_ranks = here;
            }
        last = best, last_ranks = best_ranks < 0 ? 0 : best_ranks;
        const Index at = (Index)unit * TOP_K + place;
        ranks[at] = last_ranks, merits[at] = best;
        slots[at] = keys[0][last_ranks / 32] * SUB_KEYS + keys[1][last_ranks % 32];
        if (!isfinite((float)best) && DOT_PRODUCT) raise(flag, FLAG_PAIR_SCORES);
    }
}
