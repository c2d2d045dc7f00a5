//! The oracles of the fuzz targets, on the recorded inputs of `fuzz/regressions` and on some random ones.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::common::cases::cases;
use fwpkm::oracle::bytes::Bytes;
use fwpkm::oracle::{
    Differentiated, Most, Oracle, Outcome, Scene, TARGETS, Tracked, cast_tables, gradients_hold, run, step_holds,
};
use fwpkm_reference::settings::Border;
use fwpkm_reference::{Memory, Scalar, Settings};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

/// The files of a folder, by name
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn every_recorded_input_holds() {
    for (name, oracle) in TARGETS {
        let files = files(&fuzz().join("regressions").join(name));
        assert!(!files.is_empty(), "no recorded inputs of {name}");
        for file in files {
            let bytes = std::fs::read(&file).unwrap();
            let held = std::panic::catch_unwind(|| oracle(&bytes));
            assert!(held.is_ok(), "{} does not hold; cargo fuzz run {name} {0}", file.display());
        }
    }
}

/// Random bytes, many of them small, up to a length
fn random_inputs_hold(target: &str, longest: usize, count: u32) {
    let oracle: Oracle = TARGETS.iter().find(|(name, _)| *name == target).unwrap().1;
    let bytes = prop::collection::vec(prop_oneof![2 => any::<u8>(), 1 => 0..16u8], 0..=longest);
    let held = TestRunner::new(cases(count)).run(&bytes, |bytes| {
        oracle(&bytes);
        Ok(())
    });
    held.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn random_inputs_of_top_k_retrieval_hold() {
    random_inputs_hold("top_k_retrieval", 200, 200);
}

#[test]
fn random_inputs_of_gradient_updates_hold() {
    random_inputs_hold("gradient_updates", 300, 200);
}

#[test]
fn random_inputs_of_stream_cuts_hold() {
    random_inputs_hold("stream_cuts", 300, 200);
}

#[test]
fn random_inputs_of_outer_gradients_hold() {
    random_inputs_hold("outer_gradients", 400, 300);
}

#[test]
fn random_inputs_of_case_files_hold() {
    random_inputs_hold("case_files", 300, 200);
}

#[test]
#[cfg(feature = "suite")]
fn random_inputs_of_recorded_outputs_hold() {
    random_inputs_hold("recorded_outputs", 60, 200);
}

#[test]
fn random_inputs_of_settings_files_hold() {
    random_inputs_hold("settings_files", 60, 200);
}

/// Small scenes of random bytes, each with what is said of it
fn of_small_scenes(said: impl Fn(&Scene) -> Result<(), TestCaseError>) {
    let most = Most { heads: 2, sub_keys: 4, half_dim: 3, value_dim: 3, sequences: 2, tokens: 5 };
    let bytes = prop::collection::vec(any::<u8>(), 400);
    let held = TestRunner::new(cases(100)).run(&bytes, |bytes| {
        // The first byte chooses the range of the numbers.
        said(&Scene::choose(&mut Bytes::new(&[&[0], bytes.as_slice()].concat()), most))
    });
    held.unwrap_or_else(|error| panic!("{error}"));
}

/// Every number of a small scene has a bound, and some are as far off as it allows.
#[test]
fn gradients_of_small_scenes_have_bounds_that_are_reached() {
    let (within, closest) = (Cell::new(0_u32), Cell::new(0.0_f64));
    of_small_scenes(|scene| {
        for judged in [step_holds::<f32>(scene), step_holds::<f64>(scene)] {
            within.set(within.get() + judged.within as u32);
            closest.set(closest.get().max(judged.closest));
            prop_assert_eq!(judged.unknown, 0);
        }
        Ok(())
    });
    println!("{} numbers within {} of their bounds", within.get(), closest.get());
    // A bound far above the errors seen would be worth little.
    assert!(
        within.get() > 50 * cases(100).cases && closest.get() > 0.5,
        "{within:?} numbers within {closest:?} of their bounds"
    );
}

/// Small scenes as texts to be differentiated: every one has a bound that says something.
#[test]
fn outer_gradients_of_small_scenes_have_bounds_that_say_something() {
    let (within, unknown) = (Cell::new(0_u32), Cell::new(0_u32));
    let (closest, seed) = (Cell::new(0.0_f64), Cell::new(0));
    of_small_scenes(|scene| {
        seed.set(seed.get() + 1);
        let carry = seed.get() % 2 == 1;
        let (chunk, lookahead) = (1 + seed.get() as usize % 3, seed.get() as usize / 2 % 3);
        let border = if carry { Border::Carry } else { Border::Drop };
        let lookahead = if carry { lookahead } else { lookahead.min(chunk - 1) };
        let settings = Settings { border, chunk, lookahead, ..scene.settings.clone() };
        let scene = Scene { settings, ..scene.clone() };
        let text = Differentiated { scene, cuts: vec![], flush: true, reset: None, seed: seed.get(), tables: true };
        let judged = gradients_hold(&text);
        within.set(within.get() + judged.within as u32);
        closest.set(closest.get().max(judged.closest));
        unknown.set(unknown.get() + judged.unknown as u32);
        Ok(())
    });
    println!("{} derivatives within {} of their bounds, {} without", within.get(), closest.get(), unknown.get());
    // Many steps may amplify an error beyond all bounds; that is rare.
    let known = 20 * within.get() >= 19 * cases(100).cases;
    assert!(known && closest.get() > 0.05, "{within:?} within {closest:?} of their bounds");
}

/// The numbers that carry their errors are those of the element type, to the bit.
#[test]
fn tracked_numbers_are_the_numbers_of_their_type() {
    fn outcome<S: Scalar>(scene: &Scene) -> Outcome {
        let settings = Settings { chunk: 2, ..scene.settings.clone() };
        let mut memory = Memory::<S>::new(settings, scene.rules.clone(), cast_tables(&scene.tables)).unwrap();
        run(&mut memory, &scene.text.cast(), &[], &[scene.text.shape().1]).unwrap()
    }
    of_small_scenes(|scene| {
        // Numbers of f32, so that the first rounding is not one of the input.
        let scene = Scene {
            tables: cast_tables(&cast_tables::<f64, f32>(&scene.tables)),
            text: scene.text.cast::<f32>().cast(),
            ..scene.clone()
        };
        prop_assert_eq!(outcome::<Tracked<f32>>(&scene), outcome::<f32>(&scene));
        prop_assert_eq!(outcome::<Tracked<f64>>(&scene), outcome::<f64>(&scene));
        Ok(())
    });
}

#[test]
#[cfg_attr(not(feature = "emulator"), ignore = "a target needs the emulator")]
fn every_target_has_an_oracle_recorded_inputs_and_a_place_in_the_book() {
    let name = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().to_string();
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_string()).collect();
    let folder_names = |folder: &str| files(&fuzz().join(folder)).iter().map(name).collect::<BTreeSet<String>>();
    assert_eq!(targets, folder_names("fuzz_targets"));
    assert_eq!(targets, folder_names("regressions"));
    let manifest = std::fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    let chapter = std::fs::read_to_string(fuzz().join("../docs/src/testing.md")).unwrap();
    for target in targets {
        let source = std::fs::read_to_string(fuzz().join(format!("fuzz_targets/{target}.rs"))).unwrap();
        assert!(source.contains(&format!("fwpkm::oracle::{target}")), "{target} calls another oracle");
        assert!(source.lines().count() <= 6, "the body of {target} belongs into its oracle");
        assert!(manifest.contains(&format!("name = \"{target}\"\npath = \"fuzz_targets/{target}.rs\"")), "{target}");
        assert!(chapter.contains(&format!("`{target}`")), "docs/src/testing.md does not name {target}");
    }
}

#[cfg(feature = "emulator")]
#[test]
fn random_inputs_of_long_sequence_hold() {
    random_inputs_hold("long_sequence", 60, 20);
}
