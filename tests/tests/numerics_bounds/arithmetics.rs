//! Arithmetics that the model of NUM allows, as element types: fused multiplication and addition, results flushed to zero.

use std::cmp::Ordering;
use std::ops::{Add, Div, Mul, Neg, Sub};

use fwpkm_reference::Scalar;
use fwpkm_reference::numerics::Bounded;

/// f32 in which a product that is added is fused with the addition.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fused {
    Number(f32),
    Product(f32, f32),
}

impl Fused {
    fn rounded(self) -> f32 {
        match self {
            Self::Number(x) => x,
            Self::Product(x, y) => x * y,
        }
    }
}

impl Add for Fused {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self::Number(match (self, other) {
            (Self::Product(x, y), rest) | (rest, Self::Product(x, y)) => x.mul_add(y, rest.rounded()),
            (Self::Number(x), Self::Number(y)) => x + y,
        })
    }
}

impl Neg for Fused {
    type Output = Self;
    fn neg(self) -> Self {
        match self {
            Self::Number(x) => Self::Number(-x),
            Self::Product(x, y) => Self::Product(-x, y),
        }
    }
}

impl Mul for Fused {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        Self::Product(self.rounded(), other.rounded())
    }
}

impl Div for Fused {
    type Output = Self;
    fn div(self, other: Self) -> Self {
        Self::Number(self.rounded() / other.rounded())
    }
}

/// f32 in which every result below ω is 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flushed(f32);

impl Flushed {
    fn of(x: f32) -> Self {
        Self(if x.abs() < f32::MIN_POSITIVE { 0.0 } else { x })
    }

    fn rounded(self) -> f32 {
        self.0
    }
}

impl Add for Flushed {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self::of(self.0 + other.0)
    }
}

impl Neg for Flushed {
    type Output = Self;
    fn neg(self) -> Self {
        Self(-self.0)
    }
}

impl Mul for Flushed {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        Self::of(self.0 * other.0)
    }
}

impl Div for Flushed {
    type Output = Self;
    fn div(self, other: Self) -> Self {
        Self::of(self.0 / other.0)
    }
}

macro_rules! scalar {
    ($type:ty, $of:expr) => {
        impl Sub for $type {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                self + -other
            }
        }

        impl PartialEq for $type {
            fn eq(&self, other: &Self) -> bool {
                self.rounded() == other.rounded()
            }
        }

        impl PartialOrd for $type {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                self.rounded().partial_cmp(&other.rounded())
            }
        }

        impl Scalar for $type {
            const ZERO: Self = $of(0.0);
            const ONE: Self = $of(1.0);
            const UNIT_ROUNDOFF: f64 = f32::UNIT_ROUNDOFF;

            fn from_f64(x: f64) -> Self {
                $of(x as f32)
            }
            fn to_f64(self) -> f64 {
                f64::from(self.rounded())
            }
            fn exp(self) -> Self {
                $of(self.rounded().exp())
            }
            fn ln(self) -> Self {
                $of(self.rounded().ln())
            }
            fn sqrt(self) -> Self {
                $of(self.rounded().sqrt())
            }
            fn is_finite(self) -> bool {
                self.rounded().is_finite()
            }
        }
    };
}

scalar!(Fused, Self::Number);
scalar!(Flushed, Self);

/// What is to be expected of a number: its bound, and the error of f64, which stands for exact
pub(crate) fn expected(number: Bounded<24>) -> (f64, f64) {
    (number.value(), number.error() + f64::EPSILON * number.value().abs())
}
