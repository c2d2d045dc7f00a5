//! NUM-2 to NUM-6, stage by stage: every number against the exact result of its stage, computed in f64 from the numbers that
//! the stage before gave.

use fwpkm_gpu::emulator::Emulator;
use fwpkm_gpu::{Memory, Reading};
use fwpkm_reference::address::{entropy, entropy_slope};
use fwpkm_reference::numerics::{
    HalfRow, Precision, SubKeyTerm, WriteTerm, addressing_loss_bound, descend_bound, dot_product_bound, entropy_bound,
    half_row, half_score_gradient_bounds, inverse_distance_bound, marginal_bounds, order_is_right, pair_loss_bound,
    pair_score_bound, read_bound, relu_bound, selection_is_right, silu_bound, softmax_bounds, sub_key_gradient_bound,
    value_gradient_bound,
};
use fwpkm_reference::rules::{PairFactor, ReadFactor};
use fwpkm_reference::settings::{Activation, Score, WeightsOver};
use fwpkm_reference::stream::Queued;
use fwpkm_reference::tables::descend;
use fwpkm_reference::{Settings, StepReport, Tables, read, score};
use ndarray::{Array2, Array3, ArrayView1, s};

const F32: Precision = Precision::F32;

/// The largest share of its bound that an error of each stage took.
#[derive(Debug, Default)]
pub(crate) struct Shares(pub(crate) std::collections::BTreeMap<&'static str, f64>);

impl Shares {
    fn check(&mut self, stage: &'static str, ours: f64, exact: f64, bound: f64) {
        let error = (ours - exact).abs();
        assert!(error <= bound, "{stage}: {ours} instead of {exact}, off by {error:e}, bound {bound:e}");
        let share = self.0.entry(stage).or_default();
        if bound > 0.0 {
            *share = share.max(error / bound);
        }
    }
}

fn wide(numbers: ArrayView1<f32>) -> Vec<f64> {
    numbers.iter().map(|&x| f64::from(x)).collect()
}

/// Score, select, read of some rows.
pub(crate) fn check_reading(
    shares: &mut Shares,
    settings: &Settings,
    tables: &Tables<f32>,
    queries: &Array3<f32>,
    reading: &Reading,
) {
    let rows = reading.reads.nrows();
    for row in 0..rows {
        let query = queries.slice(s![row / queries.dim().1, row % queries.dim().1, ..]);
        for head in 0..settings.heads {
            for half in 0..2 {
                check_half(shares, settings, tables, query, reading, (row, head, half));
            }
            check_pairs(settings, reading, row, head);
        }
        check_weights(shares, settings, reading, row);
    }
    check_reads(shares, tables, &reading.slots, &reading.weights, &reading.reads);
}

/// The score that a half value stands for, in f64
fn lifted(settings: &Settings, value: f32) -> f64 {
    match settings.score {
        Score::InverseDistance { .. } => -f64::from(value).ln(),
        Score::DotProduct => f64::from(value),
    }
}

fn check_half(
    shares: &mut Shares,
    settings: &Settings,
    tables: &Tables<f32>,
    query: ArrayView1<f32>,
    reading: &Reading,
    (row, head, half): (usize, usize, usize),
) {
    let m = settings.half_dim();
    let query = query.slice(s![(head * 2 + half) * m..(head * 2 + half + 1) * m]).mapv(f64::from);
    let (mut scores, mut bounds) = (Vec::new(), Vec::new());
    for i in 0..settings.sub_keys {
        let key = tables.sub_keys.slice(s![head, half, i, ..]).mapv(f64::from);
        match settings.score {
            Score::InverseDistance { epsilon } => {
                scores.push(score::inverse_distance(query.view(), key.view(), epsilon));
                bounds.push(inverse_distance_bound(F32, m, scores[i]));
            }
            Score::DotProduct => {
                scores.push(score::dot_product(query.view(), key.view()));
                bounds.push(dot_product_bound(F32, query.as_slice().unwrap(), key.as_slice().unwrap()));
            }
        }
    }
    let chosen = reading.half_indices.slice(s![row, head, half, ..]).to_vec();
    assert!(selection_is_right(&scores, &bounds, &chosen), "SEL-1: row {row} chose {chosen:?} of {scores:?}");
    assert!(order_is_right(&scores, &bounds, &chosen), "SEL-1: row {row} ordered {chosen:?} of {scores:?}");
    for (rank, &i) in chosen.iter().enumerate() {
        let ours = lifted(settings, reading.half_values[[row, head, half, rank]]);
        shares.check("score", ours, scores[i], bounds[i]);
    }
}

fn check_pairs(settings: &Settings, reading: &Reading, row: usize, head: usize) {
    let k = settings.top_k;
    let score = |half: usize, rank: usize| lifted(settings, reading.half_values[[row, head, half, rank]]);
    let sums: Vec<f64> = (0..k * k).map(|pair| score(0, pair / k) + score(1, pair % k)).collect();
    let bounds: Vec<f64> = sums.iter().map(|&sum| pair_score_bound(F32, sum)).collect();
    let ranks = |place: usize| (reading.ranks[[row, head, place, 0]], reading.ranks[[row, head, place, 1]]);
    let chosen: Vec<usize> = (0..k).map(|place| ranks(place).0 * k + ranks(place).1).collect();
    assert!(selection_is_right(&sums, &bounds, &chosen), "SEL-2: row {row} chose {chosen:?}");
    assert!(order_is_right(&sums, &bounds, &chosen), "SEL-2: row {row} ordered {chosen:?}");
    for place in 0..k {
        let index = |half: usize, rank: usize| reading.half_indices[[row, head, half, rank]];
        let slot = index(0, ranks(place).0) * settings.sub_keys + index(1, ranks(place).1);
        assert_eq!(reading.slots[[row, head, place]], slot, "SEL-3: row {row}");
    }
}

fn check_weights(shares: &mut Shares, settings: &Settings, reading: &Reading, row: usize) {
    let dot = settings.score == Score::DotProduct;
    let merits = reading.merits.slice(s![row, .., ..]).mapv(|merit| if dot { -merit } else { -merit.ln() });
    let scores = merits.insert_axis(ndarray::Axis(0));
    let exact = read::weigh(settings, scores.view());
    let flat: Vec<f64> = scores.iter().copied().collect();
    let group = match settings.weights_over {
        WeightsOver::AllHeads => flat.len(),
        WeightsOver::EachHead => settings.top_k,
    };
    let bounds: Vec<f64> = match settings.activation {
        Activation::Softmax => {
            flat.chunks(group).flat_map(|group| softmax_bounds(F32, group, settings.temperature)).collect()
        }
        Activation::Silu => flat.iter().map(|&score| silu_bound(F32, score, settings.temperature)).collect(),
        Activation::Relu => flat.iter().map(|&score| relu_bound(F32, score, settings.temperature)).collect(),
    };
    for ((&ours, &exact), &bound) in reading.weights.slice(s![row, .., ..]).iter().zip(&exact).zip(&bounds) {
        shares.check("weights", f64::from(ours), exact, bound);
    }
}

/// Reads from the weights and slots they were made of; rows × entries.
pub(crate) fn check_reads(
    shares: &mut Shares,
    tables: &Tables<f32>,
    slots: &Array3<usize>,
    weights: &Array3<f32>,
    reads: &Array2<f32>,
) {
    for (row, read) in reads.rows().into_iter().enumerate() {
        let slots = slots.slice(s![row, .., ..]);
        let weights: Vec<f64> = weights.slice(s![row, .., ..]).iter().map(|&w| f64::from(w)).collect();
        for (d, &ours) in read.iter().enumerate() {
            let values: Vec<f64> = slots.iter().map(|&slot| f64::from(tables.slot_values[[slot, d]])).collect();
            let exact = weights.iter().zip(&values).map(|(w, v)| w * v).sum();
            shares.check("reads", f64::from(ours), exact, read_bound(F32, &weights, &values));
        }
    }
}

/// A step, with what it was computed from.
pub(crate) struct StepScene<'a> {
    pub(crate) memory: &'a Memory<Emulator>,
    pub(crate) before: &'a Tables<f32>,
    pub(crate) after: &'a Tables<f32>,
    /// All queued tokens, those of the chunk first.
    pub(crate) queue: &'a Queued<f32>,
    /// Tokens of the chunk.
    pub(crate) tokens: usize,
    /// Slots that `N_i` counts, if not those of the reading.
    pub(crate) counted: Option<&'a Array3<usize>>,
    pub(crate) reading: &'a Reading,
    pub(crate) report: &'a StepReport<f32>,
}

