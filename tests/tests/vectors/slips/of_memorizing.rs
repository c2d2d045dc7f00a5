//! Slips of memorize and of the value step.

use std::collections::HashSet;

use fwpkm_reference::chunk::{Chunk, Counted, Reading};
use fwpkm_reference::memorize::{Memorized, memorize, pair_weights};
use fwpkm_reference::tables::descend;
use fwpkm_reference::{Rules, Settings, Tables};
use ndarray::{Array2, Axis, concatenate, s};

use super::Slip;

pub(super) const SLIPS: &[Slip] = &[
    ("mask of the target", &["MEM-1"], |s| s.memorize = mask_of_target),
    ("gate of the target", &["MEM-1", "MEM-2"], |s| s.memorize = gate_of_target),
    ("targets wrap around", &["MEM-1"], |s| s.memorize = wrapped),
    ("the gate of the loss left out", &["MEM-2"], |s| s.memorize = ungated),
    ("losses summed over features", &["MEM-2"], |s| s.memorize = summed_losses),
    ("losses halved", &["MEM-2"], |s| s.memorize = halved_losses),
    ("N_i counts pairs only", &["MEM-3", "MEM-4"], |s| s.memorize = counts_pairs),
    ("N_i counts unmasked tokens only", &["MEM-3"], |s| s.memorize = counts_unmasked),
    ("N_i counts a token once", &["MEM-3"], |s| s.memorize = counts_tokens),
    ("not divided by N_i", &["MEM-4", "MEM-3"], |s| s.memorize = undivided),
    ("divided by k", &["MEM-4"], |s| s.memorize = divided_by_k),
    ("mean over the writes of a slot", &["MEM-4"], |s| s.memorize = mean_over_writes),
    ("residual not weighted by w", &["MEM-4"], |s| s.memorize = unweighted),
    ("delta rule: the slot's own residual", &["MEM-4"], |s| s.memorize = own_residual),
    ("the read not subtracted", &["MEM-4"], |s| s.memorize = without_read),
    ("averaged over features", &["MEM-4"], |s| s.memorize = averaged_over_features),
    ("decay clipped as well", &["MEM-5"], |s| s.value_step = decay_clipped),
    ("decay not times the learning rate", &["MEM-5"], |s| s.value_step = decay_alone),
    ("only touched slots decay", &["MEM-5", "CHK-3"], |s| s.value_step = decay_of_touched),
    ("no temperature in the gradient", &["MEM-6"], |s| s.memorize = no_temperature),
    ("slot values after their step", &["MEM-6", "CHK-2"], |s| s.memorize = values_first),
    ("sub-keys' gradient times the factor of the values", &["MEM-6"], |s| s.memorize = factored),
];

