//! One run of the interpreter: inputs to named tensors.

use std::collections::BTreeMap;

use fwpkm_reference::layer::{Layer, LayerFed};
use fwpkm_reference::stats::SlotReads;
use fwpkm_reference::{Fed, Memory, Rules, Scalar, Settings, StepReport, Tokens, Trace};
use fwpkm_spec::case::Mode;
use fwpkm_spec::{Case, Data, Tensor};
use ndarray::{Array, Array2, Array3, ArrayView, ArrayView2, Axis, Dimension, RemoveAxis, s};

use crate::error::{Error, Result};
use crate::inputs::{Front, Inputs};
use crate::settings_file::{SettingsFile, rules_of_case, settings_of_case};
use crate::trace;

/// An element type of a run.
pub trait Element: Scalar {
    /// Numbers as the data of a tensor.
    fn data(numbers: Vec<Self>) -> Data;
}

impl Element for f32 {
    fn data(numbers: Vec<Self>) -> Data {
        Data::F32(numbers)
    }
}

impl Element for f64 {
    fn data(numbers: Vec<Self>) -> Data {
        Data::F64(numbers)
    }
}

/// Results by name: `out.*`, and `trace.*` where asked for.
pub type Outputs = BTreeMap<String, Tensor>;

/// How a run is made.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Settings, shapes included.
    pub settings: Settings,
    /// Rules.
    pub rules: Rules,
    /// Tokens of each call; none: one call with all.
    pub calls: Option<Vec<usize>>,
    /// Whether a flush follows the last call.
    pub flush: bool,
    /// Whether stage tensors are wanted.
    pub trace: bool,
}

impl Plan {
    /// The run a case states, without trace. `rules` replace those it states (the release's where it states none).
    pub fn of_case(case: &Case, rules: Option<&Rules>) -> Result<Self> {
        Ok(Self {
            settings: settings_of_case(case)?,
            rules: rules.cloned().map_or_else(|| rules_of_case(case), Ok)?,
            calls: case.splits.clone(),
            flush: case.flush.unwrap_or(case.mode != Mode::Streaming),
            trace: false,
        })
    }
}

impl Plan {
    /// The run of a settings file: one call, then a flush. Where the file has none, `top_k` and chunk are the paper's.
    pub fn of_settings<S: Scalar>(settings: SettingsFile, rules: Option<Rules>, inputs: &Inputs<S>) -> Result<Self> {
        let settings = settings.over(inputs.shapes_over(Settings::paper()))?;
        Ok(Self { settings, rules: rules.unwrap_or_else(Rules::paper), calls: None, flush: true, trace: false })
    }
}

/// Feeds the inputs call by call and collects everything by name.
///
/// # Errors   those of the interpreter; calls that do not add up to the tokens there are
pub fn run<S: Element>(plan: &Plan, inputs: Inputs<S>) -> Result<Outputs> {
    let (sequences, tokens) = inputs.sequences_and_tokens();
    let calls = plan.calls.clone().filter(|calls| !calls.is_empty()).unwrap_or_else(|| vec![tokens]);
    let called = calls.iter().fold(0_usize, |sum, &call| sum.saturating_add(call));
    if called != tokens {
        let expected = format!("the calls have {called} tokens in all");
        return Err(Error::Shape {
            tensor: "in.queries or in.hidden".into(),
            expected,
            found: vec![sequences, tokens],
        });
    }
    if let Some(mask) = inputs.mask.as_ref().filter(|mask| mask.dim() != (sequences, tokens)) {
        let expected = format!("expected [{sequences}, {tokens}]");
        return Err(Error::Shape { tensor: "in.mask".into(), expected, found: mask.shape().to_vec() });
    }
    let memory = Memory::new(plan.settings.clone(), plan.rules.clone(), inputs.tables)?;
    let mask = inputs.mask.as_ref().map(|mask| mask.view());
    let mut front = Runner::new(inputs.front, memory)?;
    let mut collected = Collected::default();
    let mut from = 0;
    for call in calls {
        let to = from + call;
        front.feed(from, to, mask, &mut collected, plan.trace)?;
        from = to;
    }
    if plan.flush {
        let memory = front.memory_mut();
        let report = if plan.trace { memory.flush_traced(&mut collected.trace)? } else { memory.flush()? };
        collected.steps.extend(report);
    }
    let mut outputs = collected.outputs(front.memory().tables(), plan, sequences)?;
    if plan.trace {
        trace::outputs(&collected.trace, sequences, &mut outputs)?;
    }
    Ok(outputs)
}

