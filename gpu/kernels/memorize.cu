// Stage memorize, fast: losses, read counts, value gradient, and the step of the slots that were written.     MEM-1 ... MEM-5
//
//   f_r        mask gate of the query                            residual_r = f_r (read_r - target_r)
//   loss_r     f_r mean over features of (read_r - target_r)^2
//   G_i        F / max(N_i, 1) sum over entries e = (row, head, place) of slot i of weight_e residual_r
//   V_i        <- V_i - lr (clip(G_i) + decay V_i)
//
// The sparse step: entries of a slot arrive in a list in any order (integer atomics), the list is sorted by entry, and summed
// in list order. Nothing passes over the table, except where WEIGHT_DECAY moves every slot. Launches, in this order:
//   residual   f, residual, loss of every pair row; count   N_i, and each writing entry's place of arrival at its slot
//   lists      the first to arrive reserves the slot's list and its segments; place   each entry goes into the list
//   sort_hot   lists of more than SEGMENT entries, through a bitmap of (row, head): an entry's rank is the bits below it
//   segments, hot, decay   with mode CHECK: raise the flag if a result would not be finite; with APPLY: change the table
//   clear      sets the counts back to 0, and goes on to the next chunk's number
// CHECK returns at once where the largest numbers seen exclude overflow, as they nearly always do.
//
// Shapes     reads, residuals [rows, VALUE_DIM]; values [tokens + up to L more, sequences, VALUE_DIM], target of row r at r +
//            ahead; gates, mask, pair_weights, pair_losses [rows]; slots, weights [rows, HEADS, TOP_K]; counts, writers, base
//            [slots]; arrival, list, sorted [entries]; segment_* [entries]; hot_* [entries / SEGMENT]; partials [2 entries /
//            SEGMENT + 1, VALUE_DIM]; counters [8], see COUNT_*; limits as read.cu, [2] largest |residual|
// Precision  f32, fused multiply-add; sums over features in lane order; sums over entries in list order
// Order      entries of a slot ascending (row, head, place); rows are (token, sequence)
// Grid       residual: a warp per pair row. count, lists, place, clear: a thread per entry. sort_hot, hot: blocks over hot
//            slots. segments: a warp per segment; lane l holds features 4 l ... 4 l + 3, 4 (l + 32) and so on
// Limits     a row and head name a slot once, so the bitmap has rows HEADS bits (dynamic shared memory)
//
// Departures from the reference
//   1. Sums in segments, so that a slot that all tokens read is summed by many blocks.

#define COUNT_TOUCHED 0
#define COUNT_LISTED 1
#define COUNT_SEGMENTS 2
#define COUNT_HOT 3
#define COUNT_PARTIALS 4
#define COUNT_UNMASKED 5
#define COUNT_TAKEN 6
#define COUNT_REPORTED 7

#define MODE_CHECK 0
#define MODE_APPLY 1

// f of MEM-2
DEVICE float pair_weight(IN(float) gates, IN(int) mask, int has_gates, int has_mask, int row) {
    if (has_mask && mask[row] == 0) return 0.0f;
    return has_gates ? (float)gates[row] : 1.0f;
}

// f x; what does not count is 0, also where x is infinite.                                                       MEM-2
DEVICE float weighted(float f, float x) { return f == 0.0f ? 0.0f : f * x; }

#define PIECE 4  // four numbers each that a lane holds at a time

// Up to four neighbours, at 16 bytes where rows of VALUE_DIM are; 0 beyond the `left` there are.
DEVICE float4 four_from(IN(float) from, Index at, int left) {
    if (VALUE_DIM % 4 == 0) return load4(from, at);
    return make_float4(from[at], left > 1 ? from[at + 1] : 0.0f, left > 2 ? from[at + 2] : 0.0f, left > 3 ? from[at + 3] : 0.0f);
}
DEVICE void put_four(OUT(float) to, Index at, int left, float4 numbers) {
    if (VALUE_DIM % 4 == 0) return store4(to, at, numbers);
    to[at] = numbers.x;
    if (left > 1) to[at + 1] = numbers.y;
    if (left > 2) to[at + 2] = numbers.z;
    if (left > 3) to[at + 3] = numbers.w;
}
DEVICE float4 subtract(float4 a, float4 b) { return make_float4(a.x - b.x, a.y - b.y, a.z - b.z, a.w - b.w); }

