//! What a certificate says in numbers: how far an output may be off, and by what margin deviations are caught.   NUM-9 … NUM-11
//!
//! ```text
//! bound     of a tensor in a type: the largest of any of its numbers, from the inputs and the recorded choices alone
//! margin    of a deviation in f32: the largest error over its bound; none where what is wrong has no bound above 0
//! ```

use std::collections::BTreeMap;

use fwpkm_spec::Data;
use fwpkm_spec::certificate::{Bounds, Separates};
use rayon::prelude::*;

use crate::deviation::{self, Deviation};
use crate::error::Result;
use crate::implementation::Implementation;
use crate::judge::{Check, Declaration, Distance, Judgement, Verdict, is_in_one_step, judge};
use crate::numbers::Numbers;
use crate::problem::Problem;
use crate::run::Outputs;

/// The choices that bounds are given for.
const CHOICES: [&str; 2] = ["out.indices", "trace.select.half_indices"];

/// The types that bounds are given for where a step is followed by tokens or steps. In narrower ones replay judges some numbers
/// or none, as the rounding it draws has it.
const REPLAYED: [Numbers; 2] = [Numbers::F64, Numbers::F32];

/// The bounds of every tensor of real numbers, in every type that all of its numbers can be judged in.
///
/// # Errors   a case that cannot be run
pub fn bounds(problem: &Problem, outputs: &Outputs) -> Result<Bounds> {
    let types: &[Numbers] = if is_in_one_step(problem)? { &Numbers::ALL } else { &REPLAYED };
    let real = outputs.iter().filter(|(_, tensor)| !matches!(tensor.data, Data::I64(_)) && !tensor.data.is_empty());
    let asked: Vec<(&String, Numbers)> =
        real.flat_map(|(name, _)| types.iter().map(move |numbers| (name, *numbers))).collect();
    let each: Result<Vec<Option<f64>>> =
        asked.par_iter().map(|(name, numbers)| bound(problem, outputs, name, *numbers)).collect();
    let mut bounds = Bounds::new();
    for ((name, numbers), bound) in asked.into_iter().zip(each?) {
        if let Some(bound) = bound {
            let of_tensor: &mut BTreeMap<String, f64> = bounds.entry(name.clone()).or_default();
            of_tensor.insert(numbers.element_type().name().into(), rounded_up(bound));
        }
    }
    Ok(bounds)
}

/// The largest bound of a tensor, judged with nothing but the choices beside it, so that it runs from the inputs.
fn bound(problem: &Problem, outputs: &Outputs, name: &str, numbers: Numbers) -> Result<Option<f64>> {
    let alone = outputs.iter().filter(|(other, _)| *other == name || CHOICES.contains(&other.as_str()));
    let alone: Outputs = alone.map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
    let declared = Declaration { numbers, distance: Distance::Direct };
    let judgement = judge(problem, &Implementation::specification(), declared, &alone)?;
    let checks = || judgement.checks.iter().filter(|check| check.tensor == name);
    Ok(is_judged(&judgement, name, outputs[name].data.len()).then(|| largest(checks())))
}

fn largest<'a>(checks: impl Iterator<Item = &'a Check>) -> f64 {
    checks.filter_map(|check| check.largest_bound).fold(0.0, f64::max)
}

/// Whether each of so many numbers of a tensor was judged.
pub(super) fn is_judged(judgement: &Judgement, name: &str, count: usize) -> bool {
    let checks = || judgement.checks.iter().filter(|check| check.tensor == name);
    let judged: usize = checks().map(|check| check.judged).sum();
    judged >= count && checks().all(|check| check.not_judged == 0 && check.verdict != Verdict::NotJudged)
}

/// The margins of those deviations of a case's clauses that it catches in f32, with all tensors recorded.
///
/// # Errors   a case that cannot be run
pub fn separates(problem: &Problem) -> Result<Separates> {
    let specified = Implementation::specification().run(problem, Numbers::F32)?;
    let of_clauses =
        |deviation: &&'static Deviation| problem.clauses.iter().any(|clause| clause.to_string() == deviation.clause);
    let deviations: Vec<&'static Deviation> = deviation::all().iter().filter(of_clauses).collect();
    let margins = deviations.into_par_iter().filter_map(|deviation| {
        let margin = separation(problem, &specified, deviation)?;
        Some((deviation.name.to_string(), margin.is_finite().then(|| rounded(margin))))
    });
    Ok(margins.collect())
}

/// The margin of a deviation that is caught; none of one that is not, or that cannot be run.
fn separation(problem: &Problem, specified: &Outputs, deviation: &'static Deviation) -> Option<f64> {
    let outputs = Implementation::deviating(deviation).run(problem, Numbers::F32).ok()?;
    if outputs == *specified {
        return None;
    }
    let declared = Declaration { numbers: Numbers::F32, distance: Distance::Direct };
    let judgement = judge(problem, &Implementation::specification(), declared, &outputs).ok()?;
    judgement.findings().map(margin).reduce(f64::max)
}

/// The error over the bound; infinite where no error is allowed.
fn margin(finding: &Check) -> f64 {
    if finding.bound.is_some_and(|bound| bound > 0.0) { finding.ratio } else { f64::INFINITY }
}

/// To three digits, the nearest.
fn rounded(x: f64) -> f64 {
    format!("{x:.2e}").parse().unwrap_or(x)
}

/// To three digits, not below.
fn rounded_up(x: f64) -> f64 {
    let near = rounded(x);
    if near >= x {
        return near;
    }
    let unit = 10f64.powf(x.log10().floor() - 2.0);
    rounded(near + unit)
}
