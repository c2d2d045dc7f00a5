//! What a run gives, as bits, so that two runs can be compared exactly.

use fwpkm_reference::{Memory, Result, Scalar, StepReport, Tables};
use ndarray::{Array3, Array4, ArrayRef, Dimension, s};

use super::scene::Text;

/// Everything a run gives; -0 and 0 differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// [B, T, `d_v`]
    pub reads: Array3<u64>,
    /// [B, T, H, k]
    pub slots: Array4<usize>,
    /// [B, T, H, k]
    pub weights: Array4<u64>,
    /// Of each step: pair losses, addressing loss, entropies, slots touched.
    pub steps: Vec<Vec<u64>>,
    /// The tables after the last call.
    pub tables: [Vec<u64>; 2],
    /// Tokens still queued.
    pub queued: usize,
}

/// Feeds a text cut before each of `cuts` and flushes before each of `flushes` (positions up to T; both may repeat).
///
/// # Errors   those of the memory, which is then as the failed call left it
pub fn run<S: Scalar>(memory: &mut Memory<S>, text: &Text<S>, cuts: &[usize], flushes: &[usize]) -> Result<Outcome> {
    run_with(memory, text, cuts, flushes, |_, _| ())
}

/// The same, with something done to the memory before the call that begins at each position.
///
/// # Errors   as [`run`]
pub fn run_with<S: Scalar>(
    memory: &mut Memory<S>,
    text: &Text<S>,
    cuts: &[usize],
    flushes: &[usize],
    mut before: impl FnMut(usize, &mut Memory<S>),
) -> Result<Outcome> {
    let (sequences, tokens) = text.shape();
    let (heads, top_k) = (memory.settings().heads, memory.settings().top_k);
    let mut reads = Array3::zeros((sequences, tokens, memory.settings().value_dim));
    let mut weights = Array4::zeros((sequences, tokens, heads, top_k));
    let mut slots = Array4::zeros((sequences, tokens, heads, top_k));
    let mut steps = Vec::new();
    let mut places: Vec<usize> = cuts.iter().chain(flushes).copied().chain([tokens]).collect();
    places.sort_unstable();
    let (mut from, mut flushed) = (0, 0);
    for to in places {
        before(from, memory);
        let fed = memory.feed(&text.part(from, to).tokens())?;
        reads.slice_mut(s![.., from..to, ..]).assign(&fed.reads.mapv(number_bits));
        weights.slice_mut(s![.., from..to, .., ..]).assign(&fed.weights.mapv(number_bits));
        slots.slice_mut(s![.., from..to, .., ..]).assign(&fed.slots);
        steps.extend(fed.steps.iter().map(step_bits));
        while flushed < flushes.iter().filter(|&&flush| flush <= to).count() {
            steps.extend(memory.flush()?.as_ref().map(step_bits));
            flushed += 1;
        }
        from = to;
    }
    Ok(Outcome { reads, slots, weights, steps, tables: table_bits(memory.tables()), queued: memory.queued() })
}

/// The bits of every number, in order.
pub fn bits<S: Scalar, D: Dimension>(numbers: &ArrayRef<S, D>) -> Vec<u64> {
    numbers.iter().map(|&x| number_bits(x)).collect()
}

/// The bits of both tables.
pub fn table_bits<S: Scalar>(tables: &Tables<S>) -> [Vec<u64>; 2] {
    [bits(&tables.sub_keys), bits(&tables.slot_values)]
}

fn number_bits<S: Scalar>(x: S) -> u64 {
    x.to_f64().to_bits()
}

fn step_bits<S: Scalar>(step: &StepReport<S>) -> Vec<u64> {
    let numbers = step.pair_losses.iter().chain([&step.addressing_loss]).chain(&step.entropy);
    numbers.map(|&x| number_bits(x)).chain([step.slots_touched as u64]).collect()
}
