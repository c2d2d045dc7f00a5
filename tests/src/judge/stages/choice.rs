//! Choices of sub-keys and slots, judged by the scores they were made from.                     SEL, NUM-6

use fwpkm_reference::Scalar;
use fwpkm_reference::chunk::Reading;
use fwpkm_reference::numerics::{Bounded, selection_is_certain};
use fwpkm_reference::rules::Kept;
use fwpkm_reference::select::Selected;
use ndarray::{Array4, Axis, Ix3, Ix4, s};

use super::{Stagewise, by_sequence};
use crate::judge::check::{Check, computed};
use crate::judge::choices::{wrong_half, wrong_slots};
use crate::judge::clauses::clause_of;

impl<const D: u32> Stagewise<'_, D> {
    pub(super) fn half_choices(
        &mut self,
        scores: &Array4<Bounded<D>>,
        selected: &mut Selected<Bounded<D>>,
        rest: &[usize],
        rows: usize,
    ) {
        let name = "trace.select.half_indices";
        let Some(chosen) = self.integers(name, rest, rows) else {
            self.halves_known = !self.oracle.selects_as_specified() || are_certain(scores, selected);
            return;
        };
        let Ok(chosen) = chosen.into_dimensionality::<Ix4>() else { return };
        let own = selected.half_indices.mapv(|index| index as i64);
        let required: Vec<i64> = own.iter().copied().collect();
        let mut accepted = own.clone();
        for ((row, head, half, _), _) in own.indexed_iter().filter(|((.., rank), _)| *rank == 0) {
            let place = s![row, head, half, ..];
            if chosen.slice(place) == own.slice(place) || !self.plan_selects() {
                continue;
            }
            let known: Vec<(f64, f64)> = scores.slice(place).iter().map(|&score| computed(score)).collect();
            let (values, bounds): (Vec<f64>, Vec<f64>) = known.into_iter().unzip();
            if !wrong_half(&values, &bounds, &chosen.slice(place).to_vec()) {
                accepted.slice_mut(place).assign(&chosen.slice(place));
                for (rank, &index) in chosen.slice(place).iter().enumerate() {
                    selected.half_indices[[row, head, half, rank]] = index as usize;
                    selected.half_scores[[row, head, half, rank]] = scores[[row, head, half, index as usize]];
                }
            }
        }
        let found: Vec<i64> = chosen.iter().copied().collect();
        let required: Vec<i64> = if accepted == own { required } else { accepted.iter().copied().collect() };
        self.integers_check("SEL-1", name, chosen.shape(), &required, &found);
    }

    /// Whether a choice can be judged by its scores: another rule of choosing is followed, not judged.
    fn plan_selects(&self) -> bool {
        self.choices.is_some() && self.oracle.selects_as_specified()
    }

    pub(super) fn slot_choices(
        &mut self,
        scores: &Array4<Bounded<D>>,
        selected: &mut Selected<Bounded<D>>,
        rest: &[usize],
        rows: usize,
    ) {
        let name = "out.indices";
        let Some(chosen) = self.integers(name, rest, rows) else { return };
        let Ok(chosen) = chosen.into_dimensionality::<Ix3>() else { return };
        let mut required = selected.slots.mapv(|slot| slot as i64);
        let b = self.problem.sequences;
        if let Some(choices) = self.choices.as_ref().filter(|_| self.oracle.selects_as_specified()) {
            choices.adopt(0..rows / b, scores, selected);
            for ((row, head, _), _) in required.clone().indexed_iter().filter(|((.., place), _)| *place == 0) {
                let place = s![row, head, ..];
                if chosen.slice(place) == required.slice(place) {
                    continue;
                }
                let halves = [0, 1].map(|half| scores.slice(s![row, head, half, ..]).mapv(computed));
                let numbers = self.declared.numbers;
                let rounding = |sum: f64| Bounded::<D>::UNIT_ROUNDOFF * sum.abs() + numbers.keeping(sum);
                let picks = chosen.slice(place).to_vec();
                if !wrong_slots([halves[0].view(), halves[1].view()], &picks, self.oracle.orders_slots(), rounding) {
                    required.slice_mut(place).assign(&chosen.slice(place));
                }
            }
        }
        let (wanted, found): (Vec<i64>, Vec<i64>) =
            (required.iter().copied().collect(), chosen.iter().copied().collect());
        let clause = clause_of(name, &self.plan.settings);
        self.integers_check(clause, name, chosen.shape(), &wanted, &found);
    }

    /// Checks integers in rows (token, sequence).
    fn integers_check(&mut self, clause: &str, name: &str, shape: &[usize], wanted: &[i64], found: &[i64]) {
        let b = self.problem.sequences;
        let in_tensor = |rows: &[i64]| by_sequence(rows.to_vec(), shape, b);
        let ((place, wanted), (_, found)) = (in_tensor(wanted), in_tensor(found));
        self.checks.push(Check::of_integers(clause, name, &place, &wanted, &found));
    }

    /// Half scores that the implementation may or may not have kept as ties of the k-th: their bounds become infinite. [ADR-1]
    ///
    /// kept = ties compares scores as they were kept. Where they were not recorded, a score within its bounds of the k-th may
    /// have been on either side; that of an equal sub-key, or of two exact scores, is equal in any arithmetic.
    pub(super) fn open_ties(&self, sub_keys: &Array4<Bounded<D>>, reading: &Reading<Bounded<D>>) -> Array4<Bounded<D>> {
        let mut scores = reading.scores.clone();
        if self.plan.rules.kept != Kept::Ties || self.scores_recorded {
            return scores;
        }
        for ((row, head, half, rank), &kth) in reading.selected.half_indices.indexed_iter() {
            if rank + 1 < self.plan.settings.top_k {
                continue;
            }
            let key = |i: usize| sub_keys.slice(s![head, half, i, ..]);
            let (value, bound) = computed(reading.scores[[row, head, half, kth]]);
            for i in 0..scores.dim().3 {
                let (other, off) = computed(reading.scores[[row, head, half, i]]);
                let exact = bound + off == 0.0;
                if (value - other).abs() <= bound + off && !exact && key(i) != key(kth) {
                    scores[[row, head, half, i]] = Bounded::new(value, f64::INFINITY);
                }
            }
        }
        scores
    }
}

/// Whether rounding leaves no other choice of sub-keys.                                                      [NUM-6]
fn are_certain<const D: u32>(scores: &Array4<Bounded<D>>, selected: &Selected<Bounded<D>>) -> bool {
    let chosen = selected.half_indices.lanes(Axis(3));
    scores.lanes(Axis(3)).into_iter().zip(chosen).all(|(scores, chosen)| {
        let (values, bounds): (Vec<f64>, Vec<f64>) = scores.iter().map(|&score| computed(score)).unzip();
        selection_is_certain(&values, &bounds, &chosen.to_vec())
    })
}
