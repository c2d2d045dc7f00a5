//! What an implementation that does not conform computes instead.                               NUM-11
//!
//! ```text
//! fits        every case's outputs are inside the bounds of the deviation, taken as if it were the specification
//! separated   some case is outside the specification's bounds by a factor of 10
//! ```
//!
//! Single deviations are tried first, then pairs. Several that fit are reported as a set: the cases cannot tell them apart. Where
//! nothing fits and stages were recorded, the same is tried on `out.*` alone.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;
use serde::Serialize;

use crate::deviation::{self, Change, Deviation};
use crate::implementation::Implementation;
use crate::judge::{Declaration, Judgement, Verdict, judge};
use crate::numbers::Numbers;
use crate::problem::Problem;
use crate::run::Outputs;
use crate::walk::Order;
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
    /// What is recorded of results is; what is recorded of stages is not.
    OfResults(OfResults),
    /// Nothing that is known.
    Unknown,
}

/// What an implementation computes by its results alone.
#[derive(Clone, Debug, Serialize)]
pub struct OfResults {
    /// One of these; none where the results conform.
    pub consistent_with: Vec<Explanation>,
    /// The tensors of stages that differ from the first of them, or from the specification.
    pub differing: Vec<String>,
}

/// Finds the deviations, single or in pairs, that every case is consistent with; none where `stop` was set before it was done.
pub fn identify(evidence: &[Evidence], declared: Declaration, stop: &AtomicBool) -> Option<Identification> {
    if !evidence.iter().any(|case| differs(&case.judgement)) {
        return Some(Identification::Conforms);
    }
    let search = Search { declared, stop };
    let singles = singles();
    let explained = explained(&Case::all(evidence, declared), &singles, search);
    let found = if explained.is_empty() {
        of_results(evidence, &singles, search).map_or(Identification::Unknown, Identification::OfResults)
    } else {
        Identification::ConsistentWith(explained.into_iter().map(|(_, explanation)| explanation).collect())
    };
    // What was found until it was stopped may not be all that fits.
    (!stop.load(Ordering::SeqCst)).then_some(found)
}

/// A case, and what the specification makes of it.
struct Case<'a> {
    evidence: &'a Evidence<'a>,
    /// The case with the inputs that an implementation has, which are numbers of its type.
    given: Problem,
    /// What the specification computes of it in f64; none where it cannot run the case.
    specified: Option<Outputs>,
    differs: bool,
}

impl<'a> Case<'a> {
    fn all(evidence: &'a [Evidence<'a>], declared: Declaration) -> Vec<Self> {
        let case = |evidence: &'a Evidence<'a>| {
            let given = evidence.problem.rounded(declared.numbers);
            let specified = Implementation::specification().run(&given, Numbers::F64).ok();
            Self { evidence, given, specified, differs: differs(&evidence.judgement) }
        };
        evidence.par_iter().map(case).collect()
    }

    /// Whether what was recorded is what the candidate computes.
    ///
    /// Where that is what the specification computes, it has been judged already; but rules of choosing leave more than one choice
    /// open, each another. Other orders are judged by replay throughout, whose bounds are wider; where such a candidate computes what
    /// differs as the specification does, it explains nothing of it.
    fn agrees(&self, candidate: &Implementation, search: Search) -> bool {
        let Some(computed) = search.run(&self.given, candidate) else { return false };
        let chooses = candidate.selects_as_specified() && candidate.orders_slots();
        if chooses && self.specified.as_ref() == Some(&computed) {
            return !self.differs;
        }
        let same = |tensor: &str| self.specified.as_ref().and_then(|all| all.get(tensor)) == computed.get(tensor);
        if candidate.order() != Order::Specification
            && self.differs
            && self.evidence.judgement.findings().all(|check| same(&check.tensor))
        {
            return false;
        }
        search.judge(self.evidence, candidate).is_some_and(|judgement| !differs(&judgement))
    }
}

/// What is the same for every candidate.
#[derive(Clone, Copy)]
struct Search<'a> {
    declared: Declaration,
    stop: &'a AtomicBool,
}

impl Search<'_> {
    /// The outputs of a case as if `oracle` were what they should be; none where it cannot run the case, and once stopped.
    fn judge(self, case: &Evidence, oracle: &Implementation) -> Option<Judgement> {
        if self.stop.load(Ordering::SeqCst) {
            return None;
        }
        judge(case.problem, oracle, self.declared, &case.outputs).ok()
    }

    /// What a candidate computes of a case, in f64; none where it cannot run it, and once stopped.
    fn run(self, given: &Problem, candidate: &Implementation) -> Option<Outputs> {
        if self.stop.load(Ordering::SeqCst) {
            return None;
        }
        candidate.run(given, Numbers::F64).ok()
    }
}

/// All that are tried one by one.
fn singles() -> Vec<Implementation> {
    let mut singles: Vec<Implementation> = deviation::all().iter().map(Implementation::deviating).collect();
    singles.push(Implementation { rules: Some(Rules::paper()), ..Implementation::specification() });
    singles
}

