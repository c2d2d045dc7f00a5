//! A subject over all vectors: built in, or recorded in a folder.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use crate::error::Result;
use crate::identify::{Evidence, identify};
use crate::implementation::Implementation;
use crate::judge::{Declaration, Judgement, Verdict, judge};
use crate::recording::Recording;
use crate::report::Report;
use crate::run::Outputs;
use crate::vectors::collection::Vector;

/// Gives the outputs of a vector; none where there are none.
pub type Source<'a> = &'a (dyn Fn(&Vector) -> Result<Option<Outputs>> + Sync);

/// What a built-in implementation computes.
pub fn built_in(
    implementation: &Implementation,
    declared: Declaration,
) -> impl Fn(&Vector) -> Result<Option<Outputs>> + Sync {
    move |vector| implementation.run(&vector.problem, declared.numbers).map(Some)
}

/// What was recorded in a folder.
pub fn recorded(recording: &Recording) -> impl Fn(&Vector) -> Result<Option<Outputs>> + Sync {
    |vector| recording.outputs(&vector.name)
}

/// Judges every vector against the specification; what is wrong with one does not keep the others from being judged.
///
/// `done` is called after each vector. Once `stop` is set no further vector is begun, and the report says so.
pub fn report(
    subject: &str,
    declared: Declaration,
    vectors: &[Vector],
    source: Source,
    explain: bool,
    stop: &AtomicBool,
    done: &(dyn Fn() + Sync),
) -> Report {
    let specification = Implementation::specification();
    let (errors, not_recorded) = (Mutex::new(BTreeMap::new()), Mutex::new(Vec::new()));
    let judged: Vec<(&Vector, Outputs, Judgement)> = vectors
        .par_iter()
        .filter_map(|vector| {
            if stop.load(Ordering::SeqCst) {
                return None;
            }
            let outcome = source(vector).and_then(|outputs| {
                let judged = |outputs: Outputs| {
                    let judgement = judge(&vector.problem, &specification, declared, &outputs)?;
                    Ok((vector, outputs, judgement))
                };
                outputs.map(judged).transpose()
            });
            done();
            match outcome {
                Ok(Some(judged)) => return Some(judged),
                Ok(None) => push(&not_recorded, |list: &mut Vec<String>| list.push(vector.name.clone())),
                Err(error) => push(&errors, |map| {
                    map.insert(vector.name.clone(), error.to_string());
                }),
            }
            None
        })
        .collect();
    let cases: Vec<Judgement> = judged.iter().map(|(_, _, judgement)| judgement.clone()).collect();
    let errors = errors.into_inner().unwrap_or_default();
    let mut not_recorded = not_recorded.into_inner().unwrap_or_default();
    not_recorded.sort();
    let mut report = Report::new(subject, declared, cases, errors, not_recorded);
    report.stopped = stop.load(Ordering::SeqCst);
    if explain && report.verdict() == Verdict::Differs && !report.stopped {
        let evidence: Vec<Evidence> = judged
            .into_iter()
            .map(|(vector, outputs, judgement)| Evidence { problem: &vector.problem, outputs, judgement })
            .collect();
        report.identification = Some(identify(&evidence, declared));
    }
    report
}

fn push<T>(shared: &Mutex<T>, change: impl FnOnce(&mut T)) {
    if let Ok(mut held) = shared.lock() {
        change(&mut held);
    }
}
