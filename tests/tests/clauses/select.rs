//! Stage `select`: half scores to the k best slots of each head.

use crate::common::cases::cases;
use crate::common::{refused, small};
use fwpkm::oracle::brute_force;
use fwpkm_reference::select::{Selected, best_pairs, half_top_k, select, slot};
use fwpkm_reference::{Scalar, Settings};
use ndarray::{Array1, Array4, arr1};
use proptest::prelude::*;

/// Selects from one row of one head.
fn selected<S: Scalar>(first: &[S], second: &[S], top_k: usize) -> Selected<S> {
    let settings = Settings { sub_keys: first.len(), top_k, ..small() };
    let scores = Array4::from_shape_vec((1, 1, 2, first.len()), [first, second].concat()).unwrap();
    select(&settings, scores.view())
}

fn flat<T: Clone, D: ndarray::Dimension>(array: &ndarray::Array<T, D>) -> Vec<T> {
    array.iter().cloned().collect()
}

#[test]
fn sel_1_takes_the_k_best_best_first() {
    let best = half_top_k(arr1(&[-1.0, 7.0, 3.0, -5.0, 4.0]).view(), 3);
    assert_eq!(best, [(1, 7.0), (4, 4.0), (2, 3.0)]);
}

// Ties inside the chosen, across the limit (three 2s for two places), and of all.
#[test]
fn sel_1_ties_take_the_lower_index() {
    assert_eq!(half_top_k(arr1(&[2.0, 5.0, 2.0, 5.0, 2.0]).view(), 4), [(1, 5.0), (3, 5.0), (0, 2.0), (2, 2.0)]);
    assert_eq!(half_top_k(arr1(&[2.0, 2.0, 5.0, 2.0]).view(), 3), [(2, 5.0), (0, 2.0), (1, 2.0)]);
    assert_eq!(half_top_k(arr1(&[0.0, 0.0, 0.0]).view(), 2), [(0, 0.0), (1, 0.0)]);
    // -0 equals 0.
    assert_eq!(half_top_k(arr1(&[-0.0, 0.0]).view(), 1), [(0, 0.0)]);
}

// k = 1, and k = n: the whole half in order.
#[test]
fn sel_1_takes_one_or_all() {
    assert_eq!(half_top_k(arr1(&[1.0, 3.0, 3.0]).view(), 1), [(1, 3.0)]);
    assert_eq!(half_top_k(arr1(&[1.0, 3.0, 2.0]).view(), 3), [(1, 3.0), (2, 2.0), (0, 1.0)]);
    assert_eq!(half_top_k(arr1(&[-9.0]).view(), 1), [(0, -9.0)]);
}

#[test]
fn sel_1_chooses_for_every_row_head_and_half_alone() {
    let settings = Settings { heads: 2, sub_keys: 2, top_k: 1, ..small() };
    let better = |(row, head, half, i): (usize, usize, usize, usize)| f64::from(i == (row + head * half) % 2);
    let found = select(&settings, Array4::from_shape_fn((2, 2, 2, 2), better).view());
    assert_eq!(flat(&found.half_indices), [0, 0, 0, 1, 1, 1, 1, 0]);
    assert_eq!(flat(&found.slots), [0, 1, 3, 2]);
}

#[test]
fn sel_1_top_k_outside_one_to_n_is_refused() {
    for top_k in [0, 4, usize::MAX] {
        assert_eq!(refused(Settings { top_k, ..small() }), "top_k");
    }
    for top_k in [1, 3] {
        assert_eq!(refused(Settings { top_k, ..small() }), "");
    }
}

#[test]
fn sel_2_takes_the_k_best_sums_best_first() {
    let pairs = best_pairs(arr1(&[5.0, 4.0, 1.0]).view(), arr1(&[3.0, 1.0, 0.0]).view(), 3);
    assert_eq!(pairs, [(8.0, 0, 0), (7.0, 1, 0), (6.0, 0, 1)]);
}

