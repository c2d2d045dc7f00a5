//! NUM-10 beside the closed forms of NUM-2 … NUM-5: how far apart the two bounds of the same number are.

use fwpkm_reference::address::{entropy, marginal, usage};
use fwpkm_reference::memorize::{pair_losses, pair_weights, residuals};
use fwpkm_reference::numerics::{
    Bounded, Precision, descend_bound, dot_product_bound, entropy_bound, expanded_distance_bound, half_row,
    inverse_distance_bound, marginal_bounds, pair_loss_bound, read_bound, relu_bound, silu_bound, softmax_bounds,
};
use fwpkm_reference::read::{read, weigh};
use fwpkm_reference::score::{dot_product, inverse_distance};
use fwpkm_reference::settings::{Activation, Settings};
use fwpkm_reference::tables::descend;
use fwpkm_reference::{Scalar, Stages};
use ndarray::{Array, Array1, Array2, Array3, Array4, Dimension};
use ndarray_rand::rand::Rng;

use crate::scenes::{Scene, Sizes, exact_reading, normal, rng, uniform};

type Number = Bounded<24>;

/// The smallest and largest running bound over the closed one.
struct Ratio {
    what: &'static str,
    least: f64,
    most: f64,
}

impl Ratio {
    fn new(what: &'static str) -> Self {
        Self { what, least: f64::INFINITY, most: 0.0 }
    }

    fn of(&mut self, running: Number, closed: f64) {
        let ratio = running.error() / closed;
        assert!(ratio.is_finite(), "{}: {} over {closed}", self.what, running.error());
        (self.least, self.most) = (self.least.min(ratio), self.most.max(ratio));
    }

    fn is_between(&self, least: f64, most: f64) {
        let Self { what, least: found_least, most: found_most } = self;
        println!("{what}: {found_least:.3} to {found_most:.3}");
        assert!(*found_least >= least && *found_most <= most, "{what}: {found_least} to {found_most}");
    }
}

fn lifted<D: Dimension>(numbers: &Array<f32, D>) -> Array<Number, D> {
    numbers.mapv(|x| Number::new(f64::from(x), 0.0))
}

fn doubles(numbers: &Array1<f32>) -> Vec<f64> {
    numbers.iter().map(|&x| f64::from(x)).collect()
}

#[test]
fn num_10_agrees_with_num_2() {
    let (mut distance, mut product, mut expanded) =
        (Ratio::new("inverse distance"), Ratio::new("dot product"), Ratio::new("expanded"));
    for m in [1, 2, 8, 9, 100, 2888] {
        let mut rng = rng(20);
        for _ in 0..20 {
            let (query, key) = (normal(m, &mut rng), uniform(m, -0.5, 0.5, &mut rng));
            let (q, k) = (doubles(&query), doubles(&key));
            let score = inverse_distance(lifted(&query).view(), lifted(&key).view(), 1e-3);
            distance.of(score, inverse_distance_bound(Precision::F32, m, score.value()));
            let score = dot_product(lifted(&query).view(), lifted(&key).view());
            product.of(score, dot_product_bound(Precision::F32, &q, &k));
            let stages = fwpkm::judge::Distance::Expanded.stages(Stages::<Number>::specification());
            let halves = Array4::from_shape_fn((1, 1, 2, m), |(.., d)| lifted(&query)[d]);
            let keys = Array4::from_shape_fn((1, 2, 1, m), |(.., d)| lifted(&key)[d]);
            let score = (stages.score)(&Settings::paper(), keys.view(), halves.view())[[0, 0, 0, 0]];
            expanded.of(score, expanded_distance_bound(Precision::F32, &q, &k, 1e-3));
        }
    }
    distance.is_between(0.5, 1.0);
    product.is_between(0.5, 1.0);
    expanded.is_between(0.5, 1.0);
}

#[test]
fn num_10_agrees_with_num_3_and_num_4() {
    let mut rng = rng(21);
    let [mut softmax, mut silu, mut relu, mut reads] = ["softmax", "silu", "relu", "reads"].map(Ratio::new);
    for r in [2, 8, 128, 2000] {
        for temperature in [1.0, 0.3, 7.0] {
            let scores: Array1<f32> = uniform(r, -14.0, 14.0, &mut rng);
            let group = lifted(&scores).into_shape_with_order((1, 1, r)).unwrap();
            let given = doubles(&scores);
            let weights = |activation| {
                let settings = Settings { temperature, activation, ..Settings::paper() };
                weigh(&settings, group.view()).into_iter().collect::<Vec<_>>()
            };
            let closed = softmax_bounds(Precision::F32, &given, temperature);
            for (&running, closed) in weights(Activation::Softmax).iter().zip(closed).filter(|(w, _)| w.value() > 1e-30)
            {
                softmax.of(running, closed);
            }
            for (&running, &score) in
                weights(Activation::Silu).iter().zip(&given).filter(|(w, _)| w.value().abs() > 1e-30)
            {
                silu.of(running, silu_bound(Precision::F32, score, temperature));
            }
            // With τ = 1 relu copies the score.
            for (&running, &score) in
                weights(Activation::Relu).iter().zip(&given).filter(|(_, score)| **score > 0.0 && temperature != 1.0)
            {
                relu.of(running, relu_bound(Precision::F32, score, temperature));
            }
        }
        let (values, weights) = (normal((r, 5), &mut rng), uniform(r, 0.0, 1.0, &mut rng));
        let slots = Array3::from_shape_fn((1, 1, r), |(_, _, place)| place);
        let of_slots = lifted(&weights).into_shape_with_order((1, 1, r)).unwrap();
        let running = read(lifted(&values).view(), slots.view(), of_slots.view()).unwrap();
        for (d, &running) in running.row(0).iter().enumerate() {
            reads.of(running, read_bound(Precision::F32, &doubles(&weights), &doubles(&values.column(d).to_owned())));
        }
    }
    softmax.is_between(0.25, 1.0);
    // The sigmoid is flat where |x| is large, which the closed form does not use.
    silu.is_between(0.03, 1.2);
    relu.is_between(0.4, 1.5);
    reads.is_between(0.4, 1.0);
}