// The warp computes the residual of one pair row.
DEVICE void residual_row(int row, OUT(int) flag, IN(float) reads, IN(float) values, IN(float) gates, IN(int) mask, int has_gates,
                         int has_mask, int ahead, OUT(float) pair_weights, OUT(float) residuals, OUT(float) pair_losses,
                         OUT(int) counters, OUT(unsigned) limits) {
    const int lane = threadIdx.x % 32;
    const float f = pair_weight(gates, mask, has_gates, has_mask, row);
    float sum = 0.0f, largest = 0.0f;
    for (int from = 0; from < VALUE_DIM; from += 128 * PIECE) {
        float4 numbers[PIECE];
#pragma unroll
        for (int i = 0; i < PIECE; i++) {
            const int d = from + i * 128 + lane * 4;
            const Index at = (Index)row * VALUE_DIM + d, target = (Index)(row + ahead) * VALUE_DIM + d;
            if (d < VALUE_DIM)
                numbers[i] = subtract(four_from(reads, at, VALUE_DIM - d), four_from(values, target, VALUE_DIM - d));
        }
#pragma unroll
        for (int i = 0; i < PIECE; i++) {
            const int d = from + i * 128 + lane * 4;
            if (d >= VALUE_DIM) continue;
            float4 x = numbers[i];
            sum = add_squares(sum, x);
            x = make_float4(weighted(f, x.x), weighted(f, x.y), weighted(f, x.z), weighted(f, x.w));
            largest = fmaxf(fmaxf(largest, fmaxf(fabsf(x.x), fabsf(x.y))), fmaxf(fabsf(x.z), fabsf(x.w)));
            put_four(residuals, (Index)row * VALUE_DIM + d, VALUE_DIM - d, x);
        }
    }
    const float loss = weighted(f, warp_sum(sum) / (float)VALUE_DIM);
    if (lane == 0) {
        pair_weights[row] = f;
        pair_losses[row] = loss;
        if (!isfinite(loss)) raise(flag, FLAG_PAIR_LOSSES);
        if (PAIR_FACTOR && has_mask && mask[row] != 0) atomicAdd(&counters[COUNT_UNMASKED], 1);
    }
    grow(limits, 2, largest);
}

KERNEL void __launch_bounds__(256)
memorize_residual(OUT(int) flag, IN(float) reads, IN(float) values, IN(float) gates, IN(int) mask, int has_gates,
                  int has_mask, int ahead, OUT(float) pair_weights, OUT(float) residuals, OUT(float) pair_losses,
                  OUT(int) counters, OUT(unsigned) limits, int rows) {
    const int row = (int)(blockIdx.x * 8 + threadIdx.x / 32);
    if (row < rows)
        residual_row(row, flag, reads, values, gates, mask, has_gates, has_mask, ahead, pair_weights, residuals, pair_losses,
                     counters, limits);
}

// N_i over the counted entries, and the arrival of every entry of a pair with f != 0. Whole warps come; e may be beyond all
// entries.                                                                                                      MEM-3
DEVICE void count_entry(int e, IN(int) counted, int counted_entries, IN(int) slots, IN(float) pair_weights, int pair_entries,
                        OUT(int) counts, OUT(int) writers, OUT(int) arrival, OUT(int) counters) {
    const bool first = e < counted_entries && atomicAdd(&counts[counted[e]], 1) == 0;
    const int touched = __popc(__ballot_sync(FULL_WARP, first));
    if (threadIdx.x % 32 == 0 && touched > 0) atomicAdd(&counters[COUNT_TOUCHED], touched);
    if (e < pair_entries)
        arrival[e] = pair_weights[e / ENTRIES] != 0.0f ? atomicAdd(&writers[slots[e]], 1) : -1;
}

