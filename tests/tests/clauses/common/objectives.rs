//! The losses of a step, and their derivatives by central differences.

pub(crate) use fwpkm::oracle::objectives::{addressing, kept, memorization};
use ndarray::{Array, Dimension};

/// (f(x + h) - f(x - h)) / 2h for every number.
pub(crate) fn by_differences<D: Dimension>(
    at: &Array<f64, D>,
    h: f64,
    f: impl Fn(&Array<f64, D>) -> f64,
) -> Array<f64, D> {
    let mut moved = at.clone();
    let slope = |index: usize| {
        let mut value_at = |x: f64| {
            moved.as_slice_mut().unwrap()[index] = x;
            f(&moved)
        };
        let x = at.as_slice().unwrap()[index];
        let slope = (value_at(x + h) - value_at(x - h)) / (2.0 * h);
        value_at(x);
        slope
    };
    let slopes: Vec<f64> = (0..at.len()).map(slope).collect();
    Array::from_shape_vec(at.raw_dim(), slopes).unwrap()
}
