//! Feeding from the device gives the bits of feeding from the host, and finds divergence when asked.
#![cfg(feature = "emulator")]

mod common;

use common::{Scene, TINY, assert_same_bits, emulate, resident, scenes};
use fwpkm_gpu::emulator::Emulator;
use fwpkm_gpu::{Error, Memory, Variant};
use fwpkm_reference::settings::Border;
use fwpkm_reference::{Error as MemoryError, Tables};
use ndarray::{Array2, Array3};

/// Memory after the scene's calls, fed from the device, and what was read
fn feed(scene: &Scene) -> (Memory<Emulator>, Array3<f32>) {
    feed_with(scene, true)
}

fn feed_with(scene: &Scene, graphs: bool) -> (Memory<Emulator>, Array3<f32>) {
    resident::feed(Emulator::new(1), scene, Variant::Fast(TINY), graphs).unwrap()
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

#[test]
fn recorded_graphs_give_the_same_bits() {
    for (name, scene) in scenes() {
        let scene = resident::evenly_cut(&scene, 5);
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
    let mut scene = resident::evenly_cut(&scenes().swap_remove(0).1, 5);
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
        resident::feed_call(&mut memory, &sound.text.slice(3 * chunk, 4 * chunk)).unwrap();
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
