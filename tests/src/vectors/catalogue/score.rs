//! Half scores: inverse distance and dot product.                                        SCR-1, SCR-2

use fwpkm_reference::settings::Score;

use crate::vectors::draw::Grid;
use crate::vectors::entry::{Entry, Queries, Table, entry};

pub(super) fn entries() -> Vec<Entry> {
    let mut entries = inverse_distance();
    entries.extend(dot_product());
    entries
}

fn inverse_distance() -> Vec<Entry> {
    vec![
        entry("scr_1_one_head", &["SCR-1", "SEL-1", "SEL-3", "RD-1", "RD-3"], "Inverse distance, one head, n odd.")
            .memory(1, 7, 6, 4, 2)
            .text(1, 9)
            .reading(),
        entry(
            "scr_1_three_heads",
            &["SCR-1", "SEL-3", "RD-1"],
            "Which numbers of a query belong to which head and half.",
        )
        .memory(3, 5, 8, 7, 2)
        .text(2, 4)
        .reading(),
        entry("scr_1_exact_hits", &["SCR-1", "RD-1"], "Queries equal to sub-keys: the distance is 0 and ε decides.")
            .memory(1, 6, 4, 5, 2)
            .text(1, 8)
            .near(0)
            .reading(),
        entry("scr_1_near_epsilon", &["SCR-1", "RD-1"], "Squared distances of the size of ε, 1e-3.")
            .memory(1, 8, 4, 3, 3)
            .text(1, 7)
            .sub_keys(3, 0.03125)
            .draw(|inputs| inputs.queries = Queries::Near { first: 0, offset: Grid { most: 2, unit: 0.03125 } })
            .reading(),
        entry("scr_1_other_epsilon", &["SCR-1", "RD-1"], "ε = 0.25 instead of 1e-3.")
            .memory(3, 6, 4, 5, 2)
            .text(1, 7)
            .set(|s| s.score = Score::InverseDistance { epsilon: 0.25 })
            .reading(),
        entry(
            "scr_1_far_from_zero",
            &["SCR-1"],
            "Queries and sub-keys far from 0 and near each other: |q|² + |K|² - 2qK cancels.",
        )
        .memory(1, 6, 6, 4, 2)
        .text(1, 8)
        .draw(|inputs| {
            inputs.sub_keys = Table::Given(far_sub_keys());
            inputs.queries = Queries::Near { first: 0, offset: Grid { most: 1, unit: 0.5 } };
        })
        .reading(),
        entry("scr_1_one_number", &["SCR-1", "SEL-1"], "Halves of one number, d_k = 2, top_k = n.")
            .memory(3, 4, 2, 5, 4)
            .text(1, 6)
            .reading()
            .least(super::ORDER_ONLY),
        entry("scr_1_wide", &["SCR-1", "SEL-2"], "d_k = 32 and n = 32, the largest of the stored tables.")
            .memory(1, 32, 32, 3, 4)
            .text(1, 5)
            .near(16)
            .reading(),
    ]
}

/// Whole numbers from 100 to 127, all different within a half: H = 1, n = 6, `d_k` = 6
fn far_sub_keys() -> Vec<f64> {
    let sub_key = |half: u32, i: u32| (0..3).map(move |d| f64::from(100 + (7 * i + 11 * d * (i + 1) + 5 * half) % 28));
    (0..2).flat_map(|half| (0..6).flat_map(move |i| sub_key(half, i))).collect()
}

fn dot_product() -> Vec<Entry> {
    let dot = |entry: Entry| entry.set(|s| s.score = Score::DotProduct).reading();
    vec![
        dot(entry("scr_2_one_head", &["SCR-2", "SEL-2"], "Dot products, one head; some scores are negative."))
            .memory(1, 9, 6, 4, 3)
            .text(1, 7)
            .wide(64, 0.03125),
        dot(entry("scr_2_three_heads", &["SCR-2", "SEL-3", "RD-3"], "Dot products, three heads, two sequences."))
            .memory(3, 5, 8, 7, 2)
            .text(2, 4)
            .wide(48, 0.03125),
        dot(entry("scr_2_large", &["SCR-2", "RD-1"], "Dot products up to 40: the softmax is nearly one-hot."))
            .memory(1, 6, 4, 5, 2)
            .text(1, 6)
            .wide(160, 0.0625),
    ]
}
