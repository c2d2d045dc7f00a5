//! NUM-10: whole stages, in f32 as the interpreter computes them, with products fused, and with results flushed to zero.

use fwpkm::judge::Distance;
use fwpkm_reference::numerics::Bounded;
use fwpkm_reference::rules::Kept;
use fwpkm_reference::settings::{Activation, Norm, WeightsOver};
use fwpkm_reference::{Rules, Scalar, Settings};
use std::collections::BTreeMap;

use crate::all_stages::{Maps, Results, of_chunk, of_layer};
use crate::arithmetics::{Flushed, Fused, expected};
use crate::observed::Observed;
use crate::scenes::{Scene, Sizes, normal, rng, uniform};

/// Every result of every stage, against its bound.
#[derive(Default)]
struct Stages {
    what: &'static str,
    observed: BTreeMap<&'static str, Observed>,
    /// Results that have no bound.
    unbounded: usize,
    bounded: usize,
}

impl Stages {
    fn new(what: &'static str) -> Self {
        Self { what, ..Self::default() }
    }

    fn hold<S: Scalar>(&mut self, bounds: &Results<Bounded<24>>, computed: &Results<S>) {
        for ((name, bounds), (_, computed)) in bounds.iter().zip(computed) {
            assert_eq!(bounds.len(), computed.len(), "{name}");
            let observed = self.observed.entry(name).or_insert_with(|| Observed::new(format!("{name}, {}", self.what)));
            for (&bound, computed) in bounds.iter().zip(computed) {
                let (exact, bound) = expected(bound);
                if bound.is_finite() {
                    observed.within(computed.to_f64(), exact, bound);
                    self.bounded += 1;
                } else {
                    self.unbounded += 1;
                }
            }
        }
    }

    fn chunk(&mut self, scene: &Scene, distance: Distance) {
        let reading = scene.reading();
        let bounds = of_chunk::<Bounded<24>>(scene, &reading, distance);
        self.hold(&bounds, &of_chunk::<f32>(scene, &reading, distance));
        self.hold(&bounds, &of_chunk::<Fused>(scene, &reading, distance));
        self.hold(&bounds, &of_chunk::<Flushed>(scene, &reading, distance));
        // The same sums backwards
        let (turned, reading_turned) = scene.reversed_features(&reading);
        let of_features = ["half scores", "pair losses", "gradient to half scores"];
        self.hold(
            &only(&of_features, &bounds),
            &only(&of_features, &of_chunk::<f32>(&turned, &reading_turned, distance)),
        );
        if scene.chunk.lookahead == 0 {
            let (turned, reading_turned) = scene.reversed_tokens(&reading);
            let of_tokens = ["value gradient", "marginal", "entropy", "addressing loss", "sub-key gradient"];
            let reversed = of_chunk::<f32>(&turned, &reading_turned, distance);
            self.hold(&only(&of_tokens, &bounds), &only(&of_tokens, &reversed));
        }
    }

    fn layer(&mut self, maps: &Maps, seed: u64) {
        let reads = normal((maps.hidden.nrows(), maps.settings.value_dim), &mut rng(seed));
        let bounds = of_layer::<Bounded<24>>(maps, &reads);
        self.hold(&bounds, &of_layer::<f32>(maps, &reads));
        self.hold(&bounds, &of_layer::<Fused>(maps, &reads));
        self.hold(&bounds, &of_layer::<Flushed>(maps, &reads));
    }

    /// Requires that the worst element of every result came within this factor of its bound, but for some
    fn comes_close(&self, but: &[(&str, f64)]) {
        println!("{}: {} with a bound, {} without", self.what, self.bounded, self.unbounded);
        assert_eq!(self.unbounded, 0);
        for (name, observed) in self.observed.iter().filter(|(_, observed)| !observed.is_empty()) {
            // ln and exp of the machine are better than they have to be, and an entropy's errors cancel.
            let other = but.iter().chain(&FAR).find(|(other, _)| other == name);
            observed.comes_close(other.map_or(1.0 / 25.0, |(_, factor)| *factor));
        }
    }
}

/// Results that stay further from their bounds everywhere
const FAR: [(&str, f64); 3] = [("entropy", 1.0 / 100.0), ("addressing loss", 1.0 / 150.0), ("gates", 1.0 / 120.0)];

