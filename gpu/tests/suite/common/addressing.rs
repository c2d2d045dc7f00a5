//! ADR within NUM-2 to NUM-5: marginal, entropy, loss and the sub-key step.

use fwpkm_reference::address::{entropy, entropy_slope};
use fwpkm_reference::numerics::{
    HalfRow, SubKeyTerm, addressing_loss_bound, entropy_bound, half_row, half_score_gradient_bounds, marginal_bounds,
    sub_key_gradient_bound,
};
use fwpkm_reference::settings::Score;
use ndarray::s;

use super::stages::{F32, Shares, lifted, wide};
use super::steps::{StepScene, check_descent};

pub(crate) fn check_address(shares: &mut Shares, scene: &StepScene) {
    let (settings, e) = (scene.memory.settings(), scene.memory.rules().log_epsilon);
    let marginal = scene.memory.last_marginal().unwrap();
    for half in 0..2 {
        let units = units(scene, half);
        let p = wide(marginal.row(half));
        check_marginal(shares, &units, &p);
        let ours = f64::from(scene.report.entropy[half]);
        shares.check("entropy", ours, entropy(ndarray::aview1(&p), e), entropy_bound(F32, &p, e, None));
        // MEM-6 has no bound.
        if !settings.memory_gradient_to_sub_keys {
            check_sub_keys(shares, scene, half, &units, &p);
        }
    }
    let (alpha, entropies) = (settings.addressing_weight, scene.report.entropy.map(f64::from));
    let exact = alpha * (-entropies[0] - entropies[1]);
    let bound = addressing_loss_bound(F32, alpha, entropies);
    shares.check("addressing loss", f64::from(scene.report.addressing_loss), exact, bound);
}

/// The kept sub-keys of every (row, head) in one half; no scene has ties
fn units(scene: &StepScene, half: usize) -> Vec<HalfRow> {
    let (rows, heads) = (scene.reading.reads.nrows(), scene.memory.settings().heads);
    let unit = |at: usize| {
        let at = s![at / heads, at % heads, half, ..];
        let values = scene.reading.half_values.slice(at);
        let scores: Vec<f64> = values.iter().map(|&value| lifted(scene.memory.settings(), value)).collect();
        half_row(F32, &scene.reading.half_indices.slice(at).to_vec(), &scores)
    };
    (0..rows * heads).map(unit).collect()
}

fn check_marginal(shares: &mut Shares, units: &[HalfRow], ours: &[f64]) {
    let mut exact = vec![0.0; ours.len()];
    for unit in units {
        for (&key, p) in unit.sub_keys.iter().zip(&unit.usage) {
            exact[key] += p / units.len() as f64;
        }
    }
    for ((ours, exact), bound) in ours.iter().zip(exact).zip(marginal_bounds(F32, units, ours.len())) {
        shares.check("marginal", *ours, exact, bound);
    }
}

/// Per (head, sub-key): the rows that keep it, each with the gradient of its half score
fn score_gradients(scene: &StepScene, units: &[HalfRow], marginal: &[f64]) -> Vec<Vec<(usize, SubKeyTerm)>> {
    let (settings, e) = (scene.memory.settings(), scene.memory.rules().log_epsilon);
    let (n, heads, alpha) = (settings.sub_keys, settings.heads, settings.addressing_weight);
    let mut terms = vec![Vec::new(); heads * n];
    for (unit, row) in units.iter().enumerate() {
        let bounds = half_score_gradient_bounds(F32, row, alpha, units.len(), e, marginal, &vec![0.0; n]);
        let slope = |key: usize| entropy_slope(marginal[key], e);
        let mean: f64 = row.sub_keys.iter().zip(&row.usage).map(|(&key, p)| p * slope(key)).sum();
        for ((&key, p), bound) in row.sub_keys.iter().zip(&row.usage).zip(bounds) {
            let score_gradient = alpha / units.len() as f64 * p * (slope(key) - mean);
            let term = SubKeyTerm { score_gradient, score_gradient_bound: bound, difference: 0.0, derivative: 0.0 };
            terms[unit % heads * n + key].push((unit / heads, term));
        }
    }
    terms
}

fn check_sub_keys(shares: &mut Shares, scene: &StepScene, half: usize, units: &[HalfRow], marginal: &[f64]) {
    let settings = scene.memory.settings();
    let (n, m) = (settings.sub_keys, settings.half_dim());
    for (at, rows) in score_gradients(scene, units, marginal).into_iter().enumerate() {
        let (head, i) = (at / n, at % n);
        let key = wide(scene.before.sub_keys.slice(s![head, half, i, ..]));
        let queries: Vec<Vec<f64>> = rows.iter().map(|&(row, _)| query_of(scene, row, head, half)).collect();
        for d in 0..m {
            let terms: Vec<SubKeyTerm> = rows
                .iter()
                .zip(&queries)
                .map(|(&(_, term), query)| {
                    let (difference, derivative) = derivative(settings.score, query, &key, d);
                    SubKeyTerm { difference, derivative, ..term }
                })
                .collect();
            let gradient: f64 = terms.iter().map(|term| term.score_gradient * term.derivative).sum();
            let bound = sub_key_gradient_bound(F32, settings.score, m, &terms);
            let tables = (scene.before.sub_keys[[head, half, i, d]], scene.after.sub_keys[[head, half, i, d]]);
            check_descent(shares, "sub-keys", settings, tables, gradient, bound);
        }
    }
}

fn query_of(scene: &StepScene, row: usize, head: usize, half: usize) -> Vec<f64> {
    let (sequences, m) = (scene.queue.queries.dim().1, scene.memory.settings().half_dim());
    let from = (head * 2 + half) * m;
    wide(scene.queue.queries.slice(s![row / sequences, row % sequences, from..from + m]))
}

/// q - K (dot product: q) of one number, and D of ADR-5
fn derivative(score: Score, query: &[f64], key: &[f64], d: usize) -> (f64, f64) {
    match score {
        Score::InverseDistance { epsilon } => {
            let distance: f64 = query.iter().zip(key).map(|(q, k)| (q - k) * (q - k)).sum();
            (query[d] - key[d], 2.0 * (query[d] - key[d]) / (epsilon + distance))
        }
        Score::DotProduct => (query[d], query[d]),
    }
}
