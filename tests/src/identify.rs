//! What an implementation that does not conform computes instead.                               NUM-11
//!
//! ```text
//! fits        every case's outputs are inside the bounds of the deviation, taken as if it were the specification
//! separated   some case is outside the specification's bounds by a factor of 10
//! ```
//!
//! Single deviations are tried first, then pairs. Several that fit are reported as a set: the cases cannot tell them apart.

use rayon::prelude::*;
use serde::Serialize;

use crate::deviation::{self, Deviation};
use crate::implementation::Implementation;
use crate::judge::{Declaration, Judgement, Verdict, judge};
use crate::problem::Problem;
use crate::run::Outputs;
use fwpkm_reference::Rules;

/// By how much some case must be outside the specification's bounds.
const SEPARATED: f64 = 10.0;

/// The most deviations of which pairs are tried before all are.
const PAIRED: usize = 32;

/// Cases of its clause that a deviation must explain something of, to be tried in pairs.
const CASES_OF_A_CLAUSE: usize = 4;

/// One case with what an implementation made of it.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// The case.
    pub problem: &'a Problem,
    /// What was recorded.
    pub outputs: Outputs,
    /// Against the specification.
    pub judgement: Judgement,
}

/// An implementation that every case is consistent with.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// Names of its deviations.
    pub deviations: Vec<String>,
    /// Clauses they break or choose otherwise.
    pub clauses: Vec<String>,
    /// What it computes instead.
    pub instead: String,
    /// The case that separates it from the specification most.
    pub separated_by: String,
    /// How far that is outside the specification's bounds.
    pub factor: f64,
}

/// What an implementation computes.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Identification {
    /// What the specification says.
    Conforms,
    /// One of these; more than one where the cases cannot tell them apart.
    ConsistentWith(Vec<Explanation>),
    /// Nothing that is known.
    Unknown,
}

/// Finds the deviations, single or in pairs, that every case is consistent with.
pub fn identify(evidence: &[Evidence], declared: Declaration) -> Identification {
    let mut failing: Vec<&Evidence> = evidence.iter().filter(|case| differs(&case.judgement)).collect();
    if failing.is_empty() {
        return Identification::Conforms;
    }
    // Short cases first: most that does not fit fails at the first.
    failing.sort_by_key(|case| (case.judgement.steps, case.judgement.tokens));
    let passing: Vec<&Evidence> = evidence.iter().filter(|case| !differs(&case.judgement)).collect();
    let order: Vec<&Evidence> = failing.iter().chain(&passing).copied().collect();
    let mut singles: Vec<Implementation> = deviation::all().iter().map(Implementation::deviating).collect();
    singles.push(Implementation { rules: Some(Rules::paper()), ..Implementation::specification() });
    let fitting: Vec<&Implementation> =
        singles.par_iter().filter(|candidate| fits(candidate, &order, declared)).collect();
    let explained = explanations(&fitting, &failing);
    if !explained.is_empty() {
        return Identification::ConsistentWith(explained);
    }
    // Those that seem to help first; all there are, at some seconds more, only where none of them fits.
    let helping = helping(&singles, &failing, declared);
    let all: Vec<&'static Deviation> = deviation::all().iter().collect();
    for candidates in [helping, all] {
        let pairs = pairs(&candidates);
        let fitting: Vec<&Implementation> = pairs.par_iter().filter(|pair| fits(pair, &order, declared)).collect();
        let explained = explanations(&fitting, &failing);
        if !explained.is_empty() {
            return Identification::ConsistentWith(explained);
        }
    }
    Identification::Unknown
}

fn differs(judgement: &Judgement) -> bool {
    judgement.verdict() == Verdict::Differs
}

fn fits(candidate: &Implementation, order: &[&Evidence], declared: Declaration) -> bool {
    order
        .iter()
        .all(|case| judge(case.problem, candidate, declared, &case.outputs).is_ok_and(|judgement| !differs(&judgement)))
}

fn explanations(fitting: &[&Implementation], failing: &[&Evidence]) -> Vec<Explanation> {
    let worst = |case: &&&Evidence| case.judgement.findings().fold(0.0, |worst: f64, check| worst.max(check.ratio));
    let Some(most) = failing.iter().max_by(|a, b| worst(a).total_cmp(&worst(b))) else { return Vec::new() };
    let factor = worst(&most);
    if factor < SEPARATED {
        return Vec::new();
    }
    fitting.iter().map(|candidate| explanation(candidate, &most.problem.name, factor)).collect()
}

fn explanation(candidate: &Implementation, separated_by: &str, factor: f64) -> Explanation {
    let of_paper = candidate.rules.is_some();
    let instead = if of_paper {
        "the paper's rules throughout, whatever a case states".into()
    } else {
        candidate.deviations.iter().map(|deviation| deviation.instead).collect::<Vec<_>>().join("; and ")
    };
    Explanation {
        deviations: candidate
            .deviations
            .iter()
            .map(|deviation| deviation.name.to_string())
            .chain(of_paper.then(|| "rules-of-the-paper".into()))
            .collect(),
        clauses: candidate.deviations.iter().map(|deviation| deviation.clause.to_string()).collect(),
        instead,
        separated_by: separated_by.into(),
        factor,
    }
}

/// Deviations that each explain something: under one alone, fewer tensors differ in cases made for its clause.
fn helping(singles: &[Implementation], failing: &[&Evidence], declared: Declaration) -> Vec<&'static Deviation> {
    let explains = |candidate: &Implementation| -> usize {
        let made_for = |case: &&&Evidence| {
            let labels = &case.judgement.clauses;
            candidate.deviations.iter().any(|deviation| labels.iter().any(|label| label == deviation.clause))
        };
        let fewer = |case: &&Evidence| {
            let before: Vec<&str> = case.judgement.findings().map(|check| check.tensor.as_str()).collect();
            let Ok(judgement) = judge(case.problem, candidate, declared, &case.outputs) else { return 0 };
            let after: Vec<&str> = judgement.findings().map(|check| check.tensor.as_str()).collect();
            let fewer = after.iter().all(|tensor| before.contains(tensor));
            if fewer { before.len().saturating_sub(after.len()) } else { 0 }
        };
        failing.iter().filter(made_for).take(CASES_OF_A_CLAUSE).map(fewer).sum()
    };
    let mut helping: Vec<(usize, &Implementation)> = singles
        .par_iter()
        .filter(|candidate| candidate.rules.is_none())
        .map(|candidate| (explains(candidate), candidate))
        .filter(|(count, _)| *count > 0)
        .collect();
    helping.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    helping.truncate(PAIRED);
    helping.into_iter().flat_map(|(_, candidate)| &candidate.deviations).copied().collect()
}

/// All pairs of these that can be had at once.
fn pairs(deviations: &[&'static Deviation]) -> Vec<Implementation> {
    let mut pairs = Vec::new();
    for (place, first) in deviations.iter().enumerate() {
        for second in &deviations[place + 1..] {
            if compose(&[first, second]) {
                pairs.push(Implementation { deviations: vec![first, second], ..Implementation::specification() });
            }
        }
    }
    pairs
}

/// Whether these can be had at once: no two replace the same stage.
pub fn compose(deviations: &[&Deviation]) -> bool {
    let stages = ["project", "score", "select", "read", "output", "memorize", "address", "order"];
    stages.iter().all(|stage| deviations.iter().filter(|deviation| deviation.change.is_of(stage)).count() <= 1)
}
