// Stage score, fast: a number per sub-key by which the nearest are found.                  SCR-1, SCR-2, NUM-2
//
//   inverse distance   ranking[r,h,m,i] = |K[h,m,i]|^2 - 2 q[r,h,m] . K[h,m,i]      = |q - K|^2 - |q|^2
//   dot product        ranking[r,h,m,i] = -q[r,h,m] . K[h,m,i]
//
// The smaller, the better. Scores themselves are not computed here: select.cu computes those that can win, from the
// differences, and proves from a bound of this file's error that no other can. So no bit of a result depends on the order of
// sums here, nor on the tile.
//
// Shapes     queries [rows, HEADS, 2, HALF_DIM]; sub_keys [HEADS, 2, SUB_KEYS, HALF_DIM]; norms [HEADS, 2, SUB_KEYS];
//            ranking [rows, HEADS, 2, SUB_KEYS]; all dense, row-major
// Precision  f32, fused multiply-add; error at most gamma(HALF_DIM + 2) (max |K|^2 + 2 |q| max |K|)
// score_norms  grid (HEADS 2 SUB_KEYS / 8), block 256: one warp per sub-key, lane order
// score_rank   grid (HEADS 2, row tiles, sub-key tiles) flattened, sub-key tiles fastest; block (TILE / PER)^2; shared memory
//              2 DEPTH (TILE + 4) floats. Thread (x, y) holds PER x PER sums: rows y + j TILE/PER, sub-keys x + j TILE/PER
//
// Departures from the reference
//   1. |q|^2 is left out: it is the same for all sub-keys of a row, and keeping it costs digits near a tie.
//   2. No logarithm: it is monotone.

#define DEPTH 16

KERNEL void __launch_bounds__(256) score_norms(IN(float) sub_keys, OUT(float) norms) {
    const int lane = threadIdx.x % 32;
    const int key = (int)(blockIdx.x * 8 + threadIdx.x / 32);
    if (key >= HEADS * 2 * SUB_KEYS) return;
    float sum = 0.0f;
    for (int block = lane * 4; block < HALF_DIM; block += 128)
        for (int d = block; d < min(block + 4, HALF_DIM); d++) {
            const float k = sub_keys[(Index)key * HALF_DIM + d];
            sum = fmaf(k, k, sum);
        }
    sum = warp_sum(sum);
    if (lane == 0) norms[key] = sum;
}

// Four numbers of one vector, 0 beyond its end.
DEVICE float4 four_of(IN(float) vectors, Index vector, bool exists, int d) {
    if (!exists || d >= HALF_DIM) return make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (HALF_DIM % 4 == 0) return load4(vectors, vector * HALF_DIM + d);
    const Index at = vector * HALF_DIM + d;
    return make_float4(vectors[at], d + 1 < HALF_DIM ? vectors[at + 1] : 0.0f,
                       d + 2 < HALF_DIM ? vectors[at + 2] : 0.0f, d + 3 < HALF_DIM ? vectors[at + 3] : 0.0f);
}

KERNEL void __launch_bounds__((TILE / PER) * (TILE / PER))
score_rank(IN(float) queries, IN(float) sub_keys, IN(float) norms, OUT(float) ranking, int rows) {
    SHARED(float, query_tile, DEPTH * (TILE + 4));
    SHARED(float, key_tile, DEPTH * (TILE + 4));
    const int side = TILE / PER, threads = side * side;
    const int x = threadIdx.x % side, y = threadIdx.x / side;
    const int key_tiles = (SUB_KEYS + TILE - 1) / TILE, row_tiles = (rows + TILE - 1) / TILE;
    const int first_key = (int)(blockIdx.x % key_tiles) * TILE;
    const int first_row = (int)(blockIdx.x / key_tiles % row_tiles) * TILE;
    const int half = (int)(blockIdx.x / key_tiles / row_tiles);
    float sums[PER][PER];
#pragma unroll
    for (int i = 0; i < PER; i++)
#pragma unroll
        for (int j = 0; j < PER; j++) sums[i][j] = 0.0f;

    for (int depth = 0; depth < HALF_DIM; depth += DEPTH) {
        // Tiles are stored with the depth first, so that the inner product reads along rows.
        for (int at = threadIdx.x; at < TILE * (DEPTH / 4); at += threads) {
            const int vector = at / (DEPTH / 4), d = at % (DEPTH / 4) * 4;
            const int row = first_row + vector, key = first_key + vector;
            const float4 q = four_of(queries, (Index)row * (HEADS * 2) + half, row < rows, depth + d);
            const float4 k = four_of(sub_keys, (Index)half * SUB_KEYS + key, key < SUB_KEYS, depth + d);
            const int to = d * (TILE + 4) + vector;
            query_tile[to] = q.x, query_tile[to + TILE + 4] = q.y;
            query_tile[to + 2 * (TILE + 4)] = q.z, query_tile[to + 3 * (TILE + 4)] = q.w;
            key_tile[to] = k.x, key_tile[to + TILE + 4] = k.y;
            key_tile[to + 2 * (TILE + 4)] = k.z, key_tile[to + 3 * (TILE + 4)] = k.w;
        }
        __syncthreads();
#pragma unroll
        for (int d = 0; d < DEPTH; d++) {
            float q[PER], k[PER];
#pragma unroll
            for (int i = 0; i < PER; i++) q[i] = query_tile[d * (TILE + 4) + y + i * side];
#pragma unroll
            for (int j = 0; j < PER; j++) k[j] = key_tile[d * (TILE + 4) + x + j * side];
#pragma unroll
            for (int i = 0; i < PER; i++)
#pragma unroll
                for (int j = 0; j < PER; j++) sums[i][j] = fmaf(q[i], k[j], sums[i][j]);
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < PER; i++)
#pragma unroll
        for (int j = 0; j < PER; j++) {
            const int row = first_row + y + i * side, key = first_key + x + j * side;
            if (row >= rows || key >= SUB_KEYS) continue;
            const float rank = DOT_PRODUCT ? -sums[i][j] : fmaf(-2.0f, sums[i][j], norms[half * SUB_KEYS + key]);
            ranking[((Index)row * (HEADS * 2) + half) * SUB_KEYS + key] = rank;
        }
}
