//! Other pairs and losses.                                                            MEM-1, MEM-2

use fwpkm_reference::chunk::{Chunk, Counted, Reading, Stages};
use fwpkm_reference::memorize::{Memorized, memorize, pair_losses, pair_weights, residuals};
use fwpkm_reference::{Rules, Scalar, Settings, Tables};
use ndarray::{Array2, Axis, s};

use super::memorize::rescaled;
use super::{Change, Deviation, PORTS, SLIP, faults};

faults! { Pairs {
    Wrapped "mem-1-targets-wrap-around" "MEM-1"
        "the last queries of a chunk have its first values as targets where MEM-1 gives them none" PORTS
        { memorize: |s, r, t, c, g, n| memorize(s, r, t, &wrapped(c), g, n) }
    Before "mem-1-target-before-the-query" "MEM-1"
        "the target is v of t - L where MEM-1 has v of t + L" SLIP
        { memorize: |s, r, t, c, g, n| memorize(s, r, t, &before(c), g, n) }
    GateOfTarget "mem-1-gate-of-the-target" "MEM-1"
        "a pair has the gate of its target's token where MEM-1 has the query's" SLIP
        { memorize: |s, r, t, c, g, n| memorize(s, r, t, &gate_of_target(c), g, n) }
    MaskOfTarget "mem-1-mask-of-the-target" "MEM-1"
        "a pair has the mask of its target's token where MEM-1 has the query's" SLIP
        { memorize: |s, r, t, c, g, n| memorize(s, r, t, &masked(c, |_, target| target), g, n) }
    MaskOfBoth "mem-1-mask-of-both" "MEM-1"
        "a pair counts if neither token is masked where MEM-1 looks at the query's mask alone" SLIP
        { memorize: |s, r, t, c, g, n| memorize(s, r, t, &masked(c, |query, target| query && target), g, n) }
    NoMask "mem-1-mask-ignored" "MEM-1"
        "masked pairs are written where MEM-1 leaves them out" SLIP
        { memorize: |s, r, t, c, g, n| memorize(s, r, t, &masked(c, |_, _| true), g, n) }
    MaskInverted "mem-1-mask-inverted" "MEM-1"
        "1 in the mask leaves a pair out where in MEM-1 0 does" SLIP
        { memorize: |s, r, t, c, g, n| memorize(s, r, t, &masked(c, |query, _| !query), g, n) }
    NoGate "mem-2-not-weighted-by-gate" "MEM-2"
        "pairs weigh 1 where MEM-2 weighs them by the gate" PORTS
        { memorize: |s, r, t, c, g, n| memorize(s, r, t, &gated(c, |_| S::ONE), g, n) }
    GradientUngated "mem-2-gradient-without-gate" "MEM-2"
        "the gate weighs the reported loss but not the gradient where MEM-2 weighs both" SLIP
        { memorize: gradient_ungated }
    GateSquared "mem-2-gate-squared" "MEM-2"
        "pairs weigh g² where MEM-2 weighs them by g" SLIP
        { memorize: |s, r, t, c, g, n| memorize(s, r, t, &gated(c, |gate| gate * gate), g, n) }
    OneMinusGate "mem-2-one-minus-gate" "MEM-2"
        "pairs weigh 1 - g where MEM-2 weighs them by g" SLIP
        { memorize: |s, r, t, c, g, n| memorize(s, r, t, &gated(c, |gate| S::ONE - gate), g, n) }
    NoHalf "mem-2-no-half" "MEM-2"
        "the gradient is that of the squared error where MEM-2 has half of it" SLIP
        { memorize: |s, r, t, c, g, n| rescaled(memorize(s, r, t, c, g, n), |_, _| 2.0) }
    MeanOverFeatures "mem-2-mean-over-features" "MEM-2"
        "the objective is a mean over features where MEM-2 has a sum" SLIP
        { memorize: |s, r, t, c, g, n| rescaled(memorize(s, r, t, c, g, n), |_, _| 1.0 / s.value_dim as f64) }
    MeanOverPairs "mem-2-mean-over-pairs" "MEM-2"
        "the objective is a mean over pairs where MEM-2 has a sum" SLIP
        { memorize: |s, r, t, c, g, n| rescaled(memorize(s, r, t, c, g, n), |_, _| 1.0 / positions(c)) }
    MeanOverAll "mem-2-mean-over-pairs-and-features" "MEM-2"
        "the objective is half the mean over pairs and features where MEM-2 has a sum" SLIP
        { memorize: |s, r, t, c, g, n| rescaled(memorize(s, r, t, c, g, n), |_, _| 1.0 / numbers(s, c)) }
    Absolute "mem-2-absolute-error" "MEM-2"
        "the objective is the absolute error where MEM-2 has half its square" SLIP
        { memorize: absolute }
    LossHalved "mem-2-reported-loss-halved" "MEM-2"
        "half of the squared error is reported where MEM-2 reports it whole" SLIP
        { memorize: |s, r, t, c, g, n| reported(memorize(s, r, t, c, g, n), 0.5) }
    LossSummed "mem-2-reported-loss-summed" "MEM-2"
        "the reported loss is a sum over features where MEM-2 reports the mean" SLIP
        { memorize: |s, r, t, c, g, n| reported(memorize(s, r, t, c, g, n), s.value_dim as f64) }
    LossUngated "mem-2-reported-loss-without-gate" "MEM-2"
        "the reported loss leaves the gate out where MEM-2 includes it" SLIP
        { memorize: loss_ungated }
} }

