//! How well the certified vectors catch and tell apart the deviations.
//!
//! ```text
//! caught       a case labelled with the deviation's clause differs
//! identified   the deviation itself is among those that every case is consistent with
//! ```

use std::sync::atomic::AtomicBool;

use rayon::prelude::*;
use serde::Serialize;

use crate::deviation::Deviation;
use crate::error::Result;
use crate::identify::{Evidence, Identification, identify};
use crate::implementation::Implementation;
use crate::judge::{Declaration, Distance, Judgement, Verdict, judge};
use crate::numbers::Numbers;
use crate::run::Outputs;
use crate::vectors::collection::Vector;

/// The specification's own outputs and judgements of a set of vectors, in one kind of numbers.
#[derive(Debug)]
pub struct Ground<'a> {
    vectors: &'a [Vector],
    declared: Declaration,
    outputs: Vec<Outputs>,
    judgements: Vec<Judgement>,
}

/// What the vectors make of one implementation.
#[derive(Clone, Debug, Serialize)]
pub struct Surveyed {
    /// Its deviations.
    pub deviations: Vec<String>,
    /// Cases that differ.
    pub differing: usize,
    /// A case that differs and is labelled with the clause of each deviation, where there is one.
    pub caught_by: Vec<Option<String>>,
    /// Cases that it cannot run.
    pub errors: usize,
}

impl<'a> Ground<'a> {
    /// Runs and judges the specification.
    ///
    /// # Errors   those of the interpreter
    pub fn new(vectors: &'a [Vector], numbers: Numbers) -> Result<Self> {
        let declared = Declaration { numbers, distance: Distance::Direct };
        let specification = Implementation::specification();
        let both: Result<Vec<(Outputs, Judgement)>> = vectors
            .par_iter()
            .map(|vector| {
                let outputs = specification.run(&vector.problem, numbers)?;
                let judgement = judge(&vector.problem, &specification, declared, &outputs)?;
                Ok((outputs, judgement))
            })
            .collect();
        let (outputs, judgements) = both?.into_iter().unzip();
        Ok(Self { vectors, declared, outputs, judgements })
    }

    /// Findings of the specification against itself.
    pub fn findings(&self) -> Vec<String> {
        let of_case = |judgement: &Judgement| {
            let case = judgement.case.clone();
            judgement
                .findings()
                .map(move |check| format!("{case}: {} {}", check.clause, check.tensor))
                .collect::<Vec<_>>()
        };
        self.judgements.iter().flat_map(of_case).collect()
    }

    /// What an implementation makes of each vector, and how that is judged; vectors it cannot run are left out.
    pub fn evidence(&self, implementation: &Implementation) -> Vec<Evidence<'a>> {
        let cases = self.vectors.iter().zip(&self.outputs).zip(&self.judgements);
        cases
            .filter_map(|((vector, same), judgement)| {
                let outputs = implementation.run(&vector.problem, self.declared.numbers).ok()?;
                let judgement = if outputs == *same {
                    judgement.clone()
                } else {
                    judge(&vector.problem, &Implementation::specification(), self.declared, &outputs).ok()?
                };
                Some(Evidence { problem: &vector.problem, outputs, judgement })
            })
            .collect()
    }

    /// The first case labelled with a deviation's clause that differs; the others are not run.
    pub fn catches(&self, deviation: &'static Deviation) -> Option<&'a str> {
        let implementation = Implementation::deviating(deviation);
        let labelled =
            |vector: &&Vector| vector.problem.clauses.iter().any(|clause| clause.to_string() == deviation.clause);
        let differs = |vector: &&Vector| {
            let outputs = implementation.run(&vector.problem, self.declared.numbers).ok()?;
            let judgement = judge(&vector.problem, &Implementation::specification(), self.declared, &outputs).ok()?;
            (judgement.verdict() == Verdict::Differs).then_some(())
        };
        let mut labelled = self.vectors.iter().filter(labelled);
        labelled.find(|vector| differs(vector).is_some()).map(|vector| vector.problem.name.as_str())
    }

    /// Which cases catch an implementation.
    pub fn survey(&self, deviations: &[&'static Deviation]) -> (Surveyed, Vec<Evidence<'a>>) {
        let implementation = Implementation { deviations: deviations.to_vec(), ..Implementation::specification() };
        let evidence = self.evidence(&implementation);
        let differs = |case: &&Evidence| case.judgement.verdict() == Verdict::Differs;
        let caught_by = |deviation: &&Deviation| {
            let labelled = |case: &&Evidence| case.judgement.clauses.iter().any(|clause| clause == deviation.clause);
            evidence.iter().filter(differs).find(labelled).map(|case| case.judgement.case.clone())
        };
        let surveyed = Surveyed {
            deviations: deviations.iter().map(|deviation| deviation.name.to_string()).collect(),
            differing: evidence.iter().filter(differs).count(),
            caught_by: deviations.iter().map(caught_by).collect(),
            errors: self.vectors.len() - evidence.len(),
        };
        (surveyed, evidence)
    }

    /// What an implementation is identified as.
    pub fn identified(&self, evidence: &[Evidence]) -> Identification {
        // Nothing stops it.
        identify(evidence, self.declared, &AtomicBool::new(false)).unwrap_or(Identification::Unknown)
    }
}
