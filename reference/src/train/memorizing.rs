//! Back through the value gradient and MEM-6's gradient of the half scores.            GRD-5, GRD-7
//!
//! ```text
//! G_i = A_i · Σ w·e_t,   A_i = F/max(N_i, 1),   e_t = f_t·(read_t - v_{t+L})
//! w̄ += A_i·Ḡ_i·e_t       ē_t += A_i·w·Ḡ_i
//! read̄_t += f_t·ē_t      v̄_{t+L} -= f_t·ē_t      ḡ_t += Σ_d (read_t - v_{t+L})·ē_t
//! ```

use ndarray::{Array1, Array2, Array3, Array4, ArrayView2, ArrayView4, Axis, s};

use crate::chunk::{Chunk, Reading};
use crate::memorize::{Memorized, pair_weights, residuals, sub_key_loss_scale};
use crate::projection::sigmoid;
use crate::read::{softmax_groups, weight_gradient_to_scores};
use crate::rules::Rules;
use crate::scalar::{Scalar, sum_over};
use crate::settings::{Activation, Settings};
use crate::train::descend_back;

/// What is passed back to the residuals e of the pairs, and to what they are multiplied with.
#[derive(Clone, Debug)]
pub struct ResidualsBack<S> {
    /// ē: [pairs · sequences, `d_v`].
    pub residuals: Array2<S>,
    /// w̄: [rows, heads, k].
    pub weights: Array3<S>,
}

/// From the value step to weights and residuals                                              [GRD-5]
///
/// # Shapes   after: V̄ after the step, [n², `d_v`]
pub fn value_gradient_back<S: Scalar>(
    settings: &Settings,
    factor: S,
    memorized: &Memorized<S>,
    chunk: &Chunk<S>,
    reading: &Reading<S>,
    after: ArrayView2<S>,
) -> ResidualsBack<S> {
    let residuals = weighted_residuals(chunk, reading);
    let mut back = ResidualsBack {
        residuals: Array2::from_elem(residuals.dim(), S::ZERO),
        weights: Array3::from_elem(reading.weights.dim(), S::ZERO),
    };
    for ((row, head, place), &slot) in reading.selected.slots.slice(s![..residuals.nrows(), .., ..]).indexed_iter() {
        // A slot that only pairs of weight 0 read may be untouched: its gradient and its count are 0.
        let touched = memorized.slots.binary_search(&slot).ok();
        let gradient = |d| touched.map_or(S::ZERO, |touched| memorized.value_gradient[[touched, d]]);
        let adjoint = Array1::from_shape_fn(after.ncols(), |d| descend_back(settings, gradient(d), after[[slot, d]]));
        let count = touched.map_or(0, |touched| memorized.read_counts[touched]);
        let scale = factor / S::from_f64(count.max(1) as f64);
        let along = sum_over(adjoint.view(), residuals.row(row), |adjoint, residual| adjoint * residual);
        back.weights[[row, head, place]] = scale * along;
        let scale = scale * reading.weights[[row, head, place]];
        back.residuals.row_mut(row).zip_mut_with(&adjoint, |sum, &adjoint| *sum = *sum + scale * adjoint);
    }
    back
}

/// e = f·(read - target); [pairs · sequences, `d_v`]
fn weighted_residuals<S: Scalar>(chunk: &Chunk<S>, reading: &Reading<S>) -> Array2<S> {
    let mut residuals = residuals(chunk, reading.reads.view());
    for (mut residual, &weight) in residuals.rows_mut().into_iter().zip(&pair_weights(chunk)) {
        residual.mapv_inplace(|x| if weight == S::ZERO { S::ZERO } else { weight * x });
    }
    residuals
}

/// What is passed back to a pair.
#[derive(Clone, Debug)]
pub struct PairsBack<S> {
    /// read̄: [rows, `d_v`], 0 without pair.
    pub reads: Array2<S>,
    /// v̄ of the targets: [pairs · sequences, `d_v`].
    pub targets: Array2<S>,
    /// ḡ: [pairs · sequences].
    pub gates: Array1<S>,
}

/// From residuals to reads, targets and gates; 0 where masked, but not where a gate is 0     [GRD-5]
pub fn pairs_back<S: Scalar>(chunk: &Chunk<S>, reading: &Reading<S>, adjoint: ArrayView2<S>) -> PairsBack<S> {
    let (weights, residuals) = (pair_weights(chunk), residuals(chunk, reading.reads.view()));
    let present = |row: usize| {
        let at = [row / chunk.sequences(), row % chunk.sequences()];
        chunk.mask.as_ref().is_none_or(|mask| mask[at])
    };
    let mut reads = Array2::from_elem(reading.reads.dim(), S::ZERO);
    let mut gates = Array1::from_elem(residuals.nrows(), S::ZERO);
    for (row, &weight) in weights.iter().enumerate().filter(|(row, _)| present(*row)) {
        reads.row_mut(row).assign(&adjoint.row(row).mapv(|x| weight * x));
        gates[row] = sum_over(residuals.row(row), adjoint.row(row), |residual, adjoint| residual * adjoint);
    }
    let targets = reads.slice(s![..residuals.nrows(), ..]).mapv(|x| -x);
    PairsBack { reads, targets, gates }
}

