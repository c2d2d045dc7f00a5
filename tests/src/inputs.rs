//! The tensors a run takes: tables, projections and cotangents whole, tokens piece by piece.

use std::collections::BTreeMap;
use std::ops::Range;

use fwpkm_reference::projection::{NormedLinear, Projection};
use fwpkm_reference::{Settings, Tables};
use fwpkm_spec::{CaseFile, Data, TensorFile, listed};
use ndarray::{Array, Array2, Array3, Array4, ArrayD, Dimension, Ix1, Ix2, Ix3, Ix4};

use crate::element::Element;
use crate::error::{Error, Result};

/// Named tensors, names without the prefix `in.`; `cotangent.*` in full.
pub trait Source {
    /// The shape of a tensor, if there is one of that name.
    fn shape(&self, name: &str) -> Option<Vec<usize>>;
    /// Some of its elements, by their row-major number.
    fn elements(&self, name: &str, elements: Range<usize>) -> Result<Data>;
    /// Names there are, for errors.
    fn names(&self) -> Vec<String>;
}

impl Source for TensorFile {
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        TensorFile::shape(self, &in_full(name)).map(<[usize]>::to_vec)
    }

    fn elements(&self, name: &str, elements: Range<usize>) -> Result<Data> {
        Ok(TensorFile::elements(self, &in_full(name), elements)?)
    }

    fn names(&self) -> Vec<String> {
        TensorFile::names(self).map(str::to_string).collect()
    }
}

/// Stored tensors, and those given by a closed form.
impl Source for CaseFile {
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        CaseFile::shape(self, &in_full(name)).map(<[usize]>::to_vec)
    }

    fn elements(&self, name: &str, elements: Range<usize>) -> Result<Data> {
        Ok(CaseFile::elements(self, &in_full(name), elements)?)
    }

    fn names(&self) -> Vec<String> {
        CaseFile::names(self).map(str::to_string).collect()
    }
}

impl Source for BTreeMap<String, ArrayD<f64>> {
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.get(name).map(|tensor| tensor.shape().to_vec())
    }

    fn elements(&self, name: &str, elements: Range<usize>) -> Result<Data> {
        let tensor = self.get(name).ok_or_else(|| missing(self, name))?;
        Ok(Data::F64(tensor.iter().skip(elements.start).take(elements.len()).copied().collect()))
    }

    fn names(&self) -> Vec<String> {
        self.keys().map(|name| in_full(name)).collect()
    }
}

/// The gradient of an outer loss with respect to what a memory gives.
const COTANGENTS: [&str; 3] = ["cotangent.reads", "cotangent.sub_keys", "cotangent.slot_values"];

/// The same, as numbers.                                                                            GRD-1
///
/// # Shapes   reads: [B, T, `d_v`]; the others as the tables
#[derive(Clone, Debug)]
pub struct Cotangents<S> {
    /// Of the reads.
    pub reads: Array3<S>,
    /// Of the last sub-keys.
    pub sub_keys: Option<Array4<S>>,
    /// Of the last slot values.
    pub slot_values: Option<Array2<S>>,
}

impl<S> Cotangents<S> {
    /// As a tape takes them.
    pub fn view(&self) -> fwpkm_reference::Cotangents<'_, S> {
        fwpkm_reference::Cotangents {
            reads: self.reads.view(),
            sub_keys: self.sub_keys.as_ref().map(|sub_keys| sub_keys.view()),
            slot_values: self.slot_values.as_ref().map(|slot_values| slot_values.view()),
        }
    }
}

/// What stands before the memory, and how many tokens there are.
pub struct Inputs<'a> {
    source: &'a dyn Source,
    sequences: usize,
    tokens: usize,
    layer: bool,
}

/// Some tokens of the inputs.
#[derive(Clone, Debug)]
pub enum Piece<S> {
    /// Of a bare memory.
    Memory {
        /// [B, T, H·`d_k`]
        queries: Array3<S>,
        /// [B, T, `d_v`]
        values: Array3<S>,
        /// [B, T]
        gates: Option<Array2<S>>,
        /// [B, T]
        mask: Option<Array2<bool>>,
    },
    /// Of a layer.
    Layer {
        /// [B, T, hidden]
        hidden: Array3<S>,
        /// [B, T]
        mask: Option<Array2<bool>>,
    },
}

