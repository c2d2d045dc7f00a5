//! Stage `read`: pair scores to weights, and the weighted sum of slots.

use crate::common::cases::{cases, reading_settings};
use crate::common::{ROUNDING, reading, refused, small, tables, text};
use approx::assert_abs_diff_eq;
use fwpkm_reference::read::{read, weigh};
use fwpkm_reference::settings::{Activation, Score, WeightsOver};
use fwpkm_reference::{Error, Memory, Rules, Settings};
use ndarray::{Array2, Array3, Axis, arr2, arr3};
use proptest::prelude::*;

fn softmax(temperature: f64, weights_over: WeightsOver) -> Settings {
    Settings { temperature, weights_over, ..small() }
}

// Scores ln 3 and 0: weights 3/4 and 1/4. With τ = 2 the ratio is √3, with τ = ½ it is 9.
#[test]
fn rd_1_softmax_of_scores_over_the_temperature() {
    for (temperature, ratio) in [(1.0, 3.0), (2.0, 3f64.sqrt()), (0.5, 9.0)] {
        let weights = weigh(&softmax(temperature, WeightsOver::AllHeads), arr3(&[[[3f64.ln(), 0.0]]]).view());
        assert_abs_diff_eq!(weights, arr3(&[[[ratio / (ratio + 1.0), 1.0 / (ratio + 1.0)]]]), epsilon = ROUNDING);
    }
}

// Two heads of two slots with e^score 1, 2 and 3, 4: the joint sum is 10, those of the heads 3 and 7.
#[test]
fn rd_1_runs_over_all_heads_or_over_each_head() {
    let scores = arr3(&[[[1.0, 2.0], [3.0, 4.0f64]]]).ln();
    let joint = weigh(&softmax(1.0, WeightsOver::AllHeads), scores.view());
    assert_abs_diff_eq!(joint, arr3(&[[[0.1, 0.2], [0.3, 0.4]]]), epsilon = ROUNDING);
    let each = weigh(&softmax(1.0, WeightsOver::EachHead), scores.view());
    assert_abs_diff_eq!(each, arr3(&[[[1.0 / 3.0, 2.0 / 3.0], [3.0 / 7.0, 4.0 / 7.0]]]), epsilon = ROUNDING);
}

// The largest is subtracted first: e^1000 and e^-1000 alone would give NaN.
#[test]
fn rd_1_large_scores_do_not_overflow() {
    for scores in [[1000.0, 1000.0 - 3f64.ln()], [-1000.0, -1000.0 - 3f64.ln()]] {
        let weights = weigh(&softmax(1.0, WeightsOver::AllHeads), arr3(&[[scores]]).view());
        assert_abs_diff_eq!(weights, arr3(&[[[0.75, 0.25]]]), epsilon = 1e-12);
    }
    let weights = weigh(&softmax(1.0, WeightsOver::AllHeads), arr3(&[[[-2000.0, 0.0]]]).view());
    assert_eq!(weights, arr3(&[[[0.0, 1.0]]]));
}

// H = 1, k = 1: whatever the score.
#[test]
fn rd_1_one_slot_has_weight_one() {
    for score in [-700.0, 0.0, 1e300] {
        assert_eq!(weigh(&softmax(1.0, WeightsOver::AllHeads), arr3(&[[[score]]]).view()), arr3(&[[[1.0]]]));
    }
}

#[test]
fn rd_1_temperature_must_be_a_positive_number() {
    for temperature in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(refused(Settings { temperature, ..small() }), "temperature");
    }
}

#[test]
fn rd_2_silu_and_relu_of_scores_over_the_temperature() {
    let scores = arr3(&[[[2.0, -2.0], [0.0, 6.0]]]);
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let silu = weigh(&Settings { activation: Activation::Silu, temperature: 2.0, ..small() }, scores.view());
    let expected = arr3(&[[[sigmoid(1.0), -sigmoid(-1.0)], [0.0, 3.0 * sigmoid(3.0)]]]);
    assert_abs_diff_eq!(silu, expected, epsilon = ROUNDING);
    let relu = weigh(&Settings { activation: Activation::Relu, temperature: 2.0, ..small() }, scores.view());
    assert_eq!(relu, arr3(&[[[1.0, 0.0], [0.0, 3.0]]]));
}

#[test]
fn rd_2_silu_of_large_scores_is_finite() {
    let silu = weigh(&Settings { activation: Activation::Silu, ..small() }, arr3(&[[[-1e4, 1e4]]]).view());
    assert_eq!(silu, arr3(&[[[0.0, 1e4]]]));
}

// Each entry stands alone, so a softmax per head would mean nothing here.
#[test]
fn rd_2_takes_no_other_scope_than_all_heads() {
    for activation in [Activation::Silu, Activation::Relu] {
        let settings = Settings { heads: 2, activation, ..small() };
        let tables = tables(&settings, 1);
        let settings = Settings { weights_over: WeightsOver::EachHead, ..settings };
        let refused = Memory::new(settings, Rules::paper(), tables).unwrap_err();
        assert!(refused.to_string().starts_with("setting weights_over is each_head; allowed: all_heads"), "{refused}");
    }
}

