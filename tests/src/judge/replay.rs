//! A whole run against the oracle that follows its choices, within what rounding makes of it.      NUM-11
//!
//! ```text
//! oracle     the case in f64, every slot chosen as the implementation chose it
//! injected   the same in the implementation's arithmetic, every result of a stage times 1 + ξ·u, ξ drawn from ±1
//! envelope   the largest difference of any injected run from the oracle in a row of the tensor, or the root mean square of
//!            these over the whole tensor, whichever is larger
//! bound      8 times the envelope, and four roundings of the number itself
//! ```

pub(super) mod noise;

use fwpkm_reference::TracedStep;
use fwpkm_reference::select::Selected;
use fwpkm_spec::{Data, Label};
use ndarray::ArrayD;

use super::check::{Check, NOT_ASKED, Verdict, unravel};
use super::choices::wrong_half;
use super::clauses::clause_of;
use super::recorded::Recorded;
use super::{Declaration, FirstStep};
use crate::element::Element;
use crate::error::Result;
use crate::implementation::Implementation;
use crate::numbers::Numbers;
use crate::outputs::of_walk;
use crate::problem::Problem;
use crate::run::{Outputs, Plan};
use crate::selection::Choices;
use crate::walk::{Order, Walk, Walked};
use noise::{LOUD, drawn, noise};

/// The bound over the envelope.
const FACTOR: f64 = 8.0;

/// Runs with rounding injected, and how far they choose the same slots as the oracle.
struct Injected {
    runs: Vec<Outputs>,
    /// Steps up to the first one whose chunk, read again, may choose otherwise.
    steps: usize,
    /// Tokens read before that step.
    tokens: usize,
}

