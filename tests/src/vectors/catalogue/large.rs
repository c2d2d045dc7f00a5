//! Tables too large to store: slot values from the closed form.

use crate::vectors::entry::{Entry, Folder, Least, Table, entry};

pub(super) fn entries() -> Vec<Entry> {
    vec![
        entry(
            "large_64",
            &["SEL-3", "RD-3", "MEM-4"],
            "4,096 slots, given by the closed form: slot indices beyond 255.",
        )
        .memory(1, 64, 16, 3, 4)
        .drop(12, 5)
        .text(1, 12)
        .near(24)
        .least(Least { set: 0.05, relative: 0.02, order: 0.01, near: None })
        .draw(|inputs| inputs.slot_values = Table::ClosedForm { seed: 64, unit: 0.015_625 })
        .only(Folder::Paper),
        entry("large_80", &["SEL-3", "RD-3", "MEM-3"], "6,400 slots, given by the closed form, three heads.")
            .memory(3, 80, 8, 2, 5)
            .drop(9, 2)
            .text(1, 9)
            .near(16)
            .least(Least { set: 0.02, relative: 0.01, order: 0.005, near: None })
            .draw(|inputs| inputs.slot_values = Table::ClosedForm { seed: 80, unit: 0.015_625 })
            .only(Folder::Release),
    ]
}
