//! What a run chooses: shapes, chunk and lookahead, step size, scores, activations, normalisations.

use crate::error::{Error, Result};
use crate::scalar::Scalar;

/// When a step is taken over a text.                                                 STR-2, STR-3
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Border {
    /// A step after the last token of each chunk; queries whose target lies beyond the border lose their pair.
    Drop,
    /// A step once the targets of all queries of the chunk have been read; no pair is lost.
    Carry,
}

/// How a query is compared with a sub-key.                                           SCR-1, SCR-2
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Score {
    /// -ln(ε + |q - K|²)
    InverseDistance {
        /// ε, positive.
        epsilon: f64,
    },
    /// q · K
    DotProduct,
}

/// How pair scores become weights.                                                     RD-1, RD-2
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// e^x, normalised to sum 1.
    Softmax,
    /// x · sigmoid(x)
    Silu,
    /// max(x, 0)
    Relu,
}

/// What a softmax runs over.                                                                 RD-1
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightsOver {
    /// The heads · `top_k` slots of a token.
    AllHeads,
    /// The `top_k` slots of each head (static product key memory).
    EachHead,
}

/// Normalisation of projected values or queries.                              PRJ-3, PRJ-4, PRJ-6
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    /// (x - mean) / (std + 1e-6)
    ZScore,
    /// x / √(Σx² + 1e-6)
    L2,
    /// None.
    None,
}

/// Everything a run chooses. Fields are named as in SPEC.md, "Settings".
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct Settings {
    /// H, reads per token and their own sub-keys; the slot values are shared.
    pub heads: usize,
    /// n, sub-keys per half; the table has n² slots.
    pub sub_keys: usize,
    /// `d_k`, numbers of a query per head, even.
    pub key_dim: usize,
    /// `d_v`, numbers of a slot.
    pub value_dim: usize,
    /// k, slots read per head, 1 to n.
    pub top_k: usize,
    /// C, tokens per chunk and sequence.
    pub chunk: usize,
    /// L, how many tokens after its query the target stands.
    pub lookahead: usize,
    /// When a step is taken.
    pub border: Border,
    /// η
    pub learning_rate: f64,
    /// λ
    pub weight_decay: f64,
    /// Each gradient element is clamped to ± this.
    pub gradient_clip: Option<f64>,
    /// How scores are computed.
    pub score: Score,
    /// How weights are computed.
    pub activation: Activation,
    /// τ, divides pair scores before the activation.
    pub temperature: f64,
    /// What a softmax runs over.
    pub weights_over: WeightsOver,
    /// Whether the tables change at all; false is static product key memory.
    pub writes: bool,
    /// α, weight of the addressing loss; 0 takes no addressing step.
    pub addressing_weight: f64,
    /// Whether the memorization loss moves the sub-keys as well.
    pub memory_gradient_to_sub_keys: bool,
    /// Normalisation of projected values.
    pub value_norm: Norm,
    /// Normalisation of projected queries, each half of the H·`d_k` numbers by itself.
    pub query_norm: Norm,
    /// Whether a gate mixes read and value; without one they are added.
    pub output_gate: bool,
    /// Whether the layer's gates weigh the memorization loss.
    pub gate_weighted_loss: bool,
    /// ε of `RMSNorm`.
    pub rms_epsilon: f64,
}

impl Settings {
    /// The paper's canonical layer: n = 512, `d_k` = `d_v` = 512, H = 1, k = 8, C = 512, L = 1, η = 1.
    pub fn paper() -> Self {
        Self {
            heads: 1,
            sub_keys: 512,
            key_dim: 512,
            value_dim: 512,
            top_k: 8,
            chunk: 512,
            lookahead: 1,
            border: Border::Drop,
            learning_rate: 1.0,
            weight_decay: 0.0,
            gradient_clip: None,
            score: Score::InverseDistance { epsilon: 1e-3 },
            activation: Activation::Softmax,
            temperature: 1.0,
            weights_over: WeightsOver::AllHeads,
            writes: true,
            addressing_weight: 1.0,
            memory_gradient_to_sub_keys: false,
            value_norm: Norm::ZScore,
            query_norm: Norm::None,
            output_gate: true,
            gate_weighted_loss: true,
            rms_epsilon: 1e-5,
        }
    }