/// A case that the oracle has run.
pub(crate) struct Replayed<'a> {
    pub(crate) problem: &'a Problem,
    pub(crate) oracle: &'a Implementation,
    pub(crate) plan: &'a Plan,
    /// None where every sequence was walked alone.
    pub(crate) walked: Option<&'a Walked<f64>>,
    pub(crate) expected: &'a Outputs,
    /// Tensors that are reported otherwise than they are computed.
    pub(crate) reported: Vec<&'a String>,
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
            Numbers::F64 => self.injected::<f64>(declared)?,
            _ => self.injected::<f32>(declared)?,
        };
        let skipped = if stagewise { first.tokens } else { 0 };
        let reads = self.expected.get("out.reads").and_then(|reads| recorded.real("out.reads", &reads.shape)).is_some();
        let mut checks = Vec::new();
        for (name, expected) in self.expected {
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
            let bounds = self.bounds(name, &injected, declared.numbers);
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
        checks.extend(self.choices(&injected, declared.numbers, skipped));
        Ok((checks, injected.steps))
    }

    /// The clause of order or state that the case was made for: what goes wrong after the first step is a matter of these.
    fn clause(&self, name: &str) -> String {
        let of_order = |label: &&Label| matches!(label.group().code(), "CHK" | "STR" | "BAT");
        let made_for = self.problem.clauses.iter().find(of_order);
        made_for.map_or_else(|| clause_of(name, &self.plan.settings).into(), ToString::to_string)
    }

    /// Runs with rounding injected.
    fn injected<S: Element>(&self, declared: Declaration) -> Result<Injected> {
        let choices = self.walked.and_then(|walked| followed(walked, self.problem.sequences));
        let mut injected = Injected { runs: Vec::new(), steps: usize::MAX, tokens: self.problem.tokens };
        for (number, keep) in noise::<S>(declared.numbers).into_iter().enumerate() {
            let mut stages = self.oracle.stages_with(Numbers::F64, declared.distance);
            stages.keep = Some(keep);
            let as_specified = self.oracle.selects_as_specified();
            let walk =
                Walk { choices: choices.as_ref(), as_specified, ..super::walk_of(self.plan, stages, self.oracle) };
            let Some(oracle) = self.walked else {
                let outputs = self.oracle.run_with(self.problem, walk.stages)?;
                if let Some(token) = self.first_other_choice(&outputs) {
                    (injected.steps, injected.tokens) = (0, injected.tokens.min(token));
                }
                if number >= LOUD {
                    injected.runs.push(outputs);
                }
                continue;
            };
            let walked = walk.run(self.problem)?;
            let steps = oracle.trace.steps.iter().zip(&walked.trace.steps).take_while(|(a, b)| chooses_the_same(a, b));
            let steps = steps.count();
            if let Some(step) = oracle.trace.steps.get(steps).filter(|_| steps < injected.steps) {
                injected.steps = steps;
                injected.tokens = oracle.trace.readings[..step.after].iter().map(|(tokens, _)| tokens).sum();
            }
            if number >= LOUD {
                let mut outputs = of_walk(&walked, self.problem, self.plan)?;
                self.oracle.report(&mut outputs, self.problem, self.plan);
                self.disturb(&mut outputs, declared.numbers, number);
                injected.runs.push(outputs);
            }
        }
        Ok(injected)
    }

    /// Rounding of what is reported otherwise than it is computed.
    fn disturb(&self, outputs: &mut Outputs, numbers: Numbers, seed: usize) {
        for name in &self.reported {
            let Some(tensor) = outputs.get_mut(*name) else { continue };
            if matches!(tensor.data, Data::I64(_)) {
                continue;
            }
            // Several roundings make one reported number.
            let of =
                |(place, x): (usize, f64)| x * (1.0 + 4.0 * numbers.unit_roundoff() * drawn(place as u64, seed as u64));
            tensor.data = Data::F64(tensor.data.to_f64().into_iter().enumerate().map(of).collect());
        }
    }

    /// The first token for which other slots were chosen than the oracle's.
    fn first_other_choice(&self, outputs: &Outputs) -> Option<usize> {
        let (own, other) = (self.expected.get("out.indices")?, outputs.get("out.indices")?);
        let (own, other) = (own.data.to_i64()?, other.data.to_i64()?);
        let differing = own.iter().zip(&other).enumerate().filter(|(_, (a, b))| a != b);
        differing.map(|(flat, _)| unravel(flat, &self.expected["out.indices"].shape)[1]).min()
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

    /// The bound of every number of a tensor.
    fn bounds(&self, name: &str, injected: &Injected, numbers: Numbers) -> Vec<f64> {
        let expected = &self.expected[name];
        let numbers_expected = expected.data.to_f64();
        let mut envelope = vec![0.0f64; numbers_expected.len()];
        for run in &injected.runs {
            let same = run.get(name).filter(|tensor| tensor.shape == expected.shape);
            let Some(tensor) = same else { return vec![f64::INFINITY; numbers_expected.len()] };
            for (most, (x, y)) in envelope.iter_mut().zip(numbers_expected.iter().zip(tensor.data.to_f64())) {
                *most = most.max((x - y).abs());
            }
        }
        let width = expected.shape.last().copied().unwrap_or(1).max(1);
        let rounding =
            |x: f64| 4.0 * numbers.unit_roundoff() * x.abs() + numbers.spacing().max(f64::from(f32::MIN_POSITIVE));
        let squares: f64 = envelope.iter().map(|x| x * x).sum();
        let typical = (squares / envelope.len().max(1) as f64).sqrt();
        let of_row = |row: &[f64]| row.iter().fold(typical, |most, x| most.max(*x));
        let rows = envelope.chunks(width).zip(numbers_expected.chunks(width));
        rows.flat_map(|(row, x)| x.iter().map(move |x| FACTOR * of_row(row) + rounding(*x))).collect()
    }

    /// SEL-1: choices of sub-keys after the first step, by the oracle's scores.
    fn halves(&self, injected: &Injected, numbers: Numbers, skipped: usize, found: &ArrayD<i64>) -> Check {
        let (scores, name) = ("trace.score.half_scores", "trace.select.half_indices");
        let (n, k) = (self.plan.settings.sub_keys, self.plan.settings.top_k);
        let mut check = Check::without_numbers(&self.clause(name), name, Verdict::Conforms, "");
        check.reason = None;
        let (values, bounds) = (self.expected[scores].data.to_f64(), self.bounds(scores, injected, numbers));
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
        let name = "trace.select.pair_scores";
        let bounds = self.bounds(name, injected, numbers);
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

/// Whether two readings of a chunk choose the same sub-keys and slots, in whatever order
fn chooses_the_same<S, R>(a: &TracedStep<S>, b: &TracedStep<R>) -> bool {
    let sorted = |mut list: Vec<usize>| {
        list.sort_unstable();
        list
    };
    let (a, b) = (&a.reading.selected, &b.reading.selected);
    let slots = a.slots.rows().into_iter().zip(b.slots.rows());
    let halves = a.half_indices.rows().into_iter().zip(b.half_indices.rows());
    slots.chain(halves).all(|(a, b)| sorted(a.to_vec()) == sorted(b.to_vec()))
}

/// What a walk chose or adopted.
fn followed(walked: &Walked<f64>, sequences: usize) -> Option<Choices> {
    let selected: Vec<_> = walked.trace.readings.iter().map(|(_, reading)| &reading.selected).collect();
    let slots: Vec<_> = selected.iter().map(|selected| selected.slots.view()).collect();
    let slots = ndarray::concatenate(ndarray::Axis(0), &slots).ok()?;
    let halves: Vec<_> = selected.iter().map(|selected| selected.half_indices.view()).collect();
    let halves = ndarray::concatenate(ndarray::Axis(0), &halves).ok()?;
    let (rows, heads, k) = slots.dim();
    let (tokens, integers) = (rows / sequences, |index: usize| index as i64);
    Some(Choices {
        slots: slots.mapv(integers).into_shape_with_order((tokens, sequences, heads, k)).ok()?,
        selected: Some(whole(&selected)?),
        half_indices: halves.mapv(integers).into_shape_with_order((tokens, sequences, heads, 2, k)).ok(),
    })
}

/// The step that a tensor belongs to
pub(crate) fn step_of(name: &str) -> Option<usize> {
    name.rsplit_once('.').and_then(|(_, last)| last.parse().ok())
}

/// The choices of several readings as one.
fn whole(parts: &[&Selected<f64>]) -> Option<Selected<f64>> {
    macro_rules! joined {
        ($field:ident) => {
            ndarray::concatenate(ndarray::Axis(0), &parts.iter().map(|part| part.$field.view()).collect::<Vec<_>>())
                .ok()?
        };
    }
    Some(Selected {
        half_indices: joined!(half_indices),
        half_scores: joined!(half_scores),
        ranks: joined!(ranks),
        pair_scores: joined!(pair_scores),
        slots: joined!(slots),
    })
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
