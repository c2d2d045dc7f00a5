//! Other descents.                                                               MEM-5, ADR-6, CHK-3

use fwpkm_reference::address::{Addressed, address};
use fwpkm_reference::chunk::{Chunk, Reading, Stages};
use fwpkm_reference::memorize::{Memorized, memorize};
use fwpkm_reference::scalar::sum_over;
use fwpkm_reference::tables::descend;
use fwpkm_reference::{Rules, Scalar, Settings, Tables};
use ndarray::Array4;

use super::memorize::rescaled;
use super::{Change, Deviation, PORTS, SLIP, faults};

faults! { Steps {
    Ascent "mem-5-sign" "MEM-5"
        "the gradient is added to the slot values where MEM-5 subtracts it" SLIP
        { value_step: |s, x, g| descend(s, x, -g) }
    NeverWritten "mem-5-slot-values-never-change" "MEM-5"
        "slot values never change where MEM-5 moves them at every step" PORTS
        { value_step: |_, x, _| x }
    NoDecay "mem-5-slot-values-without-decay" "MEM-5"
        "slot values do not decay where MEM-5 decays them" SLIP
        { value_step: |s, x, g| descend(&Settings { weight_decay: 0.0, ..s.clone() }, x, g) }
    TouchedDecay "mem-5-only-touched-slots-decay" "MEM-5"
        "only slots with a gradient decay where MEM-5 decays all" SLIP
        { value_step: |s, x, g| if is_zero(g) { x } else { descend(s, x, g) } }
    ClipWithDecay "mem-5-decay-inside-the-clip" "MEM-5"
        "gradient and decay are clipped together where MEM-5 clips the gradient alone" SLIP
        { value_step: clip_of_sum, sub_key_step: clip_of_sum }
    DecayWithoutRate "mem-5-decay-without-learning-rate" "MEM-5"
        "λ·V is subtracted where MEM-5 subtracts η·λ·V" SLIP
        { value_step: decoupled, sub_key_step: decoupled }
    DecayAfter "mem-5-decay-after-the-step" "MEM-5"
        "the slot value after the step decays where MEM-5 decays the one before" SLIP
        { value_step: decay_after, sub_key_step: decay_after }
    ClipAfterRate "mem-5-clip-after-learning-rate" "MEM-5"
        "the step is clipped where MEM-5 clips the gradient" SLIP
        { value_step: clip_of_step, sub_key_step: clip_of_step }
    ClipBeforeDivision "mem-5-clip-before-the-division" "MEM-5"
        "the sum of a slot is clipped before it is divided by N_i where MEM-5 clips the quotient" SLIP
        { memorize: |s, r, t, c, g, n| clipped_sums(s, memorize(s, r, t, c, g, n)) }
    ClipByNorm "mem-5-clip-by-norm" "MEM-5"
        "a slot's gradient is shortened to the length of the clip where MEM-5 clips each element" SLIP
        { memorize: |s, r, t, c, g, n| clipped_norms(s, memorize(s, r, t, c, g, n)) }
    Overwrite "mem-5-slot-value-replaced" "MEM-5"
        "the slot value becomes -η·G where MEM-5 changes it by that" SLIP
        { value_step: |s, x, g| if is_zero(g) { descend(s, x, g) } else { descend(s, S::ZERO, g) } }
    SubKeyAscent "adr-6-sign" "ADR-6"
        "the gradient is added to the sub-keys where ADR-6 subtracts it" SLIP
        { sub_key_step: |s, x, g| descend(s, x, -g) }
    SubKeysNeverWritten "adr-6-sub-keys-never-change" "ADR-6"
        "sub-keys never change where ADR-6 moves them at every step; the addressing loss is reported" SLIP
        { sub_key_step: |_, x, _| x }
    SubKeyHalfRate "adr-6-half-the-learning-rate" "ADR-6"
        "sub-keys move at half the learning rate where ADR-6 has that of the slot values" SLIP
        { sub_key_step: |s, x, g| descend(&Settings { learning_rate: 0.5 * s.learning_rate, ..s.clone() }, x, g) }
    SubKeyFullRate "adr-6-without-learning-rate" "ADR-6"
        "sub-keys move by the whole gradient where ADR-6 multiplies it by η" SLIP
        { sub_key_step: |s, x, g| descend(&Settings { learning_rate: 1.0, ..s.clone() }, x, g) }
    SubKeyNoDecay "adr-6-sub-keys-without-decay" "ADR-6"
        "sub-keys do not decay where ADR-6 decays them" SLIP
        { sub_key_step: |s, x, g| descend(&Settings { weight_decay: 0.0, ..s.clone() }, x, g) }
    SubKeyNoClip "adr-6-sub-keys-without-clip" "ADR-6"
        "the sub-keys' gradient is not clipped where ADR-6 clips it" SLIP
        { sub_key_step: |s, x, g| descend(&Settings { gradient_clip: None, ..s.clone() }, x, g) }
    SubKeyNoDecayWithout "adr-6-no-decay-without-addressing" "ADR-6"
        "sub-keys decay only if the addressing weight is above 0 where ADR-6 decays them at every step" SLIP
        { sub_key_step: |s, x, g| if s.addressing_weight == 0.0 && is_zero(g) { x } else { descend(s, x, g) } }
    PairsOnly "chk-3-no-addressing-without-pairs" "CHK-3"
        "a chunk without pairs takes no addressing step where CHK-3 takes it" SLIP
        { address: only_with_pairs }
} }

