//! Slips of projection and output.

use fwpkm_reference::output::{Output, add_residual, mix, output, project as project_output};
use fwpkm_reference::projection::{NormedLinear, Projected, Projection, gates, project};
use fwpkm_reference::settings::Norm;
use fwpkm_reference::{Result, Rules, Settings};
use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut1, Axis, Zip, s};

use super::Slip;

pub(super) const SLIPS: &[Slip] = &[
    ("the scale of RMSNorm is w", &["PRJ-1"], |s| s.project = scale_without_one),
    ("no biases", &["PRJ-2"], |s| s.project = without_biases),
    ("the constant of the z-score left out", &["PRJ-3"], |s| s.project = |a, b, c, d| z_scored(a, b, c, d, 0.0)),
    ("the constant of the z-score 1e-5", &["PRJ-3"], |s| s.project = |a, b, c, d| z_scored(a, b, c, d, 1e-5)),
    ("the constant of the l2 norm left out", &["PRJ-4"], |s| s.project = l2_without_constant),
    ("mean of the sigmoids", &["PRJ-5"], |s| s.project = mean_of_sigmoids),
    ("sum of the gate's outputs", &["PRJ-5"], |s| s.project = summed_gate),
    ("queries normalised by halves of the heads", &["PRJ-6"], |s| s.project = norm_by_head),
    ("gate and 1 - gate swapped", &["OUT-1"], |s| s.output = gate_swapped),
    ("no RMSNorm before the output map", &["OUT-2"], |s| s.output = without_norm),
    ("no residual stream", &["OUT-3"], |s| s.output = without_residual),
    ("the value left out of the output", &["OUT-1"], |s| s.output = without_value),
];

type Map = NormedLinear<f64>;

fn with_maps(
    (settings, rules, projection, hidden): (&Settings, &Rules, &Projection<f64>, ArrayView2<f64>),
    change: impl Fn(&mut Map),
) -> Result<Projected<f64>> {
    let mut projection = projection.clone();
    let Projection { query, value, gate, .. } = &mut projection;
    [query, value].into_iter().chain(gate).for_each(change);
    project(settings, rules, &projection, hidden)
}

fn scale_without_one(a: &Settings, b: &Rules, c: &Projection<f64>, d: ArrayView2<f64>) -> Result<Projected<f64>> {
    with_maps((a, b, c, d), |map| map.norm -= 1.0)
}

fn without_biases(a: &Settings, b: &Rules, c: &Projection<f64>, d: ArrayView2<f64>) -> Result<Projected<f64>> {
    with_maps((a, b, c, d), |map| map.bias.fill(0.0))
}

/// Values z-scored here, with another constant
fn z_scored(
    settings: &Settings,
    rules: &Rules,
    projection: &Projection<f64>,
    hidden: ArrayView2<f64>,
    constant: f64,
) -> Result<Projected<f64>> {
    let raw = Settings { value_norm: Norm::None, ..settings.clone() };
    let mut projected = project(&raw, rules, projection, hidden)?;
    if settings.value_norm == Norm::ZScore {
        let features = projected.values.ncols() as f64;
        for mut row in projected.values.rows_mut() {
            let mean = row.sum() / features;
            row.mapv_inplace(|x| x - mean);
            let deviation = (row.dot(&row) / (features - 1.0)).sqrt();
            row.mapv_inplace(|x| x / (deviation + constant));
        }
    } else {
        return project(settings, rules, projection, hidden);
    }
    Ok(projected)
}

fn l2_without_constant(
    settings: &Settings,
    rules: &Rules,
    projection: &Projection<f64>,
    hidden: ArrayView2<f64>,
) -> Result<Projected<f64>> {
    if settings.value_norm != Norm::L2 {
        return project(settings, rules, projection, hidden);
    }
    let raw = Settings { value_norm: Norm::None, ..settings.clone() };
    let mut projected = project(&raw, rules, projection, hidden)?;
    for mut row in projected.values.rows_mut() {
        let length = row.dot(&row).sqrt();
        row.mapv_inplace(|x| x / length);
    }
    Ok(projected)
}