/// Those that explain every case, single ones before pairs.
fn explained(cases: &[Case], singles: &[Implementation], search: Search) -> Vec<(Implementation, Explanation)> {
    // Short cases first: most that does not fit fails at the first.
    let mut order: Vec<&Case> = cases.iter().collect();
    order.sort_by_key(|case| (!case.differs, case.evidence.judgement.steps, case.evidence.judgement.tokens));
    let failing: Vec<&Case> = order.iter().filter(|case| case.differs).copied().collect();
    let fits = |candidate: &&Implementation| order.iter().all(|case| case.agrees(candidate, search));
    let fitting = |candidates: &[Implementation]| -> Vec<(Implementation, Explanation)> {
        let fitting: Vec<&Implementation> = candidates.par_iter().filter(fits).collect();
        let explanations = explanations(&fitting, &failing);
        fitting.into_iter().cloned().zip(explanations).collect()
    };
    let found = fitting(singles);
    if !found.is_empty() {
        return found;
    }
    // Those that seem to help first; all there are, at some seconds more, only where none of them fits.
    let found = fitting(&pairs(&helping(singles, &failing, search)));
    if !found.is_empty() {
        return found;
    }
    fitting(&pairs(&deviation::all().iter().collect::<Vec<_>>()))
}

/// The same of `out.*` alone, where stages were recorded: these may be of another form than their names say.
fn of_results(evidence: &[Evidence], singles: &[Implementation], search: Search) -> Option<OfResults> {
    if !evidence.iter().any(|case| case.outputs.keys().any(|name| is_of_stage(name))) {
        return None;
    }
    let specification = Implementation::specification();
    let alone = |case: &Evidence<'_>| {
        let results = case.outputs.iter().filter(|(name, _)| !is_of_stage(name));
        let outputs: Outputs = results.map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
        let judgement = judge(case.problem, &specification, search.declared, &outputs).ok()?;
        Some((outputs, judgement))
    };
    let alone: Vec<_> = evidence.par_iter().map(alone).collect::<Option<_>>()?;
    let problems = evidence.iter().map(|case| case.problem);
    let results: Vec<Evidence> =
        problems.zip(alone).map(|(problem, (outputs, judgement))| Evidence { problem, outputs, judgement }).collect();
    let conforms = !results.iter().any(|case| differs(&case.judgement));
    let found = if conforms { Vec::new() } else { explained(&Case::all(&results, search.declared), singles, search) };
    let nearest = match found.first() {
        Some((implementation, _)) => implementation,
        None if conforms => &specification,
        None => return None,
    };
    let differing = |case: &Evidence| -> Vec<String> {
        let Some(judgement) = search.judge(case, nearest) else { return Vec::new() };
        let of_stages = judgement.findings().filter(|check| is_of_stage(&check.tensor));
        of_stages.map(|check| without_step(&check.tensor).to_string()).collect()
    };
    let differing: BTreeSet<String> = evidence.par_iter().flat_map_iter(differing).collect();
    let consistent_with = found.into_iter().map(|(_, explanation)| explanation).collect();
    Some(OfResults { consistent_with, differing: differing.into_iter().collect() })
}

fn is_of_stage(name: &str) -> bool {
    name.starts_with("trace.")
}

/// The name of a tensor without the number of its step
fn without_step(name: &str) -> &str {
    let by_step = name.rsplit_once('.').filter(|(_, last)| last.bytes().all(|byte| byte.is_ascii_digit()));
    by_step.map_or(name, |(name, _)| name)
}

fn differs(judgement: &Judgement) -> bool {
    judgement.verdict() == Verdict::Differs
}

fn explanations(fitting: &[&Implementation], failing: &[&Case]) -> Vec<Explanation> {
    let worst =
        |case: &&&Case| case.evidence.judgement.findings().fold(0.0, |worst: f64, check| worst.max(check.ratio));
    let Some(most) = failing.iter().max_by(|a, b| worst(a).total_cmp(&worst(b))) else { return Vec::new() };
    let factor = worst(&most);
    if factor < SEPARATED {
        return Vec::new();
    }
    fitting.iter().map(|candidate| explanation(candidate, &most.evidence.problem.name, factor)).collect()
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
fn helping(singles: &[Implementation], failing: &[&Case], search: Search) -> Vec<&'static Deviation> {
    let explains = |candidate: &Implementation| -> usize {
        let made_for = |case: &&&Case| {
            let labels = &case.evidence.judgement.clauses;
            candidate.deviations.iter().any(|deviation| labels.iter().any(|label| label == deviation.clause))
        };
        let fewer = |case: &&Case| {
            let judgement = &case.evidence.judgement;
            let before: Vec<&str> = judgement.findings().map(|check| check.tensor.as_str()).collect();
            let Some(judgement) = search.judge(case.evidence, candidate) else { return 0 };
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

/// Whether these can be had at once: no two replace the same stage, or the order of steps.
pub fn compose(deviations: &[&Deviation]) -> bool {
    let at_most_one = |replaces: &dyn Fn(Change) -> bool| {
        deviations.iter().filter(|deviation| replaces(deviation.change)).count() <= 1
    };
    let stages =
        ["project", "score", "select", "weigh", "read", "output", "memorize", "address", "value_step", "sub_key_step"];
    stages.iter().all(|stage| at_most_one(&|change| change.is_of(stage)))
        && at_most_one(&|change| change.order().is_some())
}
