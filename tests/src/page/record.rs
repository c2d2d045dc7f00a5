//! What a page shows: a run with everything it computed, every token and every table.

use std::ops::{ControlFlow, Range};

use fwpkm_reference::chunk::{Counted, Reading, Step, apply};
use fwpkm_reference::memorize::{pair_weights, step_factor};
use fwpkm_reference::rules::StreamCount;
use fwpkm_reference::settings::Border;
use fwpkm_reference::{Rules, Settings, Stages, Tables, TracedStep};
use fwpkm_spec::CaseFile;
use ndarray::{Array2, Array3, ArrayView1, s};

use super::limits;
use crate::error::{Error, Result};
use crate::inputs::{Inputs, Piece};
use crate::run::{Done, Plan, Session};

/// A run in f64 with all its stage tensors.
#[derive(Debug)]
pub struct Record {
    /// The name of the run, in words.
    pub name: String,
    /// Where its numbers come from, if that is known.
    pub source: Option<String>,
    /// What the run chose.
    pub settings: Settings,
    /// How the text is read.
    pub rules: Rules,
    /// Tokens and what is known of each.
    pub text: Text,
    /// The readings of the tokens, in order.
    pub slices: Vec<Slice>,
    /// The steps, in order.
    pub steps: Vec<Taken>,
    /// The tables before step s, and at last those after the last step.
    pub tables: Vec<Tables<f64>>,
}

/// The tokens of a run.
#[derive(Debug, Default)]
pub struct Text {
    /// q: [B, T, H·`d_k`]
    pub queries: Array3<f64>,
    /// v: [B, T, `d_v`]
    pub values: Array3<f64>,
    /// A layer's gates, where its output is mixed by them: [B, T]
    pub gates: Option<Array2<f64>>,
    /// A layer's mixed outputs: [B, T, `d_v`]
    pub mixed: Option<Array3<f64>>,
}

/// Tokens that were read at once.
#[derive(Debug)]
pub struct Slice {
    /// The tokens.
    pub tokens: Range<usize>,
    /// Number of the tables they were read with: steps taken before.
    pub tables: usize,
    /// The reading; rows are (token, sequence).
    pub reading: Reading<f64>,
}

/// A step that was taken.
#[derive(Debug)]
pub struct Taken {
    /// The chunk Q.
    pub tokens: Range<usize>,
    /// Tokens that had been read when it was taken.
    pub after: usize,
    /// Whether a flush took it.
    pub by_flush: bool,
    /// Tokens of the chunk that have a target, counted in one sequence.
    pub pairs: usize,
    /// f of each pair: [pairs, B]
    pub pair_weights: Array2<f64>,
    /// F of MEM-4.
    pub factor: f64,
    /// The reading of the chunk that the step was computed from.
    pub reading: Reading<f64>,
    /// Both gradients and the tables' new rows.
    pub step: Step<f64>,
}

/// Whether `N_i` and S count a slice of the caller's calls (STR-5)
pub(crate) fn by_call(settings: &Settings, rules: &Rules) -> bool {
    settings.border == Border::Carry && rules.stream_count == StreamCount::Call
}

impl Record {
    /// Runs a case file; `rules` replace those it states.
    ///
    /// # Errors   what a page cannot show, by name; those of the interpreter
    pub fn of_case(file: &CaseFile, rules: Option<&Rules>) -> Result<Self> {
        let name = file.path.file_name().unwrap_or(file.path.as_os_str()).to_string_lossy().into_owned();
        let plan = Plan::of_case(&file.case, rules)?;
        Self::new(name, file.source.clone(), &plan, &Inputs::of_case(file)?)
    }

