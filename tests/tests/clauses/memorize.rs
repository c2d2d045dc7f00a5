//! Stage `memorize`: targets, loss, and the step of the slot values.

mod properties;

use crate::common;
use crate::common::{
    Drawn as _, ROUNDING, grid, grid_memory, grid_tables, hits, refused, slots, small, stepped, tables, text,
};
use approx::assert_abs_diff_eq;
use fwpkm_reference::rules::{PairFactor, ReadFactor};
use fwpkm_reference::settings::{Activation, Score};
use fwpkm_reference::{Memory, Rules, Settings, Tables};
use ndarray::{Array2, arr2, array};

/// The slots after one chunk of these tokens.
fn after(settings: &Settings, rules: &Rules, text: &common::Text<f64>) -> Vec<f64> {
    stepped(settings, rules, &grid_tables(settings), text).tables.slot_values.into_raw_vec_and_offset().0
}

// Every slot is read once, so it becomes its target. L = 0: its own value; L = 1; L = T - 1: one pair; L = T: none.
#[test]
fn mem_1_the_target_stands_lookahead_tokens_later() {
    let text = |settings: &Settings| hits(settings, &[&[(0, 10.0), (1, 20.0), (2, 30.0), (3, 40.0)]]);
    for (lookahead, expected) in
        [(0, [10.0, 20.0, 30.0, 40.0]), (1, [20.0, 30.0, 40.0, 0.0]), (3, [40.0, 0.0, 0.0, 0.0]), (4, [0.0; 4])]
    {
        let settings = grid(2, 5, lookahead);
        assert_eq!(after(&settings, &Rules::paper(), &text(&settings)), expected, "L = {lookahead}");
    }
}

#[test]
fn mem_1_the_target_is_of_the_same_sequence() {
    let settings = grid(2, 2, 1);
    let text = hits(&settings, &[&[(0, 1.0), (1, 2.0)], &[(2, 3.0), (3, 4.0)]]);
    assert_eq!(after(&settings, &Rules::paper(), &text), [2.0, 0.0, 4.0, 0.0]);
}

// The second token is masked: its own pair goes, and it stays the target of the first.
#[test]
fn mem_1_the_mask_is_the_query_s() {
    let settings = grid(2, 3, 1);
    let mut text = hits(&settings, &[&[(0, 1.0), (1, 2.0), (2, 3.0)]]);
    text.mask = Some(arr2(&[[true, false, true]]));
    assert_eq!(after(&settings, &Rules::paper(), &text), [2.0, 0.0, 0.0, 0.0]);
}

#[test]
fn mem_1_the_gate_is_the_query_s() {
    let settings = grid(2, 3, 1);
    let mut text = hits(&settings, &[&[(0, 1.0), (1, 8.0), (2, 64.0)]]);
    text.gates = Some(arr2(&[[0.5, 0.25, 1.0]]));
    assert_eq!(after(&settings, &Rules::paper(), &text), [4.0, 16.0, 0.0, 0.0]);
}

// Two features, (0 - 1)² and (0 - 3)²: mean 5, times the gate. No ½. The masked pair keeps its place.
#[test]
fn mem_2_reports_gate_times_mean_square_without_a_half() {
    let settings = Settings { value_dim: 2, ..grid(2, 4, 1) };
    let mut text = hits(&settings, &[&[(0, 0.0); 4]]);
    text.values = array![[[9.0, 9.0], [1.0, 3.0], [2.0, 4.0], [5.0, 5.0]]];
    text.gates = Some(arr2(&[[0.5, 1.0, 0.25, 1.0]]));
    text.mask = Some(arr2(&[[true, false, true, true]]));
    let tables = Tables { slot_values: Array2::zeros((4, 2)), ..grid_tables(&settings) };
    let found = stepped(&settings, &Rules::paper(), &tables, &text);
    assert_eq!(found.report.pair_losses, arr2(&[[2.5], [0.0], [6.25]]));
}

#[test]
fn mem_2_reports_by_pair_and_sequence() {
    let settings = grid(2, 3, 1);
    let text = hits(&settings, &[&[(0, 0.0), (1, 1.0), (2, 2.0)], &[(0, 0.0), (1, 3.0), (2, 4.0)]]);
    let found = stepped(&settings, &Rules::paper(), &grid_tables(&settings), &text);
    assert_eq!(found.report.pair_losses, arr2(&[[1.0, 9.0], [4.0, 16.0]]));
}

