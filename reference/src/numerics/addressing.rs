//! Bounds of the marginal usage, its entropy, and the gradient of the sub-keys.               NUM-5
//!
//! ```text
//! marginal              b_i = (1/R)·Σ_rows p·(γ(c_i + κ + 9) + 1.3·(e + Σ_l p_l·e_l)) + (c_i + κ + 4)·ω
//! entropy               Σ_i p̄_i·(γ(n₊ + 4)·|l_i| + γ(4)) + 2·n₊·ω
//! slope                 b_c(i) = γ(8)·(|l_i| + 1) + 2·β_i
//! half-score gradient   b_s = 1.25·(α/R)·p_j·{ (ρ_j + γ(8))·|y| + b_c(j) + Σ_l p_l·[b_c(l) + (ρ_l + γ(κ + 2))·|c(l)|] }
//!                             + 2·(κ + 4)²·ω·(1 + α)·(1 + max_l |c(l)|)
//! sub-key gradient      Σ_rows |D|·(γ(c_i + m + 6)·|s'| + 1.1·b_s) + 4·c_i·ω·(1 + max |s'|)·(1 + max |q - K|)·(1 + 2/ε)
//! ```
//!
//! All are for one half. Sums leave out sub-keys whose exact p̄ is 0.

use super::reading::{exact_softmax, exponent_bounds, relative_weight_bounds};
use super::{Precision, gamma, valid};
use crate::address::entropy_slope;
use crate::settings::Score;

/// One row's kept sub-keys in one half, with what NUM-3 says of their softmax (r = κ, τ = 1); all `[κ]`.
#[derive(Clone, Debug, PartialEq)]
pub struct HalfRow {
    /// Which sub-keys.
    pub sub_keys: Vec<usize>,
    /// p, exact.
    pub usage: Vec<f64>,
    /// e
    pub exponent_bounds: Vec<f64>,
    /// ρ
    pub relative_bounds: Vec<f64>,
}

/// The exact softmax of one row's kept half scores, with e and ρ of NUM-3.                  [NUM-5]
///
/// # Shapes   `sub_keys`, scores: `[κ]`
///
/// ```
/// use fwpkm_reference::numerics::{Precision, half_row};
/// let row = half_row(Precision::F32, &[4, 2], &[7.0, 7.0]);
/// assert_eq!((row.usage, row.exponent_bounds), (vec![0.5, 0.5], vec![0.0, 0.0]));
/// ```
pub fn half_row(precision: Precision, sub_keys: &[usize], scores: &[f64]) -> HalfRow {
    let usage = exact_softmax(scores, 1.0);
    let exponent_bounds = exponent_bounds(precision, scores, 1.0);
    let mut relative_bounds = relative_weight_bounds(precision, &usage, &exponent_bounds);
    for (rho, p) in relative_bounds.iter_mut().zip(&usage) {
        *rho = valid(*p < precision.smallest || *rho <= 1.0 / 16.0, *rho);
    }
    HalfRow { sub_keys: sub_keys.to_vec(), usage, exponent_bounds, relative_bounds }
}

/// `b_i`, bounds of the marginal usage of every sub-key.                                    [NUM-5]
///
/// ```text
/// |p̂̄_i - p̄_i| ≤ b_i
/// b_i = (1/R)·Σ_rows p_row,i·(γ(c_i + κ + 9) + 1.3·(e_row,i + Σ_l p_row,l·e_row,l)) + (c_i + κ + 4)·ω
/// ```
///
/// # Shapes   rows: `[R]`, one half of each; result: `[n]`
///
/// ```
/// use fwpkm_reference::numerics::{Precision, gamma, half_row, marginal_bounds};
/// let precision = Precision { unit_roundoff: 2f64.powi(-9), smallest: 0.0 };
/// let rows = [half_row(precision, &[0, 2], &[1.0, 1.0]), half_row(precision, &[0, 1], &[1.0, 1.0])];
/// let (once, twice) = (gamma(1 + 2 + 9, precision.unit_roundoff), gamma(2 + 2 + 9, precision.unit_roundoff));
/// assert_eq!(marginal_bounds(precision, &rows, 4), [0.5 * twice, 0.25 * once, 0.25 * once, 0.0]);
/// ```
pub fn marginal_bounds(precision: Precision, rows: &[HalfRow], n: usize) -> Vec<f64> {
    let kappa = rows.iter().map(|row| row.sub_keys.len()).max().unwrap_or(0);
    let mut keepers = vec![0; n];
    let mut errors = vec![0.0; n];
    let mut usage = vec![0.0; n];
    for row in rows {
        let mut mean = 0.0;
        for (p, e) in row.usage.iter().zip(&row.exponent_bounds) {
            mean += p * e;
        }
        let kept = row.usage.iter().zip(&row.exponent_bounds).zip(&row.relative_bounds);
        for (&i, ((p, e), rho)) in row.sub_keys.iter().zip(kept).filter(|(i, _)| **i < n) {
            keepers[i] += 1;
            usage[i] += p;
            errors[i] += valid(!rho.is_nan(), p * 1.3 * (e + mean));
        }
    }
    let mut bounds = Vec::with_capacity(n);
    for i in 0..n {
        let relative = gamma(keepers[i] + kappa + 9, precision.unit_roundoff) * usage[i] + errors[i];
        let underflow = (keepers[i] + kappa + 4) as f64 * precision.smallest;
        bounds.push(relative / rows.len().max(1) as f64 + underflow);
    }
    bounds
}

