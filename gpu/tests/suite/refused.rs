//! What must not be asked for is refused with what was given and what is allowed, and nothing is lost.

use fwpkm_gpu::emulator::{Buffer, Emulator};
use fwpkm_gpu::{Backend, ChunkInput, Error, Launching, Memory, Resident, Result, Variant};
use fwpkm_reference::settings::Border;
use fwpkm_reference::{Error as MemoryError, Rules, Settings};
use ndarray::{Array2, Array3};

use crate::common::failing::Failing;
use crate::common::{self, Scene, WALKING, resident, scene};

fn settings() -> Settings {
    Settings { sub_keys: 5, key_dim: 4, value_dim: 4, top_k: 2, chunk: 3, ..Settings::paper() }
}

/// Without gates or mask.
fn paper_scene() -> Scene {
    scene(24, settings(), Rules::paper(), 1, &[3, 3])
}

fn new(scene: &Scene) -> Memory<Failing> {
    let (settings, rules, tables) = (scene.settings.clone(), scene.rules.clone(), scene.tables.clone());
    Memory::new(Failing::new(Emulator::new(3)), settings, rules, tables, Variant::Fast(WALKING)).unwrap()
}

fn refused<T>(result: Result<T>, words: &[&str]) {
    let Err(error) = result else { panic!("{words:?} was expected") };
    let text = error.to_string();
    assert!(matches!(error, Error::Misuse { .. }) && words.iter().all(|word| text.contains(word)), "{words:?}: {text}");
}

/// Six tokens of each tensor, and room for what is read.
struct Six {
    queries: Buffer,
    values: Buffer,
    gates: Buffer,
    mask: Buffer,
    reads: Buffer,
}

impl Six {
    fn new(memory: &Memory<Failing>) -> Self {
        let device = memory.device();
        let numbers = |numbers: Vec<f32>| {
            let buffer = device.allocate("tokens", numbers.len() * 4).unwrap();
            device.write(&buffer, 0, &numbers).unwrap();
            buffer
        };
        let text = paper_scene().text;
        let mask = device.allocate("mask", 24).unwrap();
        device.write(&mask, 0, &[1_i32; 6]).unwrap();
        Self {
            queries: numbers(text.queries.into_iter().collect()),
            values: numbers(text.values.into_iter().collect()),
            gates: numbers(vec![1.0; 6]),
            mask,
            reads: numbers(vec![0.0; 24]),
        }
    }

    fn tokens(&self) -> Resident<'_, Buffer> {
        let (gates, mask) = (Some(&self.gates), Some(&self.mask));
        Resident { tokens: 6, sequences: 1, queries: &self.queries, values: &self.values, gates, mask }
    }
}

#[test]
fn reads_that_overlap_tokens_are_refused() {
    for launching in [Launching::Single, Launching::Graphs, Launching::Persistent] {
        let mut memory = new(&paper_scene());
        memory.set_launching(launching);
        let six = Six::new(&memory);
        let (places, emulator) = (memory.device().places.clone(), Emulator::new(0));
        let reads = emulator.address(&six.reads);
        // 96 bytes of queries, values and reads, 24 of gates and mask.
        for (tensor, buffer, bytes) in [
            ("queries", &six.queries, 96),
            ("values", &six.values, 96),
            ("gates", &six.gates, 24),
            ("mask", &six.mask, 24),
        ] {
            let own = emulator.address(buffer);
            let mut at = |place: u64| {
                places.borrow_mut().insert(own, place);
                memory.feed_resident(&six.tokens(), &six.reads)
            };
            for place in [reads + 92, reads + 4, reads.abs_diff(bytes - 4)] {
                refused(at(place), &["reads (96 bytes at", "overlap", tensor]);
            }
            if tensor != "values" {
                refused(at(reads), &["overlap", tensor]);
            }
            // Right before, and right after.
            at(reads - bytes).unwrap();
            at(reads + 96).unwrap();
            places.borrow_mut().clear();
        }
        assert_eq!(memory.steps(), 16, "{launching:?}");
        memory.settle().unwrap();
    }
}

/// What overlaps beyond the tokens that are fed, is neither read nor written.
#[test]
fn buffers_that_overlap_only_beyond_their_tokens_are_taken() {
    let mut memory = new(&paper_scene());
    let six = Six::new(&memory);
    let (reads, queries) = (Emulator::new(0).address(&six.reads), Emulator::new(0).address(&six.queries));
    memory.device().places.borrow_mut().insert(queries, reads + 48);
    let three = Resident { tokens: 3, ..six.tokens() };
    memory.feed_resident(&three, &six.reads).unwrap();
    refused(memory.feed_resident(&six.tokens(), &six.reads), &["overlap queries"]);
}

