//! Choices by another rule than the specification's, followed where rounding may turn them.    NUM-6
//!
//! NUM-6 says of the specification's choice what rounding may make of it. Of any other rule this is seen in draws: a recorded
//! choice is followed if the rule makes it of some half scores inside their bounds.

use fwpkm_reference::Scalar;
use fwpkm_reference::numerics::Bounded;
use fwpkm_reference::select::Selected;
use ndarray::{Array4, Axis, Ix3, Ix4, s};

use super::Stagewise;
use crate::judge::check::computed;
use crate::judge::replay::noise::drawn;
use crate::problem::swapped;
use crate::selection::Choices;

/// Draws at most.
const DRAWS: u64 = 256;

/// Draws after which a choice that none of them turned is left.
const FEW: u64 = 16;

/// A row and head whose recorded slots the rule does not choose by the computed scores.
struct Open {
    /// Its place among the rows that are drawn.
    place: usize,
    row: usize,
    head: usize,
    turned: bool,
}

impl<const D: u32> Stagewise<'_, D> {
    /// Follows recorded choices; those that are followed are kept for replay.
    pub(super) fn follow(&mut self, scores: &Array4<Bounded<D>>, selected: &mut Selected<Bounded<D>>, rest: &[usize]) {
        let (settings, rows) = (self.plan.settings.clone(), scores.dim().0);
        let Some(slots) = self.integers("out.indices", rest, rows) else { return };
        let Ok(slots) = slots.into_dimensionality::<Ix3>() else { return };
        let halves = self.integers("trace.select.half_indices", &[rest[0], 2, rest[1]], rows);
        let halves = halves.and_then(|halves| halves.into_dimensionality::<Ix4>().ok());
        let is_met = |made: &Selected<Bounded<D>>, place: usize, row: usize, head: usize| {
            let same = |a: &usize, b: &i64| i64::try_from(*a).is_ok_and(|a| a == *b);
            let of_slots = made.slots.slice(s![place, head, ..]);
            let mut of_halves = halves.iter().flat_map(|halves| {
                let made = made.half_indices.slice(s![place, head, .., ..]);
                made.into_iter().zip(halves.slice(s![row, head, .., ..]).to_owned()).collect::<Vec<_>>()
            });
            of_slots.iter().zip(slots.slice(s![row, head, ..])).all(|(a, b)| same(a, b))
                && of_halves.all(|(a, b)| same(a, &b))
        };
        let mut drawn_rows: Vec<usize> = Vec::new();
        let mut open: Vec<Open> = Vec::new();
        for (row, head) in ndarray::indices((rows, settings.heads)) {
            if !is_met(selected, row, row, head) {
                if drawn_rows.last() != Some(&row) {
                    drawn_rows.push(row);
                }
                open.push(Open { place: drawn_rows.len() - 1, row, head, turned: false });
            }
        }
        let own = selected.clone();
        let scores_of_rows = scores.select(Axis(0), &drawn_rows);
        let mut followed = false;
        for draw in 0..DRAWS {
            if open.is_empty() {
                break;
            }
            let moved = moved(&scores_of_rows, draw);
            let made = (self.walk.stages.select)(&settings, moved.view());
            open.retain_mut(|open| {
                let Open { place, row, head, .. } = *open;
                open.turned |= made.slots.slice(s![place, head, ..]) != own.slots.slice(s![row, head, ..]);
                let met = is_met(&made, place, row, head);
                if met {
                    put(selected, &made, scores, &moved, (row, place, head));
                    followed = true;
                }
                !met && (open.turned || draw < FEW)
            });
        }
        if followed {
            self.choices = self.to_follow(selected);
        }
    }

    /// These choices as those of the first tokens.
    fn to_follow(&self, selected: &Selected<Bounded<D>>) -> Option<Choices> {
        let settings = &self.plan.settings;
        let shape = [self.problem.sequences, self.problem.tokens, settings.heads, settings.top_k];
        let slots = self.recorded.integers("out.indices", &shape)?.into_dimensionality().ok()?;
        let whole = Selected {
            half_indices: selected.half_indices.clone(),
            half_scores: selected.half_scores.mapv(Scalar::to_f64),
            ranks: selected.ranks.clone(),
            pair_scores: selected.pair_scores.mapv(Scalar::to_f64),
            slots: selected.slots.clone(),
        };
        Some(Choices { slots: swapped(&slots), half_indices: None, selected: Some(whole) })
    }
}

/// Puts a choice made by moved scores in its place, with the scores as they were computed.
fn put<const D: u32>(
    selected: &mut Selected<Bounded<D>>,
    made: &Selected<Bounded<D>>,
    scores: &Array4<Bounded<D>>,
    moved: &Array4<Bounded<D>>,
    (row, place, head): (usize, usize, usize),
) {
    macro_rules! copied {
        ($field:ident, $($rest:tt)*) => {
            selected.$field.slice_mut(s![row, head, $($rest)*]).assign(&made.$field.slice(s![place, head, $($rest)*]))
        };
    }
    copied!(half_indices, .., ..);
    copied!(ranks, .., ..);
    copied!(slots, ..);
    copied!(pair_scores, ..);
    let k = made.slots.dim().2;
    for (half, rank) in ndarray::indices((2, k)) {
        let sub_key = made.half_indices[[place, head, half, rank]];
        selected.half_scores[[row, head, half, rank]] = scores[[row, head, half, sub_key]];
    }
    for number in 0..k {
        let sub_key = |half: usize| made.half_indices[[place, head, half, made.ranks[[place, head, number, half]]]];
        let sum = |scores: &Array4<Bounded<D>>, row: usize| {
            scores[[row, head, 0, sub_key(0)]] + scores[[row, head, 1, sub_key(1)]]
        };
        // What is no sum stays as it was made.
        if sum(moved, place).value() == made.pair_scores[[place, head, number]].value() {
            selected.pair_scores[[row, head, number]] = sum(scores, row);
        }
    }
}

/// Half scores moved inside their bounds: by the whole bound up or down in every second draw, else by any part of it.
fn moved<const D: u32>(scores: &Array4<Bounded<D>>, draw: u64) -> Array4<Bounded<D>> {
    let mut moved = scores.clone();
    for (place, score) in moved.iter_mut().enumerate() {
        let (value, bound) = computed(*score);
        let xi = drawn(place as u64, draw);
        let xi = if draw.is_multiple_of(2) { xi.signum() } else { xi };
        if bound.is_finite() {
            *score = Bounded::new(value + xi * bound, score.error());
        }
    }
    moved
}