/// β, the relative error of p̄; at most 1/4
fn relative_marginal_bound(marginal: f64, bound: f64) -> f64 {
    let beta = bound / marginal;
    valid(beta <= 0.25, beta)
}

/// Bound of the entropy of one half.                                                        [NUM-5]
///
/// ```text
/// |Ĥ - H| ≤ Σ_i p̄_i·(γ(n₊ + 4)·|l_i| + γ(4)) + 2·n₊·ω,   l_i = ln(p̄_i + e)
/// ```
///
/// With `marginal_bounds`, where the implementation's own p̄ is not known, it gains this as well:
///
/// ```text
/// 1.1·Σ_i b_i·(|l_i| + 2)
/// ```
///
/// # Shapes   marginal, `marginal_bounds`: `[n]`
///
/// ```
/// use fwpkm_reference::numerics::{Precision, entropy_bound, gamma};
/// let precision = Precision { unit_roundoff: 1e-3, smallest: 0.0 };
/// assert_eq!(entropy_bound(precision, &[1.0, 0.0], 0.0, None), gamma(4, 1e-3));
/// ```
pub fn entropy_bound(precision: Precision, marginal: &[f64], log_epsilon: f64, marginal_bounds: Option<&[f64]>) -> f64 {
    let u = precision.unit_roundoff;
    let used = marginal.iter().filter(|&&p| p > 0.0).count();
    let mut bound = 2.0 * used as f64 * precision.smallest;
    for (i, &p) in marginal.iter().enumerate().filter(|&(_, &p)| p > 0.0) {
        let l = (p + log_epsilon).ln().abs();
        bound += p * (gamma(used + 4, u) * l + gamma(4, u));
        if let Some(b) = marginal_bounds.and_then(|bounds| bounds.get(i)) {
            bound += 1.1 * p * relative_marginal_bound(p, *b) * (l + 2.0);
        }
    }
    bound
}

/// Bound of the addressing loss, given both entropies.                                      [NUM-5]
///
/// ```text
/// γ(4)·α·(|H[0]| + |H[1]|) + ω
/// ```
pub fn addressing_loss_bound(precision: Precision, addressing_weight: f64, entropy: [f64; 2]) -> f64 {
    let magnitude = entropy[0].abs() + entropy[1].abs();
    gamma(4, precision.unit_roundoff) * addressing_weight * magnitude + precision.smallest
}

/// Bound of the slope c of ADR-4.                                                           [NUM-5]
///
/// ```text
/// |ĉ(i) - c(i)| ≤ b_c(i)
/// b_c(i) = γ(8)·(|l_i| + 1) + 2·β_i,   c(i) = l_i + p̄_i/(p̄_i + e),   l_i = ln(p̄_i + e),   β_i = b_i/p̄_i
/// ```
///
/// `marginal_bound` is `b_i`, and 0 where the implementation's own p̄ is known. A sub-key that is not used has no slope: 0.
///
/// ```
/// use fwpkm_reference::numerics::{Precision, gamma, slope_bound};
/// let precision = Precision { unit_roundoff: 1e-3, smallest: 0.0 };
/// assert_eq!(slope_bound(precision, 1.0, 0.0, 0.125), gamma(8, 1e-3) + 0.25);
/// ```
pub fn slope_bound(precision: Precision, marginal: f64, log_epsilon: f64, marginal_bound: f64) -> f64 {
    if marginal <= 0.0 {
        return 0.0;
    }
    let l = (marginal + log_epsilon).ln();
    gamma(8, precision.unit_roundoff) * (l.abs() + 1.0) + 2.0 * relative_marginal_bound(marginal, marginal_bound)
}

