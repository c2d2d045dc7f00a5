//! A whole run against the oracle that follows its choices, within what rounding makes of it.      NUM-11
//!
//! ```text
//! oracle     the case in f64, every slot chosen as the implementation chose it
//! injected   the same in the implementation's arithmetic, every result of a stage times 1 + ξ·u, ξ drawn from ±1
//! turned     more of these, with choices of sub-keys that rounding may turn, where they were not recorded
//! envelope   the largest difference of any of these runs from the oracle in a row of the tensor, or the root mean square of
//!            those of the injected ones over the whole tensor, whichever is larger
//! bound      8 times the envelope, and four roundings of the number itself
//! ```

mod injected;
mod near_ties;
pub(super) mod noise;

use fwpkm_reference::rules::Kept;
use fwpkm_spec::Data;
use ndarray::{Array4, ArrayD};

use super::check::{Check, NOT_ASKED, Verdict, unravel};
use super::choices::wrong_half;
use super::clauses::{clause_in, made_for};
use super::recorded::Recorded;
use super::{Declaration, FirstStep};
use crate::error::Result;
use crate::implementation::Implementation;
use crate::numbers::Numbers;
use crate::problem::Problem;
use crate::run::{Outputs, Plan};
use crate::selection::Choices;
use crate::walk::{Event, Order, Walked};
use injected::Injected;

/// What choices are made from.
const HALF_SCORES: &str = "trace.score.half_scores";
const PAIR_SCORES: &str = "trace.select.pair_scores";

/// A case that the oracle has run.
pub(crate) struct Replayed<'a> {
    pub(crate) problem: &'a Problem,
    pub(crate) oracle: &'a Implementation,
    pub(crate) plan: &'a Plan,
    /// None where every sequence was walked alone.
    pub(crate) walked: Option<&'a Walked<f64>>,
    pub(crate) events: &'a [Event],
    pub(crate) expected: &'a Outputs,
    /// Tensors that are reported otherwise than they are computed.
    pub(crate) reported: Vec<&'a String>,
    /// The choices that are followed, where there are any.
    pub(crate) choices: Option<&'a Choices>,
    /// Bounds of the half scores of the first tokens by NUM-2: [rows, heads, 2, n].
    pub(crate) initial: Option<Array4<f64>>,
    /// Whether nothing but gradients is asked for.
    pub(crate) only_gradients: bool,
}

