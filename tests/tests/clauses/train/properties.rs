//! Outer gradients of random texts against dual numbers (by the oracle of the fuzz target `outer_gradients`) and central
//! differences.

use fwpkm::oracle::{Differentiated, gradients_hold};
use fwpkm_reference::settings::{Activation, Border};
use fwpkm_reference::{Settings, Tables};
use ndarray::{Array, Array2, Array3, Array4, Dimension, Zip, s};
use ndarray_rand::RandomExt;
use ndarray_rand::rand_distr::StandardNormal;
use proptest::prelude::*;

use super::{Asked, gradients, tape};
use crate::common::cases::{Case, cases, stream_case};
use crate::common::{Text, bits, margin, reading, rng, scale, tables};

/// So far along a direction
fn step<D: Dimension>(x: &Array<f64, D>, direction: &Array<f64, D>, h: f64) -> Array<f64, D> {
    Zip::from(x).and(direction).map_collect(|x, d| x + h * d)
}

/// Central difference of the loss along a direction in everything, and the gradient along it.
fn along(case: &Case, asked: &Asked, seed: u64) -> (f64, f64) {
    let (settings, rules) = (&case.settings, &case.rules);
    let (start, text) = (tables(settings, case.seed), case.text());
    let draw = |seed| rng(seed);
    let queries = Array3::random_using(text.queries.dim(), StandardNormal, &mut draw(seed));
    let values = Array3::random_using(text.values.dim(), StandardNormal, &mut draw(seed + 1));
    let sub_keys = Array4::random_using(start.sub_keys.dim(), StandardNormal, &mut draw(seed + 2));
    let slot_values = Array2::random_using(start.slot_values.dim(), StandardNormal, &mut draw(seed + 3));
    let gates = text.gates.as_ref().map(|gates| Array2::random_using(gates.dim(), StandardNormal, &mut draw(seed + 4)));
    let at = |h: f64| {
        let moved = Text {
            queries: step(&text.queries, &queries, h),
            values: step(&text.values, &values, h),
            gates: text.gates.as_ref().zip(gates.as_ref()).map(|(x, direction)| step(x, direction, h)),
            mask: text.mask.clone(),
        };
        let moved_tables = Tables {
            sub_keys: step(&start.sub_keys, &sub_keys, h),
            slot_values: step(&start.slot_values, &slot_values, h),
        };
        asked.loss(settings, rules, &moved_tables, &moved)
    };
    let h = 1e-5;
    let mut tape = tape(settings, rules, &start);
    tape.feed(&text.tokens()).unwrap();
    tape.flush().unwrap();
    let found = tape.backward(&asked.cotangents()).unwrap();
    let mut sum = (&found.queries * &queries).sum() + (&found.values * &values).sum();
    sum += (&found.tables.sub_keys * &sub_keys).sum() + (&found.tables.slot_values * &slot_values).sum();
    sum += found.gates.as_ref().zip(gates.as_ref()).map_or(0.0, |(found, gates)| (found * gates).sum());
    ((at(h) - at(-h)) / (2.0 * h), sum)
}

/// Whether rounding and a difference quotient stay away from every choice and kink
fn is_smooth(case: &Case) -> bool {
    let (settings, text) = (&case.settings, case.text());
    let apart = margin(&reading(settings, &tables(settings, case.seed), &text)) > 1e-2;
    apart && settings.gradient_clip.is_none() && settings.activation != Activation::Relu
}

proptest! {
    #![proptest_config(cases(96))]

    // Central differences know neither duals nor adjoints. One chunk, so that the choices of the reading are those of the step.
    #[test]
    fn prop_grd_1_is_what_central_differences_give(case in stream_case(), seed in any::<u16>()) {
        let settings = Settings { border: Border::Drop, chunk: 8, gradient_clip: None, ..case.settings };
        let case = Case { settings: Settings { lookahead: settings.lookahead.min(3), ..settings }, tokens: 1 + case.tokens % 6, ..case };
        prop_assume!(is_smooth(&case));
        let asked = Asked::random(&case.settings, &case.text(), u64::from(seed));
        let (differences, found) = along(&case, &asked, u64::from(seed) + 1);
        let size = scale(&ndarray::arr1(&[differences, found]));
        prop_assert!((differences - found).abs() <= 1e-5 * size, "{differences} {found}");
    }

    // Every border, rule and number of chunks, within the bounds of both sides.
    #[test]
    fn prop_grd_1_is_the_derivative_along_any_direction(case in stream_case(), seed in any::<u8>(), flush in any::<bool>()) {
        let tokens = case.tokens;
        let cuts = vec![tokens / 3, tokens / 2];
        let scene = case.scene();
        gradients_hold(&Differentiated { scene, cuts, flush, reset: None, seed: seed.into(), tables: true });
    }

    // E is linear in what is asked.
    #[test]
    fn prop_grd_1_is_linear_in_the_cotangents(case in stream_case()) {
        let (start, text) = (tables(&case.settings, case.seed), case.text());
        let asked = Asked::random(&case.settings, &text, case.seed + 5);
        let of = |factor: f64| {
            let reads = &asked.reads * factor;
            let tables = asked.tables.as_ref().map(|tables| Tables {
                sub_keys: &tables.sub_keys * factor,
                slot_values: &tables.slot_values * factor,
            });
            gradients(&case.settings, &start, &text, &Asked { reads, tables })
        };
        // A power of two changes no rounding.
        let (once, twice) = (of(1.0), of(2.0));
        prop_assert_eq!(bits(&(&once.queries * 2.0)), bits(&twice.queries));
        prop_assert_eq!(bits(&(&once.values * 2.0)), bits(&twice.values));
        prop_assert_eq!(once.gates.map(|gates| bits(&(gates * 2.0))), twice.gates.map(|gates| bits(&gates)));
        prop_assert_eq!(bits(&(&once.tables.sub_keys * 2.0)), bits(&twice.tables.sub_keys));
        prop_assert_eq!(bits(&(&once.tables.slot_values * 2.0)), bits(&twice.tables.slot_values));
        prop_assert!(twice.tables.slot_values.iter().any(|&x| x != 0.0));
    }

    // What comes later moves nothing before it.
    #[test]
    fn prop_grd_1_a_read_depends_on_nothing_after_it(case in stream_case()) {
        let (start, text) = (tables(&case.settings, case.seed), case.text());
        let mut asked = Asked { tables: None, ..Asked::random(&case.settings, &text, case.seed + 5) };
        let half = case.tokens / 2;
        asked.reads.slice_mut(s![.., half.., ..]).fill(0.0);
        let found = gradients(&case.settings, &start, &text, &asked);
        prop_assert!(found.queries.slice(s![.., half.., ..]).iter().all(|&x| x == 0.0));
        prop_assert!(found.values.slice(s![.., half.., ..]).iter().all(|&x| x == 0.0));
    }
}
