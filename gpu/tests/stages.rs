//! Every stage on the emulator against the interpreter in f64, within the bounds of NUM-2 to NUM-6.
#![cfg(feature = "emulator")]

mod common;

use common::lockstep::check_scene;
use common::stages::Shares;
use common::{TINY, scenes};
use fwpkm_gpu::Variant;

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
