//! Every stage on the emulator against the interpreter in f64, within the bounds of NUM-2 to NUM-6.

use fwpkm_gpu::Variant;

use crate::common::lockstep::check_scene;
use crate::common::stages::Shares;
use crate::common::{TINY, close_scenes, scenes};

#[test]
fn every_stage_is_within_its_bound() {
    let mut shares = Shares::default();
    for (name, scene) in scenes() {
        println!("{name}");
        check_scene(&scene, Variant::Fast(TINY), 7, &mut shares);
    }
    println!("largest share of the bound: {:#.3?}", shares.0);
    // A stage that was never off by anything was not looked at.
    assert!(shares.0.len() == 9 && shares.0.values().all(|&share| share > 1e-3), "{shares:?}");
}

#[test]
fn num_6_choices_that_hang_on_rounding_are_right() {
    for (name, scene) in close_scenes() {
        println!("{name}");
        check_scene(&scene, Variant::Fast(TINY), 8, &mut Shares::default());
    }
}

/// Distances of small integers are exact in both, so that every tie is one.
#[test]
fn sel_1_ties_take_the_lower_sub_key_as_in_the_interpreter() {
    let scene = close_scenes().swap_remove(0).1;
    let device = fwpkm_gpu::emulator::Emulator::new(2);
    let (settings, rules) = (scene.settings.clone(), scene.rules.clone());
    let mut ours =
        fwpkm_gpu::Memory::new(device, settings.clone(), rules, scene.tables.clone(), Variant::Fast(TINY)).unwrap();
    ours.feed(&scene.text.slice(0, 9)).unwrap();
    let ours = ours.last_reading(9).unwrap();
    let halves = scene.text.queries.to_shape((9, 1, 2, 6)).unwrap();
    let scores = fwpkm_reference::score::half_scores(&settings, scene.tables.sub_keys.view(), halves.view());
    let theirs = fwpkm_reference::select::select(&settings, scores.view());
    assert_eq!(ours.half_indices, theirs.half_indices);
    let tied = theirs.half_scores.rows().into_iter().filter(|row| row[0] == row[1]).count();
    assert!(tied > 3, "the scene has no ties");
}
