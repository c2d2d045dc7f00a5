//! The same runs on a CUDA device, where there is one: what it gives is what the emulator gives.
//!
//! Device and host differ only in exp and log of f64, whose last bit survives rounding to f32 about once in 2^29 numbers; so the
//! bits are compared, and only these settings: softmax of distances at temperature 1, without addressing, use neither.
#![cfg(feature = "emulator")]

pub(crate) mod common;

use common::{Outcome, Scene, assert_same_bits, emulate, resident, run_on, scenes};
use fwpkm_gpu::cuda::Cuda;
use fwpkm_gpu::{Backend, Error, Launching, Tile, Variant};
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

/// Scenes whose numbers need no logarithm but for the entropy.
fn exact_scenes() -> Vec<(&'static str, Scene)> {
    let mut all = scenes();
    all.retain(|(_, scene)| {
        let settings = &scene.settings;
        let distances = matches!(settings.score, Score::InverseDistance { .. });
        distances && settings.activation == Activation::Softmax && settings.temperature == 1.0
    });
    for (_, scene) in &mut all {
        scene.settings.addressing_weight = 0.0;
    }
    all
}

#[test]
fn a_device_gives_the_bits_of_the_emulator() {
    for (number, (name, scene)) in exact_scenes().into_iter().enumerate() {
        // A device compiles each anew: not all of them for every scene.
        let other = [Variant::Simple, Variant::Fast(Tile::LARGE), Variant::Fast(Tile::TENSOR)][number % 3];
        for variant in [Variant::Fast(Tile::SMALL), other] {
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

#[test]
fn feeding_from_the_device_gives_the_bits_of_the_emulator() {
    for (name, scene) in exact_scenes() {
        let even = resident::evenly_cut(&scene, 5);
        for (scene, launching) in [(&scene, Launching::Graphs), (&even, Launching::Graphs), (&even, Launching::Single)]
        {
            compare_fed(name, scene, launching);
        }
    }
}

#[test]
fn whole_chunks_in_one_launch_give_the_bits_of_the_emulator() {
    for (name, scene) in exact_scenes() {
        let even = resident::evenly_cut(&scene, 5);
        let long = Scene { calls: vec![even.calls.iter().sum()], ..even };
        for scene in [&scene, &long] {
            compare_fed(name, scene, Launching::Persistent);
        }
    }
}

fn compare_fed(name: &str, scene: &Scene, launching: Launching) {
    let Some(device) = device() else { return };
    let (mut memory, reads) = resident::feed(device, scene, Variant::Fast(Tile::SMALL), launching).unwrap();
    memory.settle().unwrap();
    memory.flush().unwrap();
    let theirs = emulate(scene, Variant::Simple, 1).unwrap();
    let ours = Outcome { reads, tables: memory.tables().unwrap(), ..theirs.clone() };
    assert_same_bits(name, &ours, &theirs);
}

/// Memory of somebody else's, on somebody else's stream.
#[test]
#[expect(unsafe_code, reason = "an address is taken on trust")]
fn a_stream_and_memory_of_others_can_be_used() {
    let Some(device) = device() else { return };
    let theirs = device.allocate("theirs", 16).unwrap();
    device.write(&theirs, 0, &[1.0_f32, 2.0, 3.0, 4.0]).unwrap();
    let mut read = [0.0_f32; 4];
    {
        let same = Cuda::on(device.stream().clone()).unwrap();
        // SAFETY: 16 bytes that live longer than the buffer.
        let borrowed = unsafe { same.borrow(theirs.address(), 16) };
        same.write(&borrowed, 4, &[5.0_f32]).unwrap();
        assert!(same.read(&borrowed, 4, &mut read).is_err());
    }
    device.read(&theirs, 0, &mut read).unwrap();
    assert_eq!(read, [1.0, 5.0, 3.0, 4.0]);
}