// Two heads with the same sub-keys: each token reads its slot twice, with weight ½ each. Slot 0 has N = 4 and pairs 8 and 4;
// slot 3 belongs to the token without a target.
#[test]
fn mem_3_a_slot_read_by_two_heads_counts_twice() {
    let settings = Settings { heads: 2, ..grid(2, 3, 1) };
    let text = hits(&settings, &[&[(0, 0.0), (0, 8.0), (3, 4.0)]]);
    let found = stepped(&settings, &Rules::paper(), &grid_tables(&settings), &text);
    assert_eq!((found.step.memorized.slots, found.step.memorized.read_counts), (vec![0, 3], vec![4, 2]));
    assert_eq!(found.tables.slot_values[[0, 0]], 3.0);
}

// Slot 0 is read by a pair, by a masked query, by a query without a target and by the other sequence: N = 4, one pair.
#[test]
fn mem_3_masked_and_targetless_tokens_and_all_sequences_count() {
    let settings = grid(2, 3, 1);
    let mut text = hits(&settings, &[&[(0, 0.0), (0, 8.0), (0, 4.0)], &[(3, 0.0), (3, 0.0), (0, 0.0)]]);
    text.mask = Some(arr2(&[[true, false, true], [true, true, true]]));
    let found = stepped(&settings, &Rules::paper(), &grid_tables(&settings), &text);
    assert_eq!((found.step.memorized.slots, found.step.memorized.read_counts), (vec![0, 3], vec![4, 2]));
    assert_eq!(found.tables.slot_values[[0, 0]], 2.0);
    assert_eq!(found.report.slots_touched, 2);
}

// All tokens read slot 0; H = 2, k = 1, T = 3, L = 1; targets 8 and 4, N = 6: -G is 12/6 = 2 times F. Without a mask
// S/(B·pairs) = 3/2. Masking the second pair leaves 8/6, and S/(B·pairs) = 1/2.
#[test]
fn mem_4_factors_of_the_release() {
    let settings = Settings { heads: 2, ..grid(2, 3, 1) };
    let plain = hits(&settings, &[&[(0, 0.0), (0, 8.0), (0, 4.0)]]);
    let masked = common::Text { mask: Some(arr2(&[[true, false, true]])), ..plain.clone() };
    for (read_factor, f) in [(ReadFactor::One, 1.0), (ReadFactor::SlotsPerToken, 2.0)] {
        let rules = |pair_factor| Rules { read_factor, pair_factor, ..Rules::paper() };
        let slot = |pair_factor, text| after(&settings, &rules(pair_factor), text)[0];
        assert_abs_diff_eq!(slot(PairFactor::One, &plain), 2.0 * f, epsilon = ROUNDING);
        assert_abs_diff_eq!(slot(PairFactor::SamplesPerPair, &plain), 3.0 * f, epsilon = ROUNDING);
        assert_abs_diff_eq!(slot(PairFactor::One, &masked), 8.0 / 6.0 * f, epsilon = ROUNDING);
        assert_abs_diff_eq!(slot(PairFactor::SamplesPerPair, &masked), 4.0 / 6.0 * f, epsilon = ROUNDING);
    }
}

// A mask that masks nothing still changes S from tokens to pairs.
#[test]
fn mem_4_a_mask_of_ones_counts_pairs() {
    let settings = grid(2, 3, 1);
    let mut text = hits(&settings, &[&[(0, 0.0), (0, 8.0), (0, 4.0)]]);
    let rules = Rules { pair_factor: PairFactor::SamplesPerPair, ..Rules::paper() };
    assert_abs_diff_eq!(after(&settings, &rules, &text)[0], 6.0, epsilon = ROUNDING);
    text.mask = Some(arr2(&[[true; 3]]));
    assert_abs_diff_eq!(after(&settings, &rules, &text)[0], 4.0, epsilon = ROUNDING);
}