// Equal sums of different ranks: 3 + 1 and 2 + 2 are (0, 1) and (1, 0). With four equal scores ranks decide alone.
#[test]
fn sel_2_ties_take_the_lower_rank_in_half_0_then_in_half_1() {
    let pairs = best_pairs(arr1(&[3.0, 2.0]).view(), arr1(&[2.0, 1.0]).view(), 2);
    assert_eq!(pairs, [(5.0, 0, 0), (4.0, 0, 1)]);
    let pairs = best_pairs(arr1(&[1.0; 4]).view(), arr1(&[1.0; 4]).view(), 4);
    assert_eq!(pairs, [(2.0, 0, 0), (2.0, 0, 1), (2.0, 0, 2), (2.0, 0, 3)]);
}

// Ranks, not indices, break ties: sub-key 2 of half 0 is the best, so its pair precedes that of sub-key 0.
#[test]
fn sel_2_ties_are_broken_by_rank_and_not_by_index() {
    let found = selected(&[1.0, -9.0, 2.0], &[3.0, 4.0, -9.0], 3);
    // Ranks of half 0: 2, 0, 1; of half 1: 1, 0, 2. Sums: (2,1) 6, (2,0) 5 and (0,1) 5.
    assert_eq!(flat(&found.slots), [7, 6, 1]);
    assert_eq!(flat(&found.pair_scores), [6.0, 5.0, 5.0]);
}

// In f32, 2^24 + 1 rounds to 2^24: a tie that the exact sum does not have. So the sum is rounded before it is compared.
#[test]
fn sel_2_compares_rounded_sums() {
    let large = 16_777_216.0f32;
    let found = selected(&[large, large], &[1.0, 0.0], 2);
    assert_eq!(flat(&found.pair_scores), [large, large]);
    assert_eq!(flat(&found.slots), [0, 1]);
    let found = selected(&[large, large - 1.0, 0.0], &[1.0, 0.0, -large], 3);
    // 2^24 + 1, 2^24 + 0 and (2^24 - 1) + 1 are all rounded to 2^24; ranks (0, 0), (0, 1), (1, 0).
    assert_eq!(flat(&found.pair_scores), [large, large, large]);
    assert_eq!(flat(&found.slots), [0, 1, 3]);
}

// n = 3 and two sub-keys of different index; the transposed slot would be 5. n = 1: the only slot.
#[test]
fn sel_3_counts_rows_by_the_first_half() {
    assert_eq!(slot(2, 1, 3), 7);
    assert_eq!(slot(0, 0, 1), 0);
    assert_eq!(slot(511, 511, 512), 512 * 512 - 1);
    assert_eq!(flat(&selected(&[0.0, 0.0, 1.0], &[0.0, 1.0, 0.0], 1).slots), [7]);
    assert_eq!(flat(&selected(&[0.5], &[0.25], 1).slots), [0]);
}

// The winners are {0, 1} × {0, 1, 2}: the last has (1+1)(2+1) = 6 = k, the largest product that may win.
#[test]
fn sel_4_a_pair_at_the_limit_of_the_pruning_wins() {
    let first = arr1(&[10.0, 9.5, 1.0, 0.9, 0.8, 0.7]);
    let second = arr1(&[10.0, 9.9, 9.8, 1.0, 0.9, 0.8]);
    let mut found: Vec<_> = best_pairs(first.view(), second.view(), 6).iter().map(|pair| (pair.1, pair.2)).collect();
    found.sort_unstable();
    assert_eq!(found, [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]);
    // And mirrored.
    let mut found: Vec<_> = best_pairs(second.view(), first.view(), 6).iter().map(|pair| (pair.1, pair.2)).collect();
    found.sort_unstable();
    assert_eq!(found, [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]);
}

