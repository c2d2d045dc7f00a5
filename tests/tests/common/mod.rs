//! What the clause tests share: small settings, random tables and texts from given seeds, bits.
#![allow(dead_code, reason = "every test file compiles this module and uses a part of it")]

pub(crate) mod cases;
pub(crate) mod objectives;
pub(crate) mod outcome;

use fwpkm_reference::chunk::{Chunk, Reading, Step};
use fwpkm_reference::projection::{NormedLinear, Projection};
use fwpkm_reference::settings::Activation;
use fwpkm_reference::{Error, Memory, Rules, Scalar, Settings, Stages, StepReport, Tables, Tokens, Trace, TracedStep};
use ndarray::{Array, Array1, Array2, Array3, Array4, ArrayBase, ArrayRef, Axis, Data, Dimension, s};
use ndarray_rand::RandomExt;
use ndarray_rand::rand::{SeedableRng, rngs::StdRng};
use ndarray_rand::rand_distr::{Bernoulli, StandardNormal, Uniform};

/// For numbers worked by hand: a few f64 roundings of numbers near 1.
pub(crate) const ROUNDING: f64 = 1e-14;

/// H = 1, n = 3, `d_k` = 4, `d_v` = 2, k = 2, C = 4, L = 1, the paper otherwise.
pub(crate) fn small() -> Settings {
    Settings { heads: 1, sub_keys: 3, key_dim: 4, value_dim: 2, top_k: 2, chunk: 4, lookahead: 1, ..Settings::paper() }
}

/// n sub-keys at 0, 1, … in both halves, `d_k` = 2, `d_v` = 1, k = 1: the query (i, j) hits slot i·n + j alone, with weight
/// exactly 1, and no sub-key ever moves, so that streams can be followed by hand.
pub(crate) fn grid(sub_keys: usize, chunk: usize, lookahead: usize) -> Settings {
    Settings { sub_keys, key_dim: 2, value_dim: 1, top_k: 1, chunk, lookahead, ..small() }
}

/// The tables of [`grid`], slots at 0.
pub(crate) fn grid_tables(settings: &Settings) -> Tables<f64> {
    let shape = (settings.heads, 2, settings.sub_keys, 1);
    Tables {
        sub_keys: Array4::from_shape_fn(shape, |(_, _, i, _)| i as f64),
        slot_values: Array2::zeros((settings.slots(), 1)),
    }
}

/// A text for [`grid`]: of each sequence, the slot that each token hits and its value.
pub(crate) fn hits(settings: &Settings, sequences: &[&[(usize, f64)]]) -> Text<f64> {
    let (n, tokens) = (settings.sub_keys, sequences[0].len());
    let query = |(b, t, x): (usize, usize, usize)| {
        let slot = sequences[b][t].0;
        (if x % 2 == 0 { slot / n } else { slot % n }) as f64
    };
    Text {
        queries: Array3::from_shape_fn((sequences.len(), tokens, 2 * settings.heads), query),
        values: Array3::from_shape_fn((sequences.len(), tokens, 1), |(b, t, _)| sequences[b][t].1),
        gates: None,
        mask: None,
    }
}

/// A memory with the tables of [`grid`].
pub(crate) fn grid_memory(settings: &Settings, rules: Rules) -> Memory<f64> {
    Memory::new(settings.clone(), rules, grid_tables(settings)).unwrap()
}

/// Slots 0, 1, … of a memory with `d_v` = 1.
pub(crate) fn slots(memory: &Memory<f64>) -> Vec<f64> {
    memory.tables().slot_values.iter().copied().collect()
}

/// Reported pair losses of several steps, by step, then pair, then sequence.
pub(crate) fn losses<S: Scalar>(steps: &[StepReport<S>]) -> Vec<f64> {
    steps.iter().flat_map(|step| step.pair_losses.iter().map(|loss| loss.to_f64())).collect()
}

pub(crate) fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

/// Initial tables as BAT-3 says.
pub(crate) fn tables(settings: &Settings, seed: u64) -> Tables<f64> {
    Tables::random(settings, &mut rng(seed)).unwrap()
}

/// The same numbers in f32.
pub(crate) fn narrowed(tables: &Tables<f64>) -> Tables<f32> {
    Tables { sub_keys: cast(&tables.sub_keys), slot_values: cast(&tables.slot_values) }
}

