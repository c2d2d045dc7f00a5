//! Stage by stage, each given the implementation's own results of the stages before it.         NUM-9, NUM-10

mod choice;
mod followed;
mod output;
mod step;

use fwpkm_reference::chunk::{self, Reading, Stages};
use fwpkm_reference::numerics::Bounded;
use fwpkm_reference::projection::Projected;
use fwpkm_reference::{Scalar, Tables};
use ndarray::{Array, Array2, Array4, ArrayD, ArrayView, Axis, Dimension, s};

use super::check::{Check, allowed, computed, is_exact, keeping};
use super::clauses::clause_of;
use super::recorded::Recorded;
use super::{Declaration, FirstStep};
use crate::error::Result;
use crate::implementation::Implementation;
use crate::numbers::Numbers;
use crate::problem::{Problem, Text, cast_tables, swapped};
use crate::run::Plan;
use crate::selection::Choices;
use crate::walk::{Walk, memory_tokens};

/// Checks of the stages of one case.
struct Stagewise<'a, const D: u32> {
    problem: &'a Problem,
    plan: &'a Plan,
    declared: Declaration,
    recorded: &'a Recorded<'a>,
    walk: Walk<'a, Bounded<D>>,
    choices: Option<Choices>,
    oracle: &'a Implementation,
    /// Whether half scores were recorded.
    scores_recorded: bool,
    /// Whether the sub-keys of the halves are known: recorded, or certain by their scores.
    halves_known: bool,
    /// How far half scores may be off, for choosing.
    off: Option<Array4<f64>>,
    checks: Vec<Check>,
}

/// What the stages tell replay.
pub(crate) struct Staged {
    /// What was judged.
    pub(crate) checks: Vec<Check>,
    /// The choices to follow.
    pub(crate) choices: Option<Choices>,
    /// How far half scores of the first rows (token, sequence) may be off: [rows, heads, 2, n].
    pub(crate) off: Option<Array4<f64>>,
}

/// Checks everything that the initial tables determine: projections, the readings before the first step, that step, outputs.
pub(crate) fn checks<const D: u32>(
    problem: &Problem,
    oracle: &Implementation,
    plan: &Plan,
    declared: Declaration,
    recorded: &Recorded,
    first: &FirstStep,
) -> Result<Staged> {
    let stages: Stages<Bounded<D>> = oracle.stages_with(Numbers::F32, declared.distance);
    let walk = super::walk_of(plan, stages, oracle);
    let choices = super::choices_of(problem, oracle, declared.numbers, recorded);
    let scores_recorded = recorded.has_real("trace.score.half_scores");
    let mut stagewise = Stagewise {
        problem,
        plan,
        declared,
        recorded,
        walk,
        choices,
        oracle,
        scores_recorded,
        halves_known: true,
        off: None,
        checks: Vec::new(),
    };
    stagewise.all(first)?;
    Ok(Staged { checks: stagewise.checks, choices: stagewise.choices, off: stagewise.off })
}

