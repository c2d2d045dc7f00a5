//! One run of the interpreter: inputs to named tensors.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use fwpkm_reference::layer::{Layer, LayerFed};
use fwpkm_reference::output::Output;
use fwpkm_reference::projection::Projected;
use fwpkm_reference::stats::SlotReads;
use fwpkm_reference::{Fed, Memory, Rules, Settings, State, StepReport, Tables, Tokens, Trace};
use fwpkm_spec::case::{Mode, Operation};
use fwpkm_spec::{Case, Tensor};
use ndarray::{Array2, ArrayView2, ArrayView3, Axis};

use crate::element::{Element, index, real, scalar};
use crate::error::{Error, Result};
use crate::inputs::{Inputs, Piece, shapes_over};
use crate::settings_file::{SettingsFile, rules_of_case, settings_of_case};
use crate::store::{place, put};
use crate::{trace, train};

/// Results by name: `out.*`, `trace.*` where asked for, and `grad.*` where there is a `cotangent.*`.
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
    /// What follows each call, before the next; none: nothing.
    pub after_calls: Vec<Vec<Operation>>,
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
            after_calls: case.after_calls.clone().unwrap_or_default(),
            flush: case.flush.unwrap_or(case.mode != Mode::Streaming),
            trace: false,
        })
    }

    /// The run of a settings file: one call, then a flush. Where the file has none, `top_k` and chunk are the paper's.
    pub fn of_settings<S>(settings: SettingsFile, rules: Option<Rules>, tables: &Tables<S>) -> Result<Self> {
        let settings = settings.over(shapes_over(tables, Settings::paper()))?;
        Ok(Self { rules: rules.unwrap_or_else(Rules::paper), ..Self::one_call(settings) })
    }

    /// One call with all tokens, then a flush; the paper's rules, without trace.
    pub fn one_call(settings: Settings) -> Self {
        Self { settings, rules: Rules::paper(), calls: None, after_calls: Vec::new(), flush: true, trace: false }
    }

    /// The calls of a text: the tokens of each, and what follows it.
    pub fn each_call(&self, tokens: usize) -> Vec<(usize, &[Operation])> {
        let calls = self.calls.clone().unwrap_or_else(|| vec![tokens]);
        let after = |number| self.after_calls.get(number).map_or(&[][..], Vec::as_slice);
        calls.into_iter().enumerate().map(|(number, call)| (call, after(number))).collect()
    }
}

/// Results of some tokens.
#[derive(Clone, Debug)]
pub struct Done<S> {
    /// Of the memory.
    pub fed: Fed<S>,
    /// Of the layer around it; rows are (sequence, token).
    pub layer: Option<(Projected<S>, Output<S>)>,
}

/// A run in progress.
#[derive(Debug)]
pub struct Session<S> {
    front: Front<S>,
    trace: Option<Trace<S>>,
}

#[derive(Debug)]
enum Front<S> {
    Memory(Box<Memory<S>>),
    Layer(Box<Layer<S>>),
}

impl<S: Element> Session<S> {
    /// A run from its initial tables.
    pub fn new(plan: &Plan, inputs: &Inputs) -> Result<Self> {
        Self::with(Memory::new(plan.settings.clone(), plan.rules.clone(), inputs.tables()?)?, plan, inputs)
    }

    /// A run that goes on from a state, whose settings and rules it has.
    pub fn resumed(plan: &Plan, inputs: &Inputs, state: State<S>) -> Result<Self> {
        Self::with(Memory::from_state(state)?, plan, inputs)
    }

    fn with(memory: Memory<S>, plan: &Plan, inputs: &Inputs) -> Result<Self> {
        let front = match inputs.projection()? {
            Some(projection) => Front::Layer(Box::new(Layer::new(projection, memory)?)),
            None => Front::Memory(Box::new(memory)),
        };
        Ok(Self { front, trace: plan.trace.then(Trace::default) })
    }

    /// The memory inside.
    pub fn memory(&self) -> &Memory<S> {
        match &self.front {
            Front::Memory(memory) => memory,
            Front::Layer(layer) => layer.memory(),
        }
    }

    /// The memory inside, at the end.
    pub fn into_memory(self) -> Memory<S> {
        match self.front {
            Front::Memory(memory) => *memory,
            Front::Layer(layer) => layer.into_memory(),
        }
    }

    /// Every stage tensor so far, where the plan asked for them.
    pub fn trace(&self) -> Option<&Trace<S>> {
        self.trace.as_ref()
    }

