//! One step against the derivatives of its two losses, with the choices of the reading held constant.
//!
//! ```text
//! value gradient     F / N_i · ∂objective/∂V_i
//! sub-key gradient   ∂(addressing loss)/∂K + φ · ∂objective/∂K
//! new tables         the step of MEM-5 and ADR-6 along these gradients, within the bound of NUM-5
//! ```
//!
//! Losses and gradients of both sides carry a bound of their own rounding errors ([`Tracked`]); nothing is allowed beyond.

use fwpkm_reference::chunk::{Reading, Step};
use fwpkm_reference::numerics::{Precision, descend_bound};
use fwpkm_reference::settings::Activation;
use fwpkm_reference::{Error, Memory, Scalar, Settings, Tables, Trace, TracedStep};

use super::bytes::{Bytes, Range};
use super::judge::{Judge, Judged};
use super::one_chunk::OneChunk;
use super::scene::{Most, Scene, Text, cast_tables};
use super::tracked::Tracked;

const MOST: Most = Most { heads: 2, sub_keys: 4, half_dim: 3, value_dim: 3, sequences: 2, tokens: 5 };

/// A step over one chunk, in f32 and f64.                             MEM-2 … MEM-6, ADR-1 … ADR-6, NUM-7
///
/// With the feature `emulator` the CUDA kernels take the same step.
///
/// # Panics
/// Where a loss, a count, a gradient or a new table is not what its clause says.
pub fn gradient_updates(bytes: &[u8]) {
    let mut bytes = Bytes::new(bytes);
    let lookahead = bytes.count(0, 3);
    let mut scene = Scene::choose(&mut bytes, MOST);
    scene.settings.lookahead = lookahead;
    step_holds::<f32>(&scene);
    step_holds::<f64>(&scene);
    #[cfg(feature = "emulator")]
    super::kernels::kernels_hold(&Scene { settings: one_chunk(&scene), ..scene }, None);
}

/// Settings under which the text of a scene is one chunk
fn one_chunk(scene: &Scene) -> Settings {
    Settings { chunk: scene.text.shape().1.max(scene.settings.lookahead) + 1, ..scene.settings.clone() }
}

/// The text of a scene, fed and flushed as one chunk under border drop, in one element type.
///
/// # Panics
/// As [`gradient_updates`].
pub fn step_holds<S: Scalar>(scene: &Scene) -> Judged {
    let mut judge = Judge::new::<S>(scene);
    let settings = one_chunk(scene);
    let (tables, text): (Tables<S>, Text<S>) = (cast_tables(&scene.tables), scene.text.cast());
    let finite = text.is_finite() && tables.sub_keys.iter().chain(&tables.slot_values).all(|x| x.is_finite());
    let mut trace = Trace::default();
    let stepped = Memory::<Tracked<S>>::new(settings.clone(), scene.rules.clone(), cast_tables(&tables))
        .and_then(|mut memory| memory.feed(&text.cast().tokens()).map(|_| memory))
        .and_then(|mut memory| memory.flush_traced(&mut trace).map(|_| memory));
    match stepped {
        Ok(memory) => {
            judge.claim("NUM-7", finite, || "numbers that are not finite were taken".into());
            if let Some(TracedStep { reading, step, .. }) = trace.steps.pop() {
                let chunk = OneChunk::new(&settings, &scene.rules, cast_tables(&tables), text.cast(), &reading);
                value_step_holds(&mut judge, &chunk, &reading, &step);
                sub_key_step_holds(&mut judge, &chunk, &reading, &step);
                tables_hold::<S>(&mut judge, &chunk, &step, memory.tables());
            }
        }
        Err(Error::NotFinite { .. }) => judge.claim("NUM-7", !finite, || "finite numbers were refused".into()),
        Err(error @ Error::Diverged { .. }) => {
            judge.claim("NUM-7", scene.range != Range::Small, || error.to_string());
        }
        Err(error) => judge.claim("NUM-7", false, || error.to_string()),
    }
    judge.judged
}

