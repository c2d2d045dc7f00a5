//! What every call gives after a failure: the lines of the table in docs/src/gpu.md, one test for each.

use fwpkm_gpu::emulator::Emulator;
use fwpkm_gpu::{Error, Launching, Memory, Result, Variant};
use fwpkm_reference::{Error as MemoryError, Rules, Settings, Tables};

use crate::common::failing::Failing;
use crate::common::{self, Scene, WALKING, resident, scene};

const LAUNCHINGS: [Launching; 3] = [Launching::Single, Launching::Graphs, Launching::Persistent];

/// Two chunks and a token.
fn sound() -> Scene {
    let settings = Settings { sub_keys: 5, key_dim: 4, value_dim: 4, top_k: 2, chunk: 3, ..Settings::paper() };
    scene(24, settings, Rules::paper(), 1, &[7])
}

fn new(scene: &Scene, launching: Launching) -> Memory<Failing> {
    let (settings, rules, tables) = (scene.settings.clone(), scene.rules.clone(), scene.tables.clone());
    let mut memory =
        Memory::new(Failing::new(Emulator::new(3)), settings, rules, tables, Variant::Fast(WALKING)).unwrap();
    memory.set_launching(launching);
    memory
}

fn bits(tables: &Tables<f32>) -> Vec<u32> {
    tables.sub_keys.iter().chain(&tables.slot_values).map(|x| x.to_bits()).collect()
}

/// Tables after the first chunk of the sound text.
fn after_one() -> Tables<f32> {
    let scene = sound();
    let mut memory = new(&scene, Launching::Single);
    memory.feed(&scene.text.slice(0, 3)).unwrap();
    memory.tables().unwrap()
}

/// What each call that feeds, closes or waits gives; the memory stays as it is.
fn gives(memory: &mut Memory<Failing>, scene: &Scene) -> Vec<(&'static str, Option<Error>)> {
    let text = &scene.text;
    let two = common::scene(24, scene.settings.clone(), Rules::paper(), 2, &[3]).text;
    vec![
        ("feed", memory.feed(&text.slice(0, 1)).err()),
        ("feed, no tokens", memory.feed(&text.slice(0, 0)).err()),
        ("read_text", memory.read_text(&text.slice(0, 3)).err()),
        ("feed_resident", resident::feed_call(memory, &text.slice(0, 1)).err()),
        ("flush", memory.flush().err()),
        ("flush_resident", memory.flush_resident().err()),
        ("settle", memory.settle().err()),
        ("last_step", memory.last_step().err()),
        // Other sequences, where none are queued.
        (
            "feed, two sequences",
            if memory.queued() > 0 { memory.settle() } else { memory.feed(&two.slice(0, 1)).map(|_| ()) }.err(),
        ),
    ]
}

fn all_give(memory: &mut Memory<Failing>, scene: &Scene, expected: &Error) {
    for (call, given) in gives(memory, scene) {
        assert_eq!(given.as_ref(), Some(expected), "{call}");
    }
}

fn diverged() -> Error {
    MemoryError::Diverged { chunk: 1, stage: "memorize", tensor: "pair_losses" }.into()
}

/// A chunk whose loss overflows, after one that is sound.
fn overflowing() -> Scene {
    let mut scene = sound();
    scene.text.values[[0, 4, 0]] = 1e25;
    scene
}

#[test]
fn what_was_refused_changed_nothing() {
    let scene = sound();
    let mut memory = new(&scene, Launching::Graphs);
    memory.feed(&scene.text.slice(0, 4)).unwrap();
    let before = (memory.state().unwrap(), memory.last_reading(1).unwrap().reads, memory.last_marginal().unwrap());
    let mut wrong = scene.clone();
    wrong.text.queries[[0, 0, 0]] = f32::NAN;
    let two = common::scene(24, scene.settings.clone(), Rules::paper(), 2, &[3]).text;
    let one = common::scene(1, scene.settings.clone(), Rules::paper(), 1, &[3]).text;
    assert!(matches!(memory.feed(&wrong.text.slice(0, 3)), Err(Error::Memory(MemoryError::NotFinite { .. }))));
    assert!(matches!(memory.feed(&two.slice(0, 1)), Err(Error::Memory(MemoryError::Batch { .. }))));
    assert!(matches!(memory.feed(&one.slice(0, 1)), Err(Error::Memory(MemoryError::Presence { .. }))));
    assert!(matches!(memory.last_reading(9), Err(Error::Misuse { .. })));
    let mut tables = scene.tables.clone();
    tables.slot_values[[0, 0]] = f32::INFINITY;
    assert!(matches!(memory.reset_tables(&tables), Err(Error::Memory(_))));
    let after = (memory.state().unwrap(), memory.last_reading(1).unwrap().reads, memory.last_marginal().unwrap());
    assert_eq!(before, after);
    memory.feed(&scene.text.slice(4, 7)).unwrap();
    assert_eq!(memory.steps(), 2);
}

