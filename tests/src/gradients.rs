//! Outer gradients of what an implementation computes, whatever that is, by going back through its walk.        GRD-1

use fwpkm_reference::{Gradients, Scalar, Tables};
use ndarray::Array;

use crate::element::Element;
use crate::error::Result;
use crate::inputs::Cotangents;
use crate::problem::{Problem, Text, Tokens, swapped};
use crate::reverse::{Reverse, alone, backward, inputs};
use crate::run::Outputs;
use crate::train::outputs;
use crate::walk::{Event, Walk, Walked};

/// `grad.*` of a case with cotangents; none without, and of a layer. `shake` changes each product on the way back.
///
/// # Errors   those of the stages
pub fn gradients<S: Element>(
    walk: &Walk<Reverse<S>>,
    events: &[Event],
    problem: &Problem,
    shake: impl Fn(u64, f64) -> f64 + Send,
) -> Result<Outputs> {
    let (Some(cotangents), Text::Memory(given)) = (&problem.cotangents, &problem.text) else {
        return Ok(Outputs::new());
    };
    alone(|| {
        let tokens = Tokens {
            queries: inputs(&given.queries),
            values: inputs(&given.values),
            gates: given.gates.as_ref().map(inputs),
            mask: given.mask.clone(),
        };
        let tables =
            Tables { sub_keys: inputs(&problem.tables.sub_keys), slot_values: inputs(&problem.tables.slot_values) };
        let walked = walk.on(events, problem, (tokens.clone(), None), tables.clone())?;
        let slopes = backward(&weighed(&walked, cotangents), shake);
        Ok(outputs(&Gradients {
            queries: swapped(&slopes.of(&tokens.queries)),
            values: swapped(&slopes.of(&tokens.values)),
            gates: tokens.gates.as_ref().map(|gates| swapped(&slopes.of(gates))),
            tables: Tables { sub_keys: slopes.of(&tables.sub_keys), slot_values: slopes.of(&tables.slot_values) },
        }))
    })?
}

/// The names of the gradients of a case.
pub fn names(problem: &Problem) -> Vec<&'static str> {
    let gated = matches!(&problem.text, Text::Memory(tokens) if tokens.gates.is_some());
    let mut names = vec!["grad.queries", "grad.values", "grad.sub_keys", "grad.slot_values"];
    names.extend(gated.then_some("grad.gates"));
    names.retain(|_| problem.cotangents.is_some());
    names
}

/// What the outer loss is a sum of: results, each with its weight
fn weighed<S: Scalar>(walked: &Walked<Reverse<S>>, cotangents: &Cotangents<f64>) -> Vec<(Reverse<S>, f64)> {
    let reads = walked.trace.readings.iter().flat_map(|(_, reading)| reading.reads.iter().copied());
    let mut results: Vec<(Reverse<S>, f64)> = reads.zip(swapped(&cotangents.reads)).collect();
    let mut of_table = |table: Vec<Reverse<S>>, weights: Vec<f64>| results.extend(table.into_iter().zip(weights));
    if let Some(sub_keys) = &cotangents.sub_keys {
        of_table(flat(&walked.tables.sub_keys), flat(sub_keys));
    }
    if let Some(slot_values) = &cotangents.slot_values {
        of_table(flat(&walked.tables.slot_values), flat(slot_values));
    }
    results
}

fn flat<T: Copy, D: ndarray::Dimension>(numbers: &Array<T, D>) -> Vec<T> {
    numbers.iter().copied().collect()
}
