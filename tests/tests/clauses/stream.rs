//! Stage `stream`: a text in calls of any length, and the queue of pending pairs.

mod by_call;
mod flush;
mod properties;

use crate::common::{
    Drawn as _, Text, grid, grid_memory, grid_tables, hits, losses, refused, slots, small, tables, text,
};
use fwpkm_reference::rules::StreamCount;
use fwpkm_reference::settings::Border;
use fwpkm_reference::{Error, Memory, Rules, Settings, Tokens, Trace};
use ndarray::{Array2, Array3, arr2, array};

/// [`grid`] with border carry.
fn carry(chunk: usize, lookahead: usize) -> Settings {
    Settings { border: Border::Carry, ..grid(2, chunk, lookahead) }
}

/// Tokens that all read slot 0.
fn on_slot_0(values: &[f64]) -> Text<f64> {
    let tokens: Vec<(usize, f64)> = values.iter().map(|&value| (0, value)).collect();
    hits(&grid(2, 1, 0), &[&tokens])
}

/// Steps taken in each call, and the reads of all.
fn calls(memory: &mut Memory<f64>, text: &Text<f64>, lengths: &[usize]) -> (Vec<usize>, Vec<f64>) {
    let (mut from, mut steps, mut reads) = (0, vec![], vec![]);
    for &length in lengths {
        let fed = memory.feed(&text.part(from, from + length).tokens()).unwrap();
        steps.push(fed.steps.len());
        reads.extend(fed.reads);
        from += length;
    }
    (steps, reads)
}

// C = 3 in calls of 2: the steps follow tokens 2 and 5, in the middle of the second call and at the end of the third.
#[test]
fn str_1_borders_count_tokens_of_the_text_not_of_a_call() {
    let settings = grid(2, 3, 0);
    let mut memory = grid_memory(&settings, Rules::paper());
    let found = calls(&mut memory, &on_slot_0(&[3.0, 6.0, 9.0, 1.0, 1.0, 1.0]), &[2, 2, 2]);
    assert_eq!(found, (vec![0, 1, 1], vec![0.0, 0.0, 0.0, 6.0, 6.0, 6.0]));
    assert_eq!(slots(&memory)[0], 1.0);
}

// C = 3 and a call of 8 after one of 1: it is read in slices that end at the borders, 2, 3 and 3 tokens.
#[test]
fn str_1_a_trace_has_the_reading_of_every_slice() {
    let mut memory = grid_memory(&grid(2, 3, 0), Rules::paper());
    let (text, mut trace) = (on_slot_0(&[3.0; 9]), Trace::default());
    memory.feed_traced(&text.part(0, 1).tokens(), &mut trace).unwrap();
    memory.feed_traced(&text.part(1, 9).tokens(), &mut trace).unwrap();
    let tokens: Vec<_> = trace.readings.iter().map(|(tokens, reading)| (*tokens, reading.reads.nrows())).collect();
    assert_eq!(tokens, [(1, 1), (2, 2), (3, 3), (3, 3)]);
}

#[test]
fn str_1_a_call_without_tokens_changes_nothing() {
    for border in [Border::Drop, Border::Carry] {
        let settings = Settings { border, ..small() };
        let mut memory = Memory::new(settings.clone(), Rules::release(), tables(&settings, 1)).unwrap();
        let text = text(&settings, 2, 3, 2);
        memory.feed(&text.tokens()).unwrap();
        let fed = memory.feed(&text.part(0, 0).tokens()).unwrap();
        assert_eq!((fed.reads.dim(), fed.steps.len(), memory.queued()), ((2, 0, 2), 0, 3));
        assert_eq!(memory.tables(), &tables(&settings, 1));
    }
}

#[test]
fn str_1_gates_and_mask_are_given_with_every_token_of_a_text_or_with_none() {
    let settings = small();
    let (plain, gated) = (text(&settings, 1, 2, 1), text(&settings, 1, 2, 1).gated(2));
    let masked = text(&settings, 1, 2, 1).masked(3);
    for (first, then, tensor, given) in [
        (&gated, &plain, "gates", false),
        (&plain, &gated, "gates", true),
        (&masked, &plain, "mask", false),
        (&plain, &masked, "mask", true),
    ] {
        let mut memory = Memory::new(settings.clone(), Rules::paper(), tables(&settings, 1)).unwrap();
        memory.feed(&first.tokens()).unwrap();
        assert_eq!(memory.feed(&then.tokens()).unwrap_err(), Error::Presence { tensor, given, queued: 2 });
        // Nothing has changed, and the text may go on as it began.
        assert_eq!(memory.queued(), 2);
        memory.feed(&first.tokens()).unwrap();
    }
}

