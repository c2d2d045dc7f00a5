//! Feeding from the device gives the bits of feeding from the host, and finds divergence when asked.
#![cfg(feature = "emulator")]

mod common;

use common::{Scene, TINY, assert_same_bits, emulate, scenes};
use fwpkm_gpu::emulator::{Buffer, Emulator};
use fwpkm_gpu::{Backend, Error, Memory, Number, Resident, Variant};
use fwpkm_reference::settings::Border;
use fwpkm_reference::{Error as MemoryError, Tables, Tokens};
use ndarray::{Array2, Array3, ArrayView, Dimension, s};

fn time_major<T: Copy, D: Dimension>(mut tokens: ArrayView<T, D>) -> Vec<T> {
    tokens.swap_axes(0, 1);
    tokens.iter().copied().collect()
}

fn on_device<T: Number>(device: &Emulator, numbers: &[T]) -> Buffer {
    let buffer = device.allocate("tokens", size_of_val(numbers).max(4)).unwrap();
    device.write(&buffer, 0, numbers).unwrap();
    buffer
}

/// Memory after the scene's calls, fed from the device, and what was read
fn feed(scene: &Scene) -> (Memory<Emulator>, Array3<f32>) {
    feed_with(scene, true)
}

fn feed_with(scene: &Scene, graphs: bool) -> (Memory<Emulator>, Array3<f32>) {
    let (settings, rules) = (scene.settings.clone(), scene.rules.clone());
    let mut memory = Memory::new(Emulator::new(1), settings, rules, scene.tables.clone(), Variant::Fast(TINY)).unwrap();
    memory.use_graphs(graphs);
    let mut from = 0;
    let mut all = Array3::zeros((scene.text.queries.dim().0, scene.calls.iter().sum(), scene.settings.value_dim));
    for &call in &scene.calls {
        let part = feed_call(&mut memory, &scene.text.slice(from, from + call));
        all.slice_mut(s![.., from..from + call, ..]).assign(&part);
        from += call;
    }
    (memory, all)
}

/// Feeds from the device, [sequences, tokens, ..]
fn feed_call(memory: &mut Memory<Emulator>, tokens: &Tokens<f32>) -> Array3<f32> {
    let device = Emulator::new(9);
    let (sequences, call, width) = (tokens.sequences(), tokens.len(), memory.settings().value_dim);
    let count = call * sequences * width;
    let reads = device.allocate("read", (count * 4).max(4)).unwrap();
    let mask = tokens.mask.map(|mask| on_device(&device, &time_major(mask.mapv(i32::from).view())));
    let gates = tokens.gates.map(|gates| on_device(&device, &time_major(gates)));
    let resident = Resident {
        tokens: call,
        sequences,
        queries: &on_device(&device, &time_major(tokens.queries)),
        values: &on_device(&device, &time_major(tokens.values)),
        gates: gates.as_ref(),
        mask: mask.as_ref(),
    };
    memory.feed_resident(&resident, &reads).unwrap();
    let mut numbers = vec![0.0_f32; count];
    device.read(&reads, 0, &mut numbers).unwrap();
    let mut part = Array3::from_shape_vec((call, sequences, width), numbers).unwrap();
    part.swap_axes(0, 1);
    part
}

#[test]
fn feeding_from_the_device_gives_the_same_bits() {
    for (name, scene) in scenes() {
        let expected = emulate(&scene, Variant::Fast(TINY), 4).unwrap();
        let (mut memory, reads) = feed(&scene);
        memory.settle().unwrap();
        memory.flush().unwrap();
        let ours = common::Outcome { reads, tables: memory.tables().unwrap(), ..expected.clone() };
        assert_same_bits(name, &expected, &ours);
    }
}

/// The options of a scene on a text of several calls of one chunk each.
fn evenly_cut(scene: &Scene, calls: usize) -> Scene {
    let sequences = scene.text.queries.dim().0;
    let even =
        common::scene(31, scene.settings.clone(), scene.rules.clone(), sequences, &vec![scene.settings.chunk; calls]);
    Scene { tables: scene.tables.clone(), ..even }
}

#[test]
fn recorded_graphs_give_the_same_bits() {
    for (name, scene) in scenes() {
        let scene = evenly_cut(&scene, 5);
        let expected = emulate(&scene, Variant::Fast(TINY), 4).unwrap();
        for (graphs, least) in [(true, 1 + usize::from(scene.settings.writes)), (false, 0)] {
            let (mut memory, reads) = feed_with(&scene, graphs);
            memory.settle().unwrap();
            assert!(memory.graphs() >= least, "{name}: {} graphs", memory.graphs());
            assert_eq!(memory.graphs() > 0, graphs, "{name}");
            memory.flush().unwrap();
            let ours = common::Outcome { reads, tables: memory.tables().unwrap(), ..expected.clone() };
            assert_same_bits(name, &expected, &ours);
        }
    }
}

