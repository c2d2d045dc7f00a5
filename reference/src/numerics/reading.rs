//! Bounds of a reading: half scores, weights, reads.                            NUM-2, NUM-3, NUM-4
//!
//! ```text
//! inverse distance   γ(m + 4) + 4·u·|s|                       dot product   γ(m)·Σ_d |q_d·K_d| + 2·m·ω
//! expanded           -(1 + 4·u)·ln(1 - θ) + 4·u·|s|,   θ = (γ(3·m + 2)·Y + (8·m + 2)·ω)/X
//! softmax            w_i·ρ_i + (r + 2)·ω,   ρ_i = γ(r + 8) + 1.25·(e_i + Σ_l w_l·e_l)
//! silu               |w|·(γ(10) + 3·u·|x|) + (|x| + 2)·ω      relu          w·γ(2) + ω
//! read               γ(H·k)·Σ |w·V| + 2·H·k·ω
//! ```

use super::{Precision, gamma, valid};
use crate::read::softmax;

/// Bound of an inverse-distance half score s, of a half with m = `half_dim` numbers.        [NUM-2]
///
/// ```text
/// |ŝ - s| ≤ γ(m + 4) + 4·u·|s|          while (m + 8)²·u ≤ 1/2
/// ```
///
/// ```
/// use fwpkm_reference::numerics::{Precision, inverse_distance_bound};
/// let bound = inverse_distance_bound(Precision::F32, 1, -1e-3f64.ln());
/// assert!((bound - 1.945e-6).abs() < 1e-9);
/// ```
pub fn inverse_distance_bound(precision: Precision, half_dim: usize, score: f64) -> f64 {
    let u = precision.unit_roundoff;
    let constraint = (half_dim as f64 + 8.0).powi(2) * u <= 0.5;
    valid(constraint, gamma(half_dim + 4, u) + 4.0 * u * score.abs())
}

/// Bound of an inverse-distance half score whose distance is taken as |q|² + |K|² - 2·q·K.   [NUM-2]
///
/// ```text
/// |ŝ - s| ≤ -(1 + 4·u)·ln(1 - θ) + 4·u·|s|,   θ = (γ(3·m + 2)·Y + (8·m + 2)·ω)/X          while θ < 1
/// X = ε + Σ(q - K)²,   Y = ε + |q|² + |K|² + 2·Σ_d |q_d·K_d|
/// ```
///
/// # Shapes   query, `sub_key`: `[m]`
///
/// ```
/// use fwpkm_reference::numerics::{Precision, expanded_distance_bound};
/// // X = 1, Y = 1 + 64 + 64 + 128 = 257, u = 2^-12: θ = γ(5)·257 = 5/4091·257 = 0.314
/// let bound = expanded_distance_bound(Precision { unit_roundoff: 2f64.powi(-12), smallest: 0.0 }, &[8.0], &[8.0], 1.0);
/// assert!((bound + (1.0 + 2f64.powi(-10)) * (1.0 - 5.0 / 4091.0 * 257.0f64).ln()).abs() < 1e-12);
/// assert!(expanded_distance_bound(Precision::F32, &[1000.0], &[1000.0], 1e-3).is_nan());
/// ```
pub fn expanded_distance_bound(precision: Precision, query: &[f64], sub_key: &[f64], epsilon: f64) -> f64 {
    let (m, u) = (query.len(), precision.unit_roundoff);
    let (mut argument, mut magnitude) = (epsilon, epsilon);
    for (q, k) in query.iter().zip(sub_key) {
        argument += (q - k) * (q - k);
        magnitude += (q.abs() + k.abs()).powi(2);
    }
    let underflow = (8.0 * m as f64 + 2.0) * precision.smallest;
    let theta = (gamma(3 * m + 2, u) * magnitude + underflow) / argument;
    valid(theta < 1.0, -(1.0 + 4.0 * u) * (-theta).ln_1p() + 4.0 * u * argument.ln().abs())
}