#[test]
fn str_1_wrong_shapes_name_the_tensor() {
    let settings = small();
    let mut memory = Memory::new(settings.clone(), Rules::paper(), tables(&settings, 1)).unwrap();
    let good = text(&settings, 2, 3, 1).gated(2).masked(3);
    let mut refused = |change: &dyn Fn(&mut Text<f64>)| {
        let mut changed = good.clone();
        change(&mut changed);
        match memory.feed(&changed.tokens()) {
            Err(Error::Shape { tensor, expected, found }) => {
                assert!(!expected.is_empty() && !found.is_empty());
                tensor
            }
            other => panic!("{other:?}"),
        }
    };
    // Too narrow, too wide, no sequences; then one tensor with other tokens, sequences or features than the queries.
    assert_eq!(refused(&|t| t.queries = Array3::zeros((2, 3, 3))), "queries");
    assert_eq!(refused(&|t| t.queries = Array3::zeros((2, 3, 8))), "queries");
    assert_eq!(refused(&|t| *t = text(&settings, 0, 3, 1)), "queries");
    assert_eq!(refused(&|t| t.values = Array3::zeros((2, 4, 2))), "values");
    assert_eq!(refused(&|t| t.values = Array3::zeros((1, 3, 2))), "values");
    assert_eq!(refused(&|t| t.values = Array3::zeros((2, 3, 3))), "values");
    assert_eq!(refused(&|t| t.gates = Some(Array2::zeros((3, 2)))), "gates");
    assert_eq!(refused(&|t| t.mask = Some(Array2::from_elem((2, 2), true))), "mask");
    assert_eq!((memory.queued(), memory.steps()), (0, 0));
    memory.feed(&good.tokens()).unwrap();
}

// The largest C and L that are allowed never step and never overflow a counter; one more is refused.
#[test]
fn str_1_huge_chunks_and_lookaheads_neither_overflow_nor_step() {
    let text = on_slot_0(&[1.0, 2.0, 3.0, 4.0]);
    for (chunk, lookahead, border) in [
        (usize::MAX, 0, Border::Drop),
        (usize::MAX - 1, 1, Border::Drop),
        (usize::MAX, 0, Border::Carry),
        (1, usize::MAX - 1, Border::Carry),
    ] {
        let settings = Settings { border, ..grid(2, chunk, lookahead) };
        for rules in [Rules::paper(), Rules { stream_count: StreamCount::Chunk, ..Rules::release() }] {
            let mut memory = grid_memory(&settings, rules);
            assert_eq!(calls(&mut memory, &text, &[3, 0, 1]).0, [0, 0, 0]);
            assert_eq!(memory.queued(), 4);
            let flushed = memory.flush().unwrap();
            assert_eq!(flushed.is_some(), lookahead < 4);
        }
    }
    assert_eq!(refused(Settings { chunk: usize::MAX, lookahead: 1, ..small() }), "lookahead");
    let settings = Settings { chunk: 1, lookahead: usize::MAX, border: Border::Carry, ..small() };
    assert_eq!(refused(settings), "lookahead");
}

// 64 heads, n = 1024, 8193 tokens: 2·64·1024·8 bytes each, one token above 8 GiB, refused before any of it is allocated.
#[test]
fn str_1_a_chunk_whose_half_scores_would_not_fit_is_refused() {
    let settings = Settings { heads: 64, chunk: 1 << 20, ..grid(1024, 1, 0) };
    let mut memory = grid_memory(&settings, Rules::paper());
    let tokens = |t| (Array3::zeros((1, t, 128)), Array3::zeros((1, t, 1)));
    let (queries, values) = tokens(8193);
    let refused = memory
        .feed(&Tokens { queries: queries.view(), values: values.view(), gates: None, mask: None })
        .map(|_| ())
        .unwrap_err();
    let Error::TooLarge { bytes, limit, .. } = refused else { panic!("{refused}") };
    assert_eq!((bytes, limit), (8193 << 20, 8 << 30));
    assert_eq!(memory.queued(), 0);
    // Refused for its length alone: a shorter call is taken.
    let (queries, values) = tokens(1);
    memory.feed(&Tokens { queries: queries.view(), values: values.view(), gates: None, mask: None }).unwrap();
}

