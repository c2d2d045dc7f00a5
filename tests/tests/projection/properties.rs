//! Properties of the maps to queries, values and gates.

use fwpkm_reference::projection::{gates, l2, linear, project, rms_norm, z_score};
use fwpkm_reference::rules::ZScore;
use fwpkm_reference::settings::Norm;
use fwpkm_reference::{Rules, Settings};
use ndarray::{Array1, s};
use proptest::prelude::*;

use crate::common::cases::cases;
use crate::common::{ROUNDING, projection, small, text};

fn numbers(length: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Array1<f64>> {
    prop::collection::vec(-100.0..100.0, length).prop_map(Array1::from)
}

proptest! {
    #![proptest_config(cases(128))]

    // With w = 0 the mean square becomes m/(m + ε); lengths beyond the 8 running sums.
    #[test]
    fn prop_prj_1_mean_square_becomes_nearly_one(x in numbers(1..20), epsilon in 1e-9..10.0f64) {
        let mean_square = |x: &Array1<f64>| x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        let normed = rms_norm(x.view(), Array1::zeros(x.len()).view(), epsilon);
        let expected = mean_square(&x) / (mean_square(&x) + epsilon);
        prop_assert!((mean_square(&normed) - expected).abs() < 20.0 * ROUNDING);
    }

    // The map is linear: W(x + y) + b = (Wx + b) + (Wy + b) - b.
    #[test]
    fn prop_prj_2_is_affine(x in numbers(11), y in numbers(11), w in numbers(33), b in numbers(3)) {
        let weight = w.into_shape_with_order((3, 11)).unwrap();
        let apply = |x: &Array1<f64>| {
            let mut out = Array1::zeros(3);
            linear(x.view(), weight.view(), b.view(), out.view_mut());
            out
        };
        let difference = apply(&(&x + &y)) - (apply(&x) + apply(&y) - &b);
        // 11 terms of at most 100·200, each with a few roundings
        prop_assert!(difference.iter().all(|x| x.abs() < 1e-9), "{difference}");
        prop_assert_eq!(apply(&Array1::zeros(11)), b.clone());
    }

    #[test]
    fn prop_prj_3_has_mean_zero_and_deviation_one(x in numbers(2..20), population in any::<bool>()) {
        let (rule, divisor) =
            if population { (ZScore::Population, x.len()) } else { (ZScore::Sample, x.len() - 1) };
        let moments = |x: &Array1<f64>| {
            let mean = x.sum() / x.len() as f64;
            (mean, (x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / divisor as f64).sqrt())
        };
        let (_, deviation) = moments(&x);
        prop_assume!(deviation > 1e-3);
        let mut y = x.clone();
        z_score(y.view_mut(), rule).unwrap();
        let (mean, found) = moments(&y);
        // Numbers up to 100 over a deviation of at least 1e-3
        prop_assert!(mean.abs() < 1e-9 && (found - deviation / (deviation + 1e-6)).abs() < 1e-9, "{mean} {found}");
        // The order and the distances stay: y is a positive multiple of x - mean.
        prop_assert!((y[0] - y[1]) * (x[0] - x[1]) >= 0.0);
    }

    #[test]
    fn prop_prj_4_has_length_one_and_the_same_direction(x in numbers(1..20)) {
        let square = |x: &Array1<f64>| x.iter().map(|x| x * x).sum::<f64>();
        let mut y = x.clone();
        l2(y.view_mut());
        prop_assert!((square(&y) - square(&x) / (square(&x) + 1e-6)).abs() < 20.0 * ROUNDING);
        let along = (&x * &y).sum();
        prop_assert!((along * along - square(&x) * square(&y)).abs() <= 1e-12 * square(&x) && along >= 0.0);
    }

    #[test]
    fn prop_prj_5_gates_are_between_zero_and_one(outputs in numbers(1..10)) {
        let outputs = outputs / 4.0;
        let gate = gates(&outputs.clone().insert_axis(ndarray::Axis(0)))[0];
        prop_assert!(gate > 0.0 && gate < 1.0);
        // sigmoid(x) = e^x · sigmoid(-x)
        let mirrored = gates(&(-&outputs).insert_axis(ndarray::Axis(0)))[0];
        let ratio = (outputs.sum() / outputs.len() as f64).exp();
        prop_assert!((gate - ratio * mirrored).abs() <= 1e-13 * gate);
    }

    #[test]
    fn prop_prj_6_each_half_of_a_query_has_length_one(seed in any::<u64>(), heads in 1..=3usize) {
        let settings = Settings { heads, query_norm: Norm::L2, ..small() };
        let maps = projection(&settings, 5, 0, seed);
        let hidden = text(&Settings { key_dim: 5, heads: 1, ..small() }, 1, 3, seed).queries;
        let hidden = hidden.index_axis(ndarray::Axis(0), 0);
        let found = project(&settings, &Rules::paper(), &maps, hidden).unwrap();
        let plain = project(&Settings { query_norm: Norm::None, ..settings }, &Rules::paper(), &maps, hidden).unwrap();
        let half = found.queries.ncols() / 2;
        for (row, plain) in found.queries.rows().into_iter().zip(plain.queries.rows()) {
            for (from, to) in [(0, half), (half, 2 * half)] {
                let (part, plain) = (row.slice(s![from..to]), plain.slice(s![from..to]));
                let (square, before) = (part.dot(&part), plain.dot(&plain));
                prop_assert!((square - before / (before + 1e-6)).abs() < 20.0 * ROUNDING);
            }
        }
        prop_assert_eq!(found.values, plain.values);
    }
}