/// What is passed back through MEM-6.
#[derive(Clone, Debug)]
pub struct HalfScoreGradientBack<S> {
    /// ē, as in [`ResidualsBack`].
    pub residuals: Array2<S>,
    /// w̄: [rows, heads, k].
    pub weights: Array3<S>,
    /// What reaches the pair scores beside the weights: [rows, heads, k].
    pub pair_scores: Array3<S>,
    /// V̄ of the slots chosen: [rows, heads, k, `d_v`].
    pub values: Array4<S>,
}

impl<S: Scalar> ResidualsBack<S> {
    /// Adds what MEM-6 passes back.
    pub fn add(&mut self, other: &HalfScoreGradientBack<S>) {
        self.residuals.zip_mut_with(&other.residuals, |sum, &x| *sum = *sum + x);
        self.weights.zip_mut_with(&other.weights, |sum, &x| *sum = *sum + x);
    }
}

/// From MEM-6's gradient of the chosen half scores to residuals, weights, pair scores and V     [GRD-7]
///
/// ```text
/// z = r/τ,  r = Jᵀu with J = ∂w/∂x,  u = φ·e·V        z̄[h,a] = the adjoints of both its halves, added
/// ```
///
/// # Shapes   values: V of the slots chosen, [rows, heads, k, `d_v`]; adjoint: of the half scores, [rows, heads, 2, k]
pub fn half_score_gradient_back<S: Scalar>(
    settings: &Settings,
    rules: &Rules,
    chunk: &Chunk<S>,
    reading: &Reading<S>,
    values: ArrayView4<S>,
    adjoint: &Array4<S>,
) -> HalfScoreGradientBack<S> {
    let residuals = weighted_residuals(chunk, reading);
    let scale: S = sub_key_loss_scale(rules, residuals.len());
    let mut back = HalfScoreGradientBack {
        residuals: Array2::from_elem(residuals.dim(), S::ZERO),
        weights: Array3::from_elem(reading.weights.dim(), S::ZERO),
        pair_scores: Array3::from_elem(reading.weights.dim(), S::ZERO),
        values: Array4::from_elem(values.dim(), S::ZERO),
    };
    let (_, heads, k) = reading.weights.dim();
    for (row, residual) in residuals.rows().into_iter().enumerate() {
        let of_row = |array: &Array3<S>| -> Vec<S> { array.index_axis(Axis(0), row).iter().copied().collect() };
        let (scores, weights) = (of_row(&reading.selected.pair_scores), of_row(&reading.weights));
        let along: Vec<S> = (0..heads * k)
            .map(|flat| scale * sum_over(residual, values.slice(s![row, flat / k, flat % k, ..]), |e, v| e * v))
            .collect();
        let passed: Vec<S> = (0..heads * k)
            .map(|flat| {
                let (head, ranks) = (flat / k, reading.selected.ranks.slice(s![row, flat / k, flat % k, ..]));
                adjoint[[row, head, 0, ranks[0]]] + adjoint[[row, head, 1, ranks[1]]]
            })
            .collect();
        for group in softmax_groups(settings, heads * k) {
            let (scores, weights) = (&scores[group.clone()], &weights[group.clone()]);
            let (along, passed) = (&along[group.clone()], &passed[group.clone()]);
            // J is symmetric, so what takes u to z takes z̄ to ū.
            let to_along = weight_gradient_to_scores(settings, scores, weights, passed);
            let (to_weights, to_scores) = weight_jacobian_back(settings, scores, weights, along, passed);
            for (place, flat) in group.enumerate() {
                let at = [row, flat / k, flat % k];
                back.weights[at] = to_weights[place];
                back.pair_scores[at] = to_scores[place];
                let share = scale * to_along[place];
                let value = values.slice(s![row, at[1], at[2], ..]);
                back.residuals.row_mut(row).zip_mut_with(&value, |sum, &value| *sum = *sum + share * value);
                back.values.slice_mut(s![row, at[1], at[2], ..]).assign(&residual.mapv(|e| share * e));
            }
        }
    }
    back
}

/// From z = r/τ of one softmax group to the weights, and to the scores themselves            [GRD-7]
///
/// ```text
/// softmax   r = w(u - Σ w·u)          w̄ = (z̄(u - Σ w·u) - u·Σ z̄·w)/τ
/// silu      r = u·f'(x), x = s/τ      s̄ = z̄·u·f''(x)/τ²,  f'' = σ(1 - σ)(2 + x(1 - 2σ))
/// relu      r = u where x > 0         nothing
/// ```
fn weight_jacobian_back<S: Scalar>(
    settings: &Settings,
    scores: &[S],
    weights: &[S],
    along: &[S],
    passed: &[S],
) -> (Vec<S>, Vec<S>) {
    let temperature = S::from_f64(settings.temperature);
    let dot = |a: &[S], b: &[S]| a.iter().zip(b).fold(S::ZERO, |sum, (&a, &b)| sum + a * b);
    let zero = vec![S::ZERO; scores.len()];
    match settings.activation {
        Activation::Softmax => {
            let (mean, passed_mean) = (dot(weights, along), dot(weights, passed));
            let pairs = along.iter().zip(passed);
            (pairs.map(|(&u, &z)| (z * (u - mean) - u * passed_mean) / temperature).collect(), zero)
        }
        Activation::Silu => {
            let slope = |((&score, &u), &z)| {
                let x: S = score / temperature;
                let s = sigmoid(x);
                let curvature = s * (S::ONE - s) * (S::from_f64(2.0) + x * (S::ONE - s - s));
                z * u * curvature / (temperature * temperature)
            };
            (zero, scores.iter().zip(along).zip(passed).map(slope).collect())
        }
        Activation::Relu => (zero.clone(), zero),
    }
}
