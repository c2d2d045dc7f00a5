//! Stage `address`: usage of the sub-keys, its entropy, and the step of the sub-keys.

mod common;

use approx::assert_abs_diff_eq;
use common::cases::{Case, cases, stream_case};
use common::objectives::{self, addressing, by_differences};
use common::{ROUNDING, Stepped, grid, margin, refused, scale, small, stepped, tables, text};
use fwpkm::oracle::step_holds;
use fwpkm_reference::address::entropy;
use fwpkm_reference::rules::Kept;
use fwpkm_reference::settings::{Activation, Border, Score};
use fwpkm_reference::{Error, Memory, Rules, Settings, Tables};
use ndarray::{Array2, Array4, Axis, arr1, arr2, array};
use proptest::prelude::*;

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

/// The case as one chunk of 1 to 6 tokens without memorization gradient.
fn one_chunk(case: Case) -> Case {
    let settings = Settings { border: Border::Drop, chunk: 8, memory_gradient_to_sub_keys: false, ..case.settings };
    Case { settings, tokens: 1 + case.tokens % 6, ..case }
}

fn step_of(case: &Case) -> Stepped {
    stepped(&case.settings, &case.rules, &tables(&case.settings, case.seed), &case.text())
}

fn kept(case: &Case, scores: &Array4<f64>) -> Array4<bool> {
    objectives::kept(case.rules.kept, case.settings.top_k, scores)
}

proptest! {
    #![proptest_config(cases(128))]

    // p̄ from its definition, over a dense array of probabilities.
    #[test]
    fn prop_adr_2_is_the_mean_of_the_rows_softmax(case in stream_case().prop_map(one_chunk)) {
        let found = step_of(&case);
        let kept = kept(&case, &found.reading.scores);
        let mut powers = found.reading.scores.mapv(f64::exp);
        powers.zip_mut_with(&kept, |power, &kept| *power *= f64::from(kept));
        powers.lanes_mut(Axis(3)).into_iter().for_each(|mut row| row /= row.sum());
        let expected = powers.mean_axis(Axis(1)).unwrap().mean_axis(Axis(0)).unwrap();
        let marginal = found.step.addressed.marginal;
        prop_assert!((&marginal - &expected).iter().all(|x| x.abs() < ROUNDING), "{marginal} {expected}");
        prop_assert!(marginal.rows().into_iter().all(|half| (half.sum() - 1.0).abs() < ROUNDING));
    }

    #[test]
    fn prop_adr_3_entropy_is_between_zero_and_ln_n(case in stream_case().prop_map(one_chunk)) {
        let rules = Rules { log_epsilon: 0.0, ..case.rules.clone() };
        let found = step_of(&Case { rules, ..case.clone() });
        let most = (case.settings.sub_keys as f64).ln();
        prop_assert!(found.report.entropy.iter().all(|&h| h >= -ROUNDING && h <= most + ROUNDING));
    }

    // Adding a number to all scores of a row changes no probability, so each row's gradient sums to 0. With d_k = 2, dot
    // products and q = 1 the rows' gradients add up in the sub-keys.
    #[test]
    fn prop_adr_4_rows_sum_to_zero(case in stream_case().prop_map(one_chunk)) {
        let settings = Settings { key_dim: 2, score: Score::DotProduct, addressing_weight: 3.0, ..case.settings.clone() };
        let case = Case { settings, ..case };
        let mut text = case.text();
        text.queries.fill(1.0);
        let found = stepped(&case.settings, &case.rules, &tables(&case.settings, case.seed), &text);
        let sums = found.step.addressed.sub_key_gradient.sum_axis(Axis(2));
        prop_assert!(sums.iter().all(|sum| sum.abs() < ROUNDING), "{sums}");
    }

    #[test]
    fn prop_adr_5_is_the_gradient_of_the_addressing_loss(
        case in stream_case().prop_map(one_chunk),
        addressing_weight in prop_oneof![Just(1.0), Just(2.5)],
    ) {
        let settings = Settings { addressing_weight, ..case.settings.clone() };
        let case = Case { settings, ..case };
        let (found, tables, text) = (step_of(&case), tables(&case.settings, case.seed), case.text());
        let kept = kept(&case, &found.reading.scores);
        let e = case.rules.log_epsilon;
        let gradient = &found.step.addressed.sub_key_gradient;
        // Differences: h² times third derivatives, which at ε = 1e-3 are up to ε^-1½ times the gradient, and rounding over h.
        let differences =
            by_differences(&tables.sub_keys, 1e-6, |sub_keys| addressing(&case.settings, e, &text, &kept, sub_keys));
        let scale = scale(&differences);
        prop_assert!((gradient - &differences).iter().all(|x| x.abs() < 1e-5 * scale), "{gradient} {differences}");
        // Dual numbers: in either precision, within their own rounding errors.
        step_holds::<f32>(&case.scene());
        step_holds::<f64>(&case.scene());
    }

    // Its conditions: η small against the curvature (ε = 0.1), no selection changes, and there is a gradient to follow.
    #[test]
    fn prop_adr_6_a_small_step_raises_the_entropy(
        heads in 1..=2usize, (sub_keys, top_k) in (2..=5usize).prop_flat_map(|n| (Just(n), 2..=n)),
        dot_product in any::<bool>(), tokens in 1..=6usize, seed in any::<u64>(),
    ) {
        let score = if dot_product { Score::DotProduct } else { Score::InverseDistance { epsilon: 0.1 } };
        let settings =
            Settings { heads, sub_keys, top_k, score, learning_rate: 1e-4, lookahead: 0, ..small() };
        let (before, text) = (tables(&settings, seed), text(&settings, 2, tokens, seed ^ 1));
        let first = stepped(&settings, &Rules::paper(), &before, &text);
        let slope = first.step.addressed.sub_key_gradient.iter().map(|g| g * g).sum::<f64>();
        prop_assume!(slope > 1e-6 && margin(&first.reading) > 1e-9);
        let second = stepped(&settings, &Rules::paper(), &first.tables, &text);
        prop_assume!(first.reading.selected.half_indices == second.reading.selected.half_indices);
        let gain = second.report.entropy.iter().sum::<f64>() - first.report.entropy.iter().sum::<f64>();
        // To first order the gain is η times the squared gradient; half of it is left to the curvature.
        prop_assert!(gain > 0.5 * 1e-4 * slope, "{gain} {slope}");
    }
}
