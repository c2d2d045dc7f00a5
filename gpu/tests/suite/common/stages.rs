//! NUM-2 to NUM-6, stage by stage: every number against the exact result of its stage, computed in f64 from the numbers that
//! the stage before gave.

use fwpkm_gpu::Reading;
use fwpkm_reference::numerics::{
    Precision, dot_product_bound, inverse_distance_bound, order_is_right, pair_score_bound, read_bound, relu_bound,
    selection_is_right, silu_bound, softmax_bounds,
};
use fwpkm_reference::settings::{Activation, Score, WeightsOver};
use fwpkm_reference::{Settings, Tables, read, score};
use ndarray::{Array2, Array3, ArrayView1, s};

pub(crate) const F32: Precision = Precision::F32;

/// The largest share of its bound that an error of each stage took.
#[derive(Debug, Default)]
pub(crate) struct Shares(pub(crate) std::collections::BTreeMap<&'static str, f64>);

impl Shares {
    pub(crate) fn check(&mut self, stage: &'static str, ours: f64, exact: f64, bound: f64) {
        let error = (ours - exact).abs();
        assert!(error <= bound, "{stage}: {ours} instead of {exact}, off by {error:e}, bound {bound:e}");
        let share = self.0.entry(stage).or_default();
        if bound > 0.0 {
            *share = share.max(error / bound);
        }
    }
}

pub(crate) fn wide(numbers: ArrayView1<f32>) -> Vec<f64> {
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
pub(crate) fn lifted(settings: &Settings, value: f32) -> f64 {
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
