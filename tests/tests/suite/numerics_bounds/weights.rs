//! NUM-3: weights.

use fwpkm_reference::numerics::{Precision, relu_bound, silu_bound, softmax_bounds};
use fwpkm_reference::read::weigh;
use fwpkm_reference::settings::{Activation, Settings, WeightsOver};
use ndarray::{Array1, Array3};
use ndarray_rand::rand::Rng;
use proptest::prelude::*;

use super::observed::Observed;
use super::scenes::{cases, exact, rng, uniform};

/// Weights of the interpreter for one token, f32 and f64
fn weights(settings: &Settings, scores: &Array3<f32>) -> (Array3<f32>, Array3<f64>) {
    (weigh(settings, scores.view()), weigh(settings, exact(scores).view()))
}

/// Checks one softmax group per token
fn check_softmax(observed: &mut Observed, temperature: f64, group: &Array1<f32>) {
    let settings = Settings { temperature, ..Settings::paper() };
    let scores = group.clone().into_shape_with_order((1, 1, group.len())).unwrap();
    let (computed, expected) = weights(&settings, &scores);
    let bounds = softmax_bounds(Precision::F32, &exact(group).to_vec(), temperature);
    for ((&computed, &w), bound) in computed.iter().zip(&expected).zip(bounds) {
        observed.within(f64::from(computed), w, bound);
    }
}

/// Groups of r scores that are hard in different ways, with |s| up to about `largest`
fn hard_groups(r: usize, largest: f32, seed: u64) -> Vec<Array1<f32>> {
    let mut rng = rng(seed);
    let mut groups = vec![Array1::from_elem(r, 0.3 * largest)];
    for _ in 0..40 {
        groups.push(uniform(r, -largest, largest, &mut rng));
        // near the largest, where the weights are not small
        let top: f32 = rng.random_range(-largest..largest);
        groups.push(uniform(r, 0.0, 2.0, &mut rng).mapv(|x| top - x));
        // one entry above many equal ones: equal terms, whose roundings all lean to one side
        let below: f32 = rng.random_range(0.0..3.0);
        groups.push(Array1::from_shape_fn(r, |i| if i == 0 { top } else { top - below }));
    }
    groups
}

#[test]
fn num_3_softmax() {
    // r = H·k: one slot, the smallest group, the paper's 8, static PKM's 4·32, and a sum long enough to drift
    for r in [1, 2, 3, 8, 128, 5000] {
        let mut observed = Observed::new(format!("softmax, r = {r}"));
        for group in hard_groups(r, 14.0, 31) {
            check_softmax(&mut observed, 1.0, &group);
        }
        // Seen, from r = 2: 0.14, 0.19, 0.20, 0.22, 0.24. One slot has weight 1 without any rounding.
        observed.comes_close(if r == 1 { 0.0 } else { 1.0 / 50.0 });
    }
}

#[test]
fn num_3_softmax_with_a_temperature() {
    for temperature in [0.01, 0.3, 7.0] {
        let mut observed = Observed::new(format!("softmax, τ = {temperature}"));
        for r in [2, 8, 100] {
            for group in hard_groups(r, 28.0, 32) {
                check_softmax(&mut observed, temperature, &group);
            }
        }
        // Seen: 0.22, 0.30, 0.16.
        observed.comes_close(1.0 / 50.0);
    }
    // |x| so large that e comes from 3·u·|x| alone, up to the constraint e ≤ 1/16
    let mut observed = Observed::new("softmax, large |s/τ|");
    for group in hard_groups(2, 3.0e4, 33) {
        check_softmax(&mut observed, 0.1, &group);
    }
    // Seen: 0.20.
    observed.comes_close(1.0 / 50.0);
}

#[test]
fn num_3_softmax_that_underflows() {
    let mut observed = Observed::new("softmax, weights around and below ω");
    for temperature in [1.0, 0.9] {
        let scores = (0..4000u16).map(|i| 12.0 - 0.03 * f32::from(i)).collect::<Vec<_>>();
        for group in scores.chunks(2).map(|pair| Array1::from_vec(vec![12.0, pair[0], pair[1]])) {
            check_softmax(&mut observed, temperature, &group);
        }
    }
    // Seen: 0.22.
    observed.comes_close(1.0 / 50.0);
}

