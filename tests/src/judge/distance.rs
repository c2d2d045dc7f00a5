//! The two forms of the distance: from the differences, or expanded.                            NUM-2

use fwpkm_reference::address::{Addressed, entropy, half_score_gradient, marginal, usage};
use fwpkm_reference::chunk::{Chunk, Reading, Stages};
use fwpkm_reference::scalar::sum_over;
use fwpkm_reference::settings::Score;
use fwpkm_reference::{Rules, Scalar, Settings, Tables};
use ndarray::{Array4, ArrayView4, Axis, s};
use serde::{Deserialize, Serialize};

/// How an implementation takes |q - K|².
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Distance {
    /// Σ(q - K)²
    #[default]
    Direct,
    /// |q|² + |K|² - 2·q·K, as torch.cdist does from 26 rows on
    Expanded,
}

impl Distance {
    /// As in files and arguments.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Expanded => "expanded",
        }
    }

    /// The stages that take distances so.
    pub fn stages<S: Scalar>(self, stages: Stages<S>) -> Stages<S> {
        match self {
            Self::Direct => stages,
            Self::Expanded => Stages { score: half_scores, address, ..stages },
        }
    }
}

/// -ln(ε + |q|² + |K|² - 2·q·K); a negative distance counts as 0
fn half_scores<S: Scalar>(settings: &Settings, sub_keys: ArrayView4<S>, queries: ArrayView4<S>) -> Array4<S> {
    let Score::InverseDistance { epsilon } = settings.score else {
        return fwpkm_reference::score::half_scores(settings, sub_keys, queries);
    };
    let (rows, heads, _, _) = queries.dim();
    Array4::from_shape_fn((rows, heads, 2, sub_keys.dim().2), |(row, head, half, i)| {
        let (query, key) = (queries.slice(s![row, head, half, ..]), sub_keys.slice(s![head, half, i, ..]));
        let squares = sum_over(query, query, |a, b| a * b) + sum_over(key, key, |a, b| a * b);
        let distance = squares - S::from_f64(2.0) * sum_over(query, key, |a, b| a * b);
        -(S::from_f64(epsilon) + distance.max(S::ZERO)).ln()
    })
}

/// The addressing stage whose ∂s/∂K divides by the distance that the score was made of
fn address<S: Scalar>(
    settings: &Settings,
    rules: &Rules,
    tables: &Tables<S>,
    chunk: &Chunk<S>,
    reading: &Reading<S>,
    memory_gradient: Option<&Array4<S>>,
) -> Addressed<S> {
    let mut addressed = fwpkm_reference::address::address(settings, rules, tables, chunk, reading, memory_gradient);
    if settings.score == Score::DotProduct {
        return addressed;
    }
    let usage = usage(rules, reading);
    let marginal = marginal(&usage, settings.sub_keys);
    addressed.entropy = marginal.map_axis(Axis(1), |marginal| entropy(marginal, rules.log_epsilon));
    let mut slopes = half_score_gradient(settings, rules, usage, marginal.view());
    if let Some(gradient) = memory_gradient {
        slopes.add_chosen(reading, gradient);
    }
    let queries = chunk.query_halves(settings);
    let mut gradient = Array4::from_elem(tables.sub_keys.dim(), S::ZERO);
    for (row, head, half) in ndarray::indices((queries.dim().0, settings.heads, 2)) {
        for &(i, slope) in slopes.of(row, head, half) {
            // ε + |q - K|² = e^-s
            let x = (-reading.scores[[row, head, half, i]]).exp();
            let scale = slope * S::from_f64(2.0) / x;
            for d in 0..settings.half_dim() {
                let at = [head, half, i, d];
                let difference = queries[[row, head, half, d]] - tables.sub_keys[at];
                gradient[at] = gradient[at] + scale * difference;
            }
        }
    }
    addressed.sub_key_gradient = gradient;
    addressed
}
