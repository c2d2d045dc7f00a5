//! One reading and one step; short chunks.                                            CHK-1 … CHK-3

use fwpkm_reference::settings::Score;

use crate::vectors::draw::Grid;
use crate::vectors::entry::{Entry, Table, entry};

pub(super) fn entries() -> Vec<Entry> {
    vec![
        entry(
            "chk_1_reads_come_first",
            &["CHK-1", "MEM-4"],
            "A large step after the reads: they show the tables before it.",
        )
        .memory(1, 4, 4, 7, 3)
        .drop(6, 1)
        .text(1, 6),
        entry("chk_1_heads", &["CHK-1", "CHK-2"], "The same with three heads and four sequences.")
            .memory(3, 5, 4, 7, 2)
            .drop(5, 1)
            .text(4, 5)
            .set(|s| s.learning_rate = 0.5),
        together(
            "chk_2_same_tables",
            "Both steps from the same tables: the sub-keys' gradient takes the slot values before theirs.",
        )
        .memory(1, 4, 4, 6, 3)
        .drop(7, 2)
        .text(1, 7)
        .sub_keys(24, 0.03125)
        .near(12),
        together("chk_2_same_tables_dot_product", "The same with dot products and three heads.")
            .memory(3, 4, 4, 5, 2)
            .drop(8, 1)
            .text(1, 8)
            .sub_keys(24, 0.03125)
            .wide(32, 0.03125)
            .set(|s| s.score = Score::DotProduct),
        entry(
            "chk_3_no_pairs",
            &["CHK-3", "STR-4", "ADR-2"],
            "As many tokens as the lookahead: no pairs, but decay and addressing act.",
        )
        .memory(1, 6, 4, 5, 3)
        .drop(7, 4)
        .text(1, 4)
        .sub_keys(24, 0.03125)
        .near(8)
        .set(|s| (s.weight_decay, s.learning_rate) = (0.375, 0.75)),
        entry(
            "chk_3_no_pairs_heads",
            &["CHK-3", "STR-4"],
            "Fewer tokens than the lookahead, three heads, four sequences, gates.",
        )
        .memory(3, 5, 4, 7, 2)
        .drop(9, 4)
        .text(4, 2)
        .sub_keys(24, 0.03125)
        .near(8)
        .gates(&[0.25, 0.5, 1.0])
        .set(|s| (s.weight_decay, s.addressing_weight) = (0.5, 6.0)),
        entry(
            "chk_3_one_pair",
            &["CHK-3", "MEM-4"],
            "One token more than the lookahead: one pair, N_i over all four tokens.",
        )
        .memory(1, 3, 4, 5, 2)
        .drop(9, 3)
        .text(1, 4)
        .near(8),
    ]
}

/// Slot values that are small beside the targets, so that a step changes most of them
fn together(name: &'static str, purpose: &'static str) -> Entry {
    let small = Table::Drawn(Grid { most: 8, unit: 0.03125 });
    let entry = entry(name, &["CHK-2", "MEM-6"], purpose).draw(|inputs| inputs.slot_values = small);
    entry.set(|s| {
        s.memory_gradient_to_sub_keys = true;
        (s.learning_rate, s.addressing_weight) = (0.5, 0.5);
    })
}
