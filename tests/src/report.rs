//! What was judged, clause by clause.

use std::collections::BTreeMap;

use fwpkm_spec::{Clause, Label};
use serde::Serialize;

use crate::identify::Identification;
use crate::judge::{Check, Declaration, Judgement, Verdict};

/// A subject's judgements over all vectors.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What was judged.
    pub subject: String,
    /// What it computes in, and how.
    pub declared: Declaration,
    /// What that was taken from, where recorded tensors are of several types.
    pub taken_from: Option<String>,
    /// Every vector that was judged.
    pub cases: Vec<Judgement>,
    /// Vectors that could not be judged, and why.
    pub errors: BTreeMap<String, String>,
    /// Vectors that the subject does not cover, and why.
    pub not_applicable: BTreeMap<String, String>,
    /// Vectors without recorded outputs.
    pub not_recorded: Vec<String>,
    /// Every clause of the specification.
    pub clauses: Vec<ClauseLine>,
    /// What it computes instead, where it differs.
    pub identification: Option<Identification>,
    /// Whether the run was stopped before it was done.
    pub stopped: bool,
    /// Vectors that were not begun, since it was stopped.
    #[serde(skip)]
    pub not_begun: usize,
}

/// One clause over all vectors.
#[derive(Clone, Debug, Serialize)]
pub struct ClauseLine {
    /// Its label.
    pub clause: String,
    /// Its title.
    pub title: String,
    /// Vectors made for it.
    pub vectors: usize,
    /// Vectors judged for it.
    pub cases: usize,
    /// Those of them that differ in a tensor of this clause, or in any where no tensor is this clause's own.
    pub differing: usize,
    /// Largest error over its bound.
    pub ratio: f64,
    /// What became of it.
    pub verdict: Verdict,
    /// The worst finding: vector and check.
    pub worst: Option<(String, Check)>,
}

impl Report {
    /// Gathers judgements; `labels` are those of every vector that was to be judged.
    pub fn new(
        subject: &str,
        declared: Declaration,
        labels: &[Vec<Label>],
        cases: Vec<Judgement>,
        errors: BTreeMap<String, String>,
        not_recorded: Vec<String>,
    ) -> Self {
        let clauses = fwpkm_spec::clauses().iter().map(|clause| line(clause, labels, &cases)).collect();
        let subject = subject.into();
        Self {
            subject,
            declared,
            taken_from: None,
            cases,
            errors,
            not_applicable: BTreeMap::new(),
            not_recorded,
            clauses,
            identification: None,
            stopped: false,
            not_begun: 0,
        }
    }

    /// Vectors of which something is said.
    pub(crate) fn accounted(&self) -> usize {
        self.cases.len() + self.errors.len() + self.not_applicable.len() + self.not_recorded.len()
    }

    /// Differs if any vector does.
    pub fn verdict(&self) -> Verdict {
        let any = |verdict| self.cases.iter().any(|case| case.verdict() == verdict);
        match () {
            () if any(Verdict::Differs) => Verdict::Differs,
            () if any(Verdict::Conforms) => Verdict::Conforms,
            () => Verdict::NotJudged,
        }
    }

    /// Results that were not recorded, each with the number of vectors that ask for it and have others.
    pub fn missing(&self) -> BTreeMap<&str, usize> {
        let mut missing = BTreeMap::new();
        for name in self.cases.iter().flat_map(Judgement::missing_results) {
            *missing.entry(name).or_default() += 1;
        }
        missing
    }

    /// Judged vectors of which not every result was recorded.
    pub fn incomplete(&self) -> impl Iterator<Item = &Judgement> {
        self.cases.iter().filter(|case| case.missing_results().next().is_some())
    }

    /// Whether everything that was asked for was recorded and judged: every vector, and every result of it.
    pub fn is_complete(&self) -> bool {
        self.not_recorded.is_empty() && self.errors.is_empty() && !self.stopped && self.missing().is_empty()
    }

    /// The clauses that differ: first those that differ up to the first step; what differs after it may follow from them.
    pub fn failing(&self) -> Vec<&ClauseLine> {
        let mut failing: Vec<&ClauseLine> =
            self.clauses.iter().filter(|line| line.verdict == Verdict::Differs).collect();
        failing.sort_by_key(|line| line.worst.as_ref().is_some_and(|(_, check)| check.replayed));
        failing
    }

    /// Vectors that differ.
    pub fn differing(&self) -> impl Iterator<Item = &Judgement> {
        self.cases.iter().filter(|case| case.verdict() == Verdict::Differs)
    }
}

fn line(clause: &Clause, labels: &[Vec<Label>], cases: &[Judgement]) -> ClauseLine {
    let label: Label = clause.label;
    let name = label.to_string();
    let labelled: Vec<&Judgement> = cases.iter().filter(|case| case.clauses.contains(&name)).collect();
    let own = |check: &&Check| check.clause == name;
    // A clause whose results were not recorded is not judged by others' either.
    let has_own = cases.iter().any(|case| case.lacking.contains(&name) || case.checks.iter().any(|check| own(&check)));
    let mut line = ClauseLine {
        clause: name.clone(),
        title: clause.title.clone(),
        vectors: labels.iter().filter(|labels| labels.contains(&label)).count(),
        cases: 0,
        differing: 0,
        ratio: 0.0,
        verdict: Verdict::NotJudged,
        worst: None,
    };
    let considered: Vec<&Judgement> = if has_own {
        cases.iter().filter(|case| case.checks.iter().any(|check| own(&check))).collect()
    } else {
        labelled
    };
    for case in considered {
        // What a clause without tensors of its own requires shows in those of its group.
        let of_group = |check: &&Check| check.clause.parse::<Label>().is_ok_and(|other| other.group() == label.group());
        let checks = case.checks.iter().filter(|check| if has_own { own(check) } else { of_group(check) });
        let mut differs = false;
        for check in checks.filter(|check| check.verdict != Verdict::NotJudged) {
            line.verdict = if line.verdict == Verdict::Differs { Verdict::Differs } else { check.verdict };
            line.ratio = line.ratio.max(check.ratio);
            if check.verdict == Verdict::Differs {
                differs = true;
                // What differs up to the first step says more than what may follow from it.
                let rank = |check: &Check| (!check.replayed, check.ratio);
                if line.worst.as_ref().is_none_or(|(_, worst)| rank(check) > rank(worst)) {
                    line.worst = Some((case.case.clone(), check.clone()));
                }
            }
        }
        line.cases += 1;
        line.differing += usize::from(differs);
    }
    line
}
