//! Other choices than the run's, whatever it chose.

use fwpkm_reference::Settings;
use fwpkm_reference::settings::{Activation, Border, Norm, Score, WeightsOver};

use super::{Change, Deviation, PORTS, RELEASE, SLIP};

macro_rules! settings {
    ($($name:literal $clause:literal $instead:literal $source:ident $change:expr;)+) => {
        pub(super) const LIST: &[Deviation] = &[$(Deviation {
            name: $name,
            clause: $clause,
            instead: $instead,
            source: $source,
            change: Change::Settings($change),
        }),+];
    };
}

settings! {
    "scr-1-epsilon-of-1e-4" "SCR-1"
        "ε is 1e-4 where SCR-1 has that of the settings" PORTS
        |s| with_epsilon(s, 1e-4);
    "scr-1-epsilon-of-1e-3" "SCR-1"
        "ε is 1e-3 where SCR-1 has that of the settings" RELEASE
        |s| with_epsilon(s, 1e-3);
    "scr-1-dot-product" "SCR-1"
        "dot products where SCR-1 has inverse distances" PORTS
        |s| s.score = Score::DotProduct;
    "scr-2-inverse-distance" "SCR-2"
        "inverse distances where SCR-2 has dot products" SLIP
        |s| if s.score == Score::DotProduct { s.score = Score::InverseDistance { epsilon: 1e-3 } };
    "rd-1-softmax-of-each-head" "RD-1"
        "each head has a softmax of its own where RD-1 takes one over all heads" PORTS
        |s| if s.activation == Activation::Softmax { s.weights_over = WeightsOver::EachHead };
    "rd-1-softmax-over-all-heads" "RD-1"
        "one softmax over all heads where RD-1 takes one for each" SLIP
        |s| s.weights_over = WeightsOver::AllHeads;
    "rd-1-temperature-left-out" "RD-1"
        "scores are not divided by the temperature where RD-1 divides them" SLIP
        |s| s.temperature = 1.0;
    "rd-1-temperature-multiplied" "RD-1"
        "scores are multiplied by the temperature where RD-1 divides them" SLIP
        |s| s.temperature = 1.0 / s.temperature;
    "rd-2-softmax-always" "RD-2"
        "softmax where RD-2 has silu or relu" SLIP
        |s| s.activation = Activation::Softmax;
    "rd-2-relu-for-silu" "RD-2"
        "relu where RD-2 has silu" SLIP
        |s| if s.activation == Activation::Silu { s.activation = Activation::Relu };
    "rd-2-silu-for-relu" "RD-2"
        "silu where RD-2 has relu" SLIP
        |s| if s.activation == Activation::Relu { s.activation = Activation::Silu };
    "mem-1-no-lookahead" "MEM-1"
        "the target is the query's own value where MEM-1 has that of L tokens later" PORTS
        |s| s.lookahead = 0;
    "mem-1-lookahead-one-more" "MEM-1"
        "the target is the value of t + L + 1 where MEM-1 has t + L" SLIP
        |s| with_lookahead(s, s.lookahead + 1);
    "mem-1-lookahead-one-less" "MEM-1"
        "the target is the value of t + L - 1 where MEM-1 has t + L" SLIP
        |s| s.lookahead = s.lookahead.saturating_sub(1);
    "mem-2-always-weighted-by-gate" "MEM-2"
        "the layer's gates weigh the pairs where MEM-2 leaves it to gate_weighted_loss" SLIP
        |s| s.gate_weighted_loss = true;
    "mem-2-gate-weighted-loss-left-out" "MEM-2"
        "the layer's gates do not weigh the pairs where MEM-2 weighs them" SLIP
        |s| s.gate_weighted_loss = false;
    "mem-5-learning-rate-of-1" "MEM-5"
        "η is 1 where MEM-5 and ADR-6 have that of the settings" SLIP
        |s| s.learning_rate = 1.0;
    "mem-5-no-decay" "MEM-5"
        "nothing decays where MEM-5 and ADR-6 decay both tables" SLIP
        |s| s.weight_decay = 0.0;
    "mem-5-no-clip" "MEM-5"
        "no gradient is clipped where MEM-5 and ADR-6 clip" SLIP
        |s| s.gradient_clip = None;
    "mem-5-clip-at-1" "MEM-5"
        "gradients are clipped at 1 where MEM-5 and ADR-6 clip at gradient_clip" RELEASE
        |s| if s.gradient_clip.is_some() { s.gradient_clip = Some(1.0) };
    "mem-5-always-clipped-at-1" "MEM-5"
        "gradients are clipped at 1 where MEM-5 and ADR-6 clip none" SLIP
        |s| if s.gradient_clip.is_none() { s.gradient_clip = Some(1.0) };
    "mem-6-also-to-sub-keys" "MEM-6"
        "the memorization gradient also reaches the sub-keys where MEM-6 keeps it off" PORTS
        |s| s.memory_gradient_to_sub_keys = true;
    "mem-6-not-to-sub-keys" "MEM-6"
        "the memorization gradient is kept off the sub-keys where MEM-6 lets it reach them" SLIP
        |s| s.memory_gradient_to_sub_keys = false;
    "adr-3-no-addressing" "ADR-3"
        "there is no addressing step where ADR-3 to ADR-6 take one" PORTS
        |s| s.addressing_weight = 0.0;
    "adr-3-weight-of-10" "ADR-3"
        "the addressing weight is 10 where ADR-3 has that of the settings" PORTS
        |s| s.addressing_weight = 10.0;
    "adr-3-weight-of-1" "ADR-3"
        "the addressing weight is 1 where ADR-3 has that of the settings" SLIP
        |s| s.addressing_weight = 1.0;
    "chk-2-steps-never-applied" "CHK-2"
        "tables are left to the outer optimizer where CHK-2 changes them" PORTS
        |s| (s.learning_rate, s.weight_decay) = (0.0, 0.0);
    "str-1-chunk-one-longer" "STR-1"
        "chunks have C + 1 tokens where STR-2 and STR-3 have C" SLIP
        |s| s.chunk += 1;
    "str-2-pairs-carried" "STR-2"
        "pairs are carried over chunk borders where STR-2 drops them" PORTS
        |s| s.border = Border::Carry;
    "str-2-chunk-of-c-plus-l" "STR-2"
        "chunks have C + L tokens, so that C of them have a target, where STR-2 has C tokens" SLIP
        |s| if s.border == Border::Drop { s.chunk += s.lookahead };
    "str-3-pairs-dropped" "STR-3"
        "pairs that cross a chunk border are dropped where STR-3 carries them" RELEASE
        |s| if s.lookahead < s.chunk { s.border = Border::Drop };
    "str-3-lookahead-tokens-lost" "STR-3"
        "the L tokens after a chunk are targets only where STR-3 keeps their own pairs" SLIP
        |s| if s.border == Border::Carry { (s.border, s.chunk) = (Border::Drop, s.chunk + s.lookahead) };
    "str-6-one-step-for-two-readings" "STR-6"
        "one step for two readings of a text (chunks of 2·C) where STR-6 takes one for each" SLIP
        |s| s.chunk *= 2;
    "bat-4-never-writes" "BAT-4"
        "no step is ever taken where BAT-4 leaves it to the setting" PORTS
        |s| s.writes = false;
    "bat-4-always-writes" "BAT-4"
        "steps are taken where BAT-4 has a static memory" SLIP
        |s| if s.lookahead < s.chunk { s.writes = true };
    "prj-1-rms-epsilon-of-1e-6" "PRJ-1"
        "the constant of RMSNorm is 1e-6 where PRJ-1 has rms_epsilon" SLIP
        |s| s.rms_epsilon = 1e-6;
    "prj-6-values-not-normalised" "PRJ-6"
        "values are not normalised where PRJ-6 takes value_norm" SLIP
        |s| s.value_norm = Norm::None;
    "prj-6-values-always-z-scored" "PRJ-6"
        "values are z-scored where PRJ-6 takes value_norm" SLIP
        |s| s.value_norm = Norm::ZScore;
    "prj-6-values-l2-for-z-score" "PRJ-6"
        "values have length 1 where PRJ-6 z-scores them" SLIP
        |s| if s.value_norm == Norm::ZScore { s.value_norm = Norm::L2 };
    "prj-6-queries-not-normalised" "PRJ-6"
        "queries are not normalised where PRJ-6 takes query_norm" SLIP
        |s| s.query_norm = Norm::None;
    "prj-6-queries-always-z-scored" "PRJ-6"
        "queries are z-scored where PRJ-6 takes query_norm" SLIP
        |s| s.query_norm = Norm::ZScore;
    "out-1-never-gated" "OUT-1"
        "read + value where OUT-1 mixes them by the gate" SLIP
        |s| s.output_gate = false;
    "out-1-always-gated" "OUT-1"
        "read and value are mixed by the gate where OUT-1 adds them" SLIP
        |s| s.output_gate = true;
}

fn with_epsilon(settings: &mut Settings, value: f64) {
    if let Score::InverseDistance { epsilon } = &mut settings.score {
        *epsilon = value;
    }
}

/// As far as the chunk allows it
fn with_lookahead(settings: &mut Settings, lookahead: usize) {
    if settings.border == Border::Carry || lookahead < settings.chunk {
        settings.lookahead = lookahead;
    }
}