// The pruning's ends: a whole row and a whole column of ranks.
#[test]
fn sel_4_one_half_may_give_all_k() {
    let (flat_half, steep) = (arr1(&[1.0, 0.9, 0.8, 0.7]), arr1(&[9.0, 0.0, -1.0, -2.0]));
    let ranks = |pairs: Vec<(f64, usize, usize)>| pairs.iter().map(|pair| (pair.1, pair.2)).collect::<Vec<_>>();
    assert_eq!(ranks(best_pairs(flat_half.view(), steep.view(), 4)), [(0, 0), (1, 0), (2, 0), (3, 0)]);
    assert_eq!(ranks(best_pairs(steep.view(), flat_half.view(), 4)), [(0, 0), (0, 1), (0, 2), (0, 3)]);
}

fn equals_brute_force<S: Scalar>(first: &[f64], second: &[f64]) -> Result<(), TestCaseError> {
    let convert = |half: &[f64]| half.iter().map(|&x| S::from_f64(x)).collect::<Vec<S>>();
    let (first, second) = (convert(first), convert(second));
    for k in 1..=first.len() {
        let found = selected(&first, &second, k);
        let expected = brute_force(&first, &second, k);
        prop_assert_eq!(flat(&found.slots), expected.iter().map(|e| e.0).collect::<Vec<_>>(), "k = {}", k);
        prop_assert_eq!(flat(&found.pair_scores), expected.iter().map(|e| e.1).collect::<Vec<_>>(), "k = {}", k);
    }
    Ok(())
}

/// Two halves of 1-9 scores from few values, so that scores and sums tie often. Tenths make sums that tie only by rounding, or
/// only without it; 2^24 and 2^-1 collide in f32.
fn tied_halves() -> impl Strategy<Value = (Vec<f64>, Vec<f64>)> {
    let tenths = || (-3..=3i8).prop_map(|x| f64::from(x) * 0.1);
    let score = move || prop_oneof![8 => tenths(), 1 => Just(16_777_216.0), 1 => Just(0.5), 1 => Just(-0.0)];
    (1..=9usize).prop_flat_map(move |n| (prop::collection::vec(score(), n), prop::collection::vec(score(), n)))
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn prop_sel_1_is_a_stable_sort_cut_at_k((scores, _) in tied_halves(), k in 1..=9usize) {
        let k = k.min(scores.len());
        let mut expected: Vec<(usize, f64)> = scores.iter().copied().enumerate().collect();
        expected.sort_by(|x, y| y.1.partial_cmp(&x.1).unwrap());
        expected.truncate(k);
        prop_assert_eq!(half_top_k(Array1::from(scores).view(), k), expected);
    }

    #[test]
    fn prop_sel_4_equals_brute_force_over_all_slots_in_f64((first, second) in tied_halves()) {
        equals_brute_force::<f64>(&first, &second)?;
    }

    #[test]
    fn prop_sel_4_equals_brute_force_over_all_slots_in_f32((first, second) in tied_halves()) {
        equals_brute_force::<f32>(&first, &second)?;
    }

    #[test]
    fn prop_sel_2_ranks_name_the_chosen_sub_keys_and_their_scores((first, second) in tied_halves(), k in 1..=9usize) {
        let (n, k) = (first.len(), k.min(first.len()));
        let found = selected(&first, &second, k);
        for place in 0..k {
            let [a, b] = [0, 1].map(|half| found.ranks[[0, 0, place, half]]);
            let (i, j) = (found.half_indices[[0, 0, 0, a]], found.half_indices[[0, 0, 1, b]]);
            prop_assert_eq!(found.half_scores[[0, 0, 0, a]], first[i]);
            prop_assert_eq!(found.half_scores[[0, 0, 1, b]], second[j]);
            prop_assert_eq!(found.slots[[0, 0, place]], i * n + j);
            prop_assert_eq!(found.pair_scores[[0, 0, place]], first[i] + second[j]);
        }
    }
}