    /// Static product key memory: dot product, four heads of 32 slots, a softmax per head, no writes.     [BAT-4]
    pub fn static_pkm() -> Self {
        Self {
            heads: 4,
            top_k: 32,
            score: Score::DotProduct,
            weights_over: WeightsOver::EachHead,
            writes: false,
            ..Self::paper()
        }
    }

    /// N = n², slots of the table (saturating; shapes are checked against tensors that exist).
    pub fn slots(&self) -> usize {
        self.sub_keys.saturating_mul(self.sub_keys)
    }

    /// `d_k` / 2, numbers of a sub-key.
    pub fn half_dim(&self) -> usize {
        self.key_dim / 2
    }

    /// Checks every field by itself and against the others.
    ///
    /// # Errors   `Error::Setting`
    pub fn check(&self) -> Result<()> {
        at_least_one("heads", self.heads)?;
        at_least_one("sub_keys", self.sub_keys)?;
        at_least_one("value_dim", self.value_dim)?;
        at_least_one("chunk", self.chunk)?;
        if self.key_dim < 2 || !self.key_dim.is_multiple_of(2) {
            return Err(setting("key_dim", self.key_dim, "an even number, 2 or more"));
        }
        if self.top_k < 1 || self.top_k > self.sub_keys {
            return Err(setting("top_k", self.top_k, format!("1 to sub_keys = {}", self.sub_keys)));
        }
        if self.border == Border::Drop && self.writes && self.lookahead >= self.chunk {
            let allowed = format!("less than chunk = {} under border drop", self.chunk);
            return Err(setting("lookahead", self.lookahead, allowed));
        }
        if self.chunk.checked_add(self.lookahead).is_none() {
            return Err(setting("lookahead", self.lookahead, "chunk + lookahead below 2^64"));
        }
        finite_at_least_zero("learning_rate", self.learning_rate)?;
        finite_at_least_zero("weight_decay", self.weight_decay)?;
        finite_at_least_zero("addressing_weight", self.addressing_weight)?;
        finite_positive("temperature", self.temperature)?;
        finite_positive("rms_epsilon", self.rms_epsilon)?;
        if let Some(clip) = self.gradient_clip {
            finite_positive("gradient_clip", clip)?;
        }
        if let Score::InverseDistance { epsilon } = self.score {
            finite_positive("epsilon", epsilon)?;
        }
        if self.weights_over == WeightsOver::EachHead && self.activation != Activation::Softmax {
            return Err(setting("weights_over", "each_head", "all_heads, unless activation is softmax"));
        }
        Ok(())
    }

    /// The same, and that no number becomes infinite or 0 by rounding to the element type.
    ///
    /// # Errors   `Error::Setting`
    pub fn check_in<S: Scalar>(&self) -> Result<()> {
        self.check()?;
        let epsilon = match self.score {
            Score::InverseDistance { epsilon } => Some(epsilon),
            Score::DotProduct => None,
        };
        for (name, given) in [
            ("learning_rate", Some(self.learning_rate)),
            ("weight_decay", Some(self.weight_decay)),
            ("addressing_weight", Some(self.addressing_weight)),
            ("temperature", Some(self.temperature)),
            ("rms_epsilon", Some(self.rms_epsilon)),
            ("gradient_clip", self.gradient_clip),
            ("epsilon", epsilon),
        ] {
            let given = given.unwrap_or(0.0);
            let rounded = S::from_f64(given);
            if !rounded.is_finite() || (rounded == S::ZERO && given != 0.0) {
                let allowed = "a number that is neither infinite nor 0 in the element type of the tables";
                return Err(setting(name, given, allowed));
            }
        }
        Ok(())
    }
}

pub(crate) fn setting(name: &'static str, given: impl ToString, allowed: impl Into<String>) -> Error {
    Error::Setting { name, given: given.to_string(), allowed: allowed.into() }
}

fn at_least_one(name: &'static str, value: usize) -> Result<()> {
    if value == 0 { Err(setting(name, value, "1 or more")) } else { Ok(()) }
}

pub(crate) fn finite_at_least_zero(name: &'static str, value: f64) -> Result<()> {
    if value.is_finite() && value >= 0.0 { Ok(()) } else { Err(setting(name, value, "a finite number, 0 or more")) }
}

fn finite_positive(name: &'static str, value: f64) -> Result<()> {
    if value.is_finite() && value > 0.0 { Ok(()) } else { Err(setting(name, value, "a finite number above 0")) }
}