fn value_step_holds<S: Scalar>(
    judge: &mut Judge,
    chunk: &OneChunk,
    reading: &Reading<Tracked<S>>,
    step: &Step<Tracked<S>>,
) {
    let memorized = &step.memorized;
    let counted = memorized.slots.iter().copied().zip(memorized.read_counts.iter().copied());
    judge.claim("MEM-3", counted.eq(chunk.read_counts()), || {
        format!("slots {:?} were read {:?} times", memorized.slots, memorized.read_counts)
    });
    if at_a_kink(chunk.settings, reading) {
        return;
    }
    let losses = memorized.pair_losses.iter().fold(Tracked::ZERO, |sum, &loss| sum + loss);
    let half_features = Tracked::from_f64(chunk.settings.value_dim as f64 / 2.0);
    judge.near("MEM-2", losses * half_features, chunk.objective(), || "½ d_v Σ pair losses".into());
    let exact = chunk.value_gradient();
    for (&slot, found) in memorized.slots.iter().zip(memorized.value_gradient.rows()) {
        for (d, (&found, &exact)) in found.iter().zip(exact.row(slot)).enumerate() {
            judge.near("MEM-4", found, exact, || format!("gradient of slot {slot}, feature {d}"));
        }
    }
}

fn sub_key_step_holds<S: Scalar>(
    judge: &mut Judge,
    chunk: &OneChunk,
    reading: &Reading<Tracked<S>>,
    step: &Step<Tracked<S>>,
) {
    // A probability that ends at 0 is left out (ADR-4), which no bound of a number says.
    let least = -Precision::of::<S>().smallest.ln() - 8.0;
    let memory_open = chunk.settings.memory_gradient_to_sub_keys && at_a_kink(chunk.settings, reading);
    if memory_open || chunk.spread(&reading.scores) > least {
        return;
    }
    judge.near("ADR-3", step.addressed.loss, chunk.addressing_loss(), || "addressing loss".into());
    let exact = chunk.sub_key_gradient();
    for ((at, &found), &exact) in step.addressed.sub_key_gradient.indexed_iter().zip(&exact) {
        judge.near("ADR-5, MEM-6", found, exact, || format!("gradient of sub-key [head, half, sub-key, d] {at:?}"));
    }
}

/// Whether exact arithmetic may take the other branch of relu, where its slope jumps
fn at_a_kink<S: Scalar>(settings: &Settings, reading: &Reading<Tracked<S>>) -> bool {
    // An exact 0 has an error of 0, and its slope is ruled.
    let open = |x: &Tracked<S>| x.error.is_nan() || x.error > 0.0 && x.to_f64().abs() <= x.error;
    settings.activation == Activation::Relu && reading.selected.pair_scores.iter().any(open)
}

/// MEM-5 and ADR-6, given the gradients                                                                    NUM-5
fn tables_hold<S: Scalar>(judge: &mut Judge, chunk: &OneChunk, step: &Step<Tracked<S>>, after: &Tables<Tracked<S>>) {
    let settings = chunk.settings;
    let stepped = |judge: &mut Judge, clause, before: f64, gradient: f64, after: Tracked<S>| {
        let real = Tracked::<f64>::from_f64;
        let limit = settings.gradient_clip.unwrap_or(f64::INFINITY);
        let direction = real(gradient.clamp(-limit, limit)) + real(settings.weight_decay) * real(before);
        let exact = real(before) - real(settings.learning_rate) * direction;
        let bound = descend_bound(Precision::of::<S>(), settings, before, gradient);
        judge
            .near(clause, Tracked { value: after.value, error: bound }, exact, || format!("{before} after {gradient}"));
        let stays = gradient == 0.0 && settings.weight_decay == 0.0 || settings.learning_rate == 0.0;
        judge.claim(clause, !stays || after.to_f64().to_bits() == before.to_bits(), || format!("{before} moved"));
    };
    let (gradient, slots) = (&step.memorized.value_gradient, &step.memorized.slots);
    for ((slot, d), &before) in chunk.tables.slot_values.indexed_iter() {
        let found = slots.iter().position(|&touched| touched == slot).map_or(0.0, |row| gradient[[row, d]].to_f64());
        stepped(judge, "MEM-5", before, found, after.slot_values[[slot, d]]);
    }
    let gradients = step.addressed.sub_key_gradient.iter().zip(&after.sub_keys);
    for (&before, (gradient, &after)) in chunk.tables.sub_keys.iter().zip(gradients) {
        stepped(judge, "ADR-6", before, gradient.to_f64(), after);
    }
}