KERNEL void __launch_bounds__(256)
memorize_count(IN(int) counted, int counted_entries, IN(int) slots, IN(float) pair_weights, int pair_entries,
               OUT(int) counts, OUT(int) writers, OUT(int) arrival, OUT(int) counters) {
    const int e = (int)(blockIdx.x * 256 + threadIdx.x);
    count_entry(e, counted, counted_entries, slots, pair_weights, pair_entries, counts, writers, arrival, counters);
}

// The first entry to arrive at a slot reserves room for all of them; a warp, which comes whole, reserves at once. e may be beyond
// the entries.
DEVICE void reserve_list(int e, int pair_entries, IN(int) slots, IN(int) arrival, IN(int) counts, IN(int) writers, OUT(int) base,
                         OUT(int) segment_slot, OUT(int) segment_first, OUT(int) segment_partial, OUT(int) hot_slot,
                         OUT(int) hot_partial, OUT(int) counters) {
    const int lane = threadIdx.x % 32;
    const bool reserves = e < pair_entries && arrival[min(e, pair_entries - 1)] == 0;
    const int slot = reserves ? (int)slots[e] : 0, length = reserves ? (int)writers[slot] : 0;
    const int parts = (length + SEGMENT - 1) / SEGMENT;
    int lengths = length, segments = parts;  // of this lane and those before
#pragma unroll
    for (int apart = 1; apart < 32; apart *= 2) {
        const int its_lengths = __shfl_up_sync(FULL_WARP, lengths, apart), its_segments = __shfl_up_sync(FULL_WARP, segments, apart);
        if (lane >= apart) lengths += its_lengths, segments += its_segments;
    }
    int listed = 0, segment = 0;
    if (lane == 31 && lengths > 0) {
        listed = atomicAdd(&counters[COUNT_LISTED], lengths);
        segment = atomicAdd(&counters[COUNT_SEGMENTS], segments);
    }
    listed = __shfl_sync(FULL_WARP, listed, 31) + lengths - length;
    segment = __shfl_sync(FULL_WARP, segment, 31) + segments - parts;
    if (!reserves) return;
    if (counts[slot] == 0) atomicAdd(&counters[COUNT_TOUCHED], 1);
    base[slot] = listed;
    int partial = -1;
    if (parts > 1) {
        const int hot = atomicAdd(&counters[COUNT_HOT], 1);
        partial = atomicAdd(&counters[COUNT_PARTIALS], parts);
        hot_slot[hot] = slot;
        hot_partial[hot] = partial;
    }
    for (int part = 0; part < parts; part++) {
        segment_slot[segment + part] = slot;
        segment_first[segment + part] = part * SEGMENT;
        segment_partial[segment + part] = parts > 1 ? partial + part : -1;
    }
}

KERNEL void __launch_bounds__(256)
memorize_lists(IN(int) slots, IN(int) arrival, int pair_entries, IN(int) counts, IN(int) writers, OUT(int) base,
               OUT(int) segment_slot, OUT(int) segment_first, OUT(int) segment_partial, OUT(int) hot_slot,
               OUT(int) hot_partial, OUT(int) counters) {
    const int e = (int)(blockIdx.x * 256 + threadIdx.x);
    reserve_list(e, pair_entries, slots, arrival, counts, writers, base, segment_slot, segment_first, segment_partial, hot_slot,
                 hot_partial, counters);
}

DEVICE void place_entry(int e, IN(int) slots, IN(int) arrival, IN(int) base, OUT(int) list) {
    if (arrival[e] >= 0) list[base[slots[e]] + arrival[e]] = e;
}

KERNEL void __launch_bounds__(256)
memorize_place(IN(int) slots, IN(int) arrival, int pair_entries, IN(int) base, OUT(int) list) {
    const int e = (int)(blockIdx.x * 256 + threadIdx.x);
    if (e < pair_entries) place_entry(e, slots, arrival, base, list);
}

