//! Numbers that know how wrong they may be: running error analysis.
//!
//! Beside each number stands a bound of its distance from the number that the same operations would give in exact
//! arithmetic. What an operation rounds is measured (the error of a sum, a product or a quotient is itself a number that can
//! be computed); exp and ln are off by at most 2 units in the last place, as the model of arithmetic in SPEC.md, NUM, says.
//! So a bound follows from the numbers of the run alone, and it covers the memorization gradient of the sub-keys (MEM-6) too,
//! for which no clause has a formula.
//!
//! Comparisons look at the number only. Where a comparison might fall the other way in exact arithmetic, and the result
//! jumps there, the bound says nothing; who uses it must look for that.

use std::cmp::Ordering;
use std::ops::{Add, Div, Mul, Neg, Sub};

use fwpkm_reference::Scalar;

/// A number and the bound of its error.
#[derive(Clone, Copy, Debug)]
pub struct Tracked<S> {
    /// As computed in `S`.
    pub value: S,
    /// |computed - exact| is at most this; not a number or infinite where nothing is known.
    pub error: f64,
}

/// More than the roundings of a bound, which is computed in f64 itself: at most eight, of 2^-53 each.
const ROUNDINGS_OF_A_BOUND: f64 = 1.0 + 16.0 * f64::EPSILON;

/// Below this the error of an operation may itself be too small for f64.
const NEARLY_NOTHING: f64 = 1e-290;

impl<S: Scalar> Tracked<S> {
    fn new(value: S, error: f64) -> Self {
        Self { value, error: error * ROUNDINGS_OF_A_BOUND }
    }
}

/// What a product or quotient near nothing may have lost beside what was measured.
fn lost(result: f64) -> f64 {
    if result.abs() < NEARLY_NOTHING { 1e-320 } else { 0.0 }
}

impl<S: Scalar> PartialEq for Tracked<S> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<S: Scalar> PartialOrd for Tracked<S> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.value.partial_cmp(&other.value)
    }
}

impl<S: Scalar> Add for Tracked<S> {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        let (a, b) = (self.value, other.value);
        let sum = a + b;
        // The rounding error of a sum, exactly (Knuth).
        let of_b = sum - a;
        let of_a = sum - of_b;
        let rounding = (a - of_a) + (b - of_b);
        Self::new(sum, rounding.to_f64().abs() + self.error + other.error)
    }
}

impl<S: Scalar> Sub for Tracked<S> {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl<S: Scalar> Mul for Tracked<S> {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        let product = self.value * other.value;
        let (a, b) = (self.value.to_f64(), other.value.to_f64());
        let rounding = a.mul_add(b, -product.to_f64()).abs();
        let lost = if a == 0.0 || b == 0.0 { 0.0 } else { lost(product.to_f64()) };
        let inherited = a.abs() * other.error + b.abs() * self.error + self.error * other.error;
        Self::new(product, rounding + lost + inherited)
    }
}

impl<S: Scalar> Div for Tracked<S> {
    type Output = Self;
    fn div(self, other: Self) -> Self {
        let quotient = self.value / other.value;
        let (a, b, q) = (self.value.to_f64(), other.value.to_f64(), quotient.to_f64());
        // A/B - q = (a - q·b + (A - a) - q·(B - b)) / B
        let rest = (-q).mul_add(b, a).abs() + self.error + q.abs() * other.error;
        let least = b.abs() - other.error;
        let lost = if a == 0.0 && self.error == 0.0 { 0.0 } else { lost(q) };
        Self::new(quotient, if least > 0.0 { rest / least + lost } else { f64::INFINITY })
    }
}

impl<S: Scalar> Neg for Tracked<S> {
    type Output = Self;
    fn neg(self) -> Self {
        Self { value: -self.value, ..self }
    }
}

impl<S: Scalar> Scalar for Tracked<S> {
    const ZERO: Self = Self { value: S::ZERO, error: 0.0 };
    const ONE: Self = Self { value: S::ONE, error: 0.0 };
    const UNIT_ROUNDOFF: f64 = S::UNIT_ROUNDOFF;

