//! Slips of score, select and read.

use fwpkm_reference::read::read;
use fwpkm_reference::score::half_scores;
use fwpkm_reference::select::{Selected, select};
use fwpkm_reference::settings::{Score, Settings};
use ndarray::{Array2, Array3, Array4, ArrayView2, ArrayView3, ArrayView4};

use super::Slip;

pub(super) const SLIPS: &[Slip] = &[
    ("distance, not its square", &["SCR-1"], |s| s.score = distance),
    ("halves of the query swapped", &["SCR-1", "SCR-2"], |s| s.score = swapped),
    ("heads interleaved", &["SCR-1", "SCR-2"], |s| s.score = interleaved),
    ("dot products over the square root of d_k", &["SCR-2"], |s| s.score = scaled),
    ("slot = j·n + i", &["SEL-3", "RD-3"], |s| s.select = transposed),
    ("pairs of equal rank only", &["SEL-2", "SEL-4"], |s| s.select = diagonal),
    ("pruned to (a+1)(b+1) < k", &["SEL-4"], |s| s.select = pruned),
    ("mean over heads", &["RD-3"], |s| s.read = mean_over_heads),
    ("largest not subtracted, weights not normalised", &["RD-1"], |s| s.weigh = unnormalised),
];

fn distance(settings: &Settings, sub_keys: ArrayView4<f64>, queries: ArrayView4<f64>) -> Array4<f64> {
    let scores = half_scores(settings, sub_keys, queries);
    match settings.score {
        Score::InverseDistance { epsilon } => {
            scores.mapv(|score| -(epsilon + ((-score).exp() - epsilon).max(0.0).sqrt()).ln())
        }
        Score::DotProduct => scores,
    }
}

fn swapped(settings: &Settings, sub_keys: ArrayView4<f64>, queries: ArrayView4<f64>) -> Array4<f64> {
    let queries = Array4::from_shape_fn(queries.dim(), |(row, head, half, d)| queries[[row, head, 1 - half, d]]);
    half_scores(settings, sub_keys, queries.view())
}

fn interleaved(settings: &Settings, sub_keys: ArrayView4<f64>, queries: ArrayView4<f64>) -> Array4<f64> {
    let (_, heads, _, width) = queries.dim();
    let flat = |place: usize| (place / (2 * width), place / width % 2, place % width);
    let queries = Array4::from_shape_fn(queries.dim(), |(row, head, half, d)| {
        let (head, half, d) = flat((half * width + d) * heads + head);
        queries[[row, head, half, d]]
    });
    half_scores(settings, sub_keys, queries.view())
}

fn scaled(settings: &Settings, sub_keys: ArrayView4<f64>, queries: ArrayView4<f64>) -> Array4<f64> {
    half_scores(settings, sub_keys, queries) / (settings.key_dim as f64).sqrt()
}

fn transposed(settings: &Settings, scores: ArrayView4<f64>) -> Selected<f64> {
    let n = settings.sub_keys;
    let mut selected = select(settings, scores);
    selected.slots.mapv_inplace(|slot| slot % n * n + slot / n);
    selected
}

/// Keeps the pairs of ranks that `keeps` allows, best first; the best pair again where there are too few
fn with_pairs(settings: &Settings, scores: ArrayView4<f64>, keeps: fn(usize, usize, usize) -> bool) -> Selected<f64> {
    let (sub_keys, top_k) = (settings.sub_keys, settings.top_k);
    let mut selected = select(settings, scores);
    let (rows, heads, _) = selected.slots.dim();
    for (row, head) in (0..rows).flat_map(|row| (0..heads).map(move |head| (row, head))) {
        let score = |half: usize, rank: usize| selected.half_scores[[row, head, half, rank]];
        let ranks = (0..top_k * top_k).map(|pair| (pair / top_k, pair % top_k)).filter(|&(a, b)| keeps(a, b, top_k));
        let mut pairs: Vec<(f64, usize, usize)> = ranks.map(|(a, b)| (score(0, a) + score(1, b), a, b)).collect();
        pairs.sort_by(|x, y| y.0.total_cmp(&x.0));
        for place in 0..top_k {
            let (sum, a, b) = pairs.get(place).copied().unwrap_or(pairs[0]);
            selected.pair_scores[[row, head, place]] = sum;
            (selected.ranks[[row, head, place, 0]], selected.ranks[[row, head, place, 1]]) = (a, b);
            let [i, j] = [(0, a), (1, b)].map(|(half, rank)| selected.half_indices[[row, head, half, rank]]);
            selected.slots[[row, head, place]] = i * sub_keys + j;
        }
    }
    selected
}

fn diagonal(settings: &Settings, scores: ArrayView4<f64>) -> Selected<f64> {
    with_pairs(settings, scores, |a, b, _| a == b)
}

fn pruned(settings: &Settings, scores: ArrayView4<f64>) -> Selected<f64> {
    with_pairs(settings, scores, |a, b, k| (a + 1) * (b + 1) < k.max(2))
}

fn mean_over_heads(
    slot_values: ArrayView2<f64>,
    slots: ArrayView3<usize>,
    weights: ArrayView3<f64>,
) -> fwpkm_reference::Result<Array2<f64>> {
    Ok(read(slot_values, slots, weights)? / slots.dim().1 as f64)
}

fn unnormalised(settings: &Settings, pair_scores: ArrayView3<f64>) -> Array3<f64> {
    pair_scores.mapv(|score| (score / settings.temperature).min(30.0).exp())
}
