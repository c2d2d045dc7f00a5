//! Other projections.                                                                  PRJ-3 … PRJ-6

use fwpkm_reference::Result;
use fwpkm_reference::chunk::Stages;
use fwpkm_reference::projection::{Projected, Projection, l2, normalise, project, sigmoid};
use fwpkm_reference::rules::ZScore;
use fwpkm_reference::scalar::{sum, sum_over};
use fwpkm_reference::settings::Norm;
use fwpkm_reference::{Rules, Scalar, Settings};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, ArrayViewMut1, Axis, s};

use super::{Change, Deviation, PORTS, SLIP, faults};

faults! { Project {
    EpsilonInside "prj-3-constant-inside-the-root" "PRJ-3"
        "the z-score divides by √(variance + 1e-6) where PRJ-3 divides by std + 1e-6" SLIP
        { project: |s, r, p, h| with_norm(s, r, p, h, epsilon_inside) }
    LargerEpsilon "prj-3-constant-of-1e-5" "PRJ-3"
        "1e-5 is added to the deviation where PRJ-3 adds 1e-6" SLIP
        { project: |s, r, p, h| with_norm(s, r, p, h, larger_epsilon) }
    NotCentred "prj-3-not-centred" "PRJ-3"
        "features are divided by their deviation but not centred, where PRJ-3 subtracts their mean" SLIP
        { project: |s, r, p, h| with_norm(s, r, p, h, not_centred) }
    ValueLayerNorm "prj-3-layer-norm" "PRJ-3"
        "LayerNorm, (x - mean)/√(population variance + 1e-5), where PRJ-3 takes the z-score" PORTS
        { project: |s, r, p, h| with_norm(s, r, p, h, as_layer_norm) }
    OverTokens "prj-3-over-tokens" "PRJ-3"
        "each feature is z-scored over the tokens where PRJ-3 z-scores each token over its features" SLIP
        { project: over_tokens }
    Length "prj-4-constant-of-1e-12" "PRJ-4"
        "l2 divides by max(|x|, 1e-12) where PRJ-4 divides by √(|x|² + 1e-6)" SLIP
        { project: |s, r, p, h| with_norm(s, r, p, h, by_length) }
    MeanLength "prj-4-mean-square" "PRJ-4"
        "l2 divides by the root of the mean square where PRJ-4 divides by that of the sum" SLIP
        { project: |s, r, p, h| with_norm(s, r, p, h, by_mean_square) }
    FirstOutput "prj-5-first-output-only" "PRJ-5"
        "the gate is the sigmoid of the first output where PRJ-5 takes the mean of all" SLIP
        { project: |s, r, p, h| with_gates(s, r, p, h, |z| z.map_axis(Axis(1), |z| sigmoid(z[0]))) }
    SumOfOutputs "prj-5-sum-of-outputs" "PRJ-5"
        "the gate is the sigmoid of the outputs' sum where PRJ-5 takes their mean" SLIP
        { project: |s, r, p, h| with_gates(s, r, p, h, |z| z.map_axis(Axis(1), |z| sigmoid(sum(z)))) }
    MeanOfGates "prj-5-mean-of-sigmoids" "PRJ-5"
        "the gate is the mean of the outputs' sigmoids where PRJ-5 takes the sigmoid of their mean" SLIP
        { project: |s, r, p, h| with_gates(s, r, p, h, |z| z.map_axis(Axis(1), |z| mean(z.mapv(sigmoid).view()))) }
    NoSigmoid "prj-5-no-sigmoid" "PRJ-5"
        "the gate is the mean of the outputs where PRJ-5 takes its sigmoid" SLIP
        { project: |s, r, p, h| with_gates(s, r, p, h, |z| z.map_axis(Axis(1), mean)) }
    WholeQuery "prj-6-query-norm-whole" "PRJ-6"
        "queries are normalised as one vector where PRJ-6 normalises its first and second half apart" SLIP
        { project: |s, r, p, h| with_query_parts(s, r, p, h, 1) }
    HeadHalves "prj-6-query-norm-by-heads" "PRJ-6"
        "queries are normalised by each half of each head where PRJ-6 has two parts of the whole vector" SLIP
        { project: |s, r, p, h| with_query_parts(s, r, p, h, 2 * s.heads) }
} }

/// The projections with another z-score and l2
fn with_norm<S: Scalar>(
    settings: &Settings,
    rules: &Rules,
    projection: &Projection<S>,
    hidden: ArrayView2<S>,
    norm: fn(Norm, ZScore, ArrayViewMut1<S>),
) -> Result<Projected<S>> {
    let raw = Settings { query_norm: Norm::None, value_norm: Norm::None, ..settings.clone() };
    let mut projected = project(&raw, rules, projection, hidden)?;
    let half = projected.queries.ncols() / 2;
    for mut row in projected.queries.rows_mut() {
        norm(settings.query_norm, rules.z_score, row.slice_mut(s![..half]));
        norm(settings.query_norm, rules.z_score, row.slice_mut(s![half..]));
    }
    projected.values.rows_mut().into_iter().for_each(|row| norm(settings.value_norm, rules.z_score, row));
    Ok(projected)
}

