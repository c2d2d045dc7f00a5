//! Feeding from the device gives the bits of feeding from the host, and finds divergence when asked.

use fwpkm_gpu::emulator::Emulator;
use fwpkm_gpu::{Error, Launching, Memory, Tile, Variant};
use fwpkm_reference::settings::{Border, Score};
use fwpkm_reference::{Error as MemoryError, Rules, Settings, Tables};
use ndarray::{Array2, Array3};

use crate::common::{self, Scene, TINY, WALKING, assert_same_bits, emulate, resident, scene, scenes};

/// Memory after the scene's calls, fed from the device, and what was read
fn feed(scene: &Scene) -> (Memory<Emulator>, Array3<f32>) {
    feed_with(scene, Launching::Graphs)
}

fn feed_with(scene: &Scene, launching: Launching) -> (Memory<Emulator>, Array3<f32>) {
    let tile = if launching == Launching::Persistent { WALKING } else { TINY };
    resident::feed(Emulator::new(1), scene, Variant::Fast(tile), launching).unwrap()
}

fn bits(tables: &Tables<f32>) -> Vec<u32> {
    tables.sub_keys.iter().chain(&tables.slot_values).map(|x| x.to_bits()).collect()
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
        for (launching, least) in [(Launching::Graphs, 1 + usize::from(scene.settings.writes)), (Launching::Single, 0)]
        {
            let (mut memory, reads) = feed_with(&scene, launching);
            memory.settle().unwrap();
            assert!(memory.graphs() >= least, "{name}: {} graphs", memory.graphs());
            assert_eq!(memory.graphs() > 0, launching == Launching::Graphs, "{name}");
            memory.flush().unwrap();
            let ours = common::Outcome { reads, tables: memory.tables().unwrap(), ..expected.clone() };
            assert_same_bits(name, &expected, &ours);
        }
    }
}

/// Whole chunks in one launch, alone, after and before parts of chunks, with gates and without, at several schedules.
#[test]
fn walked_chunks_give_the_same_bits() {
    let mut walked = 0;
    for (name, scene) in scenes().into_iter().chain(common::close_scenes()) {
        let even = resident::evenly_cut(&scene, 5);
        let chunk = scene.settings.chunk;
        let one = Scene { calls: vec![5 * chunk], ..even.clone() };
        let parts = Scene { calls: vec![chunk.div_ceil(2), 3 * chunk, chunk / 2 + chunk], ..even };
        for (scene, tile) in [(&scene, WALKING), (&one, WALKING), (&parts, WALKING), (&one, Tile::TENSOR_SMALL)] {
            let expected = emulate(scene, Variant::Fast(TINY), 4).unwrap();
            let device = Emulator::new(1);
            let (mut memory, reads) =
                resident::feed(device, scene, Variant::Fast(tile), Launching::Persistent).unwrap();
            memory.settle().unwrap();
            memory.flush().unwrap();
            walked += usize::from(memory.can_walk(scene.text.queries.dim().0).unwrap());
            let ours = common::Outcome { reads, tables: memory.tables().unwrap(), ..expected.clone() };
            assert_same_bits(name, &expected, &ours);
        }
    }
    assert!(walked > 60, "{walked} of these were walked");
}

/// Of a failure that nobody asked about, nothing gets into a saved state or the next text.
#[test]
fn num_7_a_failure_that_was_not_settled_is_not_lost() {
    let even = resident::evenly_cut(&scenes().swap_remove(0).1, 3);
    let chunk = even.settings.chunk;
    let mut scene = Scene { calls: vec![3 * chunk], ..even };
    scene.text.values[[0, chunk + 2, 0]] = 1e25;
    for launching in [Launching::Graphs, Launching::Persistent] {
        let (mut memory, _) = feed_with(&scene, launching);
        assert_eq!(memory.last_reading(1).is_err(), launching == Launching::Persistent);
        assert!(memory.state().unwrap_err().to_string().contains("settle"));
        memory.reset_queue().unwrap();
        assert_eq!((memory.steps(), memory.queued()), (1, 0));
        assert_eq!(memory.state().unwrap().steps, 1);
    }
}

/// What fails in a graph, or in the middle of a walk, has the number of its own chunk, and the memory can go on.
#[test]
fn num_7_what_fails_has_the_number_of_its_chunk() {
    let graphs = resident::evenly_cut(&scenes().swap_remove(0).1, 5);
    let walk = Scene { calls: vec![graphs.calls.iter().sum()], ..graphs.clone() };
    for (mut scene, launching) in [(graphs, Launching::Graphs), (walk, Launching::Persistent)] {
        let (chunk, sound) = (scene.settings.chunk, scene.clone());
        for (value, expected) in [
            (f32::NAN, Error::NotFinite { tensor: "values", chunk: 3, token: 2, sequence: 0 }),
            (1e25, MemoryError::Diverged { chunk: 3, stage: "memorize", tensor: "pair_losses" }.into()),
        ] {
            scene.text.values[[0, 3 * chunk + 2, 0]] = value;
            let (mut memory, _) = feed_with(&scene, launching);
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
            assert_eq!(bits(&memory.tables().unwrap()), bits(&expected));
        }
    }
}