fn only<S: Scalar>(names: &[&str], results: &Results<S>) -> Results<S> {
    results.iter().filter(|(name, _)| names.contains(name)).cloned().collect()
}

/// Scenes that differ in every setting and rule that a stage knows.
fn scenes(seed: u64) -> Vec<Scene> {
    let with = |change: fn(&mut Settings), rules: Rules| {
        let mut scene = Scene { rules, ..Scene::random(Sizes::SMALL, seed) };
        scene.settings.memory_gradient_to_sub_keys = true;
        change(&mut scene.settings);
        scene.chunk.lookahead = scene.settings.lookahead;
        scene
    };
    let ties = Rules { kept: Kept::Ties, ..Rules::paper() };
    vec![
        with(|_| (), Rules::paper()),
        with(|settings| settings.lookahead = 0, ties).gated_and_masked(seed),
        with(|settings| settings.weights_over = WeightsOver::EachHead, Rules::release()).gated_and_masked(seed),
        with(|settings| (settings.activation, settings.lookahead) = (Activation::Silu, 0), Rules::paper()),
        with(|settings| (settings.activation, settings.temperature) = (Activation::Relu, 0.3), Rules::paper())
            .dot_product(),
        with(|settings| (settings.temperature, settings.learning_rate) = (1.7, 0.3), Rules::release())
            .gated_and_masked(seed),
        with(
            |settings| {
                (settings.weight_decay, settings.gradient_clip, settings.addressing_weight) = (0.1, Some(0.01), 3.7);
            },
            Rules::paper(),
        ),
    ]
}

#[test]
fn num_10_stages_of_random_chunks() {
    let mut stages = Stages::new("random");
    for scene in (0..6).flat_map(scenes) {
        stages.chunk(&scene, Distance::Direct);
    }
    // Seen: 0.09 (sub-key gradient, marginal) to 0.83 (weights); entropy 0.019, loss 0.013.
    stages.comes_close(&[]);
}

#[test]
fn num_10_stages_with_the_expanded_distance() {
    let mut stages = Stages::new("expanded");
    for scene in (0..6).flat_map(scenes) {
        stages.chunk(&scene, Distance::Expanded);
    }
    // Seen: the same; sub-key gradient 0.083.
    stages.comes_close(&[]);
}

/// Queries that are sub-keys, or next to them: distances far below ε, where the expanded form cancels
#[test]
fn num_10_stages_near_exact_hits() {
    for distance in [Distance::Direct, Distance::Expanded] {
        let mut stages = Stages::new(if distance == Distance::Direct { "near hits" } else { "near hits, expanded" });
        for (seed, scale) in (0..8).zip([0.0, 1e-7, 1e-4, 1e-2].into_iter().cycle()) {
            let mut scene = Scene::random(Sizes::SMALL, seed);
            scene.settings.memory_gradient_to_sub_keys = true;
            stages.chunk(&scene.hits(scale, seed), distance);
        }
        // Seen: half scores 0.50 and 0.28, sub-key gradient 0.048 and 0.045.
        stages.comes_close(&[]);
    }
}

/// Every token reads the same slots: the longest sums a chunk has
#[test]
fn num_10_stages_of_hot_slots() {
    let mut stages = Stages::new("hot");
    for seed in 0..3 {
        let sizes = Sizes { tokens: 3000, sequences: 1, ..Sizes::SMALL };
        let mut scene = Scene::random(sizes, seed).hot();
        scene.settings.memory_gradient_to_sub_keys = true;
        (scene.settings.lookahead, scene.chunk.lookahead) = (0, 0);
        scene.chunk.gates = Some(ndarray::Array2::from_elem((3000, 1), 0.3));
        stages.chunk(&scene, Distance::Direct);
    }
    // Seen: sums over 3000 tokens 0.24 (marginal), 0.084 (sub-key gradient), 0.007 where terms of both signs meet.
    stages.comes_close(&[("value gradient", 1.0 / 200.0)]);
}

