//! A run as a list of events, walked with any numbers, stages and order.             CHK-1, CHK-2, STR-1
//!
//! The list is the specification's own: it is taken from a run of the interpreter on a memory of one slot. So whatever
//! walks it can differ in what it computes, and when it applies it, but not by accident in what belongs together.

mod cut;

use std::ops::Range;

use fwpkm_reference::chunk::{self, Chunk, Counted, Reading, Stages};
use fwpkm_reference::output::Output;
use fwpkm_reference::projection::Projected;
use fwpkm_reference::rules::StreamCount;
use fwpkm_reference::settings::{Border, WeightsOver};
use fwpkm_reference::{Memory, Scalar, Settings, Tables, Trace, TracedStep};
use ndarray::{Array2, Array3, Axis, s};

use crate::error::Result;
use crate::problem::{Problem, Text, Tokens, cast, cast_projection, cast_tables, swapped};
use crate::run::Plan;
use crate::selection::Choices;

/// What happens in a run, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A call begins.
    Call,
    /// Tokens are read, with the tables of the moment.
    Read(Range<usize>),
    /// A step is taken.
    Step(Due),
}

/// A step: the tokens that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The queries of the chunk.
    pub queries: Range<usize>,
    /// Where the values end that are there as targets.
    pub values_to: usize,
    /// The tokens that `N_i` and S count.
    pub counted: Range<usize>,
}

/// When steps take effect. All but the first are orders that an implementation may have by mistake or by choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// As CHK and STR say.
    Specification,
    /// The tokens of a chunk are read after its step.
    WriteBeforeRead,
    /// The first token after a step still reads the tables from before it.
    OneTokenLate,
    /// A step takes effect when the next one is taken; its gradients then move the tables of that moment.
    OneChunkLate,
    /// All steps take effect after the last token.
    AtTheEnd,
    /// The sub-keys move first; the chunk is read again for the value step.
    SubKeysFirst,
    /// The slot values move first; the chunk is read again for the sub-key step.
    SlotValuesFirst,
    /// A pair keeps the reading of when its query was fed.
    FirstReading,
    /// A chunk without pairs is closed without a step.
    OnlyWithPairs,
    /// Every call is a text of its own, and ends with a flush.
    CallsApart,
    /// Every call is a text of its own; what is queued at its end is lost.
    QueueLost,
    /// Every call begins with the initial tables.
    TablesPerCall,
    /// Every sequence has tables of its own.
    TablesPerSequence,
    /// A sequence is read to its end before the next one begins, with the tables that it left.
    SequencesInTurn,
}

/// The events of a run.
///
/// # Errors   settings or rules out of range
pub fn events(plan: &Plan, tokens: usize) -> Result<Vec<Event>> {
    let one = Settings { heads: 1, sub_keys: 1, key_dim: 2, value_dim: 1, top_k: 1, ..plan.settings.clone() };
    let one = Settings { weights_over: WeightsOver::AllHeads, learning_rate: 0.0, ..one };
    let tables = Tables { sub_keys: ndarray::Array4::zeros((1, 2, 1, 1)), slot_values: Array2::<f64>::zeros((1, 1)) };
    let by_call = one.border == Border::Carry && plan.rules.stream_count == StreamCount::Call;
    let mut memory = Memory::new(one, plan.rules.clone(), tables)?;
    let mut trace = Trace::default();
    let mut events = Vec::new();
    let mut read = 0;
    let mut note = |trace: &mut Trace<f64>, events: &mut Vec<Event>| {
        let readings = std::mem::take(&mut trace.readings);
        let mut steps = std::mem::take(&mut trace.steps).into_iter().peekable();
        for after in 0..=readings.len() {
            while let Some(step) = steps.next_if(|step| step.after == after) {
                let from = read - step.chunk.values.dim().0;
                let queries = from..from + step.chunk.queries.dim().0;
                let counted = if by_call { read - step.counted_tokens..read } else { queries.clone() };
                events.push(Event::Step(Due { queries, values_to: read, counted }));
            }
            if let Some((tokens, _)) = readings.get(after) {
                events.push(Event::Read(read..read + tokens));
                read += tokens;
            }
        }
    };
    for call in plan.calls.clone().unwrap_or_else(|| vec![tokens]) {
        let (queries, values) = (Array3::zeros((1, call, 2)), Array3::zeros((1, call, 1)));
        let fed = fwpkm_reference::Tokens { queries: queries.view(), values: values.view(), gates: None, mask: None };
        memory.feed_traced(&fed, &mut trace)?;
        events.push(Event::Call);
        note(&mut trace, &mut events);
    }
    if plan.flush {
        memory.flush_traced(&mut trace)?;
        note(&mut trace, &mut events);
    }
    Ok(events)
}

