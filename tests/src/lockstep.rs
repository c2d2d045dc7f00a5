//! A long text as a series of one-chunk cases, each with the oracle's tables of its moment.          NUM-11
//!
//! ```text
//! case s    the tokens of step s with their targets, and the tables before step s of a run in f64
//! drop      the tokens of the chunk
//! carry     the tokens of the chunk and the L after it, without a flush
//! last      a short chunk ends with a flush; tokens after the last step are a case without a step
//! ```
//!
//! A rounding error of one case never reaches the next, so an implementation of any length of text is judged by the bounds
//! of one step, and a fault shows in the case where it happens.

use std::ops::Range;

use fwpkm_reference::{Stages, chunk};
use ndarray::{Array2, Axis, Slice, s};

use crate::error::{Error, Result};
use crate::implementation::Implementation;
use crate::numbers::Numbers;
use crate::problem::{Problem, Text, Tokens};
use crate::run::Plan;
use crate::walk::{Due, Event, Walk, events};

/// The one-chunk cases of a case, in order; named after it and the step, `NAME.chunk-S`.
///
/// Numbers are those of a run in f64; [`Problem::rounded`] makes them an implementation's.
///
/// # Errors   those of the run; a step that one chunk alone does not give (rule `stream_count` = call, where `N_i` counts
///   a slice other than the chunk, or a chunk of another size than C); operations between calls
///
/// Tables are inputs, so that an implementation needs no hooks for this.                              [NUM-11]
pub fn cases(problem: &Problem) -> Result<Vec<Problem>> {
    if problem.plan.after_calls.iter().any(|operations| !operations.is_empty()) {
        let reason = format!("{}: a text with operations between its calls is no series of chunks", problem.name);
        return Err(Error::Usage { reason });
    }
    let specification = Implementation::specification();
    let plan = specification.plan(&problem.plan);
    let stages: Stages<f64> = specification.stages(Numbers::F64);
    let walk =
        Walk { plan: &plan, stages, order: specification.order(), choices: None, exchanged: &[], as_specified: true };
    let walked = walk.run(problem)?;
    let mut tables = problem.tables.clone();
    let mut cases = Vec::new();
    let mut covered = 0;
    let due = events(&plan, problem.tokens)?.into_iter().filter_map(|event| match event {
        Event::Step(due) => Some(due),
        Event::Call | Event::Read(_) | Event::ResetTables => None,
    });
    for (number, (due, step)) in due.zip(&walked.trace.steps).enumerate() {
        let range = due.queries.start..due.values_to;
        covered = range.end;
        let whole = due.queries.len() == plan.settings.chunk;
        let case = Problem { tables: tables.clone(), ..part(problem, range, number, !whole)? };
        requires(&case, Some(&due))?;
        cases.push(case);
        chunk::apply(&stages, &plan.settings, &mut tables, &step.step);
    }
    if covered < problem.tokens {
        let case = Problem { tables, ..part(problem, covered..problem.tokens, cases.len(), false)? };
        requires(&case, None)?;
        cases.push(case);
    }
    Ok(cases)
}

/// Some tokens as a case of its own, fed in one call.
fn part(problem: &Problem, tokens: Range<usize>, number: usize, flush: bool) -> Result<Problem> {
    let rows = Slice::from(tokens.clone());
    let text = match &problem.text {
        Text::Memory(all) => Text::Memory(Tokens {
            queries: all.queries.slice_axis(Axis(0), rows).to_owned(),
            values: all.values.slice_axis(Axis(0), rows).to_owned(),
            gates: all.gates.as_ref().map(|gates| gates.slice_axis(Axis(0), rows).to_owned()),
            mask: all.mask.as_ref().map(|mask| mask.slice_axis(Axis(0), rows).to_owned()),
        }),
        Text::Layer { hidden, mask } => Text::Layer {
            hidden: hidden_of(hidden, problem, tokens.clone())?,
            mask: mask.as_ref().map(|mask| mask.slice_axis(Axis(0), rows).to_owned()),
        },
    };
    let plan = Plan { calls: None, after_calls: Vec::new(), flush, ..problem.plan.clone() };
    let name = format!("{}.chunk-{number}", problem.name);
    Ok(Problem { name, plan, text, tokens: tokens.len(), cotangents: None, ..problem.clone() })
}

/// Rows (sequence, token) of some tokens.
fn hidden_of(hidden: &Array2<f64>, problem: &Problem, tokens: Range<usize>) -> Result<Array2<f64>> {
    let (sequences, width) = (problem.sequences, hidden.ncols());
    let by_sequence = hidden.view().into_shape_with_order((sequences, problem.tokens, width))?;
    let some = by_sequence.slice(s![.., tokens.clone(), ..]).to_owned();
    Ok(some.into_shape_with_order((sequences * tokens.len(), width))?)
}

/// Refuses a case whose only step is not this one.
fn requires(case: &Problem, due: Option<&Due>) -> Result<()> {
    let moved = |range: &Range<usize>, start: usize| range.start.checked_sub(start)..range.end.checked_sub(start);
    let wanted = due.map(|due| {
        let start = due.queries.start;
        (moved(&due.queries, start), moved(&due.counted, start), due.values_to.checked_sub(start))
    });
    let steps = events(&case.plan, case.tokens)?.into_iter().filter_map(|event| match event {
        Event::Step(due) => Some((moved(&due.queries, 0), moved(&due.counted, 0), Some(due.values_to))),
        Event::Call | Event::Read(_) | Event::ResetTables => None,
    });
    let steps: Vec<_> = steps.collect();
    if steps == wanted.into_iter().collect::<Vec<_>>() {
        return Ok(());
    }
    Err(Error::Usage {
        reason: format!(
            "{}: one chunk alone does not give this step; under stream_count = call it depends on the calls before it",
            case.name
        ),
    })
}