#[test]
fn num_10_agrees_with_num_5() {
    let [mut losses, mut usages, mut entropies, mut steps] =
        ["pair losses", "marginal", "entropy", "steps"].map(Ratio::new);
    for seed in 0..6 {
        let scene = Scene::random(Sizes::SMALL, seed).gated_and_masked(seed);
        let (reading, chunk) = (scene.reading(), &scene.chunk);
        let lifted_chunk = fwpkm_reference::chunk::Chunk {
            queries: lifted(&chunk.queries),
            values: lifted(&chunk.values),
            gates: chunk.gates.as_ref().map(lifted),
            mask: chunk.mask.clone(),
            lookahead: chunk.lookahead,
        };
        let reads = lifted(&reading.reads);
        let weights = pair_weights(&lifted_chunk);
        let residuals = residuals(&lifted_chunk, reads.view());
        let running = pair_losses(weights.view(), residuals.view());
        for (row, (&running, weight)) in running.iter().zip(&weights).enumerate().filter(|(_, (_, f))| f.value() > 0.0)
        {
            let residuals: Vec<f64> = residuals.row(row).iter().map(|x| x.value()).collect();
            losses.of(running, pair_loss_bound(Precision::F32, weight.value(), &residuals));
        }

        let scores = exact_reading(&reading);
        let with_bounds = fwpkm_reference::chunk::Reading {
            scores: lifted(&reading.scores),
            selected: fwpkm_reference::select::Selected {
                half_indices: reading.selected.half_indices.clone(),
                half_scores: lifted(&reading.selected.half_scores),
                ranks: reading.selected.ranks.clone(),
                pair_scores: lifted(&reading.selected.pair_scores),
                slots: reading.selected.slots.clone(),
            },
            weights: lifted(&reading.weights),
            reads,
        };
        let running = marginal(&usage(&scene.rules, &with_bounds), scene.settings.sub_keys);
        for half in 0..2 {
            let indices = scores.selected.half_indices.slice(ndarray::s![.., .., half, ..]);
            let best = scores.selected.half_scores.slice(ndarray::s![.., .., half, ..]);
            let rows: Vec<_> = indices
                .rows()
                .into_iter()
                .zip(best.rows())
                .map(|(indices, best)| half_row(Precision::F32, &indices.to_vec(), &best.to_vec()))
                .collect();
            let closed = marginal_bounds(Precision::F32, &rows, scene.settings.sub_keys);
            for (&running, &closed) in running.row(half).iter().zip(&closed).filter(|(p, _)| p.value() > 1e-20) {
                usages.of(running, closed);
            }
            // The entropy of marginals that are exactly these
            let given: Vec<f64> = running.row(half).iter().map(|p| p.value()).collect();
            let own: Array1<Number> = given.iter().map(|&p| Number::new(p, 0.0)).collect();
            entropies.of(entropy(own.view(), 0.0), entropy_bound(Precision::F32, &given, 0.0, None));
        }
    }
    let mut rng = rng(22);
    for (weight_decay, gradient_clip) in [(0.0, None), (0.0, Some(0.5)), (0.1, None)] {
        let settings = Settings { learning_rate: 0.7, weight_decay, gradient_clip, ..Settings::paper() };
        for _ in 0..200 {
            let (parameter, gradient): (f32, f32) = (rng.random_range(-3.0..3.0), rng.random_range(-3.0..3.0));
            let (p, g) = (f64::from(parameter), f64::from(gradient));
            let running = descend(&settings, Number::new(p, 0.0), Number::new(g, 0.0));
            steps.of(running, descend_bound(Precision::F32, &settings, p, g));
        }
    }
    losses.is_between(0.4, 1.5);
    usages.is_between(0.4, 2.0);
    entropies.is_between(0.4, 2.0);
    steps.is_between(0.1, 1.0);
}

/// 20.75·u, as the clause says
#[test]
fn num_10_the_bound_of_its_example() {
    let number = |x: f64| Number::new(x, 0.0);
    let normed = fwpkm_reference::projection::rms_norm(
        ndarray::arr1(&[number(3.0), number(4.0)]).view(),
        ndarray::arr1(&[number(0.0), number(0.0)]).view(),
        12.5,
    );
    let mut out = ndarray::arr1(&[Number::ZERO]);
    let (weight, bias) = (ndarray::arr2(&[[number(1.0), number(2.0)]]), ndarray::arr1(&[number(0.5)]));
    fwpkm_reference::projection::linear(normed.view(), weight.view(), bias.view(), out.view_mut());
    let in_u = |number: Number| number.error() / f32::UNIT_ROUNDOFF;
    assert!((in_u(normed[0]) - 3.75).abs() < 1e-5 && (in_u(normed[1]) - 5.0).abs() < 1e-5);
    assert!((in_u(out[0]) - 20.75).abs() < 1e-5, "{}", in_u(out[0]));
}

/// What is left of these where everything is exact
#[test]
fn num_10_a_sum_of_one_number_is_exact() {
    let slots = Array3::zeros((1, 1, 1));
    let one = Array2::from_elem((1, 1), Number::from_f64(0.5));
    let weights = Array3::from_elem((1, 1, 1), Number::ONE);
    let read = read(one.view(), slots.view(), weights.view()).unwrap()[[0, 0]];
    assert!(read.error() <= f32::UNIT_ROUNDOFF * 0.51, "{}", read.error());
}
