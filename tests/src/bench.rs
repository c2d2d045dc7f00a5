//! How long the interpreter takes, stage by stage and over whole texts.

use std::time::Instant;

use criterion::Criterion;
use fwpkm_reference::address::address;
use fwpkm_reference::chunk::{Chunk, Counted, Reading, Stages, apply, read, step};
use fwpkm_reference::memorize::memorize;
use fwpkm_reference::output::output;
use fwpkm_reference::projection::{NormedLinear, Projection, project};
use fwpkm_reference::read::{read as read_slots, weigh};
use fwpkm_reference::score::half_scores;
use fwpkm_reference::select::select;
use fwpkm_reference::{Layer, Memory, Result, Rules, Scalar, Settings, Tables, Tokens};
use ndarray::{Array1, Array2, Array3};
use ndarray_rand::RandomExt;
use ndarray_rand::rand::SeedableRng;
use ndarray_rand::rand::rngs::StdRng;
use ndarray_rand::rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

/// Width of the hidden states, that of the paper's models.
const HIDDEN: usize = 768;

/// A whole text at the canonical size, but for what is varied.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Workload {
    /// T, tokens of each sequence.
    pub tokens: usize,
    /// n
    pub sub_keys: usize,
    /// B
    pub batch: usize,
}

/// What a workload took.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Measured {
    /// Of feeding alone; making the text is not counted.
    pub seconds: f64,
    /// Largest memory of the process, tables included; none where the system does not say.
    pub peak_bytes: Option<u64>,
}

impl Workload {
    /// The canonical settings with this n.
    pub fn settings(&self) -> Settings {
        Settings { sub_keys: self.sub_keys, ..Settings::paper() }
    }

    /// Feeds a text that is made chunk by chunk.
    ///
    /// # Errors   those of the interpreter, for sizes it does not allow
    pub fn measure<S: Scalar>(&self) -> Result<Measured> {
        let settings = self.settings();
        let mut random = Random::new();
        let tables = Tables::<S>::random(&settings, &mut random.0)?;
        let mut memory = Memory::new(settings.clone(), Rules::paper(), tables)?;
        let mut seconds = 0.0;
        let mut fed = 0;
        while fed < self.tokens {
            let piece = settings.chunk.min(self.tokens - fed);
            let queries = random.cube((self.batch, piece, settings.key_dim * settings.heads));
            let values = random.cube((self.batch, piece, settings.value_dim));
            let tokens = Tokens::<S> { queries: queries.view(), values: values.view(), gates: None, mask: None };
            let started = Instant::now();
            memory.feed(&tokens)?;
            seconds += started.elapsed().as_secs_f64();
            fed += piece;
        }
        Ok(Measured { seconds, peak_bytes: peak_bytes() })
    }
}

/// Largest resident memory of this process so far, where Linux says.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

struct Random(StdRng);

impl Random {
    fn new() -> Self {
        Self(StdRng::seed_from_u64(1))
    }

    fn cube<S: Scalar>(&mut self, shape: (usize, usize, usize)) -> Array3<S> {
        Array3::random_using(shape, StandardNormal.map(|x: f64| S::from_f64(x)), &mut self.0)
    }

    fn matrix<S: Scalar>(&mut self, shape: (usize, usize)) -> Array2<S> {
        Array2::random_using(shape, StandardNormal.map(|x: f64| S::from_f64(x)), &mut self.0)
    }

    fn normed_linear<S: Scalar>(&mut self, inputs: usize, outputs: usize) -> NormedLinear<S> {
        let scale = S::from_f64(1.0 / (inputs as f64).sqrt());
        NormedLinear {
            norm: Array1::from_elem(inputs, S::ZERO),
            weight: self.matrix::<S>((outputs, inputs)).mapv(|x| x * scale),
            bias: Array1::from_elem(outputs, S::ZERO),
        }
    }
}

/// The benches of [`stages`], in the order they run.
pub const STAGES: [&str; 11] =
    ["projection", "score", "select", "weigh", "read", "memorize", "address", "apply", "output", "chunk", "layer"];

/// Times every stage, a whole chunk of a bare memory and of a layer, at the canonical size, one sequence.
///
/// # Errors   none at this size; those of the interpreter in general
pub fn stages<S: Scalar>(criterion: &mut Criterion) -> Result<()> {
    let settings = Settings::paper();
    let (rules, functions) = (Rules::paper(), Stages::<S>::specification());
    let mut random = Random::new();
    let mut tables = Tables::<S>::random(&settings, &mut random.0)?;
    let projection = Projection {
        query: random.normed_linear(HIDDEN, settings.key_dim),
        value: random.normed_linear(HIDDEN, settings.value_dim),
        gate: Some(random.normed_linear(HIDDEN, 8)),
        output: random.normed_linear(settings.value_dim, HIDDEN),
    };
    let hidden = random.matrix::<S>((settings.chunk, HIDDEN));
    let chunk = Chunk {
        queries: random.cube((settings.chunk, 1, settings.key_dim)),
        values: random.cube((settings.chunk, 1, settings.value_dim)),
        gates: None,
        mask: None,
        lookahead: settings.lookahead,
    };
    let halves = chunk.query_halves(&settings);
    let reading = read(&functions, &settings, &tables, chunk.queries.view(), 0)?;
    let Reading { scores, selected, weights, reads } = &reading;
    let counted = Counted { slots: selected.slots.view(), samples: settings.chunk };
    let projected = project(&settings, &rules, &projection, hidden.view())?;

    criterion.bench_function("projection", |b| b.iter(|| project(&settings, &rules, &projection, hidden.view())));
    criterion.bench_function("score", |b| b.iter(|| half_scores(&settings, tables.sub_keys.view(), halves.view())));
    criterion.bench_function("select", |b| b.iter(|| select(&settings, scores.view())));
    criterion.bench_function("weigh", |b| b.iter(|| weigh(&settings, selected.pair_scores.view())));
    let slots = selected.slots.view();
    criterion.bench_function("read", |b| b.iter(|| read_slots(tables.slot_values.view(), slots, weights.view())));
    criterion
        .bench_function("memorize", |b| b.iter(|| memorize(&settings, &rules, &tables, &chunk, &reading, &counted)));
    criterion.bench_function("address", |b| b.iter(|| address(&settings, &rules, &tables, &chunk, &reading, None)));
    let change = step(&functions, &settings, &rules, &tables, &chunk, &reading, &counted, 0)?;
    criterion.bench_function("apply", |b| b.iter(|| apply(&functions, &settings, &mut tables, &change)));
    let gates = projected.gates.as_ref();
    let values = projected.values.view();
    let maps = &projection.output;
    criterion
        .bench_function("output", |b| b.iter(|| output(&settings, maps, reads.view(), values, gates, hidden.view())));

    let mut memory = Memory::new(settings.clone(), rules, tables)?;
    let (queries, values) =
        (random.cube((1, settings.chunk, settings.key_dim)), random.cube((1, settings.chunk, settings.value_dim)));
    let tokens = Tokens::<S> { queries: queries.view(), values: values.view(), gates: None, mask: None };
    criterion.bench_function("chunk", |b| b.iter(|| memory.feed(&tokens)));
    let mut layer = Layer::new(projection, memory)?;
    let hidden = hidden.insert_axis(ndarray::Axis(0));
    criterion.bench_function("layer", |b| b.iter(|| layer.feed(hidden.view(), None)));
    Ok(())
}
