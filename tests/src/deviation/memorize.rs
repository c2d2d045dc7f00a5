//! Other read counts and value gradients.                                             MEM-3, MEM-4

use std::collections::{BTreeMap, BTreeSet};

use fwpkm_reference::chunk::{Chunk, Counted, Reading, Stages};
use fwpkm_reference::memorize::{Memorized, Write, memorize, pair_weights, residuals, step_factor, writes};
use fwpkm_reference::{Rules, Scalar, Settings, Tables};
use ndarray::{Array2, s};

use super::pairs::positions;
use super::{Change, Deviation, PORTS, SLIP, faults};

faults! { Memorize {
    CountsPairs "mem-3-counts-pairs-only" "MEM-3"
        "N_i counts reads of tokens with a target where MEM-3 counts all of the chunk" SLIP
        { memorize: |s, r, t, c, g, n| recounted(s, r, t, c, g, n, paired) }
    CountsUnmasked "mem-3-counts-unmasked-only" "MEM-3"
        "N_i counts reads of unmasked tokens where MEM-3 counts all" SLIP
        { memorize: |s, r, t, c, g, n| recounted(s, r, t, c, g, n, unmasked) }
    CountsWrites "mem-3-counts-writes" "MEM-3"
        "N_i counts the writes to a slot, of unmasked pairs, where MEM-3 counts all reads" PORTS
        { memorize: |s, r, t, c, g, n| recounted(s, r, t, c, g, n, |c, row| paired(c, row) && unmasked(c, row)) }
    CountsTokens "mem-3-counts-tokens" "MEM-3"
        "N_i counts a token once however many heads read the slot, where MEM-3 counts every head" SLIP
        { memorize: |s, r, t, c, g, n| divided(memorize(s, r, t, c, g, n), &tokens_reading(n)) }
    CountsSequence "mem-3-counts-each-sequence" "MEM-3"
        "each sequence's part is divided by its own reads of the slot where MEM-3 counts all sequences" SLIP
        { memorize: |s, r, t, c, g, n| by_write(s, r, t, c, g, n, |of| S::ONE / S::from_f64(of.in_sequence as f64)) }
    CountsHead "mem-3-counts-each-head" "MEM-3"
        "each head's part is divided by its own reads of the slot where MEM-3 counts all heads" SLIP
        { memorize: |s, r, t, c, g, n| by_write(s, r, t, c, g, n, |of| S::ONE / S::from_f64(of.in_head as f64)) }
    CountsWeights "mem-3-sum-of-weights" "MEM-3"
        "the sum is divided by the weights with which the slot was read where MEM-3 counts the reads" SLIP
        { memorize: |s, r, t, c, g, n| divided(memorize(s, r, t, c, g, n), &weight_of(c, g)) }
    Sum "mem-4-sum-instead-of-division" "MEM-4"
        "sums over reads where MEM-4 divides by N_i" PORTS
        { memorize: |s, r, t, c, g, n| rescaled(memorize(s, r, t, c, g, n), |_, count| count) }
    ByTopK "mem-4-divided-by-top-k" "MEM-4"
        "divides by k where MEM-4 divides by N_i" PORTS
        { memorize: |s, r, t, c, g, n| rescaled(memorize(s, r, t, c, g, n), |_, count| count / s.top_k as f64) }
    ByTokens "mem-4-divided-by-tokens" "MEM-4"
        "divides by the tokens of the chunk where MEM-4 divides by N_i" SLIP
        { memorize: |s, r, t, c, g, n| rescaled(memorize(s, r, t, c, g, n), |_, count| count / n.samples as f64) }
    ByPairs "mem-4-divided-by-pairs" "MEM-4"
        "divides by the number of pairs where MEM-4 divides by N_i" SLIP
        { memorize: |s, r, t, c, g, n| rescaled(memorize(s, r, t, c, g, n), |_, count| count / positions(c)) }
    ByBatch "mem-4-divided-by-sequences" "MEM-4"
        "divides by B as well, where MEM-4 divides by N_i alone" SLIP
        { memorize: |s, r, t, c, g, n| rescaled(memorize(s, r, t, c, g, n), |_, _| 1.0 / c.sequences() as f64) }
    Squared "mem-4-divided-twice" "MEM-4"
        "divides by N_i² where MEM-4 divides by N_i" SLIP
        { memorize: |s, r, t, c, g, n| rescaled(memorize(s, r, t, c, g, n), |_, count| 1.0 / count) }
    PlusOne "mem-4-divided-by-one-more" "MEM-4"
        "divides by N_i + 1 where MEM-4 divides by N_i" SLIP
        { memorize: |s, r, t, c, g, n| rescaled(memorize(s, r, t, c, g, n), |_, count| count / (count + 1.0)) }
    NotCounted "mem-4-slots-not-counted-stay" "MEM-4"
        "a slot with N_i = 0 stays as it is where MEM-4 divides by 1" SLIP
        { memorize: |s, r, t, c, g, n| counted_only(memorize(s, r, t, c, g, n)) }
    Unweighted "mem-4-not-weighted-by-w" "MEM-4"
        "every slot read gets the whole residual where MEM-4 weighs it by w" PORTS
        { memorize: |s, r, t, c, g, n| weighted(s, r, t, c, g, n, |_, _| S::ONE) }
    WeightSquared "mem-4-weighted-by-w-squared" "MEM-4"
        "the residual is weighed by w² where MEM-4 weighs it by w" SLIP
        { memorize: |s, r, t, c, g, n| weighted(s, r, t, c, g, n, |w, _| w * w) }
    BestOnly "mem-4-best-slot-only" "MEM-4"
        "only each head's best slot is written where MEM-4 writes all k" SLIP
        { memorize: |s, r, t, c, g, n| weighted(s, r, t, c, g, n, |w, place| if place == 0 { w } else { S::ZERO }) }
    LastWrite "mem-4-last-write-only" "MEM-4"
        "of several writes to a slot only the last remains (indexed assignment) where MEM-4 sums them" SLIP
        { memorize: |s, r, t, c, g, n| by_write(s, r, t, c, g, n, |of| if of.last { of.share() } else { S::ZERO }) }
    DeltaRule "mem-4-delta-rule" "MEM-4"
        "each slot moves by its own distance, w·(V_i - target), where MEM-4 has w·(read - target)" PORTS
        { memorize: delta_rule }
    FirstHead "mem-4-first-head-only" "MEM-4"
        "only head 0 writes where MEM-4 sums over heads" SLIP
        { memorize: |s, r, t, c, g, n| by_write(s, r, t, c, g, n, |of| if of.write.head == 0 { of.share() } else { S::ZERO }) }
    CountsChunk "str-5-counts-the-chunk" "STR-5"
        "N_i and S count the chunk that is stepped where STR-5 counts the call's slice" SLIP
        { memorize: |s, r, t, c, g, _| memorize(s, r, t, c, g, &of_chunk(g)) }
} }

