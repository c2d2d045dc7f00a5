//! The same runs on a CUDA device, where there is one: what it gives is what the emulator gives.
//!
//! Device and host differ only in exp and log of f64, whose last bit survives rounding to f32 about once in 2^29 numbers; so the
//! bits are compared, and only these settings: softmax of distances at temperature 1, without addressing, use neither.
#![cfg(feature = "emulator")]

mod common;

use common::{Scene, assert_same_bits, emulate, run_on, scenes};
use fwpkm_gpu::cuda::Cuda;
use fwpkm_gpu::{Error, Tile, Variant};
use fwpkm_reference::settings::{Activation, Score};

/// None, with a line that says why, where there is no device.
fn device() -> Option<Cuda> {
    match Cuda::new(0) {
        Ok(device) => Some(device),
        Err(error @ (Error::NoDriver | Error::NoDevice { .. } | Error::NoNvrtc)) => {
            println!("not run: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn without_logarithms(scene: &Scene) -> bool {
    let settings = &scene.settings;
    let distances = matches!(settings.score, Score::InverseDistance { .. });
    distances && settings.activation == Activation::Softmax && settings.temperature == 1.0
}

#[test]
fn a_device_gives_the_bits_of_the_emulator() {
    for (name, scene) in scenes() {
        if !without_logarithms(&scene) {
            continue;
        }
        let mut scene = scene;
        scene.settings.addressing_weight = 0.0;
        for variant in [Variant::Fast(Tile::SMALL), Variant::Fast(Tile::LARGE), Variant::Simple] {
            let Some(device) = device() else { return };
            let ours = run_on(device, &scene, variant).unwrap_or_else(|error| panic!("{name}: {error}"));
            let mut theirs = emulate(&scene, Variant::Simple, 1).unwrap();
            // Entropies are logarithms.
            for (one, other) in theirs.steps.iter_mut().zip(&ours.steps) {
                (one.entropy, one.addressing_loss) = (other.entropy, other.addressing_loss);
            }
            assert_same_bits(name, &ours, &theirs);
        }
    }
}