// G = 1 - 4 = -3, clipped to -½; η = ½, λ = 0.1. Untouched slots decay by 1 - ηλ = 0.95.
#[test]
fn mem_5_steps_clips_and_decays() {
    let settings = Settings { learning_rate: 0.5, weight_decay: 0.1, gradient_clip: Some(0.5), ..grid(2, 1, 0) };
    let slot_values = arr2(&[[1.0], [2.0], [3.0], [4.0]]);
    let tables = Tables { slot_values, ..grid_tables(&settings) };
    let found = stepped(&settings, &Rules::paper(), &tables, &hits(&settings, &[&[(0, 4.0)]]));
    assert_abs_diff_eq!(found.tables.slot_values, arr2(&[[1.2], [1.9], [2.85], [3.8]]), epsilon = ROUNDING);
    assert_eq!(found.step.memorized.value_gradient, arr2(&[[-3.0]]));
}

// G = (-3, ¼, 3): each element by itself, on both sides.
#[test]
fn mem_5_clips_each_element() {
    let settings = Settings { value_dim: 3, gradient_clip: Some(0.5), ..grid(1, 1, 0) };
    let tables = Tables { slot_values: arr2(&[[1.0, 2.0, 3.0]]), ..grid_tables(&settings) };
    let mut text = hits(&settings, &[&[(0, 0.0)]]);
    text.values = array![[[4.0, 1.75, 0.0]]];
    assert_eq!(stepped(&settings, &Rules::paper(), &tables, &text).tables.slot_values, arr2(&[[1.5, 1.75, 2.5]]));
}

// Three reads of slot 0, targets 8 and 4: the sum is -12, G = -4. Clipping the sum at 3 and then dividing would move by 1.
#[test]
fn mem_5_clips_after_dividing() {
    let settings = Settings { gradient_clip: Some(3.0), ..grid(2, 3, 1) };
    let text = hits(&settings, &[&[(0, 0.0), (0, 8.0), (0, 4.0)]]);
    assert_eq!(after(&settings, &Rules::paper(), &text)[0], 3.0);
}

#[test]
fn mem_5_settings_of_the_step_outside_their_range_are_refused() {
    for wrong in [-1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(refused(Settings { learning_rate: wrong, ..small() }), "learning_rate");
        assert_eq!(refused(Settings { weight_decay: wrong, ..small() }), "weight_decay");
        assert_eq!(refused(Settings { gradient_clip: Some(wrong), ..small() }), "gradient_clip");
    }
    assert_eq!(refused(Settings { gradient_clip: Some(0.0), ..small() }), "gradient_clip");
    assert_eq!(refused(Settings { learning_rate: 0.0, weight_decay: 0.0, ..small() }), "");
}

/// One head of dot products with `d_k` = 2, so that the query (1, 2) scores sub-keys x and y as x and 2y.
fn dot(activation: Activation) -> Settings {
    Settings {
        score: Score::DotProduct,
        activation,
        memory_gradient_to_sub_keys: true,
        addressing_weight: 0.0,
        lookahead: 0,
        ..grid(2, 1, 0)
    }
}

/// The sub-key gradient of one token (1, 2) with this value; the other slots are 0.
fn sub_key_gradient(settings: &Settings, rules: &Rules, first: f64, second: f64, value: f64) -> Vec<f64> {
    let sub_keys = array![[[[first], [-50.0]], [[second], [-50.0]]]];
    let tables = Tables { sub_keys, slot_values: arr2(&[[2.0], [0.0], [0.0], [0.0]]) };
    let text = common::Text { queries: array![[[1.0, 2.0]]], values: array![[[value]]], gates: None, mask: None };
    stepped(settings, rules, &tables, &text).step.addressed.sub_key_gradient.into_raw_vec_and_offset().0
}

// relu, x = 1 + 2 = 3: the read is 6, u = (6 - 5)·2 = 2, times q = 1 and 2. τ = 2: x = 1.5, the read is 3, u = -4, over τ.
#[test]
fn mem_6_relu_by_hand() {
    let settings = dot(Activation::Relu);
    assert_eq!(sub_key_gradient(&settings, &Rules::paper(), 1.0, 1.0, 5.0), [2.0, 0.0, 4.0, 0.0]);
    let settings = Settings { temperature: 2.0, ..settings };
    assert_eq!(sub_key_gradient(&settings, &Rules::paper(), 1.0, 1.0, 5.0), [-2.0, 0.0, -4.0, 0.0]);
}

