//! Marginal usage, entropy, sub-key gradient and step.                                 ADR-1 … ADR-6

use fwpkm_reference::Rules;
use fwpkm_reference::settings::{Activation, Score};

use crate::vectors::draw::Grid;
use crate::vectors::entry::{Entry, Folder, Least, Queries, Table, entry};

pub(super) fn entries() -> Vec<Entry> {
    let mut entries = kept();
    entries.extend(marginals());
    entries.extend(log_epsilon());
    entries.extend(gradients());
    entries.extend(steps());
    entries
}

fn kept() -> Vec<Entry> {
    vec![
        entry(
            "adr_1_temperature",
            &["ADR-1", "ADR-2"],
            "Temperature 4 acts on weights, not on addressing; the k best are kept.",
        )
        .memory(1, 7, 4, 5, 3)
        .drop(4, 2)
        .text(1, 4)
        .sub_keys(24, 0.03125)
        .near(8)
        .set(|s| s.temperature = 4.0),
        entry("adr_1_silu", &["ADR-1", "ADR-4"], "silu weighs reads; addressing stays a softmax.")
            .memory(3, 7, 4, 8, 2)
            .drop(5, 1)
            .text(1, 5)
            .sub_keys(24, 0.03125)
            .near(24)
            .set(|s| (s.addressing_weight, s.activation, s.learning_rate) = (64.0, Activation::Silu, 0.003_906_25)),
        tied(entry(
            "adr_1_ties",
            &["ADR-1", "SEL-1"],
            "Four sub-keys tie at the second place: two are kept, or all that tie.",
        ))
        .memory(1, 5, 2, 3, 2)
        .drop(2, 1)
        .text(1, 2)
        .draw(|inputs| {
            inputs.sub_keys = Table::Given(vec![1.0, -1.0, 0.5, 1.0, -1.0, -2.0, 2.0, 2.0, -2.0, 0.25]);
            inputs.queries = Queries::Given(vec![0.0, 0.0, 0.0, 0.0]);
        }),
        tied(entry(
            "adr_1_ties_dot_product",
            &["ADR-1", "SCR-2"],
            "Ties of dot products in one half only, two sequences.",
        ))
        .memory(1, 6, 2, 5, 3)
        .drop(1, 0)
        .text(2, 1)
        .set(|s| s.score = Score::DotProduct)
        .draw(|inputs| {
            let first = [1.0, 0.25, 0.25, 2.0, 0.25, 0.25];
            let second = [3.0, 2.0, 0.5, -0.5, 1.0, -1.5];
            inputs.sub_keys = Table::Given([first, second].concat());
            inputs.queries = Queries::Given(vec![1.0, 1.0, 1.5, 0.75]);
        }),
    ]
}

fn tied(mut entry: Entry) -> Entry {
    entry.ties = true;
    entry.set(|s| s.addressing_weight = 2.0).least(Least::NONE)
}

fn marginals() -> Vec<Entry> {
    vec![
        entry(
            "adr_2_heads_and_sequences",
            &["ADR-2", "ADR-5", "MEM-6", "BAT-4"],
            "One mean over the rows of three heads and two sequences, masked ones included.",
        )
        .memory(3, 5, 4, 7, 4)
        .drop(4, 1)
        .text(2, 4)
        .sub_keys(24, 0.03125)
        .near(8)
        .mask(&["1001", "0010"])
        .set(|s| s.addressing_weight = 5.0),
        entry("adr_2_without_target", &["ADR-2", "ADR-3", "CHK-2"], "Tokens without a target count in p̄.")
            .memory(1, 6, 4, 5, 2)
            .drop(7, 4)
            .text(1, 7)
            .sub_keys(24, 0.03125)
            .near(8)
            .set(|s| s.addressing_weight = 2.0),
        entry("adr_2_one_row", &["ADR-2", "ADR-4"], "One token, one head: p̄ is its softmax.")
            .memory(1, 6, 4, 5, 3)
            .drop(1, 0)
            .text(1, 1)
            .sub_keys(24, 0.03125)
            .near(8)
            .set(|s| s.addressing_weight = 0.375),
        entry("adr_3_weight_half", &["ADR-3", "ADR-4"], "α = 0.5.")
            .memory(1, 7, 4, 5, 3)
            .drop(6, 2)
            .text(1, 6)
            .sub_keys(16, 0.03125)
            .near(6)
            .set(|s| s.addressing_weight = 0.5),
        entry("adr_3_weight_10", &["ADR-3", "ADR-4", "ADR-5"], "α = 10, as some ports have it; three heads.")
            .memory(3, 7, 6, 8, 2)
            .drop(5, 1)
            .text(1, 5)
            .near(16)
            .set(|s| s.addressing_weight = 10.0),
        entry("adr_3_weight_0", &["ADR-3", "ADR-6"], "α = 0: p̄ and H are reported, the sub-keys stay.")
            .memory(1, 8, 4, 5, 3)
            .drop(7, 1)
            .text(1, 7)
            .set(|s| s.addressing_weight = 0.0),
    ]
}