    /// Feeds tokens `from` to `to` in the plan's calls, slice by slice; after each slice, and what follows its call, `done` gets
    /// its results.
    ///
    /// A slice ends where a step falls due, so what is held at a time is bounded by a chunk. `done` may stop the run.
    ///
    /// # Errors   those of the interpreter; calls that do not add up to the tokens there are
    pub fn feed(
        &mut self,
        plan: &Plan,
        inputs: &Inputs,
        (from, to): (usize, usize),
        done: &mut dyn FnMut(usize, Done<S>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let tokens = inputs.tokens();
        let called = plan.each_call(tokens).iter().fold(0_usize, |sum, (call, _)| sum.saturating_add(*call));
        if called != tokens || to > tokens || from > to {
            let expected =
                format!("calls of {called} tokens in all, and tokens {from} to {to} of them, were asked for");
            let found = vec![inputs.sequences(), tokens];
            return Err(Error::Shape { tensor: "in.queries or in.hidden".into(), expected, found });
        }
        if from == to {
            return done(from, self.feed_slice(inputs, from, to)?).map(|_| ());
        }
        let mut call_from = 0;
        for (call, operations) in plan.each_call(tokens) {
            let call_to = call_from + call;
            let (mut at, end) = (call_from.max(from), call_to.min(to));
            // A run that ended where a call does has done what follows it.
            let due = call_to <= to && (call_to > from || from == 0);
            let operations = if due { operations } else { &[] };
            while at < end || (at == end && !operations.is_empty()) {
                let next = end.min(at.saturating_add(self.memory().until_border()));
                let mut slice = self.feed_slice(inputs, at, next)?;
                let last = next == end;
                for &operation in operations.iter().filter(|_| last) {
                    slice.fed.steps.extend(self.operate(operation, inputs)?);
                }
                if done(at, slice)?.is_break() {
                    return Ok(());
                }
                if last {
                    break;
                }
                at = next;
            }
            call_from = call_to;
        }
        Ok(())
    }

    /// What follows a call; the step of a flush.
    fn operate(&mut self, operation: Operation, inputs: &Inputs) -> Result<Option<StepReport<S>>> {
        match (operation, &mut self.front) {
            (Operation::Flush, _) => return self.flush(),
            (Operation::ResetQueue, Front::Memory(memory)) => memory.reset_queue(),
            (Operation::ResetQueue, Front::Layer(layer)) => layer.reset_queue(),
            (Operation::ResetTables, Front::Memory(memory)) => memory.reset_tables(inputs.tables()?)?,
            (Operation::ResetTables, Front::Layer(layer)) => layer.reset_tables(inputs.tables()?)?,
        }
        Ok(None)
    }

    fn feed_slice(&mut self, inputs: &Inputs, from: usize, to: usize) -> Result<Done<S>> {
        let trace = self.trace.as_mut();
        let fed = match (&mut self.front, inputs.piece(from, to)?) {
            (Front::Memory(memory), Piece::Memory { queries, values, gates, mask }) => {
                let (queries, values) = (queries.view(), values.view());
                let (gates, mask) = (gates.as_ref().map(|array| array.view()), mask.as_ref().map(|array| array.view()));
                feed_memory(memory, &Tokens { queries, values, gates, mask }, trace)
            }
            (Front::Layer(layer), Piece::Layer { hidden, mask }) => {
                feed_layer(layer, hidden.view(), mask.as_ref().map(|array| array.view()), trace)
            }
            _ => {
                return Err(Error::Usage {
                    reason: "a bare memory cannot go on as a layer, nor a layer as a memory".into(),
                });
            }
        };
        fed.map_err(|error| at_token(error, from))
    }

    /// Closes the last chunk.
    pub fn flush(&mut self) -> Result<Option<StepReport<S>>> {
        Ok(match (&mut self.front, &mut self.trace) {
            (Front::Memory(memory), Some(trace)) => memory.flush_traced(trace)?,
            (Front::Memory(memory), None) => memory.flush()?,
            (Front::Layer(layer), Some(trace)) => layer.flush_traced(trace)?,
            (Front::Layer(layer), None) => layer.flush()?,
        })
    }
}

fn feed_memory<S: Element>(
    memory: &mut Memory<S>,
    tokens: &Tokens<S>,
    trace: Option<&mut Trace<S>>,
) -> fwpkm_reference::Result<Done<S>> {
    let fed = match trace {
        Some(trace) => memory.feed_traced(tokens, trace)?,
        None => memory.feed(tokens)?,
    };
    Ok(Done { fed, layer: None })
}

fn feed_layer<S: Element>(
    layer: &mut Layer<S>,
    hidden: ArrayView3<S>,
    mask: Option<ArrayView2<bool>>,
    trace: Option<&mut Trace<S>>,
) -> fwpkm_reference::Result<Done<S>> {
    let LayerFed { projected, memory, output } = match trace {
        Some(trace) => layer.feed_traced(hidden, mask, trace)?,
        None => layer.feed(hidden, mask)?,
    };
    Ok(Done { fed: memory, layer: Some((projected, output)) })
}

/// Places in the tokens of a slice are places in the tokens of the run
fn at_token(error: fwpkm_reference::Error, from: usize) -> Error {
    use fwpkm_reference::Error::NotFinite;
    match error {
        NotFinite { tensor, mut at, value } => {
            if let Some(token) = at.get_mut(1) {
                *token += from;
            }
            NotFinite { tensor, at, value }.into()
        }
        other => other.into(),
    }
}

/// Losses and reads of a run, gathered slice by slice.
#[derive(Debug)]
pub struct Totals<S> {
    steps: Vec<StepReport<S>>,
    reads: SlotReads,
}

impl<S> Default for Totals<S> {
    fn default() -> Self {
        Self { steps: Vec::new(), reads: SlotReads::default() }
    }
}

impl<S: Element> Totals<S> {
    /// Adds the results of a slice.
    pub fn add(&mut self, fed: &Fed<S>) {
        self.steps.extend(fed.steps.iter().cloned());
        self.reads.extend(&fed.slots);
    }

