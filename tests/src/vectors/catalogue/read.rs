//! Weights and reads; static PKM.                                              RD-1 … RD-3, BAT-4

use fwpkm_reference::settings::{Activation, Score, WeightsOver};

use crate::vectors::draw::Grid;
use crate::vectors::entry::{Entry, Queries, entry};

pub(super) fn entries() -> Vec<Entry> {
    let mut entries = softmax();
    entries.extend(other_activations());
    entries.extend(static_memory());
    entries
}

fn softmax() -> Vec<Entry> {
    vec![
        entry("rd_1_over_all_heads", &["RD-1", "RD-3"], "One softmax over the slots of three heads.")
            .memory(3, 6, 4, 5, 2)
            .text(1, 6)
            .reading(),
        entry("rd_1_each_head", &["RD-1", "RD-3"], "A softmax for each of three heads.")
            .memory(3, 7, 6, 4, 2)
            .text(2, 4)
            .set(|s| s.weights_over = WeightsOver::EachHead)
            .reading(),
        entry("rd_1_temperature_2", &["RD-1"], "Pair scores divided by 2.")
            .memory(1, 8, 4, 5, 4)
            .text(1, 6)
            .near(8)
            .set(|s| s.temperature = 2.0)
            .reading(),
        entry("rd_1_temperature_half", &["RD-1"], "Pair scores divided by 0.5, each head alone.")
            .memory(3, 7, 4, 5, 2)
            .text(1, 5)
            .near(40)
            .set(|s| (s.temperature, s.weights_over) = (0.5, WeightsOver::EachHead))
            .reading(),
        entry(
            "rd_3_one_slot_of_two_heads",
            &["RD-3", "RD-1"],
            "Heads that read the same slot: it has an entry for each.",
        )
        .memory(3, 5, 4, 6, 2)
        .text(1, 7)
        .draw(|inputs| inputs.queries = Queries::Near { first: 2, offset: Grid { most: 6, unit: 0.03125 } })
        .reading(),
        entry("rd_3_wide_values", &["RD-3"], "d_v = 13, one token alone.").memory(1, 6, 4, 13, 3).text(1, 1).reading(),
    ]
}

fn other_activations() -> Vec<Entry> {
    let with = |entry: Entry, activation| entry.set(|s| s.activation = activation).reading();
    vec![
        with(
            entry("rd_2_silu", &["RD-2", "RD-3"], "silu of negative pair scores, three heads, ε = 1."),
            Activation::Silu,
        )
        .memory(3, 7, 4, 5, 2)
        .text(1, 6)
        .set(|s| s.score = Score::InverseDistance { epsilon: 1.0 }),
        with(entry("rd_2_silu_temperature", &["RD-2"], "silu with temperature 2, dot products."), Activation::Silu)
            .memory(1, 8, 6, 5, 3)
            .text(2, 4)
            .wide(48, 0.03125)
            .set(|s| (s.temperature, s.score) = (2.0, Score::DotProduct)),
        with(entry("rd_2_relu", &["RD-2", "RD-3"], "relu of pair scores of both signs."), Activation::Relu)
            .memory(1, 7, 6, 5, 4)
            .text(1, 8)
            .near(40),
        with(
            entry("rd_2_relu_temperature", &["RD-2"], "relu with temperature 0.5, three heads, dot products."),
            Activation::Relu,
        )
        .memory(3, 5, 6, 4, 2)
        .text(1, 6)
        .wide(48, 0.03125)
        .set(|s| (s.temperature, s.score) = (0.5, Score::DotProduct)),
    ]
}

fn static_memory() -> Vec<Entry> {
    let text = |entry: Entry| entry.memory(3, 8, 6, 5, 4).text(2, 5).reading();
    vec![
        text(entry(
            "bat_4_static_pkm",
            &["BAT-4", "RD-1", "SCR-2"],
            "Static PKM: dot products, a softmax for each head, no writes.",
        ))
        .wide(40, 0.03125)
        .set(|s| (s.score, s.weights_over) = (Score::DotProduct, WeightsOver::EachHead))
        .least(super::CLOSER),
        text(entry("bat_4_no_writes", &["BAT-4"], "No writes although η, decay and border ask for them."))
            .carry(2, 1)
            .set(|s| (s.weight_decay, s.learning_rate) = (0.25, 0.5))
            .least(super::CLOSER),
    ]
}