    fn from_f64(x: f64) -> Self {
        let value = S::from_f64(x);
        Self { value, error: if value.to_f64() == x { 0.0 } else { (value.to_f64() - x).abs() } }
    }
    fn to_f64(self) -> f64 {
        self.value.to_f64()
    }
    fn exp(self) -> Self {
        let (value, u) = (self.value.exp(), S::UNIT_ROUNDOFF);
        let exact_at_most = value.to_f64() * (1.0 + 5.0 * u);
        Self::new(value, exact_at_most * (4.0 * u + self.error.exp_m1()) + smallest::<S>())
    }
    fn ln(self) -> Self {
        let (x, value, u) = (self.value.to_f64(), self.value.ln(), S::UNIT_ROUNDOFF);
        let least = x - self.error;
        let inherited = if least > 0.0 { (self.error / least).ln_1p() } else { f64::INFINITY };
        Self::new(value, 5.0 * u * value.to_f64().abs() + inherited)
    }
    fn sqrt(self) -> Self {
        let value = self.value.sqrt();
        let root = value.to_f64();
        let inherited = if root > 0.0 { self.error / root } else { self.error.sqrt() };
        Self::new(value, S::UNIT_ROUNDOFF * root + inherited)
    }
    fn is_finite(self) -> bool {
        self.value.is_finite()
    }
    fn max(self, other: Self) -> Self {
        Self { value: self.value.max(other.value), error: self.error.max(other.error) }
    }
    fn min(self, other: Self) -> Self {
        Self { value: self.value.min(other.value), error: self.error.max(other.error) }
    }
}

/// ω, where the exponential of a low number ends.
fn smallest<S: Scalar>() -> f64 {
    fwpkm_reference::numerics::Precision::of::<S>().smallest
}

#[cfg(test)]
mod tests {
    use super::*;

    type Short = Tracked<f32>;

    /// The error of a number that should be `exact`, over its bound.
    fn share(found: Short, exact: f64) -> f64 {
        (found.to_f64() - exact).abs() / found.error
    }

    #[test]
    fn what_is_not_rounded_has_no_error() {
        let [two, three, six] = [2.0, 3.0, 6.0].map(Short::from_f64);
        for exact in [two + three, two - three, two * three, six / two, three - three, Short::ZERO * six, -two] {
            assert_eq!(exact.error, 0.0, "{exact:?}");
        }
        assert_eq!(Short::from_f64(0.1).error, (0.1 - f64::from(0.1_f32)).abs());
    }

    #[test]
    fn a_rounding_is_measured() {
        let [a, b] = [1.1_f32, 3.3e-3_f32].map(|x| Tracked { value: x, error: 0.0 });
        let (x, y) = (f64::from(a.value), f64::from(b.value));
        for (found, exact) in [(a + b, x + y), (a - b, x - y), (a * b, x * y), (a / b, x / y)] {
            assert!((0.999..=1.0).contains(&share(found, exact)), "{found:?} {exact}");
        }
    }

    #[test]
    fn functions_are_off_by_two_places_and_by_what_they_are_given() {
        let given = Tracked { value: 1.5_f32, error: 1e-3 };
        for (found, exact) in
            [(given.exp(), 1.501_f64.exp()), (given.ln(), 1.499_f64.ln()), (given.sqrt(), 1.499_f64.sqrt())]
        {
            assert!((0.5..=1.0).contains(&share(found, exact)), "{found:?} {exact}");
        }
        let exact = Tracked { value: 1.5_f32, error: 0.0 };
        assert!(exact.exp().error < 5.0 * f64::from(f32::EPSILON) * 1.5_f64.exp());
        assert_eq!(Short::ONE.ln().error, 0.0);
    }

    #[test]
    fn errors_are_inherited_and_grow_where_numbers_cancel() {
        let near = |value: f32| Tracked { value, error: 1e-4 };
        assert!(share(near(2.0) - near(1.0), 1.0 + 2e-4) > 0.99);
        assert!(share(near(2.0) * near(3.0), 2.0001 * 3.0001) > 0.99);
        assert!(share(near(2.0) / near(3.0), 2.0001 / 2.9999) > 0.99);
        // In exact arithmetic the other of two may be the larger.
        assert!(share(near(2.0).max(Short::from_f64(2.00005)), 2.0001) > 0.49);
        assert!(!(near(1.0) / near(5e-5)).error.is_finite() && !near(5e-5).ln().error.is_finite());
    }
}
