//! Pairs, losses, read counts, value gradient and step.                                MEM-1 … MEM-6

use fwpkm_reference::settings::{Activation, Score, WeightsOver};

use crate::vectors::draw::Grid;
use crate::vectors::entry::{Entry, Folder, Queries, Table, entry};

/// Gates with few bits, some of them 0 or above 1.
const GATES: &[f64] = &[0.0, 0.25, 0.5, 0.75, 1.0, 1.5];

pub(super) fn entries() -> Vec<Entry> {
    let mut entries = pairs();
    entries.extend(counts());
    entries.extend(factors());
    entries.extend(steps());
    entries.extend(to_sub_keys());
    entries.extend(to_sub_keys_by_mean());
    entries
}

/// The first `first` sub-keys of each half, so that few slots are read often
fn crowded(entry: Entry, first: usize, most: u32) -> Entry {
    entry.draw(|inputs| inputs.queries = Queries::Near { first, offset: Grid { most, unit: 0.03125 } })
}

fn pairs() -> Vec<Entry> {
    vec![
        entry("mem_1_lookahead_0", &["MEM-1", "MEM-2"], "L = 0: each token's own value is its target.")
            .memory(1, 7, 4, 5, 3)
            .drop(6, 0)
            .text(1, 6),
        entry(
            "mem_1_lookahead_3",
            &["MEM-1", "MEM-2", "CHK-2"],
            "L = 3: the last three queries of the chunk have no target.",
        )
        .memory(3, 7, 4, 4, 2)
        .drop(8, 3)
        .text(1, 8),
        entry(
            "mem_1_mask",
            &["MEM-1", "MEM-3", "MEM-4"],
            "A mask that differs between query and target: the query's decides.",
        )
        .memory(1, 6, 4, 5, 3)
        .drop(9, 2)
        .text(1, 9)
        .mask(&["110100111"]),
        entry(
            "mem_1_all_masked",
            &["MEM-1", "MEM-3", "CHK-2"],
            "Every pair is masked: the value table stays, N_i and p̄ still count.",
        )
        .memory(1, 7, 4, 4, 2)
        .drop(6, 1)
        .text(1, 6)
        .mask(&["000000"]),
        entry(
            "mem_1_carry",
            &["MEM-1", "STR-3", "CHK-2"],
            "One chunk of border carry: all queries of it have a target.",
        )
        .memory(3, 7, 4, 8, 2)
        .carry(5, 4)
        .text(1, 9),
        entry("mem_2_gates", &["MEM-2", "MEM-4"], "Gates weigh loss and gradient; some are 0, some above 1.")
            .memory(1, 6, 4, 5, 3)
            .drop(9, 2)
            .text(1, 9)
            .gates(GATES),
        entry("mem_2_gates_and_mask", &["MEM-1", "MEM-2", "BAT-1"], "Gates and a mask in three sequences.")
            .memory(1, 5, 4, 7, 2)
            .drop(6, 2)
            .text(3, 6)
            .gates(GATES)
            .mask(&["110111", "011011", "111101"]),
    ]
}

fn counts() -> Vec<Entry> {
    vec![
        crowded(entry("mem_3_hot_slot", &["MEM-3", "MEM-4", "STA-1"], "One slot read by nearly every token."), 1, 8)
            .memory(1, 6, 4, 5, 2)
            .drop(11, 3)
            .text(1, 11),
        crowded(
            entry(
                "mem_3_heads_share_a_slot",
                &["MEM-3", "MEM-4"],
                "Slots read by several heads of one token count once for each.",
            ),
            1,
            4,
        )
        .memory(3, 8, 4, 7, 2)
        .drop(5, 1)
        .text(1, 5)
        .draw(|inputs| inputs.values = Grid { most: 128, unit: 0.03125 }),
        entry(
            "mem_3_without_target",
            &["MEM-3", "MEM-4", "MEM-1"],
            "More tokens without a target than with one: their reads count in N_i.",
        )
        .memory(1, 4, 4, 5, 2)
        .drop(10, 7)
        .text(1, 10)
        .near(8),
        entry(
            "mem_3_masked_reads",
            &["MEM-3", "MEM-4", "MEM-1"],
            "More masked tokens than others: their reads count in N_i.",
        )
        .memory(1, 4, 4, 5, 2)
        .drop(11, 1)
        .text(1, 11)
        .near(8)
        .mask(&["10010001000"]),
    ]
}

