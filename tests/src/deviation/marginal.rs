//! Other usages of the sub-keys, and other entropies.                                 ADR-1 … ADR-3

use fwpkm_reference::address::{Addressed, Sparse, address, entropy, half_score_gradient, marginal, usage};
use fwpkm_reference::chunk::{Chunk, Reading, Stages};
use fwpkm_reference::read::softmax;
use fwpkm_reference::{Rules, Scalar, Settings, Tables};
use ndarray::{Array1, Array2, Array4, Axis};

use super::address::{finished, scaled};
use super::{Change, Deviation, PORTS, SLIP, faults};

faults! { Marginal {
    AllSubKeys "adr-1-softmax-over-all-sub-keys" "ADR-1"
        "the softmax runs over all n sub-keys where ADR-1 keeps the k best" SLIP
        { address: |s, r, t, c, g, m| of_usage(s, r, t, c, g, m, from_scores(g, |_, _| true, S::ONE)) }
    Scattered "adr-1-softmax-of-a-scattered-top-k" "ADR-1"
        "the k best scores are scattered into zeros and the softmax runs over all n, where ADR-1 gives the others 0" PORTS
        { address: scattered }
    Temperature "adr-1-divided-by-temperature" "ADR-1"
        "scores are divided by the temperature where ADR-1 leaves it out" SLIP
        { address: |s, r, t, c, g, m| of_usage(s, r, t, c, g, m, from_scores(g, in_top_k, S::from_f64(s.temperature))) }
    OfWeights "adr-1-usage-from-weights" "ADR-1"
        "the usage of a sub-key is the weight of its slots where ADR-1 takes a softmax of its half scores" SLIP
        { address: |s, r, t, c, g, m| of_usage(s, r, t, c, g, m, of_weights(g)) }
    PerHead "adr-2-marginal-of-each-head" "ADR-2"
        "each head has a marginal of its own, and their losses are averaged, where ADR-2 has one for all" SLIP
        { address: |s, r, t, c, g, m| grouped(s, r, t, c, g, m, |_, _, head| Some(head)) }
    PerSequence "adr-2-marginal-of-each-sequence" "ADR-2"
        "each sequence has a marginal of its own, and their losses are averaged, where ADR-2 has one for all" SLIP
        { address: |s, r, t, c, g, m| grouped(s, r, t, c, g, m, |c, row, _| Some(row % c.sequences())) }
    PerRow "adr-2-mean-of-entropies" "ADR-2"
        "the entropies of the rows are averaged where ADR-2 takes the entropy of their mean" SLIP
        { address: |s, r, t, c, g, m| grouped(s, r, t, c, g, m, |c, row, head| Some(by_row(c, row, head))) }
    Unmasked "adr-2-masked-tokens-left-out" "ADR-2"
        "masked tokens are left out of the marginal where ADR-2 counts them" SLIP
        { address: |s, r, t, c, g, m| grouped(s, r, t, c, g, m, unmasked) }
    WithTarget "adr-2-tokens-without-target-left-out" "ADR-2"
        "tokens without a target are left out of the marginal where ADR-2 counts them" SLIP
        { address: |s, r, t, c, g, m| grouped(s, r, t, c, g, m, with_target) }
    Summed "adr-2-sum-of-rows" "ADR-2"
        "the marginal is the sum of the rows where ADR-2 takes their mean" SLIP
        { address: |s, r, t, c, g, m| with_rows(s, r, t, c, g, m, |_, _| 1.0) }
    HeadsNotCounted "adr-2-divided-by-tokens" "ADR-2"
        "the sum over heads is divided by the tokens where ADR-2 divides by tokens and heads" SLIP
        { address: |s, r, t, c, g, m| with_rows(s, r, t, c, g, m, |s, rows| rows / s.heads as f64) }
    LogarithmTwo "adr-3-logarithm-base-2" "ADR-3"
        "the entropy is in bits where ADR-3 has nats" SLIP
        { address: |s, r, t, c, g, m| scaled(s, r, t, c, g, m, 1.0 / std::f64::consts::LN_2) }
    Sign "adr-3-entropy-lowered" "ADR-3"
        "the loss is the sum of the entropies, which the step lowers, where ADR-3 has their negative" SLIP
        { address: |s, r, t, c, g, m| negated(scaled(s, r, t, c, g, m, -1.0)) }
    MeanOfHalves "adr-3-mean-of-halves" "ADR-3"
        "the loss is the mean of the halves' entropies where ADR-3 has their sum" SLIP
        { address: |s, r, t, c, g, m| of_halves(s, r, t, c, g, m, [0.5, 0.5]) }
    OneHalf "adr-3-half-0-only" "ADR-3"
        "only half 0 has an addressing loss where ADR-3 sums over both" SLIP
        { address: |s, r, t, c, g, m| of_halves(s, r, t, c, g, m, [1.0, 0.0]) }
    SmallEpsilon "adr-3-constant-of-1e-6" "ADR-3"
        "1e-6 is added inside the logarithm where ADR-3 adds log_epsilon" SLIP
        { address: |s, r, t, c, g, m| address(s, &Rules { log_epsilon: 1e-6, ..r.clone() }, t, c, g, m) }
    LargeEpsilon "adr-3-constant-of-1e-3" "ADR-3"
        "1e-3 is added inside the logarithm where ADR-3 adds log_epsilon" SLIP
        { address: |s, r, t, c, g, m| address(s, &Rules { log_epsilon: 1e-3, ..r.clone() }, t, c, g, m) }
    Divergence "adr-3-divergence-reported" "ADR-3"
        "the loss is the divergence from uniform, ln n - H, where ADR-3 has -H" SLIP
        { address: |s, r, t, c, g, m| divergence(s, address(s, r, t, c, g, m)) }
} }

