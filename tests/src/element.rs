//! Element types of a run, and arrays as tensors of a file.

use fwpkm_reference::Scalar;
use fwpkm_spec::{Data, ElementType, Tensor};
use ndarray::{ArrayView, Dimension};

/// An element type of a run.
pub trait Element: Scalar {
    /// As a type of a file.
    const TYPE: ElementType;
    /// Numbers as the data of a tensor.
    fn data(numbers: Vec<Self>) -> Data;
    /// The data of a tensor as numbers, rounded where this type is narrower.
    fn numbers(data: Data) -> Vec<Self>;
}

impl Element for f32 {
    const TYPE: ElementType = ElementType::F32;

    fn data(numbers: Vec<Self>) -> Data {
        Data::F32(numbers)
    }

    fn numbers(data: Data) -> Vec<Self> {
        match data {
            Data::F32(numbers) => numbers,
            other => other.to_f64().into_iter().map(Self::from_f64).collect(),
        }
    }
}

impl Element for f64 {
    const TYPE: ElementType = ElementType::F64;

    fn data(numbers: Vec<Self>) -> Data {
        Data::F64(numbers)
    }

    fn numbers(data: Data) -> Vec<Self> {
        match data {
            Data::F64(numbers) => numbers,
            other => other.to_f64(),
        }
    }
}

/// An array as a tensor, row-major.
pub fn real<S: Element, D: Dimension>(array: ArrayView<S, D>) -> Tensor {
    Tensor { shape: array.shape().to_vec(), data: S::data(array.iter().copied().collect()) }
}

/// An array of indices or counts as a tensor of i64, row-major.
pub fn index<D: Dimension>(array: ArrayView<usize, D>) -> Tensor {
    Tensor { shape: array.shape().to_vec(), data: indices(array.iter()) }
}

/// Indices as the data of a tensor.
pub fn indices<'a>(indices: impl Iterator<Item = &'a usize>) -> Data {
    Data::I64(indices.map(|&index| i64::try_from(index).unwrap_or(i64::MAX)).collect())
}

/// One number as a tensor of shape `[1]`.
pub fn scalar<S: Element>(number: S) -> Tensor {
    Tensor { shape: vec![1], data: S::data(vec![number]) }
}