fn factors() -> Vec<Entry> {
    vec![
        entry("mem_4_one_head", &["MEM-4", "MEM-5", "CHK-1"], "The value gradient: k = 3, C/(C - L) = 9/5.")
            .memory(1, 6, 4, 7, 3)
            .drop(9, 4)
            .text(1, 9),
        entry("mem_4_heads_and_sequences", &["MEM-4", "BAT-1"], "k·H = 12, B = 5, C/(C - L) = 7/4.")
            .memory(3, 6, 4, 7, 4)
            .drop(7, 3)
            .text(5, 7)
            .least(super::CLOSER)
            .set(|s| s.learning_rate = 0.25),
        entry(
            "mem_4_masked_samples",
            &["MEM-4", "MEM-1"],
            "With a mask, S counts unmasked pairs: 4 of 9 in two sequences.",
        )
        .memory(1, 6, 6, 5, 3)
        .drop(7, 2)
        .text(2, 7)
        .mask(&["0101001", "1001010"]),
        entry(
            "mem_4_short_chunk",
            &["MEM-4", "CHK-3", "STR-4"],
            "A short chunk closed by the flush: C = 12, but 5 tokens.",
        )
        .memory(1, 6, 4, 7, 3)
        .drop(12, 1)
        .text(1, 5),
        entry("mem_4_relu", &["MEM-4", "RD-2"], "relu: weights do not sum to 1.")
            .memory(1, 7, 6, 5, 3)
            .drop(6, 2)
            .text(1, 6)
            .near(32)
            .set(|s| (s.activation, s.learning_rate) = (Activation::Relu, 0.03125)),
        entry("mem_4_each_head", &["MEM-4", "RD-1"], "A softmax for each of three heads.")
            .memory(3, 5, 4, 8, 2)
            .drop(11, 7)
            .text(1, 11)
            .set(|s| (s.weights_over, s.learning_rate) = (WeightsOver::EachHead, 0.25)),
    ]
}

fn steps() -> Vec<Entry> {
    let text = |entry: Entry| entry.memory(1, 6, 4, 7, 2).drop(8, 3).text(1, 8);
    vec![
        text(entry("mem_5_learning_rate", &["MEM-5"], "η = 0.25.")).set(|s| s.learning_rate = 0.25),
        text(entry("mem_5_decay", &["MEM-5", "ADR-6"], "Weight decay moves every slot and sub-key, touched or not."))
            .set(|s| (s.learning_rate, s.weight_decay) = (0.5, 0.75)),
        text(entry("mem_5_clip", &["MEM-5"], "Gradient elements clipped at 0.125, after N_i and the factors."))
            .set(|s| s.gradient_clip = Some(0.125)),
        text(entry("mem_5_clip_and_decay", &["MEM-5", "ADR-6"], "Decay is added after clipping."))
            .set(|s| (s.learning_rate, s.weight_decay, s.gradient_clip) = (0.75, 0.375, Some(0.25)))
            .gates(GATES),
        entry("mem_5_clip_1", &["MEM-5"], "Clipping at 1, three heads, large targets.")
            .memory(3, 5, 6, 4, 2)
            .drop(8, 1)
            .text(1, 8)
            .draw(|inputs| inputs.values = Grid { most: 128, unit: 0.0625 })
            .set(|s| (s.gradient_clip, s.learning_rate) = (Some(1.0), 0.5)),
    ]
}

