//! Properties of a memory: the order of its sequences, its state, and static product-key memory.

use fwpkm_reference::rules::StreamCount;
use fwpkm_reference::settings::{Activation, Score};
use fwpkm_reference::{Memory, Rules, Settings, Trace};
use ndarray::{Array2, Axis};
use proptest::prelude::*;

use crate::common::cases::{Case, cases, permutation, reading_settings, stream_case};
use crate::common::outcome::run;
use crate::common::{ROUNDING, Text, margin, reading, scale, table_bits, tables, text};

proptest! {
    #![proptest_config(cases(96))]

    // Sequences are a set. ε = 0.1, a step size of at most ¼ and few chunks keep roundings from being amplified.
    #[test]
    fn prop_bat_1_permuting_sequences_permutes_the_run(
        (case, order) in stream_case().prop_flat_map(|case| {
            let sequences = case.sequences;
            (Just(case), permutation(sequences))
        }),
    ) {
        let score = match case.settings.score {
            Score::DotProduct => Score::DotProduct,
            Score::InverseDistance { .. } => Score::InverseDistance { epsilon: 0.1 },
        };
        let settings = Settings {
            score,
            chunk: case.settings.chunk.max(5),
            learning_rate: case.settings.learning_rate.min(0.25),
            ..case.settings.clone()
        };
        let case = Case { settings, ..case };
        let text = case.text();
        let traced = |text: &Text<f64>| {
            let (mut memory, mut trace) = (case.memory(), Trace::default());
            let fed = memory.feed_traced(&text.tokens(), &mut trace).unwrap();
            memory.flush_traced(&mut trace).unwrap();
            let readings = trace.readings.iter().map(|reading| &reading.1).chain(trace.steps.iter().map(|step| &step.reading));
            (fed, memory.tables().clone(), readings.map(margin).fold(f64::INFINITY, f64::min))
        };
        let (fed, after, gap) = traced(&text);
        prop_assume!(gap > 1e-6);
        let tokens: Vec<usize> = (0..case.tokens).collect();
        let (other_fed, other_after, _) = traced(&text.reordered(&order, &tokens));
        prop_assert_eq!(fed.slots.select(Axis(0), &order), other_fed.slots);
        let near = |x: &[f64], y: &[f64], scale: f64| x.iter().zip(y).all(|(x, y)| (x - y).abs() < 1e-8 * scale);
        let reads = fed.reads.select(Axis(0), &order);
        prop_assert!(near(reads.as_slice().unwrap(), other_fed.reads.as_slice().unwrap(), scale(&reads)));
        for (x, y) in [(after.slot_values.into_dyn(), other_after.slot_values.into_dyn()),
                       (after.sub_keys.into_dyn(), other_after.sub_keys.into_dyn())] {
            prop_assert!(near(x.as_slice().unwrap(), y.as_slice().unwrap(), scale(&x)));
        }
    }

    // Taken apart after any token and put together again, a memory goes on with the same bits, under any rules.
    #[test]
    fn prop_bat_5_a_memory_goes_on_from_its_state(case in stream_case(), at in 0..=15usize, call in any::<bool>()) {
        let stream_count = if call { StreamCount::Call } else { StreamCount::Chunk };
        let case = Case { rules: Rules { stream_count, ..case.rules.clone() }, ..case };
        let (text, at) = (case.text(), at.min(case.tokens));
        let (first, rest) = (text.part(0, at), text.part(at, case.tokens));
        let mut whole = case.memory();
        run(&mut whole, &first, &[], &[]).unwrap();
        let mut resumed = Memory::from_state(whole.clone().into_state()).unwrap();
        let end = case.tokens - at;
        prop_assert_eq!(run(&mut resumed, &rest, &[], &[end]).unwrap(), run(&mut whole, &rest, &[], &[end]).unwrap());
        prop_assert_eq!(resumed.steps(), whole.steps());
        prop_assert_eq!(resumed.into_state(), whole.into_state());
    }

    #[test]
    fn prop_bat_4_without_writes_nothing_ever_changes(case in stream_case(), cut in 0..=15usize) {
        let case = Case { settings: Settings { writes: false, ..case.settings.clone() }, ..case };
        let mut memory = case.memory();
        let found = run(&mut memory, &case.text(), &[cut.min(case.tokens)], &[case.tokens]).unwrap();
        prop_assert_eq!(&found.tables, &table_bits(&tables(&case.settings, case.seed)));
        prop_assert_eq!((found.steps.len(), found.queued, memory.steps()), (0, 0, 0));
        // And so a second reading gives the same bits.
        prop_assert_eq!(run(&mut memory, &case.text(), &[], &[]).unwrap().reads, found.reads);
    }

    // One head of static PKM is attention over all n² slots, whose keys are the concatenated sub-keys, cut to the k best.
    #[test]
    fn prop_bat_4_one_head_is_attention_over_the_best_slots(settings in reading_settings(), seed in any::<u64>()) {
        let settings = Settings {
            heads: 1, temperature: 1.0, activation: Activation::Softmax, sub_keys: settings.sub_keys, top_k: settings.top_k,
            key_dim: settings.key_dim, value_dim: settings.value_dim, ..Settings::static_pkm()
        };
        let (tables, text, n) = (tables(&settings, seed), text(&settings, 1, 4, seed ^ 1), settings.sub_keys);
        prop_assume!(margin(&reading(&settings, &tables, &text)) > 1e-9);
        let mut memory = Memory::new(settings.clone(), Rules::paper(), tables.clone()).unwrap();
        let fed = memory.feed(&text.tokens()).unwrap();
        let half = settings.key_dim / 2;
        let keys = Array2::from_shape_fn((n * n, settings.key_dim), |(slot, d)| {
            if d < half { tables.sub_keys[[0, 0, slot / n, d]] } else { tables.sub_keys[[0, 1, slot % n, d - half]] }
        });
        for t in 0..4 {
            let logits: ndarray::Array1<f64> = keys.dot(&text.queries.slice(ndarray::s![0, t, ..]));
            let mut order: Vec<usize> = (0..n * n).collect();
            order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
            let best = &order[..settings.top_k];
            let total: f64 = best.iter().map(|&slot| logits[slot].exp()).sum();
            let expected = best.iter().fold(ndarray::Array1::<f64>::zeros(settings.value_dim), |sum, &slot| {
                sum + &tables.slot_values.row(slot) * (logits[slot].exp() / total)
            });
            prop_assert_eq!(fed.slots.slice(ndarray::s![0, t, 0, ..]).to_vec(), best);
            let read = fed.reads.slice(ndarray::s![0, t, ..]);
            prop_assert!((&read - &expected).iter().all(|x| x.abs() < 1e1 * ROUNDING), "{read} {expected}");
        }
    }

    #[test]
    fn prop_bat_4_weights_of_each_head_sum_to_one(settings in reading_settings(), seed in any::<u64>()) {
        let settings = Settings {
            heads: 3, temperature: settings.temperature, sub_keys: settings.sub_keys, top_k: settings.top_k,
            key_dim: settings.key_dim, value_dim: settings.value_dim, ..Settings::static_pkm()
        };
        let mut memory = Memory::new(settings.clone(), Rules::paper(), tables(&settings, seed)).unwrap();
        let weights = memory.feed(&text(&settings, 2, 3, seed ^ 1).tokens()).unwrap().weights;
        prop_assert!(weights.sum_axis(Axis(3)).iter().all(|sum| (sum - 1.0).abs() < ROUNDING));
    }
}
