//! A free run beside what was recorded: reported, never judged.                                  NUM-11

use super::check::{Check, Verdict};
use super::recorded::Recorded;
use crate::error::Result;
use crate::implementation::Implementation;
use crate::numbers::Numbers;
use crate::problem::{Problem, swapped};
use crate::run::Plan;

/// How far the reads of each chunk are from a free run, and the first chunk whose reads differ.
pub(crate) fn drift(
    problem: &Problem,
    oracle: &Implementation,
    plan: &Plan,
    recorded: &Recorded,
    checks: &[Check],
) -> Result<(Vec<f64>, Option<usize>)> {
    let chunk = plan.settings.chunk.max(1);
    let of_reads = |check: &&Check| check.tensor == "out.reads" && check.verdict == Verdict::Differs;
    let diverging = checks
        .iter()
        .filter(of_reads)
        .filter_map(|check| check.first.as_ref()?.get(1).map(|token| token / chunk))
        .min();
    let shape = [problem.sequences, problem.tokens, plan.settings.value_dim];
    let Some(found) = recorded.real_of("out.reads", ndarray::Dim(shape)) else { return Ok((Vec::new(), diverging)) };
    if problem.tokens <= chunk || oracle.runs_sequences_alone() {
        return Ok((Vec::new(), diverging));
    }
    let free = super::walk_of(plan, oracle.stages::<f64>(Numbers::F64), oracle);
    let free = free.run(problem)?;
    let (found, mut token, mut drift) = (swapped(&found), 0, vec![(0.0f64, 0.0f64); problem.tokens.div_ceil(chunk)]);
    for (tokens, reading) in &free.trace.readings {
        for (row, read) in reading.reads.rows().into_iter().enumerate() {
            let (at, sequence) = (token + row / problem.sequences, row % problem.sequences);
            let sums = &mut drift[at / chunk];
            for (d, x) in read.iter().enumerate() {
                sums.0 += (x - found[[at, sequence, d]]).powi(2);
                sums.1 += x.powi(2);
            }
        }
        token += tokens;
    }
    Ok((
        drift.into_iter().map(|(error, size)| if size > 0.0 { (error / size).sqrt() } else { error }).collect(),
        diverging,
    ))
}