/// Whatever its bound, if it has one.
fn is_zero<S: Scalar>(x: S) -> bool {
    x.to_f64() == 0.0
}

fn parts<S: Scalar>(settings: &Settings) -> (S, S, impl Fn(S) -> S) {
    let clip = settings.gradient_clip.map(S::from_f64);
    let (rate, decay) = (S::from_f64(settings.learning_rate), S::from_f64(settings.weight_decay));
    (rate, decay, move |x: S| clip.map_or(x, |clip| x.max(-clip).min(clip)))
}

fn clip_of_sum<S: Scalar>(settings: &Settings, x: S, gradient: S) -> S {
    let (rate, decay, clip) = parts::<S>(settings);
    x - rate * clip(gradient + decay * x)
}

fn decoupled<S: Scalar>(settings: &Settings, x: S, gradient: S) -> S {
    let (rate, decay, clip) = parts::<S>(settings);
    x - rate * clip(gradient) - decay * x
}

fn decay_after<S: Scalar>(settings: &Settings, x: S, gradient: S) -> S {
    let (rate, decay, clip) = parts::<S>(settings);
    (x - rate * clip(gradient)) * (S::ONE - rate * decay)
}

fn clip_of_step<S: Scalar>(settings: &Settings, x: S, gradient: S) -> S {
    let (rate, decay, clip) = parts::<S>(settings);
    x - clip(rate * gradient) - rate * decay * x
}

fn clipped_sums<S: Scalar>(settings: &Settings, mut memorized: Memorized<S>) -> Memorized<S> {
    let (_, _, clip) = parts::<S>(settings);
    for (mut row, &count) in memorized.value_gradient.rows_mut().into_iter().zip(&memorized.read_counts) {
        let count = S::from_f64(count.max(1) as f64);
        row.mapv_inplace(|x| clip(x * count) / count);
    }
    memorized
}

fn clipped_norms<S: Scalar>(settings: &Settings, memorized: Memorized<S>) -> Memorized<S> {
    let Some(clip) = settings.gradient_clip else { return memorized };
    let rows = memorized.value_gradient.rows();
    let norms: Vec<f64> = rows.into_iter().map(|row| sum_over(row, row, |a, b| a * b).sqrt().to_f64()).collect();
    rescaled(memorized, |place, _| if norms[place] > clip { clip / norms[place] } else { 1.0 })
}

/// Without pairs no gradient; marginal and loss as they are
fn only_with_pairs<S: Scalar>(
    settings: &Settings,
    rules: &Rules,
    tables: &Tables<S>,
    chunk: &Chunk<S>,
    reading: &Reading<S>,
    memory: Option<&Array4<S>>,
) -> Addressed<S> {
    let mut addressed = address(settings, rules, tables, chunk, reading, memory);
    if chunk.pairs() == 0 {
        addressed.sub_key_gradient.fill(S::ZERO);
    }
    addressed
}