impl<'a> Inputs<'a> {
    /// Looks at what there is: a layer where there is `in.hidden`, else a bare memory.
    ///
    /// # Errors   a tensor of tokens that is missing, or whose sequences or tokens are not those of the others
    pub fn new(source: &'a dyn Source) -> Result<Self> {
        let layer = source.shape("hidden").is_some();
        let names: &[(&str, usize)] =
            if layer { &[("hidden", 3)] } else { &[("queries", 3), ("values", 3), ("gates", 2)] };
        let first = names[0].0;
        let shape = source.shape(first).ok_or_else(|| missing(source, first))?;
        check_dimensions(first, &shape, 3)?;
        let (sequences, tokens) = (shape[0], shape[1]);
        for &(name, dimensions) in names.iter().chain(&[("mask", 2)]) {
            match source.shape(name) {
                None if name == "values" => return Err(missing(source, name)),
                None => {}
                Some(shape) => {
                    check_dimensions(name, &shape, dimensions)?;
                    if shape[..2] != [sequences, tokens] {
                        let expected = format!("in.{first} has {sequences} sequences of {tokens} tokens");
                        return Err(Error::Shape { tensor: in_full(name), expected, found: shape });
                    }
                }
            }
        }
        Ok(Self { source, sequences, tokens, layer })
    }

    /// The inputs of a case file, held against what its case says of them.
    ///
    /// # Errors   as [`Inputs::new`]; another batch or number of tokens, or other optional tensors, than stated
    pub fn of_case(file: &'a CaseFile) -> Result<Self> {
        let inputs = Self::new(file)?;
        let case = &file.case;
        if (inputs.sequences, inputs.tokens) != (case.batch, case.tokens) {
            let tensor = if inputs.layer { "in.hidden" } else { "in.queries" };
            return Err(Error::Shape {
                tensor: tensor.into(),
                expected: format!("the case has batch {} and tokens {}", case.batch, case.tokens),
                found: vec![inputs.sequences, inputs.tokens],
            });
        }
        for (tensor, stated) in [("in.gates", case.gates), ("in.mask", case.mask)] {
            let found = file.shape(tensor).is_some();
            if let Some(stated) = stated.filter(|&stated| stated != found) {
                return Err(Error::Stated { tensor, stated, found });
            }
        }
        Ok(inputs)
    }

    /// B
    pub fn sequences(&self) -> usize {
        self.sequences
    }

    /// T
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// The initial tables.
    pub fn tables<S: Element>(&self) -> Result<Tables<S>> {
        Ok(Tables {
            sub_keys: required::<S, Ix4>(self.source, "sub_keys")?,
            slot_values: required::<S, Ix2>(self.source, "slot_values")?,
        })
    }

    /// The learned maps of a layer; none for a bare memory.
    pub fn projection<S: Element>(&self) -> Result<Option<Projection<S>>> {
        if !self.layer {
            return Ok(None);
        }
        let gated = self.source.shape("projection.gate.norm").is_some();
        Ok(Some(Projection {
            query: normed_linear(self.source, "query")?,
            value: normed_linear(self.source, "value")?,
            gate: if gated { Some(normed_linear(self.source, "gate")?) } else { None },
            output: normed_linear(self.source, "output")?,
        }))
    }

    /// Tokens `from` to `to` of every sequence.
    pub fn piece<S: Element>(&self, from: usize, to: usize) -> Result<Piece<S>> {
        let optional = |name: &str| self.source.shape(name).map(|_| self.matrix::<S>(name, from, to)).transpose();
        let mask = optional("mask")?.map(|mask| as_mask(&mask, from)).transpose()?;
        Ok(if self.layer {
            Piece::Layer { hidden: self.cube("hidden", from, to)?, mask }
        } else {
            Piece::Memory {
                queries: self.cube("queries", from, to)?,
                values: self.cube("values", from, to)?,
                gates: optional("gates")?,
                mask,
            }
        })
    }

    /// What the gradients of the inputs are asked for; none where there is no `cotangent.*`.               [GRD-1]
    ///
    /// # Errors   a layer, whose projections have no gradients here; another shape than that of the result; `Error::NotFinite`
    pub fn cotangents<S: Element>(&self) -> Result<Option<Cotangents<S>>> {
        let has = |name: &str| self.source.shape(name).is_some();
        let [reads, sub_keys, slot_values] = COTANGENTS;
        if !COTANGENTS.into_iter().any(has) {
            return Ok(None);
        }
        if self.layer {
            let reason = "cotangent.* are of a bare memory; with in.hidden there are no gradients to be had".into();
            return Err(Error::Usage { reason });
        }
        let of = |name: &str| self.source.shape(name).unwrap_or_default();
        let of_reads = [self.sequences, self.tokens, of("values").last().copied().unwrap_or(0)];
        let none = || Array3::from_elem(of_reads, S::ZERO);
        Ok(Some(Cotangents {
            reads: self.cotangent::<S, Ix3>(reads, &of_reads)?.unwrap_or_else(none),
            sub_keys: self.cotangent::<S, Ix4>(sub_keys, &of("sub_keys"))?,
            slot_values: self.cotangent::<S, Ix2>(slot_values, &of("slot_values"))?,
        }))
    }

