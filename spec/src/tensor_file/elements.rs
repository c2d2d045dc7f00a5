//! The elements of a tensor, and the types they may have.

use std::ops::Range;

use half::{bf16, f16};

use super::write::write_elements;

/// The elements of a tensor, in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// IEEE numbers of 32 bits.
    F32(Vec<f32>),
    /// IEEE numbers of 64 bits.
    F64(Vec<f64>),
    /// Numbers of 16 bits with the exponent of F32.
    Bf16(Vec<bf16>),
    /// IEEE numbers of 16 bits.
    F16(Vec<f16>),
    /// Integers of 32 bits.
    I32(Vec<i32>),
    /// Integers of 64 bits.
    I64(Vec<i64>),
    /// Bytes.
    U8(Vec<u8>),
    /// Truth values.
    Bool(Vec<bool>),
}

/// The type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElementType {
    /// IEEE numbers of 32 bits.
    F32,
    /// IEEE numbers of 64 bits.
    F64,
    /// Numbers of 16 bits with the exponent of F32.
    Bf16,
    /// IEEE numbers of 16 bits.
    F16,
    /// Integers of 32 bits.
    I32,
    /// Integers of 64 bits.
    I64,
    /// Bytes.
    U8,
    /// Truth values.
    Bool,
}

impl ElementType {
    /// Bytes of one element.
    pub fn width(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::Bf16 | Self::F16 => 2,
            Self::U8 | Self::Bool => 1,
        }
    }

    /// As written in a file.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F64 => "F64",
            Self::Bf16 => "BF16",
            Self::F16 => "F16",
            Self::I32 => "I32",
            Self::I64 => "I64",
            Self::U8 => "U8",
            Self::Bool => "BOOL",
        }
    }

    pub(super) fn of_name(name: &str) -> Option<Self> {
        let all = [Self::F32, Self::F64, Self::Bf16, Self::F16, Self::I32, Self::I64, Self::U8, Self::Bool];
        all.into_iter().find(|kind| kind.name() == name)
    }
}

impl Data {
    /// The type of the elements.
    pub fn element_type(&self) -> ElementType {
        match self {
            Self::F32(_) => ElementType::F32,
            Self::F64(_) => ElementType::F64,
            Self::Bf16(_) => ElementType::Bf16,
            Self::F16(_) => ElementType::F16,
            Self::I32(_) => ElementType::I32,
            Self::I64(_) => ElementType::I64,
            Self::U8(_) => ElementType::U8,
            Self::Bool(_) => ElementType::Bool,
        }
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(numbers) => numbers.len(),
            Self::F64(numbers) => numbers.len(),
            Self::Bf16(numbers) => numbers.len(),
            Self::F16(numbers) => numbers.len(),
            Self::I32(numbers) => numbers.len(),
            Self::I64(numbers) => numbers.len(),
            Self::U8(numbers) => numbers.len(),
            Self::Bool(flags) => flags.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// So many zeros (or false) of a type.
    pub fn zeros(kind: ElementType, count: usize) -> Self {
        match kind {
            ElementType::F32 => Self::F32(vec![0.0; count]),
            ElementType::F64 => Self::F64(vec![0.0; count]),
            ElementType::Bf16 => Self::Bf16(vec![bf16::ZERO; count]),
            ElementType::F16 => Self::F16(vec![f16::ZERO; count]),
            ElementType::I32 => Self::I32(vec![0; count]),
            ElementType::I64 => Self::I64(vec![0; count]),
            ElementType::U8 => Self::U8(vec![0; count]),
            ElementType::Bool => Self::Bool(vec![false; count]),
        }
    }

    /// Some of the elements; none of them where the range goes beyond the last.
    pub fn part(&self, range: Range<usize>) -> Self {
        match self {
            Self::F32(numbers) => Self::F32(numbers.get(range).unwrap_or_default().to_vec()),
            Self::F64(numbers) => Self::F64(numbers.get(range).unwrap_or_default().to_vec()),
            Self::Bf16(numbers) => Self::Bf16(numbers.get(range).unwrap_or_default().to_vec()),
            Self::F16(numbers) => Self::F16(numbers.get(range).unwrap_or_default().to_vec()),
            Self::I32(numbers) => Self::I32(numbers.get(range).unwrap_or_default().to_vec()),
            Self::I64(numbers) => Self::I64(numbers.get(range).unwrap_or_default().to_vec()),
            Self::U8(numbers) => Self::U8(numbers.get(range).unwrap_or_default().to_vec()),
            Self::Bool(flags) => Self::Bool(flags.get(range).unwrap_or_default().to_vec()),
        }
    }

    /// Replaces elements from a place on by those of `other`; false, and nothing done, where they are of another type or
    /// go beyond the last.
    pub fn replace(&mut self, first: usize, other: &Self) -> bool {
        fn copy<T: Clone>(to: &mut [T], first: usize, from: &[T]) -> bool {
            let place = first.checked_add(from.len()).and_then(|last| to.get_mut(first..last));
            place.map(|place| place.clone_from_slice(from)).is_some()
        }
        match (self, other) {
            (Self::F32(to), Self::F32(from)) => copy(to, first, from),
            (Self::F64(to), Self::F64(from)) => copy(to, first, from),
            (Self::Bf16(to), Self::Bf16(from)) => copy(to, first, from),
            (Self::F16(to), Self::F16(from)) => copy(to, first, from),
            (Self::I32(to), Self::I32(from)) => copy(to, first, from),
            (Self::I64(to), Self::I64(from)) => copy(to, first, from),
            (Self::U8(to), Self::U8(from)) => copy(to, first, from),
            (Self::Bool(to), Self::Bool(from)) => copy(to, first, from),
            _ => false,
        }
    }

    /// The elements as they stand in a file, little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len() * self.element_type().width());
        // Writing to memory does not fail.
        let _ = write_elements(&mut bytes, self);
        bytes
    }

    /// The elements as f64; exact but for integers beyond 2^53. Truth values are 0 and 1.
    pub fn to_f64(&self) -> Vec<f64> {
        match self {
            Self::F32(numbers) => numbers.iter().copied().map(f64::from).collect(),
            Self::F64(numbers) => numbers.clone(),
            Self::Bf16(numbers) => numbers.iter().map(|number| number.to_f64()).collect(),
            Self::F16(numbers) => numbers.iter().map(|number| number.to_f64()).collect(),
            Self::I32(numbers) => numbers.iter().copied().map(f64::from).collect(),
            Self::I64(numbers) => numbers.iter().map(|&number| number as f64).collect(),
            Self::U8(numbers) => numbers.iter().copied().map(f64::from).collect(),
            Self::Bool(flags) => flags.iter().copied().map(f64::from).collect(),
        }
    }

    /// The elements as i64; none for floating-point elements. Truth values are 0 and 1.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        match self {
            Self::F32(_) | Self::F64(_) | Self::Bf16(_) | Self::F16(_) => None,
            Self::I32(numbers) => Some(numbers.iter().copied().map(i64::from).collect()),
            Self::I64(numbers) => Some(numbers.clone()),
            Self::U8(numbers) => Some(numbers.iter().copied().map(i64::from).collect()),
            Self::Bool(flags) => Some(flags.iter().copied().map(i64::from).collect()),
        }
    }
}