/// Bound of a dot-product half score.                                                       [NUM-2]
///
/// ```text
/// |ŝ - s| ≤ γ(m)·Σ_d |q_d·K_d| + 2·m·ω
/// ```
///
/// # Shapes   query, `sub_key`: `[m]`
///
/// ```
/// use fwpkm_reference::numerics::{Precision, dot_product_bound};
/// let bound = dot_product_bound(Precision { unit_roundoff: 0.015625, smallest: 0.5 }, &[3.0, 1.0], &[1.0, -2.0]);
/// assert_eq!(bound, 1.0 / 31.0 * 5.0 + 2.0);
/// ```
pub fn dot_product_bound(precision: Precision, query: &[f64], sub_key: &[f64]) -> f64 {
    let m = query.len();
    let mut magnitude = 0.0;
    for (q, k) in query.iter().zip(sub_key) {
        magnitude += (q * k).abs();
    }
    gamma(m, precision.unit_roundoff) * magnitude + 2.0 * m as f64 * precision.smallest
}

/// Errors of the exponents of a softmax group.                                              [NUM-3]
///
/// ```text
/// e_i = 4·u·(M - x_i) + (3·u·|x_i| if τ ≠ 1, else 0),   x_i = s_i/τ,   M = max x
/// ```
///
/// # Shapes   scores, result: `[r]`
///
/// ```
/// use fwpkm_reference::numerics::{Precision, exponent_bounds};
/// let precision = Precision { unit_roundoff: 0.125, smallest: 0.0 };
/// assert_eq!(exponent_bounds(precision, &[2.0, -2.0], 1.0), [0.0, 4.0 * 0.125 * 4.0]);
/// assert_eq!(exponent_bounds(precision, &[2.0, -2.0], 2.0), [3.0 * 0.125, 4.0 * 0.125 * 2.0 + 3.0 * 0.125]);
/// ```
pub fn exponent_bounds(precision: Precision, scores: &[f64], temperature: f64) -> Vec<f64> {
    let u = precision.unit_roundoff;
    let mut largest = f64::NEG_INFINITY;
    for score in scores {
        largest = largest.max(score / temperature);
    }
    let mut bounds = Vec::with_capacity(scores.len());
    for score in scores {
        let x = score / temperature;
        let scaling = if temperature == 1.0 { 0.0 } else { 3.0 * u * x.abs() };
        bounds.push(4.0 * u * (largest - x) + scaling);
    }
    bounds
}

/// Relative errors of the weights of a softmax group.                                       [NUM-3]
///
/// ```text
/// ρ_i = γ(r + 8) + 1.25·(e_i + Σ_l w_l·e_l)
/// ```
///
/// # Shapes   weights, `exponent_bounds`, result: `[r]`
///
/// ```
/// use fwpkm_reference::numerics::{Precision, relative_weight_bounds};
/// // r = 2, u = 2^-9: γ(10) = 10/502
/// let bounds = relative_weight_bounds(Precision { unit_roundoff: 2f64.powi(-9), smallest: 0.0 }, &[1.0, 0.0], &[0.0, 0.04]);
/// assert_eq!(bounds, [10.0 / 502.0, 10.0 / 502.0 + 0.05]);
/// ```
pub fn relative_weight_bounds(precision: Precision, weights: &[f64], exponent_bounds: &[f64]) -> Vec<f64> {
    let mut mean = 0.0;
    let mut constraint = true;
    for (w, e) in weights.iter().zip(exponent_bounds) {
        mean += w * e;
        constraint &= *w < precision.smallest || *e <= 1.0 / 16.0;
    }
    let roundings = gamma(weights.len() + 8, precision.unit_roundoff);
    let mut bounds = Vec::with_capacity(weights.len());
    for e in exponent_bounds {
        bounds.push(valid(constraint, roundings + 1.25 * (e + mean)));
    }
    bounds
}