    fn cotangent<S: Element, D: Dimension>(&self, name: &'static str, shape: &[usize]) -> Result<Option<Array<S, D>>> {
        let Some(found) = self.source.shape(name) else { return Ok(None) };
        if found != shape {
            let expected = format!("{shape:?}, the shape of the result");
            return Err(fwpkm_reference::Error::Shape { tensor: name, expected, found }.into());
        }
        let numbers = required::<S, D>(self.source, name)?;
        fwpkm_reference::numerics::check_finite(name, numbers.view())?;
        Ok(Some(numbers))
    }

    fn cube<S: Element>(&self, name: &str, from: usize, to: usize) -> Result<Array3<S>> {
        let width = self.source.shape(name).and_then(|shape| shape.last().copied()).unwrap_or(0);
        let numbers = self.rows(name, width, from, to)?;
        Ok(Array3::from_shape_vec((self.sequences, to - from, width), numbers)?)
    }

    fn matrix<S: Element>(&self, name: &str, from: usize, to: usize) -> Result<Array2<S>> {
        Ok(Array2::from_shape_vec((self.sequences, to - from), self.rows(name, 1, from, to)?)?)
    }

    fn rows<S: Element>(&self, name: &str, width: usize, from: usize, to: usize) -> Result<Vec<S>> {
        let mut numbers = Vec::new();
        // Without tokens there may be any number of sequences; one shows of which type they are.
        let sequences = if from == to { self.sequences.min(1) } else { self.sequences };
        for sequence in 0..sequences {
            let start = (sequence * self.tokens + from) * width;
            let piece = self.source.elements(name, start..start + (to - from) * width);
            let piece = piece.map_err(|reason| Error::Tokens { reached: from, reason: Box::new(reason) })?;
            numbers.append(&mut if name == "mask" { S::numbers(piece) } else { real_numbers(name, piece)? });
        }
        Ok(numbers)
    }
}

/// `settings` with the shapes of these tables.
pub fn shapes_over<S>(tables: &Tables<S>, settings: Settings) -> Settings {
    let (heads, _, sub_keys, half) = tables.sub_keys.dim();
    let value_dim = tables.slot_values.ncols();
    Settings { heads, sub_keys, key_dim: half.saturating_mul(2), value_dim, ..settings }
}

fn normed_linear<S: Element>(source: &dyn Source, name: &str) -> Result<NormedLinear<S>> {
    Ok(NormedLinear {
        norm: required::<S, Ix1>(source, &format!("projection.{name}.norm"))?,
        weight: required::<S, Ix2>(source, &format!("projection.{name}.weight"))?,
        bias: required::<S, Ix1>(source, &format!("projection.{name}.bias"))?,
    })
}

fn as_mask<S: Element>(mask: &Array2<S>, from: usize) -> Result<Array2<bool>> {
    if let Some(((b, t), value)) = mask.indexed_iter().find(|&(_, &x)| x != S::ZERO && x != S::ONE) {
        return Err(Error::Mask { at: vec![b, from + t], value: value.to_f64() });
    }
    Ok(mask.mapv(|x| x == S::ONE))
}

/// Whether a tensor of that name is given, rather than computed.
pub fn is_given(name: &str) -> bool {
    name.starts_with("in.") || name.starts_with("cotangent.")
}

/// The name of a tensor in a file.
pub(crate) fn in_full(name: &str) -> String {
    if name.starts_with("cotangent.") { name.into() } else { format!("in.{name}") }
}

fn required<S: Element, D: Dimension>(source: &dyn Source, name: &str) -> Result<Array<S, D>> {
    let shape = source.shape(name).ok_or_else(|| missing(source, name))?;
    check_dimensions(name, &shape, D::NDIM.unwrap_or_default())?;
    let count = if shape.contains(&0) { 0 } else { shape.iter().product() };
    let numbers = real_numbers::<S>(name, source.elements(name, 0..count)?)?;
    Ok(ArrayD::from_shape_vec(shape, numbers)?.into_dimensionality::<D>()?)
}

/// Integers and truth values are no queries, values or tables; only a mask may be of those types.
fn real_numbers<S: Element>(name: &str, data: Data) -> Result<Vec<S>> {
    match data {
        Data::F32(_) | Data::F64(_) => Ok(S::numbers(data)),
        other => Err(Error::ElementType {
            tensor: in_full(name),
            expected: "F32 or F64".into(),
            found: other.element_type().name().into(),
        }),
    }
}

fn check_dimensions(name: &str, shape: &[usize], dimensions: usize) -> Result<()> {
    if shape.len() == dimensions {
        return Ok(());
    }
    let expected = format!("expected {dimensions} dimensions");
    Err(Error::Shape { tensor: in_full(name), expected, found: shape.to_vec() })
}

fn missing(source: &dyn Source, name: &str) -> Error {
    Error::Missing { tensor: in_full(name), found: listed(source.names().iter().map(String::as_str)) }
}
