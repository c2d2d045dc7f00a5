//! `flush`: the chunk it closes, and what stays queued.

use fwpkm_reference::Rules;

use crate::common::{ROUNDING, grid, grid_memory, losses, slots};
use crate::{calls, carry, on_slot_0};

// drop, C = 3, five tokens: 5/3 from the first chunk; the flush has one pair and two reads: 5/3 + (5 - 5/3)/2 = 10/3. Then the
// queue is empty, another flush does nothing, and counting starts anew: the next step is three tokens later.
#[test]
fn str_4_drop_closes_a_short_chunk() {
    let mut memory = grid_memory(&grid(2, 3, 1), Rules::paper());
    memory.feed(&on_slot_0(&[1.0, 2.0, 3.0, 4.0, 5.0]).tokens()).unwrap();
    let flushed = memory.flush().unwrap().unwrap();
    approx::assert_abs_diff_eq!(slots(&memory)[0], 10.0 / 3.0, epsilon = ROUNDING);
    assert_eq!((flushed.pair_losses.len(), memory.queued()), (1, 0));
    assert!(memory.flush().unwrap().is_none());
    assert_eq!(calls(&mut memory, &on_slot_0(&[0.0; 3]), &[2, 1]).0, [0, 1]);
}

// carry, C = 3, L = 1: tokens 0 and 1 have targets: (2 + 3)/2. Token 2 stays, and starts the next chunk, which is complete
// three tokens later: values 3 | 4, 5, 6, so 2.5 + (1.5 + 2.5 + 3.5)/3 = 5.
#[test]
fn str_4_carry_takes_the_queries_with_a_target() {
    let mut memory = grid_memory(&carry(3, 1), Rules::paper());
    assert!(memory.feed(&on_slot_0(&[1.0, 2.0, 3.0]).tokens()).unwrap().steps.is_empty());
    let flushed = memory.flush().unwrap().unwrap();
    assert_eq!((losses(&[flushed]), slots(&memory)[0], memory.queued()), (vec![4.0, 9.0], 2.5, 1));
    assert!(memory.flush().unwrap().is_none());
    assert_eq!(calls(&mut memory, &on_slot_0(&[4.0, 5.0, 6.0]), &[2, 1]).0, [0, 1]);
    assert_eq!((slots(&memory)[0], memory.queued()), (5.0, 1));
}

// T = L - 1, L, L + 1 under carry with L = 2: no query with a target, none, one. An empty queue under drop.
#[test]
fn str_4_nothing_to_close_takes_no_step() {
    for (tokens, steps) in [(0, 0), (1, 0), (2, 0), (3, 1)] {
        let mut memory = grid_memory(&carry(4, 2), Rules::paper());
        memory.feed(&on_slot_0(&vec![1.0; tokens]).tokens()).unwrap();
        assert_eq!(memory.flush().unwrap().map_or(0, |step| step.pair_losses.len()), steps);
        assert_eq!((memory.steps(), memory.queued()), (steps, tokens.min(2)));
    }
    assert!(grid_memory(&grid(2, 3, 1), Rules::paper()).flush().unwrap().is_none());
}
