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
// score_rank   grid (HEADS 2, row tiles, sub-key tiles) flattened, sub-key tiles fastest; block (TILE / PER)^2. Thread (x, y) holds
//              PER x PER sums: rows y PER ... , sub-keys x PER ... Where TENSOR, products are by tensor cores, of numbers rounded to
//              TF32 (11 bits), in blocks of 256: TILE is 64 or 128, TILE / PER is 16; error as select.cu says
//
// Departures from the reference
//   1. |q|^2 is left out: it is the same for all sub-keys of a row, and keeping it costs digits near a tie.
//   2. No logarithm: it is monotone.

#define DEPTH 16

// Four numbers of one vector, 0 beyond its end.
DEVICE float4 four_of(IN(float) vectors, Index vector, bool exists, int d) {
    if (!exists || d >= HALF_DIM) return make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (HALF_DIM % 4 == 0) return load4(vectors, vector * HALF_DIM + d);
    const Index at = vector * HALF_DIM + d;
    return make_float4(vectors[at], d + 1 < HALF_DIM ? vectors[at + 1] : 0.0f,
                       d + 2 < HALF_DIM ? vectors[at + 2] : 0.0f, d + 3 < HALF_DIM ? vectors[at + 3] : 0.0f);
}

DEVICE float add_squares(float sum, float4 k) {
    return fmaf(k.w, k.w, fmaf(k.z, k.z, fmaf(k.y, k.y, fmaf(k.x, k.x, sum))));
}

KERNEL void __launch_bounds__(256) score_norms(IN(float) sub_keys, OUT(float) norms) {
    const int lane = threadIdx.x % 32;
    const int key = (int)(blockIdx.x * 8 + threadIdx.x / 32);
    if (key >= HEADS * 2 * SUB_KEYS) return;
    float sum = 0.0f;
    for (int d = lane * 4; d < HALF_DIM; d += 128) sum = add_squares(sum, four_of(sub_keys, key, true, d));
    sum = warp_sum(sum);
    if (lane == 0) norms[key] = sum;
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

// Where a block's tile of rows and sub-keys begins.
struct Corner {
    int row, key, half;
};

DEVICE Corner corner_of(unsigned tile, int rows) {
    const unsigned key_tiles = (SUB_KEYS + TILE - 1) / TILE, row_tiles = (unsigned)(rows + TILE - 1) / TILE;
    return {(int)(tile / key_tiles % row_tiles) * TILE, (int)(tile % key_tiles) * TILE, (int)(tile / key_tiles / row_tiles)};
}

// `count` neighbouring products of a row.
DEVICE void put_ranking(OUT(float) ranking, Corner corner, int row, int key, int rows, const float* sums, int count) {
    row += corner.row, key += corner.key;
    const Index at = ((Index)row * (HEADS * 2) + corner.half) * SUB_KEYS + key;
    const float factor = DOT_PRODUCT ? -1.0f : -2.0f;
#pragma unroll
    for (int i = 0; i < count; i += 4) {
        if (row >= rows || key + i >= SUB_KEYS) continue;
        if (count % 4 == 0 && SUB_KEYS % 4 == 0)
            store4(ranking, at + i, make_float4(factor * sums[i], factor * sums[i + 1], factor * sums[i + 2], factor * sums[i + 3]));
        else
            for (int j = i; j < min(min(i + 4, count), SUB_KEYS - key); j++) ranking[at + j] = factor * sums[j];
    }
}

// One tile by multiply-adds.
DEVICE void rank_by_multiply_adds(Corner corner, IN(float) queries, IN(float) sub_keys, OUT(float) ranking, int rows,
                                  OUT(float) query_tile, OUT(float) key_tile) {
    const int side = TILE / PER;
    const int x = threadIdx.x % side, y = threadIdx.x / side;
    const int first_row = corner.row, first_key = corner.key, half = corner.half;
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
    for (int i = 0; i < PER; i++) put_ranking(ranking, corner, y * PER + i, x * PER, rows, sums[i], PER);
}

#define FLAT_STRIDE (DEPTH + 4)
#define PIECES (TILE / 32)  // pieces of 16 rows, and of 8 sub-keys, of a warp

DEVICE float4 four_to_tf32(float4 x) { return make_float4(to_tf32(x.x), to_tf32(x.y), to_tf32(x.z), to_tf32(x.w)); }

// One tile by tensor cores: a warp of eight holds TILE / 2 rows x TILE / 4 sub-keys.
DEVICE void rank_by_tensor_cores(Corner corner, IN(float) queries, IN(float) sub_keys, OUT(float) ranking, int rows,
                                 OUT(float) query_tile, OUT(float) key_tile) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int row_of_warp = warp % 2 * (TILE / 2), key_of_warp = warp / 2 * (TILE / 4);
    // Where a lane's numbers stand in the 16 x 8, 8 x 8 and 16 x 8 pieces of the instruction.
    const int group = lane / 4, quarter = lane % 4;
    float sums[PIECES][PIECES][4];
    float4 next_q[LOADS], next_k[LOADS];
#pragma unroll
    for (int i = 0; i < PIECES * PIECES * 4; i++) sums[i / (PIECES * 4)][i / 4 % PIECES][i % 4] = 0.0f;
    // What a thread loads: four numbers of vectors 64 apart.
    const int vector = (int)threadIdx.x / (DEPTH / 4), column = (int)threadIdx.x % (DEPTH / 4) * 4;
    const int first_query = (corner.row + vector) * (HEADS * 2) + corner.half;
    const int first_vector = corner.half * SUB_KEYS + corner.key + vector;

    for (int depth = -DEPTH; depth < HALF_DIM; depth += DEPTH) {
        const bool more = depth + DEPTH < HALF_DIM;
#pragma unroll
        for (int load = 0; load < LOADS; load++) {
            const int d = depth + DEPTH + column;
            const bool row = more && corner.row + vector + load * 64 < rows;
            const bool key = more && corner.key + vector + load * 64 < SUB_KEYS;
            next_q[load] = four_of(queries, first_query + load * 64 * (HEADS * 2), row, d);
            next_k[load] = four_of(sub_keys, first_vector + load * 64, key, d);
        }
        if (depth >= 0) {
#pragma unroll
            for (int d = 0; d < DEPTH; d += 8) {
                unsigned k[PIECES][2];
#pragma unroll
                for (int n = 0; n < PIECES; n++)
#pragma unroll
                    for (int i = 0; i < 2; i++) {
                        const int key = key_of_warp + n * 8 + group;
                        k[n][i] = __float_as_uint(key_tile[key * FLAT_STRIDE + d + quarter + i * 4]);
                    }
#pragma unroll
                for (int m = 0; m < PIECES; m++) {
                    unsigned q[4];
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        const int row = row_of_warp + m * 16 + group + i % 2 * 8;
                        q[i] = __float_as_uint(query_tile[row * FLAT_STRIDE + d + quarter + i / 2 * 4]);
                    }
#pragma unroll
                    for (int n = 0; n < PIECES; n++) multiply_add_tf32(sums[m][n], q, k[n]);
                }
            }
            __syncthreads();
        }
        if (!more) break;
#pragma unroll
        for (int load = 0; load < LOADS; load++) {
            const int to = (vector + load * 64) * FLAT_STRIDE + column;
            store4(query_tile, to, four_to_tf32(next_q[load]));
            store4(key_tile, to, four_to_tf32(next_k[load]));
        }
        __syncthreads();
    }
