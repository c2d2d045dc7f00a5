//! The same runs on a CUDA device, where there is one: what it gives is what the emulator gives.
//!
//! Device and host differ only in exp and log of f64, whose last bit survives rounding to f32 about once in 2^29 numbers; so the
//! bits are compared, and only these settings: softmax of distances at temperature 1, without addressing, use neither.
#![cfg(feature = "emulator")]

#[path = "suite/common/mod.rs"]
pub(crate) mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use common::{Outcome, Scene, assert_same_bits, emulate, resident, run_on, scene, scenes};
use fwpkm_gpu::cuda::Cuda;
use fwpkm_gpu::{Backend, Error, Launching, Memory, Resident, Tile, Variant};
use fwpkm_reference::settings::{Activation, Score};
use fwpkm_reference::{Rules, Settings};

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
    // The driver keeps its context while somebody has it.
    let Some(_held) = device() else { return };
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
    let Some(_held) = device() else { return };
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
    let Some(_held) = device() else { return };
    for (name, scene) in exact_scenes() {
        let even = resident::evenly_cut(&scene, 5);
        let long = Scene { calls: vec![even.calls.iter().sum()], ..even };
        for scene in [&scene, &long] {
            compare_fed(name, scene, Launching::Persistent);
        }
    }
}

/// Numbers of sub-keys and widths as they are used: loops that small shapes pass once, tiles that they do not fill.
fn wide_scenes() -> [Scene; 2] {
    let sub_keys = Settings { sub_keys: 512, key_dim: 512, value_dim: 16, chunk: 40, ..Settings::paper() };
    let slot_values = Settings { sub_keys: 48, key_dim: 320, value_dim: 512, chunk: 70, ..Settings::paper() };
    [scene(41, sub_keys, Rules::paper(), 2, &[80]), scene(42, slot_values, Rules::paper(), 1, &[140])]
}

#[test]
fn wide_shapes_give_the_bits_of_the_emulator() {
    for addressed in wide_scenes() {
        let settings = Settings { addressing_weight: 0.0, ..addressed.settings.clone() };
        compare_fed("wide", &Scene { settings, ..addressed }, Launching::Graphs);
    }
}

// Entropies are logarithms: one device beside itself.
#[test]
fn wide_shapes_give_the_same_bits_in_every_tile() {
    wide_shapes_with([Tile::LARGE, Tile::TENSOR], Launching::Single);
}

#[test]
fn wide_shapes_give_the_same_bits_in_one_launch() {
    wide_shapes_with([Tile::SMALL, Tile::TENSOR_SMALL], Launching::Persistent);
}

fn wide_shapes_with(tiles: [Tile; 2], launching: Launching) {
    for scene in wide_scenes() {
        let run = |tile, launching| {
            let (mut memory, reads) = resident::feed(device()?, &scene, Variant::Fast(tile), launching).unwrap();
            memory.settle().unwrap();
            Some((reads, memory.tables().unwrap()))
        };
        let first = run(Tile::SMALL, Launching::Graphs);
        for tile in tiles {
            assert!(run(tile, launching) == first, "other bits with {tile:?}, {launching:?}");
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
        let same = Cuda::with_stream(device.stream().clone()).unwrap();
        // SAFETY: 16 bytes that live longer than the buffer.
        let borrowed = unsafe { same.buffer_from_raw(theirs.address(), 16) };
        same.write(&borrowed, 4, &[5.0_f32]).unwrap();
        assert!(same.read(&borrowed, 4, &mut read).is_err());
    }
    device.read(&theirs, 0, &mut read).unwrap();
    assert_eq!(read, [1.0, 5.0, 3.0, 4.0]);
}

#[test]
#[expect(unsafe_code, reason = "a stream is taken on trust")]
fn default_streams_are_refused() {
    let Some(device) = device() else { return };
    let context = device.stream().context();
    // SAFETY: CU_STREAM_LEGACY, which every context has.
    let legacy = unsafe { context.wrap_borrowed_stream(1 as _) };
    for stream in [context.default_stream(), context.per_thread_stream(), legacy] {
        let error = Cuda::with_stream(stream).unwrap_err();
        assert!(matches!(error, Error::Misuse { .. }) && error.to_string().contains("new_stream"), "{error}");
    }
}

/// What another allocates in the context is tracked, as cudarc does it.
#[test]
fn event_tracking_is_on() {
    let Some(device) = device() else { return };
    assert!(device.stream().context().is_event_tracking());
}

#[test]
#[expect(unsafe_code, reason = "recorded work is done")]
fn what_others_put_into_the_stream_is_not_recorded() {
    let Some(device) = device() else { return };
    let other = Cuda::with_stream(device.stream().clone()).unwrap();
    let (ours, theirs) = (device.allocate("ours", 4).unwrap(), other.allocate("theirs", 4).unwrap());
    let get = |buffer| {
        let mut number = [0_i32];
        device.read(buffer, 0, &mut number).unwrap();
        number[0]
    };
    device.write(&ours, 0, &[1_i32]).unwrap();
    device.write(&theirs, 0, &[2_i32]).unwrap();
    let graph = device.record(&mut || {
        other.zero(&theirs)?;
        device.zero(&ours)
    });
    let graph = graph.unwrap();
    assert_eq!((get(&ours), get(&theirs)), (1, 0));
    device.write(&theirs, 0, &[3_i32]).unwrap();
    // SAFETY: recorded by this device, and the buffer is there.
    unsafe { device.replay(&graph) }.unwrap();
    assert_eq!((get(&ours), get(&theirs)), (0, 3));
}

#[test]
fn after_a_recording_that_failed_or_panicked_work_is_done_again() {
    let Some(device) = device() else { return };
    let buffer = device.allocate("buffer", 4).unwrap();
    let failed = device.record(&mut || device.write(&buffer, 0, &[1_i32]));
    assert!(matches!(failed, Err(Error::Misuse { .. })), "{failed:?}");
    assert!(catch_unwind(AssertUnwindSafe(|| device.record(&mut || panic!("planted")))).is_err());
    device.write(&buffer, 0, &[5_i32]).unwrap();
    device.zero(&buffer).unwrap();
    let mut number = [1_i32];
    device.read(&buffer, 0, &mut number).unwrap();
    assert_eq!(number, [0]);
    device.record(&mut || device.zero(&buffer)).unwrap();
}

#[test]
fn a_memory_can_be_dropped_while_its_work_runs() {
    let Some(device) = device() else { return };
    let scene = scenes().swap_remove(0).1;
    let (tokens, settings) = (scene.settings.chunk, scene.settings.clone());
    let buffer = |numbers: usize| {
        let buffer = device.allocate("tokens", numbers * 4).unwrap();
        device.write(&buffer, 0, &vec![1.0_f32; numbers]).unwrap();
        buffer
    };
    let (queries, values) = (buffer(tokens * settings.heads * settings.key_dim), buffer(tokens * settings.value_dim));
    let reads = buffer(tokens * settings.value_dim);
    let own = Cuda::with_stream(device.stream().clone()).unwrap();
    let variant = Variant::Fast(Tile::SMALL);
    let mut memory = Memory::new(own, settings, scene.rules, scene.tables, variant).unwrap();
    let tokens = Resident { tokens, sequences: 1, queries: &queries, values: &values, gates: None, mask: None };
    for _ in 0..3 {
        memory.feed_resident(&tokens, &reads).unwrap();
    }
    drop(memory);
    let mut read = [f32::NAN];
    device.read(&reads, 0, &mut read).unwrap();
    assert!(read[0].is_finite());
}
