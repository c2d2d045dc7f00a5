//! Stage `score`: queries and sub-keys to half scores.                                SCR-1, SCR-2
//!
//! ```text
//! inverse distance   s[t,h,m,i] = -ln(ε + Σ_d (q[t,h,m,d] - K[h,m,i,d])²)
//! dot product        s[t,h,m,i] = Σ_d q[t,h,m,d] · K[h,m,i,d]
//! ```

use ndarray::{Array4, ArrayView1, ArrayView4, Axis, Zip, s};

use crate::scalar::{Scalar, sum_over};
use crate::settings::{Score, Settings};

/// Scores of every query half against every sub-key of its head and half.
///
/// # Shapes   queries: [rows, heads, 2, `d_k`/2]; `sub_keys`: [heads, 2, n, `d_k`/2]; result: [rows, heads, 2, n]
/// # Source   arXiv 2601.00671 App. A.2; 1907.05242 for the dot product
///
/// ```
/// use fwpkm_reference::{score::half_scores, settings::{Score, Settings}};
/// use ndarray::Array4;
/// let settings = Settings { score: Score::InverseDistance { epsilon: 1.0 }, ..Settings::paper() };
/// let queries = Array4::from_shape_vec((1, 1, 2, 1), vec![3.0, 0.0]).unwrap();
/// let sub_keys = Array4::from_shape_vec((1, 2, 2, 1), vec![1.0, 3.0, 0.0, 2.0]).unwrap();
/// let scores = half_scores(&settings, sub_keys.view(), queries.view());
/// assert_eq!(scores.into_raw_vec_and_offset().0, [-5.0f64.ln(), 0.0, 0.0, -5.0f64.ln()]);
/// ```
pub fn half_scores<S: Scalar>(settings: &Settings, sub_keys: ArrayView4<S>, queries: ArrayView4<S>) -> Array4<S> {
    let (heads, _, n, _) = sub_keys.dim();
    let mut scores = Array4::from_elem((queries.dim().0, heads, 2, n), S::ZERO);
    Zip::from(scores.outer_iter_mut()).and(queries.outer_iter()).par_for_each(|mut scores, query| {
        for head in 0..heads {
            for half in 0..2 {
                let query = query.slice(s![head, half, ..]);
                let keys = sub_keys.slice(s![head, half, .., ..]);
                for (score, key) in scores.slice_mut(s![head, half, ..]).iter_mut().zip(keys.axis_iter(Axis(0))) {
                    *score = match settings.score {
                        Score::InverseDistance { epsilon } => inverse_distance(query, key, epsilon),
                        Score::DotProduct => dot_product(query, key),
                    };
                }
            }
        }
    });
    scores
}

/// -ln(ε + Σ(q - K)²)                                                                      [SCR-1]
pub fn inverse_distance<S: Scalar>(query: ArrayView1<S>, sub_key: ArrayView1<S>, epsilon: f64) -> S {
    -(S::from_f64(epsilon) + squared_distance(query, sub_key)).ln()
}

/// Σ q·K                                                                                   [SCR-2]
pub fn dot_product<S: Scalar>(query: ArrayView1<S>, sub_key: ArrayView1<S>) -> S {
    sum_over(query, sub_key, |q, k| q * k)
}

/// Σ(q - K)², always from the differences: |q|² + |K|² - 2qK cancels near an exact hit   [SCR-1]
pub fn squared_distance<S: Scalar>(query: ArrayView1<S>, sub_key: ArrayView1<S>) -> S {
    sum_over(query, sub_key, |q, k| (q - k) * (q - k))
}