/// Values and slots far from zero, whose differences cancel; and values, gates and differences that underflow
#[test]
fn num_10_stages_that_cancel_and_underflow() {
    let (mut cancelling, mut tiny) = (Stages::new("cancelling"), Stages::new("underflow"));
    for seed in 0..6 {
        let mut scene = Scene::random(Sizes::SMALL, seed).gated_and_masked(seed);
        scene.settings.memory_gradient_to_sub_keys = true;
        let mut far = scene.clone();
        far.chunk.values.mapv_inplace(|v| 1000.0 + 1e-3 * v);
        far.tables.slot_values.mapv_inplace(|v| 1000.0 + 1e-3 * v);
        cancelling.chunk(&far, Distance::Direct);
        let mut small = scene;
        small.chunk.values *= 1e-21;
        small.tables.slot_values *= 1e-21;
        small.chunk.gates = small.chunk.gates.map(|gates| gates * 1e-18);
        tiny.chunk(&small, Distance::Direct);
    }
    // Seen: 0.050 (sub-key gradient) to 0.57 (half scores).
    cancelling.comes_close(&[]);
    // With few digits left of what underflows, bounds are mostly ω: `num_10_products_in_any_order_that_underflow` has these.
    let flushed = [("gradient to half scores", 0.0), ("pair losses", 0.0), ("value gradient", 0.002)];
    tiny.comes_close(&[flushed.as_slice(), &[("sub-key gradient", 0.005), ("sub-keys after", 0.005)]].concat());
}

/// Long sums over features: d_k/2 = 600, d_v = 1500
#[test]
fn num_10_stages_of_wide_vectors() {
    let mut stages = Stages::new("wide");
    for seed in 0..2 {
        let sizes = Sizes { half_dim: 600, value_dim: 1500, tokens: 6, ..Sizes::SMALL };
        let mut scene = Scene::random(sizes, seed);
        scene.settings.memory_gradient_to_sub_keys = true;
        stages.chunk(&scene, Distance::Direct);
        stages.chunk(&scene, Distance::Expanded);
    }
    // Seen: reads 0.46; of sums over 600 or 1500 features, whose errors are of both signs, 0.009, 0.0026 and 0.00016.
    let of_features = [("half scores", 0.005), ("sub-key gradient", 0.005), ("pair losses", 0.002)];
    stages.comes_close(&[of_features.as_slice(), &[("gradient to half scores", 0.0001)]].concat());
}

#[test]
fn num_10_stages_of_a_layer() {
    let mut stages = Stages::new("layer");
    for seed in 0..4 {
        for (value_norm, query_norm, output_gate) in
            [(Norm::ZScore, Norm::None, true), (Norm::L2, Norm::ZScore, true), (Norm::None, Norm::L2, false)]
        {
            let scene = Scene::random(Sizes { half_dim: 6, value_dim: 8, ..Sizes::SMALL }, seed);
            let settings = Settings { value_norm, query_norm, output_gate, ..scene.settings };
            // Hidden states around 0, and such that RMSNorm makes nearly one direction of
            for (width, offset) in [(16, 0.0), (16, 100.0), (700, 0.3)] {
                stages.layer(&Maps::random(settings.clone(), width, 20, offset, seed), seed);
            }
        }
    }
    // Seen: 0.09 (values) to 1.00 (mixed); gates 0.010.
    stages.comes_close(&[]);
}

/// Tie rule: under kept = ties the sub-keys of equal half scores are all there, on both sides alike
#[test]
fn num_10_stages_with_ties_kept() {
    let mut stages = Stages::new("ties");
    for seed in 0..6 {
        let rules = Rules { kept: Kept::Ties, ..Rules::release() };
        let mut scene = Scene { rules, ..Scene::random(Sizes::SMALL, seed) };
        for mut key in scene.tables.sub_keys.rows_mut() {
            key.mapv_inplace(|x| if x > 0.0 { 0.25 } else { -0.25 });
        }
        scene.chunk.queries = uniform(scene.chunk.queries.raw_dim(), -0.2, 0.2, &mut rng(seed));
        stages.chunk(&scene, Distance::Direct);
    }
    // Seen: 0.07 (marginal) to 0.45 (reads); gradients of even usage are nearly 0 and stay at 0.009.
    stages.comes_close(&[("sub-key gradient", 0.005), ("sub-keys after", 0.005)]);
}