enum Runner<S> {
    Memory { queries: Array3<S>, values: Array3<S>, gates: Option<Array2<S>>, memory: Memory<S> },
    Layer { hidden: Array3<S>, layer: Layer<S> },
}

impl<S: Element> Runner<S> {
    fn new(front: Front<S>, memory: Memory<S>) -> Result<Self> {
        Ok(match front {
            Front::Memory { queries, values, gates } => {
                let (b, t, _) = queries.dim();
                let wrong = |tensor: &str, found: &[usize]| Error::Shape {
                    tensor: tensor.into(),
                    expected: format!("in.queries has {b} sequences of {t} tokens"),
                    found: found.to_vec(),
                };
                if values.shape()[..2] != [b, t] {
                    return Err(wrong("in.values", values.shape()));
                }
                if let Some(gates) = gates.as_ref().filter(|gates| gates.dim() != (b, t)) {
                    return Err(wrong("in.gates", gates.shape()));
                }
                Self::Memory { queries, values, gates, memory }
            }
            Front::Layer { hidden, projection } => Self::Layer { hidden, layer: Layer::new(projection, memory)? },
        })
    }

    fn memory(&self) -> &Memory<S> {
        match self {
            Self::Memory { memory, .. } => memory,
            Self::Layer { layer, .. } => layer.memory(),
        }
    }

    fn memory_mut(&mut self) -> &mut Memory<S> {
        match self {
            Self::Memory { memory, .. } => memory,
            Self::Layer { layer, .. } => layer.memory_mut(),
        }
    }

    fn feed(
        &mut self,
        from: usize,
        to: usize,
        mask: Option<ArrayView2<bool>>,
        collected: &mut Collected<S>,
        traced: bool,
    ) -> Result<()> {
        let mask = mask.map(|mask| mask.slice_move(s![.., from..to]));
        let trace = &mut collected.trace;
        match self {
            Self::Memory { queries, values, gates, memory } => {
                let tokens = Tokens {
                    queries: queries.slice(s![.., from..to, ..]),
                    values: values.slice(s![.., from..to, ..]),
                    gates: gates.as_ref().map(|gates| gates.slice(s![.., from..to])),
                    mask,
                };
                let fed = if traced { memory.feed_traced(&tokens, trace)? } else { memory.feed(&tokens)? };
                collected.fed.push(fed);
            }
            Self::Layer { hidden, layer } => {
                let hidden = hidden.slice(s![.., from..to, ..]);
                let fed = if traced { layer.feed_traced(hidden, mask, trace)? } else { layer.feed(hidden, mask)? };
                collected.layers.push((to - from, fed));
            }
        }
        Ok(())
    }
}

struct Collected<S> {
    fed: Vec<Fed<S>>,
    layers: Vec<(usize, LayerFed<S>)>,
    steps: Vec<StepReport<S>>,
    trace: Trace<S>,
}

impl<S> Default for Collected<S> {
    fn default() -> Self {
        Self { fed: Vec::new(), layers: Vec::new(), steps: Vec::new(), trace: Trace::default() }
    }
}

