//! Selection margins of readings.                                                                NUM-6

use fwpkm_reference::chunk::Reading;
use fwpkm_reference::select::{best_pairs, half_top_k};
use fwpkm_spec::certificate::Margins;
use ndarray::{Array1, ArrayView1, ArrayView2};

/// Margins of one head of one token.
#[derive(Clone, Copy, Debug)]
pub struct HeadMargins {
    /// Gap of the k-th and the next of each half, and their larger magnitude.
    pub halves: [Option<(f64, f64)>; 2],
    /// The same of the pairs.
    pub pairs: Option<(f64, f64)>,
    /// Smallest gap among neighbours of the chosen, of both halves and the pairs.
    pub order: Option<f64>,
    /// Largest magnitude of a half score.
    pub largest: f64,
    /// Smallest magnitude of a chosen pair's score.
    pub smallest_pair: f64,
}

/// Margins of the half scores of one head, [2, n].
///
/// The k + 1 best of all n² pairs are made of the k + 1 best of each half (SEL-4).
pub fn head_margins(scores: ArrayView2<f64>, k: usize) -> HeadMargins {
    let best: [Vec<f64>; 2] = [0, 1].map(|half| top_scores(scores.row(half), k + 1));
    let [first, second] = [0, 1].map(|half| Array1::from(best[half].clone()));
    let pairs: Vec<f64> = best_pairs(first.view(), second.view(), k + 1).iter().map(|pair| pair.0).collect();
    let order = best.iter().chain([&pairs]).filter_map(|best| smallest_step(&best[..k.min(best.len())]));
    HeadMargins {
        halves: [0, 1].map(|half| gap_after(&best[half], k)),
        pairs: gap_after(&pairs, k),
        order: order.reduce(f64::min),
        largest: scores.iter().fold(0.0, |largest, score| score.abs().max(largest)),
        smallest_pair: pairs.iter().take(k).fold(f64::INFINITY, |least, score| score.abs().min(least)),
    }
}

fn top_scores(scores: ArrayView1<f64>, count: usize) -> Vec<f64> {
    half_top_k(scores, count).into_iter().map(|(_, score)| score).collect()
}

/// Gap of the k-th and the next of a descending list, and their larger magnitude
fn gap_after(best: &[f64], k: usize) -> Option<(f64, f64)> {
    let (kth, next) = (best.get(k.checked_sub(1)?)?, best.get(k)?);
    Some((kth - next, kth.abs().max(next.abs())))
}

fn smallest_step(best: &[f64]) -> Option<f64> {
    best.windows(2).map(|pair| pair[0] - pair[1]).reduce(f64::min)
}

/// Adds the margins of every head of a reading.
pub fn add(all: &mut Margins, reading: &Reading<f64>, k: usize) {
    for token in reading.scores.outer_iter() {
        for head in token.outer_iter() {
            let margins = head_margins(head, k);
            for (gap, magnitude) in margins.halves.into_iter().flatten() {
                lower(&mut all.half, gap);
                lower(&mut all.relative, gap / magnitude.max(1.0));
            }
            if let Some((gap, magnitude)) = margins.pairs {
                lower(&mut all.pair, gap);
                lower(&mut all.relative, gap / magnitude.max(1.0));
            }
            if let Some(step) = margins.order {
                lower(&mut all.order, step);
            }
        }
    }
}

fn lower(smallest: &mut Option<f64>, margin: f64) {
    *smallest = Some(smallest.map_or(margin, |smallest| smallest.min(margin)));
}