/// `b_s` of the kept sub-keys of one row, with respect to their half scores.                [NUM-5]
///
/// ```text
/// b_s = 1.25·(α/R)·p_j·{ (ρ_j + γ(8))·|y| + b_c(j) + Σ_l p_l·[b_c(l) + (ρ_l + γ(κ + 2))·|c(l)|] }
///       + 2·(κ + 4)²·ω·(1 + α)·(1 + max_l |c(l)|),   y = c(j) - Σ_l p_l·c(l)
/// ```
///
/// # Shapes   row: one half of one row; marginal, `marginal_bounds`: `[n]`, bounds 0 where p̄ is known; result: `[κ]`
pub fn half_score_gradient_bounds(
    precision: Precision,
    row: &HalfRow,
    addressing_weight: f64,
    rows: usize,
    log_epsilon: f64,
    marginal: &[f64],
    marginal_bounds: &[f64],
) -> Vec<f64> {
    let (u, kappa) = (precision.unit_roundoff, row.sub_keys.len());
    let (mut mean, mut mean_error, mut steepest) = (0.0, 0.0, 0.0f64);
    let mut slopes = Vec::with_capacity(kappa);
    for ((&l, p), rho) in row.sub_keys.iter().zip(&row.usage).zip(&row.relative_bounds) {
        let (marginal, b) = (marginal.get(l).copied().unwrap_or(0.0), marginal_bounds.get(l).copied().unwrap_or(0.0));
        let (c, b_c) = (entropy_slope(marginal, log_epsilon), slope_bound(precision, marginal, log_epsilon, b));
        mean += p * c;
        mean_error += p * (b_c + (rho + gamma(kappa + 2, u)) * c.abs());
        steepest = steepest.max(c.abs());
        slopes.push((c, b_c));
    }
    let scale = addressing_weight / rows.max(1) as f64;
    let underflow =
        2.0 * (kappa as f64 + 4.0).powi(2) * precision.smallest * (1.0 + addressing_weight) * (1.0 + steepest);
    let mut bounds = Vec::with_capacity(kappa);
    for ((p, rho), (c, b_c)) in row.usage.iter().zip(&row.relative_bounds).zip(slopes) {
        let y: f64 = c - mean;
        bounds.push(1.25 * scale * p * ((rho + gamma(8, u)) * y.abs() + b_c + mean_error) + underflow);
    }
    bounds
}

/// One row's term s'·D of one element of the sub-key gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SubKeyTerm {
    /// s', exact gradient with respect to the half score.
    pub score_gradient: f64,
    /// `b_s`, its bound; 0 where the implementation's own s' is known.
    pub score_gradient_bound: f64,
    /// q - K of this element; q for the dot product.
    pub difference: f64,
    /// D of ADR-5.
    pub derivative: f64,
}

/// Bound of one element of the sub-key gradient, from the rows of its head that keep it.    [NUM-5]
///
/// ```text
/// inverse distance:  |Ĝ - G| ≤ Σ_rows |D|·(γ(c_i + m + 6)·|s'| + 1.1·b_s)
///                              + 4·c_i·ω·(1 + max |s'|)·(1 + max |q - K|)·(1 + 2/ε)
/// dot product:       |Ĝ - G| ≤ Σ_rows |D|·(γ(c_i + 2)·|s'| + 1.1·b_s) + 4·c_i·ω
/// ```
///
/// # Shapes   terms: `[c_i]`; `half_dim`: m
///
/// ```
/// use fwpkm_reference::{numerics::{Precision, SubKeyTerm, gamma, sub_key_gradient_bound}, settings::Score};
/// let precision = Precision { unit_roundoff: 1e-3, smallest: 0.0 };
/// let term = SubKeyTerm { score_gradient: 0.5, score_gradient_bound: 0.0, difference: 2.0, derivative: 2.0 };
/// assert_eq!(sub_key_gradient_bound(precision, Score::DotProduct, 1, &[term]), gamma(3, 1e-3));
/// ```
pub fn sub_key_gradient_bound(precision: Precision, score: Score, half_dim: usize, terms: &[SubKeyTerm]) -> f64 {
    let c = terms.len();
    let roundings = match score {
        Score::InverseDistance { .. } => c + half_dim + 6,
        Score::DotProduct => c + 2,
    };
    let (mut bound, mut gradient, mut difference) = (0.0, 0.0f64, 0.0f64);
    for term in terms {
        let relative = gamma(roundings, precision.unit_roundoff) * term.score_gradient.abs();
        bound += term.derivative.abs() * (relative + 1.1 * term.score_gradient_bound);
        gradient = gradient.max(term.score_gradient.abs());
        difference = difference.max(term.difference.abs());
    }
    let enlarged = match score {
        Score::InverseDistance { epsilon } => (1.0 + gradient) * (1.0 + difference) * (1.0 + 2.0 / epsilon),
        Score::DotProduct => 1.0,
    };
    bound + 4.0 * c as f64 * precision.smallest * enlarged
}
