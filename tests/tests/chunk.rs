//! Stage `chunk`: a reading and a step, each with the tables as they are.

mod common;

use common::cases::{Case, cases, permutation, stream_case};
use common::{bits, grid, grid_memory, hits, margin, reading, scale, slots, small, stepped, table_bits, tables, text};
use fwpkm_reference::rules::StreamCount;
use fwpkm_reference::settings::{Activation, Border, Score};
use fwpkm_reference::{Memory, Rules, Settings, Tables, Trace};
use ndarray::{Array2, Axis, arr2, array};
use proptest::prelude::*;

// C = 1 and L = 0: each token is a chunk, and reads what the one before wrote.
#[test]
fn chk_1_a_token_reads_what_earlier_chunks_wrote() {
    let settings = grid(2, 1, 0);
    let mut memory = grid_memory(&settings, Rules::paper());
    let fed = memory.feed(&hits(&settings, &[&[(0, 5.0), (0, 8.0), (3, 1.0), (0, 2.0)]]).tokens()).unwrap();
    assert_eq!(fed.reads, array![[[0.0], [5.0], [0.0], [8.0]]]);
}

// Two chunks of two: within a chunk nothing is seen of the chunk's own targets.
#[test]
fn chk_1_tokens_of_a_chunk_read_the_same_tables() {
    let settings = grid(2, 2, 0);
    let mut memory = grid_memory(&settings, Rules::paper());
    let fed = memory.feed(&hits(&settings, &[&[(0, 5.0), (0, 7.0), (0, 1.0), (0, 1.0)]]).tokens()).unwrap();
    assert_eq!(fed.reads, array![[[0.0], [0.0], [6.0], [6.0]]]);
}

// relu of 1 + 2 = 3, V_0 = 2, target 5: the read is 6, u = (6 - 5)·2 = 2, V_0 becomes 2 - 3·1. Had V moved first, u would be
// (6 - 5)·(-1); had K moved first, the weight would not be 3.
#[test]
fn chk_2_both_steps_come_from_the_same_tables() {
    let settings = Settings {
        score: Score::DotProduct,
        activation: Activation::Relu,
        memory_gradient_to_sub_keys: true,
        ..grid(2, 1, 0)
    };
    let tables = Tables {
        sub_keys: array![[[[1.0], [-5.0]], [[1.0], [-5.0]]]],
        slot_values: arr2(&[[2.0], [0.0], [0.0], [0.0]]),
    };
    let text = common::Text { queries: array![[[1.0, 2.0]]], values: array![[[5.0]]], gates: None, mask: None };
    let after = stepped(&settings, &Rules::paper(), &tables, &text).tables;
    assert_eq!(after.slot_values, arr2(&[[-1.0], [0.0], [0.0], [0.0]]));
    assert_eq!(after.sub_keys, array![[[[-1.0], [-5.0]], [[-3.0], [-5.0]]]]);
}

// |Q| = L and L - 1 under drop: no pair. The slots only decay, the sub-keys take the same addressing step as with L = 0.
#[test]
fn chk_3_a_chunk_without_pairs_decays_and_addresses() {
    for (tokens, lookahead) in [(2, 2), (1, 2), (1, 1)] {
        for weight_decay in [0.0, 0.5] {
            let settings = Settings { lookahead, weight_decay, ..small() };
            let (before, text) = (tables(&settings, 3), text(&settings, 2, tokens, 4));
            let found = stepped(&settings, &Rules::paper(), &before, &text);
            assert_eq!(found.report.pair_losses.dim(), (0, 2));
            assert_eq!(bits(&found.tables.slot_values), bits(&(before.slot_values.clone() * (1.0 - weight_decay))));
            let with_pairs = stepped(&Settings { lookahead: 0, ..settings }, &Rules::paper(), &before, &text);
            assert_eq!(bits(&found.tables.sub_keys), bits(&with_pairs.tables.sub_keys));
            assert_ne!(bits(&found.tables.sub_keys), bits(&before.sub_keys));
            assert_eq!(found.report.slots_touched, with_pairs.report.slots_touched);
        }
    }
}

// Rules of the release: F has no pairs to divide by, and the mean of MEM-6 none to average; nothing is NaN.
#[test]
fn chk_3_a_chunk_without_pairs_is_finite_under_the_release() {
    let settings = Settings { memory_gradient_to_sub_keys: true, ..small() };
    let before = tables(&settings, 3);
    let found = stepped(&settings, &Rules::release(), &before, &text(&settings, 1, 1, 4));
    assert_eq!(bits(&found.tables.slot_values), bits(&before.slot_values));
    assert!(found.tables.sub_keys.iter().all(|x| x.is_finite()));
}

