//! NUM-7, BAT-1, BAT-2: what the interpreter refuses is refused with its error, and nothing has changed.

use fwpkm_gpu::emulator::Emulator;
use fwpkm_gpu::{Error, MOST_TOP_K, Memory, Tile, Variant};
use fwpkm_reference::settings::{Activation, Border, Score};
use fwpkm_reference::{Error as MemoryError, Rules, Settings, StepReport, Tables};

use crate::common::{self, Scene, TINY, emulate, scene};

const FAST: Variant = Variant::Fast(TINY);

fn settings() -> Settings {
    Settings { sub_keys: 6, key_dim: 4, value_dim: 4, top_k: 2, chunk: 3, ..Settings::paper() }
}

fn simple_scene(settings: Settings) -> Scene {
    scene(1, settings, Rules::paper(), 1, &[3, 2])
}

fn memories(scene: &Scene, variant: Variant) -> (Memory<Emulator>, fwpkm_reference::Memory<f32>) {
    let (settings, rules) = (scene.settings.clone(), scene.rules.clone());
    let ours = Memory::new(Emulator::new(5), settings.clone(), rules.clone(), scene.tables.clone(), variant).unwrap();
    (ours, fwpkm_reference::Memory::new(settings, rules, scene.tables.clone()).unwrap())
}

fn bits(tables: &Tables<f32>) -> Vec<u32> {
    tables.sub_keys.iter().chain(&tables.slot_values).map(|x| x.to_bits()).collect()
}

/// Feeds both until one fails; both must fail alike and keep their tables.
fn fails_alike(name: &str, scene: &Scene, expected: Option<&'static str>) {
    for variant in [Variant::Simple, FAST] {
        let (mut ours, mut theirs) = memories(scene, variant);
        let mut from = 0;
        let mut found = None;
        for &call in &scene.calls {
            let before = ours.tables().unwrap();
            let tokens = scene.text.slice(from, from + call);
            match (ours.feed(&tokens), theirs.feed(&tokens)) {
                (Ok(_), Ok(_)) => from += call,
                (Err(ours_), Err(theirs_)) => {
                    assert_eq!(ours_, Error::Memory(theirs_.clone()), "{name}");
                    assert_eq!(bits(&before), bits(&ours.tables().unwrap()), "{name}: tables changed");
                    assert_eq!(
                        ours.flush().unwrap_err(),
                        Error::Memory(theirs.flush().unwrap_err()),
                        "{name}: goes on"
                    );
                    assert_eq!(ours.queued(), theirs.queued(), "{name}");
                    let (ours, theirs) = (ours.state().unwrap(), theirs.clone().into_state());
                    assert_eq!((ours.queued, ours.steps), (theirs.queued, theirs.steps), "{name}: state");
                    found = Some(theirs_);
                    break;
                }
                (ours, theirs) => panic!("{name}: {ours:?} but {theirs:?}"),
            }
        }
        match (expected, found) {
            (Some(expected), Some(MemoryError::Diverged { tensor, .. })) => assert_eq!(tensor, expected, "{name}"),
            (expected, found) => assert!(expected.is_none() && found.is_none(), "{name}: {found:?}"),
        }
        // With sound tables both go on, the failed chunk first.
        if expected.is_some() {
            let sound = common::scene(9, scene.settings.clone(), Rules::paper(), 1, &[1]).tables;
            ours.reset_tables(&sound).unwrap();
            theirs.reset_tables(sound).unwrap();
            ours.reset_queue().unwrap();
            theirs.reset_queue();
            let next = common::scene(1, scene.settings.clone(), Rules::paper(), 1, &[3]).text;
            assert_eq!(ours.feed(&next.slice(0, 3)).is_ok(), theirs.feed(&next.slice(0, 3)).is_ok(), "{name}");
        }
    }
}

