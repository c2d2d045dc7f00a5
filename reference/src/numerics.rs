//! Stage `numerics`: precision, error bounds, near-ties, non-finite input.           NUM-1 … NUM-8

use ndarray::{ArrayView, Dimension};

use crate::error::{Error, Result};
use crate::scalar::Scalar;

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
