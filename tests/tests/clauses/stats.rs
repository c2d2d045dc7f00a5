//! Stage `stats`: how reads spread over the slots.

use crate::common::ROUNDING;
use crate::common::cases::cases;
use approx::assert_abs_diff_eq;
use fwpkm_reference::stats::SlotReads;
use proptest::prelude::*;

fn of(slots: &[usize]) -> SlotReads {
    let mut reads = SlotReads::default();
    reads.extend(slots);
    reads
}

// Slot 3 twice, 5 and 7 once: two of four reads collide. A slot read thrice gives all three of its reads.
#[test]
fn sta_1_is_the_share_of_reads_on_shared_slots() {
    assert_eq!(of(&[3, 5, 3, 7]).collision_rate(), 0.5);
    assert_eq!(of(&[1, 1, 1, 2]).collision_rate(), 0.75);
    assert_eq!(of(&[4, 4]).collision_rate(), 1.0);
}

// One read, and no reads.
#[test]
fn sta_1_without_shared_slots_is_zero() {
    assert_eq!((of(&[9]).collision_rate(), of(&[]).collision_rate()), (0.0, 0.0));
}

// N = 16 and N = 1.
#[test]
fn sta_2_is_the_share_of_slots_read() {
    assert_eq!(of(&[3, 5, 3, 7]).coverage(16), 3.0 / 16.0);
    assert_eq!((of(&[]).coverage(16), of(&[0, 0]).coverage(1)), (0.0, 1.0));
}

// All reads on one of N slots: ln N. All slots alike: 0. Two of three on one: (2/3)·ln(8/3) + (1/3)·ln(4/3).
#[test]
fn sta_3_is_the_divergence_from_uniform() {
    assert_abs_diff_eq!(of(&[7; 5]).divergence(64), 64f64.ln(), epsilon = ROUNDING);
    assert_abs_diff_eq!(of(&[0, 1, 2, 3, 3, 2, 1, 0]).divergence(4), 0.0, epsilon = ROUNDING);
    let expected = 2.0 / 3.0 * (8f64 / 3.0).ln() + 1.0 / 3.0 * (4f64 / 3.0).ln();
    assert_abs_diff_eq!(of(&[0, 3, 0]).divergence(4), expected, epsilon = ROUNDING);
    assert_eq!(of(&[]).divergence(4), 0.0);
}

proptest! {
    #![proptest_config(cases(128))]

    // Against a dense array of counts, and ln N minus the entropy of the reads.
    #[test]
    fn prop_sta_1_to_3_equal_a_dense_count(slots in prop::collection::vec(0..25usize, 1..60), cut in 0..60usize) {
        let mut counts = [0.0f64; 25];
        for &slot in &slots {
            counts[slot] += 1.0;
        }
        let total = slots.len() as f64;
        let mut reads = SlotReads::default();
        // In two calls, the second of them backwards.
        let (first, second) = slots.split_at(cut.min(slots.len()));
        reads.extend(first);
        reads.extend(second.iter().rev());
        let shared: f64 = counts.iter().filter(|&&count| count >= 2.0).sum();
        prop_assert_eq!(reads.collision_rate(), shared / total);
        let used: Vec<f64> = counts.iter().copied().filter(|&count| count != 0.0).collect();
        prop_assert_eq!(reads.coverage(25), used.len() as f64 / 25.0);
        let entropy: f64 = used.iter().map(|count| count / total * (total / count).ln()).sum();
        prop_assert!((reads.divergence(25) - (25f64.ln() - entropy)).abs() < 20.0 * ROUNDING);
        // The order of reads does not matter, to the bit.
        prop_assert_eq!(reads.divergence(25), of(&slots).divergence(25));
    }
}
