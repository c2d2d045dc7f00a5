// Stage score, fast: a number per sub-key by which the nearest are found.                  SCR-1, SCR-2, NUM-2
//
//   inverse distance   norms[h,m,i] = |K[h,m,i]|^2; ranking[r,h,m,i] = -2 q[r,h,m] . K[h,m,i];
//                      norm + ranking = |q - K|^2 - |q|^2
//   dot product        ranking[r,h,m,i] = -q[r,h,m] . K[h,m,i]
//
// The smaller, the better. select.cu adds the norms, so that sub-keys can be ranked before their norms are there. Scores themselves
// are not computed here: select.cu computes those that can win, from the differences, and proves from a bound of this file's error
// that no other can. So no bit of a result depends on the order of sums here, nor on the tile.
//
// Shapes     queries [rows, HEADS, 2, HALF_DIM]; sub_keys [HEADS, 2, SUB_KEYS, HALF_DIM]; norms [HEADS, 2, SUB_KEYS];
//            ranking [rows, HEADS, 2, SUB_KEYS]; all dense, row-major
// Precision  f32, fused multiply-add; error with the norm at most gamma(HALF_DIM + 2) (max |K|^2 + 2 |q| max |K|)
// score_norms  grid (HEADS 2 SUB_KEYS / 8), block 256: one warp per sub-key, lane order
// score_rank   grid (HEADS 2, row tiles, sub-key tiles) flattened, sub-key tiles fastest; block (TILE / PER)^2; shared memory
//              2 DEPTH (TILE + 4) floats. Thread (x, y) holds PER x PER sums: rows y PER ... , sub-keys x PER ...
// score_rank_tensor  where TENSOR: products by tensor cores, of numbers rounded to TF32 (11 bits); block 256, tile 128 x 128,
//              a warp holds 64 rows x 32 sub-keys; error as select.cu says
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

#define THREADS ((TILE / PER) * (TILE / PER))
#define STRIDE (TILE + 4)
#define LOADS ((TILE * (DEPTH / 4) + THREADS - 1) / THREADS)

// PER neighbours of a row of a tile.
DEVICE void take(IN(float) tile, int at, float* numbers) {
#pragma unroll
    for (int i = 0; i < PER; i += 4) {
        if (PER % 4 == 0) {
            const float4 four = load4(tile, at + i);
            numbers[i] = four.x, numbers[i + 1] = four.y, numbers[i + 2] = four.z, numbers[i + 3] = four.w;
        } else {
            for (int j = i; j < min(i + 4, PER); j++) numbers[j] = tile[at + j];
        }
    }
}

// Four numbers of a vector into a tile, the depth first, so that the inner product reads along rows.
DEVICE void put(OUT(float) tile, int load, float4 numbers) {
    const int at = (int)threadIdx.x + load * THREADS;
    if (at >= TILE * (DEPTH / 4)) return;
    const int to = at % (DEPTH / 4) * 4 * STRIDE + at / (DEPTH / 4);
    tile[to] = numbers.x, tile[to + STRIDE] = numbers.y;
    tile[to + 2 * STRIDE] = numbers.z, tile[to + 3 * STRIDE] = numbers.w;
}

#define TILE_NUMBERS (DEPTH * STRIDE)

// One tile of rows and sub-keys; query_tile and key_tile have room for TILE_NUMBERS.
DEVICE void rank_tile(unsigned tile, IN(float) queries, IN(float) sub_keys, OUT(float) ranking, int rows,
                      OUT(float) query_tile, OUT(float) key_tile) {
    const int side = TILE / PER;
    const int x = threadIdx.x % side, y = threadIdx.x / side;
    const int key_tiles = (SUB_KEYS + TILE - 1) / TILE, row_tiles = (rows + TILE - 1) / TILE;
    const int first_key = (int)(tile % key_tiles) * TILE;
    const int first_row = (int)(tile / key_tiles % row_tiles) * TILE;
    const int half = (int)(tile / key_tiles / row_tiles);
    float sums[PER][PER];
    float4 next_q[LOADS], next_k[LOADS];
#pragma unroll
    for (int i = 0; i < PER; i++)
#pragma unroll
        for (int j = 0; j < PER; j++) sums[i][j] = 0.0f;

    // The loads of the next depth are under way while the products of this one are formed.
    for (int depth = -DEPTH; depth < HALF_DIM; depth += DEPTH) {
        const bool more = depth + DEPTH < HALF_DIM;
#pragma unroll
        for (int load = 0; load < LOADS; load++) {
            const int at = (int)threadIdx.x + load * THREADS;
            const int vector = at / (DEPTH / 4), d = depth + DEPTH + at % (DEPTH / 4) * 4;
            const int row = first_row + vector, key = first_key + vector;
            const bool here = more && at < TILE * (DEPTH / 4);
            next_q[load] = four_of(queries, (Index)row * (HEADS * 2) + half, here && row < rows, d);
            next_k[load] = four_of(sub_keys, (Index)half * SUB_KEYS + key, here && key < SUB_KEYS, d);
        }
        if (depth >= 0) {
#pragma unroll
            for (int d = 0; d < DEPTH; d++) {
                float q[PER], k[PER];
                take(query_tile, d * STRIDE + y * PER, q);
                take(key_tile, d * STRIDE + x * PER, k);
#pragma unroll
                for (int i = 0; i < PER; i++)
#pragma unroll
                    for (int j = 0; j < PER; j++) sums[i][j] = fmaf(q[i], k[j], sums[i][j]);
            }
            __syncthreads();
        }
        if (!more) break;
#pragma unroll
        for (int load = 0; load < LOADS; load++) put(query_tile, load, next_q[load]), put(key_tile, load, next_k[load]);
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < PER; i++)
#pragma unroll
        for (int j = 0; j < PER; j++) {
            const int row = first_row + y * PER + i, key = first_key + x * PER + j;
            if (row >= rows || key >= SUB_KEYS) continue;
            const float rank = (DOT_PRODUCT ? -1.0f : -2.0f) * sums[i][j];
            ranking[((Index)row * (HEADS * 2) + half) * SUB_KEYS + key] = rank;
        }
}

