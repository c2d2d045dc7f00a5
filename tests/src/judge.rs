//! An implementation's recorded outputs against the specification, or against any other implementation.   NUM-6 … NUM-11
//!
//! ```text
//! stages   the tokens read with the initial tables, and the first step: each stage is given the implementation's own results
//!          of the stages before it where they were recorded, and bounds its result as it computes (NUM-10)
//! replay   everything after the first step, and gradients: the oracle runs the whole case with the implementation's choices of slots; what
//!          rounding makes of it is seen in runs with rounding injected (NUM-11)
//! ```

mod check;
mod choices;
mod clauses;
mod distance;
mod drift;
mod recorded;
mod replay;
mod stages;

use std::collections::BTreeSet;

use fwpkm_reference::chunk::Stages;
use fwpkm_reference::select::Selected;
use serde::Serialize;

pub use check::{Check, Verdict};
pub use clauses::clause_of;
pub use distance::Distance;

use crate::error::{Error, Result};
use crate::gradients::gradients;
use crate::implementation::Implementation;
use crate::numbers::Numbers;
use crate::outputs::{of_walk, result_names};
use crate::problem::{Problem, swapped};
use crate::reverse::Reverse;
use crate::run::{Outputs, Plan};
use crate::selection::Choices;
use crate::walk::{Event, Order, Walk, Walked, events};
use recorded::Recorded;
use stages::Staged;

/// What an implementation says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declaration {
    /// What it keeps its results in; it computes in this type or a wider one.
    pub numbers: Numbers,
    /// How it takes distances.
    #[serde(default)]
    pub distance: Distance,
}

impl Declaration {
    /// Whether gradients of these numbers can be judged: they are added up over a whole text, in the type of the numbers.   [NUM-11]
    pub fn judges_gradients(&self) -> bool {
        matches!(self.numbers, Numbers::F64 | Numbers::F32)
    }
}

/// What became of one case.
#[derive(Clone, Debug, Serialize)]
pub struct Judgement {
    /// The case.
    pub case: String,
    /// Clauses the case was made for.
    pub clauses: Vec<String>,
    /// Every tensor that was recorded, stages first.
    pub checks: Vec<Check>,
    /// Recorded tensors that nothing here knows.
    pub unknown: Vec<String>,
    /// Tensors that were not recorded.
    pub missing: Vec<String>,
    /// Clauses of results among these, and of gradients.
    #[serde(skip)]
    pub lacking: BTreeSet<String>,
    /// Tokens and steps of the case.
    pub tokens: usize,
    /// See `tokens`.
    pub steps: usize,
    /// Difference of the reads of each chunk from a free run, over the reads' magnitude; reported, never judged.
    pub drift: Vec<f64>,
    /// The first chunk whose reads differ.
    pub first_diverging_chunk: Option<usize>,
}

impl Judgement {
    /// Results that were not recorded; gradients only where some were.
    pub fn missing_results(&self) -> impl Iterator<Item = &str> {
        let differentiated = self.checks.iter().any(|check| check.tensor.starts_with("grad."));
        let missing = self.missing.iter().map(String::as_str);
        missing.filter(move |name| name.starts_with("out.") || differentiated && name.starts_with("grad."))
    }

    /// Differs if anything does; conforms if something was judged.
    pub fn verdict(&self) -> Verdict {
        let any = |verdict| self.checks.iter().any(|check| check.verdict == verdict);
        if any(Verdict::Differs) {
            Verdict::Differs
        } else if any(Verdict::Conforms) {
            Verdict::Conforms
        } else {
            Verdict::NotJudged
        }
    }

    /// The checks that differ, in order of computation.
    pub fn findings(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| check.verdict == Verdict::Differs)
    }
}

