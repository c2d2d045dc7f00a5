//! A run slice by slice, each held against the oracle at the tables it started from.

use fwpkm_gpu::emulator::Emulator;
use fwpkm_gpu::{Memory, Reading, Variant};
use fwpkm_reference::settings::Border;
use fwpkm_reference::stream::Queued;
use fwpkm_reference::{Fed, State, StepReport};
use ndarray::{Array, ArrayView, Axis, Dimension, RemoveAxis, s};

use super::Scene;
use super::stages::{Shares, check_reading, check_reads};
use super::steps::{StepScene, check_step};

/// Runs a scene in its calls and checks every reading and every step.
pub(crate) fn check_scene(scene: &Scene, variant: Variant, seed: u64, shares: &mut Shares) {
    let (settings, rules) = (scene.settings.clone(), scene.rules.clone());
    let mut memory = Memory::new(Emulator::new(seed), settings, rules, scene.tables.clone(), variant).unwrap();
    let mut from = 0;
    for &call in &scene.calls {
        let end = from + call;
        while from < end {
            let to = end.min(from + memory.until_border());
            check_slice(&mut memory, scene, from, to, shares);
            from = to;
        }
    }
    let before = memory.state().unwrap();
    if let Some(report) = memory.flush().unwrap() {
        let tokens = match before.settings.border {
            Border::Drop => memory_queue(&before).queries.dim().0,
            Border::Carry => memory_queue(&before).queries.dim().0 - before.settings.lookahead,
        };
        check_step_of(&memory, &before, memory_queue(&before), tokens, None, &report, shares);
    }
}

fn memory_queue(state: &State<f32>) -> &Queued<f32> {
    state.queued.as_ref().unwrap()
}

fn check_slice(memory: &mut Memory<Emulator>, scene: &Scene, from: usize, to: usize, shares: &mut Shares) {
    let before = memory.state().unwrap();
    let tokens = scene.text.slice(from, to);
    let slice = Queued {
        queries: swap(tokens.queries),
        values: swap(tokens.values),
        gates: tokens.gates.map(swap),
        mask: tokens.mask.map(swap),
    };
    let fed = memory.feed(&tokens).unwrap();
    let (rows, slots, weights, reads) = flat(&fed);
    check_reads(shares, &before.tables, &slots, &weights, &reads);
    let queue = match &before.queued {
        Some(queued) => joined(queued, &slice),
        None => slice,
    };
    if fed.steps.is_empty() || before.settings.border == Border::Drop {
        // Earlier rows may be of tokens that have moved since.
        let all = if before.settings.writes { row_count(&queue) } else { rows };
        let reading = last(&memory.last_reading(all).unwrap(), rows);
        let queries = swap(scene.text.slice(from, to).queries);
        check_reading(shares, &before.settings, &before.tables, &queries, &reading);
        assert_eq!(reading.reads, reads);
    }
    if let Some(report) = fed.steps.first() {
        let (settings, counts_calls) =
            (&before.settings, memory.rules().stream_count == fwpkm_reference::rules::StreamCount::Call);
        let calls = counts_calls && settings.border == Border::Carry;
        let chunk = match settings.border {
            Border::Carry if calls => queue.queries.dim().0.saturating_sub(settings.lookahead),
            _ => settings.chunk,
        };
        check_step_of(memory, &before, &queue, chunk, calls.then_some(&slots), report, shares);
    }
}

/// The last rows of a reading
fn last(reading: &Reading, rows: usize) -> Reading {
    let from = reading.reads.nrows() - rows;
    Reading {
        half_indices: reading.half_indices.slice(s![from.., .., .., ..]).to_owned(),
        half_values: reading.half_values.slice(s![from.., .., .., ..]).to_owned(),
        ranks: reading.ranks.slice(s![from.., .., .., ..]).to_owned(),
        merits: reading.merits.slice(s![from.., .., ..]).to_owned(),
        slots: reading.slots.slice(s![from.., .., ..]).to_owned(),
        weights: reading.weights.slice(s![from.., .., ..]).to_owned(),
        reads: reading.reads.slice(s![from.., ..]).to_owned(),
    }
}

fn row_count(queue: &Queued<f32>) -> usize {
    queue.queries.dim().0 * queue.queries.dim().1
}

fn check_step_of(
    memory: &Memory<Emulator>,
    before: &State<f32>,
    queue: &Queued<f32>,
    tokens: usize,
    counted: Option<&ndarray::Array3<usize>>,
    report: &StepReport<f32>,
    shares: &mut Shares,
) {
    let reading = memory.last_reading(tokens * queue.queries.dim().1).unwrap();
    check_reading(shares, &before.settings, &before.tables, &queue.queries, &reading);
    let after = memory.tables().unwrap();
    let scene =
        StepScene { memory, before: &before.tables, after: &after, queue, tokens, counted, reading: &reading, report };
    check_step(shares, &scene);
}

fn swap<T: Clone, D: Dimension>(mut tokens: ArrayView<T, D>) -> Array<T, D> {
    tokens.swap_axes(0, 1);
    tokens.as_standard_layout().into_owned()
}

fn append<T: Clone, D: Dimension + RemoveAxis>(one: &Array<T, D>, other: &Array<T, D>) -> Array<T, D> {
    ndarray::concatenate(Axis(0), &[one.view(), other.view()]).unwrap()
}

fn joined(queued: &Queued<f32>, slice: &Queued<f32>) -> Queued<f32> {
    Queued {
        queries: append(&queued.queries, &slice.queries),
        values: append(&queued.values, &slice.values),
        gates: queued.gates.as_ref().zip(slice.gates.as_ref()).map(|(one, other)| append(one, other)),
        mask: queued.mask.as_ref().zip(slice.mask.as_ref()).map(|(one, other)| append(one, other)),
    }
}

/// Rows (token, sequence) of what a call gave
fn flat(fed: &Fed<f32>) -> (usize, ndarray::Array3<usize>, ndarray::Array3<f32>, ndarray::Array2<f32>) {
    let (b, t, h, k) = fed.slots.dim();
    let slots = swap(fed.slots.view()).into_shape_with_order((t * b, h, k)).unwrap();
    let weights = swap(fed.weights.view()).into_shape_with_order((t * b, h, k)).unwrap();
    let reads = swap(fed.reads.view());
    let width = reads.dim().2;
    (t * b, slots, weights, reads.into_shape_with_order((t * b, width)).unwrap())
}
