//! NUM-5 where products underflow: their factors may be multiplied in any order, and results below ω flushed to zero.
//!
//! The interpreter multiplies in an order in which little is lost. Each test takes another order, with flushing; the
//! result must be within the bound, but not within the bound without its factors behind ω.

use fwpkm_reference::numerics::{
    Precision, SubKeyTerm, WriteTerm, gamma, half_row, half_score_gradient_bounds, marginal_bounds, pair_loss_bound,
    sub_key_gradient_bound, value_gradient_bound,
};
use fwpkm_reference::settings::Score;

use super::observed::Observed;

const U: f64 = Precision::F32.unit_roundoff;
const OMEGA: f64 = Precision::F32.smallest;

/// The product in f32, or 0 below ω
fn flushed(a: f32, b: f32) -> f32 {
    let product = a * b;
    if product.abs() < f32::MIN_POSITIVE { 0.0 } else { product }
}

/// Within the bound, but not within relative part + `plain`·ω
fn within_only_with_its_factors(computed: f32, exact: f64, bound: f64, relative: f64, plain: f64) {
    let error = (f64::from(computed) - exact).abs();
    Observed::new("flushed").within(f64::from(computed), exact, bound);
    assert!(error > relative + plain * OMEGA, "{error:e} is within {relative:e} + {plain}·ω already");
}

#[test]
fn num_5_pair_loss_flushed() {
    // (f/d_v)·Σ(read - target)²: f/d_v = 1e-39 is flushed, the loss is 0 instead of 1e-33
    let (f, residual) = (1e-37f32, 100.0f32);
    let computed = flushed(flushed(f, 0.01), 100.0 * residual * residual);
    let residuals = [f64::from(residual); 100];
    let exact = f64::from(f) * 1e4;
    let bound = pair_loss_bound(Precision::F32, f64::from(f), &residuals);
    within_only_with_its_factors(computed, exact, bound, gamma(105, U) * exact, 202.0 * (1.0 + f64::from(f)));
}

#[test]
fn num_5_value_gradient_flushed() {
    let (f, w, residual) = (1e-20f32, 1e-19f32, 1e3f32);
    let term = WriteTerm { pair_weight: f64::from(f), weight: f64::from(w), residual: f64::from(residual) };
    let exact = term.pair_weight * term.weight * term.residual;
    let bound = value_gradient_bound(Precision::F32, 1.0, 1, &[term]);
    // (f·w)·(read - target): f·w = 1e-39 is flushed, the gradient is 0 instead of 1e-36
    let computed = flushed(flushed(f, w), residual);
    within_only_with_its_factors(computed, exact, bound, gamma(8, U) * exact, 4.0 * (1.0 + f64::from(w)));
}

#[test]
fn num_5_marginal_flushed() {
    // R rows of equal usage e^-84 of sub-key 1: p/R = 3.3e-40 is flushed in each, the mean is 0 instead of 3.3e-37
    let rows = vec![half_row(Precision::F32, &[0, 1], &[84.0, 0.0]); 1000];
    let bound = marginal_bounds(Precision::F32, &rows, 2)[1];
    let p = rows[0].usage[1];
    let computed = (0..1000).fold(0.0, |sum, _| sum + flushed(p as f32, 1e-3));
    within_only_with_its_factors(computed, p, bound, gamma(1011, U) * p, 6.0);
}

#[test]
fn num_5_half_score_gradient_flushed() {
    // (p·α)·y with p = e^-79 = 4.9e-35, so that p·α = 1.17e-38 is flushed; 78.5·ω instead of 0, where (1 + α·|c|) in
    // place of (1 + α)·(1 + |c|) would allow 73.3·ω
    let row = half_row(Precision::F32, &[0, 1], &[79.0, 0.0]);
    let (p, alpha) = (row.usage[1], 2.38e-4f32);
    let y = p.ln() + 1.0 - (1.0 - p) * ((1.0 - p).ln() + 1.0) - p * (p.ln() + 1.0);
    let marginal = row.usage.clone();
    let bounds = half_score_gradient_bounds(Precision::F32, &row, f64::from(alpha), 1, 0.0, &marginal, &[0.0; 2]);
    let computed = flushed(flushed(p as f32, alpha), y as f32);
    let exact = f64::from(alpha) * p * y;
    let steepest = (p.ln() + 1.0).abs();
    within_only_with_its_factors(
        computed,
        exact,
        bounds[1],
        1e-4 * exact.abs(),
        72.0 * (1.0 + f64::from(alpha) * steepest),
    );
}

#[test]
fn num_5_sub_key_gradient_flushed() {
    // (s'·(q - K))·(2/X) with s' = 1e-20, q - K = 1e-19, X = ε: the product is flushed, the gradient is 0 instead of 2e-36
    let (gradient, difference) = (1e-20f32, 1e-19f32);
    let x = 1e-3 + f64::from(difference) * f64::from(difference);
    let derivative = 2.0 * f64::from(difference) / x;
    let term = SubKeyTerm {
        score_gradient: f64::from(gradient),
        score_gradient_bound: 0.0,
        difference: f64::from(difference),
        derivative,
    };
    let bound = sub_key_gradient_bound(Precision::F32, Score::InverseDistance { epsilon: 1e-3 }, 1, &[term]);
    let computed = flushed(flushed(gradient, difference), (2.0 / x) as f32);
    let exact = f64::from(gradient) * derivative;
    within_only_with_its_factors(computed, exact, bound, gamma(8, U) * exact, 4.0);
}
