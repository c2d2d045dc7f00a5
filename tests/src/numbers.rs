//! The number types an implementation may compute in and keep its results in.               NUM-1, NUM-9

use fwpkm_reference::Scalar;
use fwpkm_spec::ElementType;
use half::{bf16, f16};
use serde::{Deserialize, Serialize};

/// What an implementation computes in, and what it keeps its results in.                              [NUM-9]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Numbers {
    /// Computed and kept in f64.
    F64,
    /// Computed and kept in f32.
    F32,
    /// Computed in f32; every result of a stage is rounded to bf16.
    Bf16,
    /// Computed in f32; every result of a stage is rounded to f16.
    F16,
}

impl Numbers {
    /// All of them, widest first.
    pub const ALL: [Self; 4] = [Self::F64, Self::F32, Self::Bf16, Self::F16];

    /// In small letters, as in files and arguments.
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }

    /// The type that results are kept in, as a type of a file.
    pub fn element_type(self) -> ElementType {
        match self {
            Self::F64 => ElementType::F64,
            Self::F32 => ElementType::F32,
            Self::Bf16 => ElementType::Bf16,
            Self::F16 => ElementType::F16,
        }
    }

    /// The type that is computed in, as the numbers of an implementation that keeps its results in it.
    pub fn computed_in(self) -> Self {
        if self == Self::F64 { Self::F64 } else { Self::F32 }
    }

    /// Relative error of keeping a result; 0 where it is kept as it was computed.
    pub fn keeping(self) -> f64 {
        match self {
            Self::F64 | Self::F32 => 0.0,
            Self::Bf16 => 2f64.powi(-8),
            Self::F16 => 2f64.powi(-11),
        }
    }

    /// Error of keeping a number near zero, where the type's numbers are equally spaced.
    pub fn spacing(self) -> f64 {
        match self {
            Self::F64 | Self::F32 => 0.0,
            Self::Bf16 => f64::from(f32::MIN_POSITIVE),
            Self::F16 => 2f64.powi(-25),
        }
    }

    /// u of the type that results are kept in.
    pub fn unit_roundoff(self) -> f64 {
        match self {
            Self::F64 => f64::UNIT_ROUNDOFF,
            Self::F32 => f32::UNIT_ROUNDOFF,
            Self::Bf16 | Self::F16 => self.keeping(),
        }
    }

    /// The nearest number of the type that results are kept in.
    pub fn round(self, x: f64) -> f64 {
        match self {
            Self::F64 => x,
            Self::F32 => f64::from(x as f32),
            Self::Bf16 => f64::from(bf16::from_f32(x as f32).to_f32()),
            Self::F16 => f64::from(f16::from_f32(x as f32).to_f32()),
        }
    }

    /// How the stages keep their results.
    pub fn keep<S: Scalar>(self) -> Option<fn(S) -> S> {
        match self {
            Self::F64 | Self::F32 => None,
            Self::Bf16 => Some(|x| S::from_f64(Self::Bf16.round(x.to_f64()))),
            Self::F16 => Some(|x| S::from_f64(Self::F16.round(x.to_f64()))),
        }
    }
}
