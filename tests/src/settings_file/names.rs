//! The names that the values of settings and rules have in a file.

use fwpkm_reference::rules::{Kept, PairFactor, ReadFactor, StreamCount, SubKeyLoss, ZScore};
use fwpkm_reference::settings::{Activation, Border, Norm, WeightsOver};
use serde::{Deserialize, Serialize};

macro_rules! names {
    ($(#[$doc:meta])* $name:ident => $target:ty { $($word:ident = $text:literal => $value:path),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Deserialize, Serialize)]
        pub enum $name { $(#[serde(rename = $text)] #[doc = $text] $word),+ }
        impl From<$name> for $target {
            fn from(name: $name) -> Self {
                match name { $($name::$word => $value),+ }
            }
        }
        impl From<$target> for $name {
            fn from(value: $target) -> Self {
                match value { $($value => $name::$word),+ }
            }
        }
    };
}

names!(/// Names of [`Border`].
    BorderName => Border { Drop = "drop" => Border::Drop, Carry = "carry" => Border::Carry });
names!(/// Names of [`Activation`].
    ActivationName => Activation { Softmax = "softmax" => Activation::Softmax, Silu = "silu" => Activation::Silu,
        Relu = "relu" => Activation::Relu });
names!(/// Names of [`WeightsOver`].
    WeightsOverName => WeightsOver { AllHeads = "all_heads" => WeightsOver::AllHeads,
        EachHead = "each_head" => WeightsOver::EachHead });
names!(/// Names of [`Norm`].
    NormName => Norm { ZScore = "z_score" => Norm::ZScore, L2 = "l2" => Norm::L2, None = "none" => Norm::None });
names!(/// Names of [`ReadFactor`].
    ReadFactorName => ReadFactor { One = "one" => ReadFactor::One,
        SlotsPerToken = "slots_per_token" => ReadFactor::SlotsPerToken });
names!(/// Names of [`PairFactor`].
    PairFactorName => PairFactor { One = "one" => PairFactor::One,
        SamplesPerPair = "samples_per_pair" => PairFactor::SamplesPerPair });
names!(/// Names of [`StreamCount`].
    StreamCountName => StreamCount { Chunk = "chunk" => StreamCount::Chunk, Call = "call" => StreamCount::Call });
names!(/// Names of [`Kept`].
    KeptName => Kept { TopK = "top_k" => Kept::TopK, Ties = "ties" => Kept::Ties });
names!(/// Names of [`ZScore`].
    ZScoreName => ZScore { Sample = "sample" => ZScore::Sample, Population = "population" => ZScore::Population });
names!(/// Names of [`SubKeyLoss`].
    SubKeyLossName => SubKeyLoss { Sum = "sum" => SubKeyLoss::Sum, Mean = "mean" => SubKeyLoss::Mean });

/// Names of the two scores.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ScoreName {
    /// -ln(ε + |q - K|²)
    InverseDistance,
    /// q · K
    DotProduct,
}