/// Judges recorded outputs of a case as if `oracle` were what they should be.
///
/// # Errors   outputs without any result of the case; a case that the oracle itself cannot run
pub fn judge(
    problem: &Problem,
    oracle: &Implementation,
    declared: Declaration,
    outputs: &Outputs,
) -> Result<Judgement> {
    some_result(problem, outputs)?;
    let problem = problem.rounded(declared.numbers);
    let plan = oracle.plan(&problem.plan);
    let recorded = Recorded::new(outputs);
    let specified = events(&plan, problem.tokens)?;
    let first = FirstStep::of(&specified, problem.tokens);
    let Staged { checks: of_stages, choices, off } = match declared.numbers {
        _ if oracle.order() != Order::Specification => {
            let choices = choices_of(&problem, oracle, declared.numbers, &recorded);
            Staged { checks: Vec::new(), choices, off: None }
        }
        Numbers::F64 => stages::checks::<53>(&problem, oracle, &plan, declared, &recorded, &first)?,
        _ => stages::checks::<24>(&problem, oracle, &plan, declared, &recorded, &first)?,
    };
    let walk = Walk {
        choices: choices.as_ref(),
        as_specified: oracle.selects_as_specified(),
        ..walk_of(&plan, oracle.stages(Numbers::F64), oracle)
    };
    let alone = oracle.runs_sequences_alone();
    let events = if walk.order == Order::Specification { specified } else { walk.events(problem.tokens)? };
    let walked: Option<Walked<f64>> = if alone { None } else { Some(walk.along(&events, &problem)?) };
    let computed = match &walked {
        Some(walked) => {
            let followed = Walk {
                choices: choices.as_ref(),
                as_specified: oracle.selects_as_specified(),
                ..walk_of(&plan, oracle.stages::<Reverse<f64>>(Numbers::F64), oracle)
            };
            let mut computed = of_walk(walked, &problem, &plan)?;
            if has_gradients(outputs) {
                computed.extend(gradients(&followed, &events, &problem, |_, x| x)?);
            }
            computed
        }
        None => oracle.run(&problem, Numbers::F64)?,
    };
    let mut expected = computed.clone();
    if !alone {
        oracle.report(&mut expected, &problem, &plan);
    }
    let reported: Vec<&String> = expected.keys().filter(|name| expected.get(*name) != computed.get(*name)).collect();
    let clause = |tensor: &str| clauses::clause_in(&problem, tensor, &plan.settings);
    let mut checks = recorded.faults(&expected, clause);
    let faulty: Vec<String> = checks.iter().map(|check| check.tensor.clone()).collect();
    checks.extend(of_stages.into_iter().filter(|check| !reported.contains(&&check.tensor)));
    let in_one_step = first.is_all_of(&problem) && walk.order == Order::Specification;
    if !in_one_step || !reported.is_empty() || has_gradients(outputs) {
        let (walked, expected, choices) = (walked.as_ref(), &expected, choices.as_ref());
        let replayed = replay::Replayed {
            problem: &problem,
            oracle,
            plan: &plan,
            walked,
            events: &events,
            expected,
            // The stages have judged the rest.
            only_gradients: in_one_step && reported.is_empty(),
            reported,
            choices,
            initial: off,
        };
        let (more, certain) = replayed.checks(declared, &recorded, &first)?;
        for fault in
            checks.iter_mut().take(faulty.len()).filter(|fault| replay::step_of(&fault.tensor) >= Some(certain))
        {
            fault.verdict = Verdict::NotJudged;
            fault.ratio = 0.0;
        }
        checks.extend(more.into_iter().map(|check| Check { replayed: true, ..check }));
    }
    // A tensor that is wrong as such is reported as that only.
    let as_such = faulty.len();
    let mut number = 0;
    checks.retain(|check| {
        number += 1;
        number <= as_such || !faulty.contains(&check.tensor)
    });
    let mut asked: BTreeSet<String> = expected.keys().cloned().collect();
    asked.extend(crate::gradients::names(&problem).into_iter().map(Into::into));
    let missing: Vec<String> = asked.into_iter().filter(|name| !outputs.contains_key(name)).collect();
    let results = missing.iter().filter(|name| name.starts_with("out."));
    let mut lacking: BTreeSet<String> = results.map(|name| clause(name)).collect();
    if missing.iter().any(|name| name.starts_with("grad.")) {
        let of_gradients = problem.clauses.iter().filter(|label| label.group().code() == "GRD");
        lacking.extend(of_gradients.map(ToString::to_string));
    }
    let (drift, first_diverging_chunk) = drift::drift(&problem, oracle, &plan, &recorded, &checks)?;
    Ok(Judgement {
        case: problem.name.clone(),
        clauses: problem.clauses.iter().map(ToString::to_string).collect(),
        checks,
        unknown: recorded.unknown(&expected),
        missing,
        lacking,
        tokens: problem.tokens,
        steps: first.steps,
        drift,
        first_diverging_chunk,
    })
}