/// Pair positions of all sequences, at least 1
pub(super) fn positions<S: Scalar>(chunk: &Chunk<S>) -> f64 {
    (chunk.pairs() * chunk.sequences()).max(1) as f64
}

/// Numbers in the residuals of all pairs, at least 1
fn numbers<S: Scalar>(settings: &Settings, chunk: &Chunk<S>) -> f64 {
    positions(chunk) * settings.value_dim as f64
}

/// The values of the chunk followed by its first values, as far as targets are missing
pub(super) fn wrapped<S: Scalar>(chunk: &Chunk<S>) -> Chunk<S> {
    let (tokens, there) = (chunk.queries.dim().0, chunk.values.dim().0);
    let needed = tokens + chunk.lookahead;
    let mut wrapped = chunk.clone();
    if tokens > 0 && there < needed {
        let rest: Vec<usize> = (there..needed).map(|t| t % tokens).collect();
        let rest = chunk.values.select(Axis(0), &rest);
        wrapped.values = ndarray::concatenate(Axis(0), &[chunk.values.view(), rest.view()]).unwrap_or(wrapped.values);
    }
    wrapped
}

/// Targets L tokens before their queries; the first L queries have none
fn before<S: Scalar>(chunk: &Chunk<S>) -> Chunk<S> {
    let tokens = chunk.queries.dim().0;
    let sources: Vec<usize> = (0..tokens).map(|t| t.saturating_sub(chunk.lookahead)).collect();
    let given = |t: usize, b: usize| chunk.mask.as_ref().is_none_or(|mask| mask[[t, b]]);
    let mask = Array2::from_shape_fn((tokens, chunk.sequences()), |(t, b)| t >= chunk.lookahead && given(t, b));
    Chunk { values: chunk.values.select(Axis(0), &sources), mask: Some(mask), lookahead: 0, ..chunk.clone() }
}

/// The token of a query's target, or of the query where that is not in the chunk
fn target_of<S: Scalar>(chunk: &Chunk<S>, token: usize) -> usize {
    if token + chunk.lookahead < chunk.queries.dim().0 { token + chunk.lookahead } else { token }
}

fn gate_of_target<S: Scalar>(chunk: &Chunk<S>) -> Chunk<S> {
    let gates = chunk.gates.as_ref();
    let gates = gates.map(|gates| Array2::from_shape_fn(gates.dim(), |(t, b)| gates[[target_of(chunk, t), b]]));
    Chunk { gates, ..chunk.clone() }
}

/// What `keep` makes of the masks of query and target
fn masked<S: Scalar>(chunk: &Chunk<S>, keep: fn(bool, bool) -> bool) -> Chunk<S> {
    let mask = chunk
        .mask
        .as_ref()
        .map(|mask| Array2::from_shape_fn(mask.dim(), |(t, b)| keep(mask[[t, b]], mask[[target_of(chunk, t), b]])));
    Chunk { mask, ..chunk.clone() }
}

fn gated<S: Scalar>(chunk: &Chunk<S>, weight: fn(S) -> S) -> Chunk<S> {
    Chunk { gates: chunk.gates.as_ref().map(|gates| gates.mapv(weight)), ..chunk.clone() }
}

fn reported<S: Scalar>(memorized: Memorized<S>, factor: f64) -> Memorized<S> {
    let pair_losses = memorized.pair_losses.mapv(|loss| S::from_f64(factor) * loss);
    Memorized { pair_losses, ..memorized }
}

fn loss_ungated<S: Scalar>(
    settings: &Settings,
    rules: &Rules,
    tables: &Tables<S>,
    chunk: &Chunk<S>,
    reading: &Reading<S>,
    counted: &Counted,
) -> Memorized<S> {
    let weights = pair_weights(&gated(chunk, |_| S::ONE));
    let pair_losses = pair_losses(weights.view(), residuals(chunk, reading.reads.view()).view());
    Memorized { pair_losses, ..memorize(settings, rules, tables, chunk, reading, counted) }
}

fn gradient_ungated<S: Scalar>(
    settings: &Settings,
    rules: &Rules,
    tables: &Tables<S>,
    chunk: &Chunk<S>,
    reading: &Reading<S>,
    counted: &Counted,
) -> Memorized<S> {
    let gated_losses = memorize(settings, rules, tables, chunk, reading, counted).pair_losses;
    let ungated = memorize(settings, rules, tables, &gated(chunk, |_| S::ONE), reading, counted);
    Memorized { pair_losses: gated_losses, ..ungated }
}

/// The residual's sign in its place
fn absolute<S: Scalar>(
    settings: &Settings,
    rules: &Rules,
    tables: &Tables<S>,
    chunk: &Chunk<S>,
    reading: &Reading<S>,
    counted: &Counted,
) -> Memorized<S> {
    let mut reading = reading.clone();
    let signs = residuals(chunk, reading.reads.view()).mapv(|x| {
        if x > S::ZERO {
            S::ONE
        } else if x < S::ZERO {
            -S::ONE
        } else {
            S::ZERO
        }
    });
    let targets = residuals(chunk, reading.reads.mapv(|_| S::ZERO).view()).mapv(|x| -x);
    let count = signs.nrows();
    reading
        .reads
        .slice_mut(s![..count, ..])
        .assign(&ndarray::Zip::from(&targets).and(&signs).map_collect(|&t, &x| t + x));
    memorize(settings, rules, tables, chunk, &reading, counted)
}
