//! Other memorization gradients of the sub-keys.                                              MEM-6

use fwpkm_reference::chunk::{Chunk, Counted, Reading, Stages};
use fwpkm_reference::memorize::{Memorized, memorize, pair_weights, residuals};
use fwpkm_reference::read::weight_gradient_to_scores;
use fwpkm_reference::rules::SubKeyLoss;
use fwpkm_reference::scalar::sum_over;
use fwpkm_reference::settings::{Activation, WeightsOver};
use fwpkm_reference::{Rules, Scalar, Settings, Tables};
use ndarray::{Array3, Axis};

use super::{Change, Deviation, SLIP, faults};

faults! { MemorizeSubKeys {
    NoTemperature "mem-6-temperature-left-out" "MEM-6"
        "the gradient of the pair scores is not divided by the temperature where MEM-6 divides it" SLIP
        { memorize: |s, r, t, c, g, n| to_halves(memorize(s, r, t, c, g, n), |_| S::from_f64(s.temperature)) }
    FirstHalf "mem-6-first-half-only" "MEM-6"
        "only the sub-keys of half 0 get the memorization gradient where MEM-6 gives it to both" SLIP
        { memorize: |s, r, t, c, g, n| to_halves(memorize(s, r, t, c, g, n), |half| [S::ONE, S::ZERO][half]) }
    Negative "mem-6-sign" "MEM-6"
        "the memorization gradient reaches the sub-keys with the other sign" SLIP
        { memorize: |s, r, t, c, g, n| to_halves(memorize(s, r, t, c, g, n), |_| -S::ONE) }
    NoMean "mem-6-softmax-without-mean" "MEM-6"
        "the softmax's gradient is w·u where MEM-6 has w·(u - Σ w·u)" SLIP
        { memorize: |s, r, t, c, g, n| passed(s, r, t, c, g, n, without_mean) }
    BestPair "mem-6-through-the-best-slot" "MEM-6"
        "only each head's best pair passes the gradient on where MEM-6 sums over all k" SLIP
        { memorize: |s, r, t, c, g, n| passed(s, r, t, c, g, n, best_pair_only) }
} }

/// The gradient of each half's scores, scaled
fn to_halves<S: Scalar>(mut memorized: Memorized<S>, scale: impl Fn(usize) -> S) -> Memorized<S> {
    if let Some(gradient) = &mut memorized.half_score_gradient {
        for ((_, _, half, _), slope) in gradient.indexed_iter_mut() {
            *slope = scale(half) * *slope;
        }
    }
    memorized
}

/// Softmax: w·u; silu and relu as they are
fn without_mean<S: Scalar>(settings: &Settings, scores: &[S], weights: &[S], along: &[S]) -> Vec<S> {
    let temperature = S::from_f64(settings.temperature);
    match settings.activation {
        Activation::Softmax => weights.iter().zip(along).map(|(&w, &u)| w * u / temperature).collect(),
        _ => weight_gradient_to_scores(settings, scores, weights, along),
    }
}

/// Each head's first place passes its part on, the others nothing
fn best_pair_only<S: Scalar>(settings: &Settings, scores: &[S], weights: &[S], along: &[S]) -> Vec<S> {
    let slopes = weight_gradient_to_scores(settings, scores, weights, along);
    slopes.into_iter().enumerate().map(|(flat, x)| if flat % settings.top_k == 0 { x } else { S::ZERO }).collect()
}

/// From settings, pair scores, weights and their gradient to the gradient of the pair scores
type Slopes<S> = fn(&Settings, &[S], &[S], &[S]) -> Vec<S>;

/// MEM-6 with another way from the weights' gradient to that of the pair scores
fn passed<S: Scalar>(
    settings: &Settings,
    rules: &Rules,
    tables: &Tables<S>,
    chunk: &Chunk<S>,
    reading: &Reading<S>,
    counted: &Counted,
    slopes: Slopes<S>,
) -> Memorized<S> {
    let mut memorized = memorize(settings, rules, tables, chunk, reading, counted);
    let Some(gradient) = &mut memorized.half_score_gradient else { return memorized };
    gradient.fill(S::ZERO);
    let (pair_weights, residuals) = (pair_weights(chunk), residuals(chunk, reading.reads.view()));
    let scale = match rules.sub_key_loss {
        SubKeyLoss::Sum => S::ONE,
        SubKeyLoss::Mean => S::ONE / S::from_f64(residuals.len().max(1) as f64),
    };
    let (k, selected) = (settings.top_k, &reading.selected);
    let group = if settings.weights_over == WeightsOver::EachHead { k } else { settings.heads * k };
    for (row, (residual, &pair)) in residuals.rows().into_iter().zip(&pair_weights).enumerate() {
        let of_row = |numbers: &Array3<S>| numbers.index_axis(Axis(0), row).iter().copied().collect::<Vec<S>>();
        let slots = selected.slots.index_axis(Axis(0), row);
        let along = slots.map(|&slot| scale * pair * sum_over(residual, tables.slot_values.row(slot), |r, v| r * v));
        let along: Vec<S> = along.into_iter().collect();
        let (scores, weights) = (of_row(&selected.pair_scores), of_row(&reading.weights));
        let groups = scores.chunks(group).zip(weights.chunks(group)).zip(along.chunks(group));
        let slopes = groups.flat_map(|((scores, weights), along)| slopes(settings, scores, weights, along));
        for (flat, slope) in slopes.enumerate() {
            let (head, place) = (flat / k, flat % k);
            for half in 0..2 {
                let sum = &mut gradient[[row, head, half, selected.ranks[[row, head, place, half]]]];
                *sum = *sum + slope;
            }
        }
    }
    memorized
}
