//! Stage by stage, each given the implementation's own results of the stages before it.         NUM-9, NUM-10

mod choice;
mod ends;

use fwpkm_reference::chunk::{self, Counted, Reading, Stages, Step};
use fwpkm_reference::numerics::{Bounded, gamma};
use fwpkm_reference::{Scalar, Tables};
use ndarray::{Array, Array2, ArrayD, ArrayView, Axis, Dimension, s};

use super::check::{Check, Verdict, allowed};
use super::clauses::clause_of;
use super::recorded::Recorded;
use super::{Declaration, FirstStep};
use crate::error::Result;
use crate::implementation::Implementation;
use crate::numbers::Numbers;
use crate::problem::{Problem, Text, cast_tables, swapped};
use crate::run::Plan;
use crate::selection::Choices;
use crate::walk::{Due, Walk, chunk_of, memory_tokens, rows_of};

/// Checks of the stages of one case.
struct Stagewise<'a, const D: u32> {
    problem: &'a Problem,
    plan: &'a Plan,
    declared: Declaration,
    recorded: &'a Recorded<'a>,
    walk: Walk<'a, Bounded<D>>,
    choices: Option<Choices>,
    as_specified: bool,
    checks: Vec<Check>,
}

/// Checks everything that the initial tables determine: projections, the readings before the first step, that step, outputs.
pub(crate) fn checks<const D: u32>(
    problem: &Problem,
    oracle: &Implementation,
    plan: &Plan,
    declared: Declaration,
    recorded: &Recorded,
    first: &FirstStep,
) -> Result<Vec<Check>> {
    let stages: Stages<Bounded<D>> = oracle.stages_with(Numbers::F32, declared.distance);
    let walk = super::walk_of(plan, stages, oracle);
    let choices = super::choices_of(problem, oracle, declared.numbers, recorded);
    let as_specified = oracle.selects_as_specified();
    let mut stagewise =
        Stagewise { problem, plan, declared, recorded, walk, choices, as_specified, checks: Vec::new() };
    stagewise.all(first)?;
    Ok(stagewise.checks)
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
            self.unchanged(&tables);
        }
        self.output(projected.as_ref())?;
        self.statistics();
        Ok(())
    }

    /// What the implementation says of a tensor, as numbers that the next stage may have read before or after they were kept.
    fn lifted(&self, x: f64) -> Bounded<D> {
        let numbers = self.declared.numbers;
        Bounded::new(x, numbers.keeping() * x.abs() + numbers.spacing())
    }

    /// Checks a tensor and gives the implementation's own numbers, or the required ones where it did not record them.
    ///
    /// `rows` are those of the whole recorded tensor `shape` that `expected` stands for.
    fn check<E: Dimension>(
        &mut self,
        name: &str,
        shape: &[usize],
        part: impl Fn(ArrayD<f64>) -> Option<Array<f64, E>>,
        expected: Array<Bounded<D>, E>,
    ) -> Array<Bounded<D>, E> {
        let Some(actual) = self.recorded.real(name, shape).and_then(part) else { return expected };
        if actual.shape() != expected.shape() {
            return expected;
        }
        let numbers = self.declared.numbers;
        let required: Vec<(f64, f64)> = expected.iter().map(|&x| allowed(x, numbers)).collect();
        let found: Vec<f64> = actual.iter().copied().collect();
        let clause = clause_of(name, &self.plan.settings);
        self.checks.push(Check::of_numbers(clause, name, expected.shape(), &required, &found, numbers));
        let usable = actual.iter().all(|x| x.is_finite());
        if usable { actual.mapv(|x| self.lifted(x)) } else { expected }
    }

    /// The same for a tensor of tokens [B, T, …]: rows (token, sequence) of its first tokens.
    fn check_rows<E: Dimension>(
        &mut self,
        name: &str,
        rest: &[usize],
        expected: Array<Bounded<D>, E>,
    ) -> Array<Bounded<D>, E> {
        let (b, t) = (self.problem.sequences, self.problem.tokens);
        let rows = expected.shape()[0];
        let shape = [&[b, t], rest].concat();
        self.check(name, &shape, |tensor| first_rows(tensor.view(), rows).into_dimensionality().ok(), expected)
    }

    fn integers(&self, name: &str, rest: &[usize], rows: usize) -> Option<ArrayD<i64>> {
        let shape = [&[self.problem.sequences, self.problem.tokens], rest].concat();
        Some(first_rows(self.recorded.integers(name, &shape)?.view(), rows))
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
        let rows = scores.dim().0;
        if let Some(choices) = self.choices.as_ref().filter(|_| !self.as_specified) {
            choices.adopt_whole(0..rows / self.problem.sequences, &mut selected);
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

    /// MEM and ADR: the first step.
    fn step(
        &mut self,
        tables: &Tables<Bounded<D>>,
        tokens: &crate::problem::Tokens<Bounded<D>>,
        readings: &Reading<Bounded<D>>,
        due: &Due,
        steps: usize,
    ) {
        let b = self.problem.sequences;
        let chunk = chunk_of(tokens, due, self.plan.settings.lookahead);
        let mut reading = rows_of(readings, due.queries.start * b..due.queries.end * b);
        let counted = rows_of(readings, due.counted.start * b..due.counted.end * b);
        let counted = Counted { slots: counted.selected.slots.view(), samples: due.counted.len() * b };
        let (settings, rules, stages) = (&self.plan.settings.clone(), &self.plan.rules.clone(), self.walk.stages);
        let mut memorized = (stages.memorize)(settings, rules, tables, &chunk, &reading, &counted);
        let pairs = memorized.pair_losses.dim().0;
        let losses = memorized.pair_losses.t().to_owned();
        self.check(
            "trace.memorize.pair_losses.0",
            &[b, pairs],
            |tensor| tensor.into_dimensionality().ok(),
            losses.clone(),
        );
        self.losses(losses);
        if self.touched(&memorized.slots, &memorized.read_counts) {
            let shape = memorized.value_gradient.dim();
            memorized.value_gradient = self.check(
                "trace.memorize.value_gradient.0",
                &[shape.0, shape.1],
                |tensor| tensor.into_dimensionality().ok(),
                memorized.value_gradient,
            );
        }
        let to_scores = memorized.half_score_gradient.clone();
        reading.scores = self.open_ties(&tables.sub_keys, &reading);
        let mut addressed = (stages.address)(settings, rules, tables, &chunk, &reading, to_scores.as_ref());
        let n = settings.sub_keys;
        let pair = |tensor: ArrayD<f64>| tensor.into_dimensionality().ok();
        addressed.marginal = self.check("trace.address.marginal.0", &[2, n], pair, addressed.marginal);
        let one = |tensor: ArrayD<f64>| tensor.into_dimensionality().ok();
        addressed.entropy = self.check("trace.address.entropy.0", &[2], one, addressed.entropy);
        if steps == 1 {
            let loss = ndarray::arr1(&[addressed.loss]);
            self.check("out.addr_loss_mean", &[1], |tensor| tensor.into_dimensionality().ok(), loss);
        }
        let shape = addressed.sub_key_gradient.raw_dim();
        let gradient = |tensor: ArrayD<f64>| tensor.into_dimensionality().ok();
        addressed.sub_key_gradient =
            self.check("trace.address.sub_key_gradient.0", shape.slice(), gradient, addressed.sub_key_gradient);
        if steps == 1 {
            self.tables_after(tables, memorized, addressed);
        }
    }

    /// MEM-5, ADR-6: the tables after the only step.
    fn tables_after(
        &mut self,
        tables: &Tables<Bounded<D>>,
        memorized: fwpkm_reference::memorize::Memorized<Bounded<D>>,
        addressed: fwpkm_reference::address::Addressed<Bounded<D>>,
    ) {
        let (settings, stages) = (&self.plan.settings.clone(), self.walk.stages);
        let mut after = tables.clone();
        let slot_values = Array2::from_shape_fn(memorized.value_gradient.dim(), |(place, d)| {
            let value = tables.slot_values[[memorized.slots[place], d]];
            (stages.value_step)(settings, value, memorized.value_gradient[[place, d]])
        });
        let gradient = &addressed.sub_key_gradient;
        let sub_keys = ndarray::Zip::from(&tables.sub_keys)
            .and(gradient)
            .map_collect(|&key, &gradient| (stages.sub_key_step)(settings, key, gradient));
        let step = Step { memorized, slot_values, addressed, sub_keys };
        chunk::apply(&stages, settings, &mut after, &step);
        if settings.weight_decay != 0.0 {
            // NUM-5: an implementation may compute P·(1 - ηλ) - η·clip(G).
            widen(&mut after.slot_values, &tables.slot_values);
            widen(&mut after.sub_keys, &tables.sub_keys);
        }
        self.unchanged(&after);
    }

    /// Tables that are what they are at the end of the case.
    fn unchanged(&mut self, tables: &Tables<Bounded<D>>) {
        let shape = tables.slot_values.raw_dim();
        let values = |tensor: ArrayD<f64>| tensor.into_dimensionality().ok();
        self.check("out.slot_values", shape.slice(), values, tables.slot_values.clone());
        let shape = tables.sub_keys.raw_dim();
        let keys = |tensor: ArrayD<f64>| tensor.into_dimensionality().ok();
        self.check("out.sub_keys", shape.slice(), keys, tables.sub_keys.clone());
    }

    /// The losses of the first step are the first columns of all losses.
    fn losses(&mut self, expected: Array2<Bounded<D>>) {
        let (b, pairs) = expected.dim();
        let Some(all) = self.recorded.real_with_rows("out.mem_losses", b) else { return };
        let shape = all.dim();
        if shape.1 >= pairs {
            let first = |tensor: ArrayD<f64>| {
                Some(tensor.into_dimensionality::<ndarray::Ix2>().ok()?.slice(s![.., ..pairs]).to_owned())
            };
            self.check("out.mem_losses", &[shape.0, shape.1], first, expected);
        }
    }

    /// MEM-3: slots and counts; whether the slots are those required, so that their gradients can be compared.
    fn touched(&mut self, slots: &[usize], counts: &[usize]) -> bool {
        let mut same = true;
        for (name, expected) in [("trace.memorize.slots.0", slots), ("trace.memorize.read_counts.0", counts)] {
            let expected: Vec<i64> = expected.iter().map(|&integer| integer as i64).collect();
            let Some(found) = self.recorded.integer_list(name) else { continue };
            let check = if found.len() == expected.len() {
                Check::of_integers("MEM-3", name, &[expected.len()], &expected, &found)
            } else {
                let reason = format!("expected {} touched slots, found {}", expected.len(), found.len());
                Check::without_numbers("MEM-3", name, Verdict::Differs, reason)
            };
            same &= name != "trace.memorize.slots.0" || check.verdict == Verdict::Conforms;
            self.checks.push(check);
        }
        same
    }
}

/// Adds γ(3)·|P| to the bounds of a table after its step
fn widen<const D: u32, E: Dimension>(after: &mut Array<Bounded<D>, E>, before: &Array<Bounded<D>, E>) {
    let more = gamma(3, Bounded::<D>::UNIT_ROUNDOFF);
    after.zip_mut_with(before, |after, before| {
        *after = Bounded::new(after.value(), after.error() + more * before.value().abs());
    });
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
