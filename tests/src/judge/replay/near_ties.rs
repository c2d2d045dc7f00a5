//! Sub-keys that an implementation may have chosen instead of others, and nothing recorded says so.         NUM-11
//!
//! A sub-key of a half may be among the k best and in none of the k slots. Then the slots do not tell whether it was chosen,
//! and another one may have been whose score is as good, as far as rounding can tell. What ADR computes differs then.

use fwpkm_reference::chunk::Reading;
use ndarray::{Array4, s};

use crate::problem::Problem;
use crate::selection::Exchange;
use crate::walk::Walked;

/// One half of a row (token, sequence) and head that may have been chosen otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NearTie {
    /// The step that is taken from it.
    pub(super) step: usize,
    token: usize,
    sequence: usize,
    head: usize,
    half: usize,
    /// Chosen, in no slot, and near one of the others; worst first.
    chosen: Vec<usize>,
    /// Not chosen, and near one of the chosen; best first.
    others: Vec<usize>,
}

/// Bits of a near-tie's number that are looked at.
const BITS: u32 = 6;

/// All near-ties turned.
pub(super) fn all(ties: &[NearTie]) -> Vec<Exchange> {
    ties.iter().flat_map(|tie| tie.exchanges(0)).collect()
}

/// For each of the lowest bits of their numbers, from 1, the near-ties that have it turned.
///
/// So two of them whose effects cancel are told apart; where there are many, many kinds of some of them are seen.
pub(super) fn some(ties: &[NearTie]) -> Vec<Vec<Exchange>> {
    let bits = (usize::BITS - ties.len().leading_zeros()).min(BITS);
    let of = |bit: u32| {
        let has_it = ties.iter().zip(1usize..).filter(move |(_, number)| number >> bit & 1 == 1);
        has_it.flat_map(move |(tie, _)| tie.exchanges(1 + bit as usize)).collect()
    };
    (0..bits).map(of).collect()
}

impl NearTie {
    /// Whether it is one of these, or part of one; they are in the order in which they are found.
    pub(super) fn is_among(&self, ties: &[Self]) -> bool {
        let place = |tie: &Self| (tie.token, tie.sequence, tie.head, tie.half);
        let Ok(at) = ties.binary_search_by_key(&place(self), place) else { return false };
        let are_in = |some: &[usize], all: &[usize]| some.iter().all(|i| all.contains(i));
        are_in(&self.chosen, &ties[at].chosen) && are_in(&self.others, &ties[at].others)
    }

    /// One of the choices that may have been made instead: the likeliest first.
    fn exchanges(&self, which: usize) -> Vec<Exchange> {
        let Self { token, sequence, head, half, .. } = *self;
        let mut others = self.others.clone();
        others.rotate_left(which % self.others.len().max(1));
        let pairs = self.chosen.iter().zip(others);
        pairs.map(|(&chosen, other)| Exchange { token, sequence, head, half, sub_keys: [chosen, other] }).collect()
    }
}

/// The near-ties of all steps before `steps` that are taken from first readings, with bounds so many times as large.
///
/// # Shapes   bounds: those of the half scores, [B, T, heads, 2, n]; initial: of the first rows (token, sequence), where they
/// are larger, [rows, heads, 2, n]
pub(super) fn of(
    walked: &Walked<f64>,
    problem: &Problem,
    bounds: &[f64],
    initial: Option<&Array4<f64>>,
    steps: usize,
    times: f64,
) -> Vec<NearTie> {
    let sequences = problem.sequences;
    let mut step_of = vec![None; problem.tokens];
    for (step, tokens) in walked.first_readings.iter().enumerate().take(steps) {
        step_of[tokens.clone().unwrap_or_default()].fill(Some(step));
    }
    let mut ties = Vec::new();
    let mut start = 0;
    for (length, reading) in &walked.trace.readings {
        let (_, heads, _, n) = reading.scores.dim();
        for (row, head, half) in ndarray::indices((length * sequences, heads, 2)) {
            let (token, sequence) = (start + row / sequences, row % sequences);
            let Some(step) = step_of[token] else { continue };
            let from = (((sequence * problem.tokens + token) * heads + head) * 2 + half) * n;
            let first = initial.filter(|initial| token * sequences + row % sequences < initial.dim().0);
            let bound = |i: usize| {
                let first = first.map_or(0.0, |first| first[[token * sequences + sequence, head, half, i]]);
                times * bounds[from + i].max(first)
            };
            let [chosen, others] = near(reading, [row, head, half], bound);
            if !chosen.is_empty() {
                ties.push(NearTie { step, token, sequence, head, half, chosen, others });
            }
        }
        start += length;
    }
    ties
}

/// The chosen sub-keys in no slot, worst first, and the others, best first, that are as near each other as their bounds.
fn near(reading: &Reading<f64>, [row, head, half]: [usize; 3], bound: impl Fn(usize) -> f64) -> [Vec<usize>; 2] {
    let scores = reading.scores.slice(s![row, head, half, ..]);
    let n = scores.len();
    let chosen = reading.selected.half_indices.slice(s![row, head, half, ..]);
    let slots = reading.selected.slots.slice(s![row, head, ..]);
    let is_in_a_slot = |i: usize| slots.iter().any(|slot| [slot / n, slot % n][half] == i);
    let (lowest, highest) = (|i: usize| scores[i] - bound(i), |i: usize| scores[i] + bound(i));
    let mut open: Vec<usize> = chosen.iter().copied().filter(|&i| !is_in_a_slot(i)).collect();
    let mut others: Vec<usize> = (0..n).filter(|i| !chosen.iter().any(|chosen| chosen == i)).collect();
    let best = others.iter().fold(f64::NEG_INFINITY, |best, &i| best.max(highest(i)));
    let worst = open.iter().fold(f64::INFINITY, |worst, &i| worst.min(lowest(i)));
    open.retain(|&i| lowest(i) <= best);
    others.retain(|&i| highest(i) >= worst);
    open.sort_by(|&i, &j| lowest(i).total_cmp(&lowest(j)));
    others.sort_by(|&i, &j| highest(j).total_cmp(&highest(i)));
    [open, others]
}