// stream_count = call with L = 3, C = 2: the queue reaches C before any query has a target. Q is empty: only decay.
#[test]
fn chk_3_a_step_without_rows_only_decays() {
    let settings = Settings { border: Border::Carry, chunk: 2, lookahead: 3, weight_decay: 0.5, ..small() };
    let before = tables(&settings, 3);
    let mut memory = Memory::new(settings.clone(), Rules::release(), before.clone()).unwrap();
    let steps = memory.feed(&text(&settings, 1, 2, 4).tokens()).unwrap().steps;
    assert_eq!((steps.len(), steps[0].pair_losses.len(), steps[0].addressing_loss), (1, 0, 0.0));
    assert_eq!(bits(&memory.tables().slot_values), bits(&(before.slot_values * 0.5)));
    assert_eq!(bits(&memory.tables().sub_keys), bits(&(before.sub_keys * 0.5)));
    assert_eq!(memory.queued(), 2);
}

/// Settings under which a run of a few chunks does not amplify roundings: ε = 0.1, and chunks of 5 or more.
fn calm(case: Case) -> Case {
    let score = if case.settings.score == Score::DotProduct {
        Score::DotProduct
    } else {
        Score::InverseDistance { epsilon: 0.1 }
    };
    let chunk = case.settings.chunk.max(5);
    let settings = Settings { score, chunk, learning_rate: case.settings.learning_rate.min(0.25), ..case.settings };
    Case { settings, ..case }
}

/// Runs a case in one call with a flush; reads, slots, tables, and the smallest margin of any reading.
fn traced(case: &Case, tables: Tables<f64>, text: &common::Text<f64>) -> (fwpkm_reference::Fed<f64>, Tables<f64>, f64) {
    let mut memory = Memory::new(case.settings.clone(), case.rules.clone(), tables).unwrap();
    let mut trace = Trace::default();
    let fed = memory.feed_traced(&text.tokens(), &mut trace).unwrap();
    memory.flush_traced(&mut trace).unwrap();
    let readings =
        trace.readings.iter().map(|(_, reading)| reading).chain(trace.steps.iter().map(|step| &step.reading));
    (fed, memory.tables().clone(), readings.map(margin).fold(f64::INFINITY, f64::min))
}

/// Same up to rounding: 1e-8 of the largest magnitude, where a wrong slot or token shows as 1e-2.
fn near<D: ndarray::Dimension>(x: &ndarray::Array<f64, D>, y: &ndarray::Array<f64, D>) -> bool {
    let scale = scale(x);
    x.dim() == y.dim() && x.iter().zip(y).all(|(x, y)| (x - y).abs() < 1e-8 * scale)
}

