//! Other choices of slots.                                                            SEL-1 … SEL-4

use fwpkm_reference::chunk::Stages;
use fwpkm_reference::select::{Selected, half_top_k, select, slot};
use fwpkm_reference::{Scalar, Settings};
use ndarray::{Array1, ArrayView4, s};

use super::{Change, Deviation, PORTS, SLIP, faults};

faults! { Select {
    Smallest "sel-1-smallest" "SEL-1"
        "the k sub-keys of lowest score are taken where SEL-1 takes the highest" SLIP
        { select: |s, scores| chosen(s, scores, &smallest, &by_sum, &slot) }
    FewCandidates "sel-1-one-candidate-too-few" "SEL-1"
        "the k-th best sub-key of a half is never a candidate, where SEL-1 takes k" SLIP
        { select: |s, scores| chosen(s, scores, &half_top_k, &without_last, &slot) }
    EqualIndices "sel-2-equal-indices" "SEL-2"
        "sub-key i of half 0 is paired with sub-key i of half 1 only, where SEL-2 pairs all candidates" SLIP
        { select: |s, scores| diagonal(s, scores) }
    EqualRanks "sel-2-equal-ranks" "SEL-2"
        "the a-th best of half 0 is paired with the a-th best of half 1, where SEL-2 takes the k best of all pairs" SLIP
        { select: |s, scores| chosen(s, scores, &half_top_k, &equal_ranks, &slot) }
    BestOfFirst "sel-2-best-of-half-0" "SEL-2"
        "the best sub-key of half 0 is paired with each of half 1, where SEL-2 takes the k best of all pairs" SLIP
        { select: |s, scores| chosen(s, scores, &half_top_k, &best_of_first, &slot) }
    Product "sel-2-product-of-scores" "SEL-2"
        "the score of a pair is the product of its half scores where SEL-2 has their sum" SLIP
        { select: |s, scores| chosen(s, scores, &half_top_k, &by_product, &slot) }
    AnyOrder "sel-2-slots-not-best-first" "SEL-2"
        "the k best pairs are given in another order, each with its weight, where SEL-2 has the best first" SLIP
        { select: |s, scores| by_slot(select(s, scores)) }
    Transposed "sel-3-slot-transposed" "SEL-3"
        "the slot is j·n + i where SEL-3 has i·n + j" PORTS
        { select: |s, scores| chosen(s, scores, &half_top_k, &by_sum, &|i, j, n| j * n + i) }
    Ranks "sel-3-ranks-in-the-slot" "SEL-3"
        "the slot is made of the two ranks where SEL-3 has the two indices" SLIP
        { select: |s, scores| ranks_as_slots(s, scores) }
    RowsOfK "sel-3-rows-of-top-k" "SEL-3"
        "the slot is i·k + j where SEL-3 has i·n + j" SLIP
        { select: |s, scores| chosen(s, scores, &half_top_k, &by_sum, &|i, j, _| i * s.top_k + j) }
    Sorted "sel-3-slots-sorted-scores-not" "SEL-3"
        "slots are sorted by number while their scores stay best first, where SEL-3 keeps them together" SLIP
        { select: |s, scores| sorted(select(s, scores)) }
    Narrow "sel-4-only-pairs-with-a-best" "SEL-4"
        "only pairs with the best sub-key of a half are looked at, where SEL-4 needs all with (a+1)(b+1) ≤ k" SLIP
        { select: |s, scores| chosen(s, scores, &half_top_k, &narrow, &slot) }
} }

type Half<'a, S> = &'a dyn Fn(ndarray::ArrayView1<S>, usize) -> Vec<(usize, S)>;
type Pairs<'a, S> = &'a dyn Fn(&[S], &[S], usize) -> Vec<(S, usize, usize)>;
type Slot<'a> = &'a dyn Fn(usize, usize, usize) -> usize;

/// The stage with another choice of sub-keys, of pairs, or of their slots
fn chosen<S: Scalar>(
    settings: &Settings,
    scores: ArrayView4<S>,
    half: Half<S>,
    pairs: Pairs<S>,
    slot: Slot,
) -> Selected<S> {
    let (n, k) = (settings.sub_keys, settings.top_k);
    let mut selected = select(settings, scores);
    for row in 0..scores.dim().0 {
        for head in 0..scores.dim().1 {
            let tops = [0, 1].map(|m| half(scores.slice(s![row, head, m, ..]), k));
            let best = [0, 1].map(|m: usize| tops[m].iter().map(|&(_, score)| score).collect::<Vec<_>>());
            for m in 0..2 {
                let indices: Array1<usize> = tops[m].iter().map(|&(index, _)| index).collect();
                selected.half_indices.slice_mut(s![row, head, m, ..]).assign(&indices);
                selected.half_scores.slice_mut(s![row, head, m, ..]).assign(&ndarray::aview1(&best[m]));
            }
            for (place, (score, a, b)) in pairs(&best[0], &best[1], k).into_iter().enumerate() {
                selected.pair_scores[[row, head, place]] = score;
                selected.ranks[[row, head, place, 0]] = a;
                selected.ranks[[row, head, place, 1]] = b;
                selected.slots[[row, head, place]] = slot(tops[0][a].0, tops[1][b].0, n);
            }
        }
    }
    selected
}