#[test]
fn readings_that_there_are_not_are_refused() {
    let scene = paper_scene();
    let mut memory = new(&scene);
    refused(memory.last_reading(1), &["last_reading", "1 rows", "0 of"]);
    refused(memory.last_reading(usize::MAX), &["0 of"]);
    memory.feed(&scene.text.slice(0, 2)).unwrap();
    assert_eq!(memory.last_reading(2).unwrap().reads.nrows(), 2);
    refused(memory.last_reading(3), &["3 rows", "2 of"]);
    memory.feed(&scene.text.slice(2, 4)).unwrap();
    // The chunk was closed: one token of the next was read.
    refused(memory.last_reading(2), &["2 rows", "1 of"]);
    // Other sequences, other buffers.
    memory.reset_queue().unwrap();
    let two = common::scene(24, settings(), Rules::paper(), 2, &[3]).text;
    resident::feed_call(&mut memory, &two.slice(0, 1)).unwrap();
    assert_eq!(memory.last_reading(2).unwrap().reads.nrows(), 2);
    refused(memory.last_reading(3), &["3 rows", "2 of"]);
}

/// Tokens that came with a state are read by the step, not before.
#[test]
fn readings_of_a_queue_that_came_with_a_state_begin_with_its_step() {
    let scene = paper_scene();
    let mut memory = new(&scene);
    memory.feed(&scene.text.slice(0, 1)).unwrap();
    let state = memory.state().unwrap();
    let mut memory = Memory::from_state(Failing::new(Emulator::new(3)), state, Variant::Fast(WALKING)).unwrap();
    memory.feed(&scene.text.slice(1, 2)).unwrap();
    refused(memory.last_reading(1), &["1 rows", "0 of"]);
    memory.feed(&scene.text.slice(2, 3)).unwrap();
    assert!(memory.last_reading(3).is_ok());
}

#[test]
fn what_is_said_of_a_step_is_refused_before_the_first() {
    for border in [Border::Drop, Border::Carry] {
        let scene = scene(24, Settings { border, ..settings() }, Rules::paper(), 1, &[5]);
        let mut memory = new(&scene);
        refused(memory.last_marginal(), &["last_marginal", "no step"]);
        refused(memory.last_step(), &["last_step", "no step"]);
        memory.feed(&scene.text.slice(0, 2)).unwrap();
        refused(memory.last_marginal(), &["no step"]);
        memory.feed(&scene.text.slice(2, 5)).unwrap();
        memory.last_marginal().unwrap();
        memory.last_step().unwrap();
        // A state brings the number of its steps, and nothing else of them.
        let state = memory.state().unwrap();
        let mut memory = Memory::from_state(Failing::new(Emulator::new(3)), state, Variant::Fast(WALKING)).unwrap();
        assert_eq!(memory.steps(), 1);
        refused(memory.last_marginal(), &["no step"]);
        refused(memory.last_step(), &["no step"]);
    }
}

#[test]
fn times_of_nothing_and_of_more_than_can_be_are_refused() {
    let mut memory = new(&paper_scene());
    let input = ChunkInput { queries: Array2::ones((3, 4)), values: Array2::ones((3, 4)) };
    let one = std::slice::from_ref(&input);
    refused(memory.time_chunks(1, &[], 1), &["inputs are 0", "1 to more"]);
    refused(memory.time_chunks(1, one, 0), &["repeats are 0"]);
    refused(memory.time_chunks(1, one, usize::MAX), &["repeats are 18446744073709551615", "1 to 1048576"]);
    for launching in [Launching::Graphs, Launching::Persistent] {
        refused(memory.time_text(1, &[], 1, launching), &["inputs are 0"]);
        refused(memory.time_text(1, one, 0, launching), &["chunks are 0"]);
        refused(memory.time_text(1, one, usize::MAX, launching), &["chunks are 18446744073709551615", "1 to 1048576"]);
    }
    refused(memory.time_copies(0, 1), &["bytes are 0"]);
    refused(memory.time_copies(4, usize::MAX), &["repeats are"]);
    assert!(matches!(memory.time_copies(usize::MAX, 1), Err(Error::OutOfMemory { bytes: usize::MAX, .. })));
    refused(memory.time_multiply_adds(0, 1, 1), &["blocks are 0", "2147483647"]);
    refused(memory.time_multiply_adds(usize::MAX, 1, 1), &["blocks are"]);
    for rounds in [0, -1, i32::MIN] {
        refused(memory.time_multiply_adds(1, rounds, 1), &["rounds are 0"]);
    }
    refused(memory.time_multiply_adds(1, 64, 0), &["repeats are 0"]);
    // Sequences that there cannot be, and chunks that are not one step of them.
    for sequences in [0, 2] {
        let error = memory.time_chunks(sequences, one, 1).unwrap_err();
        assert!(matches!(error, Error::Memory(MemoryError::Shape { tensor: "queries", .. })), "{error}");
    }
    let error = memory.time_text(usize::MAX, one, 1, Launching::Graphs).unwrap_err();
    assert!(matches!(error, Error::Limit { .. }), "{error}");
    let wide = ChunkInput { values: Array2::ones((3, 5)), ..input.clone() };
    let error = memory.time_chunks(1, &[input.clone(), wide], 1).unwrap_err();
    assert!(error.to_string().contains("values") && error.to_string().contains("[3, 5]"), "{error}");
    assert_eq!((memory.steps(), memory.queued()), (0, 0));
    assert!(memory.time_text(1, one, 1, Launching::Persistent).unwrap().is_some());
}

