//! Properties of the value step, and both gradients of the objective against dual numbers (by the oracle of the fuzz target
//! `gradient_updates`) and central differences.

use std::collections::BTreeMap;

use fwpkm::oracle::step_holds;
use fwpkm_reference::rules::{PairFactor, ReadFactor, SubKeyLoss};
use fwpkm_reference::settings::{Activation, Border, WeightsOver};
use fwpkm_reference::{Memory, Rules, Settings};
use ndarray::{Array1, Array2};
use proptest::prelude::*;

use crate::common::cases::{Case, cases, stream_case};
use crate::common::objectives::{by_differences, memorization};
use crate::common::{Stepped, Text, scale, small, stepped, tables, text};

/// The case as one chunk under border drop: 1 to 6 tokens.
fn one_chunk(case: Case) -> Case {
    let settings = Settings { border: Border::Drop, chunk: 8, ..case.settings };
    Case { settings, tokens: 1 + case.tokens % 6, ..case }
}

fn step_of(case: &Case) -> Stepped {
    stepped(&case.settings, &case.rules, &tables(&case.settings, case.seed), &case.text())
}

/// Gradient of every slot times its read count over F, so the gradient of the objective itself; 0 where untouched.
fn summed_gradient(case: &Case, found: &Stepped, f: f64) -> Array2<f64> {
    let mut gradient = Array2::zeros((case.settings.slots(), case.settings.value_dim));
    let memorized = &found.step.memorized;
    for ((&slot, &count), row) in
        memorized.slots.iter().zip(&memorized.read_counts).zip(memorized.value_gradient.rows())
    {
        gradient.row_mut(slot).assign(&(&row * (count as f64 / f)));
    }
    gradient
}

/// F of MEM-4 from its definition.
fn factor(case: &Case, text: &Text<f64>) -> f64 {
    let pairs = case.tokens.saturating_sub(case.settings.lookahead);
    if case.rules.read_factor == ReadFactor::One || pairs == 0 {
        return 1.0;
    }
    let unmasked = text.mask.as_ref().map(|mask| mask.indexed_iter().filter(|&((_, t), &m)| m && t < pairs).count());
    let samples = unmasked.unwrap_or(case.sequences * case.tokens) as f64;
    (case.settings.top_k * case.settings.heads) as f64 * samples / (case.sequences * pairs) as f64
}

/// Whether relu is smooth around every score.
fn away_from_the_kink(found: &Stepped) -> bool {
    found.reading.selected.pair_scores.iter().all(|x| x.abs() > 1e-3)
}

// H = 3, k = 3: nine slots share one softmax, and no other number of them would do.
#[test]
fn mem_6_three_heads_share_a_softmax() {
    let shapes = Settings { heads: 3, sub_keys: 4, top_k: 3, memory_gradient_to_sub_keys: true, ..small() };
    for weights_over in [WeightsOver::AllHeads, WeightsOver::EachHead] {
        let settings = Settings { weights_over, ..shapes.clone() };
        let rules = Rules::paper();
        let case = Case { settings, rules, sequences: 1, tokens: 4, gates: true, mask: false, seed: 1 };
        assert!(step_holds::<f64>(&one_chunk(case).scene()).within > 0);
    }
}

