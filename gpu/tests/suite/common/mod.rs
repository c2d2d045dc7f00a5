//! Runs to compare: settings, tables, tokens, and the cut of a text into calls.
#![allow(dead_code, reason = "each test file uses some")]

pub(crate) mod addressing;
pub(crate) mod failing;
pub(crate) mod lockstep;
pub(crate) mod resident;
pub(crate) mod stages;
pub(crate) mod steps;

use fwpkm_gpu::emulator::Emulator;
use fwpkm_gpu::{Backend, Memory, Tile, Variant};
use fwpkm_reference::rules::{Kept, PairFactor, ReadFactor, StreamCount, SubKeyLoss};
use fwpkm_reference::settings::{Activation, Border, Score, WeightsOver};
use fwpkm_reference::{Fed, Rules, Settings, StepReport, Tables, Tokens};
use ndarray::{Array2, Array3, Array4, s};
use ndarray_rand::rand::rngs::StdRng;
use ndarray_rand::rand::{Rng, SeedableRng};
use ndarray_rand::rand_distr::StandardNormal;

/// A tile that small shapes fill several times, and few enough blocks that each takes several pieces.
pub(crate) const TINY: Tile = Tile { side: 16, per_thread: 2, blocks: 3, tensor_cores: false };
/// The smallest with the threads that a walk has.
pub(crate) const WALKING: Tile = Tile { side: 16, per_thread: 1, blocks: 3, tensor_cores: false };

/// Tokens of a whole text.
#[derive(Clone, Debug)]
pub(crate) struct Text<S> {
    pub(crate) queries: Array3<S>,
    pub(crate) values: Array3<S>,
    pub(crate) gates: Option<Array2<S>>,
    pub(crate) mask: Option<Array2<bool>>,
}

/// A run to be made.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) settings: Settings,
    pub(crate) rules: Rules,
    pub(crate) tables: Tables<f32>,
    pub(crate) text: Text<f32>,
    pub(crate) calls: Vec<usize>,
}

/// What a run gives.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outcome<S> {
    pub(crate) reads: Array3<S>,
    pub(crate) slots: Array4<usize>,
    pub(crate) weights: Array4<S>,
    pub(crate) steps: Vec<StepReport<S>>,
    pub(crate) tables: Tables<S>,
}

impl<S: Copy> Text<S> {
    pub(crate) fn slice(&self, from: usize, to: usize) -> Tokens<'_, S> {
        Tokens {
            queries: self.queries.slice(s![.., from..to, ..]),
            values: self.values.slice(s![.., from..to, ..]),
            gates: self.gates.as_ref().map(|gates| gates.slice(s![.., from..to])),
            mask: self.mask.as_ref().map(|mask| mask.slice(s![.., from..to])),
        }
    }
}

/// Sub-keys and queries of one scale, values as at initialisation.
pub(crate) fn scene(seed: u64, settings: Settings, rules: Rules, sequences: usize, calls: &[usize]) -> Scene {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut normal = |scale: f32| scale * rng.sample::<f32, _>(StandardNormal);
    let (heads, n, half) = (settings.heads, settings.sub_keys, settings.half_dim());
    let (width, value) = (heads * settings.key_dim, settings.value_dim);
    let tokens: usize = calls.iter().sum();
    let tables = Tables {
        sub_keys: Array4::from_shape_simple_fn((heads, 2, n, half), || normal(1.0)),
        slot_values: Array2::from_shape_simple_fn((n * n, value), || normal(1.0)),
    };
    let text = Text {
        queries: Array3::from_shape_simple_fn((sequences, tokens, width), || normal(1.0)),
        values: Array3::from_shape_simple_fn((sequences, tokens, value), || normal(1.0)),
        gates: (!seed.is_multiple_of(3))
            .then(|| Array2::from_shape_simple_fn((sequences, tokens), || normal(0.5).abs().min(1.0))),
        mask: (seed % 4 > 1).then(|| Array2::from_shape_simple_fn((sequences, tokens), || normal(1.0) > -0.5)),
    };
    Scene { settings, rules, tables, text, calls: calls.to_vec() }
}

