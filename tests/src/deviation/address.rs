//! Other gradients of the sub-keys.                                                   ADR-4, ADR-5

use fwpkm_reference::address::{
    Addressed, Sparse, address, entropy, entropy_slope, half_score_gradient, marginal, sub_key_gradient, usage,
};
use fwpkm_reference::chunk::{Chunk, Reading, Stages};
use fwpkm_reference::score::squared_distance;
use fwpkm_reference::settings::Score;
use fwpkm_reference::{Rules, Scalar, Settings, Tables};
use ndarray::{Array1, Array2, Array4, ArrayView1, Axis, Zip, s};

use super::{Change, Deviation, PORTS, SLIP, faults};

faults! { Address {
    NotDividedByRows "adr-4-not-divided-by-rows" "ADR-4"
        "the gradient is not divided by the rows of the marginal where ADR-4 divides it" SLIP
        { address: |s, r, t, c, g, m| with_slopes(s, r, t, c, g, m, times_rows) }
    DividedByTokens "adr-4-divided-by-tokens" "ADR-4"
        "the gradient is divided by tokens where ADR-4 divides by tokens and heads" SLIP
        { address: |s, r, t, c, g, m| with_slopes(s, r, t, c, g, m, times_heads) }
    NoMean "adr-4-softmax-without-mean" "ADR-4"
        "the softmax's gradient is p·c where ADR-4 has p·(c - Σ p·c)" SLIP
        { address: |s, r, t, c, g, m| with_slopes(s, r, t, c, g, m, without_mean) }
    ConstantMarginal "adr-4-not-through-the-softmax" "ADR-4"
        "c stands for the gradient of the half scores where ADR-4 passes it through the softmax" SLIP
        { address: |s, r, t, c, g, m| with_slopes(s, r, t, c, g, m, past_softmax) }
    ConstantAlone "adr-4-constant-not-differentiated" "ADR-4"
        "c is ln(p̄ + e) where ADR-4 adds p̄/(p̄ + e)" SLIP
        { address: |s, r, t, c, g, m| with_slopes(s, r, t, c, g, m, undifferentiated) }
    NoFactorTwo "adr-5-no-factor-two" "ADR-5"
        "D is (q - K)/(ε + |q - K|²) where ADR-5 has twice that" SLIP
        { address: |s, r, t, c, g, m| with_derivative(s, r, t, c, g, m, half_slope) }
    NotDivided "adr-5-not-divided-by-distance" "ADR-5"
        "D is 2(q - K) where ADR-5 divides it by ε + |q - K|²" SLIP
        { address: |s, r, t, c, g, m| with_derivative(s, r, t, c, g, m, undivided_slope) }
    NoEpsilon "adr-5-no-epsilon" "ADR-5"
        "D is divided by |q - K|² where ADR-5 divides by ε + |q - K|²" SLIP
        { address: |s, r, t, c, g, m| with_derivative(s, r, t, c, g, m, slope_without_epsilon) }
    Sign "adr-5-sign-of-the-distance" "ADR-5"
        "D is 2(K - q)/(ε + |q - K|²), the slope of the query, where ADR-5 has q - K" SLIP
        { address: |s, r, t, c, g, m| with_derivative(s, r, t, c, g, m, negative_slope) }
    FirstHalf "adr-5-half-0-only" "ADR-5"
        "only the sub-keys of half 0 are moved where ADR-5 moves both" SLIP
        { address: |s, r, t, c, g, m| half_0(address(s, r, t, c, g, m)) }
    HeadsSummed "adr-5-heads-share-the-gradient" "ADR-5"
        "the sub-keys of every head get the sum of all heads' gradients where ADR-5 keeps heads apart" SLIP
        { address: |s, r, t, c, g, m| summed_over_heads(address(s, r, t, c, g, m)) }
    MeanQuery "adr-5-pulled-to-the-mean-query" "ADR-5"
        "each sub-key is moved to the mean of the queries that chose it where ADR-5 follows the entropy's gradient" PORTS
        { address: mean_query }
} }

/// ADR-3, ADR-5 and MEM-6 after a marginal, its entropy and the gradient of half scores
pub(super) fn finished<S: Scalar>(
    settings: &Settings,
    tables: &Tables<S>,
    chunk: &Chunk<S>,
    reading: &Reading<S>,
    memory: Option<&Array4<S>>,
    marginal: Array2<S>,
    entropy: Array1<S>,
    mut slopes: Sparse<S>,
) -> Addressed<S> {
    let loss = S::from_f64(settings.addressing_weight) * (-entropy[0] - entropy[1]);
    if let Some(gradient) = memory {
        slopes.add_chosen(reading, gradient);
    }
    let queries = chunk.query_halves(settings);
    let sub_key_gradient = sub_key_gradient(settings, tables.sub_keys.view(), queries.view(), &slopes);
    Addressed { marginal, entropy, loss, sub_key_gradient }
}