/// Other implementations: subtract before dividing; powers of 2; a product instead of a division by τ; a tree of sums
#[test]
fn num_3_softmax_in_other_forms() {
    for (form, name) in ["(s - M)/τ", "2^((x - M)·log2 e)", "tree"].into_iter().enumerate() {
        let mut observed = Observed::new(format!("softmax as {name}"));
        for (temperature, group) in [1.0, 0.3, 7.0]
            .into_iter()
            .flat_map(|temperature| hard_groups(64, 14.0, 37).into_iter().map(move |group| (temperature, group)))
        {
            let tau = temperature as f32;
            let largest = group.iter().copied().fold(f32::MIN, f32::max);
            let exponentials = group.mapv(|s| match form {
                0 => ((s - largest) / tau).exp(),
                1 => ((s / tau - largest / tau) * std::f32::consts::LOG2_E).exp2(),
                _ => (s / tau - largest / tau).exp(),
            });
            let mut sums = exponentials.to_vec();
            while sums.len() > 1 && form == 2 {
                sums = sums.chunks(2).map(|pair| pair.iter().sum()).collect();
            }
            let total: f32 = sums.iter().sum();
            let mut expected = exact(&group).mapv(|s| (s - f64::from(largest)) / temperature).mapv(f64::exp);
            expected /= expected.sum();
            let bounds = softmax_bounds(Precision::F32, &exact(&group).to_vec(), temperature);
            for ((&e, &w), bound) in exponentials.iter().zip(&expected).zip(bounds) {
                observed.within(f64::from(e / total), w, bound);
            }
        }
        // Seen: 0.30, 0.32, 0.20.
        observed.comes_close(1.0 / 50.0);
    }
}

#[test]
fn num_3_softmax_over_each_head() {
    let mut observed = Observed::new("softmax over each head");
    let settings = Settings { weights_over: WeightsOver::EachHead, temperature: 2.0, ..Settings::paper() };
    let scores = uniform((50, 4, 8), -30.0, 28.0, &mut rng(34));
    let (computed, expected) = weights(&settings, &scores);
    for ((scores, computed), expected) in scores.rows().into_iter().zip(computed.rows()).zip(expected.rows()) {
        let bounds = softmax_bounds(Precision::F32, &scores.mapv(f64::from).to_vec(), 2.0);
        for ((&computed, &w), bound) in computed.iter().zip(expected).zip(bounds) {
            observed.within(f64::from(computed), w, bound);
        }
    }
    // Seen: 0.11.
    observed.comes_close(1.0 / 50.0);
}

#[test]
fn num_3_silu_and_relu() {
    for temperature in [1.0, 0.3, 7.0] {
        // (activation, its scores): for silu down to where the weight underflows and up to the constraint u·|x| ≤ 1/16
        let near = uniform((1, 1, 20_000), -120.0, 120.0, &mut rng(35));
        let far = uniform((1, 1, 2000), -3e5, 3e5, &mut rng(36));
        for activation in [Activation::Silu, Activation::Relu] {
            let mut observed = Observed::new(format!("{activation:?}, τ = {temperature}"));
            let settings = Settings { activation, temperature, ..Settings::paper() };
            for scores in [&near, &far] {
                let (computed, expected) = weights(&settings, scores);
                for ((&score, &computed), &w) in scores.iter().zip(&computed).zip(&expected) {
                    let bound = match activation {
                        Activation::Silu => silu_bound(Precision::F32, f64::from(score), temperature),
                        _ => relu_bound(Precision::F32, f64::from(score), temperature),
                    };
                    observed.within(f64::from(computed), w, bound);
                }
            }
            // Seen: silu 0.18, 0.42, 0.28; relu 0.67, 0.43. relu with τ = 1 copies the score.
            let copies = activation == Activation::Relu && temperature == 1.0;
            observed.comes_close(if copies { 0.0 } else { 1.0 / 50.0 });
        }
    }
}

#[test]
fn num_3_no_bound_beyond_its_constraint() {
    // 3·u·|x| = 1/16 at |x| = 2^24/48 = 349525.3
    assert!(softmax_bounds(Precision::F32, &[3.4e5, 3.4e5], 0.999).iter().all(|bound| bound.is_finite()));
    assert!(softmax_bounds(Precision::F32, &[3.6e5, 3.6e5], 0.999).iter().all(|bound| bound.is_nan()));
    // with τ = 1 only differences count; here the second weight is 0
    assert!(softmax_bounds(Precision::F32, &[3.6e5, -3.6e5], 1.0).iter().all(|bound| bound.is_finite()));
    assert!(silu_bound(Precision::F32, 1.1e6, 1.0).is_nan());
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn prop_num_3_softmax(
        group in prop::collection::vec(-60.0f32..30.0, 1..40),
        temperature in prop_oneof![Just(1.0), 0.01f64..100.0],
    ) {
        check_softmax(&mut Observed::new("random group"), temperature, &Array1::from_vec(group));
    }
}
