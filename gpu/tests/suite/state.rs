//! BAT-5: a memory made from a state goes on with the same bits, wherever it was taken.

use fwpkm_gpu::emulator::Emulator;
use fwpkm_gpu::{Memory, Variant};
use fwpkm_reference::{Fed, State};
use ndarray::{Array3, ShapeBuilder};

use crate::common::{self, TINY, scenes};

fn bits(fed: &Fed<f32>, state: &State<f32>) -> Vec<u32> {
    let tables = state.tables.sub_keys.iter().chain(&state.tables.slot_values);
    let steps = fed.steps.iter().flat_map(|step| step.pair_losses.iter());
    fed.reads.iter().chain(&fed.weights).chain(tables).chain(steps).map(|x| x.to_bits()).collect()
}

#[test]
fn bat_5_a_memory_goes_on_from_a_state() {
    for (name, scene) in scenes().into_iter().step_by(7) {
        let tokens: usize = scene.calls.iter().sum::<usize>().min(25);
        let new =
            |state: State<f32>, seed| Memory::from_state(Emulator::new(seed), state, Variant::Fast(TINY)).unwrap();
        let mut memory = new(memory_start(&scene), 0);
        for token in (0..tokens - 1).step_by(2) {
            memory.feed(&scene.text.slice(token, token + 2)).unwrap();
            let state = memory.state().unwrap();
            // The interpreter takes the state as one of its own.
            let kept = fwpkm_reference::Memory::from_state(state.clone()).unwrap().into_state();
            assert_eq!(kept, state, "{name} at {token}");
            // In whatever order its arrays lie.
            let mut turned = state.clone();
            if let Some(queued) = &mut turned.queued {
                (queued.queries, queued.values) = (columns(&queued.queries), columns(&queued.values));
            }
            assert_eq!(turned, state);
            let mut other = new(turned, token as u64);
            let mut same = new(state, token as u64 + 100);
            let next = scene.text.slice((token + 2).min(tokens), (token + 6).min(tokens));
            let (one, two) = (other.feed(&next).unwrap(), same.feed(&next).unwrap());
            assert_eq!(bits(&one, &other.state().unwrap()), bits(&two, &same.state().unwrap()), "{name} at {token}");
        }
        // Interrupted at every token, the run gives what it gives at once.
        let mut whole = new(memory_start(&scene), 3);
        let mut pieces = new(memory_start(&scene), 4);
        let calls = scene.rules.stream_count == fwpkm_reference::rules::StreamCount::Call;
        for token in 0..tokens {
            if calls {
                whole.feed(&scene.text.slice(token, token + 1)).unwrap();
            }
            pieces.feed(&scene.text.slice(token, token + 1)).unwrap();
            pieces = new(pieces.state().unwrap(), token as u64);
        }
        if !calls {
            whole.feed(&scene.text.slice(0, tokens)).unwrap();
        }
        whole.flush().unwrap();
        pieces.flush().unwrap();
        assert_eq!(whole.state().unwrap(), pieces.state().unwrap(), "{name}");
    }
}

/// The same numbers, the first axis the fastest.
fn columns(array: &Array3<f32>) -> Array3<f32> {
    let mut columns = Array3::zeros(array.raw_dim().f());
    columns.assign(array);
    columns
}

fn memory_start(scene: &common::Scene) -> State<f32> {
    State {
        settings: scene.settings.clone(),
        rules: scene.rules.clone(),
        tables: scene.tables.clone(),
        queued: None,
        steps: 0,
    }
}

/// STR-6: a text that is read and closed at once is fed and flushed.
#[test]
fn str_6_a_text_is_fed_and_its_last_chunk_closed() {
    for (name, scene) in scenes().into_iter().step_by(5) {
        let tokens = scene.calls.iter().sum();
        let new = || Memory::from_state(Emulator::new(0), memory_start(&scene), Variant::Fast(TINY)).unwrap();
        let (mut one, mut other) = (new(), new());
        let read = one.read_text(&scene.text.slice(0, tokens)).unwrap();
        let mut fed = other.feed(&scene.text.slice(0, tokens)).unwrap();
        fed.steps.extend(other.flush().unwrap());
        let (one, other) = (one.state().unwrap(), other.state().unwrap());
        assert_eq!((read.steps.len(), bits(&read, &one)), (fed.steps.len(), bits(&fed, &other)), "{name}");
    }
}