KERNEL void __launch_bounds__(THREADS, PER <= 4 ? 4 : 1)
score_rank(IN(float) queries, IN(float) sub_keys, OUT(float) ranking, int rows) {
    SHARED(float, query_tile, TILE_NUMBERS);
    SHARED(float, key_tile, TILE_NUMBERS);
    rank_tile(blockIdx.x, queries, sub_keys, ranking, rows, query_tile, key_tile);
}

#define WIDE 128
#define WIDE_STRIDE (DEPTH + 4)

DEVICE float4 four_to_tf32(float4 x) { return make_float4(to_tf32(x.x), to_tf32(x.y), to_tf32(x.z), to_tf32(x.w)); }

KERNEL void __launch_bounds__(256, 2)
score_rank_tensor(IN(float) queries, IN(float) sub_keys, OUT(float) ranking, int rows) {
    SHARED(float, query_tile, WIDE * WIDE_STRIDE);
    SHARED(float, key_tile, WIDE * WIDE_STRIDE);
    const int key_tiles = (SUB_KEYS + WIDE - 1) / WIDE, row_tiles = (rows + WIDE - 1) / WIDE;
    const int first_key = (int)(blockIdx.x % key_tiles) * WIDE;
    const int first_row = (int)(blockIdx.x / key_tiles % row_tiles) * WIDE;
    const int half = (int)(blockIdx.x / key_tiles / row_tiles);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int row_of_warp = warp % 2 * 64, key_of_warp = warp / 2 * 32;
    // Where a lane's numbers stand in the 16 x 8, 8 x 8 and 16 x 8 pieces of the instruction.
    const int group = lane / 4, quarter = lane % 4;
    float sums[4][4][4];
    float4 next_q[2], next_k[2];
#pragma unroll
    for (int i = 0; i < 64; i++) sums[i / 16][i / 4 % 4][i % 4] = 0.0f;
    // What a thread loads: four numbers of vectors 64 apart.
    const int vector = (int)threadIdx.x / (DEPTH / 4), column = (int)threadIdx.x % (DEPTH / 4) * 4;
    const int first_query = (first_row + vector) * (HEADS * 2) + half, first_vector = half * SUB_KEYS + first_key + vector;

    for (int depth = -DEPTH; depth < HALF_DIM; depth += DEPTH) {
        const bool more = depth + DEPTH < HALF_DIM;
#pragma unroll
        for (int load = 0; load < 2; load++) {
            const int d = depth + DEPTH + column;
            const bool row = more && first_row + vector + load * 64 < rows;
            const bool key = more && first_key + vector + load * 64 < SUB_KEYS;
            next_q[load] = four_of(queries, first_query + load * 64 * (HEADS * 2), row, d);
            next_k[load] = four_of(sub_keys, first_vector + load * 64, key, d);
        }
        if (depth >= 0) {
#pragma unroll
            for (int d = 0; d < DEPTH; d += 8) {
                unsigned k[4][2];
#pragma unroll
                for (int n = 0; n < 4; n++)
#pragma unroll
                    for (int i = 0; i < 2; i++) {
                        const int key = key_of_warp + n * 8 + group;
                        k[n][i] = __float_as_uint(key_tile[key * WIDE_STRIDE + d + quarter + i * 4]);
                    }
#pragma unroll
                for (int m = 0; m < 4; m++) {
                    unsigned q[4];
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        const int row = row_of_warp + m * 16 + group + i % 2 * 8;
                        q[i] = __float_as_uint(query_tile[row * WIDE_STRIDE + d + quarter + i / 2 * 4]);
                    }
#pragma unroll
                    for (int n = 0; n < 4; n++) multiply_add_tf32(sums[m][n], q, k[n]);
                }
            }
            __syncthreads();
        }
        if (!more) break;
#pragma unroll
        for (int load = 0; load < 2; load++) {
            const int to = (vector + load * 64) * WIDE_STRIDE + column;
            store4(query_tile, to, four_to_tf32(next_q[load]));
            store4(key_tile, to, four_to_tf32(next_k[load]));
        }
        __syncthreads();
    }
#pragma unroll
    for (int m = 0; m < 4; m++)
#pragma unroll
        for (int n = 0; n < 4; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int row = first_row + row_of_warp + m * 16 + group + i / 2 * 8;
                const int key = first_key + key_of_warp + n * 8 + quarter * 2 + i % 2;
                if (row >= rows || key >= SUB_KEYS) continue;
                const float rank = (DOT_PRODUCT ? -1.0f : -2.0f) * sums[m][n][i];
                ranking[((Index)row * (HEADS * 2) + half) * SUB_KEYS + key] = rank;
            }
}
