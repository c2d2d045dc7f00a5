//! Stage `numerics`: element types, the order of sums, numbers that are not finite, reproducible bits.

mod common;
#[path = "numerics/not_finite.rs"]
mod not_finite;

use common::cases::{cases, stream_case};
use common::outcome::run;
use common::{bits, grid, grid_tables, hits, narrowed, reading, small, tables, text};
use fwpkm_reference::read::read;
use fwpkm_reference::scalar::{sum, sum_over};
use fwpkm_reference::score::dot_product;
use fwpkm_reference::settings::Border;
use fwpkm_reference::{Memory, Rules, Scalar, Settings, Tables};
use ndarray::{Array1, arr1, arr2, arr3, s};
use proptest::prelude::*;

// 2^24 + 1 is not an f32: each step of the sum rounds to 2^24. A sum in f64, rounded once, would be 2^24 + 2.
#[test]
fn num_1_every_operation_is_in_the_element_type() {
    let (q, k) = (arr1(&[16_777_216.0f32, 1.0, 1.0]), arr1(&[1.0f32, 1.0, 1.0]));
    assert_eq!(dot_product(q.view(), k.view()), 16_777_216.0);
    let values = arr2(&[[16_777_216.0f32], [1.0]]);
    let reads = read(values.view(), arr3(&[[[0, 1, 1]]]).view(), arr3(&[[[1.0f32, 1.0, 1.0]]]).view()).unwrap();
    assert_eq!(reads, arr2(&[[16_777_216.0f32]]));
}

// In f64, 1e16 + 1 rounds to 1e16. Up to eight terms: ascending. Term 8 joins term 0, term 9 term 1.
#[test]
fn num_1_sums_over_features_have_eight_running_sums_added_ascending() {
    assert_eq!(sum(arr1(&[1e16, 1.0, -1e16]).view()), 0.0);
    assert_eq!(sum(arr1(&[1e16, -1e16, 1.0]).view()), 1.0);
    let mut ten = Array1::zeros(10);
    ten.slice_mut(s![..2]).assign(&arr1(&[1e16, 1.0]));
    ten[8] = -1e16;
    assert_eq!(sum(ten.view()), 1.0);
    ten[8] = 0.0;
    ten[9] = -1e16;
    // Running sums 1e16 and 1 - 1e16, which rounds to -1e16.
    assert_eq!(sum(ten.view()), 0.0);
    assert_eq!(sum(Array1::<f64>::zeros(0).view()), 0.0);
}

// Entries of a token: by head, then place. 1e16·1 + 1 - 1e16 loses the 1; with the first two heads swapped it does not.
#[test]
fn num_1_reads_are_summed_by_head_then_place() {
    let values = arr2(&[[1e16], [1.0], [-1e16]]);
    let order = |slots: [[usize; 1]; 3]| {
        read(values.view(), arr3(&[slots]).view(), arr3(&[[[1.0], [1.0], [1.0]]]).view()).unwrap()[[0, 0]]
    };
    assert_eq!((order([[0], [1], [2]]), order([[0], [2], [1]])), (0.0, 1.0));
}

// A chunk's writes to a slot: by token, then sequence. Its targets in that order are 1e16, 1, -1e16 and 1, of which the first 1 is
// lost: 1/4. By sequence, then token, neither would be; backwards, both.
#[test]
fn num_1_writes_are_summed_by_token_then_sequence() {
    let settings = grid(2, 2, 0);
    let text = hits(&settings, &[&[(0, 1e16), (0, -1e16)], &[(0, 1.0), (0, 1.0)]]);
    let after = common::stepped(&settings, &Rules::paper(), &grid_tables(&settings), &text).tables;
    assert_eq!(after.slot_values[[0, 0]], 0.25);
}

// A strided view sums as its copy does.
#[test]
fn num_1_the_order_of_sums_does_not_see_the_layout() {
    let numbers = text(&Settings { key_dim: 38, ..small() }, 1, 2, 1).queries;
    let strided = numbers.slice(s![0, 0, ..;2]);
    let (copy, product) = (strided.to_owned(), |a: f64, b: f64| a * b);
    let there = sum_over(strided, strided, product);
    assert_eq!(there.to_bits(), sum_over(copy.view(), copy.view(), product).to_bits());
}

/// The same run in pools of 1, 2, 3 and 7 threads.
fn in_pools<T: Send>(work: impl Fn() -> T + Sync) -> Vec<T> {
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    [1, 2, 3, 7].into_iter().map(|threads| pool(threads).install(&work)).collect()
}

// Chunks of 96 tokens of 3 sequences with 2 heads: enough rows for every thread to get some, and slots with many writers.
#[test]
fn num_8_threads_do_not_change_a_bit() {
    for (seed, border) in [(1, Border::Drop), (2, Border::Carry)] {
        let settings = Settings {
            heads: 2,
            sub_keys: 8,
            key_dim: 18,
            value_dim: 11,
            top_k: 3,
            chunk: 96,
            border,
            memory_gradient_to_sub_keys: true,
            weight_decay: 0.01,
            ..small()
        };
        let text = text(&settings, 3, 200, seed).gated(seed).masked(seed);
        let outcomes = in_pools(|| {
            let mut memory = Memory::new(settings.clone(), Rules::release(), tables(&settings, seed)).unwrap();
            run(&mut memory, &text, &[], &[200]).unwrap()
        });
        assert!(outcomes.windows(2).all(|pair| pair[0] == pair[1]));
        let narrow = in_pools(|| {
            let tables = narrowed(&tables(&settings, seed));
            let mut memory = Memory::new(settings.clone(), Rules::paper(), tables).unwrap();
            run(&mut memory, &text.narrowed(), &[], &[200]).unwrap()
        });
        assert!(narrow.windows(2).all(|pair| pair[0] == pair[1]));
    }
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn prop_num_8_threads_and_repetition_do_not_change_a_bit(case in stream_case()) {
        let outcomes = in_pools(|| run(&mut case.memory(), &case.text(), &[], &[case.tokens]).unwrap());
        let again = run(&mut case.memory(), &case.text(), &[], &[case.tokens]).unwrap();
        prop_assert!(outcomes.iter().all(|outcome| *outcome == again));
    }

    // A dual number computes what f64 computes, to the bit: gradients by duals are those of this very arithmetic.
    #[test]
    fn prop_num_1_dual_numbers_compute_the_values_of_f64(case in stream_case()) {
        let (tables, text) = (tables(&case.settings, case.seed), case.text());
        let dual = Tables { sub_keys: common::cast(&tables.sub_keys), slot_values: common::cast(&tables.slot_values) };
        let dual_text = common::Text::<fwpkm_reference::scalar::Dual> {
            queries: common::cast(&text.queries), values: common::cast(&text.values), gates: None, mask: None,
        };
        let (plain, dual) = (reading(&case.settings, &tables, &text), reading(&case.settings, &dual, &dual_text));
        prop_assert_eq!(bits(&plain.reads), bits(&dual.reads));
        prop_assert!(dual.reads.iter().all(|x| x.tangent == 0.0 && x.to_f64() == x.value));
    }
}
