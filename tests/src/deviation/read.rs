//! Other weights and reads.                                                            RD-1 … RD-3

use fwpkm_reference::chunk::Stages;
use fwpkm_reference::projection::sigmoid;
use fwpkm_reference::read::{read, softmax, weigh};
use fwpkm_reference::select::{Selected, select};
use fwpkm_reference::settings::{Activation, WeightsOver};
use fwpkm_reference::{Result, Scalar, Settings};
use ndarray::{Array2, Array3, Array4, ArrayView2, ArrayView3, ArrayView4, Axis, Zip, s};

use super::{Change, Deviation, SLIP, faults};

faults! { Read {
    RootTemperature "rd-1-divided-by-root-of-key-dim" "RD-1"
        "scores are divided by τ·√d_k where RD-1 divides by τ" SLIP
        { weigh: |s, x| weigh(&Settings { temperature: s.temperature * (s.key_dim as f64).sqrt(), ..s.clone() }, x) }
    Unnormalised "rd-1-not-normalised" "RD-1"
        "weights are e^(score/τ) where RD-1 divides them by their sum" SLIP
        { weigh: |s, x| of_softmax(s, x, exponentials) }
    OfHalves "rd-1-product-of-half-softmaxes" "RD-1"
        "a weight is the product of two softmaxes, one over each half's k, where RD-1 takes one over the slots chosen" SLIP
        { select: |s, scores| with_half_softmaxes(s, scores, false), weigh: |s, x| of_softmax(s, x, exponentials) }
    OfAllSlots "rd-1-softmax-over-all-slots" "RD-1"
        "the softmax runs over all n² slots where RD-1 takes those chosen" SLIP
        { select: |s, scores| with_half_softmaxes(s, scores, true), weigh: |s, x| of_softmax(s, x, exponentials) }
    HeadMean "rd-1-each-head-divided-by-heads" "RD-1"
        "each head has a softmax of its own, divided by H, where RD-1 takes one over all heads" SLIP
        { weigh: |s, x| of_softmax(s, x, mean_of_heads) }
    LinearWeights "rd-1-scores-divided-by-their-sum" "RD-1"
        "a weight is the score over the sum of scores where RD-1 takes the softmax" SLIP
        { weigh: |s, x| of_softmax(s, x, linear) }
    OnlySigmoid "rd-2-sigmoid-for-silu" "RD-2"
        "silu is the sigmoid alone where RD-2 has x·sigmoid(x)" SLIP
        { weigh: |s, x| of_silu(s, x, |x| sigmoid(x)) }
    Gelu "rd-2-gelu-for-silu" "RD-2"
        "x·sigmoid(1.702·x), a gelu, where RD-2 has x·sigmoid(x)" SLIP
        { weigh: |s, x| of_silu(s, x, |x| x * sigmoid(S::from_f64(1.702) * x)) }
    Normalised "rd-2-normalised" "RD-2"
        "weights of silu and relu are divided by their sum where RD-2 leaves them" SLIP
        { weigh: normalised }
    Unweighted "rd-3-not-weighted" "RD-3"
        "the read is the mean of the slots where RD-3 weighs each" SLIP
        { read: |v, slots, w| read(v, slots, even(w).view()) }
    BestSlot "rd-3-best-slot-only" "RD-3"
        "the read is each head's best slot where RD-3 sums over all k" SLIP
        { read: |v, slots, w| read(v, slots, best_only(w).view()) }
    Reversed "rd-3-weights-in-reverse" "RD-3"
        "the a-th weight meets the a-th slot from the end, where RD-3 keeps them together" SLIP
        { read: |v, slots, w| read(v, slots, w.slice(s![.., .., ..;-1]).to_owned().view()) }
    MeanOverHeads "rd-3-mean-over-heads" "RD-3"
        "the heads' reads are averaged where RD-3 sums them" SLIP
        { read: mean_over_heads }
    FirstHead "rd-3-first-head-only" "RD-3"
        "the read is that of head 0 where RD-3 sums over heads" SLIP
        { read: |v, slots, w| read(v, slots.slice(s![.., ..1, ..]), w.slice(s![.., ..1, ..])) }
} }

