//! Back through the gradient of the sub-keys.                                                 GRD-6
//!
//! ```text
//! G_i = Σ_t u_ti·D_ti                       D = 2δ/x, δ = q - K_i, x = ε + |δ|²; or q
//! ū_ti = Ḡ_i·D_ti                           δ̄ = u(2Ḡ/x - 4(δ·Ḡ)δ/x²), to q and against K; or q̄ += u·Ḡ
//! u_ti = α/R · p_ti(c_i - Σ_l p_tl c_l)     c = ln(p̄ + e) + p̄/(p̄ + e),  dc/dp̄ = 1/(p̄ + e) + e/(p̄ + e)²
//! ```

use ndarray::{Array2, Array4, ArrayView2, Zip, s};

use crate::address::{Sparse, entropy_slope};
use crate::rules::Rules;
use crate::scalar::{Scalar, sum_over};
use crate::score::squared_distance;
use crate::settings::{Score, Settings};

/// What is passed back through ADR-5.
#[derive(Clone, Debug)]
pub struct SubKeyGradientBack<S> {
    /// Of the gradients of half scores, list by list.
    pub slopes: Sparse<S>,
    /// q̄: [rows, heads, 2, `d_k`/2].
    pub queries: Array4<S>,
    /// K̄: [heads, 2, n, `d_k`/2].
    pub sub_keys: Array4<S>,
}

/// From the sub-key gradient to the gradients of half scores, the queries and the sub-keys   [GRD-6]
///
/// # Shapes   `sub_keys`, adjoint: [heads, 2, n, `d_k`/2]; queries: [rows, heads, 2, `d_k`/2]
pub fn sub_key_gradient_back<S: Scalar>(
    settings: &Settings,
    sub_keys: &Array4<S>,
    queries: &Array4<S>,
    slopes: &Sparse<S>,
    adjoint: &Array4<S>,
) -> SubKeyGradientBack<S> {
    let mut back = SubKeyGradientBack {
        slopes: slopes.clone(),
        queries: Array4::from_elem(queries.dim(), S::ZERO),
        sub_keys: Array4::from_elem(sub_keys.dim(), S::ZERO),
    };
    let (two, four) = (S::from_f64(2.0), S::from_f64(4.0));
    for (row, head, half) in ndarray::indices((queries.dim().0, settings.heads, 2)) {
        let query = queries.slice(s![row, head, half, ..]);
        let mut to_query = back.queries.slice_mut(s![row, head, half, ..]);
        for (sub_key, slope) in back.slopes.of_mut(row, head, half) {
            let key = sub_keys.slice(s![head, half, *sub_key, ..]);
            let adjoint = adjoint.slice(s![head, half, *sub_key, ..]);
            let u = *slope;
            match settings.score {
                Score::InverseDistance { epsilon } => {
                    let x = S::from_f64(epsilon) + squared_distance(query, key);
                    let difference = Zip::from(query).and(key).map_collect(|&q, &k| q - k);
                    let along = sum_over(difference.view(), adjoint, |difference, adjoint| difference * adjoint);
                    *slope = two * along / x;
                    // As a square of x the divisor would underflow.
                    let (straight, bent) = (u * two / x, u * four * along / x / x);
                    let to_key = back.sub_keys.slice_mut(s![head, half, *sub_key, ..]);
                    Zip::from(&mut to_query).and(to_key).and(&difference).and(adjoint).for_each(
                        |q, k, &difference, &adjoint| {
                            let to_difference = straight * adjoint - bent * difference;
                            *q = *q + to_difference;
                            *k = *k - to_difference;
                        },
                    );
                }
                Score::DotProduct => {
                    *slope = sum_over(query, adjoint, |q, adjoint| q * adjoint);
                    to_query.zip_mut_with(&adjoint, |q, &adjoint| *q = *q + u * adjoint);
                }
            }
        }
    }
    back
}

/// dc/dp̄ of ADR-4's slope c; 0 for a sub-key that is not used                                [GRD-6]
///
/// ```
/// assert_eq!(fwpkm_reference::train::addressing::entropy_curvature(0.5, 0.0), 2.0);
/// ```
pub fn entropy_curvature<S: Scalar>(p: S, log_epsilon: f64) -> S {
    let e = S::from_f64(log_epsilon);
    // As a square of p + e the divisor would underflow.
    if p > S::ZERO { (S::ONE + e / (p + e)) / (p + e) } else { S::ZERO }
}

/// From ADR-4's gradient of the kept half scores to the half scores themselves               [GRD-6]
///
/// ```text
/// p̂_t = α/R·(ū_t(c - m_t) - c·(ū_t·p_t)),  m_t = Σ p_t c     c̄ = α/R·Σ_t p_t(ū_t - ū_t·p_t)
/// p̂_t += c̄·(dc/dp̄)/R                                         s̄_t = p_t(p̂_t - p̂_t·p_t)
/// ```
///
/// # Shapes   marginal: [2, n]
pub fn kept_half_scores_back<S: Scalar>(
    settings: &Settings,
    rules: &Rules,
    usage: &Sparse<S>,
    marginal: ArrayView2<S>,
    slopes: &Sparse<S>,
) -> Sparse<S> {
    let rows = S::from_f64(usage.rows().max(1) as f64);
    let scale = S::from_f64(settings.addressing_weight) / rows;
    let c = marginal.mapv(|p| entropy_slope(p, rules.log_epsilon));
    let mut to_marginal = Array2::from_elem(marginal.dim(), S::ZERO);
    for (row, (usage, slopes)) in usage.lists.iter().zip(&slopes.lists).enumerate() {
        let along = products(usage, slopes);
        for (&(sub_key, p), &(_, slope)) in usage.iter().zip(slopes) {
            let sum = &mut to_marginal[[row % 2, sub_key]];
            *sum = *sum + p * (slope - along);
        }
    }
    for (sum, &p) in to_marginal.iter_mut().zip(marginal) {
        *sum = scale * *sum * entropy_curvature(p, rules.log_epsilon) / rows;
    }
    let mut half_scores = usage.clone();
    for (row, (list, slopes)) in half_scores.lists.iter_mut().zip(&slopes.lists).enumerate() {
        let along = products(list, slopes);
        let mean = list.iter().fold(S::ZERO, |sum, &(sub_key, p)| sum + p * c[[row % 2, sub_key]]);
        let to_usage: Vec<S> = list
            .iter()
            .zip(slopes)
            .map(|(&(sub_key, _), &(_, slope))| {
                let c = c[[row % 2, sub_key]];
                scale * (slope * (c - mean) - c * along) + to_marginal[[row % 2, sub_key]]
            })
            .collect();
        let along = list.iter().zip(&to_usage).fold(S::ZERO, |sum, (&(_, p), &x)| sum + p * x);
        for ((_, p), x) in list.iter_mut().zip(to_usage) {
            *p = *p * (x - along);
        }
    }
    half_scores
}

/// Σ p·slope of one row
fn products<S: Scalar>(usage: &[(usize, S)], slopes: &[(usize, S)]) -> S {
    usage.iter().zip(slopes).fold(S::ZERO, |sum, (&(_, p), &(_, slope))| sum + p * slope)
}
