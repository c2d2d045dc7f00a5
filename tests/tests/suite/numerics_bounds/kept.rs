//! NUM-9: results kept in bf16 or f16, computed in f32.

use fwpkm::judge::Distance;
use fwpkm::numbers::Numbers;
use fwpkm_reference::chunk::{Reading, read};
use fwpkm_reference::numerics::Bounded;
use fwpkm_reference::read::weigh;
use fwpkm_reference::{Scalar, Stages};
use ndarray::{Array, Dimension};

use super::all_stages::of_chunk;
use super::arithmetics::expected;
use super::observed::Observed;
use super::scenes::{Scene, Sizes, rng};

type Number = Bounded<24>;

const NARROW: [Numbers; 2] = [Numbers::Bf16, Numbers::F16];

/// What a kept result may be: the bound of the computed one, and its rounding.
fn kept(number: Number, numbers: Numbers) -> (f64, f64) {
    let (exact, bound) = expected(number);
    (exact, bound + numbers.keeping(exact.abs() + bound))
}

/// A kept number, which may have been read before it was kept.
fn before_or_after<D: Dimension>(kept: &Array<f32, D>, numbers: Numbers) -> Array<Number, D> {
    kept.mapv(|x| Number::new(f64::from(x), numbers.keeping(f64::from(x))))
}

fn rounded<D: Dimension>(given: &Array<f32, D>, numbers: Numbers) -> Array<f32, D> {
    given.mapv(|x| numbers.round(f64::from(x)) as f32)
}

/// A scene whose inputs are numbers of the type
fn scene(numbers: Numbers, seed: u64) -> Scene {
    let mut scene = Scene::random(Sizes::SMALL, seed).gated_and_masked(seed);
    scene.tables.sub_keys = rounded(&scene.tables.sub_keys, numbers);
    scene.tables.slot_values = rounded(&scene.tables.slot_values, numbers);
    scene.chunk.queries = rounded(&scene.chunk.queries, numbers);
    scene.chunk.values = rounded(&scene.chunk.values, numbers);
    scene.chunk.gates = scene.chunk.gates.map(|gates| rounded(&gates, numbers));
    scene.settings.memory_gradient_to_sub_keys = true;
    scene
}

/// A reading that keeps its results.
fn reading(scene: &Scene, numbers: Numbers) -> Reading<f32> {
    let stages = Stages { keep: numbers.keep(), ..Stages::specification() };
    read(&stages, &scene.settings, &scene.tables, scene.chunk.queries.view(), 0).unwrap()
}

#[test]
fn num_9_rounding_to_the_nearest() {
    let mut rng = rng(40);
    for numbers in [Numbers::F32, Numbers::Bf16, Numbers::F16] {
        let mut observed = Observed::new(format!("rounding to {}", numbers.name()));
        let small = if numbers == Numbers::F16 { -26 } else { -126 };
        for exponent in small..15 {
            for _ in 0..200 {
                let x = 2f64.powi(exponent) * ndarray_rand::rand::Rng::random_range(&mut rng, 1.0..2.0);
                observed.within(numbers.round(x), x, numbers.keeping(x));
                // u times what it was rounded to holds as well: either may be what the next stage read.
                let kept = numbers.round(x);
                observed.within(x, kept, numbers.keeping(kept));
            }
        }
        // Seen: 1.00 in each.
        observed.comes_close(0.9);
    }
    assert!(Numbers::F16.round(65520.0).is_infinite() && Numbers::F16.round(65519.0).is_finite());
    for numbers in [Numbers::F64, Numbers::F32] {
        assert!(numbers.keep::<f32>().is_none());
    }
}

/// Every stage that keeps its results, given kept results
#[test]
fn num_9_stages_that_keep_their_results() {
    for numbers in NARROW {
        let mut observed = Observed::new(format!("kept in {}", numbers.name()));
        for seed in 0..6 {
            let scene = scene(numbers, seed);
            let reading = reading(&scene, numbers);
            let bounds = of_chunk::<Number>(&scene, &reading, Distance::Direct);
            let computed = of_chunk::<f32>(&scene, &reading, Distance::Direct);
            for (&bound, &computed) in bounds.iter().flat_map(|(_, x)| x).zip(computed.iter().flat_map(|(_, x)| x)) {
                let (exact, bound) = kept(bound, numbers);
                observed.within(numbers.round(f64::from(computed)), exact, bound);
            }
        }
        // Seen: 0.99, 0.99.
        observed.comes_close(0.9);
    }
}

/// A stage may have read the pair scores before they were kept, or after: weights of both are within one bound.
#[test]
fn num_9_a_stage_reads_results_before_or_after_they_are_kept() {
    for numbers in NARROW {
        let [mut before, mut after] =
            ["before", "after"].map(|when| Observed::new(format!("weights read {when} keeping, {}", numbers.name())));
        for seed in 0..6 {
            let scene = scene(numbers, seed);
            let scores = scene.reading().selected.pair_scores;
            let recorded = rounded(&scores, numbers);
            let bounds = weigh(&scene.settings, before_or_after(&recorded, numbers).view());
            for (observed, scores) in [(&mut before, &scores), (&mut after, &recorded)] {
                for (&bound, &weight) in bounds.iter().zip(&weigh(&scene.settings, scores.view())) {
                    let (exact, bound) = kept(bound, numbers);
                    observed.within(numbers.round(f64::from(weight)), exact, bound);
                }
            }
        }
        // Seen: 0.59 and 0.17 in bf16, 0.56 and 0.22 in f16.
        before.comes_close(1.0 / 10.0);
        after.comes_close(1.0 / 50.0);
    }
}

/// Kept results are the nearest numbers of the type: `Stages::keep` acts on every result of a reading and of a step.
#[test]
fn num_9_every_result_is_kept() {
    for numbers in NARROW {
        let scene = scene(numbers, 1);
        let stages = Stages { keep: numbers.keep(), ..Stages::specification() };
        let reading = reading(&scene, numbers);
        let slots = reading.selected.slots.view();
        let counted = fwpkm_reference::chunk::Counted { slots, samples: 48 };
        let (settings, rules, tables, chunk) = (&scene.settings, &scene.rules, &scene.tables, &scene.chunk);
        let step =
            fwpkm_reference::chunk::step(&stages, settings, rules, tables, chunk, &reading, &counted, 0).unwrap();
        let mut all: Vec<f32> = Vec::new();
        all.extend(&reading.scores);
        all.extend(&reading.selected.half_scores);
        all.extend(&reading.selected.pair_scores);
        all.extend(&reading.weights);
        all.extend(&reading.reads);
        all.extend(&step.memorized.pair_losses);
        all.extend(&step.memorized.value_gradient);
        all.extend(&step.slot_values);
        all.extend(&step.addressed.marginal);
        all.extend(&step.addressed.entropy);
        all.push(step.addressed.loss);
        all.extend(&step.addressed.sub_key_gradient);
        all.extend(&step.sub_keys);
        for x in all {
            assert_eq!(f64::from(x), numbers.round(x.to_f64()));
        }
    }
}
