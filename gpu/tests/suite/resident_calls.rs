//! Calls of a memory that is fed from the device: reads over the values, closing a chunk, the report of a step. The bits are those of
//! the calls from the host, however the work is launched.

use fwpkm_gpu::emulator::Emulator;
use fwpkm_gpu::{Launching, Memory, Variant};
use fwpkm_reference::Tables;
use fwpkm_reference::settings::Border;
use ndarray::s;

use crate::common::{self, Scene, TINY, WALKING, assert_same_bits, emulate, resident, scenes};

fn new(scene: &Scene, launching: Launching) -> Memory<Emulator> {
    let (settings, rules, tables) = (scene.settings.clone(), scene.rules.clone(), scene.tables.clone());
    let mut memory = Memory::new(Emulator::new(1), settings, rules, tables, Variant::Fast(WALKING)).unwrap();
    memory.set_launching(launching);
    memory
}

fn bits(tables: &Tables<f32>) -> Vec<u32> {
    tables.sub_keys.iter().chain(&tables.slot_values).map(|x| x.to_bits()).collect()
}

/// What is read of a slice goes over values that are in the queue by then. A walk reads them where they are, and is not taken.
#[test]
fn reads_that_go_over_the_values_have_the_same_bits() {
    for (name, scene) in scenes() {
        let even = resident::evenly_cut(&scene, 3);
        let chunk = scene.settings.chunk;
        let one = Scene { calls: vec![2 * chunk + 1], ..even.clone() };
        for (scene, launching) in
            [(&even, Launching::Single), (&even, Launching::Graphs), (&one, Launching::Persistent)]
        {
            let expected = emulate(scene, Variant::Fast(TINY), 4).unwrap();
            let mut memory = new(scene, launching);
            let mut reads = expected.reads.clone();
            let mut from = 0;
            for &call in &scene.calls {
                let read = resident::feed_call_to(&mut memory, &scene.text.slice(from, from + call), true).unwrap();
                reads.slice_mut(s![.., from..from + call, ..]).assign(&read);
                from += call;
            }
            memory.settle().unwrap();
            memory.flush().unwrap();
            let ours = common::Outcome { reads, tables: memory.tables().unwrap(), ..expected.clone() };
            assert_same_bits(name, &expected, &ours);
        }
    }
}

/// Each step closed and reported without a copy of anything else: the report is that of feed and flush.
#[test]
fn steps_from_the_device_are_closed_and_reported_with_the_same_bits() {
    for (name, scene) in scenes() {
        if !scene.settings.writes {
            continue;
        }
        let even = resident::evenly_cut(&scene, 3);
        let short = Scene { calls: vec![scene.settings.chunk + 1, 1, scene.settings.chunk], ..even.clone() };
        for (scene, launching) in
            [(&even, Launching::Persistent), (&short, Launching::Graphs), (&short, Launching::Single)]
        {
            let (mut ours, mut theirs) = (new(scene, launching), new(scene, Launching::Single));
            let (mut from, mut reports) = (0, 0);
            for &call in &scene.calls {
                let tokens = scene.text.slice(from, from + call);
                resident::feed_call(&mut ours, &tokens).unwrap();
                let mut steps = theirs.feed(&tokens).unwrap().steps;
                if call == 1 {
                    ours.flush_resident().unwrap();
                    steps.extend(theirs.flush().unwrap());
                }
                if let Some(step) = steps.last() {
                    assert_eq!(ours.last_step().as_ref(), Ok(step), "{name}, {launching:?}, token {from}");
                    assert_eq!(ours.last_marginal(), theirs.last_marginal(), "{name}, {launching:?}");
                    reports += 1;
                }
                from += call;
            }
            ours.flush_resident().unwrap();
            theirs.flush().unwrap();
            assert!(reports > 0 || scene.settings.border == Border::Carry, "{name}");
            assert_eq!((ours.steps(), ours.queued()), (theirs.steps(), theirs.queued()), "{name}, {launching:?}");
            assert_eq!(bits(&ours.tables().unwrap()), bits(&theirs.tables().unwrap()), "{name}, {launching:?}");
        }
    }
}
