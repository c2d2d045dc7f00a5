//! Other outer gradients: something on the way back is taken for a constant, or for what it is not.      GRD-1 … GRD-7
//!
//! What is computed forward is the specification's.

use fwpkm_reference::address::{Addressed, address, half_score_gradient};
use fwpkm_reference::chunk::{Chunk, Counted, Reading, Stages};
use fwpkm_reference::memorize::{Memorized, memorize};
use fwpkm_reference::read::{read, weigh};
use fwpkm_reference::score::half_scores;
use fwpkm_reference::tables::descend;
use fwpkm_reference::{Rules, Scalar, Settings, Tables};
use ndarray::{Array, Array3, Array4, ArrayBase, ArrayView3, Data, Dimension, Zip};

use super::address::with_slopes;
use super::{Change, Deviation, PORTS, SLIP, faults};
use crate::walk::Order;

pub(super) const OF_ORDER: &[Deviation] = &[Deviation {
    name: "grd-1-tables-detached-after-each-step",
    clause: "GRD-1",
    instead: "no gradient passes from one chunk to the one before it, where GRD-1 goes through every step",
    source: PORTS,
    change: Change::Order(Order::Detached),
}];

faults! { Train {
    Steps "grd-1-steps-are-constant" "GRD-1"
        "both steps are taken for constants where GRD-1 differentiates their gradients too" SLIP
        { value_step: |s, x, g| descend(s, x, g.constant()), sub_key_step: |s, x, g| descend(s, x, g.constant()) }
    ClipPasses "grd-2-clipped-elements-pass" "GRD-2"
        "a gradient that was clipped passes as if it were not, where GRD-2 stops it" SLIP
        { value_step: |s, x, g| as_if(descend(s, x, g), descend(&unclipped(s), x, g)),
          sub_key_step: |s, x, g| as_if(descend(s, x, g), descend(&unclipped(s), x, g)) }
    DecayConstant "grd-2-decay-is-constant" "GRD-2"
        "a table passes whole through its decay where GRD-2 keeps 1 - η·λ of it" SLIP
        { value_step: |s, x, g| as_if(descend(s, x, g), descend(&without_decay(s), x, g)),
          sub_key_step: |s, x, g| as_if(descend(s, x, g), descend(&without_decay(s), x, g)) }
    ReadWeights "grd-3-weights-of-reads-are-constant" "GRD-3"
        "reads pass nothing to their weights where GRD-3 does" SLIP
        { read: |values, slots, weights| read(values, slots, constant(&weights).view()) }
    ReadValues "grd-3-slot-values-of-reads-are-constant" "GRD-3"
        "reads pass nothing to the slot values where GRD-3 does" SLIP
        { read: |values, slots, weights| read(constant(&values).view(), slots, weights) }
    Denominator "grd-3-sum-of-weights-is-constant" "GRD-3"
        "the weights' derivative leaves out their sum where GRD-3 has MEM-6's" SLIP
        { weigh: |s, x| with_constant_sum(s, x) }
    ScoreSubKeys "grd-4-sub-keys-of-scores-are-constant" "GRD-4"
        "scores pass nothing to the sub-keys where GRD-4 does" SLIP
        { score: |s, keys, queries| half_scores(s, constant(&keys).view(), queries) }
    ScoreQueries "grd-4-queries-of-scores-are-constant" "GRD-4"
        "scores pass nothing to the queries where GRD-4 does" SLIP
        { score: |s, keys, queries| half_scores(s, keys, constant(&queries).view()) }
    ValueStep "grd-5-value-step-is-constant" "GRD-5"
        "the value step is taken for a constant where GRD-5 goes through it" SLIP
        { value_step: |s, x, g| descend(s, x, g.constant()) }
    Targets "grd-5-targets-are-constant" "GRD-5"
        "the value step passes nothing to its targets where GRD-5 does" SLIP
        { memorize: |s, r, t, c, g, n| memorize(s, r, t, &with_constant_targets(c), g, n) }
    Gates "grd-5-gates-are-constant" "GRD-5"
        "the value step passes nothing to the gates where GRD-5 does" SLIP
        { memorize: |s, r, t, c, g, n| memorize(s, r, t, &with_constant_gates(c), g, n) }
    Reads "grd-5-reads-are-constant" "GRD-5"
        "the value step passes nothing to the reads of its pairs where GRD-5 does" SLIP
        { memorize: |s, r, t, c, g, n| memorize(s, r, t, c, &Reading { reads: constant(&g.reads), ..g.clone() }, n) }
    Weights "grd-5-weights-are-constant" "GRD-5"
        "the value step passes nothing to the weights it multiplies with, where GRD-5 does" SLIP
        { memorize: |s, r, t, c, g, n| with_constant_weights(s, r, t, c, g, n) }
    SubKeyStep "grd-6-sub-key-step-is-constant" "GRD-6"
        "the sub-key step is taken for a constant where GRD-6 goes through it" SLIP
        { sub_key_step: |s, x, g| descend(s, x, g.constant()) }
    Marginal "grd-6-marginal-is-constant" "GRD-6"
        "p̄ is taken for a constant in the sub-key step where GRD-6 goes through it" SLIP
        { address: |s, r, t, c, g, m| with_slopes(s, r, t, c, g, m, |s, r, usage, marginal| {
            half_score_gradient(s, r, usage.clone(), constant(marginal).view())
        }) }
    Slopes "grd-6-slopes-are-constant" "GRD-6"
        "the gradient of the half scores is taken for a constant in the sub-key step where GRD-6 goes through it" SLIP
        { address: |s, r, t, c, g, m| with_slopes(s, r, t, c, g, m, |s, r, usage, marginal| {
            let mut slopes = half_score_gradient(s, r, usage.clone(), marginal.view());
            slopes.lists.iter_mut().flatten().for_each(|(_, slope)| *slope = slope.constant());
            slopes
        }) }
    Queries "grd-6-queries-of-the-step-are-constant" "GRD-6"
        "the sub-key step passes nothing to the queries by itself where GRD-6 does" SLIP
        { address: |s, r, t, c, g, m| address(s, r, t, &with_constant_queries(c), g, m) }
    SubKeys "grd-6-sub-keys-of-the-step-are-constant" "GRD-6"
        "the sub-key step passes nothing to the sub-keys by itself where GRD-6 does" SLIP
        { address: |s, r, t, c, g, m| address(s, r, &with_constant_sub_keys(t), c, g, m) }
    MemoryGradient "grd-7-gradient-is-constant" "GRD-7"
        "MEM-6's gradient is taken for a constant where GRD-7 goes through it" SLIP
        { address: |s, r, t, c, g, m| with_constant_memory_gradient(s, r, t, c, g, m) }
    MemoryValues "grd-7-slot-values-are-constant" "GRD-7"
        "MEM-6's gradient passes nothing to the slot values it multiplies with, where GRD-7 does" SLIP
        { memorize: |s, r, t, c, g, n| memorize(s, r, &with_constant_slot_values(t), c, g, n) }
} }

