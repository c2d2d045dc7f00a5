//! Slips of the driver: when steps are taken, and with which tables.

use fwpkm::inputs::Piece;
use fwpkm_reference::chunk::{self, Chunk, Counted, Stages};
use fwpkm_reference::settings::Border;
use fwpkm_reference::stats::SlotReads;
use fwpkm_reference::{Memory, Tokens, Trace};
use ndarray::{Array3, Axis, concatenate, s};

use crate::cases::{READINGS, SHOWS, Vector, vectors};

/// Reads of all tokens, then the slot values at the end
type Result = (Array3<f64>, Vec<f64>);

/// What is done after each call, and whether the memory of every sequence is its own
struct Driver {
    after_call: fn(&mut Memory<f64>, &Memory<f64>),
    alone: bool,
}

const RIGHT: Driver = Driver { after_call: |_, _| {}, alone: false };

const DRIVERS: &[(&str, &[&str], Driver)] = &[
    ("borders counted from a call's start", &["STR-1", "STR-2"], Driver { after_call: flush, ..RIGHT }),
    ("the queue forgotten after a call", &["STR-1", "STR-3"], Driver { after_call: |m, _| m.reset_queue(), ..RIGHT }),
    ("tables set back after a call", &["STR-6", "STR-1", "BAT-1"], Driver { after_call: set_back, ..RIGHT }),
    ("tables for each sequence", &["BAT-1"], Driver { alone: true, ..RIGHT }),
];

fn flush(memory: &mut Memory<f64>, _: &Memory<f64>) {
    memory.flush().unwrap();
}

fn set_back(memory: &mut Memory<f64>, start: &Memory<f64>) {
    memory.reset_tables(start.tables().clone()).unwrap();
}

fn drive(vector: &Vector, driver: &Driver) -> Option<Result> {
    let inputs = vector.inputs();
    let Piece::Memory { queries, values, gates, mask } = inputs.piece::<f64>(0, inputs.tokens()).unwrap() else {
        return None;
    };
    let plan = &vector.plan;
    let start = Memory::new(plan.settings.clone(), plan.rules.clone(), inputs.tables().unwrap()).unwrap();
    let sequences = inputs.sequences();
    let parts: Vec<(usize, usize)> =
        if driver.alone { (0..sequences).map(|b| (b, b + 1)).collect() } else { vec![(0, sequences)] };
    let (mut reads, mut tables) = (Vec::new(), Vec::new());
    for (first, last) in parts {
        let mut memory = start.clone();
        let mut of_calls = Vec::new();
        let mut from = 0;
        for call in plan.calls.clone().unwrap_or_else(|| vec![inputs.tokens()]) {
            let to = from + call;
            let fed = memory.feed(&Tokens {
                queries: queries.slice(s![first..last, from..to, ..]),
                values: values.slice(s![first..last, from..to, ..]),
                gates: gates.as_ref().map(|gates| gates.slice(s![first..last, from..to])),
                mask: mask.as_ref().map(|mask| mask.slice(s![first..last, from..to])),
            });
            of_calls.push(fed.unwrap().reads);
            from = to;
            if from < inputs.tokens() {
                (driver.after_call)(&mut memory, &start);
            }
        }
        if plan.flush {
            memory.flush().unwrap();
        }
        let views: Vec<_> = of_calls.iter().map(|reads| reads.view()).collect();
        reads.push(concatenate(Axis(1), &views).unwrap());
        tables = memory.tables().slot_values.iter().copied().collect();
    }
    let views: Vec<_> = reads.iter().map(|reads| reads.view()).collect();
    Some((concatenate(Axis(0), &views).unwrap(), tables))
}

fn gap<'a>(one: impl IntoIterator<Item = &'a f64> + Clone, other: impl IntoIterator<Item = &'a f64>) -> f64 {
    let largest = one.clone().into_iter().fold(0.0_f64, |largest, x| largest.max(x.abs()));
    one.into_iter().zip(other).fold(0.0_f64, |gap, (a, b)| gap.max((a - b).abs())) / largest
}

#[test]
fn every_slip_of_the_driver_shows_in_a_case_of_its_clause() {
    let vectors = vectors();
    for (name, clauses, driver) in DRIVERS {
        for (clause, reading) in clauses.iter().flat_map(|clause| READINGS.map(|reading| (clause, reading))) {
            let mut most = (0.0, "none");
            for vector in vectors.iter().filter(|vector| vector.is_for(clause, reading)) {
                let (Some(right), Some(slipped)) = (drive(vector, &RIGHT), drive(vector, driver)) else { continue };
                let difference = gap(&right.0, &slipped.0).max(gap(&right.1, &slipped.1));
                if difference > most.0 {
                    most = (difference, &vector.name);
                }
            }
            println!("{name:42} {clause:6} {reading:8} {:9.3} {}", most.0, most.1);
            assert!(most.0 > SHOWS, "{name} in {clause}, {reading}: {most:?}");
        }
    }
}