/// Numbers whose size does not exclude that the step overflows: it is looked at before it is taken.
#[test]
fn num_7_a_step_that_may_overflow_is_checked_in_the_middle_of_a_walk() {
    let mut scene = resident::evenly_cut(&scenes().swap_remove(0).1, 4);
    let chunk = scene.settings.chunk;
    scene.text.values[[0, 2 * chunk + 1, 0]] = 3e18;
    let one = Scene { calls: vec![4 * chunk], ..scene.clone() };
    let expected = emulate(&scene, Variant::Fast(TINY), 1).unwrap();
    let (mut memory, reads) = feed_with(&one, Launching::Persistent);
    memory.settle().unwrap();
    let ours = common::Outcome { reads, tables: memory.tables().unwrap(), ..expected.clone() };
    assert_same_bits("large", &expected, &ours);

    // Gates of 0 keep the first two steps from moving anything.
    let mut scene = one;
    (scene.settings.learning_rate, scene.settings.addressing_weight) = (1e30, 0.0);
    let gate = |(_, token): (usize, usize)| if token < 2 * chunk { 0.0 } else { 1.0 };
    scene.text.gates = Some(Array2::from_shape_fn((scene.text.queries.dim().0, 4 * chunk), gate));
    let (mut memory, _) = feed_with(&scene, Launching::Persistent);
    let expected = MemoryError::Diverged { chunk: 2, stage: "memorize", tensor: "slot_values" };
    assert_eq!(memory.settle().unwrap_err(), Error::Memory(expected));
    assert_eq!(memory.steps(), 2);
    assert_eq!(bits(&memory.tables().unwrap()), bits(&scene.tables));
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
            assert_eq!(bits(&memory.tables().unwrap()), bits(&before), "{name}");
            memory.reset_queue().unwrap();
            memory.feed(&scene.text.slice(0, chunk)).unwrap();
        }
    }
}

/// Tables that are replaced do not hide a failure that nobody was told of.
#[test]
fn num_7_tables_are_not_replaced_over_a_failure_nobody_saw() {
    let scene = scenes().swap_remove(0).1;
    let mut wrong = Scene { calls: vec![scene.settings.chunk - 2], ..scene.clone() };
    wrong.text.queries[[0, 0, 0]] = f32::NAN;
    let (mut memory, _) = feed(&wrong);
    let error = memory.reset_tables(&scene.tables).unwrap_err();
    assert!(matches!(error, Error::Misuse { .. }) && error.to_string().contains("settle"), "{error}");
    assert!(matches!(memory.settle().unwrap_err(), Error::NotFinite { token: 0, .. }));
    memory.reset_tables(&scene.tables).unwrap();
    assert_eq!(memory.queued(), 0);
    memory.feed(&scene.text.slice(0, scene.settings.chunk)).unwrap();
}

/// Nothing that follows from them is out of bounds or unordered: the emulator would say so. Many entries share a slot, and no bound
/// keeps sums finite.
#[test]
fn num_7_many_numbers_that_are_not_finite_are_found_like_one() {
    let distances = Settings { sub_keys: 11, key_dim: 8, value_dim: 8, top_k: 8, chunk: 24, ..Settings::paper() };
    let products = Settings { score: Score::DotProduct, heads: 2, ..distances.clone() };
    for settings in [distances, products] {
        let whole = scene(44, settings, Rules::paper(), 2, &[48]);
        for value in [f32::NAN, f32::INFINITY] {
            let mut wrong = whole.clone();
            wrong.text.queries.iter_mut().skip(1).step_by(2).for_each(|x| *x = value);
            wrong.text.values[[0, 0, 0]] = f32::INFINITY;
            for launching in [Launching::Graphs, Launching::Persistent] {
                let (mut memory, _) = feed_with(&wrong, launching);
                let error = memory.settle().unwrap_err();
                assert!(matches!(error, Error::NotFinite { chunk: 0, .. }), "{launching:?}: {error}");
                assert_eq!(bits(&memory.tables().unwrap()), bits(&whole.tables), "{launching:?}");
            }
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
    assert_eq!(bits(&memory.tables().unwrap()), bits(&before));
    assert!(memory.flush().is_err());
    memory.reset_queue().unwrap();
    memory.flush().unwrap();
}
