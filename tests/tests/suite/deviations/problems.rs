//! Small cases that among them use every choice, so that every deviation shows in one.

use fwpkm::inputs::Cotangents;
use fwpkm::problem::{Problem, Text, Tokens};
use fwpkm::run::Plan;
use fwpkm_reference::projection::{NormedLinear, Projection};
use fwpkm_reference::rules::{Kept, SubKeyLoss, ZScore};
use fwpkm_reference::settings::{Activation, Border, Norm, Score, WeightsOver};
use fwpkm_reference::{Rules, Settings, Tables};
use fwpkm_spec::case::Operation::{self, Flush, ResetQueue, ResetTables};
use ndarray::{Array, Array2, Dimension, ShapeBuilder};

/// A stream of numbers.
struct Numbers(u64);

impl Numbers {
    /// A stream of its own for each name.
    fn named(name: &str) -> Self {
        Self(name.bytes().fold(7, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte))))
    }

    /// The next, uniform in ±1 (SplitMix64).
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    fn array<D: Dimension, Sh: ShapeBuilder<Dim = D>>(&mut self, shape: Sh, scale: f64) -> Array<f64, D> {
        Array::from_shape_simple_fn(shape, || scale * self.next())
    }
}

/// What all cases have in common.
pub(crate) fn base() -> Settings {
    Settings {
        heads: 1,
        sub_keys: 6,
        key_dim: 4,
        value_dim: 3,
        top_k: 2,
        chunk: 4,
        lookahead: 1,
        score: Score::InverseDistance { epsilon: 0.02 },
        learning_rate: 0.7,
        ..Settings::paper()
    }
}

/// Tokens of each sequence.
const TOKENS: usize = 14;

/// A bare memory with gates and a mask.
fn memory(name: &str, settings: Settings, rules: Rules) -> Problem {
    let (sequences, tokens) = (2, TOKENS);
    let mut numbers = Numbers::named(name);
    let shape = (tokens, sequences);
    let text = Text::Memory(Tokens {
        queries: numbers.array((tokens, sequences, settings.heads * settings.key_dim), 1.0),
        values: numbers.array((tokens, sequences, settings.value_dim), 2.0),
        gates: Some(numbers.array(shape, 0.4).mapv(|x| x + 0.55)),
        mask: Some(Array2::from_shape_fn(shape, |(t, b)| (3 * t + b) % 5 != 0)),
    });
    let tables = tables(&mut numbers, &settings);
    let plan = Plan { rules, trace: true, ..Plan::one_call(settings) };
    Problem {
        name: name.into(),
        clauses: Vec::new(),
        plan,
        sequences,
        tokens,
        text,
        tables,
        projection: None,
        cotangents: None,
    }
}

fn tables(numbers: &mut Numbers, settings: &Settings) -> Tables<f64> {
    Tables {
        sub_keys: numbers.array((settings.heads, 2, settings.sub_keys, settings.half_dim()), 1.0),
        slot_values: numbers.array((settings.slots(), settings.value_dim), 1.0),
    }
}

fn in_calls(problem: Problem, calls: &[usize]) -> Problem {
    Problem { plan: Plan { calls: Some(calls.to_vec()), ..problem.plan.clone() }, ..problem }
}

fn operated(problem: Problem, calls: &[usize], after_calls: &[&[Operation]]) -> Problem {
    let problem = in_calls(problem, calls);
    let after_calls = after_calls.iter().map(|operations| operations.to_vec()).collect();
    Problem { plan: Plan { after_calls, ..problem.plan }, ..problem }
}

fn without_mask(mut problem: Problem) -> Problem {
    if let Text::Memory(tokens) = &mut problem.text {
        tokens.mask = None;
    }
    problem
}

/// Integer queries and sub-keys, so that scores tie.
fn tied(mut problem: Problem) -> Problem {
    if let Text::Memory(tokens) = &mut problem.text {
        tokens.queries.mapv_inplace(f64::round);
    }
    problem.tables.sub_keys.mapv_inplace(f64::round);
    problem
}

