//! Stage `memorize`: targets, loss, and the gradient of the slot values.             MEM-1 … MEM-6
//!
//! ```text
//! objective   ½ Σ_t g_t |read_t - v_{t+L}|²  over the pairs of the chunk
//! gradient    G_i = F / max(N_i, 1) · Σ_{t,h,j : slot = i} g_t · w · (read_t - v_{t+L})
//! ```

use ndarray::{Array2, Array4, ArrayView2, ArrayView3, Axis, Zip, s};

use crate::chunk::{Chunk, Counted, Reading};
use crate::read::weights_to_half_scores;
use crate::rules::{PairFactor, ReadFactor, Rules, SubKeyLoss};
use crate::scalar::{Scalar, sum_over};
use crate::settings::Settings;
use crate::tables::Tables;

/// The memorization half of a step.
#[derive(Clone, Debug)]
pub struct Memorized<S> {
    /// Loss reported of each pair, 0 where masked: [pairs, sequences].
    pub pair_losses: Array2<S>,
    /// Slots the step may touch, ascending.
    pub slots: Vec<usize>,
    /// `N_i` of those slots.
    pub read_counts: Vec<usize>,
    /// `G_i` of those slots, before clipping: [touched, `d_v`].
    pub value_gradient: Array2<S>,
    /// Gradient of the loss with respect to the chosen half scores, where that option is on: [rows, heads, 2, k].
    pub half_score_gradient: Option<Array4<S>>,
}

/// Loss, read counts and value gradient of one chunk; [`crate::tables::descend`] then takes the step (MEM-5).
///
/// # Shapes   chunk: see [`Chunk`]; reading: of the chunk's queries; counted: the reads that `N_i` counts
/// # Source   arXiv 2601.00671 eqs 13-15, App. A.1, A.4, A.5; factors of the release by rule
pub fn memorize<S: Scalar>(
    settings: &Settings,
    rules: &Rules,
    tables: &Tables<S>,
    chunk: &Chunk<S>,
    reading: &Reading<S>,
    counted: &Counted,
) -> Memorized<S> {
    let weights = pair_weights(chunk);
    let mut residuals = residuals(chunk, reading.reads.view());
    let pair_losses = pair_losses(weights.view(), residuals.view());
    for (mut residual, &weight) in residuals.rows_mut().into_iter().zip(&weights) {
        residual.mapv_inplace(|x| weighted(weight, x));
    }
    let writes = writes(chunk, reading.selected.slots.view(), weights.view());
    let (slots, read_counts) = read_counts(counted.slots, &writes);
    let factor = S::from_f64(step_factor(settings, rules, chunk, counted));
    let value_gradient =
        value_gradient(factor, &slots, &read_counts, &writes, reading.weights.view(), residuals.view());
    let half_score_gradient = settings
        .memory_gradient_to_sub_keys
        .then(|| half_score_gradient(settings, rules, tables, chunk, reading, residuals.view()));
    Memorized { pair_losses, slots, read_counts, value_gradient, half_score_gradient }
}

/// Weight of each pair: its query's gate, 0 where masked; [pairs, sequences]               [MEM-1]
///
/// A pair is (query t of the chunk, value t + L) where that value is at hand; gate and mask belong to the query.
pub fn pair_weights<S: Scalar>(chunk: &Chunk<S>) -> Array2<S> {
    Array2::from_shape_fn((chunk.pairs(), chunk.sequences()), |(token, sequence)| {
        let present = chunk.mask.as_ref().is_none_or(|mask| mask[[token, sequence]]);
        let gate = chunk.gates.as_ref().map_or(S::ONE, |gates| gates[[token, sequence]]);
        if present { gate } else { S::ZERO }
    })
}

/// read - target of every pair position, one row per (token, sequence)                     [MEM-1]
pub fn residuals<S: Scalar>(chunk: &Chunk<S>, reads: ArrayView2<S>) -> Array2<S> {
    let count = chunk.pairs() * chunk.sequences();
    let mut residuals = reads.slice(s![..count, ..]).to_owned();
    let targets = chunk.values.slice(s![chunk.lookahead.min(chunk.values.dim().0).., .., ..]);
    let targets = targets.lanes(Axis(2));
    for (mut residual, target) in residuals.rows_mut().into_iter().zip(targets) {
        residual.zip_mut_with(&target, |x, &target| *x = *x - target);
    }
    residuals
}

/// weight · x; a pair of weight 0 counts for nothing, even where x is infinite                [MEM-2]
fn weighted<S: Scalar>(weight: S, x: S) -> S {
    if weight == S::ZERO { S::ZERO } else { weight * x }
}

/// weight · mean over features of (read - target)²; [pairs, sequences]                     [MEM-2]
pub fn pair_losses<S: Scalar>(weights: ArrayView2<S>, residuals: ArrayView2<S>) -> Array2<S> {
    let features = S::from_f64(residuals.ncols() as f64);
    let mut losses = weights.to_owned();
    for (loss, residual) in losses.iter_mut().zip(residuals.rows()) {
        *loss = weighted(*loss, sum_over(residual, residual, |a, b| a * b) / features);
    }
    losses
}

/// One read of a slot by a query that has a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Write {
    /// The slot.
    pub slot: usize,
    /// The token that read it, of all sequences.
    pub row: usize,
    /// The head that read it.
    pub head: usize,
    /// The place among the head's slots.
    pub place: usize,
}