#[test]
fn num_7_overflow_of_every_tensor_is_the_interpreters() {
    let dot = Settings { score: Score::DotProduct, ..settings() };
    let scaled = |settings: &Settings, change: &dyn Fn(&mut Scene)| {
        let mut scene = simple_scene(settings.clone());
        change(&mut scene);
        scene
    };
    fails_alike("nothing", &simple_scene(settings()), None);
    let far = scaled(&settings(), &|scene| scene.text.queries[[0, 3, 1]] = 1e20);
    fails_alike("half scores", &far, Some("half_scores"));
    let far = scaled(&dot, &|scene| {
        scene.text.queries[[0, 4, 0]] = 1e25;
        scene.tables.sub_keys *= 1e20;
    });
    fails_alike("dot products", &far, Some("half_scores"));
    let sums = scaled(&dot, &|scene| {
        scene.tables.sub_keys.fill(0.0);
        scene.tables.sub_keys.slice_mut(ndarray::s![.., .., .., 0]).fill(1.0);
        scene.text.queries.fill(0.0);
        scene.text.queries[[0, 1, 0]] = 3e38;
        scene.text.queries[[0, 1, 2]] = 3e38;
    });
    fails_alike("pair scores", &sums, Some("pair_scores"));
    let weights = Settings { activation: Activation::Silu, temperature: 1e-38, ..dot.clone() };
    fails_alike("weights", &simple_scene(weights), Some("weights"));
    let reads = Settings { activation: Activation::Relu, score: Score::DotProduct, ..settings() };
    let reads = scaled(&reads, &|scene| {
        scene.tables.slot_values.fill(1e38);
        scene.text.queries *= 100.0;
    });
    fails_alike("reads", &reads, Some("reads"));
    let losses = scaled(&settings(), &|scene| scene.text.values[[0, 1, 0]] = 1e25);
    fails_alike("pair losses", &losses, Some("pair_losses"));
    // The target of the second token; its pair does not count, by mask and by gate.
    for masked in [true, false] {
        let without = scaled(&settings(), &|scene| {
            scene.text.values[[0, 2, 0]] = 1e25;
            scene.text.mask = masked.then(|| ndarray::array![[true, false, true, true, true]]);
            scene.text.gates = (!masked).then(|| ndarray::array![[1.0, 0.0, 1.0, 0.5, 1.0]]);
        });
        fails_alike("a pair that does not count", &without, None);
    }
    let rates = Settings { learning_rate: 3e38, ..settings() };
    let rates = scaled(&rates, &|scene| scene.text.values *= 1e6);
    fails_alike("slot values", &rates, Some("slot_values"));
    let alpha = Settings { addressing_weight: 3e38, ..settings() };
    fails_alike("addressing loss", &simple_scene(alpha), Some("addressing_loss"));
    let steps = Settings { learning_rate: 1e37, addressing_weight: 1e6, gradient_clip: None, ..settings() };
    let steps = scaled(&steps, &|scene| {
        scene.text.values.fill(0.0);
        scene.tables.slot_values.fill(0.0);
    });
    fails_alike("sub-keys", &steps, Some("sub_keys"));
    let decays = Settings { weight_decay: 3e38, learning_rate: 1e-30, ..settings() };
    fails_alike("decay", &simple_scene(decays), Some("slot_values"));
}

#[test]
fn bat_2_a_failed_chunk_is_stepped_first_after_reset_tables() {
    let mut scene = simple_scene(settings());
    scene.text.values[[0, 1, 0]] = 1e25;
    for variant in [Variant::Simple, FAST] {
        let (mut ours, mut theirs) = memories(&scene, variant);
        assert!(ours.feed(&scene.text.slice(0, 3)).is_err() && theirs.feed(&scene.text.slice(0, 3)).is_err());
        // The loss overflows again, now as the first thing of the next call.
        ours.reset_tables(&scene.tables).unwrap();
        theirs.reset_tables(scene.tables.clone()).unwrap();
        let (ours_, theirs_) = (ours.feed(&scene.text.slice(3, 5)), theirs.feed(&scene.text.slice(3, 5)));
        assert_eq!(ours_.unwrap_err(), Error::Memory(theirs_.unwrap_err()));
        assert_eq!(ours.queued(), 3);
    }
}

#[test]
fn bat_2_after_a_divergence_the_queue_and_the_next_steps_are_the_interpreters() {
    let carry = Settings { border: Border::Carry, lookahead: 2, ..settings() };
    let cases = [
        ("drop", settings(), Rules::paper(), vec![2, 2, 4, 3]),
        ("carry", carry.clone(), Rules::paper(), vec![3, 4, 4, 3]),
        ("carry, counted by call", carry, Rules::release(), vec![3, 4, 4, 3]),
    ];
    for (name, settings, rules, calls) in cases {
        for variant in [Variant::Simple, FAST] {
            let sound = scene(4, settings.clone(), rules.clone(), 1, &calls);
            let mut scene = sound.clone();
            scene.tables.slot_values *= 1e25;
            let (mut ours, mut theirs) = memories(&scene, variant);
            let (mut from, mut failed) = (0, false);
            for &call in &calls {
                let tokens = scene.text.slice(from, from + call);
                let (one, other) = (ours.feed(&tokens), theirs.feed(&tokens));
                assert_eq!(ours.queued(), theirs.queued(), "{name} after token {from}");
                match (one, other) {
                    (Err(one), Err(other)) => {
                        assert_eq!(one, Error::Memory(other), "{name}");
                        failed = true;
                        ours.reset_tables(&sound.tables).unwrap();
                        theirs.reset_tables(sound.tables.clone()).unwrap();
                    }
                    (Ok(one), Ok(other)) => {
                        let shapes = |steps: &[StepReport<f32>]| -> Vec<_> {
                            steps.iter().map(|step| (step.pair_losses.dim(), step.slots_touched)).collect()
                        };
                        assert_eq!(shapes(&one.steps), shapes(&other.steps), "{name} after token {from}");
                    }
                    (one, other) => panic!("{name}: {one:?} but {other:?}"),
                }
                from += call;
            }
            assert!(failed, "{name}");
            assert_eq!(ours.flush().unwrap().is_some(), theirs.flush().unwrap().is_some(), "{name}");
            assert_eq!((ours.queued(), ours.steps()), (theirs.queued(), theirs.steps()), "{name}");
            let (one, other) = (ours.tables().unwrap(), theirs.tables().clone());
            let close = |one: f32, other: f32| (one - other).abs() <= 1e-3 * other.abs().max(1.0);
            assert!(one.slot_values.iter().zip(&other.slot_values).all(|(&one, &other)| close(one, other)), "{name}");
        }
    }
}

