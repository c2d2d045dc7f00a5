//! The two losses of a step as one number each, written from their equations with the choices of a reading held constant,
//! and their derivatives by dual numbers and by central differences: what every gradient is held against.

use fwpkm_reference::scalar::Dual;
use fwpkm_reference::settings::{Activation, Score, WeightsOver};
use fwpkm_reference::{Scalar, Settings};
use ndarray::{Array, Array2, Array3, Array4, Dimension};

use super::{Text, cast};

/// Score of one half of a query, straight from its equation.
fn half_score<S: Scalar>(settings: &Settings, query: &[f64], sub_key: &[S]) -> S {
    let start = match settings.score {
        Score::InverseDistance { epsilon } => S::from_f64(epsilon),
        Score::DotProduct => S::ZERO,
    };
    let sum = query.iter().zip(sub_key).fold(start, |sum, (&q, &k)| {
        let q = S::from_f64(q);
        sum + if settings.score == Score::DotProduct { q * k } else { (q - k) * (q - k) }
    });
    if settings.score == Score::DotProduct { sum } else { -sum.ln() }
}

/// The numbers of one half of a query, and a sub-key of that half; `place`: sequence, token, head, half, sub-key.
fn halves<S: Scalar>(
    settings: &Settings,
    text: &Text<f64>,
    sub_keys: &Array4<S>,
    place: [usize; 5],
) -> (Vec<f64>, Vec<S>) {
    let ([sequence, token, head, half, sub_key], count) = (place, settings.key_dim / 2);
    let first = head * settings.key_dim + half * count;
    let query = (first..first + count).map(|d| text.queries[[sequence, token, d]]).collect();
    (query, (0..count).map(|d| sub_keys[[head, half, sub_key, d]]).collect())
}

/// ½ Σ over pairs of gate · |read - v_(t+L)|², for a text that is one chunk under border drop; `chosen`: the slots of each
/// (token, sequence), head and place.
pub(crate) fn memorization<S: Scalar>(
    settings: &Settings,
    text: &Text<f64>,
    chosen: &Array3<usize>,
    sub_keys: &Array4<S>,
    slot_values: &Array2<S>,
) -> S {
    let (sequences, tokens) = text.shape();
    let (n, half) = (settings.sub_keys, S::from_f64(0.5));
    let mut objective = S::ZERO;
    for (b, t) in (0..sequences).flat_map(|b| (0..tokens.saturating_sub(settings.lookahead)).map(move |t| (b, t))) {
        if text.mask.as_ref().is_some_and(|mask| !mask[[b, t]]) {
            continue;
        }
        let gate = S::from_f64(text.gates.as_ref().map_or(1.0, |gates| gates[[b, t]]));
        let mut entries = Vec::new();
        for ((h, _), &slot) in chosen.index_axis(ndarray::Axis(0), t * sequences + b).indexed_iter() {
            let (q0, k0) = halves(settings, text, sub_keys, [b, t, h, 0, slot / n]);
            let (q1, k1) = halves(settings, text, sub_keys, [b, t, h, 1, slot % n]);
            let sum = half_score(settings, &q0, &k0) + half_score(settings, &q1, &k1);
            entries.push((h, slot, unnormalised(settings.activation, sum / S::from_f64(settings.temperature))));
        }
        for d in 0..settings.value_dim {
            let mut read = S::ZERO;
            for &(h, slot, weight) in &entries {
                let group = entries.iter().filter(|e| settings.weights_over == WeightsOver::AllHeads || e.0 == h);
                let total = group.fold(S::ZERO, |sum, e| sum + e.2);
                let weight = if settings.activation == Activation::Softmax { weight / total } else { weight };
                read = read + weight * slot_values[[slot, d]];
            }
            let error = read - S::from_f64(text.values[[b, t + settings.lookahead, d]]);
            objective = objective + half * gate * error * error;
        }
    }
    objective
}

fn unnormalised<S: Scalar>(activation: Activation, x: S) -> S {
    match activation {
        Activation::Softmax => x.exp(),
        Activation::Silu => x / (S::ONE + (-x).exp()),
        Activation::Relu if x > S::ZERO => x,
        Activation::Relu => S::ZERO,
    }
}

/// α Σ over halves of Σ p̄ ln(p̄ + e), for a text that is one chunk; `kept`: whether each (token, sequence), head and half keeps a
/// sub-key.
pub(crate) fn addressing<S: Scalar>(
    settings: &Settings,
    log_epsilon: f64,
    text: &Text<f64>,
    kept: &Array4<bool>,
    sub_keys: &Array4<S>,
) -> S {
    let (sequences, tokens) = text.shape();
    let rows = (sequences * tokens * settings.heads) as f64;
    let mut marginal = Array2::from_elem((2, settings.sub_keys), S::ZERO);
    for (row, h, m) in ndarray::indices((sequences * tokens, settings.heads, 2)) {
        let kept = (0..settings.sub_keys).filter(|&i| kept[[row, h, m, i]]);
        let powers: Vec<(usize, S)> = kept
            .map(|i| {
                let (q, k) = halves(settings, text, sub_keys, [row % sequences, row / sequences, h, m, i]);
                (i, half_score(settings, &q, &k).exp())
            })
            .collect();
        let total = powers.iter().fold(S::ZERO, |sum, &(_, power)| sum + power) * S::from_f64(rows);
        for (i, power) in powers {
            marginal[[m, i]] = marginal[[m, i]] + power / total;
        }
    }
    let used = marginal.iter().filter(|&&p| p > S::ZERO);
    let sum = used.fold(S::ZERO, |sum, &p| sum + p * (p + S::from_f64(log_epsilon)).ln());
    S::from_f64(settings.addressing_weight) * sum
}

/// Exact derivatives of `f` with respect to every number, one dual evaluation each.
pub(crate) fn by_duals<D: Dimension>(at: &Array<f64, D>, f: impl Fn(&Array<Dual, D>) -> Dual) -> Array<f64, D> {
    let mut moved: Array<Dual, D> = cast(at);
    each(at, |index| {
        moved.as_slice_mut().unwrap()[index].tangent = 1.0;
        let slope = f(&moved).tangent;
        moved.as_slice_mut().unwrap()[index].tangent = 0.0;
        slope
    })
}

/// (f(x + h) - f(x - h)) / 2h for every number.
pub(crate) fn by_differences<D: Dimension>(
    at: &Array<f64, D>,
    h: f64,
    f: impl Fn(&Array<f64, D>) -> f64,
) -> Array<f64, D> {
    let mut moved = at.clone();
    each(at, |index| {
        let mut value_at = |x: f64| {
            moved.as_slice_mut().unwrap()[index] = x;
            f(&moved)
        };
        let x = at.as_slice().unwrap()[index];
        let slope = (value_at(x + h) - value_at(x - h)) / (2.0 * h);
        value_at(x);
        slope
    })
}

fn each<D: Dimension>(at: &Array<f64, D>, mut slope: impl FnMut(usize) -> f64) -> Array<f64, D> {
    let slopes: Vec<f64> = (0..at.len()).map(&mut slope).collect();
    Array::from_shape_vec(at.raw_dim(), slopes).unwrap()
}