pub(crate) fn cast<S: Scalar, D: Dimension>(numbers: &Array<f64, D>) -> Array<S, D> {
    numbers.mapv(S::from_f64)
}

/// The bits of every number, in order; -0 and 0 differ.
pub(crate) fn bits<S: Scalar, D: Dimension>(numbers: &ArrayRef<S, D>) -> Vec<u64> {
    numbers.iter().map(|x| x.to_f64().to_bits()).collect()
}

pub(crate) fn table_bits<S: Scalar>(tables: &Tables<S>) -> [Vec<u64>; 2] {
    [bits(&tables.sub_keys), bits(&tables.slot_values)]
}

/// Largest magnitude, at least 1: the scale a rounding error is measured by.
pub(crate) fn scale<S: Data<Elem = f64>, D: Dimension>(numbers: &ArrayBase<S, D>) -> f64 {
    numbers.iter().fold(1.0, |largest, x| x.abs().max(largest))
}

/// The field that a memory with these settings names when it refuses them; empty if it takes them.
pub(crate) fn refused(settings: Settings) -> &'static str {
    // Shapes of any size fit the unchanged settings, so that only the changed field is at fault.
    let tables = tables(&small(), 0);
    match Memory::new(settings, Rules::paper(), tables) {
        Err(Error::Setting { name, .. }) => name,
        Err(other) => panic!("{other} is not about a setting"),
        Ok(_) => "",
    }
}

/// What one call is given, owned.
#[derive(Clone, Debug)]
pub(crate) struct Text<S> {
    /// [B, T, H·`d_k`]
    pub(crate) queries: Array3<S>,
    /// [B, T, `d_v`]
    pub(crate) values: Array3<S>,
    /// [B, T]
    pub(crate) gates: Option<Array2<S>>,
    /// [B, T]
    pub(crate) mask: Option<Array2<bool>>,
}

/// Queries uniform in ±1, values normal, no gates, no mask.
pub(crate) fn text(settings: &Settings, sequences: usize, tokens: usize, seed: u64) -> Text<f64> {
    let (width, rng) = (settings.heads * settings.key_dim, &mut rng(seed));
    Text {
        queries: Array3::random_using((sequences, tokens, width), Uniform::new(-1.0, 1.0).unwrap(), rng),
        values: Array3::random_using((sequences, tokens, settings.value_dim), StandardNormal, rng),
        gates: None,
        mask: None,
    }
}

impl<S: Scalar> Text<S> {
    pub(crate) fn shape(&self) -> (usize, usize) {
        (self.queries.dim().0, self.queries.dim().1)
    }

    /// With random gates in (0, 1).
    pub(crate) fn gated(mut self, seed: u64) -> Self {
        let gates: Array2<f64> = Array2::random_using(self.shape(), Uniform::new(0.0, 1.0).unwrap(), &mut rng(seed));
        self.gates = Some(cast(&gates));
        self
    }

    /// With a random mask, about a third of it false.
    pub(crate) fn masked(mut self, seed: u64) -> Self {
        self.mask = Some(Array2::random_using(self.shape(), Bernoulli::new(0.7).unwrap(), &mut rng(seed)));
        self
    }

    pub(crate) fn tokens(&self) -> Tokens<'_, S> {
        Tokens {
            queries: self.queries.view(),
            values: self.values.view(),
            gates: self.gates.as_ref().map(|gates| gates.view()),
            mask: self.mask.as_ref().map(|mask| mask.view()),
        }
    }

    /// Tokens `from` to `to` of every sequence.
    pub(crate) fn part(&self, from: usize, to: usize) -> Self {
        Self {
            queries: self.queries.slice(s![.., from..to, ..]).to_owned(),
            values: self.values.slice(s![.., from..to, ..]).to_owned(),
            gates: self.gates.as_ref().map(|gates| gates.slice(s![.., from..to]).to_owned()),
            mask: self.mask.as_ref().map(|mask| mask.slice(s![.., from..to]).to_owned()),
        }
    }

    /// The same text with sequences and tokens in another order.
    pub(crate) fn reordered(&self, sequences: &[usize], tokens: &[usize]) -> Self {
        fn pick<T: Clone, D: Dimension + ndarray::RemoveAxis>(
            from: &Array<T, D>,
            b: &[usize],
            t: &[usize],
        ) -> Array<T, D> {
            from.select(Axis(0), b).select(Axis(1), t)
        }
        Self {
            queries: pick(&self.queries, sequences, tokens),
            values: pick(&self.values, sequences, tokens),
            gates: self.gates.as_ref().map(|gates| pick(gates, sequences, tokens)),
            mask: self.mask.as_ref().map(|mask| pick(mask, sequences, tokens)),
        }
    }
}