// sorted[base + rank] = entry, for slots of several segments.
// The blocks share the hot slots; bits has room for the units, below for 256.
DEVICE void sort_hot(IN(int) hot_slot, IN(int) writers, IN(int) base, IN(int) list, OUT(int) sorted, IN(int) counters, int units,
                     OUT(unsigned) bits, OUT(int) below) {
    const int words = (units + 31) / 32, share = (words + 255) / 256, t = (int)threadIdx.x;
    for (int hot = (int)blockIdx.x; hot < counters[COUNT_HOT]; hot += (int)gridDim.x) {
        const int slot = hot_slot[hot], length = writers[slot], first = base[slot];
        __syncthreads();
        for (int word = t; word < words; word += 256) bits[word] = 0;
        __syncthreads();
        for (int i = t; i < length; i += 256) {
            const int unit = list[first + i] / TOP_K;
            atomicOr(&bits[unit / 32], 1u << (unit % 32));
        }
        __syncthreads();
        int count = 0;
        for (int word = t * share; word < min((t + 1) * share, words); word++) count += __popc(bits[word]);
        below[t] = count;
        __syncthreads();
        for (int i = t; i < length; i += 256) {
            const int entry = list[first + i], unit = entry / TOP_K, word = unit / 32, owner = word / share;
            int rank = __popc(bits[word] & ((1u << (unit % 32)) - 1));
            for (int w = owner * share; w < word; w++) rank += __popc(bits[w]);
            for (int other = 0; other < owner; other++) rank += below[other];
            sorted[first + rank] = entry;
        }
    }
}

KERNEL void __launch_bounds__(256)
memorize_sort_hot(IN(int) hot_slot, IN(int) writers, IN(int) base, IN(int) list, OUT(int) sorted, IN(int) counters, int units) {
    DYNAMIC_SHARED(unsigned, bits);
    SHARED(int, below, 256);
    sort_hot(hot_slot, writers, base, list, sorted, counters, units, bits, below);
}

// F of MEM-4: factors of the rules, READ_FACTOR and PAIR_FACTOR.
DEVICE float step_factor(IN(int) counters, int samples, int pair_rows, int has_mask) {
    double pair_factor = 1.0;
    if (PAIR_FACTOR) pair_factor = pair_rows == 0 ? 0.0 : (double)(has_mask ? counters[COUNT_UNMASKED] : samples) / pair_rows;
    return (float)((READ_FACTOR ? (double)ENTRIES : 1.0) * pair_factor);
}

// Whether no number of this step can overflow: bounds from the largest numbers seen.
DEVICE bool cannot_overflow(IN(unsigned) limits, float factor, int pair_rows) {
    const double value = __uint_as_float(limits[0]), weight = __uint_as_float(limits[1]), residual = __uint_as_float(limits[2]);
    const double sum = (double)pair_rows * ENTRIES * weight * residual;
    const double bound = (sum * (1.0 + factor) + value) * (1.0 + (double)LEARNING_RATE) + 2.0 * value;
    return !DECAY_GROWS && bound < 1e37;
}

// The step of one feature; in mode CHECK only a look at it.
DEVICE void step_feature(OUT(int) flag, int mode, OUT(float) slot_values, Index at, float gradient) {
    const float after = descend(slot_values[at], gradient);
    if (mode == MODE_APPLY) {
        slot_values[at] = after;
    } else {
        if (!isfinite(gradient)) raise(flag, FLAG_VALUE_GRADIENT);
        if (!isfinite(after)) raise(flag, FLAG_SLOT_VALUES);
    }
}

DEVICE bool is_idle(OUT(int) flag, int mode, IN(unsigned) limits, float factor, int pair_rows) {
    return mode == MODE_APPLY ? flag[0] != FLAG_NONE : cannot_overflow(limits, factor, pair_rows);
}

