// Stage score, simple: the number of every sub-key that the specification orders by.       SCR-1, SCR-2, NUM-2
//
//   inverse distance   x[r,h,m,i] = epsilon + |q[r,h,m] - K[h,m,i]|^2, so that the score is -ln x
//   dot product        x[r,h,m,i] = q[r,h,m] . K[h,m,i]
//
// Shapes     as score.cu; distances [rows, HEADS, 2, SUB_KEYS]
// Precision  f32; sums in lane order, which bounds the error as NUM-2 asks
// Grid       one thread per element; it adds 32 sums by itself

// x of one query half and one sub-key, by one thread.
DEVICE float distance_alone(IN(float) queries, Index query, IN(float) sub_keys, Index key) {
    float lanes[32];
    for (int lane = 0; lane < 32; lane++) lanes[lane] = 0.0f;
    for (int d = 0; d < HALF_DIM; d++) {
        const float q = queries[query * HALF_DIM + d], k = sub_keys[key * HALF_DIM + d];
        const int lane = d / 4 % 32;
        lanes[lane] = DOT_PRODUCT ? fmaf(q, k, lanes[lane]) : fmaf(q - k, q - k, lanes[lane]);
    }
    const float sum = lanes_sum(lanes);
    return DOT_PRODUCT ? sum : (float)EPSILON + sum;
}

KERNEL void score_all(OUT(int) flag, IN(float) queries, IN(float) sub_keys, OUT(float) distances, int rows) {
    const Index at = (Index)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= (Index)rows * (HEADS * 2) * SUB_KEYS) return;
    const int key = (int)(at % SUB_KEYS), half = (int)(at / SUB_KEYS % (HEADS * 2));
    const float x = distance_alone(queries, at / SUB_KEYS, sub_keys, (Index)half * SUB_KEYS + key);
    if (!isfinite(x)) raise(flag, FLAG_HALF_SCORES);
    distances[at] = x;
}