impl<S: Element> Collected<S> {
    fn outputs(&self, tables: &fwpkm_reference::Tables<S>, plan: &Plan, sequences: usize) -> Result<Outputs> {
        let fed: Vec<&Fed<S>> = self.fed.iter().chain(self.layers.iter().map(|(_, layer)| &layer.memory)).collect();
        let steps: Vec<&StepReport<S>> = fed.iter().flat_map(|fed| &fed.steps).chain(&self.steps).collect();
        let mut out = Outputs::new();
        put(&mut out, "out.reads", real(join(&fed, |fed| fed.reads.view())?.view()));
        put(&mut out, "out.weights", real(join(&fed, |fed| fed.weights.view())?.view()));
        let slots = join(&fed, |fed| fed.slots.view())?;
        put(&mut out, "out.indices", index(slots.view()));
        let losses: Vec<ArrayView2<S>> = steps.iter().map(|step| step.pair_losses.t()).collect();
        let none = Array2::from_elem((sequences, 0), S::ZERO);
        let losses = if losses.is_empty() { none } else { ndarray::concatenate(Axis(1), &losses)? };
        put(&mut out, "out.mem_losses", real(losses.view()));
        let sum = steps.iter().fold(S::ZERO, |sum, step| sum + step.addressing_loss);
        let mean = if steps.is_empty() { S::ZERO } else { sum / S::from_f64(steps.len() as f64) };
        put(&mut out, "out.addr_loss_mean", scalar(mean));
        put(&mut out, "out.sub_keys", real(tables.sub_keys.view()));
        put(&mut out, "out.slot_values", real(tables.slot_values.view()));
        let mut reads = SlotReads::default();
        reads.extend(slots.iter());
        let table = plan.settings.slots();
        put(&mut out, "out.stats.collision_rate", scalar(reads.collision_rate()));
        put(&mut out, "out.stats.coverage", scalar(reads.coverage(table)));
        put(&mut out, "out.stats.divergence", scalar(reads.divergence(table)));
        self.layer_outputs(plan, sequences, &mut out)?;
        Ok(out)
    }

    fn layer_outputs(&self, plan: &Plan, sequences: usize, out: &mut Outputs) -> Result<()> {
        let rows = |pick: &dyn Fn(&LayerFed<S>) -> Array2<S>| {
            let calls: Vec<_> = self
                .layers
                .iter()
                .map(|(tokens, layer)| {
                    let rows = pick(layer);
                    Array::from_shape_fn((sequences, *tokens, rows.ncols()), |(b, t, i)| rows[[b * tokens + t, i]])
                })
                .collect();
            join(&calls, |call| call.view())
        };
        if self.layers.is_empty() {
            return Ok(());
        }
        put(out, "out.layer", real(rows(&|layer| layer.output.layer.clone())?.view()));
        put(out, "out.hidden", real(rows(&|layer| layer.output.hidden.clone())?.view()));
        let gated = self.layers.iter().all(|(_, layer)| layer.projected.gates.is_some());
        let gates = || {
            let column = |layer: &LayerFed<S>| {
                layer
                    .projected
                    .gates
                    .clone()
                    .map_or(Array::from_elem((0, 1), S::ZERO), |gates| gates.insert_axis(Axis(1)))
            };
            Ok::<_, Error>(real(rows(&column)?.index_axis(Axis(2), 0)))
        };
        if gated {
            put(out, "out.gates", gates()?);
        }
        if plan.trace {
            put(out, "trace.projection.queries", real(rows(&|layer| layer.projected.queries.clone())?.view()));
            put(out, "trace.projection.values", real(rows(&|layer| layer.projected.values.clone())?.view()));
            if gated {
                put(out, "trace.projection.gates", gates()?);
            }
            put(out, "trace.output.mixed", real(rows(&|layer| layer.output.mixed.clone())?.view()));
        }
        Ok(())
    }
}

pub(crate) fn put(outputs: &mut Outputs, name: impl Into<String>, tensor: Tensor) {
    outputs.insert(name.into(), tensor);
}

/// Calls one after the other along the tokens, axis 1.
fn join<'a, A, T: Clone + 'a, D: Dimension + RemoveAxis>(
    calls: &'a [A],
    view: impl Fn(&'a A) -> ArrayView<'a, T, D>,
) -> Result<Array<T, D>> {
    let views: Vec<ArrayView<T, D>> = calls.iter().map(view).collect();
    Ok(ndarray::concatenate(Axis(1), &views)?)
}

/// An array as a tensor, row-major.
pub(crate) fn real<S: Element, D: Dimension>(array: ArrayView<S, D>) -> Tensor {
    Tensor { shape: array.shape().to_vec(), data: S::data(array.iter().copied().collect()) }
}

/// An array of indices or counts as a tensor of i64, row-major.
pub(crate) fn index<D: Dimension>(array: ArrayView<usize, D>) -> Tensor {
    let numbers = array.iter().map(|&index| i64::try_from(index).unwrap_or(i64::MAX)).collect();
    Tensor { shape: array.shape().to_vec(), data: Data::I64(numbers) }
}

/// One number as a tensor of shape `[1]`.
pub(crate) fn scalar<S: Element>(number: S) -> Tensor {
    Tensor { shape: vec![1], data: S::data(vec![number]) }
}