fn of_chunk<S: Scalar>(reading: &Reading<S>) -> Counted<'_> {
    Counted { slots: reading.selected.slots.view(), samples: reading.selected.slots.dim().0 }
}

/// The value gradient with each slot's row times `factor(place among the touched, max(N_i, 1))`
pub(super) fn rescaled<S: Scalar>(mut memorized: Memorized<S>, factor: impl Fn(usize, f64) -> f64) -> Memorized<S> {
    for (place, mut row) in memorized.value_gradient.rows_mut().into_iter().enumerate() {
        let factor = S::from_f64(factor(place, memorized.read_counts[place].max(1) as f64));
        row.mapv_inplace(|x| factor * x);
    }
    memorized
}

fn counted_only<S: Scalar>(memorized: Memorized<S>) -> Memorized<S> {
    let counts = memorized.read_counts.clone();
    rescaled(memorized, |place, _| if counts[place] == 0 { 0.0 } else { 1.0 })
}

/// The value gradient with another divisor for each slot
fn divided<S: Scalar>(memorized: Memorized<S>, divisors: &BTreeMap<usize, f64>) -> Memorized<S> {
    let slots = memorized.slots.clone();
    rescaled(memorized, |place, count| divisors.get(&slots[place]).map_or(1.0, |divisor| count / divisor))
}

/// `N_i` counted over some of the rows
fn recounted<S: Scalar>(
    settings: &Settings,
    rules: &Rules,
    tables: &Tables<S>,
    chunk: &Chunk<S>,
    reading: &Reading<S>,
    counted: &Counted,
    counts: fn(&Chunk<S>, usize) -> bool,
) -> Memorized<S> {
    let mut memorized = memorize(settings, rules, tables, chunk, reading, counted);
    let mut found: BTreeMap<usize, usize> = memorized.slots.iter().map(|&slot| (slot, 0)).collect();
    for ((row, ..), slot) in counted.slots.indexed_iter() {
        if counts(chunk, row) {
            *found.entry(*slot).or_default() += 1;
        }
    }
    let divisors = found.iter().map(|(&slot, &count)| (slot, count.max(1) as f64)).collect();
    memorized = divided(memorized, &divisors);
    memorized.read_counts = found.into_values().collect();
    memorized
}

fn paired<S: Scalar>(chunk: &Chunk<S>, row: usize) -> bool {
    row < chunk.pairs() * chunk.sequences()
}

fn unmasked<S: Scalar>(chunk: &Chunk<S>, row: usize) -> bool {
    let (token, sequence) = (row / chunk.sequences(), row % chunk.sequences());
    chunk.mask.as_ref().is_none_or(|mask| mask.get((token, sequence)).is_none_or(|&present| present))
}

