//! Stage `address`: usage of the sub-keys, its entropy, and the step of the sub-keys.

mod common;
#[path = "address/properties.rs"]
mod properties;

use approx::assert_abs_diff_eq;
use common::{ROUNDING, Stepped, grid, refused, small, stepped, tables, text};
use fwpkm_reference::address::entropy;
use fwpkm_reference::rules::Kept;
use fwpkm_reference::settings::{Activation, Score};
use fwpkm_reference::{Error, Memory, Rules, Settings, Tables};
use ndarray::{Array2, Array4, Axis, arr1, arr2, array};

/// One head of dot products with `d_k` = 2: the query (1, 1) scores each sub-key as its own number. L = 0.
fn dot(top_k: usize) -> Settings {
    Settings { score: Score::DotProduct, top_k, ..grid(3, 1, 0) }
}

/// A step over tokens with these queries, values 0, slots 0.
fn step_over(settings: &Settings, rules: &Rules, sub_keys: Array4<f64>, queries: &[[f64; 2]]) -> Stepped {
    let tables = Tables { sub_keys, slot_values: Array2::zeros((settings.slots(), 1)) };
    let queries = arr2(queries).insert_axis(Axis(0));
    let values = queries.slice(ndarray::s![.., .., ..1]).mapv(|_| 0.0);
    stepped(settings, rules, &tables, &common::Text { queries, values, gates: None, mask: None })
}

// Scores ln 3, 0, -5 and k = 2: (3/4, 1/4, 0), one token, so p̄ = p. Neither τ nor the activation of the weights enters.
#[test]
fn adr_1_is_a_softmax_of_the_k_best_without_temperature() {
    let sub_keys = array![[[[3f64.ln()], [0.0], [-5.0]], [[0.0], [-1.0], [7f64.ln()]]]];
    for activation in [Activation::Softmax, Activation::Silu, Activation::Relu] {
        let settings = Settings { temperature: 4.0, activation, ..dot(2) };
        let found = step_over(&settings, &Rules::paper(), sub_keys.clone(), &[[1.0, 1.0]]);
        let expected = arr2(&[[0.75, 0.25, 0.0], [0.125, 0.0, 0.875]]);
        assert_abs_diff_eq!(found.step.addressed.marginal, expected, epsilon = ROUNDING);
    }
}

// k = 2. Half 0: the second and third tie, so ties keeps three. Half 1: the first two tie with each other only.
#[test]
fn adr_1_keeps_k_or_all_that_tie_with_the_kth() {
    let sub_keys = array![[[[2f64.ln()], [0.0], [0.0]], [[0.0], [-1.0], [0.0]]]];
    let marginal = |kept| {
        let rules = Rules { kept, ..Rules::paper() };
        step_over(&dot(2), &rules, sub_keys.clone(), &[[1.0, 1.0]]).step.addressed.marginal
    };
    let expected = arr2(&[[2.0 / 3.0, 1.0 / 3.0, 0.0], [0.5, 0.0, 0.5]]);
    assert_abs_diff_eq!(marginal(Kept::TopK), expected, epsilon = ROUNDING);
    let expected = arr2(&[[0.5, 0.25, 0.25], [0.5, 0.0, 0.5]]);
    assert_abs_diff_eq!(marginal(Kept::Ties), expected, epsilon = ROUNDING);
}

// Rows of half 0 with k = 1 use sub-keys 0, 0 | 0, 1 (heads), 2, 2 | 2, 2: means over B·|Q|·H = 8 rows; one token is masked,
// and with L = 1 the last of each sequence has no target.
#[test]
fn adr_2_is_one_mean_over_sequences_tokens_and_heads() {
    let settings = Settings { heads: 2, ..grid(3, 2, 1) };
    let tables = common::grid_tables(&settings);
    let queries = array![[[0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 1.0, 1.0]], [[2.0, 1.0, 2.0, 1.0], [2.0, 1.0, 2.0, 2.0]]];
    let values = queries.slice(ndarray::s![.., .., ..1]).to_owned();
    let mask = Some(arr2(&[[false, true], [true, true]]));
    let found = stepped(&settings, &Rules::paper(), &tables, &common::Text { queries, values, gates: None, mask });
    let expected = arr2(&[[3.0, 1.0, 4.0], [2.0, 5.0, 1.0]]) / 8.0;
    assert_eq!(found.step.addressed.marginal, expected);
}

// Used evenly: ln n. Used alone: 0. Not used: 0·ln 0 is 0.
#[test]
fn adr_3_entropy_by_hand() {
    assert_abs_diff_eq!(entropy(arr1(&[0.25; 4]).view(), 0.0), 4f64.ln(), epsilon = ROUNDING);
    assert_eq!(entropy(arr1(&[0.0, 1.0, 0.0]).view(), 0.0), 0.0);
    let expected = -(0.75 * 0.75f64.ln() + 0.25 * 0.25f64.ln());
    assert_abs_diff_eq!(entropy(arr1(&[0.75, 0.0, 0.25]).view(), 0.0), expected, epsilon = ROUNDING);
    // n = 1: a sub-key that is always used.
    assert_eq!(entropy(arr1(&[1.0]).view(), 0.0), 0.0);
}

