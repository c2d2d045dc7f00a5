//! Back through a reading: reads, weights, half scores.                                GRD-3, GRD-4
//!
//! ```text
//! weights̄[t,h,j] = Σ_d reads̄[t,d]·V[slot,d]          V̄[slot,:] += weights[t,h,j]·reads̄[t,:]
//! inverse distance   ∂s/∂q = -2(q - K)/(ε + |q - K|²) = -∂s/∂K         dot product   ∂s/∂q = K, ∂s/∂K = q
//! ```

use ndarray::{Array3, Array4, ArrayView2, ArrayView4, Axis, Zip, s};

use crate::address::Sparse;
use crate::chunk::Reading;
use crate::read::weights_to_half_scores;
use crate::scalar::{Scalar, sum_over};
use crate::score::squared_distance;
use crate::settings::{Score, Settings};

/// From reads to weights, and to V of the slots chosen                                      [GRD-3]
///
/// # Shapes   values: V of the slots chosen, [rows, heads, k, `d_v`]; reads: [rows, `d_v`]; results: [rows, heads, k] and as values
pub fn reads_back<S: Scalar>(
    reading: &Reading<S>,
    values: ArrayView4<S>,
    reads: ArrayView2<S>,
) -> (Array3<S>, Array4<S>) {
    let weights = Array3::from_shape_fn(reading.weights.dim(), |(row, head, place)| {
        sum_over(reads.row(row), values.slice(s![row, head, place, ..]), |read, value| read * value)
    });
    let values = Array4::from_shape_fn(values.dim(), |(row, head, place, d)| {
        reading.weights[[row, head, place]] * reads[[row, d]]
    });
    (weights, values)
}

/// From weights to the chosen half scores                                                   [GRD-3]
///
/// `pair_scores` is what reaches the pair scores by another way (GRD-7).
///
/// # Shapes   weights, `pair_scores`: [rows, heads, k]; result: [rows, heads, 2, k]
pub fn weights_back<S: Scalar>(
    settings: &Settings,
    reading: &Reading<S>,
    weights: &Array3<S>,
    pair_scores: Option<&Array3<S>>,
) -> Array4<S> {
    let mut chosen = Array4::from_elem(reading.selected.half_scores.dim(), S::ZERO);
    for row in 0..weights.dim().0 {
        let of_row = weights.index_axis(Axis(0), row);
        weights_to_half_scores(settings, &reading.selected, &reading.weights, row, of_row, chosen.view_mut());
    }
    if let Some(pair_scores) = pair_scores {
        for ((row, head, place), &x) in pair_scores.indexed_iter() {
            for half in 0..2 {
                let sum = &mut chosen[[row, head, half, reading.selected.ranks[[row, head, place, half]]]];
                *sum = *sum + x;
            }
        }
    }
    chosen
}

/// From half scores to queries and sub-keys, whose adjoint grows row by row, the last first    [GRD-4]
///
/// # Shapes   `sub_keys`, `to_sub_keys`: [heads, 2, n, `d_k`/2]; queries, result: [rows, heads, 2, `d_k`/2]
pub fn half_scores_back<S: Scalar>(
    settings: &Settings,
    sub_keys: &Array4<S>,
    queries: &Array4<S>,
    half_scores: &Sparse<S>,
    to_sub_keys: &mut Array4<S>,
) -> Array4<S> {
    let mut to_queries = Array4::from_elem(queries.dim(), S::ZERO);
    for row in (0..queries.dim().0).rev() {
        for (head, half) in ndarray::indices((settings.heads, 2)) {
            let query = queries.slice(s![row, head, half, ..]);
            let mut to_query = to_queries.slice_mut(s![row, head, half, ..]);
            for &(sub_key, slope) in half_scores.of(row, head, half) {
                let key = sub_keys.slice(s![head, half, sub_key, ..]);
                let to_key = to_sub_keys.slice_mut(s![head, half, sub_key, ..]);
                let terms = Zip::from(&mut to_query).and(to_key).and(query).and(key);
                match settings.score {
                    Score::InverseDistance { epsilon } => {
                        let scale = slope * S::from_f64(2.0) / (S::from_f64(epsilon) + squared_distance(query, key));
                        terms.for_each(|to_query, to_key, &q, &k| {
                            *to_query = *to_query - scale * (q - k);
                            *to_key = *to_key + scale * (q - k);
                        });
                    }
                    Score::DotProduct => terms.for_each(|to_query, to_key, &q, &k| {
                        *to_query = *to_query + slope * k;
                        *to_key = *to_key + slope * q;
                    }),
                }
            }
        }
    }
    to_queries
}
