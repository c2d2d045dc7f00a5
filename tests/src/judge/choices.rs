//! Choices of sub-keys and slots, judged by their scores.                                       NUM-6

use fwpkm_reference::numerics::{order_is_right, selection_is_right};
use ndarray::ArrayView1;

/// Why a choice of sub-keys is wrong, if it is; best first.
///
/// # Shapes   scores, bounds: `[n]`; chosen: `[k]`
pub(crate) fn wrong_half(scores: &[f64], bounds: &[f64], chosen: &[i64]) -> bool {
    let Some(chosen) = places(chosen) else { return true };
    !selection_is_right(scores, bounds, &chosen) || !order_is_right(scores, bounds, &chosen)
}

fn places(chosen: &[i64]) -> Option<Vec<usize>> {
    chosen.iter().map(|&place| usize::try_from(place).ok()).collect()
}

/// Whether a choice of slots is wrong: judged among all pairs of the sub-keys that can win.
///
/// # Shapes   scores, bounds: `[2][n]`; chosen: `[k]`, slots; `ordered`, whether they must be best first
pub(crate) fn wrong_slots(
    scores: [ArrayView1<(f64, f64)>; 2],
    chosen: &[i64],
    ordered: bool,
    pair_rounding: impl Fn(f64) -> f64,
) -> bool {
    let n = scores[0].len();
    let Some(chosen) = places(chosen) else { return true };
    if chosen.iter().any(|&slot| slot >= n * n) {
        return true;
    }
    // Only the k + 1 best of each half, as far as rounding can tell them, make a pair that a choice of k may not leave out.
    let lists: [Vec<usize>; 2] = [0, 1].map(|half| {
        let mut list: Vec<usize> = (0..n).collect();
        list.sort_by(|&i, &j| scores[half][j].0.total_cmp(&scores[half][i].0));
        let threshold = list.get(chosen.len()).map_or(f64::NEG_INFINITY, |&i| scores[half][i].0 - scores[half][i].1);
        let taken = |i: &usize| {
            let named = chosen.iter().any(|slot| [slot / n, slot % n][half] == *i);
            named || scores[half][*i].0 + scores[half][*i].1 >= threshold
        };
        list.retain(taken);
        list
    });
    let pairs: Vec<(usize, usize)> = lists[0].iter().flat_map(|&i| lists[1].iter().map(move |&j| (i, j))).collect();
    let sums: Vec<f64> = pairs.iter().map(|&(i, j)| scores[0][i].0 + scores[1][j].0).collect();
    let bounds: Vec<f64> =
        pairs.iter().zip(&sums).map(|(&(i, j), &sum)| scores[0][i].1 + scores[1][j].1 + pair_rounding(sum)).collect();
    let place = |slot: &usize| pairs.iter().position(|&(i, j)| i * n + j == *slot);
    let Some(places) = chosen.iter().map(place).collect::<Option<Vec<usize>>>() else { return true };
    !selection_is_right(&sums, &bounds, &places) || ordered && !order_is_right(&sums, &bounds, &places)
}