proptest! {
    #![proptest_config(cases(128))]

    // ½ Σ f |read - target|² is d_v/2 times the sum of the reported losses.
    #[test]
    fn prop_mem_2_losses_add_up_to_the_objective(case in stream_case().prop_map(one_chunk)) {
        let (found, tables, text) = (step_of(&case), tables(&case.settings, case.seed), case.text());
        let slots = &found.reading.selected.slots;
        let objective = memorization(&case.settings, &text, slots, &tables.sub_keys, &tables.slot_values);
        let reported = found.report.pair_losses.sum() * case.settings.value_dim as f64 / 2.0;
        prop_assert!((objective - reported).abs() <= 1e-11 * objective.max(1.0), "{objective} {reported}");
        let pairs = case.tokens.saturating_sub(case.settings.lookahead);
        prop_assert_eq!(found.report.pair_losses.dim(), (pairs, case.sequences));
    }

    #[test]
    fn prop_mem_3_counts_every_entry_of_the_reading(case in stream_case().prop_map(one_chunk)) {
        let found = step_of(&case);
        let mut counts = BTreeMap::new();
        for &slot in &found.reading.selected.slots {
            *counts.entry(slot).or_insert(0) += 1;
        }
        let memorized = found.step.memorized;
        prop_assert_eq!(memorized.slots, counts.keys().copied().collect::<Vec<usize>>());
        prop_assert_eq!(memorized.read_counts, counts.values().copied().collect::<Vec<usize>>());
    }

    // The objective is quadratic in the slot values, so central differences are exact for any h, up to rounding.
    #[test]
    fn prop_mem_4_value_gradient_is_the_objective_s_over_the_read_count(case in stream_case().prop_map(one_chunk)) {
        let (found, tables, text) = (step_of(&case), tables(&case.settings, case.seed), case.text());
        let f = factor(&case, &text);
        prop_assume!(f > 0.0);
        let slots = &found.reading.selected.slots;
        let expected = by_differences(&tables.slot_values, 0.5, |slot_values| {
            memorization(&case.settings, &text, slots, &tables.sub_keys, slot_values)
        });
        let difference = summed_gradient(&case, &found, f) - &expected;
        let scale = scale(&expected);
        prop_assert!(difference.iter().all(|x| x.abs() < 1e-10 * scale), "{difference}");
    }

    // λ = 0: slots that no token reads keep their bits, and so does everything at η = 0.
    #[test]
    fn prop_mem_5_untouched_slots_keep_their_bits(case in stream_case().prop_map(one_chunk), rest in any::<bool>()) {
        let learning_rate = if rest { 0.0 } else { case.settings.learning_rate };
        let settings = Settings { weight_decay: 0.0, learning_rate, ..case.settings.clone() };
        let case = Case { settings, ..case };
        let (found, before) = (step_of(&case), tables(&case.settings, case.seed));
        for slot in 0..case.settings.slots() {
            if rest || !found.reading.selected.slots.iter().any(|&read| read == slot) {
                let row = |table: &Array2<f64>| table.row(slot).iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                prop_assert_eq!(row(&found.tables.slot_values), row(&before.slot_values));
            }
        }
    }

    // With decay every slot moves, the untouched ones by the factor 1 - ηλ.
    #[test]
    fn prop_mem_5_with_decay_every_slot_moves(case in stream_case().prop_map(one_chunk)) {
        let settings = Settings { weight_decay: 0.25, learning_rate: 0.5, ..case.settings.clone() };
        let case = Case { settings, ..case };
        let (found, before) = (step_of(&case), tables(&case.settings, case.seed));
        for ((slot, d), &value) in before.slot_values.indexed_iter() {
            let after = found.tables.slot_values[[slot, d]];
            if !found.reading.selected.slots.iter().any(|&read| read == slot) {
                prop_assert!(after != value);
                prop_assert!((after - 0.875 * value).abs() <= 2.0 * f64::EPSILON * value.abs());
            }
        }
    }

    // From the gradient of the trace to the table, with the bound of NUM-5 for both sides.
    #[test]
    fn prop_mem_5_the_step_is_the_clipped_gradient_and_the_decay(case in stream_case().prop_map(one_chunk)) {
        let (found, before) = (step_of(&case), tables(&case.settings, case.seed));
        let limit = case.settings.gradient_clip.unwrap_or(f64::INFINITY);
        let memorized = &found.step.memorized;
        for (&slot, gradient) in memorized.slots.iter().zip(memorized.value_gradient.rows()) {
            for (d, &g) in gradient.indexed_iter() {
                let value = before.slot_values[[slot, d]];
                let direction = g.clamp(-limit, limit) + case.settings.weight_decay * value;
                let expected = value - case.settings.learning_rate * direction;
                let bound = 12.0 * f64::EPSILON * (value.abs() + case.settings.learning_rate * direction.abs());
                prop_assert!((found.tables.slot_values[[slot, d]] - expected).abs() <= bound);
            }
        }
    }

    // L = 0, C = 1, H = 1, k = 1, gate 1, η = 1: read again, a token gives its value. k = 1 also leaves the sub-keys alone.
    #[test]
    fn prop_mem_5_the_reread_is_the_target(seed in any::<u64>(), sub_keys in 1..=5usize, value_dim in 1..=4usize) {
        let settings = Settings { sub_keys, value_dim, top_k: 1, chunk: 1, lookahead: 0, ..small() };
        let before = tables(&settings, seed);
        let mut memory = Memory::new(settings.clone(), Rules::paper(), before.clone()).unwrap();
        let token = text(&settings, 1, 1, seed ^ 1);
        let first = memory.feed(&token.tokens()).unwrap().reads;
        let again = memory.feed(&token.tokens()).unwrap().reads;
        for ((&read, &target), &before) in again.iter().zip(&token.values).zip(&first) {
            // Two roundings: of V - target, and of V minus it.
            prop_assert!((read - target).abs() <= f64::EPSILON * (before.abs() + target.abs()));
        }
        prop_assert_eq!(&memory.tables().sub_keys, &before.sub_keys);
    }

    // Both gradients against dual numbers, in either precision, within their own rounding errors.
    #[test]
    fn prop_mem_4_mem_6_are_the_derivatives_of_the_objective(case in stream_case().prop_map(one_chunk)) {
        for memory_gradient_to_sub_keys in [false, true] {
            let settings = Settings { memory_gradient_to_sub_keys, ..case.settings.clone() };
            let scene = Case { settings, ..case.clone() }.scene();
            step_holds::<f32>(&scene);
            step_holds::<f64>(&scene);
        }
    }

    #[test]
    fn prop_mem_6_is_the_slope_of_the_objective(case in stream_case().prop_map(one_chunk)) {
        let settings = Settings { memory_gradient_to_sub_keys: true, addressing_weight: 0.0, ..case.settings.clone() };
        let case = Case { settings, ..case };
        let (found, tables, text) = (step_of(&case), tables(&case.settings, case.seed), case.text());
        prop_assume!(case.settings.activation != Activation::Relu || away_from_the_kink(&found));
        let slots = &found.reading.selected.slots;
        let pairs = case.tokens.saturating_sub(case.settings.lookahead);
        // The release takes the mean over pair positions, masked ones too, and features.
        let divisor = match case.rules.sub_key_loss {
            SubKeyLoss::Sum => 1.0,
            SubKeyLoss::Mean => (case.sequences * pairs * case.settings.value_dim).max(1) as f64,
        };
        let found = &found.step.addressed.sub_key_gradient * divisor;
        // Differences: h² times third derivatives, which at ε = 1e-3 are up to ε^-1½ times the gradient, and rounding over h.
        let differences = by_differences(&tables.sub_keys, 1e-6, |sub_keys| {
            memorization(&case.settings, &text, slots, sub_keys, &tables.slot_values)
        });
        let scale = scale(&differences);
        prop_assert!((&found - &differences).iter().all(|x| x.abs() < 1e-5 * scale), "{found} {differences}");
    }

    // Neither F nor N_i enters: other factors of the value step, the same sub-key gradient.
    #[test]
    fn prop_mem_6_has_no_factor_of_the_value_step(case in stream_case().prop_map(one_chunk)) {
        let settings = Settings { memory_gradient_to_sub_keys: true, ..case.settings.clone() };
        let case = Case { settings, ..case };
        let gradient = |read_factor, pair_factor| {
            let rules = Rules { read_factor, pair_factor, ..case.rules.clone() };
            let gradient = step_of(&Case { rules, ..case.clone() }).step.addressed.sub_key_gradient;
            gradient.iter().map(|x| x.to_bits()).collect::<Array1<_>>()
        };
        prop_assert_eq!(
            gradient(ReadFactor::One, PairFactor::One),
            gradient(ReadFactor::SlotsPerToken, PairFactor::SamplesPerPair)
        );
    }
}
