//! Choices of slots that a walk follows instead of its own.                                    NUM-6

use std::ops::Range;

use fwpkm_reference::Scalar;
use fwpkm_reference::chunk::Reading;
use fwpkm_reference::select::Selected;
use ndarray::{Array2, Array4, Array5, Axis, s};

/// The slots an implementation chose.
#[derive(Clone, Debug)]
pub struct Choices {
    /// [T, B, H, k]
    pub slots: Array4<i64>,
    /// The sub-keys of each half, where they are known: [T, B, H, 2, k].
    pub half_indices: Option<Array5<i64>>,
    /// The whole choice of each row (token, sequence), where it was made by another rule than the specification's.
    pub selected: Option<Selected<f64>>,
}

/// Two sub-keys of a half that change places where a step is taken: each then has the other's score.   [NUM-11]
///
/// The first is chosen and in no slot, the second is not chosen; so only what ADR computes can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The token that was read.
    pub token: usize,
    /// Its sequence.
    pub sequence: usize,
    /// The head.
    pub head: usize,
    /// The half.
    pub half: usize,
    /// The two sub-keys.
    pub sub_keys: [usize; 2],
}

impl Exchange {
    /// Makes the exchange in a reading of the tokens from `start` on; rows are (token, sequence).
    pub fn make<S: Scalar>(&self, start: usize, sequences: usize, reading: &mut Reading<S>) {
        let Self { token, sequence, head, half, sub_keys: [chosen, other] } = *self;
        let row = (token - start) * sequences + sequence;
        reading.scores.swap([row, head, half, chosen], [row, head, half, other]);
        let mut indices = reading.selected.half_indices.slice_mut(s![row, head, half, ..]);
        if let Some(place) = indices.iter().position(|&i| i == chosen) {
            indices[place] = other;
        }
    }
}

/// How much worse than its best an adopted choice of slots is; 0 where the two agree.           [NUM-6]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gap {
    /// How far its worst pair is below the k-th best.
    pub set: f64,
    /// The place of that pair.
    pub worst: usize,
    /// How far a pair is below one that stands after it, at most.
    pub order: f64,
    /// The place of the later one.
    pub late: usize,
}

impl Choices {
    /// What the readings of all tokens chose, or adopted; none where there is no reading.
    pub fn made(readings: &[(usize, Reading<f64>)], sequences: usize) -> Option<Self> {
        macro_rules! joined {
            ($field:ident) => {
                ndarray::concatenate(
                    Axis(0),
                    &readings.iter().map(|(_, reading)| reading.selected.$field.view()).collect::<Vec<_>>(),
                )
                .ok()?
            };
        }
        let selected = Selected {
            half_indices: joined!(half_indices),
            half_scores: joined!(half_scores),
            ranks: joined!(ranks),
            pair_scores: joined!(pair_scores),
            slots: joined!(slots),
        };
        let (rows, heads, k) = selected.slots.dim();
        let (tokens, integers) = (rows / sequences, |index: usize| index as i64);
        let slots = selected.slots.mapv(integers).into_shape_with_order((tokens, sequences, heads, k)).ok()?;
        let half_indices = selected.half_indices.mapv(integers);
        let half_indices = half_indices.into_shape_with_order((tokens, sequences, heads, 2, k)).ok();
        Some(Self { slots, half_indices, selected: Some(selected) })
    }

    /// Puts these choices in the place of a reading's own where another rule made them: with their scores, which change as the
    /// reading's own scores of these sub-keys do.
    ///
    /// # Shapes   as [`Choices::adopt`]
    pub fn adopt_whole<S: Scalar>(&self, range: Range<usize>, scores: &Array4<S>, selected: &mut Selected<S>) {
        let Some(whole) = &self.selected else { return };
        let sequences = self.slots.dim().1;
        for row in 0..selected.slots.dim().0 {
            let (token, sequence) = (range.start + row / sequences, row % sequences);
            let from = token * sequences + sequence;
            if from >= whole.slots.dim().0 {
                continue;
            }
            let theirs = self.slots.slice(s![token, sequence, .., ..]);
            let same = whole.slots.slice(s![from, .., ..]).iter().zip(theirs).all(|(a, b)| *a as i64 == *b);
            if !same || selected.slots.slice(s![row, .., ..]) == whole.slots.slice(s![from, .., ..]) {
                continue;
            }
            selected.half_indices.slice_mut(s![row, .., .., ..]).assign(&whole.half_indices.slice(s![
                from,
                ..,
                ..,
                ..
            ]));
            selected.ranks.slice_mut(s![row, .., .., ..]).assign(&whole.ranks.slice(s![from, .., .., ..]));
            selected.slots.slice_mut(s![row, .., ..]).assign(&whole.slots.slice(s![from, .., ..]));
            let half_indices = whole.half_indices.slice(s![from, .., .., ..]);
            for ((head, half, place), &sub_key) in half_indices.indexed_iter() {
                let score = following(whole.half_scores[[from, head, half, place]], scores[[row, head, half, sub_key]]);
                selected.half_scores[[row, head, half, place]] = score;
            }
            for ((head, place), &score) in whole.pair_scores.slice(s![from, .., ..]).indexed_iter() {
                let of_half = |half| selected.half_scores[[row, head, half, whole.ranks[[from, head, place, half]]]];
                let of_halves = of_half(0) + of_half(1);
                selected.pair_scores[[row, head, place]] = following(score, of_halves);
            }
        }
    }