/// Another normalisation in the place of softmax; silu and relu stay
fn of_softmax<S: Scalar>(
    settings: &Settings,
    pair_scores: ArrayView3<S>,
    normalise: fn(&Settings, ArrayView3<S>) -> Array3<S>,
) -> Array3<S> {
    if settings.activation == Activation::Softmax {
        normalise(settings, pair_scores)
    } else {
        weigh(settings, pair_scores)
    }
}

fn exponentials<S: Scalar>(settings: &Settings, pair_scores: ArrayView3<S>) -> Array3<S> {
    pair_scores.mapv(|x| (x / S::from_f64(settings.temperature)).exp())
}

fn mean_of_heads<S: Scalar>(settings: &Settings, pair_scores: ArrayView3<S>) -> Array3<S> {
    if settings.weights_over == WeightsOver::EachHead {
        return weigh(settings, pair_scores);
    }
    let heads = S::from_f64(settings.heads as f64);
    weigh(&Settings { weights_over: WeightsOver::EachHead, ..settings.clone() }, pair_scores).mapv(|w| w / heads)
}

fn linear<S: Scalar>(_: &Settings, pair_scores: ArrayView3<S>) -> Array3<S> {
    divided_by_sum(pair_scores.to_owned())
}

fn divided_by_sum<S: Scalar>(mut weights: Array3<S>) -> Array3<S> {
    for mut token in weights.outer_iter_mut() {
        let sum = token.iter().fold(S::ZERO, |sum, &w| sum + w);
        if sum.to_f64() != 0.0 {
            token.mapv_inplace(|w| w / sum);
        }
    }
    weights
}

fn of_silu<S: Scalar>(settings: &Settings, pair_scores: ArrayView3<S>, silu: fn(S) -> S) -> Array3<S> {
    match settings.activation {
        Activation::Silu => pair_scores.mapv(|x| silu(x / S::from_f64(settings.temperature))),
        _ => weigh(settings, pair_scores),
    }
}

fn normalised<S: Scalar>(settings: &Settings, pair_scores: ArrayView3<S>) -> Array3<S> {
    let weights = weigh(settings, pair_scores);
    if settings.activation == Activation::Softmax { weights } else { divided_by_sum(weights) }
}

/// Scores of pairs whose exponentials are products of one softmax per half, over the k best or over all sub-keys
///
/// The softmax is taken at the temperature, and the scores so that weights divide by it again.
fn with_half_softmaxes<S: Scalar>(settings: &Settings, scores: ArrayView4<S>, all: bool) -> Selected<S> {
    let mut selected = select(settings, scores);
    if settings.activation != Activation::Softmax {
        return selected;
    }
    let temperature = S::from_f64(settings.temperature);
    let over: Array4<S> = if all { scores.to_owned() } else { selected.half_scores.clone() };
    let total = over.map_axis(Axis(3), |half| {
        let mut parts = half.mapv(|x| x / temperature);
        let largest = parts.iter().copied().fold(parts[0], S::max);
        softmax(parts.iter_mut());
        // The largest part is 1 over the sum; so this is the logarithm of the sum.
        largest - parts.iter().copied().fold(S::ZERO, S::max).ln()
    });
    for ((row, head, _), score) in selected.pair_scores.indexed_iter_mut() {
        *score = *score - temperature * (total[[row, head, 0]] + total[[row, head, 1]]);
    }
    selected
}

fn even<S: Scalar>(weights: ArrayView3<S>) -> Array3<S> {
    let (_, heads, k) = weights.dim();
    weights.mapv(|_| S::ONE / S::from_f64((heads * k) as f64))
}

fn best_only<S: Scalar>(weights: ArrayView3<S>) -> Array3<S> {
    let mut best = weights.mapv(|_| S::ZERO);
    best.slice_mut(s![.., .., 0]).fill(S::ONE);
    best
}

fn mean_over_heads<S: Scalar>(
    slot_values: ArrayView2<S>,
    slots: ArrayView3<usize>,
    weights: ArrayView3<S>,
) -> Result<Array2<S>> {
    let heads = S::from_f64(slots.dim().1 as f64);
    let mut reads = read(slot_values, slots, weights)?;
    Zip::from(&mut reads).for_each(|x| *x = *x / heads);
    Ok(reads)
}