/// Every option at least once.
pub(crate) fn scenes() -> Vec<(&'static str, Scene)> {
    let base = Settings { sub_keys: 11, key_dim: 8, value_dim: 8, top_k: 3, chunk: 7, ..Settings::paper() };
    let (paper, release) = (Rules::paper(), Rules::release());
    let carry = Settings { border: Border::Carry, lookahead: 2, ..base.clone() };
    let dot = Settings { score: Score::DotProduct, ..base.clone() };
    let two = Settings { heads: 2, ..base.clone() };
    let all = Rules { stream_count: StreamCount::Chunk, ..release.clone() };
    let cut = [7, 7, 5];
    vec![
        ("paper", scene(0, base.clone(), paper.clone(), 1, &cut)),
        ("gates", scene(1, base.clone(), paper.clone(), 2, &[1, 9, 9])),
        ("mask", scene(6, base.clone(), paper.clone(), 2, &cut)),
        ("no lookahead", scene(2, Settings { lookahead: 0, ..base.clone() }, paper.clone(), 1, &cut)),
        ("carry", scene(3, carry.clone(), paper.clone(), 2, &[4, 11, 6])),
        ("carry, far", scene(4, Settings { lookahead: 9, chunk: 4, ..carry.clone() }, paper.clone(), 1, &[13, 8])),
        ("release", scene(5, base.clone(), release.clone(), 1, &cut)),
        ("release, mask", scene(7, two.clone(), release.clone(), 2, &cut)),
        ("release, streaming", scene(8, carry.clone(), release.clone(), 1, &[5, 1, 12, 3])),
        ("release, short calls", scene(10, Settings { chunk: 2, lookahead: 3, ..carry.clone() }, release, 1, &[1; 9])),
        ("heads", scene(9, two.clone(), paper.clone(), 2, &cut)),
        (
            "each head",
            scene(10, Settings { weights_over: WeightsOver::EachHead, ..two.clone() }, paper.clone(), 1, &cut),
        ),
        ("dot product", scene(11, dot.clone(), paper.clone(), 1, &cut)),
        ("silu", scene(12, Settings { activation: Activation::Silu, ..dot.clone() }, paper.clone(), 1, &cut)),
        ("relu", scene(13, Settings { activation: Activation::Relu, ..dot.clone() }, paper.clone(), 1, &cut)),
        (
            "silu of distances",
            scene(14, Settings { activation: Activation::Silu, ..two.clone() }, paper.clone(), 1, &cut),
        ),
        ("temperature", scene(15, Settings { temperature: 2.5, ..base.clone() }, paper.clone(), 1, &cut)),
        ("clip", scene(16, Settings { gradient_clip: Some(0.05), ..base.clone() }, paper.clone(), 1, &cut)),
        ("decay", scene(17, Settings { weight_decay: 0.1, learning_rate: 0.5, ..two.clone() }, paper.clone(), 1, &cut)),
        ("large decay", scene(18, Settings { weight_decay: 1.5, ..base.clone() }, paper.clone(), 1, &cut)),
        ("no addressing", scene(19, Settings { addressing_weight: 0.0, ..base.clone() }, paper.clone(), 1, &cut)),
        (
            "to sub-keys",
            scene(20, Settings { memory_gradient_to_sub_keys: true, ..two.clone() }, paper.clone(), 2, &cut),
        ),
        ("to sub-keys, mean", scene(21, Settings { memory_gradient_to_sub_keys: true, ..dot.clone() }, all, 1, &cut)),
        ("silu to sub-keys", {
            let settings = Settings {
                memory_gradient_to_sub_keys: true,
                activation: Activation::Silu,
                learning_rate: 0.01,
                ..dot.clone()
            };
            scene(22, settings, paper.clone(), 1, &cut)
        }),
        ("all slots", scene(23, Settings { sub_keys: 3, top_k: 3, ..base.clone() }, paper.clone(), 2, &cut)),
        ("one slot", scene(24, Settings { sub_keys: 1, top_k: 1, ..base.clone() }, paper.clone(), 1, &cut)),
        ("hot slots", {
            let settings = Settings { sub_keys: 2, top_k: 2, chunk: 80, ..two.clone() };
            scene(25, settings, paper.clone(), 2, &[50, 40])
        }),
        ("odd shapes", {
            let settings = Settings { sub_keys: 37, key_dim: 10, value_dim: 7, top_k: 5, ..two.clone() };
            scene(26, settings, paper.clone(), 1, &cut)
        }),
        ("many slots", scene(28, Settings { top_k: 7, ..two.clone() }, paper.clone(), 1, &cut)),
        ("long values", {
            let settings = Settings { value_dim: 1028, top_k: 5, ..two.clone() };
            scene(29, settings, paper.clone(), 1, &cut)
        }),
        ("long odd values", {
            let settings = Settings { value_dim: 1027, ..base.clone() };
            scene(30, settings, paper.clone(), 1, &cut)
        }),
        ("wide", {
            let settings = Settings { sub_keys: 34, key_dim: 300, value_dim: 260, top_k: 8, ..base.clone() };
            scene(27, settings, paper.clone(), 1, &cut)
        }),
        ("static", scene(28, Settings { writes: false, top_k: 11, ..dot }, paper, 2, &[3, 20])),
        ("kept ties only", {
            let rules = Rules { kept: Kept::Ties, log_epsilon: 1e-3, ..Rules::paper() };
            scene(29, base.clone(), rules, 1, &cut)
        }),
        ("factors", {
            let rules = Rules {
                read_factor: ReadFactor::SlotsPerToken,
                pair_factor: PairFactor::SamplesPerPair,
                sub_key_loss: SubKeyLoss::Mean,
                ..Rules::paper()
            };
            scene(30, two, rules, 1, &cut)
        }),
    ]
}

