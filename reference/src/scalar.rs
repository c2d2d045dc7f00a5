//! The element types of the interpreter, and the one order in which long sums are taken.     NUM-1
//!
//! `f32` and `f64` are what a run uses; [`Dual`] carries a derivative beside the value and checks gradients.

use std::fmt::Debug;
use std::ops::{Add, Div, Mul, Neg, Sub};

use ndarray::ArrayView1;

/// A real number type: `f32`, `f64`, or [`Dual`].                                           [NUM-1]
pub trait Scalar:
    Copy
    + Debug
    + PartialOrd
    + Send
    + Sync
    + 'static
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    /// 0
    const ZERO: Self;
    /// 1
    const ONE: Self;
    /// Unit roundoff u: 2^-24 for `f32`, 2^-53 for `f64`.
    const UNIT_ROUNDOFF: f64;

    /// The nearest number of this type.
    fn from_f64(x: f64) -> Self;
    /// The value as `f64`, exact for every type here (a dual number gives its value).
    fn to_f64(self) -> f64;
    /// e^x
    fn exp(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Neither infinite nor NaN.
    fn is_finite(self) -> bool;
    /// The same number, as a constant of every derivative.
    fn constant(self) -> Self {
        self
    }
    /// The larger of the two; `other` where they are equal.
    fn max(self, other: Self) -> Self {
        if self > other { self } else { other }
    }
    /// The smaller of the two; this one where they are equal.
    fn min(self, other: Self) -> Self {
        if self > other { other } else { self }
    }
}

macro_rules! float_scalar {
    ($float:ty, $roundoff:expr) => {
        impl Scalar for $float {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const UNIT_ROUNDOFF: f64 = $roundoff;

            fn from_f64(x: f64) -> Self {
                x as Self
            }
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            fn exp(self) -> Self {
                self.exp()
            }
            fn ln(self) -> Self {
                self.ln()
            }
            fn sqrt(self) -> Self {
                self.sqrt()
            }
            fn is_finite(self) -> bool {
                self.is_finite()
            }
        }
    };
}

float_scalar!(f32, (f32::EPSILON / 2.0) as f64);
float_scalar!(f64, f64::EPSILON / 2.0);

/// Number of running sums in [`sum_over`].
pub const LANES: usize = 8;

/// `Σ term(a[i], b[i])` in the fixed order of the interpreter.                         [NUM-1, NUM-8]
///
/// Index i goes to running sum i mod 8; the eight sums are then added in ascending order. Up to eight terms this is
/// the plain sum in ascending order. Terms beyond the shorter of `a` and `b` are not there.
///
/// ```
/// use fwpkm_reference::scalar::sum_over;
/// let (a, b) = (ndarray::arr1(&[1.0, 2.0, 3.0]), ndarray::arr1(&[4.0, 5.0, 6.0]));
/// assert_eq!(sum_over(a.view(), b.view(), |x, y| x * y), 32.0);
/// ```
pub fn sum_over<S: Scalar>(a: ArrayView1<S>, b: ArrayView1<S>, term: impl Fn(S, S) -> S) -> S {
    match (a.as_slice(), b.as_slice()) {
        (Some(a), Some(b)) => lane_sum(a, b, term),
        _ => lane_sum(&a.to_vec(), &b.to_vec(), term),
    }
}

fn lane_sum<S: Scalar>(a: &[S], b: &[S], term: impl Fn(S, S) -> S) -> S {
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    let mut lanes = [S::ZERO; LANES];
    for (x, y) in a_blocks.iter().zip(b_blocks) {
        for lane in 0..LANES {
            lanes[lane] = lanes[lane] + term(x[lane], y[lane]);
        }
    }
    for (lane, (&x, &y)) in a_rest.iter().zip(b_rest).enumerate() {
        lanes[lane] = lanes[lane] + term(x, y);
    }
    lanes.into_iter().fold(S::ZERO, |sum, lane| sum + lane)
}

/// `Σ x[i]` in the order of [`sum_over`].                                                     [NUM-1]
pub fn sum<S: Scalar>(x: ArrayView1<S>) -> S {
    sum_over(x, x, |value, _| value)
}

/// A number with its derivative in one direction: `value + tangent·δ`, δ² = 0.
///
/// Which of two is larger, the value alone says, so selections are constants of the derivative, as the specification says.
/// Equal are only numbers whose derivatives are, so that what changes nothing at 0 keeps its slope.
#[derive(Clone, Copy, Debug)]
pub struct Dual<S = f64> {
    /// The number.
    pub value: S,
    /// Its derivative.
    pub tangent: S,
}

impl<S: Scalar> PartialEq for Dual<S> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value && self.tangent == other.tangent
    }
}

impl<S: Scalar> PartialOrd for Dual<S> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.value.partial_cmp(&other.value)
    }
}

impl<S: Scalar> Add for Dual<S> {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { value: self.value + other.value, tangent: self.tangent + other.tangent }
    }
}

impl<S: Scalar> Sub for Dual<S> {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self { value: self.value - other.value, tangent: self.tangent - other.tangent }
    }
}

impl<S: Scalar> Mul for Dual<S> {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        Self { value: self.value * other.value, tangent: self.tangent * other.value + self.value * other.tangent }
    }
}

impl<S: Scalar> Div for Dual<S> {
    type Output = Self;
    fn div(self, other: Self) -> Self {
        let value = self.value / other.value;
        Self { value, tangent: (self.tangent - value * other.tangent) / other.value }
    }
}

impl<S: Scalar> Neg for Dual<S> {
    type Output = Self;
    fn neg(self) -> Self {
        Self { value: -self.value, tangent: -self.tangent }
    }
}

impl<S: Scalar> Scalar for Dual<S> {
    const ZERO: Self = Self { value: S::ZERO, tangent: S::ZERO };
    const ONE: Self = Self { value: S::ONE, tangent: S::ZERO };
    const UNIT_ROUNDOFF: f64 = S::UNIT_ROUNDOFF;

    fn from_f64(x: f64) -> Self {
        Self { value: S::from_f64(x), tangent: S::ZERO }
    }
    fn to_f64(self) -> f64 {
        self.value.to_f64()
    }
    fn exp(self) -> Self {
        let value = self.value.exp();
        Self { value, tangent: self.tangent * value }
    }
    fn ln(self) -> Self {
        Self { value: self.value.ln(), tangent: self.tangent / self.value }
    }
    fn sqrt(self) -> Self {
        let value = self.value.sqrt();
        Self { value, tangent: self.tangent / (value + value) }
    }
    fn is_finite(self) -> bool {
        self.value.is_finite() && self.tangent.is_finite()
    }
    fn constant(self) -> Self {
        Self { value: self.value.constant(), tangent: S::ZERO }
    }
}