/// All tokens in one chunk, so that no choice depends on an earlier step.
fn one_step(problem: Problem) -> Problem {
    let settings = Settings { chunk: TOKENS, ..problem.plan.settings };
    Problem { plan: Plan { settings, ..problem.plan }, ..problem }
}

/// Queries that all hit the first sub-key of each half and see the others 27 lower: the usage of those is e^-27.
fn concentrated(mut problem: Problem) -> Problem {
    if let Text::Memory(tokens) = &mut problem.text {
        for ((.., d), q) in tokens.queries.indexed_iter_mut() {
            *q = if d % 2 == 0 { 27.0 } else { *q };
        }
    }
    for ((_, _, sub_key, d), key) in problem.tables.sub_keys.indexed_iter_mut() {
        *key = if d % 2 == 0 { f64::from(u8::from(sub_key == 0)) } else { 0.2 * *key };
    }
    problem.plan.settings.addressing_weight = 1e10;
    one_step(problem)
}

/// The same with what gradients are asked for.
fn differentiated(problem: Problem) -> Problem {
    let mut numbers = Numbers::named(&problem.name);
    let (reads, tables) = ((problem.sequences, problem.tokens, problem.plan.settings.value_dim), &problem.tables);
    let cotangents = Cotangents {
        reads: numbers.array(reads, 1.0),
        sub_keys: Some(numbers.array(tables.sub_keys.dim(), 1.0)),
        slot_values: Some(numbers.array(tables.slot_values.dim(), 1.0)),
    };
    Problem { cotangents: Some(cotangents), ..problem }
}

/// A layer with three gate outputs; `scale` is that of its hidden states. With small ones its values are smaller still, so
/// that the constants of all norms show.
fn layer(name: &str, settings: Settings, rules: Rules, scale: f64) -> Problem {
    let (sequences, tokens, hidden) = (2, TOKENS, settings.heads * settings.key_dim);
    let mut numbers = Numbers::named(name);
    let mut map = |inputs: usize, outputs: usize, scale: f64| NormedLinear {
        norm: numbers.array(inputs, 0.5),
        weight: numbers.array((outputs, inputs), scale),
        bias: numbers.array(outputs, 0.5 * scale),
    };
    let gated = settings.output_gate || settings.gate_weighted_loss;
    let projection = Some(Projection {
        query: map(hidden, hidden, 0.7),
        value: map(hidden, settings.value_dim, if scale < 1.0 { 1e-5 } else { 1.0 }),
        gate: gated.then(|| map(hidden, 3, 1.0)),
        output: map(settings.value_dim, hidden, 1.0),
    });
    let mut states = numbers.array((sequences * tokens, hidden), scale);
    states.mapv_inplace(|x| x + 0.3 * scale);
    let text = Text::Layer { hidden: states, mask: None };
    let tables = tables(&mut numbers, &settings);
    let plan = Plan { rules, trace: true, ..Plan::one_call(settings) };
    Problem {
        name: name.into(),
        clauses: Vec::new(),
        plan,
        sequences,
        tokens,
        text,
        tables,
        projection,
        cotangents: None,
    }
}

