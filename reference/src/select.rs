//! Stage `select`: half scores to the k best slots of each head.                     SEL-1 … SEL-4
//!
//! ```text
//! half top-k   the k sub-keys of a half in the order (score descending, index ascending)
//! pairs        the k best sums s¹ + s² of k × k candidates, in the order (sum descending, rank 1, rank 2)
//! slot         i·n + j
//! ```

use ndarray::{Array3, Array4, ArrayView1, ArrayView4, Zip, s};

use crate::scalar::Scalar;
use crate::settings::Settings;

/// The chosen sub-keys and slots, best first.
#[derive(Clone, Debug)]
pub struct Selected<S> {
    /// Sub-key at each rank of a half: [rows, heads, 2, k].
    pub half_indices: Array4<usize>,
    /// Its score: [rows, heads, 2, k].
    pub half_scores: Array4<S>,
    /// The two ranks each chosen pair is made of: [rows, heads, k, 2].
    pub ranks: Array4<usize>,
    /// Sum of the pair's half scores: [rows, heads, k].
    pub pair_scores: Array3<S>,
    /// Slot of the pair: [rows, heads, k].
    pub slots: Array3<usize>,
}

/// The k best slots per head.
///
/// # Shapes   scores: [rows, heads, 2, n]
/// # Source   arXiv 2601.00671 eqs 3-6; the order of ties is ours
///
/// ```
/// use fwpkm_reference::{select::select, settings::Settings};
/// use ndarray::Array4;
/// let settings = Settings { top_k: 2, sub_keys: 3, ..Settings::paper() };
/// let scores = Array4::from_shape_vec((1, 1, 2, 3), vec![1.0, 5.0, 4.0, 2.0, 0.0, 2.0]).unwrap();
/// let selected = select(&settings, scores.view());
/// // half 0: 5 and 4 at sub-keys 1 and 2; half 1: the tied 2s at sub-keys 0 and 2
/// assert_eq!(selected.slots.into_raw_vec_and_offset().0, [1 * 3 + 0, 1 * 3 + 2]);
/// ```
pub fn select<S: Scalar>(settings: &Settings, scores: ArrayView4<S>) -> Selected<S> {
    let (rows, heads, _, n) = scores.dim();
    let k = settings.top_k;
    let mut selected = Selected {
        half_indices: Array4::from_elem((rows, heads, 2, k), 0),
        half_scores: Array4::from_elem((rows, heads, 2, k), S::ZERO),
        ranks: Array4::from_elem((rows, heads, k, 2), 0),
        pair_scores: Array3::from_elem((rows, heads, k), S::ZERO),
        slots: Array3::from_elem((rows, heads, k), 0),
    };
    Zip::from(selected.half_indices.outer_iter_mut())
        .and(selected.half_scores.outer_iter_mut())
        .and(scores.outer_iter())
        .par_for_each(|mut indices, mut best, scores| {
            for head in 0..heads {
                for half in 0..2 {
                    let top = half_top_k(scores.slice(s![head, half, ..]), k);
                    for (rank, (index, score)) in top.into_iter().enumerate() {
                        indices[[head, half, rank]] = index;
                        best[[head, half, rank]] = score;
                    }
                }
            }
        });
    Zip::from(selected.ranks.outer_iter_mut())
        .and(selected.pair_scores.outer_iter_mut())
        .and(selected.slots.outer_iter_mut())
        .and(selected.half_indices.outer_iter())
        .and(selected.half_scores.outer_iter())
        .par_for_each(|mut ranks, mut sums, mut slots, indices, scores| {
            for head in 0..heads {
                let pairs = best_pairs(scores.slice(s![head, 0, ..]), scores.slice(s![head, 1, ..]), k);
                for (place, (sum, first, second)) in pairs.into_iter().enumerate() {
                    sums[[head, place]] = sum;
                    ranks[[head, place, 0]] = first;
                    ranks[[head, place, 1]] = second;
                    slots[[head, place]] = slot(indices[[head, 0, first]], indices[[head, 1, second]], n);
                }
            }
        });
    selected
}

/// The k best (index, score), by score descending, then index ascending                    [SEL-1]
pub fn half_top_k<S: Scalar>(scores: ArrayView1<S>, k: usize) -> Vec<(usize, S)> {
    let mut best: Vec<(usize, S)> = Vec::with_capacity(k + 1);
    for (index, &score) in scores.iter().enumerate() {
        if best.len() == k && best.last().is_some_and(|&(_, last)| score <= last) {
            continue;
        }
        let place = best.partition_point(|&(_, other)| other >= score);
        best.insert(place, (index, score));
        best.truncate(k);
    }
    best
}

/// The k best (sum, rank 1, rank 2), by sum descending, then rank 1, then rank 2    [SEL-2, SEL-4]
///
/// A pair of 0-based ranks (a, b) has (a+1)(b+1) pairs at least as good before or at it, so those above k cannot win.
pub fn best_pairs<S: Scalar>(first: ArrayView1<S>, second: ArrayView1<S>, k: usize) -> Vec<(S, usize, usize)> {
    let mut pairs = Vec::new();
    for a in 0..first.len() {
        for b in 0..second.len().min(k / (a + 1)) {
            pairs.push((first[a] + second[b], a, b));
        }
    }
    // Stable: equal sums stay in the order (rank 1, rank 2) they were pushed in.
    pairs.sort_by(|x, y| y.0.partial_cmp(&x.0).unwrap_or(std::cmp::Ordering::Equal));
    pairs.truncate(k);
    pairs
}

/// i·n + j                                                                                 [SEL-3]
pub fn slot(first: usize, second: usize, n: usize) -> usize {
    first * n + second
}
