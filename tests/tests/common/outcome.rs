//! A text cut and flushed at given places, and everything the run gives, as bits.

use fwpkm_reference::{Memory, Result, Scalar, StepReport};
use ndarray::{Array3, Array4, Axis, concatenate};

use super::{Text, table_bits};

/// Everything a run gives, as bits, so that two runs can be compared exactly.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) reads: Array3<u64>,
    pub(crate) slots: Array4<usize>,
    pub(crate) weights: Array4<u64>,
    /// Of each step: pair losses, addressing loss, entropies, slots touched.
    pub(crate) steps: Vec<Vec<u64>>,
    pub(crate) tables: [Vec<u64>; 2],
    pub(crate) queued: usize,
}

/// Feeds a text cut before each of `cuts` and flushes before each of `flushes` (positions up to T; both may repeat).
pub(crate) fn run<S: Scalar>(
    memory: &mut Memory<S>,
    text: &Text<S>,
    cuts: &[usize],
    flushes: &[usize],
) -> Result<Outcome> {
    let end = text.shape().1;
    let mut places: Vec<usize> = cuts.iter().chain(flushes).copied().chain([end]).collect();
    places.sort_unstable();
    let (mut from, mut calls, mut steps, mut flushed) = (0, vec![memory.feed(&text.part(0, 0).tokens())?], vec![], 0);
    for place in places {
        let fed = memory.feed(&text.part(from, place).tokens())?;
        steps.extend(fed.steps.clone());
        calls.push(fed);
        while flushed < flushes.iter().filter(|&&flush| flush <= place).count() {
            steps.extend(memory.flush()?);
            flushed += 1;
        }
        from = place;
    }
    let reads: Vec<_> = calls.iter().map(|fed| fed.reads.view()).collect();
    let slots: Vec<_> = calls.iter().map(|fed| fed.slots.view()).collect();
    let weights: Vec<_> = calls.iter().map(|fed| fed.weights.view()).collect();
    let number_bits = |x: &S| x.to_f64().to_bits();
    Ok(Outcome {
        reads: concatenate(Axis(1), &reads).unwrap().map(number_bits),
        slots: concatenate(Axis(1), &slots).unwrap(),
        weights: concatenate(Axis(1), &weights).unwrap().map(number_bits),
        steps: steps.iter().map(step_bits).collect(),
        tables: table_bits(memory.tables()),
        queued: memory.queued(),
    })
}

fn step_bits<S: Scalar>(step: &StepReport<S>) -> Vec<u64> {
    let numbers = step.pair_losses.iter().chain([&step.addressing_loss]).chain(&step.entropy);
    numbers.map(|x| x.to_f64().to_bits()).chain([step.slots_touched as u64]).collect()
}