/// All of them.
pub(crate) fn all() -> Vec<Problem> {
    let paper = Rules::paper;
    let heads = || Settings { heads: 2, top_k: 3, ..base() };
    let carry = |lookahead| Settings { border: Border::Carry, lookahead, ..heads() };
    let to_sub_keys = || Settings { memory_gradient_to_sub_keys: true, temperature: 1.6, ..heads() };
    let gates = |output_gate, gate_weighted_loss| Settings { output_gate, gate_weighted_loss, ..base() };
    let dot = || Settings { score: Score::DotProduct, ..base() };
    let square = || Settings { value_dim: 4, ..base() };
    let decay = || Settings { weight_decay: 0.1, ..base() };
    let strong_clip = || Settings { gradient_clip: Some(0.2), addressing_weight: 5.0, ..decay() };
    let mean = || Rules { sub_key_loss: SubKeyLoss::Mean, ..Rules::paper() };
    let population = || Rules { z_score: ZScore::Population, ..Rules::paper() };
    vec![
        memory("base", base(), paper()),
        without_mask(memory("no mask", base(), paper())),
        memory("heads", heads(), paper()),
        memory("wide", Settings { top_k: 5, heads: 2, ..base() }, paper()),
        in_calls(memory("calls", heads(), paper()), &[3, 1, 6, 4]),
        in_calls(memory("carry", carry(1), paper()), &[3, 1, 6, 4]),
        in_calls(memory("carry far", carry(2), paper()), &[9, 5]),
        operated(memory("flush, queue", heads(), paper()), &[6, 5, 3], &[&[Flush], &[ResetQueue], &[]]),
        operated(memory("tables", carry(1), paper()), &[7, 7], &[&[ResetTables], &[]]),
        memory("release", heads(), Rules::release()),
        in_calls(memory("release carry", carry(2), Rules::release()), &[3, 1, 6, 4]),
        in_calls(without_mask(memory("release carry, no mask", carry(1), Rules::release())), &[3, 1, 6, 4]),
        memory("far", Settings { lookahead: 2, ..heads() }, paper()),
        memory("near", Settings { lookahead: 0, ..heads() }, paper()),
        memory("dot", dot(), paper()),
        memory("silu", Settings { activation: Activation::Silu, ..dot() }, paper()),
        memory("relu", Settings { activation: Activation::Relu, ..dot() }, paper()),
        memory("temperature", Settings { temperature: 1.6, ..heads() }, paper()),
        memory("each head", Settings { weights_over: WeightsOver::EachHead, ..heads() }, paper()),
        memory("static", Settings { writes: false, ..heads() }, paper()),
        memory("decay", decay(), paper()),
        memory("clip", Settings { gradient_clip: Some(0.2), ..decay() }, paper()),
        one_step(memory("decay, one step", decay(), paper())),
        one_step(memory("clip, one step", strong_clip(), paper())),
        memory("no pairs", Settings { chunk: 13, ..decay() }, paper()),
        memory("to sub-keys", to_sub_keys(), paper()),
        memory(
            "relu to sub-keys",
            Settings { score: Score::DotProduct, activation: Activation::Relu, ..to_sub_keys() },
            paper(),
        ),
        memory("mean to sub-keys", to_sub_keys(), mean()),
        memory("no addressing", Settings { addressing_weight: 0.0, ..decay() }, paper()),
        differentiated(memory(
            "gradients",
            Settings { gradient_clip: Some(0.2), weight_decay: 0.1, ..heads() },
            paper(),
        )),
        differentiated(memory("gradients, carry", carry(1), paper())),
        differentiated(memory("gradients, to sub-keys", to_sub_keys(), paper())),
        memory("twice addressing", Settings { addressing_weight: 2.0, ..heads() }, paper()),
        tied(memory("ties", heads(), paper())),
        tied(memory("ties kept", heads(), Rules { kept: Kept::Ties, ..paper() })),
        concentrated(memory("concentrated", dot(), paper())),
        concentrated(memory("concentrated, release", dot(), Rules::release())),
        layer("layer", base(), paper(), 1.0),
        layer("layer, square", square(), population(), 1.0),
        layer("layer, no gate", gates(false, false), paper(), 1.0),
        layer("layer, gate of the output", gates(true, false), paper(), 1.0),
        layer("layer, gate of the loss", gates(false, true), paper(), 1.0),
        layer("layer, l2", Settings { value_norm: Norm::L2, query_norm: Norm::L2, ..heads() }, paper(), 1.0),
        layer("layer, z-scored queries", Settings { query_norm: Norm::ZScore, ..heads() }, paper(), 1.0),
        layer("layer, raw", Settings { value_norm: Norm::None, ..base() }, paper(), 1.0),
        layer("layer, small", base(), paper(), 2e-3),
        layer("layer, small l2", Settings { value_norm: Norm::L2, ..base() }, paper(), 2e-3),
    ]
}
