//! Stage `address`: usage of the sub-keys, its entropy, and the gradient of the sub-keys. ADR-1 … ADR-6
//!
//! ```text
//! p_row     softmax over the kept half scores of a row (token, head), 0 elsewhere
//! p̄[m,i]    mean of p over the rows
//! loss      α(-H(p̄⁰) - H(p̄¹)),  H(p̄) = -Σ p̄ ln(p̄ + e)
//! ```

use ndarray::{Array1, Array2, Array4, ArrayView1, ArrayView2, ArrayView4, Axis, Zip, s};

use crate::chunk::{Chunk, Reading};
use crate::read::softmax;
use crate::rules::{Kept, Rules};
use crate::scalar::Scalar;
use crate::score::squared_distance;
use crate::settings::{Score, Settings};
use crate::tables::Tables;

/// The addressing half of a step.
#[derive(Clone, Debug)]
pub struct Addressed<S> {
    /// p̄: [2, n].
    pub marginal: Array2<S>,
    /// H of each half: `[2]`.
    pub entropy: Array1<S>,
    /// α(-H⁰ - H¹)
    pub loss: S,
    /// Gradient with respect to the sub-keys, before clipping: [heads, 2, n, `d_k`/2].
    pub sub_key_gradient: Array4<S>,
}

/// Marginal usage, entropy and sub-key gradient of one chunk; [`crate::tables::descend`] then takes the step (ADR-6).
///
/// `memory_gradient` is MEM-6's gradient of the chosen half scores, where that option is on.
///
/// # Shapes   reading: of the chunk's queries; `memory_gradient`: [rows, heads, 2, k]
/// # Source   arXiv 2601.00671 eqs 16-18; one marginal for all heads, ties and the ε of the log from the release
pub fn address<S: Scalar>(
    settings: &Settings,
    rules: &Rules,
    tables: &Tables<S>,
    chunk: &Chunk<S>,
    reading: &Reading<S>,
    memory_gradient: Option<&Array4<S>>,
) -> Addressed<S> {
    let usage = usage(rules, reading);
    let marginal = marginal(&usage, settings.sub_keys);
    let entropy = marginal.map_axis(Axis(1), |marginal| entropy(marginal, rules.log_epsilon));
    let loss = S::from_f64(settings.addressing_weight) * (-entropy[0] - entropy[1]);
    let mut slopes = half_score_gradient(settings, rules, usage, marginal.view());
    if let Some(gradient) = memory_gradient {
        slopes.add_chosen(reading, gradient);
    }
    let queries = chunk.query_halves(settings);
    let sub_key_gradient = sub_key_gradient(settings, tables.sub_keys.view(), queries.view(), &slopes);
    Addressed { marginal, entropy, loss, sub_key_gradient }
}

/// For every row (token, head) and half, numbers that belong to some of the sub-keys.
#[derive(Clone, Debug)]
pub struct Sparse<S> {
    /// H
    pub heads: usize,
    /// (sub-key, number) lists in the order token, head, half.
    pub lists: Vec<Vec<(usize, S)>>,
}

impl<S: Scalar> Sparse<S> {
    /// Lists of nothing, for so many tokens of all sequences.
    pub fn empty(tokens: usize, heads: usize) -> Self {
        Self { heads, lists: vec![Vec::new(); tokens * heads * 2] }
    }

    /// Rows (token, head).
    pub fn rows(&self) -> usize {
        self.lists.len() / 2
    }

    /// The list of one row and half.
    pub fn of(&self, token: usize, head: usize, half: usize) -> &[(usize, S)] {
        &self.lists[(token * self.heads + head) * 2 + half]
    }

    /// The same, to be changed.
    pub fn of_mut(&mut self, token: usize, head: usize, half: usize) -> &mut [(usize, S)] {
        &mut self.lists[(token * self.heads + head) * 2 + half]
    }

    /// Appends the memorization gradient of the chosen half scores.                         [MEM-6]
    pub fn add_chosen(&mut self, reading: &Reading<S>, gradient: &Array4<S>) {
        let indices = reading.selected.half_indices.rows();
        for ((list, indices), gradient) in self.lists.iter_mut().zip(indices).zip(gradient.rows()) {
            list.extend(indices.iter().copied().zip(gradient.iter().copied()));
        }
    }
}

/// p: softmax over the kept half scores of each row                                        [ADR-1]
///
/// Kept are the k best, or by rule every sub-key that scores at least as much as the k-th best. No temperature.
pub fn usage<S: Scalar>(rules: &Rules, reading: &Reading<S>) -> Sparse<S> {
    let (indices, best) = (reading.selected.half_indices.rows(), reading.selected.half_scores.rows());
    let rows = reading.scores.rows().into_iter().zip(indices).zip(best);
    let lists = rows.map(|((all, indices), best)| {
        let mut kept: Vec<(usize, S)> = match (rules.kept, best.last()) {
            (Kept::Ties, Some(&kth)) => all.iter().copied().enumerate().filter(|&(_, score)| score >= kth).collect(),
            _ => indices.iter().copied().zip(best.iter().copied()).collect(),
        };
        softmax(kept.iter_mut().map(|(_, score)| score));
        kept
    });
    Sparse { heads: reading.scores.dim().1, lists: lists.collect() }
}