/// Everything a walk computed; rows of readings are (token, sequence).
#[derive(Clone, Debug)]
pub struct Walked<S> {
    /// What the memory read; a layer's come from its projections.
    pub tokens: Tokens<S>,
    /// A layer's queries, values and gates.
    pub projected: Option<Projected<S>>,
    /// A layer's output.
    pub output: Option<Output<S>>,
    /// The readings and steps.
    pub trace: Trace<S>,
    /// How much worse than its best the adopted choice of each reading is: see [`Choices::adopt`]; [rows, heads].
    pub gaps: Vec<Array2<f64>>,
    /// The last tables.
    pub tables: Tables<S>,
}

/// What a walk is made with.
#[derive(Clone, Debug)]
pub struct Walk<'a, S> {
    /// The plan, events included.
    pub plan: &'a Plan,
    /// The stages.
    pub stages: Stages<S>,
    /// When steps take effect.
    pub order: Order,
    /// Choices to follow.
    pub choices: Option<&'a Choices>,
    /// Whether its own choices are the specification's, given the scores.
    pub as_specified: bool,
}

impl<S: Scalar> Walk<'_, S> {
    /// Walks all events of a case.
    ///
    /// # Errors   those of the stages
    pub fn run(&self, problem: &Problem) -> Result<Walked<S>> {
        let events = cut::events(self.plan, problem.tokens, self.order)?;
        let (tokens, projected) = self.tokens(problem)?;
        let initial = cast_tables(&problem.tables);
        let mut walked = Walked {
            tables: initial.clone(),
            tokens,
            projected,
            output: None,
            trace: Trace::default(),
            gaps: Vec::new(),
        };
        let mut late = Vec::new();
        let mut since_step = 0;
        let mut places = Vec::new();
        for event in &events {
            match event {
                Event::Call if self.order == Order::TablesPerCall => walked.tables = initial.clone(),
                Event::Call => {}
                Event::Read(range) => {
                    // What a chunk was read with before its step is not what was recorded of it.
                    let first = if self.order == Order::WriteBeforeRead { &self.own_choices() } else { self };
                    let (reading, gaps) = first.read(&walked, range.clone())?;
                    walked.trace.readings.push((range.len(), reading));
                    walked.gaps.push(gaps);
                    places.push(range.clone());
                }
                Event::Step(due) => {
                    self.step(&mut walked, due, &mut late)?;
                    if self.order == Order::WriteBeforeRead {
                        for (place, range) in places.iter().enumerate().skip(since_step) {
                            (walked.trace.readings[place].1, walked.gaps[place]) = self.read(&walked, range.clone())?;
                        }
                    }
                    since_step = places.len();
                }
            }
        }
        for step in late {
            self.apply_late(&mut walked.tables, step);
        }
        walked.output = self.output(problem, &walked);
        Ok(walked)
    }

    /// What the memory reads.
    pub fn tokens(&self, problem: &Problem) -> Result<(Tokens<S>, Option<Projected<S>>)> {
        let (b, t) = (problem.sequences, problem.tokens);
        match (&problem.text, &problem.projection) {
            (Text::Layer { hidden, mask }, Some(maps)) => {
                let settings = &self.plan.settings;
                let hidden = cast::<S, _, _>(hidden);
                let maps = cast_projection(maps);
                let mut projected = (self.stages.project)(settings, &self.plan.rules, &maps, hidden.view())?;
                if let Some(keep) = self.stages.keep {
                    projected.queries.mapv_inplace(keep);
                    projected.values.mapv_inplace(keep);
                    projected.gates = projected.gates.map(|gates| gates.mapv_into(keep));
                }
                Ok((memory_tokens(settings, &projected, mask.as_ref(), b, t)?, Some(projected)))
            }
            (Text::Memory(tokens), _) => Ok((cast_tokens(tokens), None)),
            (Text::Layer { .. }, None) => {
                Err(crate::Error::Usage { reason: "hidden states without projections".into() })
            }
        }
    }

    /// The same walk with choices of its own: those to be followed are of first readings.
    fn own_choices(&self) -> Self {
        Self { choices: None, ..self.clone() }
    }

    fn read(&self, walked: &Walked<S>, range: Range<usize>) -> Result<(Reading<S>, Array2<f64>)> {
        self.read_with(&walked.tables, &walked.tokens, range)
    }

    /// One reading with given tables; follows the choices, where there are any.
    pub fn read_with(
        &self,
        tables: &Tables<S>,
        tokens: &Tokens<S>,
        range: Range<usize>,
    ) -> Result<(Reading<S>, Array2<f64>)> {
        let settings = &self.plan.settings;
        let queries = tokens.queries.slice(s![range.clone(), .., ..]);
        let mut reading = chunk::read(&self.stages, settings, tables, queries, 0)?;
        let mut gaps = Array2::zeros((reading.scores.dim().0, settings.heads));
        if let Some(choices) = self.choices {
            if self.as_specified {
                gaps = choices.adopt(range, &reading.scores, &mut reading.selected);
            } else {
                choices.adopt_whole(range, &mut reading.selected);
            }
            let kept = |x: S| self.stages.keep.map_or(x, |keep| keep(x));
            reading.selected.pair_scores.mapv_inplace(kept);
            reading.weights = (self.stages.weigh)(settings, reading.selected.pair_scores.view()).mapv_into(kept);
            let (slots, weights) = (reading.selected.slots.view(), reading.weights.view());
            reading.reads = (self.stages.read)(tables.slot_values.view(), slots, weights)?.mapv_into(kept);
        }
        Ok((reading, gaps))
    }

    fn step(&self, walked: &mut Walked<S>, due: &Due, late: &mut Vec<chunk::Step<S>>) -> Result<()> {
        let chunk = chunk_of(&walked.tokens, due, self.plan.settings.lookahead);
        let drop = self.plan.settings.border == Border::Drop && self.order == Order::Specification;
        let first = walked.trace.steps.is_empty() && self.order == Order::Specification;
        let reading = if drop || first || self.order == Order::FirstReading {
            // Under drop, and before the first step, these are the readings with the very tables of the moment.
            gathered(&walked.trace.readings, due.queries.clone(), chunk.sequences())?
        } else {
            self.own_choices().read_with(&walked.tables, &walked.tokens, due.queries.clone())?.0
        };
        let counted = gathered(&walked.trace.readings, due.counted.clone(), chunk.sequences());
        let counted = if due.counted == due.queries { reading.clone() } else { counted? };
        let mut step = self.computed(&walked.tables, &chunk, &reading, &counted, due)?;
        let mut traced = reading;
        if matches!(self.order, Order::SubKeysFirst | Order::SlotValuesFirst) {
            let mut between = walked.tables.clone();
            let sub_keys = self.order == Order::SubKeysFirst;
            chunk::apply(&self.stages, &self.plan.settings, &mut between, &step);
            if sub_keys {
                between.slot_values.assign(&walked.tables.slot_values);
            } else {
                between.sub_keys.assign(&walked.tables.sub_keys);
            }
            let reading = self.own_choices().read_with(&between, &walked.tokens, due.queries.clone())?.0;
            let second = self.computed(&between, &chunk, &reading, &reading, due)?;
            traced = if sub_keys { reading } else { traced };
            if sub_keys {
                (step.memorized, step.slot_values) = (second.memorized, second.slot_values);
            } else {
                (step.addressed, step.sub_keys) = (second.addressed, second.sub_keys);
            }
        }
        match self.order {
            Order::OneChunkLate | Order::AtTheEnd => {
                if self.order == Order::OneChunkLate {
                    late.drain(..).for_each(|step| self.apply_late(&mut walked.tables, step));
                }
                late.push(step.clone());
            }
            _ => chunk::apply(&self.stages, &self.plan.settings, &mut walked.tables, &step),
        }
        let after = walked.trace.readings.len();
        walked.trace.steps.push(TracedStep { after, counted_tokens: due.counted.len(), chunk, reading: traced, step });
        Ok(())
    }

    /// Moves the tables as they are now by the gradients of an earlier step.
    fn apply_late(&self, tables: &mut Tables<S>, mut step: chunk::Step<S>) {
        let settings = &self.plan.settings;
        for ((place, d), value) in step.slot_values.indexed_iter_mut() {
            let now = tables.slot_values[[step.memorized.slots[place], d]];
            *value = (self.stages.value_step)(settings, now, step.memorized.value_gradient[[place, d]]);
        }
        let gradient = &step.addressed.sub_key_gradient;
        let now = ndarray::Zip::from(&tables.sub_keys).and(gradient);
        step.sub_keys = now.map_collect(|&key, &gradient| (self.stages.sub_key_step)(settings, key, gradient));
        chunk::apply(&self.stages, settings, tables, &step);
    }

    fn computed(
        &self,
        tables: &Tables<S>,
        chunk: &Chunk<S>,
        reading: &Reading<S>,
        counted: &Reading<S>,
        due: &Due,
    ) -> Result<chunk::Step<S>> {
        let samples = due.counted.len() * chunk.sequences();
        let counted = Counted { slots: counted.selected.slots.view(), samples };
        let (settings, rules) = (&self.plan.settings, &self.plan.rules);
        Ok(chunk::step(&self.stages, settings, rules, tables, chunk, reading, &counted, 0)?)
    }

    fn output(&self, problem: &Problem, walked: &Walked<S>) -> Option<Output<S>> {
        let (Text::Layer { hidden, .. }, Some(maps)) = (&problem.text, &problem.projection) else { return None };
        let projected = walked.projected.as_ref()?;
        let reads = reads_by_sequence(walked, problem.sequences)?;
        Some(self.output_of(&cast(hidden), &cast_projection(maps), projected, &reads))
    }

    /// A layer's output; rows are (sequence, token).
    pub fn output_of(
        &self,
        hidden: &Array2<S>,
        maps: &fwpkm_reference::projection::Projection<S>,
        projected: &Projected<S>,
        reads: &Array2<S>,
    ) -> Output<S> {
        let settings = &self.plan.settings;
        let gates = projected.gates.as_ref().filter(|_| settings.output_gate);
        let (reads, values) = (reads.view(), projected.values.view());
        let mut output = (self.stages.output)(settings, &maps.output, reads, values, gates, hidden.view());
        if let Some(keep) = self.stages.keep {
            output.mixed.mapv_inplace(keep);
            output.layer.mapv_inplace(keep);
            output.hidden.mapv_inplace(keep);
        }
        output
    }
}