#[test]
fn num_7_numbers_that_are_not_finite_are_refused() {
    let scene = simple_scene(settings());
    let refused = |change: &dyn Fn(&mut Scene)| {
        let mut scene = scene.clone();
        change(&mut scene);
        let (mut ours, mut theirs) = memories(&scene, FAST);
        let before = bits(&ours.tables().unwrap());
        let tokens = scene.text.slice(0, 3);
        // As text: NaN is no equal of itself.
        let (ours_, theirs_) = (ours.feed(&tokens).unwrap_err(), theirs.feed(&tokens).unwrap_err());
        assert_eq!(ours_.to_string(), theirs_.to_string());
        assert_eq!((bits(&ours.tables().unwrap()), ours.queued()), (before, 0));
    };
    refused(&|scene| scene.text.queries[[0, 1, 2]] = f32::NAN);
    refused(&|scene| scene.text.values[[0, 2, 0]] = f32::INFINITY);
    refused(&|scene| scene.text.gates = Some(ndarray::Array2::from_elem((1, 5), f32::NAN)));
    refused(&|scene| scene.text.gates = Some(ndarray::Array2::from_elem((2, 5), 1.0)));
    refused(&|scene| scene.text.values = ndarray::Array3::zeros((1, 5, 3)));
    refused(&|scene| scene.text.queries = ndarray::Array3::zeros((1, 5, 3)));
}

#[test]
fn bat_1_a_batch_and_its_gates_stay_while_tokens_are_queued() {
    let scene = simple_scene(settings());
    let (mut ours, mut theirs) = memories(&scene, FAST);
    let first = scene.text.slice(0, 2);
    ours.feed(&first).unwrap();
    theirs.feed(&first).unwrap();
    let ungated = common::Text { gates: None, ..scene.text.clone() };
    let masked = common::Text { mask: Some(ndarray::Array2::from_elem((1, 5), true)), ..scene.text.clone() };
    let two = common::scene(1, settings(), Rules::paper(), 2, &[3, 2]).text;
    for text in [&ungated, &masked, &two] {
        let tokens = text.slice(2, 4);
        assert_eq!(ours.feed(&tokens).unwrap_err(), Error::Memory(theirs.feed(&tokens).unwrap_err()));
    }
    ours.reset_queue().unwrap();
    assert_eq!(ours.feed(&two.slice(0, 4)).unwrap().steps.len(), 1);
}

#[test]
fn settings_that_are_wrong_or_too_large_are_refused() {
    let scene = simple_scene(Settings { top_k: 7, ..settings() });
    let error = emulate(&scene, FAST, 1).unwrap_err();
    assert!(matches!(error, Error::Memory(MemoryError::Setting { name: "top_k", .. })), "{error}");
    let large = simple_scene(Settings { sub_keys: 40, top_k: MOST_TOP_K + 1, ..settings() });
    let error = emulate(&large, FAST, 1).unwrap_err();
    assert_eq!(error.to_string(), "top_k is 33; the kernels take at most 32");
}

#[test]
fn tiles_that_the_kernels_cannot_be_cut_into_are_refused() {
    let scene = simple_scene(settings());
    let tile = |side, per_thread, blocks| Tile { side, per_thread, blocks, tensor_cores: false };
    for (tile, word) in [
        (tile(64, 0, 8192), "per_thread"),
        (tile(64, 3, 8192), "per_thread"),
        (tile(62, 2, 8192), "multiple of 4"),
        (tile(0, 1, 8192), "multiple of 4"),
        (tile(64, 1, 8192), "1024"),
        (tile(384, 16, 8192), "380"),
        (tile(64, 32, 8192), "16"),
        (tile(usize::MAX - 3, 4, 8192), "1024"),
        (tile(64, 4, 0), "blocks"),
        (tile(64, 4, 1 << 31), "blocks"),
    ] {
        let error = emulate(&scene, Variant::Fast(tile), 1).unwrap_err();
        assert!(matches!(error, Error::Tile { tile: given, .. } if given == tile), "{error}");
        assert!(error.to_string().contains(word) && error.to_string().contains("Tile::SMALL"), "{error}");
    }
    let whole = emulate(&scene, Variant::Simple, 1).unwrap();
    for tile in [tile(12, 3, 1), tile(4, 1, 2), tile(60, 5, 7)] {
        assert_eq!(bits(&emulate(&scene, Variant::Fast(tile), 1).unwrap().tables), bits(&whole.tables), "{tile:?}");
    }
}