fn smallest<S: Scalar>(scores: ndarray::ArrayView1<S>, k: usize) -> Vec<(usize, S)> {
    half_top_k(scores.mapv(|x| -x).view(), k).into_iter().map(|(index, score)| (index, -score)).collect()
}

/// The k best pairs of those allowed, by what `score` makes of their half scores
fn best<S: Scalar>(
    first: &[S],
    second: &[S],
    k: usize,
    score: impl Fn(S, S) -> S,
    allowed: impl Fn(usize, usize) -> bool,
) -> Vec<(S, usize, usize)> {
    let ranks = (0..first.len()).flat_map(|a| (0..second.len()).map(move |b| (a, b)));
    let mut pairs: Vec<_> =
        ranks.filter(|&(a, b)| allowed(a, b)).map(|(a, b)| (score(first[a], second[b]), a, b)).collect();
    pairs.sort_by(|x, y| y.0.partial_cmp(&x.0).unwrap_or(std::cmp::Ordering::Equal));
    pairs.truncate(k);
    pairs
}

fn by_sum<S: Scalar>(first: &[S], second: &[S], k: usize) -> Vec<(S, usize, usize)> {
    best(first, second, k, |x, y| x + y, |_, _| true)
}

fn by_product<S: Scalar>(first: &[S], second: &[S], k: usize) -> Vec<(S, usize, usize)> {
    best(first, second, k, |x, y| x * y, |_, _| true)
}

fn equal_ranks<S: Scalar>(first: &[S], second: &[S], k: usize) -> Vec<(S, usize, usize)> {
    best(first, second, k, |x, y| x + y, |a, b| a == b)
}

fn best_of_first<S: Scalar>(first: &[S], second: &[S], k: usize) -> Vec<(S, usize, usize)> {
    best(first, second, k, |x, y| x + y, |a, _| a == 0)
}

fn narrow<S: Scalar>(first: &[S], second: &[S], k: usize) -> Vec<(S, usize, usize)> {
    best(first, second, k, |x, y| x + y, |a, b| a == 0 || b == 0)
}

/// With k = 2 one candidate is too few for two pairs; the last is then kept
fn without_last<S: Scalar>(first: &[S], second: &[S], k: usize) -> Vec<(S, usize, usize)> {
    let candidates = if (k - 1) * (k - 1) >= k { k - 1 } else { k };
    best(first, second, k, |x, y| x + y, |a, b| a < candidates && b < candidates)
}

/// Pairs (i, i): their half scores in the order of the sums, so that rank a of both halves is the a-th pair
fn diagonal<S: Scalar>(settings: &Settings, scores: ArrayView4<S>) -> Selected<S> {
    let mut selected = select(settings, scores);
    for row in 0..scores.dim().0 {
        for head in 0..scores.dim().1 {
            let sums = ndarray::Zip::from(scores.slice(s![row, head, 0, ..]))
                .and(scores.slice(s![row, head, 1, ..]))
                .map_collect(|&x, &y| x + y);
            for (place, (index, sum)) in half_top_k(sums.view(), settings.top_k).into_iter().enumerate() {
                selected.pair_scores[[row, head, place]] = sum;
                selected.slots[[row, head, place]] = slot(index, index, settings.sub_keys);
                for m in 0..2 {
                    selected.half_indices[[row, head, m, place]] = index;
                    selected.half_scores[[row, head, m, place]] = scores[[row, head, m, index]];
                    selected.ranks[[row, head, place, m]] = place;
                }
            }
        }
    }
    selected
}

fn ranks_as_slots<S: Scalar>(settings: &Settings, scores: ArrayView4<S>) -> Selected<S> {
    let mut selected = select(settings, scores);
    let ranks = selected.ranks.clone();
    for ((row, head, place), number) in selected.slots.indexed_iter_mut() {
        *number = slot(ranks[[row, head, place, 0]], ranks[[row, head, place, 1]], settings.sub_keys);
    }
    selected
}

fn sorted<S: Scalar>(mut selected: Selected<S>) -> Selected<S> {
    for mut slots in selected.slots.rows_mut() {
        let mut in_order = slots.to_vec();
        in_order.sort_unstable();
        slots.assign(&Array1::from(in_order));
    }
    selected
}

/// Pairs in the order of their slots, as one of all orders
fn by_slot<S: Scalar>(mut selected: Selected<S>) -> Selected<S> {
    let before = selected.clone();
    let (rows, heads, k) = selected.slots.dim();
    for (row, head) in ndarray::indices((rows, heads)) {
        let mut order: Vec<usize> = (0..k).collect();
        order.sort_by_key(|&place| before.slots[[row, head, place]]);
        for (place, from) in order.into_iter().enumerate() {
            selected.slots[[row, head, place]] = before.slots[[row, head, from]];
            selected.pair_scores[[row, head, place]] = before.pair_scores[[row, head, from]];
            let ranks = before.ranks.slice(s![row, head, from, ..]);
            selected.ranks.slice_mut(s![row, head, place, ..]).assign(&ranks);
        }
    }
    selected
}
