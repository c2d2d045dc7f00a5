// Stage chunk, fast: whole chunks of a text, read and stepped, in one launch.                      CHK-1, CHK-2, CHK-3, STR-2
//
// Every block stays until the last chunk is done; what one phase writes and another reads lies between two barriers of the grid:
//   rows       two rows at a time: are they finite, select_units, read_row, residual_row, count_entry, use_units
//   lists      reserve_list of every entry; sum_marginal of every sub-key
//   slopes     place_entry of every entry; slope_units of every row, head and half; sum_entropy by the last block; what the
//              chunk before counted is cleared
//   gradient   step_key of every sub-key, into the other table; sort_hot
//   check      only where the largest numbers seen do not exclude overflow: step_segment, then step_hot, raise the flag
//   apply      step_segment changes the slots, apply_key the sub-keys, neither where the flag is raised; meanwhile rank_tile of the
//              next chunk, by the sub-keys of the other table: half of the blocks begin with the one, half with the other. Warps
//              take segments as they come to them
//   hot        only where a slot has several segments: step_hot changes it
// What is counted has two sets, for chunks of even and odd number, since one chunk counts before the other's counts are cleared.
//
// The functions are those of the other files, which also say in which order they add; so the bits are those of the kernels that do
// one stage each. What a function takes as IN and another writes in this launch must not be read through the cache for constants:
// parameters that are written here are OUT, and the compiler keeps to that.
//
// Shapes     counts, writers [2, slots], slots [2, rows, HEADS, TOP_K], counters [2, 8], limits [2, 4], all counts 0 at the launch
//            and after it; queries [chunks rows, HEADS, 2, HALF_DIM], values, reads [chunks rows, VALUE_DIM], gates, mask
//            [chunks rows], at 16 bytes, reads apart from the others; all others as in the files of their stages, for one chunk;
//            arrivals [1], 0 at the launch
// Grid       cooperative: all blocks at once, at least one; block 256
// Limits     WALK: border drop, kept = top_k, no weight decay, no memorization gradient to the sub-keys, 256 threads per tile, and
//            room in shared memory; see src/constants.rs
//
// Departures from the reference
//   1. A chunk with numbers that are not finite is computed to the end; nothing of it, nor of later ones, reaches the tables.

#define SETS_COUNTERS 8
#define SETS_LIMITS 4

// Where the tokens of chunk `now` stand, and the set of its parity. Every phase reads `now` from shared memory, so that none of these
// addresses is kept in registers.
#define FIRST_ROW ((Index)now * rows)
#define QUERIES (all_queries + FIRST_ROW * (HEADS * 2 * HALF_DIM))
#define VALUES (all_values + FIRST_ROW * VALUE_DIM)
#define GATES (all_gates + (has_gates ? FIRST_ROW : 0))
#define MASK (all_mask + (has_mask ? FIRST_ROW : 0))
#define READS (all_reads + FIRST_ROW * VALUE_DIM)
#define COUNTERS (both_counters + set * SETS_COUNTERS)
#define LIMITS (both_limits + set * SETS_LIMITS)
#define COUNTS (both_counts + set * EVERY_SLOT)
#define WRITERS (both_writers + set * EVERY_SLOT)
#define SLOTS (both_slots + (Index)set * ALL_ENTRIES)

#define ALL_ENTRIES (rows * ENTRIES)
#define PAIR_ENTRIES (pair_rows * ENTRIES)
#define UNITS (rows * (HEADS * 2))
#define KEYS (HEADS * 2 * SUB_KEYS)
#define EVERY_SLOT ((Index)SUB_KEYS * SUB_KEYS)
// The thread of the block is read again too. 128 threads share a row.
#define THREADS_OF_GRID ((int)gridDim.x * 256)
#define THREAD ((int)blockIdx.x * 256 + tid)
#define WARPS ((int)gridDim.x * 8)
#define WARP ((int)blockIdx.x * 8 + tid / 32)
#define LANE (tid % 32)
#define PART (tid / 128)
#define PLACE (tid % 128)
#define OWN (tid / 32 * SEGMENT)

// All tiles of a chunk, by all blocks.
DEVICE void rank_chunk(IN(float) queries, IN(float) sub_keys, OUT(float) ranking, int rows, OUT(float) query_tile,
                       OUT(float) key_tile) {
    const int tiles = (rows + TILE - 1) / TILE * ((SUB_KEYS + TILE - 1) / TILE) * (HEADS * 2);
    for (int tile = (int)blockIdx.x; tile < tiles; tile += (int)gridDim.x)
        rank_tile((unsigned)tile, queries, sub_keys, ranking, rows, query_tile, key_tile);
}

