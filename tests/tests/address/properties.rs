//! Properties of the usage and of its entropy, and the gradient against dual numbers and central differences.

use fwpkm_reference::rules::Kept;
use fwpkm_reference::settings::{Border, Score};
use fwpkm_reference::{Rules, Settings};
use ndarray::{Array4, Axis};
use proptest::prelude::*;

use crate::common::cases::{Case, cases, stream_case};
use crate::common::objectives::{addressing, by_differences, by_duals};
use crate::common::{ROUNDING, Stepped, margin, scale, small, stepped, tables, text};

/// The case as one chunk of 1 to 6 tokens without memorization gradient.
fn one_chunk(case: Case) -> Case {
    let settings = Settings { border: Border::Drop, chunk: 8, memory_gradient_to_sub_keys: false, ..case.settings };
    Case { settings, tokens: 1 + case.tokens % 6, ..case }
}

fn step_of(case: &Case) -> Stepped {
    stepped(&case.settings, &case.rules, &tables(&case.settings, case.seed), &case.text())
}

/// Which sub-keys each row keeps, by counting those that precede each.
fn kept(case: &Case, scores: &Array4<f64>) -> Array4<bool> {
    Array4::from_shape_fn(scores.dim(), |(row, h, m, i)| {
        let (own, others) = (scores[[row, h, m, i]], scores.slice(ndarray::s![row, h, m, ..]));
        let better = others.iter().filter(|&&other| other > own).count();
        let ties_before = others.iter().take(i).filter(|&&other| other == own).count();
        match case.rules.kept {
            Kept::TopK => better + ties_before < case.settings.top_k,
            Kept::Ties => better < case.settings.top_k,
        }
    })
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
        let loss = addressing(&case.settings, e, &text, &kept, &tables.sub_keys);
        prop_assert!((loss - found.report.addressing_loss).abs() < 1e2 * ROUNDING);
        let gradient = &found.step.addressed.sub_key_gradient;
        let exact = by_duals(&tables.sub_keys, |sub_keys| addressing(&case.settings, e, &text, &kept, sub_keys));
        let scale = scale(&exact);
        prop_assert!((gradient - &exact).iter().all(|x| x.abs() < 1e-11 * scale), "{gradient} {exact}");
        // Differences: h² times third derivatives, which at ε = 1e-3 are up to ε^-1½ times the gradient, and rounding over h.
        let differences =
            by_differences(&tables.sub_keys, 1e-6, |sub_keys| addressing(&case.settings, e, &text, &kept, sub_keys));
        prop_assert!((gradient - &differences).iter().all(|x| x.abs() < 1e-5 * scale), "{gradient} {differences}");
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