/// The reads that write, by slot, then in the order of reading                             [MEM-3]
pub fn writes<S: Scalar>(chunk: &Chunk<S>, slots: ArrayView3<usize>, weights: ArrayView2<S>) -> Vec<Write> {
    let pairs = chunk.pairs() * chunk.sequences();
    let mut writes: Vec<Write> = slots
        .slice(s![..pairs, .., ..])
        .indexed_iter()
        .zip(weights.iter().flat_map(|&weight| std::iter::repeat_n(weight, slots.dim().1 * slots.dim().2)))
        .filter(|(_, weight)| *weight != S::ZERO)
        .map(|(((row, head, place), &slot), _)| Write { slot, row, head, place })
        .collect();
    writes.sort_unstable();
    writes
}

/// `N_i`: how often each slot was read, over all tokens, sequences and heads counted       [MEM-3]
///
/// Slots that are written without being counted (rule `stream_count` = call) have count 0.
fn read_counts(counted: ArrayView3<usize>, writes: &[Write]) -> (Vec<usize>, Vec<usize>) {
    let mut reads: Vec<usize> = counted.iter().copied().collect();
    reads.sort_unstable();
    let mut touched: Vec<usize> = reads.iter().copied().chain(writes.iter().map(|write| write.slot)).collect();
    touched.sort_unstable();
    touched.dedup();
    let counts = touched.iter().map(|&slot| range_of(&reads, |&read| read, slot).len()).collect();
    (touched, counts)
}

/// Where `slot` stands in a list sorted by slot
fn range_of<T>(sorted: &[T], slot_of: impl Fn(&T) -> usize, slot: usize) -> std::ops::Range<usize> {
    sorted.partition_point(|x| slot_of(x) < slot)..sorted.partition_point(|x| slot_of(x) <= slot)
}

/// F: 1 in the paper; k·H · S / (B · pair positions) in the release                        [MEM-4]
pub fn step_factor<S: Scalar>(settings: &Settings, rules: &Rules, chunk: &Chunk<S>, counted: &Counted) -> f64 {
    let read_factor = match rules.read_factor {
        ReadFactor::One => 1.0,
        ReadFactor::SlotsPerToken => (settings.top_k * settings.heads) as f64,
    };
    let positions = chunk.pairs() * chunk.sequences();
    let pair_factor = match (rules.pair_factor, &chunk.mask) {
        (PairFactor::One, _) => 1.0,
        (PairFactor::SamplesPerPair, _) if positions == 0 => 0.0,
        (PairFactor::SamplesPerPair, None) => counted.samples as f64 / positions as f64,
        (PairFactor::SamplesPerPair, Some(mask)) => {
            let unmasked = mask.slice(s![..chunk.pairs(), ..]).iter().filter(|&&present| present).count();
            unmasked as f64 / positions as f64
        }
    };
    read_factor * pair_factor
}

/// `G_i` = F / max(`N_i`, 1) · Σ weight · (weighted residual); [touched, `d_v`]                  [MEM-4]
pub fn value_gradient<S: Scalar>(
    factor: S,
    slots: &[usize],
    read_counts: &[usize],
    writes: &[Write],
    weights: ArrayView3<S>,
    residuals: ArrayView2<S>,
) -> Array2<S> {
    let mut gradient = Array2::from_elem((slots.len(), residuals.ncols()), S::ZERO);
    let (slots, read_counts) = (ndarray::aview1(slots), ndarray::aview1(read_counts));
    Zip::from(gradient.rows_mut()).and(slots).and(read_counts).par_for_each(|mut gradient, &slot, &count| {
        for write in &writes[range_of(writes, |write| write.slot, slot)] {
            let weight = weights[[write.row, write.head, write.place]];
            gradient.zip_mut_with(&residuals.row(write.row), |sum, &residual| *sum = *sum + weight * residual);
        }
        let scale = factor / S::from_f64(count.max(1) as f64);
        gradient.mapv_inplace(|sum| scale * sum);
    });
    gradient
}

/// Gradient of the objective with respect to the chosen half scores; [rows, heads, 2, k]   [MEM-6]
///
/// Through the weights of each pair, and from a pair's sum to both of its halves.
fn half_score_gradient<S: Scalar>(
    settings: &Settings,
    rules: &Rules,
    tables: &Tables<S>,
    chunk: &Chunk<S>,
    reading: &Reading<S>,
    residuals: ArrayView2<S>,
) -> Array4<S> {
    let scale: S = sub_key_loss_scale(rules, residuals.len());
    let mut gradient = Array4::from_elem(reading.selected.half_scores.dim(), S::ZERO);
    for (row, residual) in residuals.rows().into_iter().take(chunk.pairs() * chunk.sequences()).enumerate() {
        let slots = reading.selected.slots.index_axis(Axis(0), row);
        let along = slots.mapv(|slot| scale * sum_over(residual, tables.slot_values.row(slot), |r, v| r * v));
        weights_to_half_scores(settings, &reading.selected, &reading.weights, row, along.view(), gradient.view_mut());
    }
    gradient
}

/// φ: 1, or 1 / (B · pairs · `d_v`), which is the number of residuals                          [MEM-6]
pub fn sub_key_loss_scale<S: Scalar>(rules: &Rules, residuals: usize) -> S {
    match rules.sub_key_loss {
        SubKeyLoss::Sum => S::ONE,
        SubKeyLoss::Mean => S::ONE / S::from_f64(residuals.max(1) as f64),
    }
}