// x = 2 - 2 = 0: the derivative of relu there is 0. x = -2: too.
#[test]
fn mem_6_relu_at_zero_has_no_slope() {
    let settings = dot(Activation::Relu);
    assert_eq!(sub_key_gradient(&settings, &Rules::paper(), 2.0, -1.0, 5.0), [0.0; 4]);
    assert_eq!(sub_key_gradient(&settings, &Rules::paper(), 0.0, -1.0, 5.0), [0.0; 4]);
    assert_ne!(sub_key_gradient(&settings, &Rules::paper(), 2.5, -1.0, 5.0), [0.0; 4]);
}

// silu at 0: σ = ½, slope ½, the read is 0, u = (0 - 5)·2 = -10.
#[test]
fn mem_6_silu_by_hand() {
    let found = sub_key_gradient(&dot(Activation::Silu), &Rules::paper(), 2.0, -1.0, 5.0);
    assert_eq!(found, [-5.0, 0.0, -10.0, 0.0]);
}

// k = 1 and softmax: the weight is 1 whatever the score.
#[test]
fn mem_6_a_weight_that_is_always_one_has_no_gradient() {
    assert_eq!(sub_key_gradient(&dot(Activation::Softmax), &Rules::paper(), 1.0, 1.0, 5.0), [0.0; 4]);
}

#[test]
fn mem_6_is_off_by_default() {
    let settings = Settings { memory_gradient_to_sub_keys: false, ..dot(Activation::Relu) };
    assert_eq!(sub_key_gradient(&settings, &Rules::paper(), 1.0, 1.0, 5.0), [0.0; 4]);
    assert!(!Settings::paper().memory_gradient_to_sub_keys);
}

// Feeding one chunk in drop and flushing in `stepped` are the same: the tests above are about feed as well.
#[test]
fn mem_5_feed_takes_the_step_that_flush_takes() {
    let settings = grid(2, 2, 0);
    let mut memory = grid_memory(&settings, Rules::paper());
    memory.feed(&hits(&settings, &[&[(0, 2.0), (3, 5.0)]]).tokens()).unwrap();
    assert_eq!(common::slots(&memory), [2.0, 0.0, 0.0, 5.0]);
}

/// `gate_weighted_loss` is about a layer's gates; those that a bare memory is fed count whatever it says.
#[test]
fn mem_2_gates_of_a_bare_memory_always_count() {
    let loss = |gated: bool, gate_weighted_loss: bool| {
        let settings = Settings { gate_weighted_loss, ..small() };
        let text = text(&settings, 2, settings.chunk, 3);
        let text = if gated { text.gated(1) } else { text };
        let mut memory = Memory::new(settings.clone(), Rules::paper(), tables(&settings, 1)).unwrap();
        memory.read_text(&text.tokens()).unwrap().steps[0].pair_losses.clone()
    };
    assert_eq!(loss(true, false), loss(true, true));
    assert_ne!(loss(true, false), loss(false, false));
}

// The square of 1e200 is infinite, and so is the residual of 1.7e308 and -1.7e308; neither counts where the pair does not, by mask
// or by gate, and also where the sub-keys get a gradient.
#[test]
fn mem_2_a_pair_of_weight_zero_cannot_overflow() {
    for (masked, target) in [(true, 1e200), (false, 1e200), (true, -1.7e308), (false, -1.7e308)] {
        let settings = Settings { memory_gradient_to_sub_keys: true, ..grid(2, 2, 0) };
        let mut start = grid_tables(&settings);
        start.slot_values[[3, 0]] = 1.7e308;
        let mut text = hits(&settings, &[&[(0, 5.0), (3, target)]]);
        text.mask = masked.then(|| ndarray::array![[true, false]]);
        text.gates = (!masked).then(|| ndarray::array![[1.0, 0.0]]);
        let mut memory = Memory::new(settings, Rules::paper(), start).unwrap();
        let fed = memory.feed(&text.tokens()).unwrap();
        assert_eq!(fed.steps[0].pair_losses, ndarray::array![[25.0], [0.0]]);
        assert_eq!(slots(&memory), [5.0, 0.0, 0.0, 1.7e308]);
    }
}
