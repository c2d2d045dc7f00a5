//! Bounds that run along with the computation.                                                NUM-10
//!
//! ```text
//! x            an exact value with a bound e of the computed one: |x̂ - x| ≤ e
//! sum          of c terms in any order: Σe_i + γ(c - 2)·Σ(|x_i| + e_i) + (c - 1)·ω, then one rounding
//! product      |x|·e_y + |y|·e_x + e_x·e_y, then one rounding; of f factors in any order: (f - 1)·ω·Π max(1, |x_i|) more
//! quotient     (e_x + |x/y|·e_y) / (|y| - e_y), then one rounding; for underflow, a product with 1/y
//! exp, ln, √   the largest change over [x - e, x + e], then 4, 4 and 1 roundings
//! max, min     the larger of both e
//! rounding     γ(1)·(|x| + e), of a sum u·(|x| + e); and ω where it is no sum
//! exactly 0    times anything is 0; exactly 1 times or under anything changes nothing
//! ```
//!
//! [`Bounded`] is an element type, so every stage, and every other implementation of a stage, bounds itself.

use std::ops::{Add, Div, Mul, Neg, Sub};

use super::Precision;
use crate::scalar::Scalar;

/// A real number with a bound of the error that arithmetic of 24 or 53 digits may make of it.        [NUM-10]
///
/// Comparisons look at the value; equal are only numbers that are certainly equal.
///
/// ```
/// use fwpkm_reference::{Scalar, numerics::Bounded};
/// let third = Bounded::<24>::ONE / Bounded::from_f64(3.0);
/// assert_eq!(third.value(), 1.0 / 3.0);
/// assert!((f64::from(1.0f32 / 3.0) - third.value()).abs() <= third.error() && third.error() < 2.1e-8);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Bounded<const DIGITS: u32> {
    value: f64,
    /// Bound that the terms of the sum bring along.
    inherited: f64,
    /// Σ|term| of the sum that this is; its own magnitude where it is no sum.
    magnitude: f64,
    /// Terms of that sum.
    terms: f64,
    /// Factors of the product that this is; 1 where it is no product.
    factors: f64,
    /// Π max(1, |factor|) of that product: how much what underflows in a part of it may grow.
    growth: f64,
}

impl<const DIGITS: u32> Bounded<DIGITS> {
    /// u and ω
    const PRECISION: Precision = if DIGITS > 24 { Precision::F64 } else { Precision::F32 };

    /// A number that is off by at most `error`.
    pub fn new(value: f64, error: f64) -> Self {
        let magnitude = value.abs() + error;
        Self { value, inherited: error, magnitude, terms: 1.0, factors: 1.0, growth: magnitude.max(1.0) }
    }

    /// The exact number.
    pub fn value(self) -> f64 {
        self.value
    }

    /// Bound of the error of the computed one; infinite where there is none.
    pub fn error(self) -> f64 {
        let error = self.of_terms();
        // A NaN would be lost in the larger of two.
        if error.is_nan() { f64::INFINITY } else { error }
    }

    fn of_terms(self) -> f64 {
        if self.terms < 2.0 {
            return self.inherited;
        }
        // The sum of two exact numbers that is 0 is not rounded.
        if self.terms == 2.0 && self.value == 0.0 && self.inherited == 0.0 {
            return 0.0;
        }
        let Precision { unit_roundoff: u, smallest } = Self::PRECISION;
        let before_last = (self.terms - 2.0) * u;
        let gamma = if before_last <= 1.0 / 32.0 { before_last / (1.0 - before_last) } else { f64::NAN };
        let error = self.inherited + gamma * self.magnitude + (self.terms - 1.0) * smallest;
        error + u * (self.value.abs() + error)
    }

    /// A result with the error `propagated` from its operands, rounded `count` times
    fn rounded(value: f64, propagated: f64, count: f64) -> Self {
        let Precision { unit_roundoff, smallest } = Self::PRECISION;
        let roundings = count * unit_roundoff;
        Self::new(value, propagated + roundings / (1.0 - roundings) * (value.abs() + propagated) + smallest)
    }

    /// A product, or a quotient as a product with the inverse, whose factors may be taken in any order
    fn product(value: f64, propagated: f64, factors: f64, growth: f64) -> Self {
        let underflow = (factors - 1.0) * Self::PRECISION.smallest * growth;
        Self { factors, growth, ..Self::rounded(value, propagated + underflow, 1.0) }
    }