    /// Puts these choices in the place of a reading's own, wherever they name k different slots of the table.
    ///
    /// Returns for every row and head how much worse the adopted choice is than the best.
    ///
    /// # Shapes   scores: [rows, heads, 2, n]; rows are (token, sequence) of the tokens in `range`; result: [rows, heads]
    pub fn adopt<S: Scalar>(&self, range: Range<usize>, scores: &Array4<S>, selected: &mut Selected<S>) -> Array2<Gap> {
        let (rows, heads, _, n) = scores.dim();
        let sequences = self.slots.dim().1;
        let mut gaps = Array2::from_elem((rows, heads), Gap::default());
        for row in 0..rows {
            let (token, sequence) = (range.start + row / sequences, row % sequences);
            for head in 0..heads {
                if let Some(half_indices) = &self.half_indices {
                    for half in 0..2 {
                        let chosen = half_indices.slice(s![token, sequence, head, half, ..]).to_vec();
                        adopt_half(&chosen, scores, selected, (row, head, half));
                    }
                }
                let chosen = self.slots.slice(s![token, sequence, head, ..]).to_vec();
                let own: Vec<i64> = selected.slots.slice(s![row, head, ..]).iter().map(|&slot| slot as i64).collect();
                if chosen != own && names_slots(&chosen, n) {
                    gaps[[row, head]] = adopt_one(&chosen, scores, selected, (row, head));
                }
            }
        }
        gaps
    }
}

/// Whether these are different slots of an n² table
fn names_slots(chosen: &[i64], n: usize) -> bool {
    let different = chosen.iter().enumerate().all(|(place, slot)| !chosen[..place].contains(slot));
    different && chosen.iter().all(|&slot| usize::try_from(slot).is_ok_and(|slot| slot < n * n))
}

/// Puts these sub-keys in the place of a half's own, if they are k different ones.
fn adopt_half<S: Scalar>(
    chosen: &[i64],
    scores: &Array4<S>,
    selected: &mut Selected<S>,
    (row, head, half): (usize, usize, usize),
) {
    let n = scores.dim().3 as i64;
    let different = chosen.iter().enumerate().all(|(place, i)| !chosen[..place].contains(i));
    if !different || chosen.iter().any(|i| !(0..n).contains(i)) {
        return;
    }
    let own = selected.half_indices.slice(s![row, head, half, ..]).to_vec();
    for (rank, &sub_key) in chosen.iter().enumerate() {
        selected.half_indices[[row, head, half, rank]] = sub_key as usize;
        selected.half_scores[[row, head, half, rank]] = scores[[row, head, half, sub_key as usize]];
    }
    // Pairs are named by rank; a sub-key that is not among these any more is found again with its slot.
    for place in 0..selected.ranks.dim().2 {
        let rank = &mut selected.ranks[[row, head, place, half]];
        *rank = chosen.iter().position(|&i| i == own[*rank] as i64).unwrap_or(*rank);
    }
}

fn adopt_one<S: Scalar>(
    chosen: &[i64],
    scores: &Array4<S>,
    selected: &mut Selected<S>,
    (row, head): (usize, usize),
) -> Gap {
    let n = scores.dim().3;
    let pairs: Vec<[usize; 2]> = chosen.iter().map(|&slot| [slot as usize / n, slot as usize % n]).collect();
    for half in 0..2 {
        let wanted: Vec<usize> = pairs.iter().map(|pair| pair[half]).collect();
        let kept: Vec<usize> = selected.half_indices.slice(s![row, head, half, ..]).to_vec();
        for &sub_key in wanted.iter().filter(|sub_key| !kept.contains(sub_key)) {
            let list = selected.half_indices.slice(s![row, head, half, ..]);
            let Some(place) = list.iter().rposition(|other| !wanted.contains(other)) else { continue };
            selected.half_indices[[row, head, half, place]] = sub_key;
            selected.half_scores[[row, head, half, place]] = scores[[row, head, half, sub_key]];
        }
    }
    let own = selected.pair_scores.slice(s![row, head, ..]);
    let kth = own.iter().fold(f64::INFINITY, |least, sum| least.min(sum.to_f64()));
    let mut gap = Gap::default();
    let mut least = f64::INFINITY;
    for (place, pair) in pairs.iter().enumerate() {
        let sum = scores[[row, head, 0, pair[0]]] + scores[[row, head, 1, pair[1]]];
        if kth - sum.to_f64() > gap.set {
            (gap.set, gap.worst) = (kth - sum.to_f64(), place);
        }
        if sum.to_f64() - least > gap.order {
            (gap.order, gap.late) = (sum.to_f64() - least, place);
        }
        least = least.min(sum.to_f64());
        selected.pair_scores[[row, head, place]] = sum;
        selected.slots[[row, head, place]] = chosen[place] as usize;
        for (half, wanted) in pair.iter().enumerate() {
            let list = selected.half_indices.slice(s![row, head, half, ..]);
            let rank = list.iter().position(|sub_key| sub_key == wanted);
            selected.ranks[[row, head, place, half]] = rank.unwrap_or(0);
        }
    }
    gap
}

/// This number, which changes as another does
fn following<S: Scalar>(number: f64, other: S) -> S {
    // Where both are the same the difference would only add to a bound.
    if other.to_f64() == number { other } else { S::from_f64(number) + (other - other.constant()) }
}