#[test]
fn after_divergence_of_tokens_from_the_host() {
    let (scene, sound) = (overflowing(), sound());
    let fail = || {
        let mut memory = new(&scene, Launching::Graphs);
        memory.feed(&scene.text.slice(0, 5)).unwrap();
        assert_eq!(memory.feed(&scene.text.slice(5, 7)).unwrap_err(), diverged());
        all_give(&mut memory, &scene, &diverged());
        // The failed chunk stays, whatever was asked.
        assert_eq!((memory.steps(), memory.queued()), (1, 3));
        assert_eq!(bits(&memory.tables().unwrap()), bits(&after_one()));
        let state = memory.state().unwrap();
        assert_eq!((state.queued, state.steps), (None, 1));
        assert_eq!(memory.last_reading(3).unwrap().reads.nrows(), 3);
        memory.last_marginal().unwrap();
        memory
    };
    let mut memory = fail();
    memory.reset_queue().unwrap();
    assert_eq!((memory.steps(), memory.queued()), (1, 0));
    memory.feed(&sound.text.slice(3, 6)).unwrap();
    assert_eq!(memory.steps(), 2);
    let mut memory = fail();
    memory.reset_tables(&scene.tables).unwrap();
    assert_eq!((memory.steps(), memory.queued()), (0, 3));
    // It is stepped first; buffers of the device cannot follow it before that.
    let error = resident::feed_call(&mut memory, &scene.text.slice(0, 1)).unwrap_err();
    assert!(matches!(error, Error::Misuse { .. }) && error.to_string().contains("failed chunk waits"), "{error}");
    let again = MemoryError::Diverged { chunk: 0, stage: "memorize", tensor: "pair_losses" };
    assert_eq!(memory.feed(&sound.text.slice(0, 1)).unwrap_err(), again.into());
}

/// A call that waits for the device.
type Ask = fn(&mut Memory<Failing>) -> Result<()>;

/// Fed from the device, a chunk of NaN or one that overflows, once a call has said so.
#[test]
fn after_a_failure_of_tokens_from_the_device() {
    let sound = sound();
    let mut not_finite = sound.clone();
    not_finite.text.values[[0, 4, 0]] = f32::NAN;
    let failures = [
        (overflowing(), diverged()),
        (not_finite, Error::NotFinite { tensor: "values", chunk: 1, token: 1, sequence: 0 }),
    ];
    let asked: [Ask; 4] = [
        Memory::settle,
        |memory| memory.flush().map(|_| ()),
        |memory| memory.last_step().map(|_| ()),
        |memory| memory.feed(&self::sound().text.slice(0, 1)).map(|_| ()),
    ];
    for (launching, (scene, error)) in LAUNCHINGS.into_iter().flat_map(|by| failures.clone().map(|failed| (by, failed)))
    {
        for ask in asked {
            let fail = || {
                let mut memory = new(&scene, launching);
                resident::feed_call(&mut memory, &scene.text.slice(0, 7)).unwrap();
                assert_eq!(ask(&mut memory).unwrap_err(), error);
                assert_eq!((memory.steps(), memory.queued()), (1, 0));
                all_give(&mut memory, &scene, &error);
                assert_eq!((memory.steps(), memory.queued()), (1, 0));
                assert_eq!(bits(&memory.tables().unwrap()), bits(&after_one()));
                let state = memory.state().unwrap();
                assert_eq!((state.queued, state.steps), (None, 1));
                memory.last_marginal().unwrap();
                memory
            };
            let mut memory = fail();
            memory.reset_queue().unwrap();
            memory.feed(&sound.text.slice(3, 6)).unwrap();
            assert_eq!((memory.steps(), memory.queued()), (2, 0));
            let mut memory = fail();
            memory.reset_tables(&scene.tables).unwrap();
            assert_eq!((memory.steps(), memory.queued()), (0, 0));
            memory.feed(&sound.text.slice(0, 3)).unwrap();
            assert_eq!(bits(&memory.tables().unwrap()), bits(&after_one()));
        }
    }
}

