//! The outputs of an implementation, as they were recorded.

use fwpkm_spec::Data;
use ndarray::{Array, Array2, ArrayD, Dimension, IxDyn};

use super::check::{Check, Verdict};
use crate::run::Outputs;

/// Outputs by name, with what is wrong with some of them.
#[derive(Debug)]
pub(crate) struct Recorded<'a> {
    outputs: &'a Outputs,
}

impl<'a> Recorded<'a> {
    pub(crate) fn new(outputs: &'a Outputs) -> Self {
        Self { outputs }
    }

    /// A tensor of real numbers of that shape, if it is there and of that shape.
    pub(crate) fn real(&self, name: &str, shape: &[usize]) -> Option<ArrayD<f64>> {
        let tensor = self.outputs.get(name).filter(|tensor| tensor.shape == shape)?;
        match &tensor.data {
            Data::F32(_) | Data::F64(_) | Data::Bf16(_) | Data::F16(_) => {
                ArrayD::from_shape_vec(IxDyn(shape), tensor.data.to_f64()).ok()
            }
            _ => None,
        }
    }

    /// The same, in as many dimensions as the caller knows.
    pub(crate) fn real_of<D: Dimension>(&self, name: &str, shape: D) -> Option<Array<f64, D>> {
        self.real(name, shape.slice())?.into_dimensionality().ok()
    }

    /// Whether there are real numbers of that name.
    pub(crate) fn has_real(&self, name: &str) -> bool {
        self.outputs.get(name).is_some_and(|tensor| self.real(name, &tensor.shape).is_some())
    }

    /// A tensor of integers of that shape.
    pub(crate) fn integers(&self, name: &str, shape: &[usize]) -> Option<ArrayD<i64>> {
        let tensor = self.outputs.get(name).filter(|tensor| tensor.shape == shape)?;
        let integers = match &tensor.data {
            Data::I64(integers) => integers.clone(),
            Data::I32(integers) => integers.iter().map(|&integer| i64::from(integer)).collect(),
            _ => return None,
        };
        ArrayD::from_shape_vec(IxDyn(shape), integers).ok()
    }

    /// A matrix of that many rows.
    pub(crate) fn real_with_rows(&self, name: &str, rows: usize) -> Option<Array2<f64>> {
        let shape = self.outputs.get(name)?.shape.clone();
        self.real(name, &shape)?.into_dimensionality().ok().filter(|matrix: &Array2<f64>| matrix.nrows() == rows)
    }

    /// A list of integers.
    pub(crate) fn integer_list(&self, name: &str) -> Option<Vec<i64>> {
        let shape = self.outputs.get(name)?.shape.clone();
        Some(self.integers(name, &shape).filter(|list| list.ndim() == 1)?.into_iter().collect())
    }

    /// What is wrong with names, shapes, types and numbers, given what the oracle computes.
    pub(crate) fn faults(&self, oracle: &Outputs, clause_of: impl Fn(&str) -> String) -> Vec<Check> {
        let mut faults = Vec::new();
        for (name, tensor) in self.outputs {
            let fault = |reason: String| Check::without_numbers(&clause_of(name), name, Verdict::Differs, reason);
            let Some(wanted) = oracle.get(name) else { continue };
            if tensor.shape != wanted.shape {
                faults.push(fault(format!("expected shape {:?}, found {:?}", wanted.shape, tensor.shape)));
                continue;
            }
            let found = tensor.data.element_type().name();
            match (&wanted.data, &tensor.data) {
                (Data::I64(_), Data::I64(_) | Data::I32(_)) => {}
                (Data::I64(_), _) => faults.push(fault(format!("expected I64 or I32, found {found}"))),
                (_, Data::F32(_) | Data::F64(_) | Data::Bf16(_) | Data::F16(_)) => {
                    let numbers = tensor.data.to_f64();
                    if let Some(flat) = numbers.iter().position(|x| !x.is_finite()) {
                        let at = super::check::unravel(flat, &tensor.shape);
                        faults.push(fault(format!("{} at {at:?} is not finite", numbers[flat])));
                    }
                }
                _ => faults.push(fault(format!("expected F64, F32, BF16 or F16, found {found}"))),
            }
        }
        faults
    }

    /// Names that nothing here knows.
    pub(crate) fn unknown(&self, oracle: &Outputs) -> Vec<String> {
        self.outputs.keys().filter(|name| !oracle.contains_key(*name)).cloned().collect()
    }
}
