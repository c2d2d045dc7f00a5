// Stage chunk, fast: whole chunks of a text, read and stepped, in one launch.                      CHK-1, CHK-2, CHK-3, STR-2
//
// Every block stays until the last chunk is done; what one phase writes and another reads lies between two barriers of the grid:
//   rows       two rows at a time: are they finite, select_unit, read_row, residual_row, count_entry, use_unit
//   lists      reserve_list of every entry; sum_marginal of every sub-key
//   slopes     place_entry of every entry; slope_of_unit of every row, head and half; sum_entropy by the last block; what the
//              chunk before counted is cleared
//   gradient   step_key of every sub-key, into the other table; sort_hot
//   check      only where the largest numbers seen do not exclude overflow: step_segment, then step_hot, raise the flag
//   apply      step_segment changes the slots, apply_key the sub-keys, neither where the flag is raised; meanwhile rank_tile of the
//              next chunk, by the sub-keys of the other table. Blocks take segments as they come to them
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
// Limits     WALK: border drop, kept = first, no weight decay, no memorization gradient to the sub-keys, 256 threads per tile, and
//            room in shared memory; see src/constants.rs
//
// Departures from the reference
//   1. A chunk with numbers that are not finite is computed to the end; nothing of it, nor of later ones, reaches the tables.