/// Whether any gradient is recorded: only then they are asked for.
fn has_gradients(outputs: &Outputs) -> bool {
    outputs.keys().any(|name| name.starts_with("grad."))
}

/// Refuses outputs of which no result could be judged: a misspelt name, or those of another case.
fn some_result(problem: &Problem, outputs: &Outputs) -> Result<()> {
    let names = result_names(problem);
    if names.iter().any(|name| outputs.contains_key(*name)) {
        return Ok(());
    }
    let found = fwpkm_spec::listed(outputs.keys().map(String::as_str));
    Err(Error::NoResult { expected: fwpkm_spec::listed(names), found })
}

/// Whether a case is judged stage by stage throughout: no more than one step, and no token after it.
///
/// # Errors   settings or rules out of range
pub fn is_in_one_step(problem: &Problem) -> Result<bool> {
    Ok(FirstStep::of(&events(&problem.plan, problem.tokens)?, problem.tokens).is_all_of(problem))
}

/// The tokens that are read before the first step takes effect, and that step.
#[derive(Clone, Debug)]
pub(crate) struct FirstStep {
    /// Tokens read with the initial tables.
    pub(crate) tokens: usize,
    /// The first step.
    pub(crate) due: Option<crate::walk::Due>,
    /// Steps in all.
    pub(crate) steps: usize,
    /// How often the tables were reset after it.
    others: usize,
}

impl FirstStep {
    fn of(events: &[Event], tokens: usize) -> Self {
        let mut first = Self { tokens, due: None, steps: 0, others: 0 };
        let mut read = 0;
        for event in events {
            match event {
                Event::Call => {}
                Event::ResetTables if first.due.is_none() => {}
                Event::ResetTables => first.others += 1,
                Event::Read(range) => read = range.end,
                Event::Step(due) => {
                    if first.due.is_none() {
                        (first.tokens, first.due) = (read, Some(due.clone()));
                    }
                    first.steps += 1;
                }
            }
        }
        first
    }

    /// Whether nothing follows it.
    fn is_all_of(&self, problem: &Problem) -> bool {
        self.steps <= 1 && self.others == 0 && self.tokens == problem.tokens
    }
}

/// The slots the implementation chose, to be followed.
fn choices_of(problem: &Problem, oracle: &Implementation, numbers: Numbers, recorded: &Recorded) -> Option<Choices> {
    let settings = oracle.plan(&problem.plan).settings;
    let (b, t, heads, k) = (problem.sequences, problem.tokens, settings.heads, settings.top_k);
    let slots = recorded.integers("out.indices", &[b, t, heads, k])?.into_dimensionality().ok()?;
    let half_indices = recorded.integers("trace.select.half_indices", &[b, t, heads, 2, k]);
    let half_indices = half_indices.and_then(|indices| indices.into_dimensionality().ok());
    let selected = if oracle.selects_as_specified() {
        None
    } else {
        let half_scores =
            recorded.real_of("trace.score.half_scores", ndarray::Dim([b, t, heads, 2, settings.sub_keys]))?;
        let half_scores = swapped(&half_scores).into_shape_with_order((b * t, heads, 2, settings.sub_keys)).ok()?;
        Some(match numbers {
            Numbers::F64 => (oracle.stages::<f64>(numbers).select)(&settings, half_scores.view()),
            // Sums of scores are rounded as the implementation rounds them.
            _ => widened(&(oracle.stages::<f32>(numbers).select)(&settings, half_scores.mapv(|x| x as f32).view())),
        })
    };
    Some(Choices { slots: swapped(&slots), half_indices: half_indices.as_ref().map(swapped), selected })
}

fn widened(selected: &Selected<f32>) -> Selected<f64> {
    Selected {
        half_indices: selected.half_indices.clone(),
        half_scores: selected.half_scores.mapv(f64::from),
        ranks: selected.ranks.clone(),
        pair_scores: selected.pair_scores.mapv(f64::from),
        slots: selected.slots.clone(),
    }
}

/// A walk with choices of its own.
pub(crate) fn walk_of<'a, S>(plan: &'a Plan, stages: Stages<S>, oracle: &Implementation) -> Walk<'a, S> {
    Walk { plan, stages, order: oracle.order(), choices: None, exchanged: &[], as_specified: true }
}
