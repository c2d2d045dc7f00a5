//! What a walk computed, as named tensors.

use fwpkm_reference::stats::SlotReads;
use fwpkm_spec::Data;
use ndarray::{Array, Array2, ArrayView2, Axis, Dimension, RemoveAxis};

use crate::element::{Element, index, real, scalar};
use crate::error::Result;
use crate::problem::{Problem, Text, Tokens};
use crate::run::{Outputs, Plan};
use crate::store::put;
use crate::walk::Walked;
use crate::{gradients, trace};

/// All results of a walk by name: `out.*` and `trace.*`.
pub fn of_walk<S: Element>(walked: &Walked<S>, problem: &Problem, plan: &Plan) -> Result<Outputs> {
    let (b, t) = (problem.sequences, problem.tokens);
    let mut out = Outputs::new();
    let readings: Vec<_> = walked.trace.readings.iter().map(|(_, reading)| reading).collect();
    let (heads, k) = (plan.settings.heads, plan.settings.top_k);
    let reads =
        by_sequence(&readings.iter().map(|r| r.reads.clone()).collect::<Vec<_>>(), b, t, &[plan.settings.value_dim])?;
    put(&mut out, "out.reads", real(reads.view()));
    let slots = by_sequence(&readings.iter().map(|r| r.selected.slots.clone()).collect::<Vec<_>>(), b, t, &[heads, k])?;
    put(&mut out, "out.indices", index(slots.view()));
    let weights = by_sequence(&readings.iter().map(|r| r.weights.clone()).collect::<Vec<_>>(), b, t, &[heads, k])?;
    put(&mut out, "out.weights", real(weights.view()));
    let mut counts = SlotReads::default();
    counts.extend(&slots);
    let n = plan.settings.slots();
    put(&mut out, "out.stats.collision_rate", scalar(S::from_f64(counts.collision_rate())));
    put(&mut out, "out.stats.coverage", scalar(S::from_f64(counts.coverage(n))));
    put(&mut out, "out.stats.divergence", scalar(S::from_f64(counts.divergence(n))));
    let losses: Vec<ArrayView2<S>> =
        walked.trace.steps.iter().map(|step| step.step.memorized.pair_losses.view().reversed_axes()).collect();
    let none = Array2::from_elem((b, 0), S::ZERO);
    put(
        &mut out,
        "out.mem_losses",
        real(if losses.is_empty() { none } else { ndarray::concatenate(Axis(1), &losses)? }.view()),
    );
    let sum = walked.trace.steps.iter().fold(S::ZERO, |sum, step| sum + step.step.addressed.loss);
    let steps = walked.trace.steps.len();
    put(&mut out, "out.addr_loss_mean", scalar(if steps == 0 { S::ZERO } else { sum / S::from_f64(steps as f64) }));
    put(&mut out, "out.sub_keys", real(walked.tables.sub_keys.view()));
    put(&mut out, "out.slot_values", real(walked.tables.slot_values.view()));
    layer(walked, b, t, &mut out)?;
    trace::outputs(&walked.trace, b, &mut out)?;
    Ok(out)
}

/// The names of the results of a case: the `out.*` that [`of_walk`] gives, and `grad.*`.
pub fn result_names(problem: &Problem) -> Vec<&'static str> {
    let mut names = MEMORY_RESULTS.to_vec();
    if let Some(projection) = &problem.projection {
        names.extend(["out.layer", "out.hidden"]);
        names.extend(projection.gate.as_ref().map(|_| "out.gates"));
    }
    names.extend(gradients::names(problem));
    names
}

/// The results of every case.
const MEMORY_RESULTS: [&str; 10] = [
    "out.reads",
    "out.indices",
    "out.weights",
    "out.mem_losses",
    "out.addr_loss_mean",
    "out.slot_values",
    "out.sub_keys",
    "out.stats.collision_rate",
    "out.stats.coverage",
    "out.stats.divergence",
];