#[test]
fn str_1_chunk_must_be_positive() {
    assert_eq!(refused(Settings { chunk: 0, ..small() }), "chunk");
    assert_eq!(refused(Settings { chunk: 0, lookahead: 0, border: Border::Carry, ..small() }), "chunk");
}

// C - 1, C and C + 1 tokens with C = 3, L = 1: no step, a step after the last token, and a token of the next chunk, which
// reads (2 + 4)/3. The target 9 of token 2 lies beyond the border and is lost.
#[test]
fn str_2_steps_after_the_last_token_of_a_chunk() {
    for (tokens, steps, slot) in [(2, 0, 0.0), (3, 1, 2.0), (4, 1, 2.0)] {
        let mut memory = grid_memory(&grid(2, 3, 1), Rules::paper());
        let fed = memory.feed(&on_slot_0(&[1.0, 2.0, 4.0, 9.0]).part(0, tokens).tokens()).unwrap();
        assert_eq!((fed.steps.len(), slots(&memory)[0], memory.queued()), (steps, slot, tokens % 3));
        assert_eq!(fed.reads[[0, tokens - 1, 0]], if tokens == 4 { slot } else { 0.0 });
    }
}

// L = C - 1 is the largest: one pair per chunk. L = C and L = C + 1 have none, and are refused under drop only.
#[test]
fn str_2_lookahead_of_a_chunk_or_more_is_refused() {
    let mut memory = grid_memory(&grid(2, 3, 2), Rules::paper());
    let fed = memory.feed(&on_slot_0(&[1.0, 2.0, 3.0]).tokens()).unwrap();
    assert_eq!((losses(&fed.steps), slots(&memory)[0]), (vec![9.0], 1.0));
    for lookahead in [3, 4, usize::MAX] {
        assert_eq!(refused(Settings { chunk: 3, lookahead, ..small() }), "lookahead");
    }
    assert_eq!(refused(Settings { chunk: 3, lookahead: 4, border: Border::Carry, ..small() }), "");
}

// C = 2, L = 1, five tokens: steps after tokens 2 and 4. Token 2 was first read as 0, but its loss is taken at 2.5:
// (2.5 - 4)² and (2.5 - 5)²; 2.5 + (1.5 + 2.5)/2 = 4.5. No target is lost.
#[test]
fn str_3_steps_when_all_targets_are_read_and_reads_the_chunk_again() {
    let mut memory = grid_memory(&carry(2, 1), Rules::paper());
    let text = on_slot_0(&[1.0, 2.0, 3.0, 4.0, 5.0]);
    let fed = memory.feed(&text.tokens()).unwrap();
    assert_eq!(fed.reads, array![[[0.0], [0.0], [0.0], [2.5], [2.5]]]);
    assert_eq!(losses(&fed.steps), [4.0, 9.0, 2.25, 6.25]);
    assert_eq!((slots(&memory)[0], memory.queued()), (4.5, 1));
    let mut memory = grid_memory(&carry(2, 1), Rules::paper());
    assert_eq!(calls(&mut memory, &text, &[1; 5]).0, [0, 0, 1, 0, 1]);
}

// C + L - 1 tokens: no step. C + L: one.
#[test]
fn str_3_steps_at_chunk_plus_lookahead_tokens() {
    for (chunk, lookahead) in [(1, 0), (1, 1), (3, 1), (2, 2), (2, 5), (1, 3)] {
        let mut memory = grid_memory(&carry(chunk, lookahead), Rules::paper());
        let text = on_slot_0(&vec![1.0; chunk + lookahead]);
        let found = calls(&mut memory, &text, &[chunk + lookahead - 1, 1]).0;
        assert_eq!((found, memory.queued()), (vec![0, 1], lookahead), "C = {chunk}, L = {lookahead}");
    }
}