    /// As a factor: how many it stands for, and their growth
    fn as_factor(self) -> (f64, f64) {
        if self.terms < 2.0 { (self.factors, self.growth) } else { (1.0, (self.value.abs() + self.error()).max(1.0)) }
    }

    /// The one or the other, whichever is `chosen`; the choice itself may be wrong
    fn either(self, other: Self, chosen: f64) -> Self {
        Self::new(chosen, self.error().max(other.error()))
    }
}

impl<const DIGITS: u32> PartialEq for Bounded<DIGITS> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value && self.error() + other.error() == 0.0
    }
}

impl<const DIGITS: u32> PartialOrd for Bounded<DIGITS> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.value.partial_cmp(&other.value)
    }
}

impl<const DIGITS: u32> Add for Bounded<DIGITS> {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            value: self.value + other.value,
            inherited: self.inherited + other.inherited,
            magnitude: self.magnitude + other.magnitude,
            terms: self.terms + other.terms,
            // 0 + x is x
            factors: self.factors.max(other.factors),
            growth: self.growth.max(other.growth),
        }
    }
}

impl<const DIGITS: u32> Neg for Bounded<DIGITS> {
    type Output = Self;
    fn neg(self) -> Self {
        Self { value: -self.value, ..self }
    }
}

impl<const DIGITS: u32> Sub for Bounded<DIGITS> {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl<const DIGITS: u32> Mul for Bounded<DIGITS> {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        if self == Self::ZERO || other == Self::ZERO {
            return Self::new(self.value * other.value, 0.0);
        }
        if self == Self::ONE || other == Self::ONE {
            return if self == Self::ONE { other } else { self };
        }
        let (e, f) = (self.error(), other.error());
        let ((m, growth), (n, other_growth)) = (self.as_factor(), other.as_factor());
        let propagated = self.value.abs() * f + other.value.abs() * e + e * f;
        Self::product(self.value * other.value, propagated, m + n, growth * other_growth)
    }
}

impl<const DIGITS: u32> Div for Bounded<DIGITS> {
    type Output = Self;
    fn div(self, other: Self) -> Self {
        if other == Self::ONE {
            return self;
        }
        let (value, room) = (self.value / other.value, other.value.abs() - other.error());
        if room.is_nan() || room <= 0.0 {
            return Self::new(value, f64::INFINITY);
        }
        let (factors, growth) = self.as_factor();
        let propagated = (self.error() + value.abs() * other.error()) / room;
        Self::product(value, propagated, factors + 1.0, growth * (1.0 / room).max(1.0))
    }
}

impl<const DIGITS: u32> Scalar for Bounded<DIGITS> {
    const ZERO: Self = Self { value: 0.0, inherited: 0.0, magnitude: 0.0, terms: 0.0, factors: 1.0, growth: 1.0 };
    const ONE: Self = Self { value: 1.0, inherited: 0.0, magnitude: 1.0, terms: 1.0, factors: 1.0, growth: 1.0 };
    const UNIT_ROUNDOFF: f64 = Self::PRECISION.unit_roundoff;

    /// A setting: the real number, rounded once.
    fn from_f64(x: f64) -> Self {
        let exact = DIGITS > 24 || f64::from(x as f32) == x;
        if exact { Self::new(x, 0.0) } else { Self::rounded(x, 0.0, 1.0) }
    }
    fn to_f64(self) -> f64 {
        self.value
    }
    fn exp(self) -> Self {
        let value = self.value.exp();
        Self::rounded(value, value * self.error().exp_m1(), 4.0)
    }
    fn ln(self) -> Self {
        let relative = self.error() / self.value;
        let propagated = if relative < 1.0 { -(-relative).ln_1p() } else { f64::INFINITY };
        Self::rounded(self.value.ln(), propagated, 4.0)
    }
    fn sqrt(self) -> Self {
        let value = self.value.sqrt();
        let below = value - (self.value - self.error()).max(0.0).sqrt();
        Self::rounded(value, below.max((self.value + self.error()).sqrt() - value), 1.0)
    }
    fn is_finite(self) -> bool {
        self.value.is_finite()
    }
    fn max(self, other: Self) -> Self {
        self.either(other, f64::max(self.value, other.value))
    }
    fn min(self, other: Self) -> Self {
        self.either(other, f64::min(self.value, other.value))
    }
}