#[test]
fn sequences_that_there_cannot_be_are_not_walked() {
    let memory = new(&paper_scene());
    // 3 tokens and 1 head: 120,000 sequences are 360,000 rows.
    for (sequences, expected) in [(0, false), (1, true), (120_000, true), (120_001, false), (usize::MAX, false)] {
        assert_eq!(memory.can_walk(sequences).unwrap(), expected, "{sequences}");
    }
}

#[test]
fn tokens_or_sequences_beyond_all_counting_are_refused() {
    let mut memory = new(&paper_scene());
    let six = Six::new(&memory);
    let tokens = Resident { tokens: usize::MAX, ..six.tokens() };
    let error = memory.feed_resident(&tokens, &six.reads).unwrap_err();
    assert!(matches!(error, Error::Memory(MemoryError::Shape { tensor: "reads", .. })), "{error}");
    let tokens = Resident { sequences: usize::MAX, ..six.tokens() };
    let error = memory.feed_resident(&tokens, &six.reads).unwrap_err();
    assert!(matches!(error, Error::Limit { .. }), "{error}");
}

/// A text that is refused, with more sequences than there was room for, leaves what the text before it left.
#[test]
fn a_refused_text_keeps_the_buffers_of_the_one_before() {
    let scene = paper_scene();
    let mut memory = new(&scene);
    for _ in 0..3 {
        resident::feed_call(&mut memory, &scene.text.slice(0, 3)).unwrap();
    }
    let before = (memory.graphs(), memory.last_reading(3).unwrap().reads, memory.last_step().unwrap());
    assert!(before.0 > 0);
    let many = |width| Array3::<f32>::zeros((120_001, 3, width));
    let (queries, values) = (many(4), many(4));
    let tokens = fwpkm_reference::Tokens { queries: queries.view(), values: values.view(), gates: None, mask: None };
    let error = memory.feed(&tokens).unwrap_err();
    assert!(matches!(error, Error::Limit { given: 360_003, most: 360_000, .. }), "{error}");
    let six = Six::new(&memory);
    // Too many, too many for the buffers, and what is read would go over the queries.
    for (sequences, reads) in [(120_001, &six.reads), (7, &six.reads), (2, &six.queries)] {
        let tokens = Resident { tokens: 3, sequences, ..six.tokens() };
        memory.feed_resident(&tokens, reads).unwrap_err();
    }
    assert_eq!(before, (memory.graphs(), memory.last_reading(3).unwrap().reads, memory.last_step().unwrap()));
}

/// Tables that there is no room for: how much was asked for, what there is, and what to lower; for tokens likewise.
#[test]
fn memory_that_does_not_suffice_is_refused_with_what_would_need_less() {
    let scene = paper_scene();
    let backend = Failing::new(Emulator::new(3));
    // Sub-keys take 80 bytes, slot values 400.
    backend.room.set(479);
    let (settings, rules, tables) = (scene.settings.clone(), scene.rules.clone(), scene.tables.clone());
    let error = Memory::new(backend, settings, rules, tables, Variant::Fast(WALKING)).unwrap_err();
    let expected = "no room for slot_values on the device: 400 bytes were asked for, 399 are free; the tables and what belongs to \
                    them take at least 1060 bytes: lower sub_keys (5), whose square is the number of slots, value_dim (4), \
                    key_dim (4) or heads (1)";
    assert_eq!(error.to_string(), expected);

    let mut memory = new(&scene);
    memory.device().room.set(100);
    let error = memory.feed(&scene.text.slice(0, 3)).unwrap_err();
    let text = error.to_string();
    for part in ["bytes were asked for, ", "use fewer sequences (1), a smaller chunk (3)"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!text.contains("sub_keys"), "{text}");
    // Nothing is lost by that.
    memory.device().room.set(usize::MAX);
    assert_eq!(memory.feed(&scene.text.slice(0, 3)).unwrap().steps.len(), 1);
}
