//! One recorded tensor held against what a clause requires.

use fwpkm_reference::numerics::Bounded;
use serde::Serialize;

use crate::numbers::Numbers;

/// Bounds above this share of a tensor's largest magnitude judge nothing; above 64 u of a narrower kept type otherwise. [NUM-11]
const ILL_CONDITIONED: f64 = 0.01;

/// The bound of a number that this check leaves to another.
pub(crate) const NOT_ASKED: f64 = f64::NEG_INFINITY;

/// What became of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every number that can be judged is inside its bound.
    Conforms,
    /// Some number is not.
    Differs,
    /// Nothing of it can be judged; `reason` says why.
    NotJudged,
}

/// One tensor, or what could be judged of it.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// The clause that specifies it.
    pub clause: String,
    /// Name of the tensor.
    pub tensor: String,
    /// What became of it.
    pub verdict: Verdict,
    /// Largest error over its bound; for choices, how many are wrong.
    pub ratio: f64,
    /// Where that is.
    pub at: Vec<usize>,
    /// The first place that differs, in row-major order.
    pub first: Option<Vec<usize>>,
    /// The number required there.
    pub expected: Option<f64>,
    /// The number found there.
    pub actual: Option<f64>,
    /// How far they may be apart.
    pub bound: Option<f64>,
    /// The largest bound of any number judged.
    pub largest_bound: Option<f64>,
    /// Numbers judged, and numbers that no bound could judge.
    pub judged: usize,
    /// See `judged`.
    pub not_judged: usize,
    /// Why nothing was judged, or what is wrong with the tensor as such.
    pub reason: Option<String>,
    /// Whether it was judged by replay: after the first step, where what went wrong before shows too.
    pub replayed: bool,
}

impl Check {
    /// A check without numbers.
    pub fn without_numbers(clause: &str, tensor: &str, verdict: Verdict, reason: impl Into<String>) -> Self {
        Self {
            clause: clause.into(),
            tensor: tensor.into(),
            verdict,
            ratio: if verdict == Verdict::Differs { f64::INFINITY } else { 0.0 },
            at: Vec::new(),
            first: None,
            expected: None,
            actual: None,
            bound: None,
            largest_bound: None,
            judged: 0,
            not_judged: 0,
            reason: Some(reason.into()),
            replayed: false,
        }
    }

    /// Numbers against what they must be, each within its own bound.
    ///
    /// Bounds that are not finite, or so large that they say nothing, judge nothing.
    pub fn of_numbers(
        clause: &str,
        tensor: &str,
        shape: &[usize],
        expected: &[(f64, f64)],
        actual: &[f64],
        numbers: Numbers,
    ) -> Self {
        let scale = expected.iter().fold(0.0f64, |scale, (x, _)| scale.max(x.abs()));
        let useless = scale * ILL_CONDITIONED.max(64.0 * numbers.unit_roundoff());
        let mut check = Self::without_numbers(clause, tensor, Verdict::Conforms, "");
        check.reason = None;
        for (flat, (&(x, bound), &found)) in expected.iter().zip(actual).enumerate() {
            if bound == NOT_ASKED {
                continue;
            }
            if !bound.is_finite() || (scale > 0.0 && bound > useless && bound > 64.0 * numbers.spacing()) {
                check.not_judged += 1;
                continue;
            }
            check.judged += 1;
            check.largest_bound = Some(check.largest_bound.unwrap_or(0.0).max(bound));
            let error = (found - x).abs();
            // A number that is not one is as wrong as can be.
            let ratio = if error.is_nan() {
                f64::INFINITY
            } else if error == 0.0 {
                0.0
            } else {
                error / bound
            };
            if ratio > 1.0 && check.first.is_none() {
                check.first = Some(unravel(flat, shape));
            }
            if ratio > check.ratio || check.bound.is_none() {
                check.ratio = ratio.max(check.ratio);
                check.at = unravel(flat, shape);
                (check.expected, check.actual, check.bound) = (Some(x), Some(found), Some(bound));
            }
        }
        if check.ratio > 1.0 {
            check.verdict = Verdict::Differs;
        } else if check.judged == 0 && check.not_judged > 0 {
            check.verdict = Verdict::NotJudged;
            check.reason =
                Some("ill-conditioned: rounding alone may change it by more than the bound allows to judge".into());
        }
        check
    }

    /// Choices or counts against what they must be.
    pub fn of_integers(clause: &str, tensor: &str, shape: &[usize], expected: &[i64], actual: &[i64]) -> Self {
        let mut check = Self::without_numbers(clause, tensor, Verdict::Conforms, "");
        check.reason = None;
        check.judged = expected.len();
        for (flat, (x, found)) in expected.iter().zip(actual).enumerate().filter(|(_, (x, found))| x != found) {
            if check.verdict == Verdict::Conforms {
                check.verdict = Verdict::Differs;
                check.at = unravel(flat, shape);
                check.first = Some(check.at.clone());
                (check.expected, check.actual, check.bound) = (Some(*x as f64), Some(*found as f64), Some(0.0));
            }
            check.ratio += 1.0;
        }
        check
    }
}

/// What a computed number must be, and how far it may be off: by its own arithmetic, by the oracle's, and by keeping it.
pub(crate) fn allowed<const DIGITS: u32>(number: Bounded<DIGITS>, numbers: Numbers) -> (f64, f64) {
    let (x, error) = computed(number);
    (x, keeping(number, error, numbers))
}

/// The same without what keeping it costs.
pub(crate) fn computed<const DIGITS: u32>(number: Bounded<DIGITS>) -> (f64, f64) {
    let (x, error) = (number.value(), number.error());
    // The oracle computes in f64, so in f64 its own error is as large.
    (x, if DIGITS > 24 { 2.0 * error } else { error + f64::EPSILON * x.abs() })
}

/// The bound of a result that is kept, from that of its arithmetic.                                       [NUM-9]
pub(crate) fn keeping<const DIGITS: u32>(number: Bounded<DIGITS>, error: f64, numbers: Numbers) -> f64 {
    if is_exact(number, numbers) { 0.0 } else { error + numbers.keeping(number.value().abs() + error) }
}

/// Whether no arithmetic rounds a number, and to keep it neither.
pub(crate) fn is_exact<const DIGITS: u32>(number: Bounded<DIGITS>, numbers: Numbers) -> bool {
    number.error() == 0.0 && numbers.round(number.value()) == number.value()
}

pub(crate) fn unravel(mut flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut at = vec![0; shape.len()];
    for (index, &length) in at.iter_mut().zip(shape).rev() {
        *index = flat % length.max(1);
        flat /= length.max(1);
    }
    at
}
