//! The two losses of a step as one number each, straight from their equations, with the choices of a reading held constant;
//! and their derivatives by dual numbers: what every gradient is held against.

use fwpkm_reference::rules::Kept;
use fwpkm_reference::scalar::Dual;
use fwpkm_reference::settings::{Activation, Score, WeightsOver};
use fwpkm_reference::{Scalar, Settings};
use ndarray::{Array, Array2, Array3, Array4, Axis, Dimension, s};

use super::scene::{Text, cast};
use super::tracked::Tracked;

/// ½ Σ over pairs of gate · |read - v_(t+L)|², for a text that is one chunk under border drop.             MEM-2
///
/// # Shapes   chosen: the slots, [T·B, H, k], rows by token, then sequence
pub fn memorization<S: Scalar>(
    settings: &Settings,
    text: &Text<f64>,
    chosen: &Array3<usize>,
    sub_keys: &Array4<S>,
    slot_values: &Array2<S>,
) -> S {
    let (sequences, tokens) = text.shape();
    let (n, half) = (settings.sub_keys, S::from_f64(0.5));
    let scores = Scores { settings, text, sub_keys };
    let mut objective = S::ZERO;
    for (t, b) in (0..tokens.saturating_sub(settings.lookahead)).flat_map(|t| (0..sequences).map(move |b| (t, b))) {
        if text.mask.as_ref().is_some_and(|mask| !mask[[b, t]]) {
            continue;
        }
        let gate = S::from_f64(text.gates.as_ref().map_or(1.0, |gates| gates[[b, t]]));
        let slots = chosen.index_axis(Axis(0), t * sequences + b);
        let sums = slots.indexed_iter().map(|((h, _), &slot)| {
            let [first, second] = [(0, slot / n), (1, slot % n)].map(|(half, i)| scores.at([b, t, h, half, i]));
            first + second
        });
        let weights = weights(settings, &sums.collect::<Vec<S>>());
        for d in 0..settings.value_dim {
            let terms = slots.iter().zip(&weights);
            let read = terms.fold(S::ZERO, |sum, (&slot, &weight)| sum + weight * slot_values[[slot, d]]);
            let error = read - S::from_f64(text.values[[b, t + settings.lookahead, d]]);
            objective = objective + half * gate * error * error;
        }
    }
    objective
}

/// α Σ over halves of Σ p̄ ln(p̄ + e), for a text that is one chunk.                                        ADR-3
///
/// # Shapes   kept: whether a row keeps a sub-key, [T·B, H, 2, n]
pub fn addressing<S: Scalar>(
    settings: &Settings,
    log_epsilon: f64,
    text: &Text<f64>,
    kept: &Array4<bool>,
    sub_keys: &Array4<S>,
) -> S {
    let sequences = text.shape().0;
    let scores = Scores { settings, text, sub_keys };
    let rows = S::from_f64((kept.dim().0 * settings.heads) as f64);
    let mut marginal = Array2::from_elem((2, settings.sub_keys), S::ZERO);
    for (row, h, m) in ndarray::indices((kept.dim().0, settings.heads, 2)) {
        let kept: Vec<usize> = (0..settings.sub_keys).filter(|&i| kept[[row, h, m, i]]).collect();
        let at = |&i: &usize| scores.at([row % sequences, row / sequences, h, m, i]);
        let probabilities = softmax(&kept.iter().map(at).collect::<Vec<S>>());
        for (&i, probability) in kept.iter().zip(probabilities) {
            marginal[[m, i]] = marginal[[m, i]] + probability / rows;
        }
    }
    let used = marginal.iter().filter(|&&p| p > S::ZERO);
    let sum = used.fold(S::ZERO, |sum, &p| sum + p * (p + S::from_f64(log_epsilon)).ln());
    S::from_f64(settings.addressing_weight) * sum
}

