//! Layers: projections, normalisations, gates, output.                     PRJ-1 … PRJ-6, OUT-1 … OUT-3

use fwpkm_reference::Rules;
use fwpkm_reference::rules::ZScore;
use fwpkm_reference::settings::Norm;
use fwpkm_spec::certificate::Kind;

use crate::vectors::draw::Grid;
use crate::vectors::entry::{Entry, Folder, Inputs, LayerInputs, Table, entry};

pub(super) fn entries() -> Vec<Entry> {
    let mut entries = maps();
    entries.extend(norms());
    entries.extend(gates());
    entries.extend(outputs());
    entries
}

const HIDDEN: Grid = Grid { most: 64, unit: 0.03125 };
const NORM: Grid = Grid { most: 16, unit: 0.03125 };
const WEIGHT: Grid = Grid { most: 48, unit: 0.03125 };
const BIAS: Grid = Grid { most: 32, unit: 0.03125 };
const NONE: Grid = Grid { most: 0, unit: 1.0 };

/// A layer whose tables are not written: H = 1, n = 5, `d_k` = 4, `d_v` = 3, k = 2, hidden = 7, six tokens, values not
/// normalised, a gate of one output
fn layer(name: &'static str, clauses: &[&'static str], purpose: &'static str) -> Entry {
    written(name, clauses, purpose).reading()
}

/// The same as one chunk with L = 1, and a step
fn written(name: &'static str, clauses: &[&'static str], purpose: &'static str) -> Entry {
    let mut layer = entry(name, clauses, purpose).memory(1, 5, 4, 3, 2).drop(6, 1).text(1, 6);
    layer.kind = Kind::Layer;
    layer.set(|s| s.value_norm = Norm::None).draw(|inputs| {
        inputs.layer = Some(LayerInputs {
            width: 7,
            hidden: HIDDEN,
            norm: NORM,
            query: (WEIGHT, BIAS),
            value: (WEIGHT, BIAS),
            gate: (1, WEIGHT, BIAS),
            output: (WEIGHT, BIAS),
        });
    })
}

fn with(entry: Entry, change: impl FnOnce(&mut LayerInputs)) -> Entry {
    entry.draw(|inputs| {
        if let Some(layer) = &mut inputs.layer {
            change(layer);
        }
    })
}

/// No gate at all.
fn ungated(entry: Entry) -> Entry {
    let entry = entry.set(|s| (s.output_gate, s.gate_weighted_loss) = (false, false));
    with(entry, |layer| layer.gate = (0, NONE, NONE))
}

fn maps() -> Vec<Entry> {
    vec![
        with(layer("prj_1_scale", &["PRJ-1", "PRJ-2"], "The scale of RMSNorm is 1 + w, with w up to ±1."), |layer| {
            layer.norm = Grid { most: 32, unit: 0.03125 }
        }),
        with(
            (layer("prj_1_small_hidden", &["PRJ-1"], "Hidden states near 0.003, where the ε of RMSNorm, 1e-5, shows."))
                .memory(3, 5, 4, 2, 2),
            |layer| {
                layer.hidden = Grid { most: 8, unit: 0.5_f64.powi(10) };
                layer.width = 9;
            },
        ),
        with(layer("prj_1_other_epsilon", &["PRJ-1"], "rms_epsilon = 0.5.").set(|s| s.rms_epsilon = 0.5), |layer| {
            layer.hidden = Grid { most: 32, unit: 0.03125 }
        }),
        with(
            layer("prj_2_biases", &["PRJ-2", "OUT-2"], "Large biases in every map, three heads.").memory(3, 5, 4, 7, 2),
            |layer| {
                layer.width = 6;
                let bias = Grid { most: 64, unit: 0.03125 };
                for map in [&mut layer.query, &mut layer.value, &mut layer.output] {
                    map.1 = bias;
                }
            },
        ),
    ]
}

