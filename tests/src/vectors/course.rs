//! An entry's run under one of its rules, as its tokens are drawn: what the next token will be read with.

use fwpkm_reference::projection::{Projection, project};
use fwpkm_reference::score::half_scores;
use fwpkm_reference::settings::{Activation, Score};
use fwpkm_reference::{Memory, Rules, Settings, Tables, Tokens};
use fwpkm_spec::case::Operation;
use ndarray::{Array1, Array2, Array3, Array4};

use super::entry::{Entry, Least, Near};
use super::margin::{HeadMargins, head_margins};
use crate::error::Result;

/// One token of one sequence, as drawn.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    /// Query, or hidden state.
    pub(super) query: Vec<f64>,
    /// Value; none in a layer.
    pub(super) value: Vec<f64>,
    /// Gate; 1 where there are none.
    pub(super) gate: f64,
    /// Mask; true where there is none.
    pub(super) mask: bool,
}

/// A run under one of the rules.
#[derive(Clone)]
pub(super) struct Course {
    memory: Memory<f64>,
    projection: Option<Projection<f64>>,
    gated: bool,
    masked: bool,
    calls: Vec<(usize, Vec<Operation>)>, // where they end, and what follows
    initial: Tables<f64>,
    pending: Vec<Vec<Row>>,
}

/// What became of the tables after a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// No step.
    Nothing,
    /// A step; what is queued can be read again with certain choices.
    Stepped,
    /// A step, after which a queued query would be read with too small a margin.
    Close,
}

impl Course {
    pub(super) fn new(
        entry: &Entry,
        rules: &Rules,
        tables: &Tables<f64>,
        projection: Option<Projection<f64>>,
    ) -> Result<Self> {
        let calls = entry.calls.clone().unwrap_or_else(|| vec![entry.tokens]);
        let calls = calls.iter().enumerate().scan(0, |end, (number, call)| {
            *end += call;
            Some((*end, entry.after_calls.get(number).cloned().unwrap_or_default()))
        });
        Ok(Self {
            memory: Memory::new(entry.settings.clone(), rules.clone(), tables.clone())?,
            projection,
            gated: !entry.inputs.gates.is_empty(),
            masked: !entry.inputs.mask.is_empty(),
            calls: calls.collect(),
            initial: tables.clone(),
            pending: Vec::new(),
        })
    }

    /// Whether a token of one sequence would be read with the margins asked for.
    pub(super) fn allows(&self, row: &Row, least: &Least, near: bool) -> Result<bool> {
        let settings = self.memory.settings();
        let queries = self.tokens(&[vec![row.clone()]])?.queries;
        let scores = self.scores(&queries)?;
        let heads = scores
            .outer_iter()
            .flat_map(|token| token.outer_iter().map(|head| head_margins(head, settings.top_k)).collect::<Vec<_>>());
        let heads: Vec<HeadMargins> = heads.collect();
        let some_near = heads.iter().any(|head| near_enough(head, least.near));
        Ok(heads.iter().all(|head| wide_enough(head, least, settings, near)) && (!near || some_near))
    }

    /// Takes the next token of every sequence, and steps where a step falls due.
    pub(super) fn push(&mut self, rows: Vec<Row>, token: usize, least: &Least) -> Result<After> {
        self.pending.push(rows);
        let border = self.pending.len() == self.memory.until_border();
        let ending = self.calls.iter().find(|(end, _)| *end == token + 1).map(|(_, operations)| operations.clone());
        if !border && ending.is_none() {
            return Ok(After::Nothing);
        }
        let pending = std::mem::take(&mut self.pending);
        let drawn = self.tokens(&pending)?;
        let tokens = Tokens {
            queries: drawn.queries.view(),
            values: drawn.values.view(),
            gates: drawn.gates.as_ref().map(|gates| gates.view()),
            mask: drawn.mask.as_ref().map(|mask| mask.view()),
        };
        let stepped = !self.memory.feed(&tokens)?.steps.is_empty();
        let operations = ending.unwrap_or_default();
        for operation in &operations {
            match operation {
                Operation::Flush => drop(self.memory.flush()?),
                Operation::ResetQueue => self.memory.reset_queue(),
                Operation::ResetTables => self.memory.reset_tables(self.initial.clone())?,
            }
        }
        if !stepped && operations.is_empty() {
            return Ok(After::Nothing);
        }
        let Some(queued) = self.memory.clone().into_state().queued else { return Ok(After::Stepped) };
        let settings = self.memory.settings();
        let scores = self.scores(&queued.queries)?;
        let certain = scores.outer_iter().all(|token| {
            token.outer_iter().all(|head| wide_enough(&head_margins(head, settings.top_k), least, settings, false))
        });
        Ok(if certain { After::Stepped } else { After::Close })
    }