    /// Runs a plan.
    ///
    /// # Errors   as [`Record::of_case`]
    pub fn new(name: String, source: Option<String>, plan: &Plan, inputs: &Inputs) -> Result<Self> {
        limits::check(&plan.settings, inputs.sequences(), inputs.tokens())?;
        if plan.after_calls.iter().any(|operations| !operations.is_empty()) {
            return Err(Error::Usage {
                reason: "the run has operations between its calls (after_calls), which a page does not show".into(),
            });
        }
        let plan = Plan { trace: true, ..plan.clone() };
        let mut session = Session::<f64>::new(&plan, inputs)?;
        let mut text = Text::new(&plan.settings, inputs)?;
        let (mut fed, mut after) = (Vec::new(), Vec::new());
        session.feed(&plan, inputs, (0, inputs.tokens()), &mut |from, done| {
            let to = from + done.fed.reads.dim().1;
            fed.push((from..to, after.len()));
            after.extend(done.fed.steps.iter().map(|_| (to, false)));
            text.put(from, &done);
            Ok(ControlFlow::Continue(()))
        })?;
        if plan.flush && session.flush()?.is_some() {
            after.push((inputs.tokens(), true));
        }
        let trace = session.trace().cloned().unwrap_or_default();
        let readings = trace.readings.into_iter().zip(fed);
        let slices =
            readings.map(|((_, reading), (tokens, tables))| Slice { tokens, tables, reading }).collect::<Vec<_>>();
        let (mut steps, mut tables) = (Vec::new(), vec![inputs.tables::<f64>()?]);
        let mut from = 0;
        for (TracedStep { counted_tokens, chunk, reading, step, .. }, (after, by_flush)) in
            trace.steps.into_iter().zip(after)
        {
            let to = from + chunk.queries.dim().0;
            let samples = counted_tokens * chunk.sequences();
            let counted = Counted { slots: reading.selected.slots.view(), samples };
            let factor = step_factor(&plan.settings, &plan.rules, &chunk, &counted);
            let (pairs, pair_weights) = (chunk.pairs(), pair_weights(&chunk));
            tables.extend(tables.last().cloned().map(|mut tables| {
                apply(&Stages::specification(), &plan.settings, &mut tables, &step);
                tables
            }));
            steps.push(Taken { tokens: from..to, after, by_flush, pairs, pair_weights, factor, reading, step });
            from = to;
        }
        let Plan { settings, rules, .. } = plan;
        Ok(Self { name, source, settings, rules, text, slices, steps, tables })
    }

    /// B
    pub fn sequences(&self) -> usize {
        self.text.values.dim().0
    }

    /// T
    pub fn tokens(&self) -> usize {
        self.text.values.dim().1
    }

    /// The step whose chunk a token belongs to; none if the run ends before.
    pub fn step_of(&self, token: usize) -> Option<usize> {
        self.steps.iter().position(|step| step.tokens.contains(&token))
    }

    /// A half of a query.
    pub fn query_half(&self, [token, sequence, head, half]: [usize; 4]) -> ArrayView1<'_, f64> {
        let size = self.settings.half_dim();
        let from = (head * 2 + half) * size;
        self.text.queries.slice(s![sequence, token, from..from + size])
    }
}

impl Text {
    /// The tokens of a bare memory, or room for those of a layer
    fn new(settings: &Settings, inputs: &Inputs) -> Result<Self> {
        let (b, t) = (inputs.sequences(), inputs.tokens());
        Ok(match inputs.piece(0, t)? {
            Piece::Memory { queries, values, .. } => Self { queries, values, gates: None, mixed: None },
            Piece::Layer { .. } => Self {
                queries: Array3::zeros((b, t, settings.heads * settings.key_dim)),
                values: Array3::zeros((b, t, settings.value_dim)),
                gates: settings.output_gate.then(|| Array2::zeros((b, t))),
                mixed: Some(Array3::zeros((b, t, settings.value_dim))),
            },
        })
    }

    /// Adds what a layer computed of the tokens from `from` on
    fn put(&mut self, from: usize, done: &Done<f64>) {
        let Some((projected, output)) = &done.layer else { return };
        let length = done.fed.reads.dim().1;
        for row in 0..projected.queries.nrows() {
            let (sequence, token) = (row / length, from + row % length);
            self.queries.slice_mut(s![sequence, token, ..]).assign(&projected.queries.row(row));
            self.values.slice_mut(s![sequence, token, ..]).assign(&projected.values.row(row));
            if let (Some(gates), Some(projected)) = (&mut self.gates, &projected.gates) {
                gates[[sequence, token]] = projected[row];
            }
            if let Some(mixed) = &mut self.mixed {
                mixed.slice_mut(s![sequence, token, ..]).assign(&output.mixed.row(row));
            }
        }
    }
}
