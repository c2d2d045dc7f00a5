//! An error of the device at any call: the memory says that it is unknown what it holds, until it gets new tables.

use std::cell::Cell;
use std::rc::Rc;

use fwpkm_gpu::emulator::Emulator;
use fwpkm_gpu::{Backend, ChunkInput, Error, Launching, Memory, Resident, Result, Variant};
use fwpkm_reference::settings::Border;
use fwpkm_reference::{Rules, Settings, Tables};
use ndarray::Array2;

use crate::common::failing::{Failing, Seen};
use crate::common::{Scene, TINY, WALKING, resident, run_on, scene};

fn bits(tables: &Tables<f32>) -> Vec<u32> {
    tables.sub_keys.iter().chain(&tables.slot_values).map(|x| x.to_bits()).collect()
}

fn new(scene: &Scene) -> (Memory<Failing>, Rc<Cell<usize>>) {
    let backend = Failing::new(Emulator::new(3));
    let left = backend.left.clone();
    let (settings, rules, tables) = (scene.settings.clone(), scene.rules.clone(), scene.tables.clone());
    (Memory::new(backend, settings, rules, tables, Variant::Fast(WALKING)).unwrap(), left)
}

fn feed_all(memory: &mut Memory<Failing>, scene: &Scene) -> Result<()> {
    let mut from = 0;
    for &call in &scene.calls {
        memory.feed(&scene.text.slice(from, from + call))?;
        from += call;
    }
    memory.flush().map(|_| ())
}

#[test]
fn after_any_failing_call_only_new_tables_help() {
    let settings = Settings { sub_keys: 5, key_dim: 4, value_dim: 4, top_k: 2, chunk: 3, ..Settings::paper() };
    for border in [Border::Drop, Border::Carry] {
        let scene = scene(1, Settings { border, ..settings.clone() }, Rules::paper(), 1, &[3, 2, 2]);
        let expected = run_on(Emulator::new(3), &scene, Variant::Fast(TINY)).unwrap().tables;
        let mut calls = 0;
        loop {
            let (mut memory, left) = new(&scene);
            left.set(calls);
            let Err(error) = feed_all(&mut memory, &scene) else { break };
            let Error::Device { call, reason } = error else { panic!("{error}") };
            left.set(usize::MAX);
            let interrupted = Error::Interrupted { call, reason };
            assert_eq!(memory.tables().unwrap_err(), interrupted);
            assert_eq!(memory.state().unwrap_err(), interrupted);
            assert_eq!(memory.last_marginal().unwrap_err(), interrupted);
            assert_eq!(memory.last_reading(1).map(|_| ()).unwrap_err(), interrupted);
            assert_eq!(memory.feed(&scene.text.slice(0, 1)).unwrap_err(), interrupted);
            assert_eq!(memory.flush().unwrap_err(), interrupted);
            assert_eq!(memory.settle().unwrap_err(), interrupted);
            assert_eq!(memory.reset_queue().unwrap_err(), interrupted);
            memory.reset_tables(&scene.tables).unwrap();
            assert_eq!((memory.queued(), memory.steps()), (0, 0));
            feed_all(&mut memory, &scene).unwrap();
            assert_eq!(bits(&memory.tables().unwrap()), bits(&expected), "{border:?}, call {calls}");
            calls += 1;
        }
        assert!(calls > 40, "{calls} calls in all");
    }
}

#[test]
fn a_launch_of_whole_chunks_that_fails_leaves_the_memory_interrupted() {
    let settings = Settings { sub_keys: 5, key_dim: 4, value_dim: 4, top_k: 2, chunk: 3, ..Settings::paper() };
    let scene = scene(1, settings, Rules::paper(), 1, &[7]);
    let expected = run_on(Emulator::new(3), &scene, Variant::Fast(TINY)).unwrap().tables;
    let mut seen = Vec::new();
    for calls in 0.. {
        let (mut memory, left) = new(&scene);
        memory.set_launching(Launching::Persistent);
        left.set(calls);
        let Err(error) = resident::feed_call(&mut memory, &scene.text.slice(0, 7)) else { break };
        left.set(usize::MAX);
        let Error::Device { call, reason } = error else { panic!("{error}") };
        seen.push(call.clone());
        // Before the memory's work, and after it, nothing of it is lost.
        if let Err(error) = memory.settle() {
            assert_eq!(error, Error::Interrupted { call, reason });
            memory.reset_tables(&scene.tables).unwrap();
        }
        if memory.steps() == 0 {
            resident::feed_call(&mut memory, &scene.text.slice(0, 7)).unwrap();
        }
        memory.flush().unwrap();
        assert_eq!(bits(&memory.tables().unwrap()), bits(&expected), "call {calls}");
    }
    assert!(seen.contains(&"chunk_walk".to_string()) && seen.contains(&"zero".to_string()), "{seen:?}");
}