// e stands inside the logarithm, also of a sub-key that is used alone.
#[test]
fn adr_3_log_epsilon_is_added_inside_the_logarithm() {
    assert_abs_diff_eq!(entropy(arr1(&[0.5, 0.5, 0.0]).view(), 0.25), -(0.75f64.ln()), epsilon = ROUNDING);
    assert_abs_diff_eq!(entropy(arr1(&[1.0, 0.0]).view(), 1e-8), -1e-8, epsilon = 1e-15);
}

// Half 0 uses (3/4, 1/4), half 1 is used evenly; the loss is -α times the sum, and both are reported at α = 0 as well.
#[test]
fn adr_3_loss_is_minus_alpha_times_both_entropies() {
    let sub_keys = || array![[[[3f64.ln()], [0.0], [-5.0]], [[1.0], [1.0], [-5.0]]]];
    let first = -(0.75 * 0.75f64.ln() + 0.25 * 0.25f64.ln());
    for addressing_weight in [0.0, 1.0, 2.5] {
        let settings = Settings { addressing_weight, ..dot(2) };
        let found = step_over(&settings, &Rules::paper(), sub_keys(), &[[1.0, 1.0]]);
        assert_abs_diff_eq!(found.report.entropy[..], [first, 2f64.ln()][..], epsilon = ROUNDING);
        let loss = -addressing_weight * (first + 2f64.ln());
        assert_abs_diff_eq!(found.report.addressing_loss, loss, epsilon = 2.5 * ROUNDING);
    }
}

#[test]
fn adr_3_weight_and_log_epsilon_must_not_be_negative() {
    for wrong in [-1e-8, f64::NAN, f64::INFINITY] {
        assert_eq!(refused(Settings { addressing_weight: wrong, ..small() }), "addressing_weight");
        let rules = Rules { log_epsilon: wrong, ..Rules::paper() };
        let error = Memory::new(small(), rules, tables(&small(), 0)).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Setting { name: "log_epsilon", .. }), "{error}");
    }
}

// One row, p = (3/4, 1/4) = p̄: c_0 - c_1 = ln 3, gradient ±p_0·p_1·ln 3. q = 1, so the sub-keys have it too; half 1 is even.
#[test]
fn adr_4_by_hand() {
    let sub_keys = array![[[[3f64.ln()], [0.0], [-5.0]], [[1.0], [1.0], [-5.0]]]];
    let settings = Settings { addressing_weight: 2.0, ..dot(2) };
    let found = step_over(&settings, &Rules::paper(), sub_keys, &[[1.0, 1.0]]);
    let g = 2.0 * 0.75 * 0.25 * 3f64.ln();
    let expected = array![[[[g], [-g], [0.0]], [[0.0], [0.0], [0.0]]]];
    assert_abs_diff_eq!(found.step.addressed.sub_key_gradient, expected, epsilon = ROUNDING);
}

// The same with e = 1/4 inside the logarithm: c_j = ln(p_j + e) + p_j/(p_j + e), so c_0 - c_1 = ln 2 + 3/4 - 1/2.
#[test]
fn adr_4_differentiates_log_epsilon_as_it_stands() {
    let sub_keys = array![[[[3f64.ln()], [0.0], [-5.0]], [[1.0], [1.0], [-5.0]]]];
    let rules = Rules { log_epsilon: 0.25, ..Rules::paper() };
    let found = step_over(&dot(2), &rules, sub_keys, &[[1.0, 1.0]]);
    let g = 0.75 * 0.25 * (2f64.ln() + 0.25);
    assert_abs_diff_eq!(found.step.addressed.sub_key_gradient[[0, 0, 0, 0]], g, epsilon = ROUNDING);
}

// Two rows that use sub-keys 0 and 1 alone (k = 1, or scores so far apart that p is 0 elsewhere): nothing to gain.
#[test]
fn adr_4_sub_keys_used_alone_have_no_gradient() {
    let sub_keys = array![[[[1.0], [0.0], [-1.0]], [[900.0], [0.0], [-1.0]]]];
    for top_k in [1, 3] {
        let found = step_over(&dot(top_k), &Rules::paper(), sub_keys.clone(), &[[0.0, 1.0]]);
        let gradient = found.step.addressed.sub_key_gradient;
        assert!(gradient.index_axis(Axis(1), 1).iter().all(|&x| x == 0.0), "{gradient}");
    }
}

