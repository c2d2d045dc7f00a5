//! Slips of address and of the sub-key step.

use fwpkm_reference::address::{Addressed, address};
use fwpkm_reference::chunk::{Chunk, Reading};
use fwpkm_reference::select::select;
use fwpkm_reference::settings::Score;
use fwpkm_reference::tables::descend;
use fwpkm_reference::{Rules, Settings, Tables};
use ndarray::{Array3, Array4, Axis, s};

use super::Slip;

pub(super) const SLIPS: &[Slip] = &[
    ("temperature in addressing", &["ADR-1"], |s| s.address = with_temperature),
    ("all sub-keys kept", &["ADR-1"], |s| s.address = all_kept),
    ("masked tokens left out", &["ADR-2"], |s| s.address = without_masked),
    ("tokens without a target left out", &["ADR-2"], |s| s.address = without_targetless),
    ("one marginal for each head", &["ADR-2"], |s| s.address = by_head),
    ("mean of the tokens' entropies", &["ADR-2", "ADR-3"], |s| s.address = by_row),
    ("entropy of one half", &["ADR-3", "ADR-5"], |s| s.address = one_half),
    ("entropy made smaller", &["ADR-3", "ADR-5"], |s| s.address = wrong_sign),
    ("gradient of the distance without its 2", &["ADR-5"], |s| s.address = without_two),
    ("ε left out of the gradient", &["ADR-5"], |s| s.address = without_epsilon),
    ("sum over tokens in place of their mean", &["ADR-4"], |s| s.address = summed),
    ("no decay of sub-keys", &["ADR-6"], |s| s.sub_key_step = without_decay),
    ("no decay without addressing", &["ADR-6"], |s| s.sub_key_step = decay_with_addressing),
    ("no clipping of sub-keys", &["ADR-6"], |s| s.sub_key_step = without_clip),
    ("sub-keys stay", &["ADR-6", "CHK-2", "CHK-3"], |s| s.sub_key_step = |_, sub_key, _| sub_key),
];

type Arguments<'a> =
    (&'a Settings, &'a Rules, &'a Tables<f64>, &'a Chunk<f64>, &'a Reading<f64>, Option<&'a Array4<f64>>);

macro_rules! slip {
    ($name:ident, $body:expr) => {
        fn $name(
            settings: &Settings,
            rules: &Rules,
            tables: &Tables<f64>,
            chunk: &Chunk<f64>,
            reading: &Reading<f64>,
            memory_gradient: Option<&Array4<f64>>,
        ) -> Addressed<f64> {
            let body: fn(Arguments) -> Addressed<f64> = $body;
            body((settings, rules, tables, chunk, reading, memory_gradient))
        }
    };
}

fn right((settings, rules, tables, chunk, reading, memory_gradient): Arguments) -> Addressed<f64> {
    address(settings, rules, tables, chunk, reading, memory_gradient)
}

slip!(with_temperature, |(settings, rules, tables, chunk, reading, memory_gradient)| {
    let mut reading = reading.clone();
    reading.scores /= settings.temperature;
    reading.selected.half_scores /= settings.temperature;
    address(settings, rules, tables, chunk, &reading, memory_gradient)
});
slip!(all_kept, |(settings, rules, tables, chunk, reading, memory_gradient)| {
    if memory_gradient.is_some() {
        return right((settings, rules, tables, chunk, reading, memory_gradient));
    }
    let all = Settings { top_k: settings.sub_keys, ..settings.clone() };
    let mut reading = reading.clone();
    reading.selected = select(&all, reading.scores.view());
    address(settings, rules, tables, chunk, &reading, None)
});

/// Addressing over some of the rows (token, sequence)
fn of_rows(arguments: Arguments, rows: &[usize]) -> Addressed<f64> {
    let (settings, rules, tables, chunk, reading, memory_gradient) = arguments;
    let sequences = chunk.sequences();
    let width = chunk.queries.dim().2;
    let queries = Array3::from_shape_fn((rows.len(), 1, width), |(row, _, d)| {
        chunk.queries[[rows[row] / sequences, rows[row] % sequences, d]]
    });
    let mut some = reading.clone();
    some.scores = reading.scores.select(Axis(0), rows);
    some.selected.half_indices = reading.selected.half_indices.select(Axis(0), rows);
    some.selected.half_scores = reading.selected.half_scores.select(Axis(0), rows);
    let chunk = Chunk { queries, values: chunk.values.clone(), gates: None, mask: None, lookahead: chunk.lookahead };
    let gradient = memory_gradient.map(|gradient| gradient.select(Axis(0), rows));
    address(settings, rules, tables, &chunk, &some, gradient.as_ref())
}

fn rows(arguments: Arguments) -> usize {
    arguments.4.scores.dim().0
}