#pragma unroll
    for (int m = 0; m < PIECES; m++)
#pragma unroll
        for (int n = 0; n < PIECES; n++)
#pragma unroll
            for (int i = 0; i < 2; i++)
                put_ranking(ranking, corner, row_of_warp + m * 16 + group + i * 8, key_of_warp + n * 8 + quarter * 2, rows,
                            &sums[m][n][i * 2], 2);
}

// Numbers of a tile in shared memory.
#define TILE_NUMBERS (TENSOR ? TILE * FLAT_STRIDE : DEPTH * STRIDE)

// One tile of rows and sub-keys; query_tile and key_tile have room for TILE_NUMBERS.
DEVICE void rank_tile(unsigned tile, IN(float) queries, IN(float) sub_keys, OUT(float) ranking, int rows,
                      OUT(float) query_tile, OUT(float) key_tile) {
    const Corner corner = corner_of(tile, rows);
    if (TENSOR) rank_by_tensor_cores(corner, queries, sub_keys, ranking, rows, query_tile, key_tile);
    else rank_by_multiply_adds(corner, queries, sub_keys, ranking, rows, query_tile, key_tile);
}

KERNEL void __launch_bounds__(THREADS, TENSOR && TILE > 64 ? 2 : PER <= 4 ? 4 : 1)
score_rank(IN(float) queries, IN(float) sub_keys, OUT(float) ranking, int rows) {
    SHARED(float, query_tile, TILE_NUMBERS);
    SHARED(float, key_tile, TILE_NUMBERS);
    rank_tile(blockIdx.x, queries, sub_keys, ranking, rows, query_tile, key_tile);
}
