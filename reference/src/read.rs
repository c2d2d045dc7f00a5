//! Stage `read`: pair scores to weights, and the weighted sum of slots.                RD-1 … RD-3
//!
//! ```text
//! softmax   weights = e^(s/τ) / Σ e^(s/τ), over heads·k or over each head
//! silu      weights = (s/τ)·sigmoid(s/τ)          relu   weights = max(s/τ, 0)
//! reads[t,:] = Σ_{h,j} weights[t,h,j] · slot_values[slots[t,h,j], :]
//! ```

use std::ops::Range;

use ndarray::{Array2, Array3, ArrayView2, ArrayView3, ArrayViewMut4, Axis, Zip};

use crate::error::{Error, Result};
use crate::projection::sigmoid;
use crate::scalar::Scalar;
use crate::select::Selected;
use crate::settings::{Activation, Settings, WeightsOver};

/// Weights of the chosen slots.
///
/// # Shapes   `pair_scores`, result: [rows, heads, k]
/// # Source   arXiv 2601.00671 eq. 11; joint over heads, silu, relu and τ from the release
///
/// ```
/// use fwpkm_reference::{read::weigh, settings::Settings};
/// use ndarray::arr3;
/// let weights = weigh(&Settings::paper(), arr3(&[[[0.0, -3.0f64.ln()]]]).view());
/// assert!((weights[[0, 0, 0]] - 0.75).abs() < 1e-15 && (weights[[0, 0, 1]] - 0.25).abs() < 1e-15);
/// ```
pub fn weigh<S: Scalar>(settings: &Settings, pair_scores: ArrayView3<S>) -> Array3<S> {
    let temperature = S::from_f64(settings.temperature);
    let mut weights = pair_scores.mapv(|score| score / temperature);
    Zip::from(weights.outer_iter_mut()).par_for_each(|mut token| match settings.activation {
        Activation::Softmax => match settings.weights_over {
            WeightsOver::AllHeads => softmax(token.iter_mut()),
            WeightsOver::EachHead => token.rows_mut().into_iter().for_each(|mut head| softmax(head.iter_mut())),
        },
        activation => token.mapv_inplace(|score| activate(activation, score)),
    });
    weights
}

/// e^x / Σ e^x in place, the largest subtracted first; sums in ascending order              [RD-1]
pub fn softmax<'a, S: Scalar>(scores: impl Iterator<Item = &'a mut S>) {
    let mut scores: Vec<&mut S> = scores.collect();
    let Some(largest) = scores.iter().map(|x| **x).reduce(|a, b| if b > a { b } else { a }) else { return };
    // A constant: whatever is subtracted cancels.
    let largest = S::from_f64(largest.to_f64());
    let mut total = S::ZERO;
    for score in &mut scores {
        **score = (**score - largest).exp();
        total = total + **score;
    }
    for score in &mut scores {
        **score = **score / total;
    }
}

/// silu or relu of one scaled score                                                         [RD-2]
fn activate<S: Scalar>(activation: Activation, score: S) -> S {
    match activation {
        Activation::Silu => score * sigmoid(score),
        Activation::Relu => score.max(S::ZERO),
        Activation::Softmax => score,
    }
}

/// Gradient of the weights of one token, turned into that of its pair scores                [MEM-6]
///
/// `scores`, `weights` and `gradient` are one softmax group (or any group for silu and relu), flat.
pub fn weight_gradient_to_scores<S: Scalar>(
    settings: &Settings,
    scores: &[S],
    weights: &[S],
    gradient: &[S],
) -> Vec<S> {
    let temperature = S::from_f64(settings.temperature);
    let mean = weights.iter().zip(gradient).fold(S::ZERO, |sum, (&w, &g)| sum + w * g);
    let each = scores.iter().zip(weights).zip(gradient);
    each.map(|((&score, &weight), &gradient)| {
        let x = score / temperature;
        let slope = match settings.activation {
            Activation::Softmax => weight * (gradient - mean),
            Activation::Silu => gradient * (sigmoid(x) * (S::ONE + x * (S::ONE - sigmoid(x)))),
            Activation::Relu if x > S::ZERO => gradient,
            Activation::Relu => S::ZERO,
        };
        slope / temperature
    })
    .collect()
}

