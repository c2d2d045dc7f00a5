//! Outer gradients.                                                                          GRD-1 … GRD-7

use fwpkm_reference::settings::{Activation, Score, WeightsOver};

use super::{CLOSER, ORDER_ONLY};
use crate::vectors::entry::{Asked, Entry, entry};

pub(super) fn entries() -> Vec<Entry> {
    let mut entries = through_texts();
    entries.extend(through_readings());
    entries.extend(through_value_steps());
    entries.extend(through_sub_key_steps());
    entries
}

fn through_texts() -> Vec<Entry> {
    let small = |entry: Entry| entry.set(|s| s.learning_rate = 0.5).least(CLOSER);
    vec![
        small(entry(
            "grd_1_three_chunks",
            &["GRD-1", "GRD-5", "GRD-6"],
            "Gradients through three steps, the last one short.",
        ))
        .memory(1, 3, 4, 5, 2)
        .drop(3, 1)
        .text(1, 8)
        .run(&[])
        .differentiated(Asked::Reads),
        small(entry("grd_1_carry", &["GRD-1", "GRD-5"], "Under border carry: steps read their chunk again."))
            .memory(1, 5, 4, 3, 2)
            .carry(2, 1)
            .text(2, 6)
            .run(&[])
            .only(crate::vectors::entry::Folder::Paper)
            .differentiated(Asked::ReadsAndTables),
        small(entry(
            "grd_1_two_heads",
            &["GRD-1", "GRD-3", "GRD-6"],
            "Two heads, two sequences, gates and a mask, two steps.",
        ))
        .memory(2, 5, 4, 3, 2)
        .drop(3, 0)
        .text(2, 6)
        .gates(&[0.25, 0.5, 1.0])
        .mask(&["110111", "111101"])
        .run(&[])
        .differentiated(Asked::ReadsAndTables),
    ]
}

fn through_readings() -> Vec<Entry> {
    let read = |entry: Entry| entry.text(1, 4).reading().differentiated(Asked::Reads);
    vec![
        read(entry("grd_3_over_all_heads", &["GRD-3", "GRD-4"], "Back through one softmax over two heads, τ = 2."))
            .memory(2, 6, 4, 5, 3)
            .set(|s| s.temperature = 2.0)
            .near(8),
        read(entry("grd_3_each_head", &["GRD-3"], "Back through a softmax for each of two heads."))
            .memory(2, 6, 4, 3, 3)
            .set(|s| s.weights_over = WeightsOver::EachHead)
            .near(8),
        read(entry("grd_3_silu", &["GRD-3", "GRD-4"], "Back through silu of dot products, τ = 2."))
            .memory(1, 7, 6, 4, 3)
            .wide(48, 0.03125)
            .set(|s| (s.activation, s.score, s.temperature) = (Activation::Silu, Score::DotProduct, 2.0)),
        read(entry("grd_3_relu", &["GRD-3"], "Back through relu of pair scores of both signs."))
            .memory(1, 7, 6, 5, 4)
            .near(31)
            .set(|s| s.activation = Activation::Relu),
        read(entry("grd_4_epsilon", &["GRD-4", "GRD-3"], "Back through distances of the size of ε = 1."))
            .memory(1, 6, 6, 4, 4)
            .near(16)
            .set(|s| s.score = Score::InverseDistance { epsilon: 1.0 })
            .least(ORDER_ONLY),
    ]
}

fn through_value_steps() -> Vec<Entry> {
    let stepped = |entry: Entry| entry.differentiated(Asked::ReadsAndTables).least(CLOSER);
    vec![
        stepped(entry("grd_2_clip_and_decay", &["GRD-2", "GRD-5"], "η = 0.5, clipping at 0.25, decay."))
            .memory(1, 5, 4, 3, 2)
            .drop(8, 1)
            .text(1, 8)
            .set(|s| (s.learning_rate, s.gradient_clip, s.weight_decay) = (0.5, Some(0.25), 0.125)),
        stepped(entry("grd_5_gates_and_mask", &["GRD-5", "GRD-3"], "Gates and a mask, two sequences, L = 2."))
            .memory(1, 6, 4, 5, 3)
            .drop(7, 2)
            .text(2, 7)
            .gates(&[0.25, 0.5, 1.0])
            .mask(&["1101111", "1011101"])
            .set(|s| s.addressing_weight = 0.0),
        stepped(entry(
            "grd_5_three_heads",
            &["GRD-5", "GRD-4"],
            "Three heads that read some slots more than once, L = 0.",
        ))
        .memory(3, 4, 4, 5, 2)
        .drop(7, 0)
        .text(1, 7),
    ]
}

fn through_sub_key_steps() -> Vec<Entry> {
    let stepped = |entry: Entry| entry.differentiated(Asked::ReadsAndTables).least(CLOSER);
    let moved = |entry: Entry| stepped(entry.set(|s| (s.memory_gradient_to_sub_keys, s.learning_rate) = (true, 0.25)));
    vec![
        stepped(entry("grd_6_distances", &["GRD-6", "GRD-4"], "Through the entropy of three heads, α = 4, η = 0.5."))
            .memory(3, 5, 6, 4, 2)
            .drop(8, 1)
            .text(1, 8)
            .near(12)
            .set(|s| (s.addressing_weight, s.learning_rate) = (4.0, 0.5)),
        stepped(entry(
            "grd_6_dot_products",
            &["GRD-6", "GRD-4"],
            "Through the entropy with dot products, two sequences.",
        ))
        .memory(1, 6, 4, 5, 3)
        .drop(5, 1)
        .text(2, 5)
        .wide(40, 0.03125)
        .set(|s| (s.score, s.addressing_weight) = (Score::DotProduct, 2.0)),
        moved(entry("grd_7_softmax", &["GRD-7", "GRD-6"], "Through MEM-6 with a softmax over three heads."))
            .memory(3, 5, 4, 7, 2)
            .drop(9, 1)
            .text(1, 9)
            .near(12),
        moved(entry("grd_7_silu", &["GRD-7"], "Through MEM-6 with silu of dot products, τ = 2."))
            .memory(1, 6, 6, 4, 3)
            .drop(8, 1)
            .text(1, 8)
            .wide(40, 0.03125)
            .gates(&[0.5, 1.0])
            .set(|s| (s.activation, s.score, s.temperature) = (Activation::Silu, Score::DotProduct, 2.0))
            .set(|s| s.learning_rate = 0.125),
        moved(entry("grd_7_relu", &["GRD-7"], "Through MEM-6 with relu of pair scores of both signs, a masked pair."))
            .memory(1, 6, 6, 4, 3)
            .drop(5, 0)
            .text(1, 5)
            .near(24)
            .mask(&["11011"])
            .set(|s| s.activation = Activation::Relu),
    ]
}