/// The same before any call has said so: what does not wait goes on, and what would hide it is refused.
#[test]
fn after_a_failure_of_tokens_from_the_device_that_was_not_told() {
    let scene = overflowing();
    for launching in LAUNCHINGS {
        let fail = || {
            let mut memory = new(&scene, launching);
            resident::feed_call(&mut memory, &scene.text.slice(0, 7)).unwrap();
            resident::feed_call(&mut memory, &scene.text.slice(0, 1)).unwrap();
            memory.flush_resident().unwrap();
            assert_eq!(bits(&memory.tables().unwrap()), bits(&after_one()));
            for refused in [memory.state().map(|_| ()), memory.reset_tables(&scene.tables)] {
                let error = refused.unwrap_err();
                assert!(matches!(error, Error::Misuse { .. }) && error.to_string().contains("settle"), "{error}");
            }
            memory
        };
        let mut memory = fail();
        assert_eq!(memory.settle().unwrap_err(), diverged());
        let mut memory = fail();
        memory.reset_queue().unwrap();
        assert_eq!((memory.steps(), memory.queued()), (1, 0));
        memory.settle().unwrap();
    }
}

#[test]
fn after_an_error_of_the_device() {
    let scene = sound();
    for launching in LAUNCHINGS {
        let mut memory = new(&scene, launching);
        memory.feed(&scene.text.slice(0, 4)).unwrap();
        memory.device().left.set(3);
        let Err(Error::Device { call, reason }) = memory.feed(&scene.text.slice(4, 7)) else { panic!("it failed") };
        memory.device().left.set(usize::MAX);
        let interrupted = Error::Interrupted { call, reason };
        all_give(&mut memory, &scene, &interrupted);
        assert_eq!(memory.tables().unwrap_err(), interrupted);
        assert_eq!(memory.state().unwrap_err(), interrupted);
        assert_eq!(memory.last_reading(1).unwrap_err(), interrupted);
        assert_eq!(memory.last_marginal().unwrap_err(), interrupted);
        assert_eq!(memory.reset_queue().unwrap_err(), interrupted);
        memory.reset_tables(&scene.tables).unwrap();
        assert_eq!((memory.steps(), memory.queued()), (0, 0));
        for nothing in [memory.last_reading(1).map(|_| ()), memory.last_marginal().map(|_| ())] {
            assert!(matches!(nothing, Err(Error::Misuse { .. })), "{nothing:?}");
        }
        memory.feed(&scene.text.slice(0, 3)).unwrap();
        assert_eq!(bits(&memory.tables().unwrap()), bits(&after_one()));
    }
}

#[test]
fn after_memory_that_did_not_suffice() {
    let scene = sound();
    let mut memory = new(&scene, Launching::Graphs);
    memory.feed(&scene.text.slice(0, 3)).unwrap();
    let two = common::scene(24, scene.settings.clone(), Rules::paper(), 2, &[3]).text;
    memory.device().room.set(100);
    assert!(matches!(memory.feed(&two.slice(0, 1)), Err(Error::OutOfMemory { free: Some(_), .. })));
    memory.device().room.set(usize::MAX);
    // The buffers of the text before were freed to make room.
    assert!(memory.last_reading(1).is_err() && memory.last_step().is_err());
    memory.last_marginal().unwrap();
    assert_eq!((memory.steps(), memory.queued()), (1, 0));
    assert_eq!(bits(&memory.tables().unwrap()), bits(&after_one()));
    memory.feed(&scene.text.slice(3, 6)).unwrap();
    assert_eq!(memory.steps(), 2);
}
