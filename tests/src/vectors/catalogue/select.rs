//! Selection: halves, pairs, slots, ties and near-ties.                                SEL-1 … SEL-4

use fwpkm_reference::settings::Score;

use crate::vectors::draw::Grid;
use crate::vectors::entry::{Entry, Folder, Least, Near, Queries, Table, entry};

pub(super) fn entries() -> Vec<Entry> {
    let mut entries = certain();
    entries.extend(ties());
    entries.extend(near_ties());
    entries
}

fn certain() -> Vec<Entry> {
    vec![
        entry("sel_1_top_k_1", &["SEL-1", "SEL-2", "RD-1"], "top_k = 1, three heads.")
            .memory(3, 7, 4, 5, 1)
            .text(1, 6)
            .reading(),
        entry("sel_1_top_k_4", &["SEL-1", "SEL-2"], "top_k = 4 of 9 sub-keys.")
            .memory(1, 9, 6, 5, 4)
            .text(1, 6)
            .reading(),
        entry("sel_1_top_k_all", &["SEL-1", "SEL-2"], "top_k = n = 3: every sub-key of a half is chosen.")
            .memory(1, 3, 4, 5, 3)
            .text(2, 5)
            .reading(),
        entry("sel_2_heads", &["SEL-2", "SEL-3"], "top_k = 3 with three heads of different selections.")
            .memory(3, 8, 6, 4, 3)
            .text(1, 5)
            .reading(),
        entry("sel_3_slot_index", &["SEL-3", "RD-3"], "n = 11: the slot is i·n + j, not j·n + i.")
            .memory(1, 11, 4, 3, 2)
            .text(1, 8)
            .reading(),
        entry(
            "sel_4_steep_and_flat",
            &["SEL-4", "SEL-2"],
            "Half 1 decides: the chosen pairs have ranks (0..5, 0), the last that (a+1)(b+1) ≤ k allows.",
        )
        .memory(1, 10, 8, 3, 6)
        .text(1, 5)
        .set(|s| s.score = Score::DotProduct)
        .draw(|inputs| {
            inputs.queries = Queries::Halves(Grid { most: 24, unit: 0.03125 }, Grid { most: 128, unit: 0.0625 });
        })
        .least(Least { set: 0.1, relative: 0.015, order: 0.02, near: None })
        .reading(),
        entry("sel_4_flat_and_steep", &["SEL-4", "SEL-2"], "Half 0 decides: the chosen pairs have ranks (0, 0..5).")
            .memory(1, 10, 8, 3, 6)
            .text(1, 5)
            .set(|s| s.score = Score::DotProduct)
            .draw(|inputs| {
                inputs.queries = Queries::Halves(Grid { most: 128, unit: 0.0625 }, Grid { most: 24, unit: 0.03125 });
            })
            .least(Least { set: 0.1, relative: 0.015, order: 0.02, near: None })
            .reading(),
        entry("sel_4_top_k_8", &["SEL-4"], "top_k = 8 of 16, as in the canonical layer: 20 candidate pairs.")
            .memory(1, 16, 4, 3, 8)
            .text(1, 5)
            .least(Least { set: 0.04, relative: 0.01, order: 0.005, near: None })
            .reading(),
    ]
}

fn ties() -> Vec<Entry> {
    // Half 0: sub-keys 1 and 4 are equally near 0, and so are 0, 2, 3; half 1 has all scores different.
    let first = [3.0, -1.0, -3.0, 3.0, 1.0, 6.0];
    let second = [0.5, -1.5, 2.5, -4.0, 5.5, -7.0];
    vec![
        tied(entry("sel_1_ties", &["SEL-1", "NUM-6"], "Equal half scores, among the chosen and at the k-th: the lower index comes first here, any of them is right."))
            .memory(1, 6, 2, 5, 3)
            .text(1, 2)
            .draw(|inputs| {
                inputs.sub_keys = Table::Given([first, second].concat());
                inputs.queries = Queries::Given(vec![0.0, 0.0, 0.0, 0.5]);
            }),
        tied(entry("sel_2_ties", &["SEL-2", "SEL-4", "NUM-6"], "Equal pair sums at the k-th: the lower rank in half 0 comes first here, any of them is right."))
            .memory(1, 4, 2, 3, 2)
            .text(1, 3)
            .set(|s| s.score = Score::DotProduct)
            .draw(|inputs| {
                inputs.sub_keys = Table::Given(vec![4.0, 2.0, 0.5, -1.0, 3.0, 5.0, -2.0, 1.0]);
                inputs.queries = Queries::Given(vec![1.0, 1.0, -1.0, -1.0, 0.5, 0.5]);
            }),
    ]
}

fn tied(mut entry: Entry) -> Entry {
    entry.ties = true;
    entry.reading().least(Least::NONE)
}

fn near_ties() -> Vec<Entry> {
    let near = |mut entry: Entry, near: Near| {
        entry.near_ties = true;
        entry.only(Folder::Paper).drop(4, 1).least(Least { set: 0.02, relative: 0.0, order: 0.01, near: Some(near) })
    };
    vec![
        near(
            entry(
                "sel_1_near_ties",
                &["SEL-1", "NUM-6"],
                "Half scores at the k-th closer than f32 resolves, on every second token.",
            ),
            Near::Half(4.5e-6),
        )
        .memory(1, 16, 32, 3, 2)
        .text(1, 4)
        .wide(255, 0.03125)
        .sub_keys(255, 0.03125),
        near(
            entry(
                "sel_2_near_ties",
                &["SEL-2", "NUM-6"],
                "Pair sums at the k-th closer than f32 resolves, on every second token.",
            ),
            Near::Pair(1e-6),
        )
        .memory(1, 16, 12, 3, 2)
        .text(1, 4)
        .wide(255, 0.03125)
        .sub_keys(255, 0.03125),
    ]
}