fn with_gates(
    (settings, rules, projection, hidden): (&Settings, &Rules, &Projection<f64>, ArrayView2<f64>),
    of_outputs: impl Fn(&Array2<f64>) -> Array1<f64>,
) -> Result<Projected<f64>> {
    let gates = projection.gate.as_ref().map(|gate| of_outputs(&gate.apply(hidden, settings.rms_epsilon)));
    Ok(Projected { gates, ..project(settings, rules, projection, hidden)? })
}

fn mean_of_sigmoids(a: &Settings, b: &Rules, c: &Projection<f64>, d: ArrayView2<f64>) -> Result<Projected<f64>> {
    with_gates((a, b, c, d), |outputs| {
        let each = outputs.columns().into_iter().map(|column| gates(&column.to_owned().insert_axis(Axis(1))));
        each.fold(Array1::zeros(outputs.nrows()), |sum, gate| sum + gate) / outputs.ncols() as f64
    })
}

fn summed_gate(a: &Settings, b: &Rules, c: &Projection<f64>, d: ArrayView2<f64>) -> Result<Projected<f64>> {
    with_gates((a, b, c, d), |outputs| gates(&outputs.sum_axis(Axis(1)).insert_axis(Axis(1))))
}

fn norm_by_head(
    settings: &Settings,
    rules: &Rules,
    projection: &Projection<f64>,
    hidden: ArrayView2<f64>,
) -> Result<Projected<f64>> {
    let raw = Settings { query_norm: Norm::None, ..settings.clone() };
    let mut projected = project(&raw, rules, projection, hidden)?;
    let half = settings.half_dim();
    for mut row in projected.queries.rows_mut() {
        for part in 0..2 * settings.heads {
            normalise(settings.query_norm, row.slice_mut(s![part * half..(part + 1) * half]));
        }
    }
    Ok(projected)
}

fn normalise(norm: Norm, mut row: ArrayViewMut1<f64>) {
    let count = row.len() as f64;
    let mean = row.sum() / count;
    match norm {
        Norm::ZScore => {
            row.mapv_inplace(|x| x - mean);
            let deviation = (row.dot(&row) / (count - 1.0)).sqrt();
            row.mapv_inplace(|x| x / (deviation + 1e-6));
        }
        Norm::L2 => {
            let length = (row.dot(&row) + 1e-6).sqrt();
            row.mapv_inplace(|x| x / length);
        }
        Norm::None => {}
    }
}

fn gate_swapped(
    settings: &Settings,
    map: &Map,
    reads: ArrayView2<f64>,
    values: ArrayView2<f64>,
    gates: Option<&Array1<f64>>,
    hidden: ArrayView2<f64>,
) -> Output<f64> {
    output(settings, map, values, reads, gates, hidden)
}

fn without_norm(
    settings: &Settings,
    map: &Map,
    reads: ArrayView2<f64>,
    values: ArrayView2<f64>,
    gates: Option<&Array1<f64>>,
    hidden: ArrayView2<f64>,
) -> Output<f64> {
    let _ = settings;
    let mixed = mix(reads, values, gates);
    let scaled = Zip::from(&mixed).and_broadcast(&map.norm).map_collect(|&x, &w| x * (1.0 + w));
    let layer = scaled.dot(&map.weight.t()) + &map.bias;
    let hidden = add_residual(hidden, layer.view());
    Output { mixed, layer, hidden }
}

fn without_residual(
    settings: &Settings,
    map: &Map,
    reads: ArrayView2<f64>,
    values: ArrayView2<f64>,
    gates: Option<&Array1<f64>>,
    hidden: ArrayView2<f64>,
) -> Output<f64> {
    let right = output(settings, map, reads, values, gates, hidden);
    Output { hidden: right.layer.clone(), ..right }
}

fn without_value(
    settings: &Settings,
    map: &Map,
    reads: ArrayView2<f64>,
    _: ArrayView2<f64>,
    _: Option<&Array1<f64>>,
    hidden: ArrayView2<f64>,
) -> Output<f64> {
    let layer = project_output(map, reads, settings.rms_epsilon);
    let hidden = add_residual(hidden, layer.view());
    Output { mixed: reads.to_owned(), layer, hidden }
}