/// p̄: mean over all tokens, sequences and heads; [2, n]                                    [ADR-2]
pub fn marginal<S: Scalar>(usage: &Sparse<S>, sub_keys: usize) -> Array2<S> {
    let mut marginal = Array2::from_elem((2, sub_keys), S::ZERO);
    for (row, list) in usage.lists.iter().enumerate() {
        for &(sub_key, p) in list {
            marginal[[row % 2, sub_key]] = marginal[[row % 2, sub_key]] + p;
        }
    }
    let rows = S::from_f64(usage.rows().max(1) as f64);
    marginal.mapv_into(|sum| sum / rows)
}

/// H = -Σ p̄ ln(p̄ + e); a sub-key that is not used adds 0                                   [ADR-3]
///
/// ```
/// let entropy = fwpkm_reference::address::entropy(ndarray::arr1(&[0.5, 0.5, 0.0]).view(), 0.0);
/// assert!((entropy - 2.0f64.ln()).abs() < 1e-15);
/// ```
pub fn entropy<S: Scalar>(marginal: ArrayView1<S>, log_epsilon: f64) -> S {
    let e = S::from_f64(log_epsilon);
    let used = marginal.iter().filter(|&&p| p > S::ZERO);
    -used.fold(S::ZERO, |sum, &p| sum + p * (p + e).ln())
}

/// c = ln(p̄ + e) + p̄ / (p̄ + e), the slope of p̄ ln(p̄ + e); 0 for a sub-key that is not used   [ADR-4]
///
/// ```
/// assert_eq!(fwpkm_reference::address::entropy_slope(1.0, 0.0), 1.0);
/// ```
pub fn entropy_slope<S: Scalar>(p: S, log_epsilon: f64) -> S {
    let e = S::from_f64(log_epsilon);
    if p > S::ZERO { (p + e).ln() + p / (p + e) } else { S::ZERO }
}

/// Gradient of the addressing loss with respect to the kept half scores                    [ADR-4]
///
/// ```text
/// ∂loss/∂s_j = α/rows · p_j (c_j - Σ_i p_i c_i),   c_j = ln(p̄_j + e) + p̄_j / (p̄_j + e)
/// ```
pub fn half_score_gradient<S: Scalar>(
    settings: &Settings,
    rules: &Rules,
    usage: Sparse<S>,
    marginal: ArrayView2<S>,
) -> Sparse<S> {
    let slope = marginal.mapv(|p| entropy_slope(p, rules.log_epsilon));
    let scale = S::from_f64(settings.addressing_weight) / S::from_f64(usage.rows().max(1) as f64);
    let mut gradient = usage;
    for (row, list) in gradient.lists.iter_mut().enumerate() {
        let mean = list.iter().fold(S::ZERO, |sum, &(sub_key, p)| sum + p * slope[[row % 2, sub_key]]);
        for (sub_key, p) in list {
            *p = scale * *p * (slope[[row % 2, *sub_key]] - mean);
        }
    }
    gradient
}

/// Gradient with respect to the sub-keys, from that of half scores; [heads, 2, n, `d_k`/2]   [ADR-5]
///
/// ```text
/// inverse distance   ∂s/∂K = 2(q - K) / (ε + |q - K|²)          dot product   ∂s/∂K = q
/// ```
pub fn sub_key_gradient<S: Scalar>(
    settings: &Settings,
    sub_keys: ArrayView4<S>,
    queries: ArrayView4<S>,
    slopes: &Sparse<S>,
) -> Array4<S> {
    let mut gradient = Array4::from_elem(sub_keys.dim(), S::ZERO);
    for head in 0..settings.heads {
        let mut of_head = gradient.index_axis_mut(Axis(0), head);
        Zip::indexed(of_head.outer_iter_mut()).par_for_each(|half, mut gradient| {
            for (token, queries) in queries.outer_iter().enumerate() {
                let query = queries.slice(s![head, half, ..]);
                for &(sub_key, slope) in slopes.of(token, head, half) {
                    let key = sub_keys.slice(s![head, half, sub_key, ..]);
                    let row = Zip::from(gradient.row_mut(sub_key)).and(query).and(key);
                    match settings.score {
                        Score::InverseDistance { epsilon } => {
                            let x = S::from_f64(epsilon) + squared_distance(query, key);
                            let scale = slope * S::from_f64(2.0) / x;
                            row.for_each(|sum, &q, &k| *sum = *sum + scale * (q - k));
                        }
                        Score::DotProduct => row.for_each(|sum, &q, _| *sum = *sum + slope * q),
                    }
                }
            }
        });
    }
    gradient
}