#[test]
fn buffers_too_short_are_refused_and_nothing_is_lost() {
    let settings = Settings { sub_keys: 5, key_dim: 4, value_dim: 4, top_k: 2, chunk: 3, ..Settings::paper() };
    let scene = scene(24, settings, Rules::paper(), 1, &[3]);
    let (mut memory, _) = new(&scene);
    let device = Emulator::new(1);
    let buffer = |numbers: usize| {
        let buffer = device.allocate("tokens", numbers * 4).unwrap();
        device.zero(&buffer).unwrap();
        buffer
    };
    for short in ["queries", "values", "reads"] {
        let of = |name| buffer(if name == short { 11 } else { 12 });
        let (queries, values, reads) = (of("queries"), of("values"), of("reads"));
        let tokens = Resident { tokens: 3, sequences: 1, queries: &queries, values: &values, gates: None, mask: None };
        let error = memory.feed_resident(&tokens, &reads).unwrap_err();
        assert!(error.to_string().contains(short) && error.to_string().contains("48 bytes"), "{error}");
    }
    assert_eq!(bits(&memory.tables().unwrap()), bits(&scene.tables));
    assert_eq!(memory.queued(), 0);
}

fn paper_scene() -> Scene {
    let settings = Settings { sub_keys: 5, key_dim: 4, value_dim: 4, top_k: 2, chunk: 3, ..Settings::paper() };
    scene(1, settings, Rules::paper(), 1, &[3])
}

#[test]
fn times_are_asked_for_after_the_last_repetition() {
    let (mut memory, _) = new(&paper_scene());
    let seen = memory.device().seen.clone();
    let input = ChunkInput { queries: Array2::ones((3, 4)), values: Array2::ones((3, 4)) };
    let timings = memory.time_chunks(1, &[input.clone(), input], 5).unwrap();
    assert_eq!([timings.chunks.len(), timings.singly.len(), timings.walked.len()], [5; 3]);
    let alternations = |seen: &[Seen]| {
        let times = |seen: &Seen| matches!(seen, Seen::Moment | Seen::Seconds);
        let times: Vec<Seen> = seen.iter().copied().filter(times).collect();
        times.windows(2).filter(|pair| pair[0] == Seen::Seconds && pair[1] == Seen::Moment).count()
    };
    // Chunks, the same singly, walked, every kernel.
    assert_eq!(alternations(&seen.take()), 3);
    memory.time_copies(16, 5).unwrap();
    assert_eq!(alternations(&seen.take()), 0);
}

#[test]
fn after_times_and_failed_times_work_is_given_to_the_device_as_before() {
    let scene = paper_scene();
    let input = ChunkInput { queries: Array2::ones((3, 4)), values: Array2::ones((3, 4)) };
    let inputs = [input.clone(), input];
    for call in ["time_chunks", "time_text"] {
        let mut failures = 0;
        for calls in 0.. {
            let (mut memory, left) = new(&scene);
            let seen = memory.device().seen.clone();
            memory.set_launching(Launching::Persistent);
            left.set(calls);
            let timed = match call {
                "time_chunks" => memory.time_chunks(1, &inputs, 1).map(|_| ()),
                _ => memory.time_text(1, &inputs, 2, Launching::Single).map(|_| ()),
            };
            left.set(usize::MAX);
            if timed.is_err() {
                memory.reset_tables(&scene.tables).unwrap();
            }
            seen.take();
            resident::feed_call(&mut memory, &scene.text.slice(0, 3)).unwrap();
            assert!(seen.take().contains(&Seen::Together(3)), "{call}, call {calls}");
            if timed.is_ok() {
                break;
            }
            failures += 1;
        }
        assert!(failures > 40, "{call} fails at {failures} calls");
    }
}

#[test]
fn a_launch_of_whole_chunks_has_no_more_blocks_than_allowed() {
    let scene = paper_scene();
    for (most, expected) in [(None, vec![3]), (Some(2), vec![2]), (Some(9), vec![3]), (Some(0), vec![])] {
        let (mut memory, _) = new(&scene);
        let seen = memory.device().seen.clone();
        memory.set_launching(Launching::Persistent);
        memory.set_most_blocks(most);
        for _ in 0..2 {
            resident::feed_call(&mut memory, &scene.text.slice(0, 3)).unwrap();
        }
        assert_eq!(memory.steps(), 2);
        // The device is asked once, by the first call.
        let launches = expected.into_iter().map(Seen::Together);
        let both = [Seen::Asked].into_iter().chain(launches.clone()).chain(launches);
        assert_eq!(seen.take(), both.collect::<Vec<_>>());
    }
}
