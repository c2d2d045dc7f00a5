//! Properties of a stream: any cut, causality, and where one way of feeding equals another.

use fwpkm_reference::rules::StreamCount;
use fwpkm_reference::settings::Border;
use fwpkm_reference::{Memory, Rules, Settings};
use proptest::prelude::*;

use crate::common::cases::{Case, cases, stream_case};
use crate::common::outcome::{Outcome, run};
use crate::common::{bits, narrowed, tables};

/// Positions to cut at and positions to flush at, up to the text's length.
fn cuts() -> impl Strategy<Value = (Vec<usize>, Vec<usize>)> {
    (prop::collection::vec(0..=15usize, 0..8), prop::collection::vec(0..=15usize, 0..3))
}

fn within(positions: &[usize], case: &Case) -> Vec<usize> {
    positions.iter().copied().filter(|&position| position <= case.tokens).collect()
}

proptest! {
    #![proptest_config(cases(256))]

    // Reads, weights, slots, losses, tables and queue: in one call, in any calls, and token by token.
    #[test]
    fn prop_str_1_any_cut_gives_the_same_bits(case in stream_case(), (cut, flush) in cuts()) {
        let (text, cut, flush) = (case.text(), within(&cut, &case), within(&flush, &case));
        let whole = run(&mut case.memory(), &text, &[], &flush).unwrap();
        prop_assert_eq!(&run(&mut case.memory(), &text, &cut, &flush).unwrap(), &whole);
        let each: Vec<usize> = (0..case.tokens).collect();
        prop_assert_eq!(&run(&mut case.memory(), &text, &each, &flush).unwrap(), &whole);
    }

    #[test]
    fn prop_str_1_any_cut_gives_the_same_bits_in_f32(case in stream_case(), (cut, flush) in cuts()) {
        let (text, cut, flush) = (case.text().narrowed(), within(&cut, &case), within(&flush, &case));
        let memory = || {
            let tables = narrowed(&tables(&case.settings, case.seed));
            Memory::new(case.settings.clone(), case.rules.clone(), tables).unwrap()
        };
        let whole = run(&mut memory(), &text, &[], &flush).unwrap();
        prop_assert_eq!(run(&mut memory(), &text, &cut, &flush).unwrap(), whole);
    }

    // What is read before position p does not depend on anything from p on: queries, values, gates or mask.
    #[test]
    fn prop_str_1_reads_do_not_see_later_tokens(
        case in stream_case(), (cut, flush) in cuts(), p in 0..=15usize, seed in any::<u64>(), call in any::<bool>(),
    ) {
        let stream_count = if call { StreamCount::Call } else { StreamCount::Chunk };
        let case = Case { rules: Rules { stream_count, ..case.rules.clone() }, ..case };
        let (text, mut other, p) = (case.text(), case.text_from(seed), p.min(case.tokens));
        let early = ndarray::Slice::from(..p);
        let axis = ndarray::Axis(1);
        other.queries.slice_axis_mut(axis, early).assign(&text.queries.slice_axis(axis, early));
        other.values.slice_axis_mut(axis, early).assign(&text.values.slice_axis(axis, early));
        if let (Some(to), Some(from)) = (&mut other.gates, &text.gates) {
            to.slice_axis_mut(axis, early).assign(&from.slice_axis(axis, early));
        }
        if let (Some(to), Some(from)) = (&mut other.mask, &text.mask) {
            to.slice_axis_mut(axis, early).assign(&from.slice_axis(axis, early));
        }
        let (cut, flush) = (within(&cut, &case), within(&flush, &case));
        let mine = run(&mut case.memory(), &text, &cut, &flush).unwrap();
        let others = run(&mut case.memory(), &other, &cut, &flush).unwrap();
        prop_assert_eq!(mine.reads.slice_axis(axis, early), others.reads.slice_axis(axis, early));
        prop_assert_eq!(mine.slots.slice_axis(axis, early), others.slots.slice_axis(axis, early));
        prop_assert_eq!(mine.weights.slice_axis(axis, early), others.weights.slice_axis(axis, early));
    }

    // Between calls the queue holds less than a chunk and its targets.
    #[test]
    fn prop_str_1_the_queue_is_shorter_than_chunk_plus_lookahead(case in stream_case(), (cut, flush) in cuts()) {
        let (text, mut memory) = (case.text(), case.memory());
        for t in 0..case.tokens {
            memory.feed(&text.part(t, t + 1).tokens()).unwrap();
            let most = case.settings.chunk + if case.settings.border == Border::Carry { case.settings.lookahead } else { 0 };
            prop_assert!(memory.queued() < most);
            if cut.contains(&t) && flush.contains(&t) {
                memory.flush().unwrap();
                let kept = if case.settings.border == Border::Carry { case.settings.lookahead } else { 0 };
                prop_assert!(memory.queued() <= kept);
            }
        }
    }

    // Under drop the rule stream_count has no effect, whatever the calls.
    #[test]
    fn prop_str_2_drop_does_not_see_the_calls(case in stream_case(), (cut, flush) in cuts()) {
        let settings =
            Settings { border: Border::Drop, lookahead: case.settings.lookahead.min(case.settings.chunk - 1), ..case.settings.clone() };
        let case = Case { settings, ..case };
        let by = |stream_count| {
            let case = Case { rules: Rules { stream_count, ..case.rules.clone() }, ..case.clone() };
            run(&mut case.memory(), &case.text(), &within(&cut, &case), &within(&flush, &case)).unwrap()
        };
        prop_assert_eq!(by(StreamCount::Chunk), by(StreamCount::Call));
    }

    // Without lookahead every query has its target at once, and the borders are the same.
    #[test]
    fn prop_str_3_without_lookahead_carry_is_drop(case in stream_case(), (cut, flush) in cuts()) {
        let by = |border| {
            let settings = Settings { border, lookahead: 0, ..case.settings.clone() };
            let case = Case { settings, ..case.clone() };
            run(&mut case.memory(), &case.text(), &within(&cut, &case), &within(&flush, &case)).unwrap()
        };
        prop_assert_eq!(by(Border::Drop), by(Border::Carry));
    }

    // Under carry with lookahead, the steps are those of drop without, on the text whose values are shifted by L and which ends at
    // the last query with a target. A flush before position p is one before p - L.
    #[test]
    fn prop_str_3_carry_is_drop_on_the_shifted_values(case in stream_case(), (cut, flush) in cuts()) {
        let (lookahead, tokens) = (case.settings.lookahead, case.tokens);
        let by = |border, lookahead| {
            let settings = Settings { border, lookahead, ..case.settings.clone() };
            Case { settings, ..case.clone() }.memory()
        };
        let (text, flush) = (case.text(), within(&flush, &case));
        let flush: Vec<usize> = flush.into_iter().chain([tokens]).collect();
        let found = run(&mut by(Border::Carry, lookahead), &text, &within(&cut, &case), &flush).unwrap();
        let queries = tokens.saturating_sub(lookahead);
        let mut shifted = text.part(0, queries);
        shifted.values.assign(&text.values.slice(ndarray::s![.., tokens - queries.., ..]));
        let earlier: Vec<usize> = flush.iter().map(|p| p.saturating_sub(lookahead)).collect();
        let expected = run(&mut by(Border::Drop, 0), &shifted, &[], &earlier).unwrap();
        prop_assert_eq!((found.steps, found.tables), (expected.steps, expected.tables));
    }

    // The release's one stable cut: calls of C + L, C, C, … give the bits of a single call.
    #[test]
    fn prop_str_5_calls_at_the_slices_equal_one_call(case in stream_case()) {
        let settings = Settings { border: Border::Carry, ..case.settings.clone() };
        let (chunk, lookahead) = (settings.chunk, settings.lookahead);
        let case = Case { settings, rules: Rules { stream_count: StreamCount::Call, ..case.rules.clone() }, ..case };
        let slices: Vec<usize> = (chunk + lookahead..=case.tokens).step_by(chunk).collect();
        let whole = run(&mut case.memory(), &case.text(), &[], &[]).unwrap();
        prop_assert_eq!(run(&mut case.memory(), &case.text(), &slices, &[]).unwrap(), whole);
    }

    // Fed at the slices, a text that ends with one has the same tables under both rules where neither N_i nor S is in play:
    // each step's queries are the same. Seen in the losses of the first step.
    #[test]
    fn prop_str_5_the_first_step_has_the_same_losses_as_that_of_the_text(case in stream_case()) {
        let settings = Settings { border: Border::Carry, ..case.settings.clone() };
        let tokens = settings.chunk + settings.lookahead;
        let by = |stream_count| {
            let rules = Rules { stream_count, ..case.rules.clone() };
            let case = Case { settings: settings.clone(), rules, tokens, ..case.clone() };
            let mut memory = case.memory();
            let mut steps = memory.feed(&case.text().tokens()).unwrap().steps;
            assert_eq!(steps.len(), 1);
            (bits(&steps.remove(0).pair_losses), bits(&memory.tables().sub_keys))
        };
        prop_assert_eq!(by(StreamCount::Chunk), by(StreamCount::Call));
    }

    // Feed and flush with any C ≥ T is one chunk of T, reading after reading.
    #[test]
    fn prop_str_6_a_reading_is_one_chunk_of_the_text(case in stream_case(), more in 0..100usize) {
        prop_assume!(case.tokens > 0);
        let repeated = |chunk: usize| -> Vec<Outcome> {
            let lookahead = case.settings.lookahead.min(case.tokens - 1);
            let settings = Settings { border: Border::Drop, chunk, lookahead, ..case.settings.clone() };
            let case = Case { settings, ..case.clone() };
            let mut memory = case.memory();
            (0..3).map(|_| run(&mut memory, &case.text(), &[], &[case.tokens]).unwrap()).collect()
        };
        let exact = repeated(case.tokens);
        prop_assert!(exact.iter().all(|outcome| outcome.steps.len() == 1));
        prop_assert_eq!(repeated(case.tokens + more), exact);
    }
}