/// Entropy, loss and addressing gradient times a factor; the memorization gradient stays
pub(super) fn scaled<S: Scalar>(
    settings: &Settings,
    rules: &Rules,
    tables: &Tables<S>,
    chunk: &Chunk<S>,
    reading: &Reading<S>,
    memory: Option<&Array4<S>>,
    factor: f64,
) -> Addressed<S> {
    let factor = S::from_f64(factor);
    let usage = usage(rules, reading);
    let marginal = marginal(&usage, settings.sub_keys);
    let entropy = marginal.map_axis(Axis(1), |p| factor * entropy(p, rules.log_epsilon));
    let slopes = scale(half_score_gradient(settings, rules, usage, marginal.view()), factor);
    finished(settings, tables, chunk, reading, memory, marginal, entropy, slopes)
}

fn scale<S: Scalar>(mut slopes: Sparse<S>, factor: S) -> Sparse<S> {
    slopes.lists.iter_mut().flatten().for_each(|(_, slope)| *slope = factor * *slope);
    slopes
}

/// Another gradient of half scores, from usage and marginal
pub(super) fn with_slopes<S: Scalar>(
    settings: &Settings,
    rules: &Rules,
    tables: &Tables<S>,
    chunk: &Chunk<S>,
    reading: &Reading<S>,
    memory: Option<&Array4<S>>,
    slopes: fn(&Settings, &Rules, &Sparse<S>, &Array2<S>) -> Sparse<S>,
) -> Addressed<S> {
    let usage = usage(rules, reading);
    let marginal = marginal(&usage, settings.sub_keys);
    let entropy = marginal.map_axis(Axis(1), |p| entropy(p, rules.log_epsilon));
    let slopes = slopes(settings, rules, &usage, &marginal);
    finished(settings, tables, chunk, reading, memory, marginal, entropy, slopes)
}

/// α/R · what `slope` makes of p and c
fn each_slope<S: Scalar>(
    settings: &Settings,
    rules: &Rules,
    usage: &Sparse<S>,
    marginal: &Array2<S>,
    slope: fn(S, S) -> S,
) -> Sparse<S> {
    let scale = S::from_f64(settings.addressing_weight) / S::from_f64(usage.rows().max(1) as f64);
    let mut slopes = usage.clone();
    for (at, list) in slopes.lists.iter_mut().enumerate() {
        for (sub_key, p) in list {
            *p = scale * slope(*p, entropy_slope(marginal[[at % 2, *sub_key]], rules.log_epsilon));
        }
    }
    slopes
}

fn without_mean<S: Scalar>(s: &Settings, rules: &Rules, usage: &Sparse<S>, marginal: &Array2<S>) -> Sparse<S> {
    each_slope(s, rules, usage, marginal, |p, c| p * c)
}

fn past_softmax<S: Scalar>(s: &Settings, rules: &Rules, usage: &Sparse<S>, marginal: &Array2<S>) -> Sparse<S> {
    each_slope(s, rules, usage, marginal, |_, c| c)
}

/// ADR-4 with c = ln(p̄ + e)
fn undifferentiated<S: Scalar>(s: &Settings, rules: &Rules, usage: &Sparse<S>, marginal: &Array2<S>) -> Sparse<S> {
    let e = S::from_f64(rules.log_epsilon);
    let c = marginal.mapv(|p| if p > S::ZERO { (p + e).ln() } else { S::ZERO });
    let scale = S::from_f64(s.addressing_weight) / S::from_f64(usage.rows().max(1) as f64);
    let mut slopes = usage.clone();
    for (at, list) in slopes.lists.iter_mut().enumerate() {
        let mean = list.iter().fold(S::ZERO, |sum, &(sub_key, p)| sum + p * c[[at % 2, sub_key]]);
        for (sub_key, p) in list {
            *p = scale * *p * (c[[at % 2, *sub_key]] - mean);
        }
    }
    slopes
}

fn times_rows<S: Scalar>(s: &Settings, rules: &Rules, usage: &Sparse<S>, marginal: &Array2<S>) -> Sparse<S> {
    scale(half_score_gradient(s, rules, usage.clone(), marginal.view()), S::from_f64(usage.rows() as f64))
}

fn times_heads<S: Scalar>(s: &Settings, rules: &Rules, usage: &Sparse<S>, marginal: &Array2<S>) -> Sparse<S> {
    scale(half_score_gradient(s, rules, usage.clone(), marginal.view()), S::from_f64(s.heads as f64))
}

fn half_slope<S: Scalar>(settings: &Settings, query: ArrayView1<S>, key: ArrayView1<S>) -> Array1<S> {
    by_distance(settings, query, key, |epsilon, square| S::ONE / (epsilon + square))
}