/// Addressing of another usage
fn of_usage<S: Scalar>(
    settings: &Settings,
    rules: &Rules,
    tables: &Tables<S>,
    chunk: &Chunk<S>,
    reading: &Reading<S>,
    memory: Option<&Array4<S>>,
    usage: Sparse<S>,
) -> Addressed<S> {
    let marginal = marginal(&usage, settings.sub_keys);
    let entropy = marginal.map_axis(Axis(1), |p| entropy(p, rules.log_epsilon));
    let slopes = half_score_gradient(settings, rules, usage, marginal.view());
    finished(settings, tables, chunk, reading, memory, marginal, entropy, slopes)
}

/// Softmax of the scores over a temperature, of those sub-keys that are kept
fn from_scores<S: Scalar>(reading: &Reading<S>, kept: fn(&[usize], usize) -> bool, temperature: S) -> Sparse<S> {
    let indices = reading.selected.half_indices.rows();
    let lists = reading.scores.rows().into_iter().zip(indices).map(|(scores, indices)| {
        let indices = indices.to_vec();
        let all = scores.iter().enumerate().filter(|&(index, _)| kept(&indices, index));
        let mut list: Vec<(usize, S)> = all.map(|(index, &score)| (index, score / temperature)).collect();
        softmax(list.iter_mut().map(|(_, score)| score));
        list
    });
    Sparse { heads: reading.scores.dim().1, lists: lists.collect() }
}

fn in_top_k(indices: &[usize], index: usize) -> bool {
    indices.contains(&index)
}

/// The softmax over scores that are 0 where a sub-key is not kept; these zeros are constants, and get no gradient
fn scattered<S: Scalar>(
    settings: &Settings,
    rules: &Rules,
    tables: &Tables<S>,
    chunk: &Chunk<S>,
    reading: &Reading<S>,
    memory: Option<&Array4<S>>,
) -> Addressed<S> {
    let mut zeroed = reading.clone();
    let best = reading.selected.half_indices.rows().into_iter().zip(reading.selected.half_scores.rows());
    for (mut scores, (indices, best)) in zeroed.scores.rows_mut().into_iter().zip(best) {
        scores.fill(S::ZERO);
        indices.iter().zip(best).for_each(|(&index, &score)| scores[index] = score);
    }
    let usage = from_scores(&zeroed, |_, _| true, S::ONE);
    let marginal = marginal(&usage, settings.sub_keys);
    let entropy = marginal.map_axis(Axis(1), |p| entropy(p, rules.log_epsilon));
    let mut slopes = half_score_gradient(settings, rules, usage, marginal.view());
    for (list, indices) in slopes.lists.iter_mut().zip(reading.selected.half_indices.rows()) {
        list.retain(|(sub_key, _)| indices.iter().any(|kept| kept == sub_key));
    }
    finished(settings, tables, chunk, reading, memory, marginal, entropy, slopes)
}

fn of_weights<S: Scalar>(reading: &Reading<S>) -> Sparse<S> {
    let (_, heads, _, k) = reading.selected.half_indices.dim();
    let lists = reading.selected.half_indices.rows().into_iter().enumerate().map(|(at, indices)| {
        let (row, head, half) = (at / 2 / heads, at / 2 % heads, at % 2);
        let mut list: Vec<(usize, S)> = indices.iter().map(|&index| (index, S::ZERO)).collect();
        for place in 0..k {
            let sum = &mut list[reading.selected.ranks[[row, head, place, half]]].1;
            *sum = *sum + reading.weights[[row, head, place]];
        }
        list
    });
    Sparse { heads, lists: lists.collect() }
}

fn by_row<S: Scalar>(chunk: &Chunk<S>, row: usize, head: usize) -> usize {
    head * chunk.sequences() * chunk.queries.dim().0 + row
}

fn with_target<S: Scalar>(chunk: &Chunk<S>, row: usize, _: usize) -> Option<usize> {
    (row < chunk.pairs() * chunk.sequences()).then_some(0)
}