// ε = 1: X = 1 and 2, p = (2/3, 1/3), half-score gradient ±(2/9)·ln 2. The sub-key that is hit has D = 0, the other
// D = 2·(0 - 1)/2 = -1.
#[test]
fn adr_5_inverse_distance_by_hand() {
    let settings = Settings { score: Score::InverseDistance { epsilon: 1.0 }, top_k: 2, ..grid(3, 1, 0) };
    let sub_keys = array![[[[0.0], [1.0], [9.0]], [[0.0], [-1.0], [9.0]]]];
    let found = step_over(&settings, &Rules::paper(), sub_keys, &[[0.0, 0.0]]);
    let g = 2.0 / 9.0 * 2f64.ln();
    let expected = array![[[[0.0], [g], [0.0]], [[0.0], [-g], [0.0]]]];
    assert_abs_diff_eq!(found.step.addressed.sub_key_gradient, expected, epsilon = ROUNDING);
}

// D = q: the same half-score gradient as in ADR-4, times q = 2 and -3.
#[test]
fn adr_5_dot_product_by_hand() {
    let half = 3f64.ln();
    let sub_keys = array![[[[half / 2.0], [0.0], [-5.0]], [[-half / 3.0], [0.0], [5.0]]]];
    let found = step_over(&dot(2), &Rules::paper(), sub_keys, &[[2.0, -3.0]]);
    let g = 0.1875 * half;
    let expected = array![[[[2.0 * g], [-2.0 * g], [0.0]], [[-3.0 * g], [3.0 * g], [0.0]]]];
    assert_abs_diff_eq!(found.step.addressed.sub_key_gradient, expected, epsilon = ROUNDING);
}

// The run of ADR-5 with η = ½, λ = 0.1, clip 0.1: 1 - ½(0.1 + 0.1·1) and -1 - ½(-0.1 - 0.1·1); the far ones only decay.
#[test]
fn adr_6_steps_clips_and_decays() {
    let settings = Settings {
        score: Score::InverseDistance { epsilon: 1.0 },
        top_k: 2,
        learning_rate: 0.5,
        weight_decay: 0.1,
        gradient_clip: Some(0.1),
        ..grid(3, 1, 0)
    };
    let sub_keys = array![[[[0.0], [1.0], [9.0]], [[0.0], [-1.0], [9.0]]]];
    let found = step_over(&settings, &Rules::paper(), sub_keys, &[[0.0, 0.0]]);
    let expected = array![[[[0.0], [0.9], [8.55]], [[0.0], [-0.9], [8.55]]]];
    assert_abs_diff_eq!(found.tables.sub_keys, expected, epsilon = ROUNDING);
}

// relu, V_0 = 1, target 3, w = 1: the memorization part is -2 for sub-key 0 of half 0, the addressing part p_0·p_1·1 = 0.1966.
// The sum is clipped at 1: 1 + 1 = 2. Clipping each part would give 1.8034.
#[test]
fn adr_6_clips_the_sum_of_both_gradients() {
    let settings = Settings {
        activation: Activation::Relu,
        memory_gradient_to_sub_keys: true,
        gradient_clip: Some(1.0),
        sub_keys: 2,
        ..dot(2)
    };
    let tables = Tables {
        sub_keys: array![[[[1.0], [0.0]], [[0.0], [-9.0]]]],
        slot_values: arr2(&[[1.0], [0.0], [0.0], [0.0]]),
    };
    let text = common::Text { queries: array![[[1.0, 1.0]]], values: array![[[3.0]]], gates: None, mask: None };
    let found = stepped(&settings, &Rules::paper(), &tables, &text);
    let sigmoid = 1.0 / (1.0 + (-1f64).exp());
    let sum = found.step.addressed.sub_key_gradient[[0, 0, 0, 0]];
    assert_abs_diff_eq!(sum, sigmoid * (1.0 - sigmoid) - 2.0, epsilon = ROUNDING);
    assert_eq!(found.tables.sub_keys[[0, 0, 0, 0]], 2.0);
}

// α = 0: no addressing gradient; the bits stay, and with decay every sub-key decays.
#[test]
fn adr_6_without_addressing_only_decay_acts() {
    let before = tables(&small(), 5);
    for (weight_decay, factor) in [(0.0, 1.0), (0.5, 0.5)] {
        let settings = Settings { addressing_weight: 0.0, weight_decay, ..small() };
        let found = stepped(&settings, &Rules::paper(), &before, &text(&settings, 2, 4, 6));
        assert_eq!(common::bits(&found.tables.sub_keys), common::bits(&(&before.sub_keys * factor)));
    }
}

// k = 1: the one kept sub-key always has p = 1.
#[test]
fn adr_6_one_kept_sub_key_never_moves() {
    let settings = Settings { top_k: 1, ..small() };
    let before = tables(&settings, 5);
    let found = stepped(&settings, &Rules::paper(), &before, &text(&settings, 2, 4, 6));
    assert_eq!(common::bits(&found.tables.sub_keys), common::bits(&before.sub_keys));
}