// C = 2, L = 1, five tokens that read slots 0, 1, 2, 3, 0, with other gates: token 2 stays queued at the first step, and keeps
// its gate of ¼. Then with its pair masked.
#[test]
fn str_3_queued_tokens_keep_their_gate_and_mask() {
    let settings = carry(2, 1);
    let mut text = hits(&settings, &[&[(0, 8.0), (1, 8.0), (2, 8.0), (3, 8.0), (0, 8.0)]]);
    text.gates = Some(arr2(&[[1.0, 0.5, 0.25, 1.0, 0.5]]));
    let mut memory = grid_memory(&settings, Rules::paper());
    memory.feed(&text.tokens()).unwrap();
    assert_eq!(slots(&memory), [8.0, 4.0, 2.0, 8.0]);
    text.mask = Some(arr2(&[[true, true, false, true, true]]));
    let mut memory = grid_memory(&settings, Rules::paper());
    memory.feed(&text.tokens()).unwrap();
    assert_eq!(slots(&memory), [8.0, 4.0, 0.0, 8.0]);
}

// L > C: C = 1, L = 2, values 1 … 5; each step has one pair with the target two later, N = 1: slot 0 becomes 3, 4, 5.
#[test]
fn str_3_lookahead_may_exceed_the_chunk() {
    let mut memory = grid_memory(&carry(1, 2), Rules::paper());
    let fed = memory.feed(&on_slot_0(&[1.0, 2.0, 3.0, 4.0, 5.0]).tokens()).unwrap();
    assert_eq!(fed.reads, array![[[0.0], [0.0], [0.0], [3.0], [4.0]]]);
    assert_eq!((losses(&fed.steps), slots(&memory)[0]), (vec![9.0, 1.0, 1.0], 5.0));
}

// Two tokens on slot 0 with values 2 and 4, L = 0, C above T: the first reading's losses are 4 and 16, and it writes their mean
// 3; every later one has 1 and 1.
#[test]
fn str_6_repeated_readings_lower_the_loss() {
    for border in [Border::Drop, Border::Carry] {
        let settings = Settings { border, ..grid(2, 10, 0) };
        let mut memory = grid_memory(&settings, Rules::paper());
        let text = on_slot_0(&[2.0, 4.0]);
        let readings: Vec<_> = (0..3).map(|_| losses(&memory.read_text(&text.tokens()).unwrap().steps)).collect();
        assert_eq!(readings, [[4.0, 16.0], [1.0, 1.0], [1.0, 1.0]]);
        assert_eq!(memory.steps(), 3);
    }
}

// With lookahead, under carry: the last L tokens of a reading must not become queries of the next.
#[test]
fn str_6_reset_queue_keeps_readings_apart() {
    let mut memory = grid_memory(&carry(10, 1), Rules::paper());
    let text = hits(&grid(2, 1, 0), &[&[(0, 1.0), (1, 5.0), (2, 7.0)]]);
    for _ in 0..2 {
        memory.read_text(&text.tokens()).unwrap();
        memory.reset_queue();
    }
    assert_eq!(slots(&memory), [5.0, 7.0, 0.0, 0.0]);
    // Without it, token 2 of the first reading would have the second's first value as its target.
    let mut memory = grid_memory(&carry(10, 1), Rules::paper());
    memory.read_text(&text.tokens()).unwrap();
    memory.read_text(&text.tokens()).unwrap();
    assert_eq!(slots(&memory), [5.0, 7.0, 1.0, 0.0]);
}

// `read_text` is feed and flush.
#[test]
fn str_6_read_text_is_feed_then_flush() {
    let settings = grid(2, 3, 1);
    let text = on_slot_0(&[1.0, 2.0, 3.0, 4.0, 5.0]);
    let mut memory = grid_memory(&settings, Rules::paper());
    let fed = memory.read_text(&text.tokens()).unwrap();
    let mut by_hand = Memory::new(settings.clone(), Rules::paper(), grid_tables(&settings)).unwrap();
    let mut steps = by_hand.feed(&text.tokens()).unwrap().steps;
    steps.extend(by_hand.flush().unwrap());
    assert_eq!((fed.steps.len(), &fed.steps, memory.tables()), (2, &steps, by_hand.tables()));
}