fn tokens_reading(counted: &Counted) -> BTreeMap<usize, f64> {
    let reads: BTreeSet<(usize, usize)> = counted.slots.indexed_iter().map(|((row, ..), &slot)| (slot, row)).collect();
    let mut tokens = BTreeMap::new();
    for (slot, _) in reads {
        *tokens.entry(slot).or_default() += 1.0;
    }
    tokens
}

/// Sum of the weights with which pairs read each slot
fn weight_of<S: Scalar>(chunk: &Chunk<S>, reading: &Reading<S>) -> BTreeMap<usize, f64> {
    let mut sums = BTreeMap::new();
    for write in writes(chunk, reading.selected.slots.view(), pair_weights(chunk).view()) {
        *sums.entry(write.slot).or_default() += reading.weights[[write.row, write.head, write.place]].to_f64();
    }
    sums.retain(|_, sum: &mut f64| *sum != 0.0);
    sums
}

/// The value gradient with other weights of the slots, given weight and place; losses and sub-keys stay
fn weighted<S: Scalar>(
    settings: &Settings,
    rules: &Rules,
    tables: &Tables<S>,
    chunk: &Chunk<S>,
    reading: &Reading<S>,
    counted: &Counted,
    weight: fn(S, usize) -> S,
) -> Memorized<S> {
    let memorized = memorize(settings, rules, tables, chunk, reading, counted);
    let mut reading = reading.clone();
    for ((.., place), w) in reading.weights.indexed_iter_mut() {
        *w = weight(*w, place);
    }
    let other = memorize(settings, rules, tables, chunk, &reading, counted);
    Memorized { value_gradient: other.value_gradient, ..memorized }
}

/// A write, and how often its slot was read
struct Written {
    write: Write,
    reads: usize,
    in_sequence: usize,
    in_head: usize,
    last: bool,
}

impl Written {
    /// 1 / `N_i`
    fn share<S: Scalar>(&self) -> S {
        S::ONE / S::from_f64(self.reads as f64)
    }
}

/// The value gradient as a sum in which every write has a scale of its own
fn by_write<S: Scalar>(
    settings: &Settings,
    rules: &Rules,
    tables: &Tables<S>,
    chunk: &Chunk<S>,
    reading: &Reading<S>,
    counted: &Counted,
    scale: fn(&Written) -> S,
) -> Memorized<S> {
    let mut memorized = memorize(settings, rules, tables, chunk, reading, counted);
    let (weights, residuals) = (pair_weights(chunk), residuals(chunk, reading.reads.view()));
    let factor = S::from_f64(step_factor(settings, rules, chunk, counted));
    let writes = writes(chunk, reading.selected.slots.view(), weights.view());
    let sequences = chunk.sequences();
    let mut gradient = Array2::from_elem(memorized.value_gradient.dim(), S::ZERO);
    for (number, &write) in writes.iter().enumerate() {
        let count = |same: &dyn Fn(usize, usize) -> bool| {
            let reads =
                counted.slots.indexed_iter().filter(|&((row, head, _), &slot)| slot == write.slot && same(row, head));
            reads.count().max(1)
        };
        let written = Written {
            write,
            reads: count(&|_, _| true),
            in_sequence: count(&|row, _| row % sequences == write.row % sequences),
            in_head: count(&|_, head| head == write.head),
            last: writes.get(number + 1).is_none_or(|next| next.slot != write.slot),
        };
        let pair = weights[[write.row / sequences, write.row % sequences]];
        let weight = factor * scale(&written) * pair * reading.weights[[write.row, write.head, write.place]];
        let Ok(place) = memorized.slots.binary_search(&write.slot) else { continue };
        gradient.row_mut(place).zip_mut_with(&residuals.row(write.row), |sum, &x| *sum = *sum + weight * x);
    }
    memorized.value_gradient = gradient;
    memorized
}

/// Σ f·w·(V_i - target) as Σ f·w·(read - target) + Σ f·w·(V_i - read)
fn delta_rule<S: Scalar>(
    settings: &Settings,
    rules: &Rules,
    tables: &Tables<S>,
    chunk: &Chunk<S>,
    reading: &Reading<S>,
    counted: &Counted,
) -> Memorized<S> {
    let mut memorized = memorize(settings, rules, tables, chunk, reading, counted);
    let weights = pair_weights(chunk);
    let factor = S::from_f64(step_factor(settings, rules, chunk, counted));
    for write in writes(chunk, reading.selected.slots.view(), weights.view()) {
        let Ok(place) = memorized.slots.binary_search(&write.slot) else { continue };
        let count = S::from_f64(memorized.read_counts[place].max(1) as f64);
        let pair = weights[[write.row / chunk.sequences(), write.row % chunk.sequences()]];
        let weight = factor * pair * reading.weights[[write.row, write.head, write.place]] / count;
        let difference = |d: usize| tables.slot_values[[write.slot, d]] - reading.reads[[write.row, d]];
        for (d, sum) in memorized.value_gradient.slice_mut(s![place, ..]).iter_mut().enumerate() {
            *sum = *sum + weight * difference(d);
        }
    }
    memorized
}