// The warp sums a segment, and steps its slot where it is the only one. entry_row and entry_weight have room for SEGMENT.
DEVICE void step_segment(int segment, OUT(int) entry_row, OUT(float) entry_weight, float factor, OUT(int) flag, int mode,
                         IN(int) segment_slot, IN(int) segment_first, IN(int) segment_partial, IN(int) counts, IN(int) writers,
                         IN(int) base, IN(int) list, IN(int) sorted, IN(float) weights, IN(float) residuals, OUT(float) partials,
                         OUT(float) slot_values) {
    const int lane = threadIdx.x % 32;
    const int slot = segment_slot[segment], first = segment_first[segment], partial = segment_partial[segment];
    const int length = min(writers[slot] - first, SEGMENT), begin = base[slot] + first;
    const float scale = factor / (float)max((int)counts[slot], 1);
    const bool alone = partial < 0;
    for (int from = 0; from < VALUE_DIM; from += 128 * PIECE) {
        // The slot's numbers are on their way while its entries are looked up.
        float4 v[PIECE], sum[PIECE];
#pragma unroll
        for (int i = 0; i < PIECE; i++) {
            const int d = from + i * 128 + lane * 4;
            sum[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f), v[i] = sum[i];
            if (alone && d < VALUE_DIM) v[i] = four_from(slot_values, (Index)slot * VALUE_DIM + d, VALUE_DIM - d);
        }
        if (from == 0) {
            int entry = 0x7fffffff, rank = lane;
            if (lane < length) entry = alone ? list[begin + lane] : sorted[begin + lane];
            if (alone) {
                rank = 0;
                for (int other = 0; other < length; other++) rank += __shfl_sync(FULL_WARP, entry, other) < entry;
            }
            __syncwarp();
            if (lane < length) entry_row[rank] = entry / ENTRIES, entry_weight[rank] = weights[entry];
            __syncwarp();
        }
        for (int e = 0; e < length; e++) {
            const float w = entry_weight[e];
            const Index row = (Index)entry_row[e] * VALUE_DIM;
#pragma unroll
            for (int i = 0; i < PIECE; i++) {
                const int d = from + i * 128 + lane * 4;
                if (d >= VALUE_DIM) continue;
                const float4 r = four_from(residuals, row + d, VALUE_DIM - d);
                sum[i].x = fmaf(w, r.x, sum[i].x), sum[i].y = fmaf(w, r.y, sum[i].y);
                sum[i].z = fmaf(w, r.z, sum[i].z), sum[i].w = fmaf(w, r.w, sum[i].w);
            }
        }
#pragma unroll
        for (int i = 0; i < PIECE; i++) {
            const int d = from + i * 128 + lane * 4;
            if (d >= VALUE_DIM) continue;
            if (!alone) {
                put_four(partials, (Index)partial * VALUE_DIM + d, VALUE_DIM - d, sum[i]);
                continue;
            }
            const float4 g = make_float4(scale * sum[i].x, scale * sum[i].y, scale * sum[i].z, scale * sum[i].w);
            const float4 after = make_float4(descend(v[i].x, g.x), descend(v[i].y, g.y), descend(v[i].z, g.z), descend(v[i].w, g.w));
            if (mode == MODE_APPLY) {
                put_four(slot_values, (Index)slot * VALUE_DIM + d, VALUE_DIM - d, after);
            } else {
                if (!isfinite(g.x) || !isfinite(g.y) || !isfinite(g.z) || !isfinite(g.w)) raise(flag, FLAG_VALUE_GRADIENT);
                if (!isfinite(after.x) || !isfinite(after.y) || !isfinite(after.z) || !isfinite(after.w))
                    raise(flag, FLAG_SLOT_VALUES);
            }
        }
    }
}

#define SEGMENT_WARPS 4

KERNEL void __launch_bounds__(SEGMENT_WARPS * 32, 6)
memorize_segments(OUT(int) flag, int mode, IN(int) segment_slot, IN(int) segment_first, IN(int) segment_partial,
                  IN(int) counts, IN(int) writers, IN(int) base, IN(int) list, IN(int) sorted, IN(float) weights,
                  IN(float) residuals, OUT(float) partials, OUT(float) slot_values, IN(int) counters, IN(unsigned) limits,
                  int samples, int pair_rows, int has_mask) {
    SHARED(int, entry_row, SEGMENT_WARPS * SEGMENT);
    SHARED(float, entry_weight, SEGMENT_WARPS * SEGMENT);
    const float factor = step_factor(counters, samples, pair_rows, has_mask);
    if (is_idle(flag, mode, limits, factor, pair_rows)) return;
    const int warp = (int)threadIdx.x / 32, warps = (int)gridDim.x * SEGMENT_WARPS;
    for (int segment = (int)blockIdx.x * SEGMENT_WARPS + warp; segment < counters[COUNT_SEGMENTS]; segment += warps)
        step_segment(segment, entry_row + warp * SEGMENT, entry_weight + warp * SEGMENT, factor, flag, mode, segment_slot,
                     segment_first, segment_partial, counts, writers, base, list, sorted, weights, residuals, partials,
                     slot_values);
}