/// Bounds of the weights of one softmax group, from its pair scores.                        [NUM-3]
///
/// ```text
/// |ŵ_i - w_i| ≤ w_i·ρ_i + (r + 2)·ω          while e_i ≤ 1/16 for every entry with w_i ≥ ω
/// ```
///
/// # Shapes   scores, result: `[r]`
///
/// ```
/// use fwpkm_reference::numerics::{Precision, softmax_bounds};
/// // two equal scores: 0.5·γ(10)
/// let bounds = softmax_bounds(Precision::F32, &[7.0, 7.0], 1.0);
/// assert!((bounds[0] - 2.98e-7).abs() < 1e-9 && bounds[0] == bounds[1]);
/// ```
pub fn softmax_bounds(precision: Precision, scores: &[f64], temperature: f64) -> Vec<f64> {
    let weights = exact_softmax(scores, temperature);
    let relative = relative_weight_bounds(precision, &weights, &exponent_bounds(precision, scores, temperature));
    let mut bounds = Vec::with_capacity(scores.len());
    for (w, rho) in weights.iter().zip(relative) {
        bounds.push(w * rho + (scores.len() as f64 + 2.0) * precision.smallest);
    }
    bounds
}

/// w in f64, which stands for exact
pub(super) fn exact_softmax(scores: &[f64], temperature: f64) -> Vec<f64> {
    let mut weights: Vec<f64> = scores.iter().map(|score| score / temperature).collect();
    softmax(weights.iter_mut());
    weights
}

/// Bound of a silu weight, from its pair score.                                             [NUM-3]
///
/// ```text
/// |ŵ - w| ≤ |w|·(γ(10) + 3·u·|x|) + (|x| + 2)·ω,   x = s/τ,   w = x/(1 + e^-x)          while u·|x| ≤ 1/16
/// ```
///
/// ```
/// use fwpkm_reference::numerics::{Precision, silu_bound};
/// assert_eq!(silu_bound(Precision::F32, 0.0, 3.0), 2.0 * Precision::F32.smallest);
/// ```
pub fn silu_bound(precision: Precision, score: f64, temperature: f64) -> f64 {
    let u = precision.unit_roundoff;
    let x = score / temperature;
    let w = x / (1.0 + (-x).exp());
    let bound = w.abs() * (gamma(10, u) + 3.0 * u * x.abs()) + (x.abs() + 2.0) * precision.smallest;
    valid(u * x.abs() <= 1.0 / 16.0, bound)
}

/// Bound of a relu weight, from its pair score.                                             [NUM-3]
///
/// ```text
/// |ŵ - w| ≤ w·γ(2) + ω,   w = max(s/τ, 0)
/// ```
///
/// ```
/// use fwpkm_reference::numerics::{Precision, relu_bound};
/// assert_eq!(relu_bound(Precision { unit_roundoff: 0.015625, smallest: 0.5 }, 62.0, 2.0), 31.0 / 31.0 + 0.5);
/// assert_eq!(relu_bound(Precision::F64, -1.0, 2.0), Precision::F64.smallest);
/// ```
pub fn relu_bound(precision: Precision, score: f64, temperature: f64) -> f64 {
    (score / temperature).max(0.0) * gamma(2, precision.unit_roundoff) + precision.smallest
}

/// Bound of one feature of a token's read.                                                  [NUM-4]
///
/// ```text
/// |r̂ - r| ≤ γ(H·k)·Σ |w·V| + 2·H·k·ω
/// ```
///
/// # Shapes   weights: `[H·k]`; values: `[H·k]`, that feature of the slots they belong to
///
/// ```
/// use fwpkm_reference::numerics::{Precision, read_bound};
/// let bound = read_bound(Precision { unit_roundoff: 0.015625, smallest: 0.5 }, &[0.5, 0.5], &[1.0, -3.0]);
/// assert_eq!(bound, 1.0 / 31.0 * 2.0 + 2.0);
/// ```
pub fn read_bound(precision: Precision, weights: &[f64], values: &[f64]) -> f64 {
    let mut magnitude = 0.0;
    for (w, v) in weights.iter().zip(values) {
        magnitude += (w * v).abs();
    }
    gamma(weights.len(), precision.unit_roundoff) * magnitude + 2.0 * weights.len() as f64 * precision.smallest
}