fn norms() -> Vec<Entry> {
    let population = Rules { z_score: ZScore::Population, ..Rules::paper() };
    let z_score = |entry: Entry| entry.set(|s| s.value_norm = Norm::ZScore);
    let tiny = Grid { most: 5, unit: 0.5_f64.powi(22) };
    let small = Grid { most: 6, unit: 0.5_f64.powi(13) };
    vec![
        z_score(written("prj_3_two_features", &["PRJ-3", "PRJ-6"], "z-score of two features: M is 1 or 2."))
            .memory(1, 5, 4, 2, 3)
            .and(population.clone()),
        z_score(written(
            "prj_3_five_features",
            &["PRJ-3", "PRJ-6", "OUT-1"],
            "z-score of five features, three heads, two sequences.",
        ))
        .memory(3, 6, 4, 5, 2)
        .text(2, 6)
        .and(population.clone()),
        with(
            z_score(written(
                "prj_3_constant",
                &["PRJ-3"],
                "Values whose deviation is near 1e-6, where the constant shows.",
            ))
            .memory(1, 5, 4, 2, 3),
            |layer| layer.value = (tiny, NONE),
        )
        .draw(small_slots),
        layer("prj_4_l2_values", &["PRJ-4", "PRJ-6"], "l2 normalisation of values.").set(|s| s.value_norm = Norm::L2),
        with(
            written("prj_4_constant", &["PRJ-4"], "Values of length near 1e-3, where the constant 1e-6 shows.")
                .memory(1, 5, 4, 2, 3)
                .set(|s| s.value_norm = Norm::L2),
            |layer| layer.value = (small, NONE),
        )
        .draw(small_slots),
        layer(
            "prj_6_z_scored_queries",
            &["PRJ-6", "PRJ-3"],
            "Queries z-scored by halves of the whole vector, three heads.",
        )
        .memory(3, 5, 4, 7, 2)
        .set(|s| s.query_norm = Norm::ZScore)
        .and(population.clone()),
        layer(
            "prj_6_z_scored_queries_of_one_head",
            &["PRJ-6", "PRJ-3"],
            "Halves of two numbers, z-scored to ±0.7 or ±1.",
        )
        .memory(1, 5, 4, 7, 2)
        .set(|s| s.query_norm = Norm::ZScore)
        .and(population.clone()),
        written(
            "prj_6_l2_queries",
            &["PRJ-6", "PRJ-4", "PRJ-2"],
            "Queries l2-normalised by halves of the whole vector, three heads.",
        )
        .memory(3, 5, 4, 7, 2)
        .draw(|inputs| inputs.sub_keys = Table::Drawn(Grid { most: 24, unit: 0.03125 }))
        .set(|s| (s.query_norm, s.value_norm) = (Norm::L2, Norm::ZScore)),
    ]
}

/// Slot values within ±0.5, so that a step towards values of size 1 shows
fn small_slots(inputs: &mut Inputs) {
    inputs.slot_values = Table::Drawn(Grid { most: 16, unit: 0.03125 });
}

fn gates() -> Vec<Entry> {
    let strong = Grid { most: 96, unit: 0.03125 };
    let outputs = |entry: Entry, count: usize| with(entry, |layer| layer.gate = (count, strong, BIAS));
    vec![
        outputs(
            written(
                "prj_5_one_output",
                &["PRJ-5", "OUT-1", "MEM-2"],
                "A gate of one output, which weighs read and loss.",
            ),
            1,
        ),
        outputs(
            layer("prj_5_three_outputs", &["PRJ-5", "OUT-1"], "A gate of three outputs: their mean, then the sigmoid."),
            3,
        ),
        outputs(
            layer(
                "prj_5_eight_outputs",
                &["PRJ-5", "OUT-1"],
                "A gate of eight outputs, as in the release; two sequences.",
            )
            .memory(1, 6, 4, 5, 3)
            .text(2, 6),
            8,
        ),
        outputs(
            written(
                "mem_2_gate_of_output_only",
                &["MEM-2", "OUT-1"],
                "The gate mixes the output and does not weigh the loss.",
            )
            .set(|s| s.gate_weighted_loss = false),
            3,
        ),
        outputs(
            written(
                "mem_2_gate_of_loss_only",
                &["MEM-2", "OUT-1"],
                "The gate weighs the loss; read and value are added.",
            )
            .set(|s| s.output_gate = false),
            3,
        ),
    ]
}

fn outputs() -> Vec<Entry> {
    let large = Grid { most: 128, unit: 0.0625 };
    vec![
        ungated(layer("out_1_no_gate", &["OUT-1", "OUT-2"], "No gate: read plus value.")),
        with(
            layer("out_2_scale", &["OUT-2", "PRJ-1"], "The output's RMSNorm and map; d_v = 5, hidden = 3.")
                .memory(1, 6, 4, 5, 2),
            |layer| (layer.width, layer.norm) = (3, Grid { most: 28, unit: 0.03125 }),
        ),
        with(
            layer(
                "out_3_raw_hidden",
                &["OUT-3"],
                "Hidden states of size 8: the layer's output is added to them as they are.",
            ),
            |layer| layer.hidden = large,
        ),
        with(
            (layer("out_3_frozen", &["OUT-3", "OUT-1", "BAT-4"], "A layer whose tables are not written."))
                .memory(3, 5, 4, 7, 2),
            |layer| layer.hidden = Grid { most: 96, unit: 0.0625 },
        ),
        written(
            "layer_run",
            &["OUT-1", "OUT-3", "STR-2", "PRJ-6"],
            "A layer over three chunks and a tail; sub-keys stay.",
        )
        .memory(1, 5, 4, 3, 2)
        .drop(5, 1)
        .text(2, 17)
        .set(|s| (s.addressing_weight, s.learning_rate, s.value_norm) = (0.0, 0.5, Norm::ZScore))
        .mask(&["11011101110111011", "10111011101110111"]),
        written("layer_carry", &["OUT-1", "STR-3", "STR-1"], "A layer in three calls under border carry.")
            .memory(1, 5, 4, 3, 2)
            .carry(4, 1)
            .text(1, 14)
            .set(|s| (s.addressing_weight, s.learning_rate, s.value_norm) = (0.0, 0.5, Norm::ZScore))
            .calls(&[3, 6, 5])
            .only(Folder::Paper),
    ]
}
