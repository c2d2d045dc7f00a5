//! Stage `numerics`: precision, error bounds, near-ties, non-finite input.           NUM-2 … NUM-7, NUM-10
//!
//! ```text
//! u      unit roundoff: 2^-24 for f32, 2^-53 for f64
//! ω      smallest positive normal number: 2^-126 for f32, 2^-1022 for f64
//! γ(c)   c·u / (1 - c·u), the bound of c successive relative errors of at most u
//! bound  |computed - exact| of one stage, both given the same inputs of that stage
//! ```
//!
//! Bounds are computed in f64 from exact inputs, whatever the precision they are bounds for. A bound whose constraints
//! are not met is NaN, so that no error is within it.
//!
//! | file | clauses | bounds of |
//! |---|---|---|
//! | [`reading`] | NUM-2, NUM-3, NUM-4 | half scores, weights, reads |
//! | [`memorizing`] | NUM-5 | pair losses, value gradient, both steps |
//! | [`addressing`] | NUM-5 | marginal, entropy, sub-key gradient |
//! | [`margins`] | NUM-6 | pair scores; what a selection must meet |
//! | [`running`] | NUM-10 | any stage, by computing with bounds |

use ndarray::{ArrayView, Dimension};

use crate::error::{Error, Result};
use crate::scalar::Scalar;

pub mod addressing;
pub mod margins;
pub mod memorizing;
pub mod reading;
pub mod running;

pub use addressing::{
    HalfRow, SubKeyTerm, addressing_loss_bound, entropy_bound, half_row, half_score_gradient_bounds, marginal_bounds,
    slope_bound, sub_key_gradient_bound,
};
pub use margins::{order_is_right, pair_score_bound, selection_is_certain, selection_is_right, selection_margin};
pub use memorizing::{WriteTerm, descend_bound, pair_loss_bound, value_gradient_bound};
pub use reading::{
    dot_product_bound, expanded_distance_bound, exponent_bounds, inverse_distance_bound, read_bound,
    relative_weight_bounds, relu_bound, silu_bound, softmax_bounds,
};
pub use running::Bounded;

/// What the bounds need to know of an element type: u and ω.                                [NUM-1]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Precision {
    /// u
    pub unit_roundoff: f64,
    /// ω
    pub smallest: f64,
}

impl Precision {
    /// u = 2^-24, ω = 2^-126
    pub const F32: Self = Self { unit_roundoff: (f32::EPSILON / 2.0) as f64, smallest: f32::MIN_POSITIVE as f64 };
    /// u = 2^-53, ω = 2^-1022
    pub const F64: Self = Self { unit_roundoff: f64::EPSILON / 2.0, smallest: f64::MIN_POSITIVE };

    /// That of an element type of the interpreter.
    ///
    /// ```
    /// use fwpkm_reference::numerics::Precision;
    /// assert_eq!(Precision::of::<f32>(), Precision { unit_roundoff: 2f64.powi(-24), smallest: 2f64.powi(-126) });
    /// assert_eq!(Precision::of::<f64>(), Precision { unit_roundoff: 2f64.powi(-53), smallest: 2f64.powi(-1022) });
    /// ```
    pub fn of<S: Scalar>() -> Self {
        if S::UNIT_ROUNDOFF == Self::F32.unit_roundoff { Self::F32 } else { Self::F64 }
    }
}

/// γ(c) = c·u / (1 - c·u); NaN beyond c·u = 1/32, where no bound is valid                   [NUM-2]
///
/// ```
/// use fwpkm_reference::numerics::gamma;
/// assert_eq!(gamma(1, 0.03125), 1.0 / 31.0);
/// assert!(gamma(2, 0.03125).is_nan());
/// ```
pub fn gamma(count: usize, unit_roundoff: f64) -> f64 {
    let errors = count as f64 * unit_roundoff;
    valid(errors <= 1.0 / 32.0, errors / (1.0 - errors))
}

/// The bound, or NaN where its constraints are not met
fn valid(constraints: bool, bound: f64) -> f64 {
    if constraints { bound } else { f64::NAN }
}

/// Refuses the first number that is infinite or NaN.                                        [NUM-7]
///
/// # Errors   `Error::NotFinite { tensor, at, value }`
pub fn check_finite<S: Scalar, D: Dimension>(tensor: &'static str, numbers: ArrayView<S, D>) -> Result<()> {
    if numbers.iter().all(|x| x.is_finite()) {
        return Ok(());
    }
    let shape = numbers.shape().to_vec();
    let first = numbers.iter().enumerate().find(|(_, x)| !x.is_finite());
    first.map_or(Ok(()), |(flat, x)| Err(Error::NotFinite { tensor, at: unravel(flat, &shape), value: x.to_f64() }))
}

fn unravel(mut flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut at = vec![0; shape.len()];
    for (index, &size) in at.iter_mut().zip(shape).rev() {
        *index = flat % size;
        flat /= size;
    }
    at
}