impl<const D: u32> Stagewise<'_, D> {
    fn all(&mut self, first: &FirstStep) -> Result<()> {
        let (tokens, projected) = self.walk.tokens(self.problem)?;
        let projected = projected.map(|projected| self.projected(projected));
        let tokens = match (&projected, &self.problem.text) {
            (Some(projected), Text::Layer { mask, .. }) => {
                let (b, t) = (self.problem.sequences, self.problem.tokens);
                memory_tokens(&self.plan.settings, projected, mask.as_ref(), b, t)?
            }
            _ => tokens,
        };
        let tables: Tables<Bounded<D>> = cast_tables(&self.problem.tables);
        let reading = self.reading(&tables, tokens.queries.slice(s![..first.tokens, .., ..]))?;
        if let Some(due) = &first.due {
            self.step(&tables, &tokens, &reading, due, first.steps);
        } else {
            let none = ndarray::arr1(&[Bounded::ZERO]);
            self.check("out.addr_loss_mean", &[1], |tensor| tensor.into_dimensionality().ok(), none);
            self.unchanged(&tables);
        }
        self.output(projected.as_ref(), &reading)?;
        self.statistics();
        Ok(())
    }

    /// What the implementation says of a tensor, as numbers that the next stage may have read before or after they were kept.
    fn lifted(&self, x: f64) -> Bounded<D> {
        Bounded::new(x, self.declared.numbers.keeping(x))
    }

    /// Results that the implementation did not record, and may have kept: the next stage read them before or after.
    fn kept<E: Dimension>(&self, results: Array<Bounded<D>, E>) -> Array<Bounded<D>, E> {
        let numbers = self.declared.numbers;
        results.mapv_into(|x| Bounded::new(x.value(), keeping(x, x.error(), numbers)))
    }

    /// Checks a tensor and gives the implementation's own numbers, or the required ones where it did not record them.
    ///
    /// `part` gives those numbers of the whole recorded tensor `shape` that `expected` stands for, in the same order; its rows
    /// may be (sequence, token).
    fn check<E: Dimension>(
        &mut self,
        name: &str,
        shape: &[usize],
        part: impl Fn(ArrayD<f64>) -> Option<Array<f64, E>>,
        expected: Array<Bounded<D>, E>,
    ) -> Array<Bounded<D>, E> {
        let of = expected.shape();
        let place = if of.len() < shape.len() {
            [&[shape[0], of[0] / shape[0].max(1)], &of[1..]].concat()
        } else {
            of.to_vec()
        };
        self.check_at(name, shape, part, expected, |required, found| (place, required, found))
    }

    /// The same; `lay` gives the numbers in the order of the recorded tensor, and their shape in it.
    fn check_at<E: Dimension>(
        &mut self,
        name: &str,
        shape: &[usize],
        part: impl Fn(ArrayD<f64>) -> Option<Array<f64, E>>,
        expected: Array<Bounded<D>, E>,
        lay: impl FnOnce(Vec<(f64, f64)>, Vec<f64>) -> (Vec<usize>, Vec<(f64, f64)>, Vec<f64>),
    ) -> Array<Bounded<D>, E> {
        let recorded = self.recorded.real(name, shape).and_then(part);
        let Some(actual) = recorded.filter(|actual| actual.shape() == expected.shape()) else {
            return self.kept(expected);
        };
        let numbers = self.declared.numbers;
        let required = expected.iter().map(|&x| allowed(x, numbers)).collect();
        let (place, required, found) = lay(required, actual.iter().copied().collect());
        let clause = clause_of(name, &self.plan.settings);
        self.checks.push(Check::of_numbers(clause, name, &place, &required, &found, numbers));
        let usable = actual.iter().all(|x| x.is_finite());
        if !usable {
            return self.kept(expected);
        }
        let mut own = expected;
        own.zip_mut_with(&actual, |own, &x| {
            if !(is_exact(*own, numbers) && x == own.value()) {
                *own = self.lifted(x);
            }
        });
        own
    }

    /// The same for a tensor of tokens [B, T, …]: rows (token, sequence) of its first tokens.
    fn check_rows<E: Dimension>(
        &mut self,
        name: &str,
        rest: &[usize],
        expected: Array<Bounded<D>, E>,
    ) -> Array<Bounded<D>, E> {
        let (b, t) = (self.problem.sequences, self.problem.tokens);
        let of = expected.shape().to_vec();
        let shape = [&[b, t], rest].concat();
        let lay = |required, found| {
            let (place, required) = by_sequence(required, &of, b);
            (place, required, by_sequence(found, &of, b).1)
        };
        let part = |tensor: ArrayD<f64>| first_rows(tensor.view(), of[0]).into_dimensionality().ok();
        self.check_at(name, &shape, part, expected, lay)
    }

    fn integers(&self, name: &str, rest: &[usize], rows: usize) -> Option<ArrayD<i64>> {
        let shape = [&[self.problem.sequences, self.problem.tokens], rest].concat();
        Some(first_rows(self.recorded.integers(name, &shape)?.view(), rows))
    }

    /// PRJ: queries, values, gates; rows (sequence, token).
    fn projected(&mut self, projected: Projected<Bounded<D>>) -> Projected<Bounded<D>> {
        let (b, t) = (self.problem.sequences, self.problem.tokens);
        let mut rows = |name: &str, expected: Array2<Bounded<D>>| {
            let shape = [b, t, expected.ncols()];
            let flat = expected.dim();
            self.check(name, &shape, |tensor| tensor.into_shape_with_order(flat).ok(), expected)
        };
        let queries = rows("trace.projection.queries", projected.queries);
        let values = rows("trace.projection.values", projected.values);
        let gates = projected.gates.map(|gates| {
            let count = gates.len();
            let flat = |tensor: ArrayD<f64>| tensor.into_shape_with_order(count).ok();
            let own = self.check("out.gates", &[b, t], flat, gates.clone());
            let traced = self.check("trace.projection.gates", &[b, t], flat, gates);
            if self.recorded.real("trace.projection.gates", &[b, t]).is_some() { traced } else { own }
        });
        Projected { queries, values, gates }
    }

    /// SCR, SEL, RD: one reading with the initial tables.
    fn reading(
        &mut self,
        tables: &Tables<Bounded<D>>,
        queries: ndarray::ArrayView3<Bounded<D>>,
    ) -> Result<Reading<Bounded<D>>> {
        let settings = self.plan.settings.clone();
        let (heads, n, k) = (settings.heads, settings.sub_keys, settings.top_k);
        let chunk = chunk::Chunk {
            queries: queries.to_owned(),
            values: ndarray::Array3::from_elem((0, 0, 0), Bounded::ZERO),
            gates: None,
            mask: None,
            lookahead: 0,
        };
        let stages = self.walk.stages;
        let scores = (stages.score)(&settings, tables.sub_keys.view(), chunk.query_halves(&settings).view());
        let scores = self.check_rows("trace.score.half_scores", &[heads, 2, n], scores);
        let mut selected = (stages.select)(&settings, scores.view());
        self.off = Some(scores.mapv(|score| computed(score).1));
        let rows = scores.dim().0;
        match &self.choices {
            _ if self.oracle.selects_as_specified() => {}
            Some(choices) => choices.adopt_whole(0..rows / self.problem.sequences, &scores, &mut selected),
            None => self.follow(&scores, &mut selected, &[heads, k]),
        }
        self.half_choices(&scores, &mut selected, &[heads, 2, k], rows);
        self.slot_choices(&scores, &mut selected, &[heads, k], rows);
        self.check_rows("trace.select.half_scores", &[heads, 2, k], selected.half_scores.clone());
        selected.pair_scores = self.check_rows("trace.select.pair_scores", &[heads, k], selected.pair_scores);
        let weights = (stages.weigh)(&settings, selected.pair_scores.view());
        let weights = self.check_rows("out.weights", &[heads, k], weights);
        let reads = (stages.read)(tables.slot_values.view(), selected.slots.view(), weights.view())?;
        let reads = self.check_rows("out.reads", &[settings.value_dim], reads);
        Ok(Reading { scores, selected, weights, reads })
    }
}

/// The first rows (token, sequence) of a tensor [B, T, …].
fn first_rows<T: Clone>(tensor: ArrayView<T, ndarray::IxDyn>, rows: usize) -> ArrayD<T> {
    let mut shape = tensor.shape().to_vec();
    let by_token = swapped(&tensor.to_owned());
    shape[0] *= shape[1];
    shape.remove(1);
    by_token
        .into_shape_with_order(shape)
        .map_or_else(|_| tensor.to_owned(), |flat| flat.slice_axis(Axis(0), (..rows).into()).to_owned())
}

/// What lies in rows (token, sequence) as [B, T, …]: that shape, and what lies in it
fn by_sequence<T: Clone>(rows: Vec<T>, shape: &[usize], sequences: usize) -> (Vec<usize>, Vec<T>) {
    let tokens = shape[0] / sequences.max(1);
    let place = [&[sequences, tokens], &shape[1..]].concat();
    match ArrayD::from_shape_vec([&[tokens, sequences], &shape[1..]].concat(), rows.clone()) {
        Ok(by_token) => (place, swapped(&by_token).into_iter().collect()),
        Err(_) => (shape.to_vec(), rows),
    }
}
