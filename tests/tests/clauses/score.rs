//! Stage `score`: queries and sub-keys to half scores.

use crate::common;
use crate::common::cases::{cases, reading_settings};
use crate::common::{ROUNDING, Text, margin, reading, refused, small, tables, text};
use approx::assert_abs_diff_eq;
use fwpkm_reference::score::{dot_product, inverse_distance};
use fwpkm_reference::settings::Score;
use fwpkm_reference::{Settings, Tables};
use ndarray::{Array1, Array2, Array4, arr1, array};
use proptest::prelude::*;

fn idw(epsilon: f64) -> Score {
    Score::InverseDistance { epsilon }
}

/// The half scores of one token, flat in the order head, half, sub-key.
fn scores(settings: &Settings, sub_keys: Array4<f64>, query: &[f64]) -> Vec<f64> {
    let slot_values = Array2::zeros((settings.slots(), settings.value_dim));
    let text = Text {
        queries: ndarray::aview1(query).to_shape((1, 1, query.len())).unwrap().to_owned(),
        ..text(settings, 1, 1, 0)
    };
    reading(settings, &Tables { sub_keys, slot_values }, &text).scores.into_raw_vec_and_offset().0
}

// The square of the distance stands inside the logarithm: 3² + 4² = 25, not 5.
#[test]
fn scr_1_is_minus_the_logarithm_of_epsilon_plus_the_squared_distance() {
    let score = inverse_distance(arr1(&[1.0, 2.0]).view(), arr1(&[4.0, -2.0]).view(), 1.0);
    assert_abs_diff_eq!(score, -26f64.ln(), epsilon = ROUNDING);
    assert_abs_diff_eq!(
        inverse_distance(arr1(&[7.0]).view(), arr1(&[7.0]).view(), 1e-3),
        1e3f64.ln(),
        epsilon = ROUNDING
    );
}

// An exact hit far from the origin: |q|² + |K|² - 2q·K would lose all digits of 1e-3.
#[test]
fn scr_1_keeps_a_near_hit_far_from_the_origin() {
    let key = Array1::from_elem(9, 1e8);
    assert_eq!(inverse_distance(key.view(), key.view(), 1e-3), -(1e-3f64).ln());
    let mut query = key.clone();
    query[8] += 0.25;
    assert_eq!(inverse_distance(query.view(), key.view(), 1e-3), -(1e-3 + 0.0625f64).ln());
}

// Two heads, d_k = 4, n = 2, all numbers different: query numbers 0-1 are half 0 of head 0, 2-3 half 1, 4-5 half 0 of head 1, ….
#[test]
fn scr_1_a_head_takes_its_own_numbers_of_the_query_and_its_own_sub_keys() {
    let settings = Settings { heads: 2, sub_keys: 2, score: idw(1.0), ..small() };
    let sub_keys = array![
        [[[10.0, 20.0], [11.0, 20.0]], [[30.0, 40.0], [30.0, 42.0]]],
        [[[50.0, 60.0], [53.0, 60.0]], [[70.0, 80.0], [70.0, 84.0]]]
    ];
    let found = scores(&settings, sub_keys, &[10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0]);
    let squares = [0.0, 1.0, 0.0, 4.0, 0.0, 9.0, 0.0, 16.0f64];
    assert_eq!(found, squares.map(|square| -(1.0 + square).ln()));
}

// The smallest query: d_k = 2, one number per half, one sub-key.
#[test]
fn scr_1_one_number_per_half() {
    let settings = Settings { sub_keys: 1, top_k: 1, key_dim: 2, ..small() };
    let found = scores(&settings, array![[[[1.0]], [[-1.0]]]], &[0.0, 0.0]);
    assert_eq!(found, [-(1e-3 + 1.0f64).ln(); 2]);
}

#[test]
fn scr_1_epsilon_must_be_a_positive_number() {
    for epsilon in [0.0, -1e-3, f64::NAN, f64::INFINITY] {
        assert_eq!(refused(Settings { score: idw(epsilon), ..small() }), "epsilon");
    }
    assert_eq!(refused(Settings { score: idw(f64::MIN_POSITIVE), ..small() }), "");
}