/// The entries of a token, by head, then place, that one softmax runs over                  [RD-1]
pub fn softmax_groups(settings: &Settings, entries: usize) -> impl Iterator<Item = Range<usize>> {
    let of_each = match (settings.activation, settings.weights_over) {
        (Activation::Softmax, WeightsOver::EachHead) => settings.top_k,
        _ => settings.heads * settings.top_k,
    };
    (0..entries).step_by(of_each).map(move |from| from..from + of_each)
}

/// Gradient of the weights of one row, added to that of its chosen half scores               [MEM-6]
///
/// Through the pair scores, and from each to both of its halves.
///
/// # Shapes   weights: [rows, heads, k]; gradient: [heads, k]; `half_scores`: [rows, heads, 2, k]
pub fn weights_to_half_scores<S: Scalar>(
    settings: &Settings,
    selected: &Selected<S>,
    weights: &Array3<S>,
    row: usize,
    gradient: ArrayView2<S>,
    mut half_scores: ArrayViewMut4<S>,
) {
    let scores: Vec<S> = selected.pair_scores.index_axis(Axis(0), row).iter().copied().collect();
    let weights: Vec<S> = weights.index_axis(Axis(0), row).iter().copied().collect();
    let gradient: Vec<S> = gradient.iter().copied().collect();
    for group in softmax_groups(settings, scores.len()) {
        let of = |numbers: &[S]| numbers[group.clone()].to_vec();
        let slopes = weight_gradient_to_scores(settings, &of(&scores), &of(&weights), &of(&gradient));
        for (flat, slope) in group.zip(slopes) {
            let (head, place) = (flat / settings.top_k, flat % settings.top_k);
            for half in 0..2 {
                let sum = &mut half_scores[[row, head, half, selected.ranks[[row, head, place, half]]]];
                *sum = *sum + slope;
            }
        }
    }
}

/// Sum of the chosen slots, one row per token.                                              [RD-3]
///
/// # Shapes   slots, weights: [rows, heads, k]; `slot_values`: [n², `d_v`]; result: [rows, `d_v`]
/// # Errors   `Error::SlotOutOfRange { token, head, slot, slots }`
/// # Source   arXiv 2601.00671 eq. 11; the release sums over heads as well
///
/// ```
/// use ndarray::{arr2, arr3};
/// let values = arr2(&[[10.0, 0.0], [0.0, 2.0]]);
/// let reads = fwpkm_reference::read::read(values.view(), arr3(&[[[1, 0]]]).view(), arr3(&[[[0.5, 0.1]]]).view());
/// assert_eq!(reads.unwrap(), arr2(&[[1.0, 1.0]]));
/// ```
pub fn read<S: Scalar>(
    slot_values: ArrayView2<S>,
    slots: ArrayView3<usize>,
    weights: ArrayView3<S>,
) -> Result<Array2<S>> {
    let count = slot_values.nrows();
    if let Some(((token, head, _), &slot)) = slots.indexed_iter().find(|&(_, &slot)| slot >= count) {
        return Err(Error::SlotOutOfRange { token, head, slot, slots: count });
    }
    let mut reads = Array2::from_elem((slots.dim().0, slot_values.ncols()), S::ZERO);
    Zip::from(reads.outer_iter_mut()).and(slots.outer_iter()).and(weights.outer_iter()).par_for_each(
        |mut read, slots, weights| {
            for (&slot, &weight) in slots.iter().zip(weights) {
                read.zip_mut_with(&slot_values.row(slot), |read, &value| *read = *read + weight * value);
            }
        },
    );
    Ok(reads)
}