// Slot 1 is read by both heads: its weights add up.
#[test]
fn rd_3_adds_all_heads_and_places() {
    let values = arr2(&[[1.0, 100.0], [2.0, 200.0], [3.0, 300.0]]);
    let slots = arr3(&[[[0, 1], [1, 2]]]);
    let reads = read(values.view(), slots.view(), arr3(&[[[0.5, 0.25], [0.125, -2.0]]]).view()).unwrap();
    let expected = 0.5 + (0.25 + 0.125) * 2.0 - 6.0;
    assert_eq!(reads, arr2(&[[expected, 100.0 * expected]]));
}

// Weight 1 gives the slot's very bits.
#[test]
fn rd_3_one_slot_with_weight_one_is_copied() {
    let values = tables(&small(), 4).slot_values;
    let reads = read(values.view(), arr3(&[[[8]], [[0]]]).view(), arr3(&[[[1.0]], [[1.0]]]).view()).unwrap();
    assert_eq!(reads.row(0), values.row(8));
    assert_eq!(reads.row(1), values.row(0));
}

#[test]
fn rd_3_a_slot_beyond_the_table_is_refused() {
    let values = Array2::<f64>::zeros((4, 1));
    let slots = arr3(&[[[0, 1], [2, 3]], [[0, 0], [0, 4]]]);
    let refused = read(values.view(), slots.view(), Array3::zeros((2, 2, 2)).view()).unwrap_err();
    assert_eq!(refused, Error::SlotOutOfRange { token: 1, head: 1, slot: 4, slots: 4 });
}

proptest! {
    #![proptest_config(cases(128))]

    // softmax(-ln x) = (1/x)/Σ(1/x): the weights are normalised powers of inverse products of ε + d².
    #[test]
    fn prop_rd_1_inverse_distance_weights_are_normalised_inverse_products(
        settings in reading_settings(), seed in any::<u64>(),
    ) {
        let Score::InverseDistance { epsilon } = settings.score else { return Ok(()) };
        let settings = Settings { activation: Activation::Softmax, ..settings };
        let (tables, text) = (tables(&settings, seed), text(&settings, 1, 3, seed ^ 1));
        let found = reading(&settings, &tables, &text);
        let (n, half) = (settings.sub_keys, settings.key_dim / 2);
        for (t, weights) in found.weights.outer_iter().enumerate() {
            let inverse = |h: usize, slot: usize| -> f64 {
                let square = |m: usize, i: usize| -> f64 {
                    let q = |d: usize| text.queries[[0, t, h * settings.key_dim + m * half + d]];
                    (0..half).map(|d| (q(d) - tables.sub_keys[[h, m, i, d]]).powi(2)).sum()
                };
                ((epsilon + square(0, slot / n)) * (epsilon + square(1, slot % n))).powf(-1.0 / settings.temperature)
            };
            let slots = found.selected.slots.index_axis(Axis(0), t);
            let powers = Array2::from_shape_fn(weights.dim(), |(h, a)| inverse(h, slots[[h, a]]));
            for ((h, a), weight) in weights.indexed_iter() {
                let each = settings.weights_over == WeightsOver::EachHead;
                let total = if each { powers.row(h).sum() } else { powers.sum() };
                let expected = powers[[h, a]] / total;
                // Scores up to 14 over τ ≥ ½ turn roundings into relative errors of some 1e-14.
                prop_assert!((weight - expected).abs() <= 1e-12 * expected, "{weight} {expected}");
            }
        }
    }

    #[test]
    fn prop_rd_1_weights_are_positive_and_sum_to_one(settings in reading_settings(), seed in any::<u64>()) {
        let settings = Settings { activation: Activation::Softmax, ..settings };
        let found = reading(&settings, &tables(&settings, seed), &text(&settings, 2, 3, seed ^ 1));
        for token in found.weights.outer_iter() {
            prop_assert!(token.iter().all(|&weight| weight > 0.0));
            let sums = token.sum_axis(Axis(1));
            match settings.weights_over {
                WeightsOver::AllHeads => prop_assert!((sums.sum() - 1.0).abs() < ROUNDING),
                WeightsOver::EachHead => prop_assert!(sums.iter().all(|sum| (sum - 1.0).abs() < ROUNDING)),
            }
            // Best first: weights fall with the place.
            prop_assert!(token.rows().into_iter().all(|head| head.windows(2).into_iter().all(|w| w[0] >= w[1])));
        }
    }

    // The same reads from one dense matrix: weights scattered over all N slots, times the table.
    #[test]
    fn prop_rd_3_equals_the_dense_product(settings in reading_settings(), seed in any::<u64>()) {
        let tables = tables(&settings, seed);
        let found = reading(&settings, &tables, &text(&settings, 2, 4, seed ^ 1));
        let (mut dense, mut magnitude) =
            (Array2::<f64>::zeros((8, settings.slots())), Array2::<f64>::zeros((8, settings.slots())));
        for ((row, h, a), &slot) in found.selected.slots.indexed_iter() {
            dense[[row, slot]] += found.weights[[row, h, a]];
            magnitude[[row, slot]] += found.weights[[row, h, a]].abs();
        }
        // The bound of NUM-4 for both sides; those of the dense product have H·k roundings more, of adding up a slot's weights.
        let roundings = 2.0 * f64::EPSILON * (settings.heads * settings.top_k) as f64;
        let bound = magnitude.dot(&tables.slot_values.mapv(f64::abs)) * roundings + f64::MIN_POSITIVE;
        let error = (dense.dot(&tables.slot_values) - &found.reads).mapv(f64::abs);
        prop_assert!(error.iter().zip(&bound).all(|(error, bound)| error <= bound), "{error} {bound}");
    }
}
