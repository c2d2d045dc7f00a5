//! Stage tensors of a run by name, as SPEC.md, "Tensors", lists them.

use fwpkm_reference::chunk::Reading;
use fwpkm_reference::{Trace, TracedStep};
use ndarray::{ArrayD, ArrayView, Axis, Dimension, RemoveAxis};

use crate::element::{Element, index, real};
use crate::error::Result;
use crate::run::Outputs;
use crate::store::put;

/// Adds `trace.score`, `trace.select` (first reading of each token), `trace.memorize`, `trace.address` (each step).
pub fn outputs<S: Element>(trace: &Trace<S>, sequences: usize, out: &mut Outputs) -> Result<()> {
    if !trace.readings.is_empty() {
        readings(trace, sequences, out)?;
    }
    for (number, TracedStep { step, .. }) in trace.steps.iter().enumerate() {
        let (memorized, addressed) = (&step.memorized, &step.addressed);
        let slots = ndarray::aview1(&memorized.slots);
        let read_counts = ndarray::aview1(&memorized.read_counts);
        put(out, format!("trace.memorize.slots.{number}"), index(slots));
        put(out, format!("trace.memorize.read_counts.{number}"), index(read_counts));
        put(out, format!("trace.memorize.value_gradient.{number}"), real(memorized.value_gradient.view()));
        put(out, format!("trace.memorize.pair_losses.{number}"), real(memorized.pair_losses.t()));
        put(out, format!("trace.address.marginal.{number}"), real(addressed.marginal.view()));
        put(out, format!("trace.address.entropy.{number}"), real(addressed.entropy.view()));
        put(out, format!("trace.address.sub_key_gradient.{number}"), real(addressed.sub_key_gradient.view()));
    }
    Ok(())
}

fn readings<S: Element>(trace: &Trace<S>, sequences: usize, out: &mut Outputs) -> Result<()> {
    put(out, "trace.score.half_scores", real(by_token(trace, sequences, |r| r.scores.view())?.view()));
    put(
        out,
        "trace.select.half_indices",
        index(by_token(trace, sequences, |r| r.selected.half_indices.view())?.view()),
    );
    put(out, "trace.select.half_scores", real(by_token(trace, sequences, |r| r.selected.half_scores.view())?.view()));
    put(out, "trace.select.pair_scores", real(by_token(trace, sequences, |r| r.selected.pair_scores.view())?.view()));
    Ok(())
}

/// Rows (token, sequence) of all readings as [sequences, tokens, …]
fn by_token<'a, S, T: Clone + 'a, D: Dimension + RemoveAxis>(
    trace: &'a Trace<S>,
    sequences: usize,
    view: impl Fn(&'a Reading<S>) -> ArrayView<'a, T, D>,
) -> Result<ArrayD<T>> {
    let views: Vec<ArrayView<T, D>> = trace.readings.iter().map(|(_, reading)| view(reading)).collect();
    let rows = ndarray::concatenate(Axis(0), &views)?;
    let mut shape = vec![rows.len_of(Axis(0)) / sequences, sequences];
    shape.extend_from_slice(&rows.shape()[1..]);
    let mut tokens = rows.into_shape_with_order(shape)?;
    tokens.swap_axes(0, 1);
    Ok(tokens)
}