fn layer<S: Element>(walked: &Walked<S>, b: usize, t: usize, out: &mut Outputs) -> Result<()> {
    let (Some(projected), Some(output)) = (&walked.projected, &walked.output) else { return Ok(()) };
    let rows = |rows: &Array2<S>| -> Result<_> { Ok(real(rows.view().into_shape_with_order((b, t, rows.ncols()))?)) };
    put(out, "out.layer", rows(&output.layer)?);
    put(out, "out.hidden", rows(&output.hidden)?);
    put(out, "trace.projection.queries", rows(&projected.queries)?);
    put(out, "trace.projection.values", rows(&projected.values)?);
    put(out, "trace.output.mixed", rows(&output.mixed)?);
    if let Some(gates) = &projected.gates {
        let gates = gates.view().into_shape_with_order((b, t))?;
        put(out, "out.gates", real(gates));
        put(out, "trace.projection.gates", real(gates));
    }
    Ok(())
}

/// Rows (token, sequence) of all readings as [B, T, …]
pub(crate) fn by_sequence<T: Clone, D: Dimension + RemoveAxis>(
    parts: &[Array<T, D>],
    b: usize,
    t: usize,
    rest: &[usize],
) -> Result<ndarray::ArrayD<T>> {
    let shape = |first: usize, second: usize| [&[first, second], rest].concat();
    let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
    if views.is_empty() {
        return Ok(ndarray::ArrayD::from_shape_vec(shape(b, t), Vec::new())?);
    }
    let rows = ndarray::concatenate(Axis(0), &views)?;
    let mut tokens = rows.into_shape_with_order(shape(t, b))?;
    tokens.swap_axes(0, 1);
    Ok(tokens)
}

/// One walk for each sequence, with tables of its own; of the tables, those of the last sequence.
pub fn of_sequences<S: Element>(
    problem: &Problem,
    walk: impl Fn(&Problem) -> Result<Walked<S>>,
    plan: &Plan,
) -> Result<Outputs> {
    let mut parts = Vec::new();
    for sequence in 0..problem.sequences {
        let one = of_one(problem, sequence);
        parts.push(of_walk(&walk(&one)?, &one, plan)?);
    }
    let mut out = parts.last().cloned().unwrap_or_default();
    out.retain(|name, _| !name.starts_with("trace."));
    for name in ["out.reads", "out.indices", "out.weights", "out.mem_losses", "out.layer", "out.hidden", "out.gates"] {
        let pieces: Vec<_> = parts.iter().filter_map(|part| part.get(name)).collect();
        let Some(first) = pieces.first() else { continue };
        let mut whole = (*first).clone();
        whole.shape[0] = problem.sequences;
        whole.data = Data::zeros(first.data.element_type(), pieces.iter().map(|piece| piece.data.len()).sum());
        for (number, piece) in pieces.iter().enumerate() {
            whole.data.replace(number * first.data.len(), &piece.data);
        }
        put(&mut out, name, whole);
    }
    Ok(out)
}

fn of_one(problem: &Problem, sequence: usize) -> Problem {
    let one = sequence..=sequence;
    let text = match &problem.text {
        Text::Memory(tokens) => Text::Memory(Tokens {
            queries: tokens.queries.slice(ndarray::s![.., one.clone(), ..]).to_owned(),
            values: tokens.values.slice(ndarray::s![.., one.clone(), ..]).to_owned(),
            gates: tokens.gates.as_ref().map(|gates| gates.slice(ndarray::s![.., one.clone()]).to_owned()),
            mask: tokens.mask.as_ref().map(|mask| mask.slice(ndarray::s![.., one.clone()]).to_owned()),
        }),
        Text::Layer { hidden, mask } => Text::Layer {
            hidden: hidden
                .slice(ndarray::s![sequence * problem.tokens..(sequence + 1) * problem.tokens, ..])
                .to_owned(),
            mask: mask.as_ref().map(|mask| mask.slice(ndarray::s![.., one.clone()]).to_owned()),
        },
    };
    Problem { text, sequences: 1, cotangents: None, ..problem.clone() }
}