/// z-score with the spread that `spread` makes of a variance, centred where asked for; l2 as it stands
fn z_score<S: Scalar>(norm: Norm, divisor: ZScore, mut x: ArrayViewMut1<S>, centred: bool, spread: fn(S) -> S) {
    match norm {
        Norm::ZScore => {
            let mean = mean(x.view());
            let count = x.len() - usize::from(divisor == ZScore::Sample);
            let squares = sum_over(x.view(), x.view(), |a, b| (a - mean) * (b - mean));
            let spread = spread(squares / S::from_f64(count as f64));
            let mean = if centred { mean } else { S::ZERO };
            x.mapv_inplace(|x| (x - mean) / spread);
        }
        Norm::L2 => l2(x),
        Norm::None => {}
    }
}

fn epsilon_inside<S: Scalar>(norm: Norm, divisor: ZScore, x: ArrayViewMut1<S>) {
    z_score(norm, divisor, x, true, |variance| (variance + S::from_f64(1e-6)).sqrt());
}

fn larger_epsilon<S: Scalar>(norm: Norm, divisor: ZScore, x: ArrayViewMut1<S>) {
    z_score(norm, divisor, x, true, |variance| variance.sqrt() + S::from_f64(1e-5));
}

fn not_centred<S: Scalar>(norm: Norm, divisor: ZScore, x: ArrayViewMut1<S>) {
    z_score(norm, divisor, x, false, |variance| variance.sqrt() + S::from_f64(1e-6));
}

fn as_layer_norm<S: Scalar>(norm: Norm, _: ZScore, x: ArrayViewMut1<S>) {
    z_score(norm, ZScore::Population, x, true, |variance| (variance + S::from_f64(1e-5)).sqrt());
}

fn by_length<S: Scalar>(norm: Norm, divisor: ZScore, mut x: ArrayViewMut1<S>) {
    if norm == Norm::L2 {
        let length = (sum_over(x.view(), x.view(), |a, b| a * b)).sqrt().max(S::from_f64(1e-12));
        return x.mapv_inplace(|x| x / length);
    }
    z_score(norm, divisor, x, true, |variance| variance.sqrt() + S::from_f64(1e-6));
}

fn by_mean_square<S: Scalar>(norm: Norm, divisor: ZScore, mut x: ArrayViewMut1<S>) {
    if norm == Norm::L2 {
        let root = (mean_square(x.view()) + S::from_f64(1e-6)).sqrt();
        return x.mapv_inplace(|x| x / root);
    }
    z_score(norm, divisor, x, true, |variance| variance.sqrt() + S::from_f64(1e-6));
}

fn over_tokens<S: Scalar>(
    settings: &Settings,
    rules: &Rules,
    projection: &Projection<S>,
    hidden: ArrayView2<S>,
) -> Result<Projected<S>> {
    if settings.value_norm != Norm::ZScore || hidden.nrows() < 2 {
        return project(settings, rules, projection, hidden);
    }
    let mut projected = project(&Settings { value_norm: Norm::None, ..settings.clone() }, rules, projection, hidden)?;
    normalise(Norm::ZScore, rules.z_score, projected.values.columns_mut())?;
    Ok(projected)
}

fn with_gates<S: Scalar>(
    settings: &Settings,
    rules: &Rules,
    projection: &Projection<S>,
    hidden: ArrayView2<S>,
    gates: fn(&Array2<S>) -> Array1<S>,
) -> Result<Projected<S>> {
    let projected = project(settings, rules, projection, hidden)?;
    let gates = projection.gate.as_ref().map(|gate| gates(&gate.apply(hidden, settings.rms_epsilon)));
    Ok(Projected { gates, ..projected })
}

fn with_query_parts<S: Scalar>(
    settings: &Settings,
    rules: &Rules,
    projection: &Projection<S>,
    hidden: ArrayView2<S>,
    parts: usize,
) -> Result<Projected<S>> {
    let mut projected = project(&Settings { query_norm: Norm::None, ..settings.clone() }, rules, projection, hidden)?;
    let width = projected.queries.ncols() / parts;
    for mut row in projected.queries.rows_mut() {
        normalise(settings.query_norm, rules.z_score, row.exact_chunks_mut(width))?;
    }
    Ok(projected)
}

pub(super) fn mean<S: Scalar>(x: ArrayView1<S>) -> S {
    sum(x) / S::from_f64(x.len() as f64)
}

pub(super) fn mean_square<S: Scalar>(x: ArrayView1<S>) -> S {
    sum_over(x, x, |a, b| a * b) / S::from_f64(x.len() as f64)
}