/// Reads under border carry where a step takes the reading its queries already had; N_i, losses and gradients are of it
fn without_second_reading(vector: &Vector) -> Option<Array3<f64>> {
    let (inputs, settings, rules) = (vector.inputs(), &vector.plan.settings, &vector.plan.rules);
    let Piece::Memory { queries, values, gates: None, mask: None } = inputs.piece::<f64>(0, inputs.tokens()).unwrap()
    else {
        return None;
    };
    let stages = Stages::specification();
    let mut tables = inputs.tables::<f64>().unwrap();
    let (queries, values) = (queries.permuted_axes([1, 0, 2]), values.permuted_axes([1, 0, 2]));
    let read = |tables: &_, token: usize| {
        chunk::read(&stages, settings, tables, queries.slice(s![token..=token, .., ..]), 0).unwrap()
    };
    let mut readings = Vec::new();
    for token in 0..inputs.tokens() {
        readings.push(read(&tables, token));
        let first = (token + 1).saturating_sub(settings.chunk + settings.lookahead);
        if token + 1 < settings.chunk + settings.lookahead || first % settings.chunk != 0 {
            continue;
        }
        let mut whole =
            chunk::read(&stages, settings, &tables, queries.slice(s![first..first + settings.chunk, .., ..]), 0)
                .unwrap();
        let rows = inputs.sequences();
        for (place, earlier) in readings[first..first + settings.chunk].iter().enumerate() {
            whole.reads.slice_mut(s![place * rows..(place + 1) * rows, ..]).assign(&earlier.reads);
        }
        let chunk = Chunk {
            queries: queries.slice(s![first..first + settings.chunk, .., ..]).to_owned(),
            values: values.slice(s![first..=token, .., ..]).to_owned(),
            gates: None,
            mask: None,
            lookahead: settings.lookahead,
        };
        let counted = Counted { slots: whole.selected.slots.view(), samples: settings.chunk * rows };
        let step = chunk::step(&stages, settings, rules, &tables, &chunk, &whole, &counted, 0).unwrap();
        chunk::apply(&stages, settings, &mut tables, &step);
    }
    let views: Vec<_> = readings.iter().map(|reading| reading.reads.view().insert_axis(Axis(0))).collect();
    Some(concatenate(Axis(0), &views).unwrap().permuted_axes([1, 0, 2]))
}

#[test]
fn a_missing_second_reading_shows_under_border_carry() {
    let carried = vectors()
        .into_iter()
        .filter(|vector| vector.is_for("STR-3", "paper") && vector.plan.settings.border == Border::Carry);
    let gaps: Vec<(f64, String)> = carried
        .filter_map(|vector| {
            let right = drive(&vector, &RIGHT)?.0;
            Some((gap(&right, &without_second_reading(&vector)?), vector.name))
        })
        .collect();
    let most = gaps.iter().max_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
    assert!(most.0 > SHOWS, "{gaps:?}");
}

#[test]
fn second_readings_counted_in_the_statistics_show() {
    let mut most = [0.0_f64; 3];
    for vector in vectors().iter().filter(|vector| vector.has("STA-1") && vector.is_for("STA-3", "paper")) {
        let inputs = vector.inputs();
        let Piece::Memory { queries, values, gates: None, mask: None } =
            inputs.piece::<f64>(0, inputs.tokens()).unwrap()
        else {
            continue;
        };
        let plan = &vector.plan;
        let mut memory = Memory::new(plan.settings.clone(), plan.rules.clone(), inputs.tables().unwrap()).unwrap();
        let mut trace = Trace::default();
        let tokens = Tokens { queries: queries.view(), values: values.view(), gates: None, mask: None };
        memory.feed_traced(&tokens, &mut trace).unwrap();
        let (mut right, mut slipped) = (SlotReads::default(), SlotReads::default());
        for (_, reading) in &trace.readings {
            right.extend(&reading.selected.slots);
            slipped.extend(&reading.selected.slots);
        }
        trace.steps.iter().for_each(|step| slipped.extend(&step.reading.selected.slots));
        let numbers = |reads: &SlotReads| {
            let slots = plan.settings.slots();
            [reads.collision_rate(), reads.coverage(slots), reads.divergence(slots)]
        };
        for (most, (right, slipped)) in most.iter_mut().zip(numbers(&right).into_iter().zip(numbers(&slipped))) {
            *most = most.max((right - slipped).abs() / right.abs());
        }
    }
    // Coverage does not depend on how often a slot is read.
    assert!(most[0] > SHOWS, "{most:?}");
}
