//! MEM within NUM-2 to NUM-5: losses and the value step, from the reading they were computed from.

use fwpkm_gpu::emulator::Emulator;
use fwpkm_gpu::{Memory, Reading};
use fwpkm_reference::numerics::{WriteTerm, descend_bound, pair_loss_bound, value_gradient_bound};
use fwpkm_reference::rules::{PairFactor, ReadFactor};
use fwpkm_reference::stream::Queued;
use fwpkm_reference::tables::descend;
use fwpkm_reference::{Settings, StepReport, Tables};
use ndarray::{Array3, s};

use super::addressing::check_address;
use super::stages::{F32, Shares, wide};

/// A step, with what it was computed from.
pub(crate) struct StepScene<'a> {
    pub(crate) memory: &'a Memory<Emulator>,
    pub(crate) before: &'a Tables<f32>,
    pub(crate) after: &'a Tables<f32>,
    /// All queued tokens, those of the chunk first.
    pub(crate) queue: &'a Queued<f32>,
    /// Tokens of the chunk.
    pub(crate) tokens: usize,
    /// Slots that `N_i` counts, if not those of the reading.
    pub(crate) counted: Option<&'a Array3<usize>>,
    pub(crate) reading: &'a Reading,
    pub(crate) report: &'a StepReport<f32>,
}

/// Losses, both steps, marginal, entropy.
pub(crate) fn check_step(shares: &mut Shares, scene: &StepScene) {
    check_memorize(shares, scene);
    check_address(shares, scene);
}

fn check_memorize(shares: &mut Shares, scene: &StepScene) {
    let (settings, rules, queue) = (scene.memory.settings(), scene.memory.rules(), scene.queue);
    let sequences = queue.queries.dim().1;
    let pairs = scene.tokens.min(queue.queries.dim().0.saturating_sub(settings.lookahead));
    let counted = scene.counted.unwrap_or(&scene.reading.slots);
    assert_eq!(scene.report.pair_losses.dim(), (pairs, sequences));
    let mut residuals = Vec::new();
    let mut weights = Vec::new();
    for row in 0..pairs * sequences {
        let (token, sequence) = (row / sequences, row % sequences);
        let target = wide(queue.values.slice(s![token + settings.lookahead, sequence, ..]));
        let read = wide(scene.reading.reads.row(row));
        let residual: Vec<f64> = read.iter().zip(&target).map(|(read, target)| read - target).collect();
        let present = queue.mask.as_ref().is_none_or(|mask| mask[[token, sequence]]);
        let gate = queue.gates.as_ref().map_or(1.0, |gates| f64::from(gates[[token, sequence]]));
        let f = if present { gate } else { 0.0 };
        let loss = f * residual.iter().map(|x| x * x).sum::<f64>() / settings.value_dim as f64;
        let ours = f64::from(scene.report.pair_losses[[token, sequence]]);
        shares.check("pair losses", ours, loss, pair_loss_bound(F32, f, &residual));
        residuals.push(residual);
        weights.push(f);
    }
    let read_factor = match rules.read_factor {
        ReadFactor::One => 1.0,
        ReadFactor::SlotsPerToken => (settings.heads * settings.top_k) as f64,
    };
    let samples = queue
        .mask
        .as_ref()
        .map_or(counted.dim().0, |mask| mask.slice(s![..pairs, ..]).iter().filter(|&&present| present).count());
    let pair_factor = match rules.pair_factor {
        PairFactor::One => 1.0,
        PairFactor::SamplesPerPair => samples as f64 / (pairs * sequences).max(1) as f64,
    };
    let mut counts = vec![0_usize; settings.slots()];
    let mut writes: Vec<Vec<(usize, f64)>> = vec![Vec::new(); settings.slots()];
    for &slot in counted {
        counts[slot] += 1;
    }
    for ((row, head, place), &slot) in scene.reading.slots.indexed_iter() {
        if row < weights.len() && weights[row] != 0.0 {
            writes[slot].push((row, f64::from(scene.reading.weights[[row, head, place]])));
        }
    }
    let factor = read_factor * pair_factor;
    let touched = counts.iter().zip(&writes).filter(|(count, writes)| **count > 0 || !writes.is_empty()).count();
    assert_eq!(scene.report.slots_touched, touched, "MEM-3");
    for (slot, writes) in writes.iter().enumerate() {
        for (d, &after) in scene.after.slot_values.row(slot).iter().enumerate() {
            let terms: Vec<WriteTerm> = writes
                .iter()
                .map(|&(row, weight)| WriteTerm { pair_weight: weights[row], weight, residual: residuals[row][d] })
                .collect();
            let sum: f64 = terms.iter().map(|term| term.pair_weight * term.weight * term.residual).sum();
            let gradient = factor / counts[slot].max(1) as f64 * sum;
            let bound = value_gradient_bound(F32, factor, counts[slot], &terms);
            let before = scene.before.slot_values[[slot, d]];
            if terms.is_empty() && settings.weight_decay == 0.0 {
                assert_eq!(before.to_bits(), after.to_bits(), "MEM-5: slot {slot} was not written");
            }
            check_descent(shares, "slot values", settings, (before, after), gradient, bound);
        }
    }
}

pub(crate) fn check_descent(
    shares: &mut Shares,
    stage: &'static str,
    settings: &Settings,
    (before, after): (f32, f32),
    gradient: f64,
    bound: f64,
) {
    let before = f64::from(before);
    // The descent's own bound grows with the gradient it was given, which may be off by its bound.
    let own = descend_bound(F32, settings, before, gradient.abs() + bound)
        .max(descend_bound(F32, settings, before, gradient));
    let own = own.max(descend_bound(F32, settings, before, -gradient.abs() - bound));
    shares.check(stage, f64::from(after), descend(settings, before, gradient), own + settings.learning_rate * bound);
}