KERNEL void __launch_bounds__(256, 2)
chunk_walk(OUT(int) flag, OUT(int) arrivals, OUT(int) both_counters, OUT(unsigned) both_limits, IN(float) all_queries,
           IN(float) all_values, IN(float) all_gates, IN(int) all_mask, int has_gates, int has_mask, int chunks, int rows,
           int pair_rows, int ahead, OUT(float) all_reads, OUT(float) sub_keys, OUT(float) norms, OUT(float) next,
           OUT(float) slot_values, OUT(float) ranking, OUT(int) half_indices, OUT(float) half_values, OUT(int) ranks,
           OUT(double) merits, OUT(int) both_slots, OUT(float) weights, OUT(float) pair_weights, OUT(float) residuals,
           OUT(float) pair_losses, OUT(int) both_counts, OUT(int) both_writers, OUT(int) base, OUT(int) arrival, OUT(int) list,
           OUT(int) sorted, OUT(int) segment_slot, OUT(int) segment_first, OUT(int) segment_partial, OUT(int) hot_slot,
           OUT(int) hot_partial, OUT(float) partials, OUT(float) usage, OUT(unsigned) bits, int words, OUT(float) marginal,
           OUT(double) slopes, OUT(float) report) {
    if (!WALK) return;
    DYNAMIC_SHARED(unsigned, hot_bits);
    SHARED(float, query_tile, WALK ? TILE_NUMBERS : 1);
    SHARED(float, key_tile, WALK ? TILE_NUMBERS : 1);
    SHARED(float, sums, WALK ? GROUPS * HALF_DIM : 1);
    SHARED(int, below, 256);
    SHARED(int, rounds, 1);
    SHARED(int, current, 1);
    SHARED(float, best_x, 256);
    SHARED(int, best_keys, 256);
    SHARED(int, entry_row, 8 * SEGMENT);
    SHARED(float, entry_weight, 8 * SEGMENT);
    if (threadIdx.x == 0) rounds[0] = 0, current[0] = -1;
    rank_chunk(all_queries, sub_keys, ranking, rows, query_tile, key_tile);
    grid_barrier(arrivals, rounds);
    for (;;) {
        if (threadIdx.x == 0) current[0] = current[0] + 1;
        __syncthreads();
        int now = current[0], set = now % 2, tid = again((int)threadIdx.x) & 255;
        if (now == chunks) break;
        for (int first = (int)blockIdx.x * 2; first < rows; first += (int)gridDim.x * 2) {
            const int row = first + PART;
            const bool exists = row < rows;
            if (exists) check_row(row, PLACE, flag, QUERIES, VALUES, GATES, has_gates);
            select_units(first * HEADS, min(first + 2, rows) * HEADS, best_x, best_keys, flag, QUERIES, sub_keys, norms, ranking,
                         half_indices, half_values, ranks, merits, SLOTS);
            read_row(exists, row, PLACE, flag, merits, SLOTS, slot_values, weights, READS, LIMITS);
            __syncthreads();
            if (row < pair_rows && PLACE < 32)
                residual_row(row, flag, READS, VALUES, GATES, MASK, has_gates, has_mask, ahead, pair_weights, residuals,
                             pair_losses, COUNTERS, LIMITS);
            if (exists && PLACE / 32 == 2)
                for (int unit = 0; unit < HEADS * 2; unit += UNITS_OF_WARP)
                    use_units((Index)row * (HEADS * 2) + unit, (Index)(row + 1) * (HEADS * 2), half_indices, half_indices,
                              half_values, usage, bits, words);
            __syncthreads();
            for (int e = PLACE; e - PLACE % 32 < ENTRIES; e += 128)
                count_entry(exists && e < ENTRIES ? row * ENTRIES + e : ALL_ENTRIES, SLOTS, ALL_ENTRIES, SLOTS, pair_weights,
                            PAIR_ENTRIES, COUNTS, WRITERS, arrival, COUNTERS);
        }
        grid_barrier(arrivals, rounds);

        now = current[0], set = now % 2, tid = again((int)threadIdx.x) & 255;
        for (int e = THREAD; e - THREAD % 32 < PAIR_ENTRIES; e += THREADS_OF_GRID)
            reserve_list(e, PAIR_ENTRIES, SLOTS, arrival, COUNTS, WRITERS, base, segment_slot, segment_first, segment_partial,
                         hot_slot, hot_partial, COUNTERS);
        for (int at = WARP; at < 2 * SUB_KEYS; at += WARPS)
            sum_marginal(at, half_indices, half_indices, usage, bits, words, marginal, slopes, rows);
        grid_barrier(arrivals, rounds);

        now = current[0], set = now % 2, tid = again((int)threadIdx.x) & 255;
        for (int e = THREAD; e < PAIR_ENTRIES; e += THREADS_OF_GRID) place_entry(e, SLOTS, arrival, base, list);
        for (int unit = WARP * UNITS_OF_WARP; unit < UNITS; unit += WARPS * UNITS_OF_WARP)
            // Without a memorization gradient to the sub-keys; merits stand in for what is not read.
            slope_units(unit, UNITS, half_indices, half_indices, half_values, slopes, half_indices, merits, usage, rows);
        if (now > 0) {
            for (int e = THREAD; e < ALL_ENTRIES; e += THREADS_OF_GRID)
                clear_entry(e, both_slots + (Index)(1 - set) * ALL_ENTRIES, ALL_ENTRIES,
                            both_slots + (Index)(1 - set) * ALL_ENTRIES, PAIR_ENTRIES,
                            both_counts + (1 - set) * EVERY_SLOT, both_writers + (1 - set) * EVERY_SLOT);
            if (THREAD == 0) clear_totals(both_counters + (1 - set) * SETS_COUNTERS, both_limits + (1 - set) * SETS_LIMITS);
        }
        if (blockIdx.x == gridDim.x - 1) sum_entropy(flag, slopes, report);
        grid_barrier(arrivals, rounds);

        now = current[0], set = now % 2, tid = again((int)threadIdx.x) & 255;
        for (int unit = (int)blockIdx.x; unit < KEYS; unit += (int)gridDim.x) {
            step_key(unit, sums, flag, half_indices, half_indices, usage, bits, words, QUERIES, sub_keys, next);
            __syncthreads();
        }
        sort_hot(hot_slot, WRITERS, base, list, sorted, COUNTERS, pair_rows * HEADS, hot_bits, below);
        grid_barrier(arrivals, rounds);

        now = current[0], set = now % 2, tid = again((int)threadIdx.x) & 255;
        const float factor = step_factor(COUNTERS, rows, pair_rows, has_mask);
        const int segments = COUNTERS[COUNT_SEGMENTS], hot = COUNTERS[COUNT_HOT];
        // What the blocks find here is the same for all of them, so all meet at the same barriers.
        if (!cannot_overflow(LIMITS, factor, pair_rows)) {
            for (int segment = WARP; segment < segments; segment += WARPS)
                step_segment(segment, entry_row + OWN, entry_weight + OWN, factor, flag, MODE_CHECK, segment_slot, segment_first,
                             segment_partial, COUNTS, WRITERS, base, list, sorted, weights, residuals, partials, slot_values);
            grid_barrier(arrivals, rounds);
            step_hot(factor, flag, MODE_CHECK, hot_slot, hot_partial, COUNTS, WRITERS, partials, slot_values, COUNTERS);
            grid_barrier(arrivals, rounds);
        }

        const bool idle = flag[0] != FLAG_NONE;
        // Half of the blocks rank first, half write slots first: one is arithmetic, the other waits for memory.
#pragma unroll 1
        for (int turn = 0; turn < 2; turn++) {
            if ((turn == 0) == ((int)blockIdx.x < ((int)gridDim.x + 1) / 2)) {
                // By the next sub-keys also where they are refused: then nothing that is read counts any more.
                if (now + 1 < chunks)
                    rank_chunk(QUERIES + (Index)rows * (HEADS * 2 * HALF_DIM), next, ranking, rows, query_tile, key_tile);
                continue;
            }
            for (int key = WARP; !idle && key < KEYS; key += WARPS) apply_key(key, next, sub_keys, norms);
            const int share = 1 + segments / (4 * WARPS);
            for (int from = 0; !idle;) {
                if (LANE == 0) from = atomicAdd(&COUNTERS[COUNT_TAKEN], share);
                from = __shfl_sync(FULL_WARP, from, 0);
                if (from >= segments) break;
                for (int segment = from; segment < min(from + share, segments); segment++)
                    step_segment(segment, entry_row + OWN, entry_weight + OWN, factor, flag, MODE_APPLY, segment_slot,
                                 segment_first, segment_partial, COUNTS, WRITERS, base, list, sorted, weights, residuals, partials,
                                 slot_values);
            }
        }
        if (THREAD == 0) next_number(flag);
        grid_barrier(arrivals, rounds);
        if (hot == 0) continue;
        if (!idle) step_hot(factor, flag, MODE_APPLY, hot_slot, hot_partial, COUNTS, WRITERS, partials, slot_values, COUNTERS);
        grid_barrier(arrivals, rounds);
    }
    const int set = (chunks - 1) % 2, tid = (int)threadIdx.x;
    for (int e = THREAD; e < ALL_ENTRIES; e += THREADS_OF_GRID)
        clear_entry(e, both_slots + (Index)set * ALL_ENTRIES, ALL_ENTRIES, both_slots + (Index)set * ALL_ENTRIES, PAIR_ENTRIES,
                    both_counts + set * EVERY_SLOT, both_writers + set * EVERY_SLOT);
    if (THREAD == 0) {
        both_counters[COUNT_REPORTED] = both_counters[set * SETS_COUNTERS + COUNT_TOUCHED];
        clear_totals(both_counters + set * SETS_COUNTERS, both_limits + set * SETS_LIMITS);
    }
}