impl Text<f64> {
    pub(crate) fn narrowed(&self) -> Text<f32> {
        Text {
            queries: cast(&self.queries),
            values: cast(&self.values),
            gates: self.gates.as_ref().map(cast),
            mask: self.mask.clone(),
        }
    }
}

/// The reading of a text with these tables, rows by (token, sequence).
pub(crate) fn reading<S: Scalar>(settings: &Settings, tables: &Tables<S>, text: &Text<S>) -> Reading<S> {
    let queries = text.queries.view().permuted_axes([1, 0, 2]).to_owned();
    fwpkm_reference::chunk::read(&Stages::specification(), settings, tables, queries.view(), 0).unwrap()
}

/// One step over a whole text: the chunk, its reading, the step, and the tables after it.
pub(crate) struct Stepped {
    pub(crate) chunk: Chunk<f64>,
    pub(crate) reading: Reading<f64>,
    pub(crate) step: Step<f64>,
    pub(crate) report: StepReport<f64>,
    pub(crate) tables: Tables<f64>,
}

/// Reads a text as one chunk under border drop.
pub(crate) fn stepped(settings: &Settings, rules: &Rules, tables: &Tables<f64>, text: &Text<f64>) -> Stepped {
    let chunk = text.shape().1.max(settings.lookahead) + 1;
    let settings = Settings { chunk, ..settings.clone() };
    let mut memory = Memory::new(settings, rules.clone(), tables.clone()).unwrap();
    let mut trace = Trace::default();
    assert!(memory.feed(&text.tokens()).unwrap().steps.is_empty());
    let report = memory.flush_traced(&mut trace).unwrap().unwrap();
    let TracedStep { chunk, reading, step, .. } = trace.steps.pop().unwrap();
    Stepped { chunk, reading, step, report, tables: memory.tables().clone() }
}

/// Smallest gap between neighbours in the order of any half's scores, and of any head's n² pair sums; infinite if there is
/// one of each.
pub(crate) fn margin(reading: &Reading<f64>) -> f64 {
    let gap = |mut scores: Vec<f64>| {
        scores.sort_by(f64::total_cmp);
        scores.windows(2).map(|pair| pair[1] - pair[0]).fold(f64::INFINITY, f64::min)
    };
    let mut smallest = f64::INFINITY;
    for token in reading.scores.outer_iter() {
        for head in token.outer_iter() {
            let (first, second) = (head.row(0), head.row(1));
            let sums = first.iter().flat_map(|a| second.iter().map(move |b| a + b)).collect();
            smallest = smallest.min(gap(first.to_vec())).min(gap(second.to_vec())).min(gap(sums));
        }
    }
    smallest
}

/// A layer's maps with random numbers; `gates` outputs of the gate's map, none if 0.
pub(crate) fn projection(settings: &Settings, hidden: usize, gates: usize, seed: u64) -> Projection<f64> {
    let rng = &mut rng(seed);
    let mut map = |inputs: usize, outputs: usize| NormedLinear {
        norm: Array1::random_using(inputs, Uniform::new(-0.5, 0.5).unwrap(), rng),
        weight: Array2::random_using((outputs, inputs), StandardNormal, rng),
        bias: Array1::random_using(outputs, Uniform::new(-0.5, 0.5).unwrap(), rng),
    };
    Projection {
        query: map(hidden, settings.heads * settings.key_dim),
        value: map(hidden, settings.value_dim),
        gate: (gates > 0).then(|| map(hidden, gates)),
        output: map(settings.value_dim, hidden),
    }
}

/// Whether weights may grow with the scores, so that long runs may overflow at step size 1.
pub(crate) fn is_unbounded(settings: &Settings) -> bool {
    settings.activation != Activation::Softmax
}