/// Sub-keys of which the first of each half wins every query by 26 to 33, so that the others have p̄ below 1e-11
fn one_sided(entry: Entry) -> Entry {
    entry.memory(1, 4, 4, 5, 2).drop(3, 0).text(1, 3).set(|s| s.score = Score::DotProduct).draw(|inputs| {
        let half = [2.0, 2.0, -2.0, -2.0, -2.25, -2.5, -2.625, -3.0];
        inputs.sub_keys = Table::Given([half, half].concat());
        let queries = [4.0, 3.5, 3.5, 4.25, 3.75, 4.0, 3.5, 3.5, 3.5, 3.25, 4.25, 3.25];
        inputs.queries = Queries::Given(queries.to_vec());
    })
}

fn log_epsilon() -> Vec<Entry> {
    vec![
        one_sided(entry(
            "adr_4_log_epsilon",
            &["ADR-3", "ADR-4"],
            "Sub-keys with p̄ below 1e-11, where ln p̄ and ln(p̄ + 1e-8) differ.",
        )),
        one_sided(entry(
            "adr_4_log_epsilon_weighted",
            &["ADR-3", "ADR-4", "ADR-5"],
            "The same with α = 2^36, so that the sub-keys move by it.",
        ))
        .set(|s| s.addressing_weight = 36_f64.exp2()),
        entry(
            "adr_4_large_log_epsilon",
            &["ADR-3", "ADR-4"],
            "A constant of 0.25 in the logarithm: its slope shows in every arithmetic.",
        )
        .memory(3, 7, 4, 8, 2)
        .drop(5, 1)
        .text(1, 5)
        .only(Folder::Other)
        .and(Rules { log_epsilon: 0.25, ..Rules::paper() })
        .set(|s| (s.score, s.addressing_weight) = (Score::DotProduct, 4.0)),
        one_sided(entry(
            "adr_4_log_epsilon_half",
            &["ADR-3", "ADR-4", "ADR-5"],
            "Sub-keys with p̄ near 1e-8 and α = 2^12: a constant of 1e-6 in the logarithm shows in the range of f16.",
        ))
        .set(|s| s.addressing_weight = 12_f64.exp2())
        .draw(|inputs| {
            let half = [1.25, 1.25, -1.25, -1.25, -1.5, -1.5, -1.5, -1.75];
            inputs.sub_keys = Table::Given([half, half].concat());
        }),
    ]
}

fn gradients() -> Vec<Entry> {
    vec![
        entry("adr_4_dot_product", &["ADR-4", "ADR-5", "SCR-2"], "Dot products: the gradient runs along the query.")
            .memory(3, 7, 4, 8, 2)
            .drop(5, 1)
            .text(1, 5)
            .wide(64, 0.03125)
            .sub_keys(24, 0.03125)
            .set(|s| (s.score, s.addressing_weight) = (Score::DotProduct, 4.0)),
        entry("adr_5_exact_hits", &["ADR-5", "SCR-1"], "A sub-key that is hit takes no gradient from that query.")
            .memory(1, 6, 4, 3, 2)
            .drop(5, 1)
            .text(1, 5)
            .sub_keys(10, 0.03125)
            .near(0)
            .set(|s| s.addressing_weight = 0.25),
        entry("adr_5_near_epsilon", &["ADR-5", "SCR-1"], "Squared distances of the size of ε: ε in the divisor shows.")
            .memory(1, 5, 4, 7, 3)
            .drop(6, 2)
            .text(1, 6)
            .sub_keys(4, 0.03125)
            .set(|s| s.addressing_weight = 0.25)
            .draw(|inputs| inputs.queries = Queries::Near { first: 0, offset: Grid { most: 2, unit: 0.03125 } }),
        entry("adr_5_other_epsilon", &["ADR-5", "SCR-1"], "ε = 0.25 in three heads.")
            .memory(3, 7, 6, 8, 2)
            .drop(5, 1)
            .text(1, 5)
            .set(|s| (s.score, s.addressing_weight) = (Score::InverseDistance { epsilon: 0.25 }, 8.0)),
    ]
}

fn steps() -> Vec<Entry> {
    let text = |entry: Entry| entry.memory(1, 6, 4, 7, 3).drop(5, 1).text(1, 5).sub_keys(24, 0.03125).near(8);
    vec![
        text(entry("adr_6_clip", &["ADR-6", "MEM-5"], "The sub-keys' gradient clipped at 0.0625, η = 0.5."))
            .set(|s| (s.gradient_clip, s.learning_rate) = (Some(0.0625), 0.5)),
        text(entry("adr_6_decay", &["ADR-6", "MEM-5"], "Decay 0.5 of sub-keys, with addressing."))
            .set(|s| (s.weight_decay, s.learning_rate) = (0.5, 0.75)),
        text(entry(
            "adr_6_decay_without_addressing",
            &["ADR-6", "ADR-3"],
            "α = 0: decay acts on the sub-keys all the same.",
        ))
        .set(|s| (s.weight_decay, s.learning_rate, s.addressing_weight) = (0.25, 1.0, 0.0)),
        text(entry(
            "adr_6_clip_of_the_sum",
            &["ADR-6", "MEM-6"],
            "Clipping acts on the sum of both gradients, not on its parts.",
        ))
        .set(|s| {
            s.memory_gradient_to_sub_keys = true;
            (s.gradient_clip, s.addressing_weight, s.learning_rate) = (Some(0.25), 2.0, 0.5);
        }),
    ]
}