fn constant<S: Scalar, R: Data<Elem = S>, D: Dimension>(numbers: &ArrayBase<R, D>) -> Array<S, D> {
    numbers.mapv(S::constant)
}

/// A number that changes as another does
fn as_if<S: Scalar>(x: S, other: S) -> S {
    // Where both are the same the difference would only add to a bound.
    if x.to_f64() == other.to_f64() { other } else { x.constant() + (other - other.constant()) }
}

fn unclipped(settings: &Settings) -> Settings {
    Settings { gradient_clip: None, ..settings.clone() }
}

fn without_decay(settings: &Settings) -> Settings {
    Settings { weight_decay: 0.0, ..settings.clone() }
}

/// w·(x - constant x + 1): the weights, each with the slope of its own exponential alone
fn with_constant_sum<S: Scalar>(settings: &Settings, pair_scores: ArrayView3<S>) -> Array3<S> {
    use fwpkm_reference::settings::Activation;
    let weights = weigh(settings, pair_scores);
    if settings.activation != Activation::Softmax {
        return weights;
    }
    let temperature = S::from_f64(settings.temperature);
    Zip::from(&weights).and(&pair_scores).map_collect(|&weight, &score| {
        let x = score / temperature;
        weight.constant() * (S::ONE + (x - x.constant()))
    })
}

fn with_constant_targets<S: Scalar>(chunk: &Chunk<S>) -> Chunk<S> {
    Chunk { values: constant(&chunk.values), ..chunk.clone() }
}

fn with_constant_gates<S: Scalar>(chunk: &Chunk<S>) -> Chunk<S> {
    Chunk { gates: chunk.gates.as_ref().map(constant), ..chunk.clone() }
}

fn with_constant_queries<S: Scalar>(chunk: &Chunk<S>) -> Chunk<S> {
    Chunk { queries: constant(&chunk.queries), ..chunk.clone() }
}

fn with_constant_sub_keys<S: Scalar>(tables: &Tables<S>) -> Tables<S> {
    Tables { sub_keys: constant(&tables.sub_keys), ..tables.clone() }
}

fn with_constant_slot_values<S: Scalar>(tables: &Tables<S>) -> Tables<S> {
    Tables { slot_values: constant(&tables.slot_values), ..tables.clone() }
}

/// The value gradient from constant weights; MEM-6's gradient as it is
fn with_constant_weights<S: Scalar>(
    settings: &Settings,
    rules: &Rules,
    tables: &Tables<S>,
    chunk: &Chunk<S>,
    reading: &Reading<S>,
    counted: &Counted,
) -> Memorized<S> {
    let weights = constant(&reading.weights);
    let of_constants = memorize(settings, rules, tables, chunk, &Reading { weights, ..reading.clone() }, counted);
    let half_score_gradient = memorize(settings, rules, tables, chunk, reading, counted).half_score_gradient;
    Memorized { half_score_gradient, ..of_constants }
}

fn with_constant_memory_gradient<S: Scalar>(
    settings: &Settings,
    rules: &Rules,
    tables: &Tables<S>,
    chunk: &Chunk<S>,
    reading: &Reading<S>,
    gradient: Option<&Array4<S>>,
) -> Addressed<S> {
    address(settings, rules, tables, chunk, reading, gradient.map(constant).as_ref())
}
