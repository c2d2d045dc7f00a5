//! Other norms and linear maps, of the projections and the output.                   PRJ-1, PRJ-2

use fwpkm_reference::Result;
use fwpkm_reference::chunk::Stages;
use fwpkm_reference::output::{self, Output};
use fwpkm_reference::projection::{NormedLinear, Projected, Projection, gates, linear, normalise, project, rms_norm};
use fwpkm_reference::{Rules, Scalar, Settings};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, s};

use super::project::{mean, mean_square};
use super::{Change, Deviation, SLIP, faults};

faults! { Maps {
    ScaleWithoutOne "prj-1-scale-without-one" "PRJ-1"
        "RMSNorm scales by w where PRJ-1 scales by 1 + w" SLIP
        {
            project: |s, r, p, h| with_maps(s, r, p, h, w_alone),
            output: |s, p, r, v, g, h| output_of(s, p, r, v, g, h, w_alone),
        }
    NormOfSum "prj-1-norm-of-the-sum" "PRJ-1"
        "RMSNorm divides by the root of the sum of squares where PRJ-1 divides by that of their mean" SLIP
        {
            project: |s, r, p, h| with_maps(s, r, p, h, sum_norm),
            output: |s, p, r, v, g, h| output_of(s, p, r, v, g, h, sum_norm),
        }
    LayerNorm "prj-1-layer-norm" "PRJ-1"
        "the mean is subtracted before the norm (LayerNorm) where PRJ-1 divides by the root mean square alone" SLIP
        {
            project: |s, r, p, h| with_maps(s, r, p, h, layer_norm),
            output: |s, p, r, v, g, h| output_of(s, p, r, v, g, h, layer_norm),
        }
    EpsilonOutside "prj-1-epsilon-outside-the-root" "PRJ-1"
        "rms_epsilon is added to the root where PRJ-1 adds it to the mean square" SLIP
        {
            project: |s, r, p, h| with_maps(s, r, p, h, epsilon_outside),
            output: |s, p, r, v, g, h| output_of(s, p, r, v, g, h, epsilon_outside),
        }
    NoNorm "prj-1-no-norm-before-the-maps" "PRJ-1"
        "queries, values and gates are maps of the hidden state itself where PRJ-1 normalises it first" SLIP
        { project: |s, r, p, h| with_maps(s, r, p, h, no_norm) }
    OneNorm "prj-1-one-norm-for-all-maps" "PRJ-1"
        "the query's norm scales the inputs of all three maps where each has its own in PRJ-1" SLIP
        { project: |s, r, p, h| project(s, r, &one_norm(p), h) }
    NoBias "prj-2-no-bias" "PRJ-2"
        "linear maps without bias where PRJ-2 adds one" SLIP
        {
            project: |s, r, p, h| with_maps(s, r, p, h, no_bias),
            output: |s, p, r, v, g, h| output_of(s, p, r, v, g, h, no_bias),
        }
    Transposed "prj-2-weight-transposed" "PRJ-2"
        "square weights are used transposed, [inputs, outputs], where PRJ-2 has [outputs, inputs]" SLIP
        {
            project: |s, r, p, h| with_maps(s, r, p, h, transposed),
            output: |s, p, r, v, g, h| output_of(s, p, r, v, g, h, transposed),
        }
} }

type Map<S> = fn(&NormedLinear<S>, ArrayView2<S>, f64) -> Array2<S>;

/// PRJ-6 and PRJ-5 with other maps
fn with_maps<S: Scalar>(
    settings: &Settings,
    rules: &Rules,
    projection: &Projection<S>,
    hidden: ArrayView2<S>,
    map: Map<S>,
) -> Result<Projected<S>> {
    let epsilon = settings.rms_epsilon;
    let mut queries = map(&projection.query, hidden, epsilon);
    let half = queries.ncols() / 2;
    normalise(settings.query_norm, rules.z_score, queries.slice_mut(s![.., ..half]).rows_mut())?;
    normalise(settings.query_norm, rules.z_score, queries.slice_mut(s![.., half..]).rows_mut())?;
    let mut values = map(&projection.value, hidden, epsilon);
    normalise(settings.value_norm, rules.z_score, values.rows_mut())?;
    let gates = projection.gate.as_ref().map(|gate| gates(&map(gate, hidden, epsilon)));
    Ok(Projected { queries, values, gates })
}