    /// Half scores of queries, [tokens, sequences, H·`d_k`], with the tables as they are: [rows, heads, 2, n]
    fn scores(&self, queries: &Array3<f64>) -> Result<Array4<f64>> {
        let (settings, tables) = (self.memory.settings(), self.memory.tables());
        let rows = queries.dim().0 * queries.dim().1;
        let halves = queries.view().into_shape_with_order((rows, settings.heads, 2, settings.half_dim()))?;
        Ok(half_scores(settings, tables.sub_keys.view(), halves))
    }

    /// Rows, by token, then sequence, as the memory takes them: [sequences, tokens, …]
    fn tokens(&self, rows: &[Vec<Row>]) -> Result<Drawn> {
        let (tokens, sequences) = (rows.len(), rows.first().map_or(0, Vec::len));
        let by_sequence: Vec<&Row> = (0..sequences).flat_map(|b| rows.iter().map(move |token| &token[b])).collect();
        let (queries, values, gates) = match &self.projection {
            None => (
                matrix(&by_sequence, |row| &row.query)?,
                matrix(&by_sequence, |row| &row.value)?,
                self.gated.then(|| by_sequence.iter().map(|row| row.gate).collect::<Array1<f64>>()),
            ),
            Some(projection) => {
                let hidden = matrix(&by_sequence, |row| &row.query)?;
                let settings = self.memory.settings();
                let projected = project(settings, self.memory.rules(), projection, hidden.view())?;
                let gates = projected.gates.filter(|_| settings.gate_weighted_loss);
                (projected.queries, projected.values, gates)
            }
        };
        let cube = |rows: Array2<f64>| {
            let width = rows.ncols();
            rows.into_shape_with_order((sequences, tokens, width))
        };
        let mask: Array1<bool> = by_sequence.iter().map(|row| row.mask).collect();
        Ok(Drawn {
            queries: cube(queries)?,
            values: cube(values)?,
            gates: gates.map(|gates| gates.into_shape_with_order((sequences, tokens))).transpose()?,
            mask: self.masked.then(|| mask.into_shape_with_order((sequences, tokens))).transpose()?,
        })
    }
}

struct Drawn {
    queries: Array3<f64>,
    values: Array3<f64>,
    gates: Option<Array2<f64>>,
    mask: Option<Array2<bool>>,
}

fn matrix(rows: &[&Row], numbers: impl Fn(&Row) -> &Vec<f64>) -> Result<Array2<f64>> {
    let width = rows.first().map_or(0, |row| numbers(row).len());
    let flat: Vec<f64> = rows.iter().flat_map(|row| numbers(row).iter().copied()).collect();
    Ok(Array2::from_shape_vec((rows.len(), width), flat)?)
}

/// Dot products stay where exponentials of their differences do, and relu away from its kink
fn wide_enough(head: &HeadMargins, least: &Least, settings: &Settings, near: bool) -> bool {
    let wide =
        |gap: Option<(f64, f64)>| gap.is_none_or(|(gap, magnitude)| gap >= least.set.max(least.relative * magnitude));
    let (half_near, pair_near) = match least.near.filter(|_| near) {
        Some(Near::Half(_)) => (true, false),
        Some(Near::Pair(_)) => (false, true),
        None => (false, false),
    };
    let small = settings.score != Score::DotProduct || head.largest <= 40.0;
    let away = settings.activation != Activation::Relu || head.smallest_pair >= 0.25;
    (half_near || head.halves.iter().all(|gap| wide(*gap)))
        && (pair_near || wide(head.pairs))
        && head.order.is_none_or(|step| step >= least.order)
        && small
        && away
}

fn near_enough(head: &HeadMargins, near: Option<Near>) -> bool {
    let inside = |gap: &Option<(f64, f64)>, below: f64| gap.is_some_and(|(gap, _)| gap < below && gap > below / 1000.0);
    match near {
        Some(Near::Half(below)) => head.halves.iter().any(|gap| inside(gap, below)),
        Some(Near::Pair(below)) => inside(&head.pairs, below),
        None => true,
    }
}
