//! Every rule and every setting shows: with another value, the outputs of some case labelled with its clause differ by far
//! more than bf16 loses.

use fwpkm::run::Plan;
use fwpkm_reference::rules::{Kept, PairFactor, ReadFactor, StreamCount, SubKeyLoss, ZScore};
use fwpkm_reference::settings::{Activation, Border, Norm, Score, WeightsOver};

use super::cases::{READINGS, SHOWS, Vector, difference_in, shown_in, vectors};

/// Name, clauses in whose cases it must show, and the change.
type Change = (&'static str, &'static [&'static str], fn(&mut Plan));

const RULES: &[Change] = &[
    ("read_factor", &["MEM-4"], |p| {
        p.rules.read_factor = match p.rules.read_factor {
            ReadFactor::One => ReadFactor::SlotsPerToken,
            ReadFactor::SlotsPerToken => ReadFactor::One,
        };
    }),
    ("pair_factor", &["MEM-4", "MEM-1"], |p| {
        p.rules.pair_factor = match p.rules.pair_factor {
            PairFactor::One => PairFactor::SamplesPerPair,
            PairFactor::SamplesPerPair => PairFactor::One,
        };
    }),
    ("stream_count", &["STR-1", "STR-5"], |p| {
        p.rules.stream_count = match p.rules.stream_count {
            StreamCount::Chunk => StreamCount::Call,
            StreamCount::Call => StreamCount::Chunk,
        };
    }),
    ("log_epsilon", &["ADR-3", "ADR-4"], |p| p.rules.log_epsilon = if p.rules.log_epsilon == 0.0 { 1e-8 } else { 0.0 }),
    ("kept", &["ADR-1"], |p| {
        p.rules.kept = match p.rules.kept {
            Kept::TopK => Kept::Ties,
            Kept::Ties => Kept::TopK,
        };
    }),
    ("z_score", &["PRJ-3", "PRJ-6"], |p| {
        p.rules.z_score = match p.rules.z_score {
            ZScore::Sample => ZScore::Population,
            ZScore::Population => ZScore::Sample,
        };
    }),
    ("sub_key_loss", &["MEM-6"], |p| {
        p.rules.sub_key_loss = match p.rules.sub_key_loss {
            SubKeyLoss::Sum => SubKeyLoss::Mean,
            SubKeyLoss::Mean => SubKeyLoss::Sum,
        };
    }),
];

const READING: &[Change] = &[
    ("epsilon 1e-4", &["SCR-1", "ADR-5", "RD-1"], |p| p.settings.score = with_epsilon(p.settings.score, 1e-4)),
    ("epsilon 1e-3", &["SCR-1"], |p| p.settings.score = with_epsilon(p.settings.score, 1e-3)),
    ("dot product", &["SCR-1", "ADR-5"], |p| p.settings.score = Score::DotProduct),
    ("inverse distance", &["SCR-2", "ADR-5"], |p| p.settings.score = Score::InverseDistance { epsilon: 1e-3 }),
    ("one slot more", &["SEL-1", "SEL-2", "SEL-4"], |p| p.settings.top_k += 1),
    ("one slot fewer", &["SEL-1", "SEL-2"], |p| p.settings.top_k -= 1),
    ("softmax", &["RD-2", "MEM-6"], |p| p.settings.activation = Activation::Softmax),
    ("silu", &["RD-1", "RD-2"], |p| p.settings.activation = Activation::Silu),
    ("relu", &["RD-1", "RD-2"], |p| p.settings.activation = Activation::Relu),
    ("no temperature", &["RD-1", "RD-2", "MEM-6"], |p| p.settings.temperature = 1.0),
    ("temperature of the square root of d_k", &["RD-1", "RD-2"], |p| {
        p.settings.temperature = (p.settings.key_dim as f64).sqrt();
    }),
    ("softmax over all heads", &["RD-1", "BAT-4"], |p| p.settings.weights_over = WeightsOver::AllHeads),
    ("softmax of each head", &["RD-1"], |p| p.settings.weights_over = WeightsOver::EachHead),
    ("writes", &["BAT-4"], |p| p.settings.writes = true),
    ("no writes", &["MEM-5", "CHK-2"], |p| p.settings.writes = false),
];

const STEPS: &[Change] = &[
    ("a token more per chunk", &["STR-2", "STR-3", "CHK-1"], |p| p.settings.chunk += 1),
    ("a token fewer per chunk", &["STR-2", "STR-3", "CHK-1"], |p| p.settings.chunk -= 1),
    ("a token more of lookahead", &["MEM-1", "STR-3"], |p| p.settings.lookahead += 1),
    ("a token fewer of lookahead", &["MEM-1", "STR-3"], |p| {
        p.settings.lookahead = p.settings.lookahead.wrapping_sub(1);
    }),
    ("no lookahead", &["MEM-1", "STR-2", "STR-3"], |p| p.settings.lookahead = 0),
    ("the other border", &["STR-2", "STR-3", "MEM-1"], |p| {
        p.settings.border = match p.settings.border {
            Border::Drop => Border::Carry,
            Border::Carry => Border::Drop,
        };
    }),
    ("the other flush", &["STR-4"], |p| p.flush = !p.flush),
    ("one call", &["STR-5"], |p| p.calls = None),
    ("half the learning rate", &["MEM-5", "ADR-6"], |p| p.settings.learning_rate *= 0.5),
    ("learning rate 1", &["MEM-5"], |p| p.settings.learning_rate = 1.0),
    ("no decay", &["MEM-5", "ADR-6", "CHK-3"], |p| p.settings.weight_decay = 0.0),
    ("no clipping", &["MEM-5", "ADR-6"], |p| p.settings.gradient_clip = None),
    ("clipping at 1", &["MEM-5", "ADR-6"], |p| p.settings.gradient_clip = Some(1.0)),
    ("no addressing", &["ADR-2", "ADR-3", "ADR-4", "ADR-5", "ADR-6", "CHK-3"], |p| p.settings.addressing_weight = 0.0),
    ("addressing weight 1", &["ADR-3", "ADR-6"], |p| p.settings.addressing_weight = 1.0),
    ("addressing weight 10", &["ADR-3", "ADR-6"], |p| p.settings.addressing_weight = 10.0),
    ("memorization gradient to the sub-keys", &["CHK-2"], |p| p.settings.memory_gradient_to_sub_keys = true),
    ("no memorization gradient to the sub-keys", &["MEM-6", "CHK-2"], |p| {
        p.settings.memory_gradient_to_sub_keys = false;
    }),
];

const LAYERS: &[Change] = &[
    ("values not normalised", &["PRJ-3", "PRJ-4", "PRJ-6"], |p| p.settings.value_norm = Norm::None),
    ("values z-scored", &["PRJ-4", "OUT-1"], |p| p.settings.value_norm = Norm::ZScore),
    ("values l2-normalised", &["PRJ-3"], |p| p.settings.value_norm = Norm::L2),
    ("queries not normalised", &["PRJ-6"], |p| p.settings.query_norm = Norm::None),
    ("queries z-scored", &["PRJ-6"], |p| p.settings.query_norm = Norm::ZScore),
    ("queries l2-normalised", &["PRJ-6"], |p| p.settings.query_norm = Norm::L2),
    ("no output gate", &["OUT-1", "PRJ-5"], |p| p.settings.output_gate = false),
    ("the gate weighs the loss", &["MEM-2"], |p| p.settings.gate_weighted_loss = true),
    ("the gate does not weigh the loss", &["MEM-2"], |p| p.settings.gate_weighted_loss = false),
    ("the gate mixes the output", &["OUT-1"], |p| p.settings.output_gate = true),
    ("rms_epsilon 1e-6", &["PRJ-1"], |p| p.settings.rms_epsilon = 1e-6),
    ("rms_epsilon 1e-5", &["PRJ-1"], |p| p.settings.rms_epsilon = 1e-5),
];

fn with_epsilon(score: Score, epsilon: f64) -> Score {
    match score {
        Score::InverseDistance { .. } => Score::InverseDistance { epsilon },
        Score::DotProduct => Score::DotProduct,
    }
}

/// Under the paper's rules no cut of a text shows (STR-1).
const CUT_FREE: (&str, &str, &str) = ("one call", "STR-5", "paper");

/// The case of a clause, under a reading, in which a change shows most
fn most<'a>(vectors: &'a [Vector], clause: &str, reading: &str, change: fn(&mut Plan)) -> (f64, String, &'a str) {
    let mut most = (0.0, String::new(), "none");
    for vector in vectors.iter().filter(|vector| vector.is_for(clause, reading)) {
        let mut plan = vector.plan.clone();
        change(&mut plan);
        let (Some(own), Some(other)) = (vector.outputs(&vector.plan), vector.outputs(&plan)) else { continue };
        let (difference, tensor) = difference_in(&shown_in(clause), &own, &other);
        if difference > most.0 {
            most = (difference, tensor, &vector.name);
        }
    }
    most
}

#[test]
fn every_rule_and_setting_shows_in_a_case_of_its_clause() {
    let vectors = vectors();
    let mut hidden = Vec::new();
    for (name, clauses, change) in [RULES, READING, STEPS, LAYERS].concat() {
        for (clause, reading) in clauses.iter().flat_map(|clause| READINGS.map(|reading| (clause, reading))) {
            let (difference, tensor, case) = most(&vectors, clause, reading, change);
            println!("{name:42} {clause:6} {reading:8} {difference:9.3} {tensor:18} {case}");
            if CUT_FREE == (name, *clause, reading) {
                assert_eq!(difference, 0.0, "{name} shows under {reading}");
            } else if difference <= SHOWS {
                hidden.push(format!("{name} in {clause}, {reading}: at most {difference:.3}, {tensor} of {case}"));
            }
        }
    }
    assert!(hidden.is_empty(), "changes that no case shows:\n{}", hidden.join("\n"));
}

#[test]
fn an_unchanged_run_shows_nothing() {
    for vector in vectors() {
        let (own, again) = (vector.outputs(&vector.plan).unwrap(), vector.outputs(&vector.plan).unwrap());
        assert_eq!(difference_in(&["out."], &own, &again).0, 0.0, "{}", vector.name);
    }
}
