//! Stage `batch`: the memory, its state across calls, and its resets.

mod properties;

use crate::common;
use crate::common::{Drawn as _, bits, cast, grid, grid_memory, grid_tables, hits, rng, slots, small, tables, text};
use fwpkm_reference::settings::{Activation, Border, Score, WeightsOver};
use fwpkm_reference::stream::Queued;
use fwpkm_reference::{Error, Memory, Rules, Settings, State, Tables};
use ndarray::{Array, Array2, Array3, Array4};

// Both sequences write slot 0: N = 2, (4 + 8)/2 = 6. Both then read it, and one of them what the other wrote to slot 3.
#[test]
fn bat_1_all_sequences_write_and_read_the_same_tables() {
    let settings = grid(2, 2, 0);
    let mut memory = grid_memory(&settings, Rules::paper());
    memory.feed(&hits(&settings, &[&[(0, 4.0), (1, 1.0)], &[(0, 8.0), (3, 9.0)]]).tokens()).unwrap();
    assert_eq!(slots(&memory), [6.0, 1.0, 0.0, 9.0]);
    let fed = memory.feed(&hits(&settings, &[&[(3, 0.0)], &[(0, 0.0)]]).tokens()).unwrap();
    assert_eq!(fed.reads, ndarray::array![[[9.0]], [[6.0]]]);
}

#[test]
fn bat_1_tables_live_on_across_texts() {
    let settings = grid(2, 1, 0);
    let mut memory = grid_memory(&settings, Rules::paper());
    memory.read_text(&hits(&settings, &[&[(2, 5.0)]]).tokens()).unwrap();
    memory.reset_queue();
    assert_eq!(memory.read_text(&hits(&settings, &[&[(2, 1.0)]]).tokens()).unwrap().reads[[0, 0, 0]], 5.0);
}

#[test]
fn bat_1_the_number_of_sequences_may_change_only_while_the_queue_is_empty() {
    let settings = small();
    let mut memory = Memory::new(settings.clone(), Rules::paper(), tables(&settings, 1)).unwrap();
    memory.feed(&text(&settings, 2, 3, 1).tokens()).unwrap();
    for given in [1, 3] {
        let refused = memory.feed(&text(&settings, given, 3, 1).tokens()).unwrap_err();
        assert_eq!(refused, Error::Batch { given, queued: 2 });
        // Also without tokens.
        assert!(memory.feed(&text(&settings, given, 0, 1).tokens()).is_err());
    }
    assert_eq!(memory.queued(), 3);
    // The fourth token closes the chunk.
    memory.feed(&text(&settings, 2, 1, 2).tokens()).unwrap();
    memory.feed(&text(&settings, 3, 2, 3).tokens()).unwrap();
    memory.flush().unwrap();
    memory.feed(&text(&settings, 1, 2, 4).tokens()).unwrap();
    memory.reset_queue();
    memory.feed(&text(&settings, 2, 2, 5).tokens()).unwrap();
}