fn unmasked<S: Scalar>(chunk: &Chunk<S>, row: usize, _: usize) -> Option<usize> {
    let at = (row / chunk.sequences(), row % chunk.sequences());
    chunk.mask.as_ref().is_none_or(|mask| mask[at]).then_some(0)
}

/// Rows (token, head) in groups that each have a marginal and a loss; the mean of the losses is the loss
fn grouped<S: Scalar>(
    settings: &Settings,
    rules: &Rules,
    tables: &Tables<S>,
    chunk: &Chunk<S>,
    reading: &Reading<S>,
    memory: Option<&Array4<S>>,
    group: fn(&Chunk<S>, usize, usize) -> Option<usize>,
) -> Addressed<S> {
    let all = usage(rules, reading);
    let heads = all.heads;
    let of_list = |at: usize| group(chunk, at / 2 / heads, at / 2 % heads);
    let mut groups: Vec<usize> = (0..all.lists.len()).filter_map(of_list).collect();
    groups.sort_unstable();
    groups.dedup();
    let share = S::ONE / S::from_f64(groups.len().max(1) as f64);
    let mut mean_marginal = Array2::from_elem((2, settings.sub_keys), S::ZERO);
    let mut mean_entropy = Array1::from_elem(2, S::ZERO);
    let mut slopes = Sparse { heads, lists: vec![Vec::new(); all.lists.len()] };
    for group in groups {
        let members: Vec<usize> = (0..all.lists.len()).filter(|&at| of_list(at) == Some(group)).collect();
        let usage = Sparse { heads: 1, lists: members.iter().map(|&at| all.lists[at].clone()).collect() };
        let marginal = marginal(&usage, settings.sub_keys);
        mean_marginal.zip_mut_with(&marginal, |sum, &p| *sum = *sum + share * p);
        let entropy = marginal.map_axis(Axis(1), |p| entropy(p, rules.log_epsilon));
        mean_entropy.zip_mut_with(&entropy, |sum, &h| *sum = *sum + share * h);
        let of_group = half_score_gradient(settings, rules, usage, marginal.view());
        for (at, list) in members.into_iter().zip(of_group.lists) {
            slopes.lists[at] = list.into_iter().map(|(sub_key, slope)| (sub_key, share * slope)).collect();
        }
    }
    finished(settings, tables, chunk, reading, memory, mean_marginal, mean_entropy, slopes)
}

/// The marginal divided by something else than its rows
fn with_rows<S: Scalar>(
    settings: &Settings,
    rules: &Rules,
    tables: &Tables<S>,
    chunk: &Chunk<S>,
    reading: &Reading<S>,
    memory: Option<&Array4<S>>,
    divisor: fn(&Settings, f64) -> f64,
) -> Addressed<S> {
    let usage = usage(rules, reading);
    let rows = usage.rows().max(1) as f64;
    let factor = S::from_f64(rows / divisor(settings, rows));
    let marginal = marginal(&usage, settings.sub_keys).mapv_into(|p| factor * p);
    let entropy = marginal.map_axis(Axis(1), |p| entropy(p, rules.log_epsilon));
    let mut slopes = half_score_gradient(settings, rules, usage, marginal.view());
    slopes.lists.iter_mut().flatten().for_each(|(_, slope)| *slope = factor * *slope);
    finished(settings, tables, chunk, reading, memory, marginal, entropy, slopes)
}

/// Each half's loss with a factor
fn of_halves<S: Scalar>(
    settings: &Settings,
    rules: &Rules,
    tables: &Tables<S>,
    chunk: &Chunk<S>,
    reading: &Reading<S>,
    memory: Option<&Array4<S>>,
    factors: [f64; 2],
) -> Addressed<S> {
    let usage = usage(rules, reading);
    let marginal = marginal(&usage, settings.sub_keys);
    let entropy = marginal.map_axis(Axis(1), |p| entropy(p, rules.log_epsilon));
    let mut slopes = half_score_gradient(settings, rules, usage, marginal.view());
    for (at, list) in slopes.lists.iter_mut().enumerate() {
        for (_, slope) in list {
            *slope = S::from_f64(factors[at % 2]) * *slope;
        }
    }
    let [first, second] = [0, 1].map(|half: usize| S::from_f64(factors[half]) * entropy[half]);
    let loss = S::from_f64(settings.addressing_weight) * (-first - second);
    Addressed { loss, ..finished(settings, tables, chunk, reading, memory, marginal, entropy, slopes) }
}

/// The entropies as they are, the loss with the other sign
fn negated<S: Scalar>(addressed: Addressed<S>) -> Addressed<S> {
    Addressed { entropy: addressed.entropy.mapv(|h| -h), ..addressed }
}

fn divergence<S: Scalar>(settings: &Settings, addressed: Addressed<S>) -> Addressed<S> {
    let uniform = S::from_f64(settings.addressing_weight * 2.0 * (settings.sub_keys as f64).ln());
    Addressed { loss: addressed.loss + uniform, ..addressed }
}