proptest! {
    #![proptest_config(cases(96))]

    // What feed returns for the first chunk is the reading with the tables before it.
    #[test]
    fn prop_chk_1_the_first_chunk_is_read_with_the_initial_tables(case in stream_case()) {
        let text = case.text();
        let fed = case.memory().feed(&text.tokens()).unwrap();
        let first = case.settings.chunk.min(case.tokens);
        let expected = reading(&case.settings, &tables(&case.settings, case.seed), &text.part(0, first));
        for row in 0..first * case.sequences {
            let (t, b) = (row / case.sequences, row % case.sequences);
            prop_assert_eq!(fed.reads.slice(ndarray::s![b, t, ..]), expected.reads.row(row));
            prop_assert_eq!(fed.weights.slice(ndarray::s![b, t, .., ..]), expected.weights.index_axis(Axis(0), row));
        }
    }

    // Given the queries, the course of the sub-keys never depends on slot values, targets, gates or mask; and it depends
    // on nothing else that α could hide: α only scales it.
    #[test]
    fn prop_chk_2_sub_keys_do_not_see_the_slot_values(case in stream_case(), seed in any::<u64>()) {
        let settings = Settings { memory_gradient_to_sub_keys: false, ..case.settings.clone() };
        let case = Case { settings, ..case };
        let (text, before) = (case.text(), tables(&case.settings, case.seed));
        let other = Tables { sub_keys: before.sub_keys.clone(), ..tables(&case.settings, seed) };
        let mut other_text = case.text_from(seed);
        other_text.queries.assign(&text.queries);
        let (_, mine, _) = traced(&case, before, &text);
        let (_, others, _) = traced(&case, other, &other_text);
        prop_assert_eq!(bits(&mine.sub_keys), bits(&others.sub_keys));
    }

    // The slot values of a chunk's step do not see the addressing gradient.
    #[test]
    fn prop_chk_2_slot_values_of_a_step_do_not_see_addressing(case in stream_case()) {
        let step = |addressing_weight| {
            let settings = Settings { addressing_weight, border: Border::Drop, lookahead: 0, ..case.settings.clone() };
            stepped(&settings, &case.rules, &tables(&settings, case.seed), &case.text()).tables
        };
        prop_assume!(case.tokens > 0);
        prop_assert_eq!(bits(&step(0.0).slot_values), bits(&step(3.0).slot_values));
    }

    // Gate 0: no pair weighs anything. λ = 0, k ≥ 2, and L = 0, so that there is a step: the sub-keys still move.
    #[test]
    fn prop_chk_2_gate_zero_keeps_slot_values_while_sub_keys_move(case in stream_case(), tokens in 6..12usize) {
        let settings = Settings { sub_keys: 4, top_k: 2, weight_decay: 0.0, lookahead: 0, ..case.settings.clone() };
        let case = Case { settings, tokens, ..case };
        let mut text = case.text();
        text.gates = Some(Array2::zeros(text.shape()));
        let before = tables(&case.settings, case.seed);
        let (_, after, _) = traced(&case, before.clone(), &text);
        prop_assert_eq!(bits(&after.slot_values), bits(&before.slot_values));
        prop_assert_ne!(bits(&after.sub_keys), bits(&before.sub_keys));
    }

    // Renaming sub-keys: half m of every head by one order, the slots accordingly.
    #[test]
    fn prop_chk_2_permuting_sub_keys_and_slots_permutes_the_run(
        (case, first, second) in stream_case().prop_map(calm).prop_flat_map(|case| {
            let n = case.settings.sub_keys;
            (Just(case), permutation(n), permutation(n))
        }),
    ) {
        let n = case.settings.sub_keys;
        let rename = |tables: &Tables<f64>| {
            let mut renamed = tables.clone();
            for (half, order) in [&first, &second].into_iter().enumerate() {
                let part = tables.sub_keys.index_axis(Axis(1), half);
                renamed.sub_keys.index_axis_mut(Axis(1), half).assign(&part.select(Axis(1), order));
            }
            let slots: Vec<usize> = (0..n * n).map(|slot| first[slot / n] * n + second[slot % n]).collect();
            Tables { slot_values: tables.slot_values.select(Axis(0), &slots), ..renamed }
        };
        let (before, text) = (tables(&case.settings, case.seed), case.text());
        let (fed, after, gap) = traced(&case, before.clone(), &text);
        prop_assume!(gap > 1e-6);
        let (renamed_fed, renamed_after, _) = traced(&case, rename(&before), &text);
        // Position p of the renamed table holds what stood at order[p].
        let old = renamed_fed.slots.mapv(|slot| first[slot / n] * n + second[slot % n]);
        prop_assert_eq!(old, fed.slots);
        prop_assert!(near(&fed.reads, &renamed_fed.reads));
        prop_assert!(near(&rename(&after).slot_values, &renamed_after.slot_values));
        prop_assert!(near(&rename(&after).sub_keys, &renamed_after.sub_keys));
    }

    // L = 0: the tokens of a chunk may come in any order, each with its value, gate and mask.
    #[test]
    fn prop_chk_2_permuting_tokens_of_a_chunk_without_lookahead(
        (case, order) in stream_case().prop_map(calm).prop_flat_map(|case| {
            let tokens = case.tokens;
            (Just(case), permutation(tokens))
        }),
    ) {
        prop_assume!(case.tokens > 1);
        let settings = Settings { lookahead: 0, chunk: case.tokens, border: Border::Drop, ..case.settings.clone() };
        let case = Case { settings, ..case };
        let (before, text) = (tables(&case.settings, case.seed), case.text());
        let sequences: Vec<usize> = (0..case.sequences).collect();
        let (fed, after, gap) = traced(&case, before.clone(), &text);
        prop_assume!(gap > 1e-6);
        let (other_fed, other_after, _) = traced(&case, before, &text.reordered(&sequences, &order));
        prop_assert_eq!(fed.slots.select(Axis(1), &order), other_fed.slots);
        prop_assert!(near(&fed.reads.select(Axis(1), &order), &other_fed.reads));
        prop_assert!(near(&after.slot_values, &other_after.slot_values));
        prop_assert!(near(&after.sub_keys, &other_after.sub_keys));
    }
}

// Applying a step that fails leaves neither table changed: see NUM-7. Applying one that succeeds changes both at once.
#[test]
fn chk_2_a_step_changes_both_tables_once() {
    let settings = Settings { border: Border::Carry, ..small() };
    let rules = Rules { stream_count: StreamCount::Chunk, ..Rules::paper() };
    let mut memory = Memory::new(settings.clone(), rules, tables(&settings, 1)).unwrap();
    let text = text(&settings, 1, 5, 2);
    let mut last = table_bits(memory.tables());
    for (t, step) in (0..5).zip([false, false, false, false, true]) {
        memory.feed(&text.part(t, t + 1).tokens()).unwrap();
        let now = table_bits(memory.tables());
        assert_eq!([now[0] != last[0], now[1] != last[1]], [step, step], "token {t}");
        last = now;
    }
    assert_eq!((memory.steps(), slots(&memory).len()), (1, 18));
}