fn to_sub_keys() -> Vec<Entry> {
    let to_sub_keys = |entry: Entry, addressing: f64| {
        entry.set(|s| {
            s.memory_gradient_to_sub_keys = true;
            s.addressing_weight = addressing;
            s.learning_rate = 0.0625;
        })
    };
    vec![
        to_sub_keys(
            entry("mem_6_softmax", &["MEM-6", "CHK-2"], "The memorization gradient to the sub-keys, alone."),
            0.0,
        )
        .memory(1, 6, 6, 4, 3)
        .drop(7, 2)
        .text(1, 7),
        to_sub_keys(
            entry(
                "mem_6_with_addressing",
                &["MEM-6", "ADR-6", "CHK-2"],
                "Both gradients of the sub-keys, three heads, gates.",
            ),
            4.0,
        )
        .memory(3, 5, 4, 8, 2)
        .drop(7, 3)
        .text(1, 7)
        .gates(GATES),
        to_sub_keys(entry("mem_6_temperature", &["MEM-6", "RD-1"], "Temperature 2, a softmax for each head."), 0.0)
            .memory(3, 5, 4, 7, 2)
            .drop(9, 1)
            .text(1, 9)
            .set(|s| (s.temperature, s.weights_over) = (2.0, WeightsOver::EachHead)),
        to_sub_keys(entry("mem_6_silu", &["MEM-6", "RD-2"], "silu, temperature 2, a mask in two sequences."), 0.0)
            .memory(1, 6, 4, 5, 3)
            .drop(7, 2)
            .text(2, 7)
            .near(32)
            .mask(&["1101110", "0111111"])
            .set(|s| (s.activation, s.temperature, s.learning_rate) = (Activation::Silu, 2.0, 0.007_812_5)),
        to_sub_keys(entry("mem_6_relu", &["MEM-6", "RD-2"], "relu: entries below 0 take no gradient."), 0.0)
            .memory(1, 7, 6, 6, 4)
            .drop(8, 3)
            .text(1, 8)
            .near(20)
            .set(|s| (s.activation, s.learning_rate) = (Activation::Relu, 0.015_625)),
        to_sub_keys(
            entry(
                "mem_6_dot_product",
                &["MEM-6", "SCR-2", "CHK-2"],
                "Dot products: the gradient runs along the query.",
            ),
            0.5,
        )
        .memory(1, 6, 6, 4, 3)
        .drop(9, 4)
        .text(1, 9)
        .wide(32, 0.03125)
        .set(|s| s.score = Score::DotProduct),
    ]
}

/// The release's mean over pairs and features, with few of both and large numbers, so that it shows.
fn to_sub_keys_by_mean() -> Vec<Entry> {
    let large = Grid { most: 128, unit: 0.03125 };
    let by_mean = |entry: Entry| {
        let entry = entry.sub_keys(24, 0.03125).near(12).only(Folder::Release).draw(|inputs| {
            inputs.slot_values = Table::Drawn(large);
            inputs.values = large;
        });
        entry.set(|s| {
            s.memory_gradient_to_sub_keys = true;
            (s.addressing_weight, s.learning_rate) = (0.0, 0.25);
        })
    };
    vec![
        by_mean(entry("mem_6_mean", &["MEM-6", "CHK-2"], "The mean's gradient to the sub-keys, temperature 2."))
            .memory(1, 5, 4, 3, 2)
            .drop(6, 2)
            .text(1, 6)
            .set(|s| s.temperature = 2.0),
        by_mean(entry("mem_6_mean_of_heads", &["MEM-6", "CHK-2"], "The same with three heads, a softmax for each."))
            .memory(3, 7, 4, 2, 4)
            .drop(8, 3)
            .text(1, 8)
            .set(|s| s.weights_over = WeightsOver::EachHead),
        by_mean(entry("mem_6_mean_silu", &["MEM-6", "CHK-2"], "The same with silu, dot products and addressing."))
            .memory(1, 6, 6, 2, 3)
            .drop(5, 1)
            .text(1, 5)
            .wide(24, 0.03125)
            .set(|s| {
                (s.score, s.activation, s.addressing_weight) = (Score::DotProduct, Activation::Silu, 0.5);
            }),
    ]
}
