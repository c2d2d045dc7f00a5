//! Settings, rules, tables and a text, chosen by bytes: what a run takes.

use fwpkm_reference::rules::{Kept, PairFactor, ReadFactor, Rules, StreamCount, SubKeyLoss};
use fwpkm_reference::settings::{Activation, Border, Score, Settings, WeightsOver};
use fwpkm_reference::{Scalar, Tables, Tokens};
use ndarray::{Array, Array2, Array3, Dimension, s};

use super::bytes::{Bytes, Range};

/// Tokens, owned.
///
/// # Shapes   as [`Tokens`]
#[derive(Clone, Debug)]
pub struct Text<S> {
    /// [B, T, H·`d_k`]
    pub queries: Array3<S>,
    /// [B, T, `d_v`]
    pub values: Array3<S>,
    /// [B, T]
    pub gates: Option<Array2<S>>,
    /// [B, T]
    pub mask: Option<Array2<bool>>,
}

impl<S: Scalar> Text<S> {
    /// B and T
    pub fn shape(&self) -> (usize, usize) {
        (self.queries.dim().0, self.queries.dim().1)
    }

    /// As a call takes them.
    pub fn tokens(&self) -> Tokens<'_, S> {
        Tokens {
            queries: self.queries.view(),
            values: self.values.view(),
            gates: self.gates.as_ref().map(|gates| gates.view()),
            mask: self.mask.as_ref().map(|mask| mask.view()),
        }
    }

    /// Tokens `from` to `to` of every sequence.
    pub fn part(&self, from: usize, to: usize) -> Self {
        Self {
            queries: self.queries.slice(s![.., from..to, ..]).to_owned(),
            values: self.values.slice(s![.., from..to, ..]).to_owned(),
            gates: self.gates.as_ref().map(|gates| gates.slice(s![.., from..to]).to_owned()),
            mask: self.mask.as_ref().map(|mask| mask.slice(s![.., from..to]).to_owned()),
        }
    }

    /// The same numbers in another type, rounded where it is narrower.
    pub fn cast<T: Scalar>(&self) -> Text<T> {
        Text {
            queries: cast(&self.queries),
            values: cast(&self.values),
            gates: self.gates.as_ref().map(cast),
            mask: self.mask.clone(),
        }
    }

    /// Whether every number is finite.
    pub fn is_finite(&self) -> bool {
        let gates = self.gates.iter().flatten();
        self.queries.iter().chain(&self.values).chain(gates).all(|x| x.is_finite())
    }
}

/// The same numbers in another type, rounded where it is narrower.
pub fn cast<S: Scalar, T: Scalar, D: Dimension>(numbers: &Array<S, D>) -> Array<T, D> {
    numbers.mapv(|x| T::from_f64(x.to_f64()))
}

/// Both tables in another type.
pub fn cast_tables<S: Scalar, T: Scalar>(tables: &Tables<S>) -> Tables<T> {
    Tables { sub_keys: cast(&tables.sub_keys), slot_values: cast(&tables.slot_values) }
}

/// The largest sizes of a scene; the smallest are 1, of tokens 0.
#[derive(Clone, Copy, Debug)]
pub struct Most {
    /// H
    pub heads: usize,
    /// n
    pub sub_keys: usize,
    /// `d_k` / 2
    pub half_dim: usize,
    /// `d_v`
    pub value_dim: usize,
    /// B
    pub sequences: usize,
    /// T
    pub tokens: usize,
}

/// What a run takes.
#[derive(Clone, Debug)]
pub struct Scene {
    /// What its numbers may be.
    pub range: Range,
    /// Settings.
    pub settings: Settings,
    /// Rules.
    pub rules: Rules,
    /// Initial tables.
    pub tables: Tables<f64>,
    /// All tokens.
    pub text: Text<f64>,
}

impl Scene {
    /// Settings and rules first, then the numbers. Chunk, lookahead and border are left to the caller.
    pub fn choose(bytes: &mut Bytes, most: Most) -> Self {
        let range = bytes.range();
        let settings = settings(bytes, range, most);
        let rules = rules(bytes);
        let (sequences, tokens) = (bytes.count(1, most.sequences), bytes.count(0, most.tokens));
        let (gated, masked) = (bytes.flag(), bytes.flag());
        let queries = bytes.array((sequences, tokens, settings.heads * settings.key_dim), range);
        let sub_keys = bytes.array((settings.heads, 2, settings.sub_keys, settings.half_dim()), range);
        let values = bytes.array((sequences, tokens, settings.value_dim), range);
        let slot_values = bytes.array((settings.slots(), settings.value_dim), range);
        let gates = gated.then(|| bytes.array((sequences, tokens), range));
        let mask = masked.then(|| bytes.array((sequences, tokens), Range::Small).mapv(|x| x == 0.0));
        let text = Text { queries, values, gates, mask };
        Self { range, settings, rules, tables: Tables { sub_keys, slot_values }, text }
    }
}

fn settings(bytes: &mut Bytes, range: Range, most: Most) -> Settings {
    let heads = bytes.count(1, most.heads);
    let sub_keys = bytes.count(1, most.sub_keys);
    let top_k = bytes.count(1, sub_keys);
    let key_dim = 2 * bytes.count(1, most.half_dim);
    let value_dim = bytes.count(1, most.value_dim);
    let epsilon = bytes.setting(range, &[1e-3, 0.1, 1.0], &[1e-30, 1e30]);
    let score = bytes.one_of(&[Score::InverseDistance { epsilon }, Score::DotProduct]);
    let activation = bytes.one_of(&[Activation::Softmax, Activation::Silu, Activation::Relu]);
    let scopes: &[WeightsOver] = match activation {
        Activation::Softmax => &[WeightsOver::AllHeads, WeightsOver::EachHead],
        _ => &[WeightsOver::AllHeads],
    };
    let weights_over = bytes.one_of(scopes);
    let learning_rate = bytes.setting(range, &[1.0, 0.5, 0.0, 0.02], &[1e-30, 1e30]);
    let weight_decay = bytes.setting(range, &[0.0, 0.0, 0.02, 0.5], &[1e-30]);
    Settings {
        heads,
        sub_keys,
        key_dim,
        value_dim,
        top_k,
        score,
        activation,
        weights_over,
        temperature: bytes.setting(range, &[1.0, 0.5, 3.0], &[1e-20, 1e20]),
        learning_rate,
        // Decay at a large step overflows slots that no token reads, which no step looks at.
        weight_decay: if learning_rate > 1.0 { 0.0 } else { weight_decay },
        gradient_clip: bytes.one_of(&[None, None, Some(0.3), Some(1e-3)]),
        addressing_weight: bytes.setting(range, &[1.0, 0.0, 2.5], &[1e-30, 1e30]),
        memory_gradient_to_sub_keys: bytes.flag(),
        border: Border::Drop,
        lookahead: 0,
        ..Settings::paper()
    }
}

fn rules(bytes: &mut Bytes) -> Rules {
    Rules {
        read_factor: bytes.one_of(&[ReadFactor::One, ReadFactor::SlotsPerToken]),
        pair_factor: bytes.one_of(&[PairFactor::One, PairFactor::SamplesPerPair]),
        stream_count: bytes.one_of(&[StreamCount::Chunk, StreamCount::Call]),
        log_epsilon: bytes.one_of(&[0.0, 1e-8, 0.25]),
        kept: bytes.one_of(&[Kept::TopK, Kept::Ties]),
        sub_key_loss: bytes.one_of(&[SubKeyLoss::Sum, SubKeyLoss::Mean]),
        ..Rules::paper()
    }
}
