//! A queue that counts calls: the release's, whose result depends on the cut.

use fwpkm_reference::Rules;
use ndarray::arr2;

use crate::common::{ROUNDING, grid_memory, hits, slots};
use crate::{calls, carry, on_slot_0};

// One call of five: slice 0 has C + L = 3 tokens: Q = 0, 1, N = 3, F = 3/2, so 1.5·5/3 = 2.5. Slice 1 has C = 2: Q = 2, 3, N = 2,
// F = 1: 2.5 + (1.5 + 2.5)/2 = 4.5. Token by token each step has one pair, N = 1, F = 1: 2, 3, 4, 5.
#[test]
fn str_5_the_cut_matters() {
    let text = on_slot_0(&[1.0, 2.0, 3.0, 4.0, 5.0]);
    let found = |lengths: &[usize]| {
        let mut memory = grid_memory(&carry(2, 1), Rules::release());
        let (steps, reads) = calls(&mut memory, &text, lengths);
        (steps, reads, slots(&memory)[0])
    };
    assert_eq!(found(&[5]), (vec![2], vec![0.0, 0.0, 0.0, 2.5, 2.5], 4.5));
    assert_eq!(found(&[1; 5]), (vec![0, 1, 1, 1, 1], vec![0.0, 0.0, 2.0, 3.0, 4.0], 5.0));
    assert_ne!(found(&[5]).2, found(&[4, 1]).2);
}

// One token queued, then five: slices of C + L - 1 = 2, then C = 2, then 1; pairs 2, 2 and 1.
#[test]
fn str_5_the_first_slice_fills_the_queue_and_the_last_may_be_short() {
    let mut memory = grid_memory(&carry(2, 1), Rules::release());
    memory.feed(&on_slot_0(&[1.0]).tokens()).unwrap();
    let fed = memory.feed(&on_slot_0(&[2.0, 3.0, 4.0, 5.0, 6.0]).tokens()).unwrap();
    let pairs: Vec<usize> = fed.steps.iter().map(|step| step.pair_losses.len()).collect();
    assert_eq!((pairs, memory.queued()), (vec![2, 2, 1], 1));
}

// Token 0 reads slot 0 in one call, token 1 slot 3 in the next. N counts the slice, which never read slot 0: N_0 = 0 divides
// by 1. Slot 3 is counted, and touched, but has no pair.
#[test]
fn str_5_counts_the_slice_and_divides_by_one_where_it_has_no_read() {
    let settings = carry(2, 1);
    let mut memory = grid_memory(&settings, Rules::release());
    let text = hits(&settings, &[&[(0, 1.0), (3, 7.0)]]);
    memory.feed(&text.part(0, 1).tokens()).unwrap();
    let fed = memory.feed(&text.part(1, 2).tokens()).unwrap();
    assert_eq!(slots(&memory), [7.0, 0.0, 0.0, 0.0]);
    assert_eq!(fed.steps[0].slots_touched, 2);
}

// A mask: S is the number of unmasked pairs of Q, here 1 of 2; N still counts the slice: -G = ½·2/3.
#[test]
fn str_5_with_a_mask_counts_the_pairs_of_the_queue() {
    let mut memory = grid_memory(&carry(2, 1), Rules::release());
    let mut text = on_slot_0(&[1.0, 2.0, 3.0]);
    text.mask = Some(arr2(&[[true, false, true]]));
    memory.feed(&text.tokens()).unwrap();
    approx::assert_abs_diff_eq!(slots(&memory)[0], 1.0 / 3.0, epsilon = ROUNDING);
}

// C = 4, L = 1, three tokens: two queued queries have a target, which a flush under stream_count = chunk would take.
#[test]
fn str_5_flush_does_nothing() {
    let mut memory = grid_memory(&carry(4, 1), Rules::release());
    memory.feed(&on_slot_0(&[1.0, 2.0, 3.0]).tokens()).unwrap();
    assert!(memory.flush().unwrap().is_none());
    assert_eq!((slots(&memory), memory.queued(), memory.steps()), (vec![0.0; 4], 3, 0));
}