/// The reads of all tokens; rows are (sequence, token).
fn reads_by_sequence<S: Scalar>(walked: &Walked<S>, sequences: usize) -> Option<Array2<S>> {
    let views: Vec<_> = walked.trace.readings.iter().map(|(_, reading)| reading.reads.view()).collect();
    let rows = ndarray::concatenate(Axis(0), &views).ok()?;
    let (count, width) = rows.dim();
    let by_token = rows.into_shape_with_order((count / sequences, sequences, width)).ok()?;
    swapped(&by_token).into_shape_with_order((count, width)).ok()
}

/// What a layer's projections give its memory.
pub(crate) fn memory_tokens<S: Scalar>(
    settings: &Settings,
    projected: &Projected<S>,
    mask: Option<&Array2<bool>>,
    b: usize,
    t: usize,
) -> Result<Tokens<S>> {
    let by_token = |rows: &Array2<S>| -> Result<Array3<S>> {
        Ok(swapped(&rows.clone().into_shape_with_order((b, t, rows.ncols()))?))
    };
    let gates = projected.gates.as_ref().filter(|_| settings.gate_weighted_loss);
    let gates = gates.map(|gates| gates.clone().into_shape_with_order((b, t))).transpose()?;
    Ok(Tokens {
        queries: by_token(&projected.queries)?,
        values: by_token(&projected.values)?,
        gates: gates.as_ref().map(swapped),
        mask: mask.cloned(),
    })
}