impl Replayed<'_> {
    /// Checks every recorded tensor, of tokens only those after the first step; and how many steps choose certainly.
    pub(crate) fn checks(
        &self,
        declared: Declaration,
        recorded: &Recorded,
        first: &FirstStep,
    ) -> Result<(Vec<Check>, usize)> {
        let stagewise = self.walked.is_some() && self.oracle.order() == Order::Specification;
        let injected = match declared.numbers {
            Numbers::F64 => self.injected::<f64>(declared, recorded)?,
            _ => self.injected::<f32>(declared, recorded)?,
        };
        let skipped = if stagewise { first.tokens } else { 0 };
        let reads = self.expected.get("out.reads").and_then(|reads| recorded.real("out.reads", &reads.shape)).is_some();
        let mut checks = Vec::new();
        for (name, expected) in self.expected {
            let of_gradients = name.starts_with("grad.");
            if self.only_gradients && !of_gradients {
                continue;
            }
            let reported = self.reported.contains(&name);
            let by_stage = name.ends_with(".0") || is_of_layer(name, reads);
            let by_stage = stagewise && by_stage || name.starts_with("out.stats.");
            if by_stage && !reported {
                continue;
            }
            let by_token = is_by_token(name) && !reported;
            if by_token && skipped >= self.problem.tokens {
                continue;
            }
            let asked = |flat: usize| !by_token || unravel(flat, &expected.shape)[1] >= skipped;
            let clause = self.clause(name);
            if let Data::I64(integers) = &expected.data {
                let Some(found) = recorded.integers(name, &expected.shape) else { continue };
                if name == "trace.select.half_indices" && self.oracle.selects_as_specified() {
                    checks.push(self.halves(&injected, declared.numbers, skipped, &found));
                    continue;
                }
                if !is_by_token(name) && !self.is_certain(name, 0, &injected) {
                    let reason = "ill-conditioned: rounding alone chooses other slots when the chunk is read again";
                    checks.push(Check::without_numbers(&clause, name, Verdict::NotJudged, reason));
                    continue;
                }
                let kept: Vec<usize> =
                    (0..integers.len()).filter(|&flat| asked(flat) && self.is_certain(name, flat, &injected)).collect();
                let wanted: Vec<i64> = kept.iter().map(|&flat| integers[flat]).collect();
                let found: Vec<i64> = found.iter().copied().collect();
                let found: Vec<i64> = kept.iter().map(|&flat| found[flat]).collect();
                let mut check = Check::of_integers(&clause, name, &[wanted.len()], &wanted, &found);
                let in_tensor = |at: &Vec<usize>| at.first().map(|&place| unravel(kept[place], &expected.shape));
                check.first = check.first.as_ref().and_then(in_tensor);
                check.at = in_tensor(&check.at).unwrap_or_default();
                checks.push(check);
                continue;
            }
            let Some(found) = recorded.real(name, &expected.shape) else { continue };
            if of_gradients && !declared.judges_gradients() {
                let reason = "gradients are judged in f64 and f32 only";
                checks.push(Check::without_numbers(&clause, name, Verdict::NotJudged, reason));
                continue;
            }
            let bounds = injected.bounds(name, self.expected, declared.numbers);
            let expected_numbers = expected.data.to_f64();
            let pairs: Vec<(f64, f64)> = expected_numbers
                .iter()
                .zip(bounds)
                .enumerate()
                .map(|(flat, (&x, bound))| match (asked(flat), self.is_certain(name, flat, &injected)) {
                    (false, _) => (x, NOT_ASKED),
                    (true, false) => (x, f64::INFINITY),
                    (true, true) => (x, bound),
                })
                .collect();
            let found: Vec<f64> = found.iter().copied().collect();
            checks.push(Check::of_numbers(&clause, name, &expected.shape, &pairs, &found, declared.numbers));
        }
        if !self.only_gradients {
            checks.extend(self.choices(&injected, declared.numbers, skipped));
        }
        Ok((checks, injected.steps))
    }

    /// The clause of order or state that the case was made for: what goes wrong after the first step is a matter of these. But
    /// gradients have clauses of their own.
    fn clause(&self, name: &str) -> String {
        let of_order = if name.starts_with("grad.") { None } else { made_for(self.problem, &["CHK", "STR", "BAT"]) };
        of_order.unwrap_or_else(|| clause_in(self.problem, name, &self.plan.settings))
    }

    /// Whether sub-keys may have been chosen or kept that nothing recorded tells.
    fn halves_are_open(&self) -> bool {
        let recorded = self.choices.is_some_and(|choices| choices.half_indices.is_some());
        self.oracle.selects_as_specified() && (!recorded || self.plan.rules.kept == Kept::Ties)
    }

    /// Whether a number of a tensor does not depend on a choice that rounding may turn.
    fn is_certain(&self, name: &str, flat: usize, injected: &Injected) -> bool {
        if injected.steps == usize::MAX {
            return true;
        }
        match step_of(name) {
            Some(step) => step < injected.steps,
            None => is_by_token(name) && unravel(flat, &self.expected[name].shape)[1] < injected.tokens,
        }
    }

    /// SEL-1: choices of sub-keys after the first step, by the oracle's scores.
    fn halves(&self, injected: &Injected, numbers: Numbers, skipped: usize, found: &ArrayD<i64>) -> Check {
        let name = "trace.select.half_indices";
        let (n, k) = (self.plan.settings.sub_keys, self.plan.settings.top_k);
        let mut check = Check::without_numbers(&self.clause(name), name, Verdict::Conforms, "");
        check.reason = None;
        let (values, bounds) =
            (self.expected[HALF_SCORES].data.to_f64(), injected.bounds(HALF_SCORES, self.expected, numbers));
        let found: Vec<i64> = found.iter().copied().collect();
        for (row, chosen) in found.chunks(k).enumerate() {
            let at = unravel(row * k, &self.expected[name].shape);
            let of_row = row * n..(row + 1) * n;
            if at[1] < skipped || at[1] >= injected.tokens {
                continue;
            }
            check.judged += k;
            if wrong_half(&values[of_row.clone()], &bounds[of_row.clone()], chosen) {
                if check.verdict == Verdict::Conforms {
                    let best = best_of(&values[of_row], k);
                    check.first = Some(at.clone());
                    (check.verdict, check.at) = (Verdict::Differs, at);
                    check.reason =
                        Some(format!("sub-keys {chosen:?} were chosen; by their scores the best are {best:?}"));
                }
                check.ratio += 1.0;
            }
        }
        check
    }

    /// SEL: choices after the first step that rounding does not explain.
    fn choices(&self, injected: &Injected, numbers: Numbers, skipped: usize) -> Option<Check> {
        let walked = self.walked?;
        let bounds = injected.bounds(PAIR_SCORES, self.expected, numbers);
        let (b, t, heads) = (self.problem.sequences, self.problem.tokens, self.plan.settings.heads);
        let k = self.plan.settings.top_k;
        let ordered = self.oracle.orders_slots();
        let mut token = 0;
        for gaps in &walked.gaps {
            for ((row, head), gap) in gaps.indexed_iter() {
                let (token, sequence) = (token + row / b, row % b);
                if !(skipped..injected.tokens).contains(&token) {
                    continue;
                }
                let bound = 2.0 * bounds[((sequence * t + token) * heads + head) * k];
                let (found, place, reason) = if gap.set > bound {
                    (gap.set, gap.worst, "a slot was chosen whose score is worse than rounding explains")
                } else if ordered && gap.order > bound {
                    (gap.order, gap.late, "slots are not best first: this one scores higher than one before it")
                } else {
                    continue;
                };
                let mut check =
                    Check::without_numbers(&self.clause("out.indices"), "out.indices", Verdict::Differs, reason);
                check.at = vec![sequence, token, head, place];
                check.first = Some(check.at.clone());
                (check.expected, check.actual) = (Some(0.0), Some(found));
                (check.bound, check.ratio, check.judged) = (Some(bound), found / bound, 1);
                return Some(check);
            }
            token += gaps.nrows() / b;
        }
        None
    }
}

/// The k best of some scores, best first, ties by index
fn best_of(scores: &[f64], k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&i, &j| scores[j].total_cmp(&scores[i]));
    order.truncate(k);
    order
}

/// The step that a tensor belongs to
pub(crate) fn step_of(name: &str) -> Option<usize> {
    name.rsplit_once('.').and_then(|(_, last)| last.parse().ok())
}

fn is_by_token(name: &str) -> bool {
    let rest = name.strip_prefix("trace.");
    rest.is_some_and(|rest| ["score.", "select.", "projection.", "output."].iter().any(|stage| rest.starts_with(stage)))
        || ["out.reads", "out.indices", "out.weights", "out.layer", "out.hidden", "out.gates"].contains(&name)
}

/// Tensors that the stage checks have judged for every token: the projections, and the outputs where reads were recorded
fn is_of_layer(name: &str, reads: bool) -> bool {
    let of_output = ["out.layer", "out.hidden"].contains(&name) || name.starts_with("trace.output.");
    name == "out.gates" || name.starts_with("trace.projection.") || reads && of_output
}
