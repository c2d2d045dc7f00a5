//! Bounds of pair losses, of the value gradient, and of the step of both tables.              NUM-5
//!
//! ```text
//! pair loss        γ(d_v + 5)·|ℓ| + (2·d_v + 2)·(1 + |f|)·(1 + max (read - target)²)·ω
//! value gradient   γ(c + 7)·(F/max(N_i,1))·Σ |f·w·(read - target)|
//!                  + 4·c·(1 + F)·(1 + max |f|)·(1 + max |w|)·(1 + max |read - target|)·ω
//! step             u·|P'| + γ(6)·η·a + (γ(3)·|P| if λ ≠ 0, else 0) + 4·(1 + η)·ω
//! ```

use super::{Precision, gamma};
use crate::settings::Settings;
use crate::tables::descend;

/// Bound of a pair loss, from its pair weight f and its exact residuals read - target.      [NUM-5]
///
/// ```text
/// |ℓ̂ - ℓ| ≤ γ(d_v + 5)·|ℓ| + (2·d_v + 2)·(1 + |f|)·(1 + max (read - target)²)·ω
/// ```
///
/// # Shapes   residuals: `[d_v]`
///
/// ```
/// use fwpkm_reference::numerics::{Precision, gamma, pair_loss_bound};
/// let precision = Precision { unit_roundoff: 1e-3, smallest: 0.0 };
/// // f = 0.5, residuals (1, 3): the loss is 2.5
/// assert_eq!(pair_loss_bound(precision, 0.5, &[1.0, 3.0]), gamma(7, 1e-3) * 2.5);
/// ```
pub fn pair_loss_bound(precision: Precision, pair_weight: f64, residuals: &[f64]) -> f64 {
    let features = residuals.len();
    let (mut squares, mut largest) = (0.0, 0.0f64);
    for residual in residuals {
        squares += residual * residual;
        largest = largest.max(residual * residual);
    }
    let loss = pair_weight * squares / features.max(1) as f64;
    let underflow = (2.0 * features as f64 + 2.0) * (1.0 + pair_weight.abs()) * (1.0 + largest) * precision.smallest;
    gamma(features + 5, precision.unit_roundoff) * loss.abs() + underflow
}

/// One entry of a pair with f ≠ 0 that names the slot: a term f·w·(read - target) of its gradient, one feature.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WriteTerm {
    /// f
    pub pair_weight: f64,
    /// w
    pub weight: f64,
    /// read - target
    pub residual: f64,
}

/// Bound of one feature of a slot's value gradient, from its c terms.                       [NUM-5]
///
/// ```text
/// |Ĝ_i - G_i| ≤ γ(c + 7)·(F/max(N_i,1))·Σ |f·w·(read - target)|
///               + 4·c·(1 + F)·(1 + max |f|)·(1 + max |w|)·(1 + max |read - target|)·ω
/// ```
///
/// # Shapes   terms: `[c]`
///
/// ```
/// use fwpkm_reference::numerics::{Precision, WriteTerm, gamma, value_gradient_bound};
/// let precision = Precision { unit_roundoff: 1e-3, smallest: 0.0 };
/// let term = WriteTerm { pair_weight: 1.0, weight: 0.5, residual: -4.0 };
/// assert_eq!(value_gradient_bound(precision, 1.0, 2, &[term]), gamma(8, 1e-3) / 2.0 * 2.0);
/// ```
pub fn value_gradient_bound(precision: Precision, factor: f64, read_count: usize, terms: &[WriteTerm]) -> f64 {
    let c = terms.len();
    let (mut magnitude, mut pair_weight, mut weight, mut residual) = (0.0, 0.0f64, 0.0f64, 0.0f64);
    for term in terms {
        magnitude += (term.pair_weight * term.weight * term.residual).abs();
        pair_weight = pair_weight.max(term.pair_weight.abs());
        weight = weight.max(term.weight.abs());
        residual = residual.max(term.residual.abs());
    }
    let relative = gamma(c + 7, precision.unit_roundoff) * (factor / read_count.max(1) as f64) * magnitude;
    let underflow =
        4.0 * c as f64 * (1.0 + factor) * (1.0 + pair_weight) * (1.0 + weight) * (1.0 + residual) * precision.smallest;
    relative + underflow
}

/// Bound of a table element after its step, from P and the implementation's own gradient G. [NUM-5]
///
/// ```text
/// |P̂' - P'| ≤ u·|P'| + γ(6)·η·a + (γ(3)·|P| if λ ≠ 0, else 0) + 4·(1 + η)·ω,   a = |clip(G)| + λ·|P|
/// ```
///
/// ```
/// use fwpkm_reference::{Settings, numerics::{Precision, descend_bound, gamma}};
/// let precision = Precision { unit_roundoff: 1e-3, smallest: 0.0 };
/// // P = 1, G = -1, η = 1: P' = 2
/// assert_eq!(descend_bound(precision, &Settings::paper(), 1.0, -1.0), 1e-3 * 2.0 + gamma(6, 1e-3));
/// ```
pub fn descend_bound(precision: Precision, settings: &Settings, parameter: f64, gradient: f64) -> f64 {
    let u = precision.unit_roundoff;
    let (eta, lambda) = (settings.learning_rate, settings.weight_decay);
    let clipped = gradient.abs().min(settings.gradient_clip.unwrap_or(f64::INFINITY));
    let a = clipped + lambda * parameter.abs();
    let decay = if lambda == 0.0 { 0.0 } else { gamma(3, u) * parameter.abs() };
    let after = descend(settings, parameter, gradient);
    u * after.abs() + gamma(6, u) * eta * a + decay + 4.0 * (1.0 + eta) * precision.smallest
}