// The blocks share the hot slots.
DEVICE void step_hot(float factor, OUT(int) flag, int mode, IN(int) hot_slot, IN(int) hot_partial, IN(int) counts, IN(int) writers,
                     IN(float) partials, OUT(float) slot_values, IN(int) counters) {
    for (int hot = (int)blockIdx.x; hot < counters[COUNT_HOT]; hot += (int)gridDim.x) {
        const int slot = hot_slot[hot], parts = (writers[slot] + SEGMENT - 1) / SEGMENT;
        const float scale = factor / (float)max((int)counts[slot], 1);
        for (int d = (int)threadIdx.x; d < VALUE_DIM; d += (int)blockDim.x) {
            float sum = partials[(Index)hot_partial[hot] * VALUE_DIM + d];
            for (int part = 1; part < parts; part++) sum += partials[(Index)(hot_partial[hot] + part) * VALUE_DIM + d];
            step_feature(flag, mode, slot_values, (Index)slot * VALUE_DIM + d, scale * sum);
        }
    }
}

KERNEL void __launch_bounds__(128, 8)
memorize_hot(OUT(int) flag, int mode, IN(int) hot_slot, IN(int) hot_partial, IN(int) counts, IN(int) writers,
             IN(float) partials, OUT(float) slot_values, IN(int) counters, IN(unsigned) limits, int samples, int pair_rows,
             int has_mask) {
    const float factor = step_factor(counters, samples, pair_rows, has_mask);
    if (is_idle(flag, mode, limits, factor, pair_rows)) return;
    step_hot(factor, flag, mode, hot_slot, hot_partial, counts, writers, partials, slot_values, counters);
}

// Weight decay of the slots that nobody writes.                                                                   MEM-5
KERNEL void __launch_bounds__(256)
memorize_decay(OUT(int) flag, int mode, IN(int) writers, OUT(float) slot_values) {
    if (mode == MODE_APPLY ? flag[0] != FLAG_NONE : !DECAY_GROWS) return;
    const Index elements = (Index)SUB_KEYS * SUB_KEYS * VALUE_DIM;
    for (Index at = (Index)blockIdx.x * 256 + threadIdx.x; at < elements; at += (Index)gridDim.x * 256)
        if (writers[at / VALUE_DIM] == 0) step_feature(flag, mode, slot_values, at, 0.0f);
}

DEVICE void clear_entry(int e, IN(int) counted, int counted_entries, IN(int) slots, int pair_entries, OUT(int) counts,
                        OUT(int) writers) {
    if (e < counted_entries) atomicExch(&counts[counted[e]], 0);
    if (e < pair_entries) atomicExch(&writers[slots[e]], 0);
}

DEVICE void clear_totals(OUT(int) counters, OUT(unsigned) limits) {
    for (int i = 0; i < COUNT_REPORTED; i++) counters[i] = 0;
    for (int i = 0; i < 3; i++) limits[i] = 0;
}

DEVICE void next_number(OUT(int) flag) { flag[FLAG_CHUNK] = (flag[FLAG_CHUNK] + 1) % CHUNKS; }

KERNEL void __launch_bounds__(256)
memorize_clear(OUT(int) flag, IN(int) counted, int counted_entries, IN(int) slots, int pair_entries, OUT(int) counts,
               OUT(int) writers, OUT(int) counters, OUT(unsigned) limits) {
    const int e = (int)(blockIdx.x * 256 + threadIdx.x);
    clear_entry(e, counted, counted_entries, slots, pair_entries, counts, writers);
    if (e != 0) return;
    next_number(flag);
    counters[COUNT_REPORTED] = counters[COUNT_TOUCHED];
    clear_totals(counters, limits);
}