/// The output stage with other maps
fn output_of<S: Scalar>(
    settings: &Settings,
    projection: &NormedLinear<S>,
    reads: ArrayView2<S>,
    values: ArrayView2<S>,
    gates: Option<&Array1<S>>,
    hidden: ArrayView2<S>,
    map: Map<S>,
) -> Output<S> {
    let mixed = output::mix(reads, values, gates);
    let layer = map(projection, mixed.view(), settings.rms_epsilon);
    let hidden = output::add_residual(hidden, layer.view());
    Output { mixed, layer, hidden }
}

/// x·w + 0 as 1 + (w - 1)
fn w_alone<S: Scalar>(map: &NormedLinear<S>, rows: ArrayView2<S>, epsilon: f64) -> Array2<S> {
    NormedLinear { norm: map.norm.mapv(|w| w - S::ONE), ..map.clone() }.apply(rows, epsilon)
}

/// 1/√(Σx² + ε) as 1/√(mean + ε/D) · 1/√D
fn sum_norm<S: Scalar>(map: &NormedLinear<S>, rows: ArrayView2<S>, epsilon: f64) -> Array2<S> {
    let count = rows.ncols() as f64;
    let root = S::from_f64(count.sqrt());
    let norm = map.norm.mapv(|w| (S::ONE + w) / root - S::ONE);
    NormedLinear { norm, ..map.clone() }.apply(rows, epsilon / count)
}

fn layer_norm<S: Scalar>(map: &NormedLinear<S>, rows: ArrayView2<S>, epsilon: f64) -> Array2<S> {
    let mut centred = rows.to_owned();
    for mut row in centred.rows_mut() {
        let mean = mean(row.view());
        row.mapv_inplace(|x| x - mean);
    }
    map.apply(centred.view(), epsilon)
}

fn epsilon_outside<S: Scalar>(map: &NormedLinear<S>, rows: ArrayView2<S>, epsilon: f64) -> Array2<S> {
    by_row(map, rows, |x| {
        let root = mean_square(x).sqrt();
        rms_norm(x, map.norm.view(), 0.0).mapv(|y| y * root / (root + S::from_f64(epsilon)))
    })
}

fn no_norm<S: Scalar>(map: &NormedLinear<S>, rows: ArrayView2<S>, _: f64) -> Array2<S> {
    by_row(map, rows, |x| x.to_owned())
}

fn by_row<S: Scalar>(
    map: &NormedLinear<S>,
    rows: ArrayView2<S>,
    norm: impl Fn(ArrayView1<S>) -> Array1<S>,
) -> Array2<S> {
    let mut out = Array2::from_elem((rows.nrows(), map.bias.len()), S::ZERO);
    for (out, row) in out.rows_mut().into_iter().zip(rows.rows()) {
        linear(norm(row).view(), map.weight.view(), map.bias.view(), out);
    }
    out
}

fn one_norm<S: Scalar>(maps: &Projection<S>) -> Projection<S> {
    let norm = &maps.query.norm;
    let with = |map: &NormedLinear<S>| NormedLinear { norm: norm.clone(), ..map.clone() };
    Projection { value: with(&maps.value), gate: maps.gate.as_ref().map(with), ..maps.clone() }
}

fn no_bias<S: Scalar>(map: &NormedLinear<S>, rows: ArrayView2<S>, epsilon: f64) -> Array2<S> {
    NormedLinear { bias: map.bias.mapv(|_| S::ZERO), ..map.clone() }.apply(rows, epsilon)
}

fn transposed<S: Scalar>(map: &NormedLinear<S>, rows: ArrayView2<S>, epsilon: f64) -> Array2<S> {
    let square = map.weight.is_square();
    let weight = if square { map.weight.t().as_standard_layout().into_owned() } else { map.weight.clone() };
    NormedLinear { weight, ..map.clone() }.apply(rows, epsilon)
}