type Arguments<'a, 'b> = (&'a Settings, &'a Rules, &'a Tables<f64>, &'a Chunk<f64>, &'a Reading<f64>, &'a Counted<'b>);

macro_rules! slip {
    ($name:ident, $body:expr) => {
        fn $name(
            settings: &Settings,
            rules: &Rules,
            tables: &Tables<f64>,
            chunk: &Chunk<f64>,
            reading: &Reading<f64>,
            counted: &Counted,
        ) -> Memorized<f64> {
            let body: fn(Arguments) -> Memorized<f64> = $body;
            body((settings, rules, tables, chunk, reading, counted))
        }
    };
}

fn right((settings, rules, tables, chunk, reading, counted): Arguments) -> Memorized<f64> {
    memorize(settings, rules, tables, chunk, reading, counted)
}

fn with_chunk(arguments: Arguments, change: impl FnOnce(&mut Chunk<f64>)) -> Memorized<f64> {
    let (settings, rules, tables, chunk, reading, counted) = arguments;
    let mut chunk = chunk.clone();
    change(&mut chunk);
    memorize(settings, rules, tables, &chunk, reading, counted)
}

/// Row t of the result is row t + `by`; the last rows stay
fn shifted<T: Clone>(rows: &Array2<T>, by: usize) -> Array2<T> {
    Array2::from_shape_fn(rows.dim(), |(t, b)| rows.get((t + by, b)).unwrap_or(&rows[[t, b]]).clone())
}

slip!(mask_of_target, |arguments| with_chunk(arguments, |chunk| {
    chunk.mask = chunk.mask.as_ref().map(|mask| shifted(mask, chunk.lookahead));
}));
slip!(gate_of_target, |arguments| with_chunk(arguments, |chunk| {
    chunk.gates = chunk.gates.as_ref().map(|gates| shifted(gates, chunk.lookahead));
}));
slip!(wrapped, |arguments| with_chunk(arguments, |chunk| {
    let first = chunk.lookahead.min(chunk.values.dim().0);
    let more = chunk.values.slice(s![..first, .., ..]).to_owned();
    chunk.values = concatenate(Axis(0), &[chunk.values.view(), more.view()]).unwrap();
}));
slip!(ungated, |arguments| with_chunk(arguments, |chunk| chunk.gates = None));
slip!(summed_losses, |arguments| {
    let mut memorized = right(arguments);
    memorized.pair_losses *= arguments.0.value_dim as f64;
    memorized
});
slip!(halved_losses, |arguments| {
    let mut memorized = right(arguments);
    memorized.pair_losses *= 0.5;
    memorized
});

/// The gradient with other read counts
fn with_counts(arguments: Arguments, count: impl Fn(usize) -> usize) -> Memorized<f64> {
    let mut memorized = right(arguments);
    for (place, slot) in memorized.slots.iter().enumerate() {
        let scale = memorized.read_counts[place].max(1) as f64 / count(*slot).max(1) as f64;
        memorized.value_gradient.row_mut(place).mapv_inplace(|x| x * scale);
    }
    memorized
}

/// How many entries of the rows that `counts` allows name a slot
fn entries(arguments: Arguments, slot: usize, counts: impl Fn(usize) -> bool) -> usize {
    let rows = arguments.5.slots.outer_iter().enumerate().filter(|(row, _)| counts(*row));
    rows.flat_map(|(_, entries)| entries.iter().copied().collect::<Vec<_>>()).filter(|&other| other == slot).count()
}

slip!(counts_pairs, |arguments| {
    let pairs = arguments.3.pairs() * arguments.3.sequences();
    with_counts(arguments, |slot| entries(arguments, slot, |row| row < pairs))
});
slip!(counts_unmasked, |arguments| {
    let mask = arguments.3.mask.clone();
    let present = |row: usize| mask.as_ref().is_none_or(|mask| mask.iter().nth(row).copied().unwrap_or(true));
    with_counts(arguments, |slot| entries(arguments, slot, present))
});
slip!(counts_tokens, |arguments| with_counts(arguments, |slot| {
    arguments.5.slots.outer_iter().filter(|entries| entries.iter().any(|&other| other == slot)).count()
}));
slip!(undivided, |arguments| with_counts(arguments, |_| 1));
slip!(divided_by_k, |arguments| with_counts(arguments, |_| arguments.0.top_k));
slip!(mean_over_writes, |arguments| {
    let weights: Vec<f64> = pair_weights(arguments.3).iter().copied().collect();
    with_counts(arguments, |slot| entries(arguments, slot, |row| weights.get(row).is_some_and(|&f| f != 0.0)))
});

fn with_reading(arguments: Arguments, change: impl FnOnce(&mut Reading<f64>)) -> Memorized<f64> {
    let (settings, rules, tables, chunk, reading, counted) = arguments;
    let mut reading = reading.clone();
    change(&mut reading);
    memorize(settings, rules, tables, chunk, &reading, counted)
}

slip!(unweighted, |arguments| with_reading(arguments, |reading| reading.weights.fill(1.0)));
slip!(without_read, |arguments| with_reading(arguments, |reading| reading.reads.fill(0.0)));
slip!(own_residual, |arguments| {
    // With the read left out, what is missing is f·w·V_i for every write.
    let mut memorized = without_read(arguments.0, arguments.1, arguments.2, arguments.3, arguments.4, arguments.5);
    let weights: Vec<f64> = pair_weights(arguments.3).iter().copied().collect();
    let factor = fwpkm_reference::memorize::step_factor(arguments.0, arguments.1, arguments.3, arguments.5);
    for (place, &slot) in memorized.slots.clone().iter().enumerate() {
        let own = arguments.4.selected.slots.indexed_iter().filter(|(_, other)| **other == slot);
        let total: f64 =
            own.map(|(at, _)| weights.get(at.0).copied().unwrap_or(0.0) * arguments.4.weights[at]).sum::<f64>();
        let scale = factor * total / memorized.read_counts[place].max(1) as f64;
        let value = arguments.2.slot_values.row(slot).to_owned();
        memorized.value_gradient.row_mut(place).scaled_add(scale, &value);
    }
    memorized
});
slip!(averaged_over_features, |arguments| {
    let mut memorized = right(arguments);
    memorized.value_gradient /= arguments.0.value_dim as f64;
    memorized
});

fn clipped(settings: &Settings, x: f64) -> f64 {
    settings.gradient_clip.map_or(x, |clip| x.clamp(-clip, clip))
}

fn decay_clipped(settings: &Settings, value: f64, gradient: f64) -> f64 {
    value - settings.learning_rate * clipped(settings, gradient + settings.weight_decay * value)
}

fn decay_alone(settings: &Settings, value: f64, gradient: f64) -> f64 {
    value - settings.learning_rate * clipped(settings, gradient) - settings.weight_decay * value
}

fn decay_of_touched(settings: &Settings, value: f64, gradient: f64) -> f64 {
    if gradient == 0.0 { value } else { descend(settings, value, gradient) }
}

slip!(no_temperature, |arguments| {
    let (settings, rules, tables, chunk, reading, counted) = arguments;
    let half_score_gradient = {
        let settings = Settings { temperature: 1.0, ..settings.clone() };
        memorize(&settings, rules, tables, chunk, reading, counted).half_score_gradient
    };
    Memorized { half_score_gradient, ..right(arguments) }
});
slip!(values_first, |arguments| {
    let (settings, rules, tables, chunk, reading, counted) = arguments;
    let memorized = right(arguments);
    let mut after = tables.clone();
    let touched: HashSet<usize> = memorized.slots.iter().copied().collect();
    assert_eq!(touched.len(), memorized.slots.len());
    for (place, &slot) in memorized.slots.iter().enumerate() {
        for (value, gradient) in after.slot_values.row_mut(slot).iter_mut().zip(memorized.value_gradient.row(place)) {
            *value = descend(settings, *value, *gradient);
        }
    }
    let half_score_gradient = memorize(settings, rules, &after, chunk, reading, counted).half_score_gradient;
    Memorized { half_score_gradient, ..memorized }
});
slip!(factored, |arguments| {
    let mut memorized = right(arguments);
    let factor = (arguments.0.top_k * arguments.0.heads) as f64;
    memorized.half_score_gradient.iter_mut().for_each(|gradient| *gradient *= factor);
    memorized
});
