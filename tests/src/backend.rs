//! The CUDA implementation as a subject: a case on its memory, in f32.
//!
//! Of a layer, the maps before and after the memory are the interpreter's, in f32.

use fwpkm_gpu::{Backend, Memory, Tile, Trace, Variant};
use fwpkm_reference::chunk::Stages;
use fwpkm_reference::{Fed, StepReport, Tokens as Call};
use fwpkm_spec::case::Operation;
use ndarray::{Array2, Axis, s};

use crate::element::{index, real};
use crate::error::{Error, Result};
use crate::judge::{Declaration, Distance};
use crate::numbers::Numbers;
use crate::outputs::by_sequence;
use crate::problem::{Problem, Text, Tokens, cast, cast_projection, cast_tables, swapped};
use crate::run::{Done, Outputs, Totals, token_outputs};
use crate::store::put;
use crate::walk::{Order, Walk};

/// What it computes in, and how it takes the distances that results are made of.
pub const DECLARED: Declaration = Declaration { numbers: Numbers::F32, distance: Distance::Direct };

/// The kernels that are judged.
pub const VARIANT: Variant = Variant::Fast(Tile::SMALL);

/// Everything the implementation gives of a case: `out.*`, and of `trace.*` what it computes as such.
///
/// The kernels order by distances and by products of two, and take no logarithm; so there are no `trace.score.*`, and of
/// `trace.select.*` only the indices.
///
/// # Errors   `Error::NotApplicable` beyond the limits of the kernels; those of the interpreter and of the device
pub fn run<B: Backend>(backend: B, problem: &Problem, variant: Variant) -> Result<Outputs> {
    let problem = problem.rounded(Numbers::F32);
    let plan = &problem.plan;
    let stages = Stages::<f32>::specification();
    let walk = Walk { plan, stages, order: Order::Specification, choices: None, exchanged: &[], as_specified: true };
    let (tokens, projected) = walk.tokens(&problem)?;
    let (settings, rules) = (plan.settings.clone(), plan.rules.clone());
    let mut memory = Memory::new(backend, settings, rules, cast_tables(&problem.tables), variant)?;
    let (mut trace, mut parts) = (Trace::default(), Vec::new());
    let tokens = BySequence::of(&tokens);
    let mut from = 0;
    for (call, operations) in plan.each_call(problem.tokens) {
        let mut fed = memory.feed_traced(&tokens.call(from, from + call), &mut trace)?;
        for operation in operations {
            match operation {
                Operation::Flush => fed.steps.extend(memory.flush_traced(&mut trace)?),
                Operation::ResetQueue => memory.reset_queue()?,
                Operation::ResetTables => memory.reset_tables(&cast_tables(&problem.tables))?,
            }
        }
        parts.push(fed);
        from += call;
    }
    let mut fed = joined(&parts)?;
    if plan.flush {
        fed.steps.extend(memory.flush_traced(&mut trace)?);
    }
    let mut totals = Totals::default();
    totals.add(&fed);
    let (steps, reads) = (fed.steps.clone(), fed.reads.clone());
    let layer = match (&problem.text, &problem.projection, projected) {
        (Text::Layer { hidden, .. }, Some(maps), Some(projected)) => {
            let rows = reads.to_shape((problem.sequences * problem.tokens, plan.settings.value_dim))?.into_owned();
            let output = walk.output_of(&cast(hidden), &cast_projection(maps), &projected, &rows);
            Some((projected, output))
        }
        _ => None,
    };
    let mut out = token_outputs(&Done { fed, layer }, plan.trace)?;
    totals.outputs(plan.settings.slots(), problem.sequences, &mut out)?;
    let tables = memory.tables()?;
    put(&mut out, "out.sub_keys", real(tables.sub_keys.view()));
    put(&mut out, "out.slot_values", real(tables.slot_values.view()));
    if plan.trace {
        traced(&trace, &steps, &problem, &mut out)?;
    }
    Ok(out)
}

/// Tokens of a run, sequences first
struct BySequence {
    queries: ndarray::Array3<f32>,
    values: ndarray::Array3<f32>,
    gates: Option<Array2<f32>>,
    mask: Option<Array2<bool>>,
}

impl BySequence {
    fn of(tokens: &Tokens<f32>) -> Self {
        Self {
            queries: swapped(&tokens.queries),
            values: swapped(&tokens.values),
            gates: tokens.gates.as_ref().map(swapped),
            mask: tokens.mask.as_ref().map(swapped),
        }
    }

    fn call(&self, from: usize, to: usize) -> Call<'_, f32> {
        Call {
            queries: self.queries.slice(s![.., from..to, ..]),
            values: self.values.slice(s![.., from..to, ..]),
            gates: self.gates.as_ref().map(|gates| gates.slice(s![.., from..to])),
            mask: self.mask.as_ref().map(|mask| mask.slice(s![.., from..to])),
        }
    }
}

/// The calls of a text as one
fn joined(parts: &[Fed<f32>]) -> Result<Fed<f32>> {
    macro_rules! join {
        ($field:ident) => {
            ndarray::concatenate(Axis(1), &parts.iter().map(|part| part.$field.view()).collect::<Vec<_>>())?
        };
    }
    let steps = parts.iter().flat_map(|part| part.steps.iter().cloned()).collect();
    Ok(Fed { reads: join!(reads), slots: join!(slots), weights: join!(weights), steps })
}

fn traced(trace: &Trace, steps: &[StepReport<f32>], problem: &Problem, out: &mut Outputs) -> Result<()> {
    let settings = &problem.plan.settings;
    let halves: Vec<_> = trace.readings.iter().map(|reading| reading.half_indices.clone()).collect();
    let rest = [settings.heads, 2, settings.top_k];
    let halves = by_sequence(&halves, problem.sequences, problem.tokens, &rest)?;
    if !trace.readings.is_empty() {
        put(out, "trace.select.half_indices", index(halves.view()));
    }
    for (number, (step, marginal)) in steps.iter().zip(&trace.marginals).enumerate() {
        put(out, format!("trace.memorize.pair_losses.{number}"), real(step.pair_losses.t()));
        put(out, format!("trace.address.marginal.{number}"), real(marginal.view()));
        put(out, format!("trace.address.entropy.{number}"), real(ndarray::aview1(&step.entropy)));
    }
    Ok(())
}

impl From<fwpkm_gpu::Error> for Error {
    fn from(error: fwpkm_gpu::Error) -> Self {
        match error {
            fwpkm_gpu::Error::Memory(error) => Self::Reference(error),
            limit @ fwpkm_gpu::Error::Limit { .. } => Self::NotApplicable { reason: limit.to_string() },
            other => Self::Device(other),
        }
    }
}