/// Tokens in another type.
pub(crate) fn cast_tokens<S: Scalar>(tokens: &Tokens<f64>) -> Tokens<S> {
    Tokens {
        queries: cast(&tokens.queries),
        values: cast(&tokens.values),
        gates: tokens.gates.as_ref().map(cast),
        mask: tokens.mask.clone(),
    }
}

/// The chunk of a step.
pub(crate) fn chunk_of<S: Scalar>(tokens: &Tokens<S>, due: &Due, lookahead: usize) -> Chunk<S> {
    let queries = due.queries.clone();
    Chunk {
        queries: tokens.queries.slice(s![queries.clone(), .., ..]).to_owned(),
        values: tokens.values.slice(s![queries.start..due.values_to, .., ..]).to_owned(),
        gates: tokens.gates.as_ref().map(|gates| gates.slice(s![queries.clone(), ..]).to_owned()),
        mask: tokens.mask.as_ref().map(|mask| mask.slice(s![queries, ..]).to_owned()),
        lookahead,
    }
}

/// The readings of some tokens as one.
pub(crate) fn gathered<S: Scalar>(
    readings: &[(usize, Reading<S>)],
    tokens: Range<usize>,
    sequences: usize,
) -> Result<Reading<S>> {
    let mut parts = Vec::new();
    let mut at = 0;
    for (length, reading) in readings {
        let (from, to) = (tokens.start.max(at), tokens.end.min(at + length));
        if from < to {
            parts.push(rows_of(reading, (from - at) * sequences..(to - at) * sequences));
        }
        at += length;
    }
    joined(&parts)
}

