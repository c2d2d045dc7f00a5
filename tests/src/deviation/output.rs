//! Other outputs.                                                                     OUT-1 … OUT-3

use fwpkm_reference::chunk::Stages;
use fwpkm_reference::output::{Output, add_residual, output, project};
use fwpkm_reference::projection::{NormedLinear, linear};
use fwpkm_reference::{Scalar, Settings};
use ndarray::{Array1, Array2, ArrayView2};

use super::{Change, Deviation, SLIP, faults};

faults! { Output {
    Swapped "out-1-gate-swapped" "OUT-1"
        "the gate weighs the value, and 1 - g the read, where OUT-1 has it the other way round" SLIP
        { output: |s, p, r, v, g, h| with_mix(s, p, r, v, g, h, |g, read, value| (S::ONE - g) * read + g * value) }
    ReadGated "out-1-value-not-gated" "OUT-1"
        "g·read + value where OUT-1 has g·read + (1 - g)·value" SLIP
        { output: |s, p, r, v, g, h| with_mix(s, p, r, v, g, h, |g, read, value| g * read + value) }
    NoValue "out-1-no-value" "OUT-1"
        "g·read alone where OUT-1 adds (1 - g)·value" SLIP
        { output: |s, p, r, v, g, h| with_mix(s, p, r, v, g, h, |g, read, _| g * read) }
    NoNorm "out-2-no-norm" "OUT-2"
        "the output projection takes the mixture itself where OUT-2 normalises it first" SLIP
        { output: without_norm }
    NoResidual "out-3-no-residual" "OUT-3"
        "the layer's output replaces the hidden state where OUT-3 adds it" SLIP
        { output: |s, p, r, v, g, h| { let out = output(s, p, r, v, g, h); Output { hidden: out.layer.clone(), ..out } } }
    NormedResidual "out-3-normalised-residual" "OUT-3"
        "the layer's output is added to the hidden state divided by its root mean square, where OUT-3 takes it raw" SLIP
        { output: normed_residual }
} }

fn with_mix<S: Scalar>(
    settings: &Settings,
    projection: &NormedLinear<S>,
    reads: ArrayView2<S>,
    values: ArrayView2<S>,
    gates: Option<&Array1<S>>,
    hidden: ArrayView2<S>,
    mix: fn(S, S, S) -> S,
) -> Output<S> {
    let Some(gates) = gates else { return output(settings, projection, reads, values, gates, hidden) };
    let mixed = Array2::from_shape_fn(reads.dim(), |(row, d)| mix(gates[row], reads[[row, d]], values[[row, d]]));
    let layer = project(projection, mixed.view(), settings.rms_epsilon);
    let hidden = add_residual(hidden, layer.view());
    Output { mixed, layer, hidden }
}

fn without_norm<S: Scalar>(
    settings: &Settings,
    projection: &NormedLinear<S>,
    reads: ArrayView2<S>,
    values: ArrayView2<S>,
    gates: Option<&Array1<S>>,
    hidden: ArrayView2<S>,
) -> Output<S> {
    let mut out = output(settings, projection, reads, values, gates, hidden);
    for (layer, mixed) in out.layer.rows_mut().into_iter().zip(out.mixed.rows()) {
        linear(mixed, projection.weight.view(), projection.bias.view(), layer);
    }
    Output { hidden: add_residual(hidden, out.layer.view()), ..out }
}

fn normed_residual<S: Scalar>(
    settings: &Settings,
    projection: &NormedLinear<S>,
    reads: ArrayView2<S>,
    values: ArrayView2<S>,
    gates: Option<&Array1<S>>,
    hidden: ArrayView2<S>,
) -> Output<S> {
    let out = output(settings, projection, reads, values, gates, hidden);
    let mut normed = hidden.to_owned();
    for mut row in normed.rows_mut() {
        let none = row.mapv(|_| S::ZERO);
        let scaled = fwpkm_reference::projection::rms_norm(row.view(), none.view(), settings.rms_epsilon);
        row.assign(&scaled);
    }
    Output { hidden: add_residual(normed.view(), out.layer.view()), ..out }
}