slip!(without_masked, |arguments| {
    let mask = arguments.3.mask.clone();
    let present = |row: &usize| mask.as_ref().is_none_or(|mask| mask.iter().nth(*row).copied().unwrap_or(true));
    of_rows(arguments, &(0..rows(arguments)).filter(present).collect::<Vec<_>>())
});
slip!(without_targetless, |arguments| {
    let pairs = arguments.3.pairs() * arguments.3.sequences();
    of_rows(arguments, &(0..pairs).collect::<Vec<_>>())
});

/// The mean of several parts
fn mean(parts: &[Addressed<f64>], gradients: f64) -> Addressed<f64> {
    let mut mean = parts[0].clone();
    let share = 1.0 / parts.len() as f64;
    for part in &parts[1..] {
        mean.marginal += &part.marginal;
        mean.entropy += &part.entropy;
        mean.loss += part.loss;
        mean.sub_key_gradient += &part.sub_key_gradient;
    }
    mean.marginal *= share;
    mean.entropy *= share;
    mean.loss *= share;
    mean.sub_key_gradient *= gradients;
    mean
}

slip!(by_row, |arguments| {
    let parts: Vec<_> = (0..rows(arguments)).map(|row| of_rows(arguments, &[row])).collect();
    let share = 1.0 / parts.len().max(1) as f64;
    if parts.is_empty() { right(arguments) } else { mean(&parts, share) }
});
slip!(by_head, |arguments| {
    let (settings, rules, tables, chunk, reading, _) = arguments;
    let width = settings.key_dim;
    let part = |head: usize| {
        let one = Settings { heads: 1, ..settings.clone() };
        let tables = Tables {
            sub_keys: tables.sub_keys.slice(s![head..=head, .., .., ..]).to_owned(),
            slot_values: tables.slot_values.clone(),
        };
        let mut of_head = reading.clone();
        of_head.scores = reading.scores.slice(s![.., head..=head, .., ..]).to_owned();
        of_head.selected.half_indices = reading.selected.half_indices.slice(s![.., head..=head, .., ..]).to_owned();
        of_head.selected.half_scores = reading.selected.half_scores.slice(s![.., head..=head, .., ..]).to_owned();
        let mut chunk = chunk.clone();
        chunk.queries = chunk.queries.slice(s![.., .., head * width..(head + 1) * width]).to_owned();
        address(&one, rules, &tables, &chunk, &of_head, None)
    };
    let parts: Vec<_> = (0..settings.heads).map(part).collect();
    let gradients: Vec<_> = parts.iter().map(|part| part.sub_key_gradient.view()).collect();
    let sub_key_gradient = ndarray::concatenate(Axis(0), &gradients).unwrap() / settings.heads as f64;
    let mut all = mean(&parts, 1.0);
    all.sub_key_gradient = sub_key_gradient;
    all
});
slip!(one_half, |arguments| {
    let mut addressed = right(arguments);
    addressed.loss = -arguments.0.addressing_weight * addressed.entropy[0];
    addressed.sub_key_gradient.slice_mut(s![.., 1, .., ..]).fill(0.0);
    addressed
});
slip!(wrong_sign, |arguments| {
    let mut addressed = right(arguments);
    addressed.loss = -addressed.loss;
    addressed.sub_key_gradient *= -1.0;
    addressed
});
slip!(without_two, |arguments| {
    let mut addressed = right(arguments);
    if arguments.0.score != Score::DotProduct {
        addressed.sub_key_gradient *= 0.5;
    }
    addressed
});
slip!(summed, |arguments| {
    let mut addressed = right(arguments);
    addressed.sub_key_gradient *= (rows(arguments) * arguments.0.heads) as f64;
    addressed
});
slip!(without_epsilon, |(settings, rules, tables, chunk, reading, memory_gradient)| {
    let score = match settings.score {
        Score::InverseDistance { .. } => Score::InverseDistance { epsilon: 1e-9 },
        Score::DotProduct => Score::DotProduct,
    };
    address(&Settings { score, ..settings.clone() }, rules, tables, chunk, reading, memory_gradient)
});

fn without_decay(settings: &Settings, sub_key: f64, gradient: f64) -> f64 {
    descend(&Settings { weight_decay: 0.0, ..settings.clone() }, sub_key, gradient)
}

fn decay_with_addressing(settings: &Settings, sub_key: f64, gradient: f64) -> f64 {
    if settings.addressing_weight == 0.0 { sub_key } else { descend(settings, sub_key, gradient) }
}

fn without_clip(settings: &Settings, sub_key: f64, gradient: f64) -> f64 {
    descend(&Settings { gradient_clip: None, ..settings.clone() }, sub_key, gradient)
}