fn undivided_slope<S: Scalar>(settings: &Settings, query: ArrayView1<S>, key: ArrayView1<S>) -> Array1<S> {
    by_distance(settings, query, key, |_, _| S::from_f64(2.0))
}

fn slope_without_epsilon<S: Scalar>(settings: &Settings, query: ArrayView1<S>, key: ArrayView1<S>) -> Array1<S> {
    by_distance(settings, query, key, |_, square| if square > S::ZERO { S::from_f64(2.0) / square } else { S::ZERO })
}

fn negative_slope<S: Scalar>(settings: &Settings, query: ArrayView1<S>, key: ArrayView1<S>) -> Array1<S> {
    by_distance(settings, query, key, |epsilon, square| -S::from_f64(2.0) / (epsilon + square))
}

/// D of ADR-5
pub(super) fn derivative<S: Scalar>(settings: &Settings, query: ArrayView1<S>, key: ArrayView1<S>) -> Array1<S> {
    by_distance(settings, query, key, |epsilon, square| S::from_f64(2.0) / (epsilon + square))
}

/// scale(ε, |q - K|²) · (q - K) of inverse distances, q of dot products
pub(super) fn by_distance<S: Scalar>(
    settings: &Settings,
    query: ArrayView1<S>,
    key: ArrayView1<S>,
    scale: impl Fn(S, S) -> S,
) -> Array1<S> {
    match settings.score {
        Score::InverseDistance { epsilon } => {
            let scale = scale(S::from_f64(epsilon), squared_distance(query, key));
            Zip::from(query).and(key).map_collect(|&q, &k| scale * (q - k))
        }
        Score::DotProduct => query.to_owned(),
    }
}

/// ADR-5 with another D
pub(super) fn with_derivative<S: Scalar>(
    settings: &Settings,
    rules: &Rules,
    tables: &Tables<S>,
    chunk: &Chunk<S>,
    reading: &Reading<S>,
    memory: Option<&Array4<S>>,
    derivative: fn(&Settings, ArrayView1<S>, ArrayView1<S>) -> Array1<S>,
) -> Addressed<S> {
    let mut addressed = address(settings, rules, tables, chunk, reading, None);
    let mut slopes = half_score_gradient(settings, rules, usage(rules, reading), addressed.marginal.view());
    if let Some(gradient) = memory {
        slopes.add_chosen(reading, gradient);
    }
    addressed.sub_key_gradient.fill(S::ZERO);
    let queries = chunk.query_halves(settings);
    for ((row, head, half), query) in
        ndarray::indices((queries.dim().0, settings.heads, 2)).into_iter().zip(queries.rows())
    {
        for &(sub_key, slope) in slopes.of(row, head, half) {
            let along = derivative(settings, query, tables.sub_keys.slice(s![head, half, sub_key, ..]));
            let mut sum = addressed.sub_key_gradient.slice_mut(s![head, half, sub_key, ..]);
            sum.zip_mut_with(&along, |sum, &d| *sum = *sum + slope * d);
        }
    }
    addressed
}

fn half_0<S: Scalar>(mut addressed: Addressed<S>) -> Addressed<S> {
    addressed.sub_key_gradient.slice_mut(s![.., 1, .., ..]).fill(S::ZERO);
    addressed
}

fn summed_over_heads<S: Scalar>(mut addressed: Addressed<S>) -> Addressed<S> {
    let gradient = &addressed.sub_key_gradient;
    let sum = gradient.fold_axis(Axis(0), S::ZERO, |&sum, &x| sum + x);
    addressed.sub_key_gradient = Array4::from_shape_fn(gradient.dim(), |(_, half, sub_key, d)| sum[[half, sub_key, d]]);
    addressed
}

/// K - (mean of the queries that chose it); where none did, nothing
fn mean_query<S: Scalar>(
    settings: &Settings,
    rules: &Rules,
    tables: &Tables<S>,
    chunk: &Chunk<S>,
    reading: &Reading<S>,
    memory: Option<&Array4<S>>,
) -> Addressed<S> {
    let mut addressed = address(settings, rules, tables, chunk, reading, memory);
    let mut counts = Array4::from_elem(addressed.sub_key_gradient.dim(), S::ZERO);
    let mut sums = counts.clone();
    let queries = chunk.query_halves(settings);
    for ((row, head, half, _), &sub_key) in reading.selected.half_indices.indexed_iter() {
        for (d, &q) in queries.slice(s![row, head, half, ..]).iter().enumerate() {
            let at = [head, half, sub_key, d];
            (sums[at], counts[at]) = (sums[at] + q, counts[at] + S::ONE);
        }
    }
    Zip::from(&mut addressed.sub_key_gradient)
        .and(&tables.sub_keys)
        .and(&sums)
        .and(&counts)
        .for_each(|gradient, &key, &sum, &count| *gradient = if count > S::ZERO { key - sum / count } else { S::ZERO });
    addressed
}
