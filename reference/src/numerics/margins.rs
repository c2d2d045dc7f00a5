//! Selection margins: which choices rounding decides, and which it must not.                  NUM-6
//!
//! ```text
//! certain   s_i - s_j > b_i + b_j        for every chosen i and every other j
//! right     s_i - s_j ≥ -(b_i + b_j)     for every chosen i and every other j
//! ```

use super::Precision;

/// Bound of a pair score, from the exact sum of its two half scores.                        [NUM-6]
///
/// ```text
/// u·|s⁰ + s¹| + ω
/// ```
pub fn pair_score_bound(precision: Precision, sum: f64) -> f64 {
    precision.unit_roundoff * sum.abs() + precision.smallest
}

/// Margin of the set of the k best.                                                         [NUM-6]
///
/// ```text
/// s_(k) - s_(k+1), infinite if there is no (k+1)th
/// ```
///
/// ```
/// use fwpkm_reference::numerics::selection_margin;
/// assert_eq!(selection_margin(&[1.0, 4.0, 3.5], 2), 2.5);
/// assert_eq!(selection_margin(&[1.0, 4.0], 2), f64::INFINITY);
/// ```
pub fn selection_margin(scores: &[f64], k: usize) -> f64 {
    let mut sorted = scores.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    match (k.checked_sub(1).and_then(|last| sorted.get(last)), sorted.get(k)) {
        (Some(kth), Some(next)) => kth - next,
        _ => f64::INFINITY,
    }
}

/// Whether rounding cannot change the chosen set.                                           [NUM-6]
///
/// ```text
/// s_i - s_j > b_i + b_j          for every chosen i and every other j
/// ```
///
/// # Shapes   scores, bounds: exact scores and their bounds, `[candidates]`; chosen: `[k]`
///
/// ```
/// use fwpkm_reference::numerics::selection_is_certain;
/// let bounds = [0.1, 0.1, 0.1];
/// assert!(selection_is_certain(&[2.0, 1.0, 0.0], &bounds, &[0]));
/// assert!(!selection_is_certain(&[1.1, 1.0, 0.0], &bounds, &[0]));
/// ```
pub fn selection_is_certain(scores: &[f64], bounds: &[f64], chosen: &[usize]) -> bool {
    compare(scores, bounds, chosen, |difference, bound| difference > bound)
}

/// Whether rounding can explain the chosen set.                                             [NUM-6]
///
/// ```text
/// s_i - s_j ≥ -(b_i + b_j)          for every chosen i and every other j
/// ```
///
/// A set that names a candidate twice, or one that is not there, is never right.
///
/// # Shapes   as [`selection_is_certain`]
///
/// ```
/// use fwpkm_reference::numerics::selection_is_right;
/// let (scores, bounds) = ([1.0, 1.1, 0.0], [0.1, 0.1, 0.1]);
/// assert!(selection_is_right(&scores, &bounds, &[0]) && selection_is_right(&scores, &bounds, &[1]));
/// assert!(!selection_is_right(&scores, &bounds, &[2]));
/// ```
pub fn selection_is_right(scores: &[f64], bounds: &[f64], chosen: &[usize]) -> bool {
    compare(scores, bounds, chosen, |difference, bound| difference >= -bound)
}

/// Whether rounding can explain the order of the chosen.                                    [NUM-6]
///
/// ```text
/// s_i - s_j ≥ -(b_i + b_j)          for every chosen i and every later chosen j
/// ```
///
/// # Shapes   as [`selection_is_certain`]; chosen: best first
///
/// ```
/// use fwpkm_reference::numerics::order_is_right;
/// let (scores, bounds) = ([1.0, 1.1, 0.0], [0.1, 0.1, 0.1]);
/// assert!(order_is_right(&scores, &bounds, &[0, 1, 2]) && !order_is_right(&scores, &bounds, &[0, 2, 1]));
/// ```
pub fn order_is_right(scores: &[f64], bounds: &[f64], chosen: &[usize]) -> bool {
    for (place, &i) in chosen.iter().enumerate() {
        for &j in &chosen[place + 1..] {
            match (scores.get(i), scores.get(j), bounds.get(i), bounds.get(j)) {
                (Some(s_i), Some(s_j), Some(b_i), Some(b_j)) if s_i - s_j >= -(b_i + b_j) => {}
                _ => return false,
            }
        }
    }
    true
}

fn compare(scores: &[f64], bounds: &[f64], chosen: &[usize], holds: impl Fn(f64, f64) -> bool) -> bool {
    let mut is_chosen = vec![false; scores.len()];
    for &i in chosen {
        match is_chosen.get_mut(i) {
            Some(seen) if !*seen => *seen = true,
            _ => return false,
        }
    }
    for &i in chosen {
        for (j, (s_j, b_j)) in scores.iter().zip(bounds).enumerate() {
            let other = !is_chosen[j];
            if other && !bounds.get(i).is_some_and(|b_i| holds(scores[i] - s_j, b_i + b_j)) {
                return false;
            }
        }
    }
    true
}
