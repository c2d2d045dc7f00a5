//! A case as arrays in memory: what an implementation is given.

use fwpkm_reference::projection::{NormedLinear, Projection};
use fwpkm_reference::{Scalar, Tables};
use fwpkm_spec::{CaseFile, Label};
use ndarray::{Array, Array2, Array3, ArrayBase, Data, Dimension};

use crate::error::Result;
use crate::inputs::{Cotangents, Inputs, Piece};
use crate::numbers::Numbers;
use crate::run::Plan;

/// Tokens first, then sequences; of a layer, its hidden states in rows (sequence, token).
#[derive(Clone, Debug)]
pub enum Text<S> {
    /// Of a bare memory.
    Memory(Tokens<S>),
    /// Of a layer.
    Layer {
        /// [B·T, hidden]
        hidden: Array2<S>,
        /// [T, B]
        mask: Option<Array2<bool>>,
    },
}

/// What the memory reads.
#[derive(Clone, Debug)]
pub struct Tokens<S> {
    /// [T, B, H·`d_k`]
    pub queries: Array3<S>,
    /// [T, B, `d_v`]
    pub values: Array3<S>,
    /// [T, B]
    pub gates: Option<Array2<S>>,
    /// [T, B]
    pub mask: Option<Array2<bool>>,
}

/// A case: how it is run, on what.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Name of the case.
    pub name: String,
    /// Clauses it was made for, the first being its own; none where it does not say.
    pub clauses: Vec<Label>,
    /// Settings, rules, calls, flush.
    pub plan: Plan,
    /// B
    pub sequences: usize,
    /// T
    pub tokens: usize,
    /// What is read.
    pub text: Text<f64>,
    /// Initial tables.
    pub tables: Tables<f64>,
    /// A layer's maps.
    pub projection: Option<Projection<f64>>,
    /// What gradients of a bare memory are asked for, reads as [B, T, `d_v`].
    pub cotangents: Option<Cotangents<f64>>,
}

impl AsRef<Problem> for Problem {
    fn as_ref(&self) -> &Problem {
        self
    }
}

impl Problem {
    /// The case of a file, with its own plan.
    pub fn of_case(name: &str, file: &CaseFile, clauses: Vec<Label>) -> Result<Self> {
        let mut plan = Plan::of_case(&file.case, None)?;
        plan.trace = true;
        Self::new(name, clauses, plan, &Inputs::of_case(file)?)
    }

    /// Reads all inputs.
    pub fn new(name: &str, clauses: Vec<Label>, plan: Plan, inputs: &Inputs) -> Result<Self> {
        let (sequences, tokens) = (inputs.sequences(), inputs.tokens());
        let text = match inputs.piece::<f64>(0, tokens)? {
            Piece::Memory { queries, values, gates, mask } => Text::Memory(Tokens {
                queries: swapped(&queries),
                values: swapped(&values),
                gates: gates.as_ref().map(swapped),
                mask: mask.as_ref().map(swapped),
            }),
            Piece::Layer { hidden, mask } => {
                let width = hidden.dim().2;
                let hidden = hidden.into_shape_with_order((sequences * tokens, width))?;
                Text::Layer { hidden, mask: mask.as_ref().map(swapped) }
            }
        };
        let (tables, projection, cotangents) = (inputs.tables()?, inputs.projection()?, inputs.cotangents()?);
        Ok(Self { name: name.into(), clauses, plan, sequences, tokens, text, tables, projection, cotangents })
    }

    /// What an implementation with these numbers is given: every input rounded to them.
    pub fn rounded(&self, numbers: Numbers) -> Self {
        self.moved(|_, x| numbers.round(x))
    }

    /// Every input changed; `change` is given a number of its own for each.
    pub fn moved(&self, change: impl Fn(u64, f64) -> f64) -> Self {
        let place = std::cell::Cell::new(0);
        let change = |x: f64| {
            place.set(place.get() + 1);
            change(place.get(), x)
        };
        let text = match &self.text {
            Text::Memory(tokens) => Text::Memory(Tokens {
                queries: tokens.queries.mapv(change),
                values: tokens.values.mapv(change),
                gates: tokens.gates.as_ref().map(|gates| gates.mapv(change)),
                mask: tokens.mask.clone(),
            }),
            Text::Layer { hidden, mask } => Text::Layer { hidden: hidden.mapv(change), mask: mask.clone() },
        };
        let tables =
            Tables { sub_keys: self.tables.sub_keys.mapv(change), slot_values: self.tables.slot_values.mapv(change) };
        let map = |map: &NormedLinear<f64>| NormedLinear {
            norm: map.norm.mapv(change),
            weight: map.weight.mapv(change),
            bias: map.bias.mapv(change),
        };
        let projection = self.projection.as_ref().map(|maps| Projection {
            query: map(&maps.query),
            value: map(&maps.value),
            gate: maps.gate.as_ref().map(map),
            output: map(&maps.output),
        });
        let (name, clauses, plan) = (self.name.clone(), self.clauses.clone(), self.plan.clone());
        let cotangents = self.cotangents.as_ref().map(|cotangents| Cotangents {
            reads: cotangents.reads.mapv(change),
            sub_keys: cotangents.sub_keys.as_ref().map(|sub_keys| sub_keys.mapv(change)),
            slot_values: cotangents.slot_values.as_ref().map(|slot_values| slot_values.mapv(change)),
        });
        Self { name, clauses, plan, text, tables, projection, cotangents, ..*self }
    }
}

/// Numbers of another type.
pub fn cast<S: Scalar, R: ndarray::RawData<Elem = f64> + Data, D: Dimension>(array: &ArrayBase<R, D>) -> Array<S, D> {
    array.mapv(S::from_f64)
}

/// Maps in another type.
pub fn cast_projection<S: Scalar>(maps: &Projection<f64>) -> Projection<S> {
    let map = |map: &NormedLinear<f64>| NormedLinear {
        norm: cast(&map.norm),
        weight: cast(&map.weight),
        bias: cast(&map.bias),
    };
    Projection {
        query: map(&maps.query),
        value: map(&maps.value),
        gate: maps.gate.as_ref().map(map),
        output: map(&maps.output),
    }
}

/// Tables in another type.
pub fn cast_tables<S: Scalar>(tables: &Tables<f64>) -> Tables<S> {
    Tables { sub_keys: cast(&tables.sub_keys), slot_values: cast(&tables.slot_values) }
}

/// The first two dimensions exchanged
pub(crate) fn swapped<T: Clone, D: Dimension>(array: &Array<T, D>) -> Array<T, D> {
    let mut view = array.view();
    view.swap_axes(0, 1);
    view.as_standard_layout().into_owned()
}
