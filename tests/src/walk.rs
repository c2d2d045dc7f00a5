//! A run as a list of events, walked with any numbers, stages and order.             CHK-1, CHK-2, STR-1
//!
//! The list is the specification's own: it is taken from a run of the interpreter on a memory of one slot. So whatever
//! walks it can differ in what it computes, and when it applies it, but not by accident in what belongs together.

mod cut;
mod rows;
mod schedule;

use std::ops::Range;

use fwpkm_reference::chunk::{self, Chunk, Counted, Reading, Stages};
use fwpkm_reference::output::Output;
use fwpkm_reference::projection::Projected;
use fwpkm_reference::settings::Border;
use fwpkm_reference::{Scalar, Tables, Trace, TracedStep};
use ndarray::{Array2, s};

use crate::error::Result;
use crate::problem::{Problem, Text, Tokens, cast, cast_projection, cast_tables};
use crate::run::Plan;
use crate::selection::{Choices, Exchange, Gap};
use rows::reads_by_sequence;
pub(crate) use rows::{cast_tokens, chunk_of, gathered, memory_tokens, rows_of};
pub use schedule::{Due, Event, Order, events};

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
    pub gaps: Vec<Array2<Gap>>,
    /// The tokens of each step that was taken from their first readings; none where the chunk was read again.
    pub first_readings: Vec<Option<Range<usize>>>,
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
    /// Sub-keys that change places in what steps are taken from, where that is not read again.
    pub exchanged: &'a [Exchange],
    /// Whether its own choices are the specification's, given the scores.
    pub as_specified: bool,
}

impl<S: Scalar> Walk<'_, S> {
    /// Walks all events of a case.
    ///
    /// # Errors   those of the stages
    pub fn run(&self, problem: &Problem) -> Result<Walked<S>> {
        self.along(&self.events(problem.tokens)?, problem)
    }

    /// The events of a case of so many tokens, in this order.
    ///
    /// # Errors   settings or rules out of range
    pub fn events(&self, tokens: usize) -> Result<Vec<Event>> {
        cut::events(self.plan, tokens, self.order)
    }

    /// Walks these events of a case, which are the same for all walks of one plan and order.
    ///
    /// # Errors   those of the stages
    pub fn along(&self, events: &[Event], problem: &Problem) -> Result<Walked<S>> {
        self.on(events, problem, self.tokens(problem)?, cast_tables(&problem.tables))
    }

    /// The same with what the memory reads, and its initial tables, as given.
    ///
    /// # Errors   those of the stages
    pub fn on(
        &self,
        events: &[Event],
        problem: &Problem,
        (tokens, projected): (Tokens<S>, Option<Projected<S>>),
        initial: Tables<S>,
    ) -> Result<Walked<S>> {
        let mut walked = Walked {
            tables: initial.clone(),
            tokens,
            projected,
            output: None,
            trace: Trace::default(),
            gaps: Vec::new(),
            first_readings: Vec::new(),
        };
        let mut late = Vec::new();
        let (mut since_step, mut since_reset) = (0, 0);
        let mut places = Vec::new();
        for event in events {
            match event {
                Event::Call if self.order == Order::TablesPerCall => walked.tables = initial.clone(),
                Event::Call => {}
                Event::ResetTables => {
                    walked.tables = initial.clone();
                    since_reset = places.last().map_or(0, |range: &Range<usize>| range.end);
                }
                Event::Read(range) => {
                    // What a chunk was read with before its step is not what was recorded of it.
                    let first = if self.order == Order::WriteBeforeRead { &self.own_choices() } else { self };
                    let (reading, gaps) = first.read(&walked, range.clone())?;
                    walked.trace.readings.push((range.len(), reading));
                    walked.gaps.push(gaps);
                    places.push(range.clone());
                }
                Event::Step(due) => {
                    self.step(&mut walked, due, since_reset, &mut late)?;
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

    fn read(&self, walked: &Walked<S>, range: Range<usize>) -> Result<(Reading<S>, Array2<Gap>)> {
        self.read_with(&walked.tables, &walked.tokens, range)
    }

    /// One reading with given tables; follows the choices, where there are any.
    pub fn read_with(
        &self,
        tables: &Tables<S>,
        tokens: &Tokens<S>,
        range: Range<usize>,
    ) -> Result<(Reading<S>, Array2<Gap>)> {
        let settings = &self.plan.settings;
        let queries = tokens.queries.slice(s![range.clone(), .., ..]);
        let mut reading = chunk::read(&self.stages, settings, tables, queries, 0)?;
        let mut gaps = Array2::from_elem((reading.scores.dim().0, settings.heads), Gap::default());
        if let Some(choices) = self.choices {
            if self.as_specified {
                gaps = choices.adopt(range, &reading.scores, &mut reading.selected);
            } else {
                choices.adopt_whole(range, &reading.scores, &mut reading.selected);
            }
            let kept = |x: S| self.stages.keep.map_or(x, |keep| keep(x));
            reading.selected.pair_scores.mapv_inplace(kept);
            reading.weights = (self.stages.weigh)(settings, reading.selected.pair_scores.view()).mapv_into(kept);
            let (slots, weights) = (reading.selected.slots.view(), reading.weights.view());
            reading.reads = (self.stages.read)(tables.slot_values.view(), slots, weights)?.mapv_into(kept);
        }
        Ok((reading, gaps))
    }

    fn step(
        &self,
        walked: &mut Walked<S>,
        due: &Due,
        since_reset: usize,
        late: &mut Vec<chunk::Step<S>>,
    ) -> Result<()> {
        let chunk = chunk_of(&walked.tokens, due, self.plan.settings.lookahead);
        let in_order = matches!(self.order, Order::Specification | Order::Detached);
        let drop = self.plan.settings.border == Border::Drop && in_order;
        let first = walked.trace.steps.is_empty() && in_order;
        let same = (drop || first) && due.queries.start >= since_reset || self.order == Order::FirstReading;
        let reading = if same {
            // Under drop, and before the first step, these are the readings with the very tables of the moment: but for a reset.
            gathered(&walked.trace.readings, due.queries.clone(), chunk.sequences())?
        } else {
            self.own_choices().read_with(&walked.tables, &walked.tokens, due.queries.clone())?.0
        };
        let counted = gathered(&walked.trace.readings, due.counted.clone(), chunk.sequences());
        let counted = if due.counted == due.queries { reading.clone() } else { counted? };
        let mut turned = None;
        for exchange in self.exchanged.iter().filter(|exchange| same && due.queries.contains(&exchange.token)) {
            let turned = turned.get_or_insert_with(|| reading.clone());
            exchange.make(due.queries.start, chunk.sequences(), turned);
        }
        let of_step = turned.as_ref().unwrap_or(&reading);
        let mut step = self.computed(&walked.tables, &chunk, of_step, &counted, due)?;
        walked.first_readings.push(same.then(|| due.queries.clone()));
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
        if self.order == Order::Detached {
            walked.tables.sub_keys.mapv_inplace(S::constant);
            walked.tables.slot_values.mapv_inplace(S::constant);
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