    /// Adds the step of a flush.
    pub fn add_step(&mut self, step: Option<StepReport<S>>) {
        self.steps.extend(step);
    }

    /// Steps so far.
    pub fn steps(&self) -> &[StepReport<S>] {
        &self.steps
    }

    /// `out.mem_losses`, `out.addr_loss_mean` and `out.stats.*`.
    pub fn outputs(&self, slots: usize, sequences: usize, out: &mut Outputs) -> Result<()> {
        let losses: Vec<ArrayView2<S>> = self.steps.iter().map(|step| step.pair_losses.t()).collect();
        let none = Array2::from_elem((sequences, 0), S::ZERO);
        let losses = if losses.is_empty() { none } else { ndarray::concatenate(Axis(1), &losses)? };
        put(out, "out.mem_losses", real(losses.view()));
        let sum = self.steps.iter().fold(S::ZERO, |sum, step| sum + step.addressing_loss);
        let mean = if self.steps.is_empty() { S::ZERO } else { sum / S::from_f64(self.steps.len() as f64) };
        put(out, "out.addr_loss_mean", scalar(mean));
        put(out, "out.stats.collision_rate", scalar(self.reads.collision_rate()));
        put(out, "out.stats.coverage", scalar(self.reads.coverage(slots)));
        put(out, "out.stats.divergence", scalar(self.reads.divergence(slots)));
        Ok(())
    }
}

/// The tensors of a slice's tokens by name, each [B, tokens of the slice, …].
pub fn token_outputs<S: Element>(done: &Done<S>, traced: bool) -> Result<Outputs> {
    let mut out = Outputs::new();
    put(&mut out, "out.reads", real(done.fed.reads.view()));
    put(&mut out, "out.indices", index(done.fed.slots.view()));
    put(&mut out, "out.weights", real(done.fed.weights.view()));
    let Some((projected, output)) = &done.layer else { return Ok(out) };
    let (b, t, _) = done.fed.reads.dim();
    let rows = |rows: &Array2<S>| Ok::<_, Error>(real(rows.view().into_shape_with_order((b, t, rows.ncols()))?));
    put(&mut out, "out.layer", rows(&output.layer)?);
    put(&mut out, "out.hidden", rows(&output.hidden)?);
    let gates = projected.gates.as_ref().map(|gates| gates.view().into_shape_with_order((b, t))).transpose()?;
    if let Some(gates) = gates {
        put(&mut out, "out.gates", real(gates));
    }
    if traced {
        put(&mut out, "trace.projection.queries", rows(&projected.queries)?);
        put(&mut out, "trace.projection.values", rows(&projected.values)?);
        put(&mut out, "trace.output.mixed", rows(&output.mixed)?);
        if let Some(gates) = gates {
            put(&mut out, "trace.projection.gates", real(gates));
        }
    }
    Ok(out)
}

/// Runs a whole plan and holds every result.
///
/// # Errors   those of the interpreter and of [`Session::feed`]
pub fn run<S: Element>(plan: &Plan, inputs: &Inputs) -> Result<Outputs> {
    let mut session = Session::<S>::new(plan, inputs)?;
    let mut totals = Totals::default();
    let mut out = Outputs::new();
    session.feed(plan, inputs, (0, inputs.tokens()), &mut |from, done| {
        totals.add(&done.fed);
        place(&mut out, from, inputs.tokens(), &token_outputs(&done, plan.trace)?)?;
        Ok(ControlFlow::Continue(()))
    })?;
    if plan.flush {
        totals.add_step(session.flush()?);
    }
    totals.outputs(plan.settings.slots(), inputs.sequences(), &mut out)?;
    let tables = session.memory().tables();
    put(&mut out, "out.sub_keys", real(tables.sub_keys.view()));
    put(&mut out, "out.slot_values", real(tables.slot_values.view()));
    if let Some(trace) = session.trace() {
        trace::outputs(trace, inputs.sequences(), &mut out)?;
    }
    if let Some(cotangents) = inputs.cotangents::<S>()? {
        out.extend(train::gradients(plan, inputs, &cotangents)?);
    }
    Ok(out)
}
