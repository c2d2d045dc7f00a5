//! The tensors a run takes, from a case file or from an example.

use std::collections::BTreeMap;

use fwpkm_reference::projection::{NormedLinear, Projection};
use fwpkm_reference::{Scalar, Settings, Tables};
use fwpkm_spec::{CaseFile, TensorFile};
use ndarray::{Array2, Array3, ArrayD, Dimension, Ix1, Ix2, Ix3, Ix4};

use crate::error::{Error, Result};

/// Named tensors, names without the prefix `in.`.
pub trait Source {
    /// The tensor as f64, if there is one of that name.
    fn tensor(&self, name: &str) -> Result<Option<ArrayD<f64>>>;
    /// Names there are, for errors.
    fn names(&self) -> Vec<String>;
}

impl Source for TensorFile {
    fn tensor(&self, name: &str) -> Result<Option<ArrayD<f64>>> {
        let name = format!("in.{name}");
        if !self.has(&name) {
            return Ok(None);
        }
        let tensor = TensorFile::tensor(self, &name)?;
        let found = tensor.shape.clone();
        ArrayD::from_shape_vec(tensor.shape, tensor.data.to_f64()).map(Some).map_err(|e| Error::Shape {
            tensor: name,
            expected: e.to_string(),
            found,
        })
    }

    fn names(&self) -> Vec<String> {
        TensorFile::names(self).filter_map(|name| name.strip_prefix("in.")).map(str::to_string).collect()
    }
}

impl Source for BTreeMap<String, ArrayD<f64>> {
    fn tensor(&self, name: &str) -> Result<Option<ArrayD<f64>>> {
        Ok(self.get(name).cloned())
    }

    fn names(&self) -> Vec<String> {
        self.keys().cloned().collect()
    }
}

/// What stands before the memory.
#[derive(Clone, Debug)]
pub enum Front<S> {
    /// The bare memory: queries, values and gates are given.
    Memory {
        /// [B, T, H·`d_k`]
        queries: Array3<S>,
        /// [B, T, `d_v`]
        values: Array3<S>,
        /// [B, T]
        gates: Option<Array2<S>>,
    },
    /// The layer: they are projected from hidden states.
    Layer {
        /// [B, T, hidden]
        hidden: Array3<S>,
        /// The learned maps.
        projection: Projection<S>,
    },
}

/// Everything a run takes.
#[derive(Clone, Debug)]
pub struct Inputs<S> {
    /// Initial tables.
    pub tables: Tables<S>,
    /// [B, T]
    pub mask: Option<Array2<bool>>,
    /// What stands before the memory.
    pub front: Front<S>,
}

impl<S: Scalar> Inputs<S> {
    /// Reads and checks the number of dimensions; lengths are checked by the interpreter.
    ///
    /// # Errors   a tensor that is missing, has another number of dimensions, or a mask of other numbers than 0 and 1
    pub fn read(source: &dyn Source) -> Result<Self> {
        let tables = Tables {
            sub_keys: required::<S, Ix4>(source, "sub_keys")?,
            slot_values: required::<S, Ix2>(source, "slot_values")?,
        };
        let front = match optional::<S, Ix3>(source, "hidden")? {
            Some(hidden) => Front::Layer { hidden, projection: projection(source)? },
            None => Front::Memory {
                queries: required::<S, Ix3>(source, "queries")?,
                values: required::<S, Ix3>(source, "values")?,
                gates: optional::<S, Ix2>(source, "gates")?,
            },
        };
        Ok(Self { tables, mask: mask(source)?, front })
    }

    /// The inputs of a case file, held against what its case says of them.
    ///
    /// # Errors   as [`Inputs::read`]; another batch or number of tokens, or other optional tensors, than stated
    pub fn of_case(file: &CaseFile) -> Result<Self> {
        let inputs = Self::read(&file.file)?;
        let case = &file.case;
        let (sequences, tokens) = inputs.sequences_and_tokens();
        if (sequences, tokens) != (case.batch, case.tokens) {
            return Err(Error::Shape {
                tensor: "in.queries or in.hidden".into(),
                expected: format!("the case has batch {} and tokens {}", case.batch, case.tokens),
                found: vec![sequences, tokens],
            });
        }
        for (name, stated) in [("in.gates", case.gates), ("in.mask", case.mask)] {
            if stated.is_some_and(|stated| stated != file.file.has(name)) {
                let stated = stated.is_some_and(|stated| stated);
                return Err(Error::Stated { tensor: name, stated, found: !stated });
            }
        }
        Ok(inputs)
    }

    /// B and T.
    pub fn sequences_and_tokens(&self) -> (usize, usize) {
        let (b, t, _) = match &self.front {
            Front::Memory { queries, .. } => queries.dim(),
            Front::Layer { hidden, .. } => hidden.dim(),
        };
        (b, t)
    }

    /// `settings` with the shapes of these tensors; a width that H does not divide is left for the interpreter to refuse.
    pub fn shapes_over(&self, settings: Settings) -> Settings {
        let (heads, _, sub_keys, half) = self.tables.sub_keys.dim();
        let value_dim = self.tables.slot_values.ncols();
        Settings { heads, sub_keys, key_dim: half.saturating_mul(2), value_dim, ..settings }
    }
}

fn projection<S: Scalar>(source: &dyn Source) -> Result<Projection<S>> {
    let gate = optional::<S, Ix1>(source, "projection.gate.norm")?;
    Ok(Projection {
        query: normed_linear(source, "query")?,
        value: normed_linear(source, "value")?,
        gate: gate.map(|_| normed_linear(source, "gate")).transpose()?,
        output: normed_linear(source, "output")?,
    })
}

fn normed_linear<S: Scalar>(source: &dyn Source, name: &str) -> Result<NormedLinear<S>> {
    Ok(NormedLinear {
        norm: required::<S, Ix1>(source, &format!("projection.{name}.norm"))?,
        weight: required::<S, Ix2>(source, &format!("projection.{name}.weight"))?,
        bias: required::<S, Ix1>(source, &format!("projection.{name}.bias"))?,
    })
}

fn mask(source: &dyn Source) -> Result<Option<Array2<bool>>> {
    let Some(mask) = optional::<f64, Ix2>(source, "mask")? else { return Ok(None) };
    if let Some(((b, t), &value)) = mask.indexed_iter().find(|&(_, &x)| x != 0.0 && x != 1.0) {
        return Err(Error::Mask { at: vec![b, t], value });
    }
    Ok(Some(mask.mapv(|x| x == 1.0)))
}

fn required<S: Scalar, D: Dimension>(source: &dyn Source, name: &str) -> Result<ndarray::Array<S, D>> {
    optional(source, name)?
        .ok_or_else(|| Error::Missing { tensor: format!("in.{name}"), found: source.names().join(", ") })
}

fn optional<S: Scalar, D: Dimension>(source: &dyn Source, name: &str) -> Result<Option<ndarray::Array<S, D>>> {
    let Some(tensor) = source.tensor(name)? else { return Ok(None) };
    let found = tensor.shape().to_vec();
    let dimensions = D::NDIM.unwrap_or_default();
    let tensor = tensor.into_dimensionality::<D>().map_err(|_| Error::Shape {
        tensor: format!("in.{name}"),
        expected: format!("expected {dimensions} dimensions"),
        found,
    })?;
    Ok(Some(tensor.mapv(S::from_f64)))
}