/// Whether each row keeps a sub-key, by counting those that precede it.                                     ADR-1
pub fn kept<S: Scalar>(rule: Kept, top_k: usize, scores: &Array4<S>) -> Array4<bool> {
    Array4::from_shape_fn(scores.dim(), |(row, h, m, i)| {
        let (own, others) = (scores[[row, h, m, i]], scores.slice(s![row, h, m, ..]));
        let better = others.iter().filter(|&&other| other > own).count();
        let ties_before = others.iter().take(i).filter(|&&other| other == own).count();
        match rule {
            Kept::TopK => better + ties_before < top_k,
            Kept::Ties => better < top_k,
        }
    })
}

/// Half scores of a text's queries.
struct Scores<'a, S> {
    settings: &'a Settings,
    text: &'a Text<f64>,
    sub_keys: &'a Array4<S>,
}

impl<S: Scalar> Scores<'_, S> {
    /// Of sequence, token, head, half and sub-key.                                             SCR-1, SCR-2
    fn at(&self, [sequence, token, head, half, sub_key]: [usize; 5]) -> S {
        let count = self.settings.half_dim();
        let first = (head * 2 + half) * count;
        let query = self.text.queries.slice(s![sequence, token, first..first + count]);
        let sub_key = self.sub_keys.slice(s![head, half, sub_key, ..]);
        let pairs = query.into_iter().map(|&q| S::from_f64(q)).zip(sub_key.into_iter().copied());
        match self.settings.score {
            Score::InverseDistance { epsilon } => {
                -pairs.fold(S::from_f64(epsilon), |sum, (q, k)| sum + (q - k) * (q - k)).ln()
            }
            Score::DotProduct => pairs.fold(S::ZERO, |sum, (q, k)| sum + q * k),
        }
    }
}

/// Weights of one token's slots, from the sums of their half scores, by head, then place.                RD-1, RD-2
fn weights<S: Scalar>(settings: &Settings, sums: &[S]) -> Vec<S> {
    let x: Vec<S> = sums.iter().map(|&sum| sum / S::from_f64(settings.temperature)).collect();
    match (settings.activation, settings.weights_over) {
        (Activation::Softmax, WeightsOver::AllHeads) => softmax(&x),
        (Activation::Softmax, WeightsOver::EachHead) => x.chunks(settings.top_k).flat_map(softmax).collect(),
        (Activation::Silu, _) => x.iter().map(|&x| x / (S::ONE + (-x).exp())).collect(),
        (Activation::Relu, _) => x.iter().map(|&x| if x > S::ZERO { x } else { S::ZERO }).collect(),
    }
}

/// e^(x - c) / Σ e^(x - c). The constant c changes nothing but the size of the numbers on the way.
fn softmax<S: Scalar>(x: &[S]) -> Vec<S> {
    let c = S::from_f64(x.iter().map(|x| x.to_f64()).fold(f64::NEG_INFINITY, f64::max));
    let powers: Vec<S> = x.iter().map(|&x| (x - c).exp()).collect();
    let total = powers.iter().fold(S::ZERO, |sum, &power| sum + power);
    powers.iter().map(|&power| power / total).collect()
}

/// Derivatives of `f` with respect to some of the numbers, by their place in order; one dual evaluation each, and 0 for the
/// others. The duals are tracked, so that each derivative comes with a bound of its rounding errors.
pub fn by_duals<D: Dimension>(
    at: &Array<f64, D>,
    wanted: impl Fn(usize) -> bool,
    f: impl Fn(&Array<Dual<Tracked<f64>>, D>) -> Dual<Tracked<f64>>,
) -> Array<Tracked<f64>, D> {
    let mut moved: Array<Dual<Tracked<f64>>, D> = cast(at);
    let mut slopes = Array::from_elem(at.raw_dim(), Tracked::ZERO);
    for (place, slope) in slopes.iter_mut().enumerate().filter(|(place, _)| wanted(*place)) {
        let set = |moved: &mut Array<Dual<Tracked<f64>>, D>, tangent| {
            moved.iter_mut().skip(place).take(1).for_each(|number| number.tangent = tangent);
        };
        set(&mut moved, Tracked::ONE);
        *slope = f(&moved).tangent;
        set(&mut moved, Tracked::ZERO);
    }
    slopes
}