/// Scenes whose choices hang on rounding: equal distances, and distances that cancel in |K|² - 2 q·K.
pub(crate) fn close_scenes() -> Vec<(&'static str, Scene)> {
    let settings = Settings { sub_keys: 40, key_dim: 12, value_dim: 4, top_k: 4, chunk: 9, ..Settings::paper() };
    let mut ties = scene(31, settings.clone(), Rules::paper(), 1, &[9]);
    ties.tables.sub_keys.mapv_inplace(|x| x.round().clamp(-1.0, 1.0));
    ties.text.queries.mapv_inplace(|x| x.round().clamp(-1.0, 1.0));
    let mut far = scene(32, settings.clone(), Rules::paper(), 2, &[20]);
    far.tables.sub_keys.mapv_inplace(|x| 30.0 + 1e-2 * x);
    far.text.queries.mapv_inplace(|x| 30.0 + 1e-2 * x);
    let dot = Settings { score: Score::DotProduct, ..settings };
    // Their squares are 0.
    let mut tiny_dot = scene(34, dot.clone(), Rules::paper(), 2, &[20]);
    tiny_dot.text.queries.mapv_inplace(|x| 1e-24 * x);
    tiny_dot.tables.sub_keys.mapv_inplace(|x| 1.0 + 1e-3 * x);
    let mut far_dot = scene(33, dot, Rules::paper(), 2, &[20]);
    far_dot.tables.sub_keys.mapv_inplace(|x| 30.0 + 1e-5 * x);
    far_dot.text.queries.mapv_inplace(|x| if x > 0.0 { 30.0 } else { -30.0 });
    vec![("ties", ties), ("far", far), ("far, dot product", far_dot), ("tiny, dot product", tiny_dot)]
}

/// Runs a scene on the emulator: feed in calls, then flush.
pub(crate) fn emulate(scene: &Scene, variant: Variant, seed: u64) -> fwpkm_gpu::Result<Outcome<f32>> {
    run_on(Emulator::new(seed), scene, variant)
}

/// Runs a scene on a device.
pub(crate) fn run_on<B: Backend>(backend: B, scene: &Scene, variant: Variant) -> fwpkm_gpu::Result<Outcome<f32>> {
    let (settings, rules) = (scene.settings.clone(), scene.rules.clone());
    let mut memory = Memory::new(backend, settings, rules, scene.tables.clone(), variant)?;
    let mut parts = Vec::new();
    let mut from = 0;
    for &call in &scene.calls {
        parts.push(memory.feed(&scene.text.slice(from, from + call))?);
        from += call;
    }
    let last = memory.flush()?;
    Ok(outcome(parts, last, memory.tables()?))
}

fn outcome<S: Clone>(parts: Vec<Fed<S>>, last: Option<StepReport<S>>, tables: Tables<S>) -> Outcome<S> {
    let axis = ndarray::Axis(1);
    let reads: Vec<_> = parts.iter().map(|fed| fed.reads.view()).collect();
    let slots: Vec<_> = parts.iter().map(|fed| fed.slots.view()).collect();
    let weights: Vec<_> = parts.iter().map(|fed| fed.weights.view()).collect();
    Outcome {
        reads: ndarray::concatenate(axis, &reads).unwrap(),
        slots: ndarray::concatenate(axis, &slots).unwrap(),
        weights: ndarray::concatenate(axis, &weights).unwrap(),
        steps: parts.iter().flat_map(|fed| fed.steps.clone()).chain(last).collect(),
        tables,
    }
}

/// The bits of everything a run gives.
pub(crate) fn bits(outcome: &Outcome<f32>) -> Vec<(&'static str, Vec<u64>)> {
    let of = |numbers: &mut dyn Iterator<Item = f32>| numbers.map(|x| u64::from(x.to_bits())).collect::<Vec<_>>();
    let steps = &outcome.steps;
    vec![
        ("slots", outcome.slots.iter().map(|&slot| slot as u64).collect()),
        ("weights", of(&mut outcome.weights.iter().copied())),
        ("reads", of(&mut outcome.reads.iter().copied())),
        ("pair_losses", of(&mut steps.iter().flat_map(|step| step.pair_losses.iter().copied()))),
        ("entropy", of(&mut steps.iter().flat_map(|step| step.entropy))),
        ("addressing_loss", of(&mut steps.iter().map(|step| step.addressing_loss))),
        ("slots_touched", steps.iter().map(|step| step.slots_touched as u64).collect()),
        ("sub_keys", of(&mut outcome.tables.sub_keys.iter().copied())),
        ("slot_values", of(&mut outcome.tables.slot_values.iter().copied())),
    ]
}

/// Asserts that two runs give the same bits.
pub(crate) fn assert_same_bits(name: &str, one: &Outcome<f32>, other: &Outcome<f32>) {
    for ((tensor, one), (_, other)) in bits(one).into_iter().zip(bits(other)) {
        let differing = one.iter().zip(&other).filter(|(a, b)| a != b).count();
        assert!(one.len() == other.len() && differing == 0, "{name}: {tensor} differs in {differing} of {}", one.len());
    }
}