#define SETS_COUNTERS 8
#define SETS_LIMITS 4
#define TAKE 8

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
    SHARED(int, entry_row, 2 * SEGMENT);
    SHARED(float, entry_weight, 2 * SEGMENT);
    SHARED(int, taken, 1);
    const int entries = rows * ENTRIES, pair_entries = pair_rows * ENTRIES, units = rows * HEADS * 2, keys = HEADS * 2 * SUB_KEYS;
    const int threads = (int)gridDim.x * 256, thread = (int)(blockIdx.x * 256 + threadIdx.x);
    const int warps = threads / 32, warp = thread / 32;
    const int part = (int)threadIdx.x / 128, t = (int)threadIdx.x % 128;  // 128 threads share a row, or a segment
    const Index every_slot = (Index)SUB_KEYS * SUB_KEYS;
    int round = 0;
    rank_chunk(all_queries, sub_keys, ranking, rows, query_tile, key_tile);
    grid_barrier(arrivals, ++round);
    for (int chunk = 0; chunk < chunks; chunk++) {
        const Index first_row = (Index)chunk * rows;
        IN(float) queries = all_queries + first_row * (HEADS * 2 * HALF_DIM);
        IN(float) values = all_values + first_row * VALUE_DIM;
        IN(float) gates = all_gates + (has_gates ? first_row : 0);
        IN(int) mask = all_mask + (has_mask ? first_row : 0);
        OUT(float) reads = all_reads + first_row * VALUE_DIM;
        const int set = chunk % 2, other = 1 - set;
        OUT(int) counters = both_counters + set * SETS_COUNTERS;
        OUT(unsigned) limits = both_limits + set * SETS_LIMITS;
        OUT(int) counts = both_counts + set * every_slot;
        OUT(int) writers = both_writers + set * every_slot;
        OUT(int) slots = both_slots + (Index)set * entries;

        for (int first = (int)blockIdx.x * 2; first < rows; first += (int)gridDim.x * 2) {
            const int row = first + part;
            const bool exists = row < rows;
            if (exists) check_row(row, t, flag, queries, values, gates, has_gates);
            for (int unit = first * HEADS + (int)threadIdx.x / 32; unit < min(first + 2, rows) * HEADS; unit += 8)
                select_unit(unit, flag, queries, sub_keys, norms, ranking, half_indices, half_values, ranks, merits, slots);
            __syncthreads();
            read_row(exists, row, t, flag, merits, slots, slot_values, weights, reads, limits);
            __syncthreads();
            if (row < pair_rows && t < 32)
                residual_row(row, flag, reads, values, gates, mask, has_gates, has_mask, ahead, pair_weights, residuals,
                             pair_losses, counters, limits);
            if (exists && t >= 64)
                for (int unit = t - 64; unit < HEADS * 2; unit += 64)
                    use_unit((Index)row * (HEADS * 2) + unit, half_indices, half_indices, half_values, usage, bits, words);
            __syncthreads();
            for (int e = exists ? t : ENTRIES; e < ENTRIES; e += 128)
                count_entry(row * ENTRIES + e, slots, entries, slots, pair_weights, pair_entries, counts, writers, arrival,
                            counters);
        }
        grid_barrier(arrivals, ++round);

        for (int e = thread; e < pair_entries; e += threads)
            reserve_list(e, slots, arrival, counts, writers, base, segment_slot, segment_first, segment_partial, hot_slot,
                         hot_partial, counters);
        for (int at = warp; at < 2 * SUB_KEYS; at += warps)
            sum_marginal(at, half_indices, half_indices, usage, bits, words, marginal, slopes, rows);
        grid_barrier(arrivals, ++round);

        for (int e = thread; e < pair_entries; e += threads) place_entry(e, slots, arrival, base, list);
        for (int unit = thread; unit < units; unit += threads)
            // Without a memorization gradient to the sub-keys; merits stand in for what is not read.
            slope_of_unit(unit, half_indices, half_indices, half_values, slopes, half_indices, merits, usage, rows);
        if (chunk > 0) {
            for (int e = thread; e < entries; e += threads)
                clear_entry(e, both_slots + (Index)other * entries, entries, both_slots + (Index)other * entries, pair_entries,
                            both_counts + other * every_slot, both_writers + other * every_slot);
            if (thread == 0) clear_totals(both_counters + other * SETS_COUNTERS, both_limits + other * SETS_LIMITS);
        }
        if (blockIdx.x == gridDim.x - 1) sum_entropy(flag, marginal, report);
        grid_barrier(arrivals, ++round);

        for (int unit = (int)blockIdx.x; unit < keys; unit += (int)gridDim.x) {
            step_key(unit, sums, flag, half_indices, half_indices, usage, bits, words, queries, sub_keys, next);
            __syncthreads();
        }
        sort_hot(hot_slot, writers, base, list, sorted, counters, pair_rows * HEADS, hot_bits, below);
        grid_barrier(arrivals, ++round);

        const float factor = step_factor(counters, rows, pair_rows, has_mask);
        const int segments = counters[COUNT_SEGMENTS], hot = counters[COUNT_HOT];
        // What the blocks find here is the same for all of them, so all meet at the same barriers.
        if (!cannot_overflow(limits, factor, pair_rows)) {
            for (int first = (int)blockIdx.x * 2; first < segments; first += (int)gridDim.x * 2)
                step_segment(first + part < segments, first + part, t, entry_row + part * SEGMENT, entry_weight + part * SEGMENT,
                             factor, flag, MODE_CHECK, segment_slot, segment_first, segment_partial, counts, writers, base, list,
                             sorted, weights, residuals, partials, slot_values);
            grid_barrier(arrivals, ++round);
            step_hot(factor, flag, MODE_CHECK, hot_slot, hot_partial, counts, writers, partials, slot_values, counters);
            grid_barrier(arrivals, ++round);
        }

        const bool idle = flag[0] != FLAG_NONE;
        // By the next sub-keys also where they are refused: then nothing that is read counts any more.
        if (chunk + 1 < chunks)
            rank_chunk(queries + (Index)rows * (HEADS * 2 * HALF_DIM), next, ranking, rows, query_tile, key_tile);
        for (int key = warp; !idle && key < keys; key += warps) apply_key(key, next, sub_keys, norms);
        for (int from = 0; !idle && from < segments;) {
            __syncthreads();
            if (threadIdx.x == 0) taken[0] = atomicAdd(&counters[COUNT_TAKEN], TAKE);
            __syncthreads();
            from = taken[0];
            for (int first = from; first < min(from + TAKE, segments); first += 2)
                step_segment(first + part < segments, first + part, t, entry_row + part * SEGMENT, entry_weight + part * SEGMENT,
                             factor, flag, MODE_APPLY, segment_slot, segment_first, segment_partial, counts, writers, base, list,
                             sorted, weights, residuals, partials, slot_values);
        }
        if (thread == 0) next_number(flag);
        grid_barrier(arrivals, ++round);
        if (hot == 0) continue;
        if (!idle) step_hot(factor, flag, MODE_APPLY, hot_slot, hot_partial, counts, writers, partials, slot_values, counters);
        grid_barrier(arrivals, ++round);
    }
    const int set = (chunks - 1) % 2;
    for (int e = thread; e < entries; e += threads)
        clear_entry(e, both_slots + (Index)set * entries, entries, both_slots + (Index)set * entries, pair_entries,
                    both_counts + set * every_slot, both_writers + set * every_slot);
    if (thread == 0) {
        both_counters[COUNT_REPORTED] = both_counters[set * SETS_COUNTERS + COUNT_TOUCHED];
        clear_totals(both_counters + set * SETS_COUNTERS, both_limits + set * SETS_LIMITS);
    }
}
