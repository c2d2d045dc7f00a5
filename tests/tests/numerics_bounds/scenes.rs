//! Chunks with their tables in f32, and the same numbers in f64.

use fwpkm_reference::chunk::{Chunk, Reading, read};
use fwpkm_reference::select::Selected;
use fwpkm_reference::settings::{Score, Settings};
use fwpkm_reference::{Rules, Stages, Tables};
use ndarray::{Array, Array2, Array3, Axis, Dimension, s};
use ndarray_rand::RandomExt;
use ndarray_rand::rand::SeedableRng;
use ndarray_rand::rand::rngs::StdRng;
use ndarray_rand::rand_distr::{Normal, Uniform};
use proptest::prelude::ProptestConfig;

/// A case that fails is printed, and becomes a test of its own instead of a file beside the sources.
pub(crate) fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

pub(crate) fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

/// Normal numbers of standard deviation 1
pub(crate) fn normal<D: Dimension>(shape: impl ndarray::ShapeBuilder<Dim = D>, rng: &mut StdRng) -> Array<f32, D> {
    Array::random_using(shape, Normal::new(0.0, 1.0).unwrap(), rng)
}

/// Uniform numbers
pub(crate) fn uniform<D: Dimension>(
    shape: impl ndarray::ShapeBuilder<Dim = D>,
    low: f32,
    high: f32,
    rng: &mut StdRng,
) -> Array<f32, D> {
    Array::random_using(shape, Uniform::new(low, high).unwrap(), rng)
}

/// f32 to f64, which changes no number
pub(crate) fn exact<D: Dimension>(numbers: &Array<f32, D>) -> Array<f64, D> {
    numbers.mapv(f64::from)
}

/// A chunk in f32, with all that its stages take.
#[derive(Clone)]
pub(crate) struct Scene {
    pub(crate) settings: Settings,
    pub(crate) rules: Rules,
    pub(crate) tables: Tables<f32>,
    pub(crate) chunk: Chunk<f32>,
}

/// Sizes of a scene.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) heads: usize,
    pub(crate) sub_keys: usize,
    pub(crate) half_dim: usize,
    pub(crate) value_dim: usize,
    pub(crate) top_k: usize,
    pub(crate) tokens: usize,
    pub(crate) sequences: usize,
}

impl Sizes {
    pub(crate) const SMALL: Self =
        Self { heads: 2, sub_keys: 6, half_dim: 3, value_dim: 5, top_k: 3, tokens: 24, sequences: 2 };

    fn settings(self) -> Settings {
        Settings {
            heads: self.heads,
            sub_keys: self.sub_keys,
            key_dim: 2 * self.half_dim,
            value_dim: self.value_dim,
            top_k: self.top_k,
            chunk: self.tokens + 1,
            ..Settings::paper()
        }
    }
}

impl Scene {
    /// Initial tables, normal queries and values
    pub(crate) fn random(sizes: Sizes, seed: u64) -> Self {
        let mut rng = rng(seed);
        let settings = sizes.settings();
        let tables = Tables::random(&settings, &mut rng).unwrap();
        let (tokens, sequences) = (sizes.tokens, sizes.sequences);
        let queries = normal((tokens, sequences, sizes.heads * settings.key_dim), &mut rng) * 0.3;
        let values = normal((tokens, sequences, sizes.value_dim), &mut rng);
        let chunk = Chunk { queries, values, gates: None, mask: None, lookahead: 1 };
        Self { settings, rules: Rules::paper(), tables, chunk }
    }

    /// With gates in (0, 1) and one token in four masked
    pub(crate) fn gated_and_masked(mut self, seed: u64) -> Self {
        let (tokens, sequences, _) = self.chunk.queries.dim();
        let mut rng = rng(seed);
        self.chunk.gates = Some(uniform((tokens, sequences), 0.0, 1.0, &mut rng));
        self.chunk.mask = Some(uniform((tokens, sequences), 0.0, 1.0, &mut rng).mapv(|x: f32| x > 0.25));
        self
    }

    pub(crate) fn dot_product(mut self) -> Self {
        self.settings.score = Score::DotProduct;
        self
    }

