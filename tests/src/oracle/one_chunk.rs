//! The exact side of one step: losses, counts and gradients of a text that is one chunk, given the choices of its reading.

use std::collections::BTreeMap;

use fwpkm_reference::chunk::Reading;
use fwpkm_reference::rules::{PairFactor, ReadFactor, SubKeyLoss};
use fwpkm_reference::{Rules, Scalar, Settings, Tables};
use ndarray::{Array2, Array3, Array4, Axis};

use super::objectives::{addressing, by_duals, kept, memorization};
use super::scene::{Text, cast};
use super::tracked::Tracked;

type Real = Tracked<f64>;

/// A chunk with the choices of its reading.
#[derive(Debug)]
pub(super) struct OneChunk<'a> {
    pub(super) settings: &'a Settings,
    pub(super) rules: &'a Rules,
    pub(super) tables: Tables<f64>,
    pub(super) text: Text<f64>,
    chosen: &'a Array3<usize>,
    kept: Array4<bool>,
}

impl<'a> OneChunk<'a> {
    pub(super) fn new<S: Scalar>(
        settings: &'a Settings,
        rules: &'a Rules,
        tables: Tables<f64>,
        text: Text<f64>,
        reading: &'a Reading<S>,
    ) -> Self {
        let kept = kept(rules.kept, settings.top_k, &reading.scores);
        Self { settings, rules, tables, text, chosen: &reading.selected.slots, kept }
    }

    /// ½ Σ over pairs of gate · |read - target|²                                                          [MEM-2]
    pub(super) fn objective(&self) -> Real {
        self.memorization(&cast(&self.tables.sub_keys), &cast(&self.tables.slot_values))
    }

    /// α Σ p̄ ln(p̄ + e)                                                                                    [ADR-3]
    pub(super) fn addressing_loss(&self) -> Real {
        self.addressing(&cast(&self.tables.sub_keys))
    }

    /// How often each slot was read                                                                       [MEM-3]
    pub(super) fn read_counts(&self) -> BTreeMap<usize, usize> {
        let mut counts = BTreeMap::new();
        for &slot in self.chosen {
            *counts.entry(slot).or_insert(0) += 1;
        }
        counts
    }

    /// F / N_i · ∂objective/∂V_i, for the slots that were read                                            [MEM-4]
    pub(super) fn value_gradient(&self) -> Array2<Real> {
        let (counts, sub_keys) = (self.read_counts(), cast(&self.tables.sub_keys));
        let read = |place: usize| counts.contains_key(&(place / self.settings.value_dim));
        let mut slopes = by_duals(&self.tables.slot_values, read, |values| self.memorization(&sub_keys, values));
        for (&slot, &count) in &counts {
            let scale = self.step_factor() / number(count);
            slopes.row_mut(slot).mapv_inplace(|slope| scale * slope);
        }
        slopes
    }

    /// ∂(addressing loss)/∂K, and φ · ∂objective/∂K where that is selected, for the sub-keys that are kept  [ADR-5, MEM-6]
    pub(super) fn sub_key_gradient(&self) -> Array4<Real> {
        let (sub_keys, slot_values) = (&self.tables.sub_keys, cast(&self.tables.slot_values));
        let kept = |place: usize| self.is_kept(place / self.settings.half_dim());
        let mut slopes = by_duals(sub_keys, kept, |sub_keys| self.addressing(sub_keys));
        if self.settings.memory_gradient_to_sub_keys {
            let divisor = match self.rules.sub_key_loss {
                SubKeyLoss::Sum => Tracked::ONE,
                SubKeyLoss::Mean => number((self.positions() * self.settings.value_dim).max(1)),
            };
            let memory = by_duals(sub_keys, kept, |sub_keys| self.memorization(sub_keys, &slot_values));
            slopes.zip_mut_with(&memory, |slope, &memory| *slope = *slope + memory / divisor);
        }
        slopes
    }

    /// Whether some row keeps a sub-key; counted by head, half, sub-key
    pub(super) fn is_kept(&self, number: usize) -> bool {
        let n = self.settings.sub_keys;
        self.kept.axis_iter(Axis(0)).any(|row| row[[number / (2 * n), number / n % 2, number % n]])
    }

    /// Rows of kept scores that are further apart than this have probabilities that may be 0 on one side only.
    pub(super) fn spread<S: Scalar>(&self, scores: &Array4<S>) -> f64 {
        let mut widest = 0.0_f64;
        for (scores, kept) in scores.rows().into_iter().zip(self.kept.rows()) {
            let kept = || scores.iter().zip(kept).filter(|(_, kept)| **kept).map(|(score, _)| score.to_f64());
            widest = widest.max(kept().fold(f64::MIN, f64::max) - kept().fold(f64::MAX, f64::min));
        }
        widest
    }

    fn memorization<T: Scalar>(&self, sub_keys: &Array4<T>, slot_values: &Array2<T>) -> T {
        memorization(self.settings, &self.text, self.chosen, sub_keys, slot_values)
    }

    fn addressing<T: Scalar>(&self, sub_keys: &Array4<T>) -> T {
        addressing(self.settings, self.rules.log_epsilon, &self.text, &self.kept, sub_keys)
    }

    /// B · pairs, masked ones too                                                                         [MEM-1]
    fn positions(&self) -> usize {
        let (sequences, tokens) = self.text.shape();
        sequences * tokens.saturating_sub(self.settings.lookahead)
    }

    /// F                                                                                                  [MEM-4]
    fn step_factor(&self) -> Real {
        let (sequences, tokens) = self.text.shape();
        let read_factor = match self.rules.read_factor {
            ReadFactor::One => 1,
            ReadFactor::SlotsPerToken => self.settings.top_k * self.settings.heads,
        };
        let pairs = tokens.saturating_sub(self.settings.lookahead);
        let samples = match &self.text.mask {
            Some(mask) => mask.indexed_iter().filter(|&((_, t), &present)| present && t < pairs).count(),
            None => sequences * tokens,
        };
        match self.rules.pair_factor {
            PairFactor::One => number(read_factor),
            PairFactor::SamplesPerPair => number(read_factor * samples) / number(self.positions().max(1)),
        }
    }
}

fn number(count: usize) -> Real {
    Tracked::from_f64(count as f64)
}
