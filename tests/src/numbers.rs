//! The number types an implementation may compute in and keep its results in.               NUM-1, NUM-9

use fwpkm_reference::Scalar;
use fwpkm_spec::ElementType;
use half::{bf16, f16};
use serde::{Deserialize, Serialize};

/// What an implementation keeps its results in; it computes in this type or a wider one.                 [NUM-9]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Numbers {
    /// Computed in f64 or wider; kept in f64.
    F64,
    /// Computed in f32 or wider; kept in f32.
    F32,
    /// Computed in f32 or wider; every result of a stage is rounded to bf16.
    Bf16,
    /// Computed in f32 or wider; every result of a stage is rounded to f16.
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

    /// u_k, the relative error of keeping a result.
    pub fn unit_roundoff(self) -> f64 {
        match self {
            Self::F64 => f64::UNIT_ROUNDOFF,
            Self::F32 => f32::UNIT_ROUNDOFF,
            Self::Bf16 => 2f64.powi(-8),
            Self::F16 => 2f64.powi(-11),
        }
    }

    /// σ, the error of keeping a number near zero: it may be flushed there, and numbers of f16 are equally spaced.
    pub fn spacing(self) -> f64 {
        match self {
            Self::F64 => f64::MIN_POSITIVE,
            Self::F32 | Self::Bf16 => f64::from(f32::MIN_POSITIVE),
            Self::F16 => 2f64.powi(-25),
        }
    }

    /// What keeping a number of this size may cost.
    pub fn keeping(self, size: f64) -> f64 {
        self.unit_roundoff() * size.abs() + self.spacing()
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
