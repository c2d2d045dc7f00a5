//! How the text is read, only where paper and release differ or the paper is silent.
//!
//! [`Rules::paper`] and [`Rules::release`] are two named points; SPEC.md, "Choices", gives the reasons.

use crate::error::Result;
use crate::settings::finite_at_least_zero;

/// Factor of the value step from the number of slots a token reads.                         MEM-4
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFactor {
    /// 1
    One,
    /// k·H
    SlotsPerToken,
}

/// Factor of the value step from averaging over pairs and rescaling by samples.             MEM-4
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairFactor {
    /// 1
    One,
    /// S / (B · pair positions): S counted tokens, or unmasked pairs where there is a mask.
    SamplesPerPair,
}

/// What a step under border carry is cut by and counts.                              STR-3, STR-5
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamCount {
    /// Chunks of the text.
    Chunk,
    /// Slices of the caller's calls.
    Call,
}

/// Sub-keys that take part in addressing.                                                   ADR-1
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Exactly the k best.
    TopK,
    /// All that score at least as much as the k-th best.
    Ties,
}

/// Divisor of the variance in the z-score.                                                  PRJ-3
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZScore {
    /// n - 1
    Sample,
    /// n
    Population,
}

/// Scale of the memorization loss that moves the sub-keys.                                  MEM-6
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubKeyLoss {
    /// ½ Σ over pairs and features.
    Sum,
    /// ½ mean over B · pair positions and features.
    Mean,
}

/// How the text is read. Fields are named as in SPEC.md, "Rules".
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// k·H in the value step.
    pub read_factor: ReadFactor,
    /// S / pairs in the value step.
    pub pair_factor: PairFactor,
    /// What a streamed step counts.
    pub stream_count: StreamCount,
    /// Added to the marginal usage inside the logarithm of its entropy.
    pub log_epsilon: f64,
    /// Sub-keys kept for addressing.
    pub kept: Kept,
    /// Divisor of the z-score's variance.
    pub z_score: ZScore,
    /// Scale of the memorization gradient to sub-keys.
    pub sub_key_loss: SubKeyLoss,
}

impl Rules {
    /// The paper as ruled by SPEC.md.
    pub fn paper() -> Self {
        Self {
            read_factor: ReadFactor::One,
            pair_factor: PairFactor::One,
            stream_count: StreamCount::Chunk,
            log_epsilon: 0.0,
            kept: Kept::TopK,
            z_score: ZScore::Sample,
            sub_key_loss: SubKeyLoss::Sum,
        }
    }

    /// The authors' public release.
    pub fn release() -> Self {
        Self {
            read_factor: ReadFactor::SlotsPerToken,
            pair_factor: PairFactor::SamplesPerPair,
            stream_count: StreamCount::Call,
            log_epsilon: 1e-8,
            kept: Kept::Ties,
            z_score: ZScore::Sample,
            sub_key_loss: SubKeyLoss::Mean,
        }
    }

    /// Checks every field.
    pub fn check(&self) -> Result<()> {
        finite_at_least_zero("log_epsilon", self.log_epsilon)
    }
}
