//! MEM and ADR: the first step, and the tables where no other follows.

use fwpkm_reference::address::Addressed;
use fwpkm_reference::chunk::{self, Counted, Reading, Step};
use fwpkm_reference::memorize::Memorized;
use fwpkm_reference::numerics::{Bounded, gamma};
use fwpkm_reference::{Scalar, Tables};
use ndarray::{Array, Array2, ArrayD, Dimension, s};

use super::Stagewise;
use crate::judge::check::{Check, Verdict};
use crate::problem::Tokens;
use crate::walk::{Due, chunk_of, rows_of};

impl<const D: u32> Stagewise<'_, D> {
    /// MEM and ADR: the first step.
    pub(super) fn step(
        &mut self,
        tables: &Tables<Bounded<D>>,
        tokens: &Tokens<Bounded<D>>,
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
        } else {
            memorized.value_gradient = self.kept(memorized.value_gradient);
        }
        let to_scores = memorized.half_score_gradient.clone();
        reading.scores = self.open_ties(&tables.sub_keys, &reading);
        let mut addressed = (stages.address)(settings, rules, tables, &chunk, &reading, to_scores.as_ref());
        if !self.halves_known {
            disown(&mut addressed, settings.addressing_weight != 0.0);
        }
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
        memorized: Memorized<Bounded<D>>,
        addressed: Addressed<Bounded<D>>,
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
    pub(super) fn unchanged(&mut self, tables: &Tables<Bounded<D>>) {
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

/// Takes the bounds of what depends on the sub-keys chosen; `weighed`, whether their gradient does.
fn disown<const D: u32>(addressed: &mut Addressed<Bounded<D>>, weighed: bool) {
    let unknown = |x: Bounded<D>| Bounded::new(x.value(), f64::INFINITY);
    addressed.marginal.mapv_inplace(unknown);
    addressed.entropy.mapv_inplace(unknown);
    addressed.loss = unknown(addressed.loss);
    if weighed {
        addressed.sub_key_gradient.mapv_inplace(unknown);
    }
}

/// Adds γ(3)·|P| to the bounds of a table after its step
fn widen<const D: u32, E: Dimension>(after: &mut Array<Bounded<D>, E>, before: &Array<Bounded<D>, E>) {
    let more = gamma(3, Bounded::<D>::UNIT_ROUNDOFF);
    after.zip_mut_with(before, |after, before| {
        *after = Bounded::new(after.value(), after.error() + more * before.value().abs());
    });
}