    /// Every token asks for the same slots, so that every sum over the chunk is long
    pub(crate) fn hot(mut self) -> Self {
        let first = self.chunk.queries.slice(ndarray::s![0, 0, ..]).to_owned();
        for mut query in self.chunk.queries.rows_mut() {
            query.assign(&first);
        }
        self
    }

    /// Every query is a sub-key of each half, but for normal numbers of that size
    pub(crate) fn hits(mut self, scale: f32, seed: u64) -> Self {
        let Settings { heads, sub_keys, .. } = self.settings;
        let m = self.settings.half_dim();
        let mut rng = rng(seed);
        for (row, mut query) in self.chunk.queries.rows_mut().into_iter().enumerate() {
            for (half, mut half_of_query) in query.exact_chunks_mut(m).into_iter().enumerate() {
                let key = self.tables.sub_keys.slice(s![half / 2 % heads, half % 2, (row + half) % sub_keys, ..]);
                half_of_query.assign(&(&key + &(normal(m, &mut rng) * scale)));
            }
        }
        self
    }

    /// The same numbers with the features of every vector reversed
    pub(crate) fn reversed_features(&self, reading: &Reading<f32>) -> (Self, Reading<f32>) {
        let mut turned = self.clone();
        turned.tables.sub_keys.invert_axis(Axis(3));
        turned.tables.slot_values.invert_axis(Axis(1));
        turned.chunk.values.invert_axis(Axis(2));
        let m = self.settings.half_dim();
        for mut query in turned.chunk.queries.rows_mut() {
            for mut half in query.exact_chunks_mut(m) {
                let reversed = half.slice(s![..;-1]).to_owned();
                half.assign(&reversed);
            }
        }
        let mut reading = reading.clone();
        reading.reads.invert_axis(Axis(1));
        (turned, reading)
    }

    /// The same rows in reversed order; pairs stay what they are where L = 0
    pub(crate) fn reversed_tokens(&self, reading: &Reading<f32>) -> (Self, Reading<f32>) {
        let mut turned = self.clone();
        for axis in [Axis(0), Axis(1)] {
            turned.chunk.queries.invert_axis(axis);
            turned.chunk.values.invert_axis(axis);
            turned.chunk.gates.iter_mut().for_each(|gates| gates.invert_axis(axis));
            turned.chunk.mask.iter_mut().for_each(|mask| mask.invert_axis(axis));
        }
        let mut reading = reading.clone();
        let rows = Axis(0);
        reading.scores.invert_axis(rows);
        reading.selected.half_indices.invert_axis(rows);
        reading.selected.half_scores.invert_axis(rows);
        reading.selected.ranks.invert_axis(rows);
        reading.selected.pair_scores.invert_axis(rows);
        reading.selected.slots.invert_axis(rows);
        reading.weights.invert_axis(rows);
        reading.reads.invert_axis(rows);
        (turned, reading)
    }

    pub(crate) fn reading(&self) -> Reading<f32> {
        read(&Stages::specification(), &self.settings, &self.tables, self.chunk.queries.view(), 0).unwrap()
    }

    pub(crate) fn exact_tables(&self) -> Tables<f64> {
        let Tables { sub_keys, slot_values } = &self.tables;
        Tables { sub_keys: exact(sub_keys), slot_values: exact(slot_values) }
    }

    pub(crate) fn exact_chunk(&self) -> Chunk<f64> {
        let chunk = &self.chunk;
        let (queries, values): (Array3<f64>, Array3<f64>) = (exact(&chunk.queries), exact(&chunk.values));
        let gates: Option<Array2<f64>> = chunk.gates.as_ref().map(exact);
        Chunk { queries, values, gates, mask: chunk.mask.clone(), lookahead: chunk.lookahead }
    }
}

/// The reading of an implementation in f32, handed to the exact stages after it
pub(crate) fn exact_reading(reading: &Reading<f32>) -> Reading<f64> {
    let selected = &reading.selected;
    Reading {
        scores: exact(&reading.scores),
        selected: Selected {
            half_indices: selected.half_indices.clone(),
            half_scores: exact(&selected.half_scores),
            ranks: selected.ranks.clone(),
            pair_scores: exact(&selected.pair_scores),
            slots: selected.slots.clone(),
        },
        weights: exact(&reading.weights),
        reads: exact(&reading.reads),
    }
}