#[test]
fn bat_1_tables_of_other_shapes_are_refused() {
    let settings = Settings { heads: 2, ..small() };
    let good = tables(&settings, 1);
    let refused = |sub_keys: [usize; 4], slot_values: [usize; 2]| {
        let tables = Tables { sub_keys: Array4::<f64>::zeros(sub_keys), slot_values: Array2::zeros(slot_values) };
        match Memory::new(settings.clone(), Rules::paper(), tables) {
            Err(Error::Shape { tensor, found, .. }) => (tensor, found),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(good.sub_keys.dim(), (2, 2, 3, 2));
    // Heads, halves, n and d_k/2 in turn, then N and d_v.
    for wrong in [[1, 2, 3, 2], [2, 1, 3, 2], [2, 2, 2, 2], [2, 2, 3, 4], [2, 2, 3, 0]] {
        assert_eq!(refused(wrong, [9, 2]), ("sub_keys", wrong.to_vec()));
    }
    for wrong in [[3, 2], [10, 2], [9, 1], [9, 3], [0, 0]] {
        assert_eq!(refused([2, 2, 3, 2], wrong), ("slot_values", wrong.to_vec()));
    }
    assert_eq!(common::refused(Settings { value_dim: 0, ..small() }), "value_dim");
    // Shapes that no table could have: n² beyond usize must not wrap around to a small number.
    let huge = Settings { sub_keys: 1 << 33, top_k: 1, ..small() };
    let refused = Memory::new(huge, Rules::paper(), tables(&small(), 1)).map(|_| ()).unwrap_err();
    assert!(matches!(refused, Error::Shape { tensor: "sub_keys", .. }), "{refused}");
}

// C = 2, L = 0, three tokens: slot 0 holds (1 + 2)/2. The queued third is forgotten, its value never written, and counting
// starts anew.
#[test]
fn bat_2_reset_queue_forgets_the_queue_and_keeps_the_tables() {
    for border in [Border::Drop, Border::Carry] {
        let settings = Settings { border, ..grid(2, 2, 0) };
        let mut memory = grid_memory(&settings, Rules::paper());
        memory.feed(&hits(&settings, &[&[(0, 1.0), (0, 2.0), (3, 9.0)]]).tokens()).unwrap();
        assert_eq!((slots(&memory), memory.queued()), (vec![1.5, 0.0, 0.0, 0.0], 1));
        memory.reset_queue();
        assert_eq!((slots(&memory), memory.queued(), memory.steps()), (vec![1.5, 0.0, 0.0, 0.0], 0, 1));
        assert!(memory.flush().unwrap().is_none());
        let fed = memory.feed(&hits(&settings, &[&[(1, 7.0)]]).tokens()).unwrap();
        assert!(fed.steps.is_empty());
    }
}

// The other way round: the queued token is read again with the new tables, which get its value.
#[test]
fn bat_2_reset_tables_replaces_the_tables_and_keeps_the_queue() {
    let settings = grid(2, 2, 0);
    let mut memory = grid_memory(&settings, Rules::paper());
    memory.feed(&hits(&settings, &[&[(0, 1.0), (0, 2.0), (3, 9.0)]]).tokens()).unwrap();
    memory.reset_tables(grid_tables(&settings)).unwrap();
    assert_eq!((slots(&memory), memory.queued(), memory.steps()), (vec![0.0; 4], 1, 0));
    let fed = memory.feed(&hits(&settings, &[&[(0, 5.0)]]).tokens()).unwrap();
    assert_eq!((fed.steps.len(), slots(&memory)), (1, vec![5.0, 0.0, 0.0, 9.0]));
}

#[test]
fn bat_2_reset_tables_refuses_other_shapes_and_changes_nothing() {
    let settings = grid(2, 2, 0);
    let mut memory = grid_memory(&settings, Rules::paper());
    memory.feed(&hits(&settings, &[&[(0, 1.0), (0, 2.0), (3, 9.0)]]).tokens()).unwrap();
    let mut nan = grid_tables(&settings);
    nan.slot_values[[2, 0]] = f64::NAN;
    for (wrong, tensor) in [(grid_tables(&grid(3, 2, 0)), "sub_keys"), (nan, "slot_values")] {
        let refused = memory.reset_tables(wrong).unwrap_err();
        assert!(matches!(refused, Error::Shape { tensor: t, .. } | Error::NotFinite { tensor: t, .. } if t == tensor));
        assert_eq!((slots(&memory), memory.queued(), memory.steps()), (vec![1.5, 0.0, 0.0, 0.0], 1, 1));
    }
}

/// Mean and mean square.
fn moments<D: ndarray::Dimension>(numbers: &Array<f64, D>) -> (f64, f64) {
    let count = numbers.len() as f64;
    (numbers.sum() / count, numbers.iter().map(|x| x * x).sum::<f64>() / count)
}

// 1024 sub-key numbers and 8192 slot numbers. Bounds are five standard errors: of the mean σ/√count, of the mean square
// 0.9·b²/3/√count (uniform) and 1.42·σ²/√count (normal).
#[test]
fn bat_3_initial_tables_have_the_stated_distributions() {
    let settings = Settings { heads: 2, sub_keys: 32, key_dim: 16, value_dim: 8, ..small() };
    let found = tables(&settings, 11);
    let limit = 0.25;
    assert!(found.sub_keys.iter().all(|x| x.abs() <= limit));
    assert!(found.sub_keys.iter().any(|x| *x > 0.99 * limit) && found.sub_keys.iter().any(|x| *x < -0.99 * limit));
    let (mean, square) = moments(&found.sub_keys);
    let variance = limit * limit / 3.0;
    assert!(mean.abs() < 5.0 * (variance / 1024.0).sqrt(), "{mean}");
    assert!((square - variance).abs() < 5.0 * 0.9 * variance / 32.0, "{square}");
    let (mean, square) = moments(&found.slot_values);
    assert!(mean.abs() < 5.0 * (0.125f64 / 8192.0).sqrt(), "{mean}");
    assert!((square - 0.125).abs() < 5.0 * 1.42 * 0.125 / 8192f64.sqrt(), "{square}");
    // Normal, not uniform: some numbers lie beyond √3 deviations, about 4.6 in a million beyond 4.5.
    let deviations = found.slot_values.mapv(|x| x.abs() / 0.125f64.sqrt());
    assert!(deviations.iter().any(|&x| x > 2.5) && deviations.iter().all(|&x| x < 6.0));
}

#[test]
fn bat_3_initial_tables_follow_from_the_seed_and_are_rounded_to_the_element_type() {
    let settings = Settings { heads: 2, ..small() };
    assert_eq!(tables(&settings, 3), tables(&settings, 3));
    assert_ne!(tables(&settings, 3), tables(&settings, 4));
    let narrow = Tables::<f32>::random(&settings, &mut rng(3)).unwrap();
    assert_eq!(narrow.sub_keys, cast::<f32, _>(&tables(&settings, 3).sub_keys));
    // No head or half repeats another.
    let keys = tables(&settings, 3).sub_keys;
    let parts: Vec<_> =
        keys.outer_iter().flat_map(|head| head.outer_iter().map(|half| half.to_owned()).collect::<Vec<_>>()).collect();
    assert!((0..4).all(|i| (0..i).all(|j| parts[i] != parts[j])));
    let odd = Tables::<f64>::random(&Settings { key_dim: 3, ..small() }, &mut rng(1)).unwrap_err();
    assert!(matches!(odd, Error::Setting { name: "key_dim", .. }));
}

#[test]
fn bat_4_static_pkm_is_the_stated_settings() {
    let settings = Settings::static_pkm();
    assert!(!settings.writes);
    assert_eq!((settings.score, settings.weights_over), (Score::DotProduct, WeightsOver::EachHead));
    assert_eq!((settings.heads, settings.top_k, settings.activation), (4, 32, Activation::Softmax));
}

// L ≥ C under drop is an error of the step; without steps it means nothing.
#[test]
fn bat_4_without_writes_chunk_and_lookahead_mean_nothing() {
    let settings = Settings { writes: false, chunk: 1, lookahead: 7, ..small() };
    let mut memory = Memory::new(settings.clone(), Rules::paper(), tables(&settings, 1)).unwrap();
    let text = text(&settings, 2, 5, 2);
    let reads = memory.feed(&text.tokens()).unwrap().reads;
    let other = Settings { chunk: 64, lookahead: 0, border: Border::Carry, ..settings };
    let mut memory = Memory::new(other, Rules::release(), tables(&small(), 1)).unwrap();
    assert_eq!(bits(&memory.feed(&text.tokens()).unwrap().reads), bits(&reads));
    // Nothing is queued, so the next call may have another number of sequences, or gates.
    memory.feed(&common::text(&small(), 1, 1, 3).gated(1).tokens()).unwrap();
}

// A queue that is full would have been stepped: under drop at C tokens, under carry at C + L.
#[test]
fn bat_5_a_state_holds_fewer_queued_tokens_than_a_step_takes() {
    for (border, most) in [(Border::Drop, 3), (Border::Carry, 5)] {
        let settings = Settings { border, chunk: 4, lookahead: 2, ..small() };
        let fits = |tokens: usize| {
            let queries = Array3::zeros((tokens, 2, settings.heads * settings.key_dim));
            let values = Array3::zeros((tokens, 2, settings.value_dim));
            let queued = Some(Queued { queries, values, gates: None, mask: None });
            let (tables, rules) = (tables(&settings, 1), Rules::paper());
            let state = State { settings: settings.clone(), rules, tables, queued, steps: 3 };
            match Memory::from_state(state) {
                Ok(memory) => memory.queued() == tokens && memory.steps() == 3,
                Err(Error::Shape { tensor: "queue", .. }) => false,
                Err(other) => panic!("{other}"),
            }
        };
        for tokens in 0..9 {
            assert_eq!(fits(tokens), (1..=most).contains(&tokens), "{border:?}, {tokens} tokens");
        }
    }
}

// Nothing is queued without writes, so nothing can be: a flush would take a step.
#[test]
fn bat_4_a_state_without_writes_has_no_queue() {
    let settings = Settings { chunk: 4, lookahead: 0, ..small() };
    let mut memory = Memory::new(settings.clone(), Rules::paper(), tables(&settings, 1)).unwrap();
    memory.feed(&text(&settings, 1, 2, 2).tokens()).unwrap();
    let mut state = memory.into_state();
    state.settings.writes = false;
    let refused = Memory::from_state(state.clone()).unwrap_err();
    assert!(matches!(refused, Error::Setting { name: "writes", .. }), "{refused}");
    state.queued = None;
    assert_eq!(Memory::from_state(state).unwrap().flush().unwrap(), None);
}

// A memory that stopped in a reading, and one that stopped in a step, with a full queue: their states are those after reset_queue.
#[test]
fn bat_5_the_state_of_a_memory_that_stopped_has_no_queue() {
    let settings = grid(2, 2, 0);
    for overflow in [(1, 1e200), (0, 1e300)] {
        let mut memory = grid_memory(&settings, Rules::paper());
        memory.feed(&hits(&settings, &[&[(0, 1.0), (1, 2.0), (0, 3.0)]]).tokens()).unwrap();
        let mut last = hits(&settings, &[&[overflow]]);
        if overflow.0 == 0 {
            last.queries.fill(1e300);
        }
        assert!(matches!(memory.feed(&last.tokens()), Err(Error::Diverged { chunk: 1, .. })));
        let mut reset = memory.clone();
        reset.reset_queue();
        let state = memory.into_state();
        assert_eq!(state, reset.into_state());
        assert_eq!((state.queued.is_none(), state.steps), (true, 1));
        assert!(Memory::from_state(state).unwrap().feed(&hits(&settings, &[&[(0, 0.0)]]).tokens()).is_ok());
    }
}

// Tables that no machine can hold, with and without overflow of their number of elements.
#[test]
fn bat_3_tables_that_do_not_fit_are_refused() {
    for sub_keys in [1 << 24, 1 << 62] {
        let settings = Settings { sub_keys, value_dim: 1 << 20, ..small() };
        let refused = Tables::<f32>::random(&settings, &mut rng(1)).unwrap_err();
        assert!(matches!(refused, Error::Setting { name: "sub_keys", .. }), "{refused}");
    }
}

// Numbers that f64 has and f32 has not: each setting by itself.
#[test]
fn bat_1_settings_that_vanish_or_overflow_in_the_element_type_are_refused_by_name() {
    type Change = (&'static str, fn(&mut Settings, f64), bool);
    let changes: [Change; 7] = [
        ("learning_rate", |s, x| s.learning_rate = x, true),
        ("weight_decay", |s, x| s.weight_decay = x, true),
        ("addressing_weight", |s, x| s.addressing_weight = x, true),
        ("temperature", |s, x| s.temperature = x, false),
        ("rms_epsilon", |s, x| s.rms_epsilon = x, false),
        ("gradient_clip", |s, x| s.gradient_clip = Some(x), false),
        ("epsilon", |s, x| s.score = Score::InverseDistance { epsilon: x }, false),
    ];
    for (field, change, may_be_zero) in changes {
        for given in [1e-50, 1e39, 0.0] {
            let mut settings = small();
            change(&mut settings, given);
            let narrow: Tables<f32> = common::narrowed(&tables(&small(), 1));
            let refused = Memory::new(settings.clone(), Rules::paper(), narrow).map(|_| ());
            if given == 0.0 && may_be_zero {
                refused.unwrap();
            } else {
                let refused = refused.unwrap_err();
                assert!(
                    matches!(&refused, Error::Setting { name, .. } if *name == field),
                    "{field} = {given}: {refused}"
                );
            }
            if given != 0.0 {
                Memory::new(settings, Rules::paper(), tables(&small(), 1)).unwrap();
            }
        }
    }
}