#[test]
fn scr_1_key_dim_must_be_even_and_positive() {
    for key_dim in [0, 1, 3, usize::MAX] {
        assert_eq!(refused(Settings { key_dim, ..small() }), "key_dim");
    }
    assert_eq!(refused(Settings { heads: 0, ..small() }), "heads");
    assert_eq!(refused(Settings { sub_keys: 0, ..small() }), "sub_keys");
}

#[test]
fn scr_2_is_the_dot_product_of_halves() {
    let settings = Settings { heads: 1, sub_keys: 2, score: Score::DotProduct, ..small() };
    let sub_keys = array![[[[1.0, 0.0], [0.0, 1.0]], [[1.0, 1.0], [-1.0, 0.5]]]];
    assert_eq!(scores(&settings, sub_keys, &[1.0, 2.0, 3.0, 4.0]), [1.0, 2.0, 7.0, -1.0]);
}

#[test]
fn scr_2_has_no_epsilon_and_may_be_negative_or_zero() {
    assert_eq!(dot_product(arr1(&[1.0, -2.0]).view(), arr1(&[2.0, 1.0]).view()), 0.0);
    assert_eq!(dot_product(arr1(&[3.0]).view(), arr1(&[-5.0]).view()), -15.0);
}

/// γ(c) of the specification, in f64.
fn gamma(c: usize) -> f64 {
    let error = c as f64 * f64::EPSILON / 2.0;
    error / (1.0 - error)
}

fn vectors() -> impl Strategy<Value = (Vec<f64>, Vec<f64>)> {
    // Lengths around the 8 running sums: below, at, above, two blocks and a rest.
    prop_oneof![Just(1), Just(7), Just(8), Just(9), Just(19)]
        .prop_flat_map(|m| (prop::collection::vec(-3.0..3.0, m), prop::collection::vec(-3.0..3.0, m)))
}

proptest! {
    #![proptest_config(cases(128))]

    // Twice the bound of NUM-2: both sides round.
    #[test]
    fn prop_scr_1_agrees_with_the_plain_sum((q, k) in vectors(), epsilon in 1e-6..1.0f64) {
        let square: f64 = q.iter().zip(&k).rev().map(|(q, k)| (q - k).powi(2)).sum();
        let expected = (1.0 / (epsilon + square)).ln();
        let found = inverse_distance(Array1::from(q.clone()).view(), Array1::from(k).view(), epsilon);
        let bound = 2.0 * (gamma(q.len() + 5) + 4.0 * gamma(1) * expected.abs());
        prop_assert!((found - expected).abs() <= bound, "{found} {expected}");
    }

    #[test]
    fn prop_scr_2_agrees_with_the_plain_sum((q, k) in vectors()) {
        let expected: f64 = q.iter().zip(&k).rev().map(|(q, k)| q * k).sum();
        let magnitude: f64 = q.iter().zip(&k).map(|(q, k)| (q * k).abs()).sum();
        let found = dot_product(Array1::from(q.clone()).view(), Array1::from(k).view());
        prop_assert!((found - expected).abs() <= 2.0 * gamma(q.len()) * magnitude, "{found} {expected}");
    }

    // Distances do not see where the origin is. A vector per half, shared by its queries and sub-keys, of all heads.
    #[test]
    fn prop_scr_1_moving_queries_and_sub_keys_alike_keeps_the_selection(
        settings in reading_settings(),
        seed in any::<u64>(),
        by in prop::collection::vec(-10.0..10.0, 2 * 3),
    ) {
        let Score::InverseDistance { .. } = settings.score else { return Ok(()) };
        let (tables, text, half) = (tables(&settings, seed), text(&settings, 2, 5, seed ^ 1), settings.key_dim / 2);
        let before = reading(&settings, &tables, &text);
        // Numbers of at most 12 move a score by some 1e-12 at ε = 1e-3.
        prop_assume!(margin(&before) > 1e-9);
        let (mut moved, mut moved_text) = (tables.clone(), text.clone());
        for ((_, m, _, d), x) in moved.sub_keys.indexed_iter_mut() {
            *x += by[m * half + d];
        }
        for ((_, _, d), x) in moved_text.queries.indexed_iter_mut() {
            *x += by[d % settings.key_dim];
        }
        let after = reading(&settings, &moved, &moved_text);
        prop_assert_eq!(&after.selected.slots, &before.selected.slots);
        let scale = common::scale(&before.reads);
        prop_assert!((&after.reads - &before.reads).iter().all(|x| x.abs() < 1e-9 * scale));
    }
}