/// Some rows of a reading.
pub(crate) fn rows_of<S: Scalar>(reading: &Reading<S>, rows: Range<usize>) -> Reading<S> {
    let selected = &reading.selected;
    Reading {
        scores: reading.scores.slice(s![rows.clone(), .., .., ..]).to_owned(),
        selected: fwpkm_reference::select::Selected {
            half_indices: selected.half_indices.slice(s![rows.clone(), .., .., ..]).to_owned(),
            half_scores: selected.half_scores.slice(s![rows.clone(), .., .., ..]).to_owned(),
            ranks: selected.ranks.slice(s![rows.clone(), .., .., ..]).to_owned(),
            pair_scores: selected.pair_scores.slice(s![rows.clone(), .., ..]).to_owned(),
            slots: selected.slots.slice(s![rows.clone(), .., ..]).to_owned(),
        },
        weights: reading.weights.slice(s![rows.clone(), .., ..]).to_owned(),
        reads: reading.reads.slice(s![rows, ..]).to_owned(),
    }
}

fn joined<S: Scalar>(parts: &[Reading<S>]) -> Result<Reading<S>> {
    macro_rules! join {
        ($($field:ident).+) => {
            ndarray::concatenate(Axis(0), &parts.iter().map(|part| part.$($field).+.view()).collect::<Vec<_>>())?
        };
    }
    Ok(Reading {
        scores: join!(scores),
        selected: fwpkm_reference::select::Selected {
            half_indices: join!(selected.half_indices),
            half_scores: join!(selected.half_scores),
            ranks: join!(selected.ranks),
            pair_scores: join!(selected.pair_scores),
            slots: join!(selected.slots),
        },
        weights: join!(weights),
        reads: join!(reads),
    })
}