/// Losses, both steps, marginal, entropy.
pub(crate) fn check_step(shares: &mut Shares, scene: &StepScene) {
    check_memorize(shares, scene);
    check_address(shares, scene);
}

fn check_memorize(shares: &mut Shares, scene: &StepScene) {
    let (settings, rules, queue) = (scene.memory.settings(), scene.memory.rules(), scene.queue);
    let sequences = queue.queries.dim().1;
    let pairs = scene.tokens.min(queue.queries.dim().0.saturating_sub(settings.lookahead));
    let counted = scene.counted.unwrap_or(&scene.reading.slots);
    assert_eq!(scene.report.pair_losses.dim(), (pairs, sequences));
    let mut residuals = Vec::new();
    let mut weights = Vec::new();
    for row in 0..pairs * sequences {
        let (token, sequence) = (row / sequences, row % sequences);
        let target = wide(queue.values.slice(s![token + settings.lookahead, sequence, ..]));
        let read = wide(scene.reading.reads.row(row));
        let residual: Vec<f64> = read.iter().zip(&target).map(|(read, target)| read - target).collect();
        let present = queue.mask.as_ref().is_none_or(|mask| mask[[token, sequence]]);
        let gate = queue.gates.as_ref().map_or(1.0, |gates| f64::from(gates[[token, sequence]]));
        let f = if present { gate } else { 0.0 };
        let loss = f * residual.iter().map(|x| x * x).sum::<f64>() / settings.value_dim as f64;
        let ours = f64::from(scene.report.pair_losses[[token, sequence]]);
        shares.check("pair losses", ours, loss, pair_loss_bound(F32, f, &residual));
        residuals.push(residual);
        weights.push(f);
    }
    let read_factor = match rules.read_factor {
        ReadFactor::One => 1.0,
        ReadFactor::SlotsPerToken => (settings.heads * settings.top_k) as f64,
    };
    let samples = queue
        .mask
        .as_ref()
        .map_or(counted.dim().0, |mask| mask.slice(s![..pairs, ..]).iter().filter(|&&present| present).count());
    let pair_factor = match rules.pair_factor {
        PairFactor::One => 1.0,
        PairFactor::SamplesPerPair => samples as f64 / (pairs * sequences).max(1) as f64,
    };
    let mut counts = vec![0_usize; settings.slots()];
    let mut writes: Vec<Vec<(usize, f64)>> = vec![Vec::new(); settings.slots()];
    for &slot in counted {
        counts[slot] += 1;
    }
    for ((row, head, place), &slot) in scene.reading.slots.indexed_iter() {
        if row < weights.len() && weights[row] != 0.0 {
            writes[slot].push((row, f64::from(scene.reading.weights[[row, head, place]])));
        }
    }
    let factor = read_factor * pair_factor;
    let touched = counts.iter().zip(&writes).filter(|(count, writes)| **count > 0 || !writes.is_empty()).count();
    assert_eq!(scene.report.slots_touched, touched, "MEM-3");
    for (slot, writes) in writes.iter().enumerate() {
        for (d, &after) in scene.after.slot_values.row(slot).iter().enumerate() {
            let terms: Vec<WriteTerm> = writes
                .iter()
                .map(|&(row, weight)| WriteTerm { pair_weight: weights[row], weight, residual: residuals[row][d] })
                .collect();
            let sum: f64 = terms.iter().map(|term| term.pair_weight * term.weight * term.residual).sum();
            let gradient = factor / counts[slot].max(1) as f64 * sum;
            let bound = value_gradient_bound(F32, factor, counts[slot], &terms);
            let before = scene.before.slot_values[[slot, d]];
            if terms.is_empty() && settings.weight_decay == 0.0 {
                assert_eq!(before.to_bits(), after.to_bits(), "MEM-5: slot {slot} was not written");
            }
            check_descent(shares, "slot values", settings, (before, after), gradient, bound);
        }
    }
}

fn check_descent(
    shares: &mut Shares,
    stage: &'static str,
    settings: &Settings,
    (before, after): (f32, f32),
    gradient: f64,
    bound: f64,
) {
    let before = f64::from(before);
    // The descent's own bound grows with the gradient it was given, which may be off by its bound.
    let own = descend_bound(F32, settings, before, gradient.abs() + bound)
        .max(descend_bound(F32, settings, before, gradient));
    let own = own.max(descend_bound(F32, settings, before, -gradient.abs() - bound));
    shares.check(stage, f64::from(after), descend(settings, before, gradient), own + settings.learning_rate * bound);
}

fn check_address(shares: &mut Shares, scene: &StepScene) {
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
