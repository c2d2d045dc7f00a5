//! A subject over all vectors: built in, or recorded in a folder.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::identify::{Evidence, identify};
use crate::implementation::Implementation;
use crate::judge::{Declaration, Judgement, Verdict, judge};
use crate::problem::Problem;
use crate::recording::Recording;
use crate::report::Report;
use crate::run::Outputs;

/// Gives the outputs of a case; none where there are none.
pub type Source<'a> = &'a (dyn Fn(&Problem) -> Result<Option<Outputs>> + Sync);

/// What a built-in implementation computes.
pub fn built_in(
    implementation: &Implementation,
    declared: Declaration,
) -> impl Fn(&Problem) -> Result<Option<Outputs>> + Sync {
    move |problem| implementation.run(problem, declared.numbers).map(Some)
}

/// What was recorded in a folder.
pub fn recorded(recording: &Recording) -> impl Fn(&Problem) -> Result<Option<Outputs>> + Sync {
    |problem| recording.outputs(&problem.name)
}

/// Judges every case, mostly certified vectors, against the specification; what is wrong with one does not keep the others from being judged.
///
/// `explain` asks what is computed instead. `done` is called after each vector. Once `stop` is set no further vector is begun,
/// nor is what is computed instead looked for any more, and the report says so.
pub fn report<V: AsRef<Problem> + Sync>(
    subject: &str,
    declared: Declaration,
    vectors: &[V],
    source: Source,
    explain: bool,
    stop: &AtomicBool,
    done: &(dyn Fn() + Sync),
) -> Report {
    let specification = Implementation::specification();
    let (errors, not_applicable) = (Mutex::new(BTreeMap::new()), Mutex::new(BTreeMap::new()));
    let not_recorded = Mutex::new(Vec::new());
    let judged: Vec<(&Problem, Outputs, Judgement)> = vectors
        .par_iter()
        .filter_map(|vector| {
            let problem = vector.as_ref();
            if stop.load(Ordering::SeqCst) {
                return None;
            }
            let outcome = source(problem).and_then(|outputs| {
                let judged = |outputs: Outputs| {
                    let judgement = judge(problem, &specification, declared, &outputs)?;
                    Ok((problem, outputs, judgement))
                };
                outputs.map(judged).transpose()
            });
            done();
            match outcome {
                Ok(Some(judged)) => return Some(judged),
                Ok(None) => push(&not_recorded, |list: &mut Vec<String>| list.push(problem.name.clone())),
                Err(Error::NotApplicable { reason }) => push(&not_applicable, |map| {
                    map.insert(problem.name.clone(), reason);
                }),
                Err(error) => push(&errors, |map| {
                    map.insert(problem.name.clone(), error.to_string());
                }),
            }
            None
        })
        .collect();
    let cases: Vec<Judgement> = judged.iter().map(|(_, _, judgement)| judgement.clone()).collect();
    let errors = errors.into_inner().unwrap_or_default();
    let mut not_recorded = not_recorded.into_inner().unwrap_or_default();
    not_recorded.sort();
    let labels: Vec<Vec<fwpkm_spec::Label>> = vectors.iter().map(|vector| vector.as_ref().clauses.clone()).collect();
    let mut report = Report::new(subject, declared, &labels, cases, errors, not_recorded);
    report.not_applicable = not_applicable.into_inner().unwrap_or_default();
    report.stopped = stop.load(Ordering::SeqCst);
    report.not_begun = vectors.len().saturating_sub(report.accounted());
    if explain && report.verdict() == Verdict::Differs && !report.stopped {
        let evidence: Vec<Evidence> =
            judged.into_iter().map(|(problem, outputs, judgement)| Evidence { problem, outputs, judgement }).collect();
        report.identification = identify(&evidence, declared, stop);
        report.stopped = report.identification.is_none();
    }
    report
}

fn push<T>(shared: &Mutex<T>, change: impl FnOnce(&mut T)) {
    if let Ok(mut held) = shared.lock() {
        change(&mut held);
    }
}