/// What fails in a graph has the number of its own chunk, and the memory can go on with the same graphs.
#[test]
fn num_7_a_replayed_graph_names_its_chunk() {
    let mut scene = evenly_cut(&scenes().swap_remove(0).1, 5);
    let (chunk, sound) = (scene.settings.chunk, scene.clone());
    for (value, expected) in [
        (f32::NAN, Error::NotFinite { tensor: "values", chunk: 3, token: 2, sequence: 0 }),
        (1e25, MemoryError::Diverged { chunk: 3, stage: "memorize", tensor: "pair_losses" }.into()),
    ] {
        scene.text.values[[0, 3 * chunk + 2, 0]] = value;
        let (mut memory, _) = feed(&scene);
        assert_eq!(memory.settle().unwrap_err(), expected);
        assert_eq!((memory.steps(), memory.queued()), (3, 0));
        memory.reset_queue().unwrap();
        // The fourth chunk as it should have been.
        let before = memory.graphs();
        feed_call(&mut memory, &sound.text.slice(3 * chunk, 4 * chunk));
        memory.settle().unwrap();
        assert_eq!((memory.steps(), memory.graphs()), (4, before));
        let first = Scene { calls: vec![chunk; 4], ..sound.clone() };
        let expected = emulate(&first, Variant::Fast(TINY), 1).unwrap().tables;
        let bits = |numbers: &Array2<f32>| numbers.mapv(f32::to_bits);
        assert_eq!(bits(&memory.tables().unwrap().slot_values), bits(&expected.slot_values));
    }
}

#[test]
fn num_7_numbers_from_the_device_are_checked_before_the_tables_change() {
    for (name, scene) in scenes() {
        let (chunk, gated) = (scene.settings.chunk, scene.text.gates.is_some());
        if !scene.settings.writes || scene.settings.border != Border::Drop || scene.text.queries.dim().1 < 2 * chunk {
            continue;
        }
        for (tensor, value) in [("queries", f32::NAN), ("values", f32::INFINITY), ("gates", f32::NEG_INFINITY)] {
            let mut wrong = scene.clone();
            let last = wrong.text.queries.dim().0 - 1;
            match (tensor, &mut wrong.text.gates) {
                ("queries", _) => wrong.text.queries[[last, chunk + 1, 2]] = value,
                ("values", _) => wrong.text.values[[last, chunk + 1, 1]] = value,
                (_, Some(gates)) => gates[[last, chunk + 1]] = value,
                (_, None) => continue,
            }
            let (mut memory, _) = feed(&wrong);
            let error = memory.settle().unwrap_err();
            assert_eq!(error, Error::NotFinite { tensor, chunk: 1, token: 1, sequence: last }, "{name}, gates {gated}");
            assert_eq!((memory.steps(), memory.queued()), (1, 0), "{name}");
            assert_eq!(memory.flush().unwrap_err(), error, "{name}");
            // One chunk in a call of its own, fed from the host: what the tables were before.
            let first = Scene { calls: vec![chunk], ..scene.clone() };
            let before = emulate(&first, Variant::Fast(TINY), 1).unwrap().tables;
            let ours = memory.tables().unwrap();
            let bits = |tables: &Tables<f32>| -> Vec<u32> {
                tables.sub_keys.iter().chain(&tables.slot_values).map(|x| x.to_bits()).collect()
            };
            assert_eq!(bits(&ours), bits(&before), "{name}");
            memory.reset_queue().unwrap();
            memory.feed(&scene.text.slice(0, chunk)).unwrap();
        }
    }
}

#[test]
fn divergence_is_found_by_settle_and_leaves_the_tables_before_its_step() {
    let mut scene = scenes().swap_remove(0).1;
    let chunk = scene.settings.chunk;
    scene.text.values[[0, chunk + 2, 0]] = 1e25;
    let (mut memory, _) = feed(&scene);
    let error = memory.settle().unwrap_err();
    let expected = MemoryError::Diverged { chunk: 1, stage: "memorize", tensor: "pair_losses" };
    assert_eq!(error, Error::Memory(expected));
    assert_eq!((memory.steps(), memory.queued()), (1, 0));
    let first = Scene { calls: vec![chunk], ..scene };
    let before = emulate(&first, Variant::Fast(TINY), 1).unwrap().tables;
    let bits = |numbers: &Array2<f32>| numbers.mapv(f32::to_bits);
    assert_eq!(bits(&memory.tables().unwrap().slot_values), bits(&before.slot_values));
    assert!(memory.flush().is_err());
    memory.reset_queue().unwrap();
    memory.flush().unwrap();
}
