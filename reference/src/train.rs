//! Stage `train`: gradients of an outer loss, through every step of a text.           GRD-1 … GRD-7
//!
//! ```text
//! outer loss  E = Σ c·reads + Σ c_K·(last K) + Σ c_V·(last V),   c, c_K, c_V given
//! forward     readings and steps, in the order of the text, kept on a tape
//! backward    the same in reverse; x̄ stands for ∂E/∂x
//!
//!   reading   c       → weights, V      → half scores → queries, K
//!   step      V̄ after → value gradient  → pairs       → values, gates, reads ┐
//!             K̄ after → sub-key gradient → queries, K, half scores            ┴→ as a reading
//! ```
//!
//! Which slots and sub-keys were chosen, how often they were read, and what was clipped are constants.
//!
//! | file | clauses | back through |
//! |---|---|---|
//! | this one | GRD-1, GRD-2 | a text, the descent of a step |
//! | [`reading`] | GRD-3, GRD-4 | reads, weights, half scores |
//! | [`memorizing`] | GRD-5, GRD-7 | the value gradient, MEM-6 |
//! | [`addressing`] | GRD-6 | the sub-key gradient |

use std::ops::Range;

use ndarray::{Array2, Array3, Array4, ArrayView2, ArrayView3, ArrayView4, Zip, s};

use crate::address::Sparse;
use crate::batch::{Fed, Memory, StepReport, Tokens, Trace, TracedStep, shape_is};
use crate::chunk::{Counted, Reading, split_halves};
use crate::error::{Error, Result};
use crate::memorize::step_factor;
use crate::scalar::Scalar;
use crate::settings::Settings;
use crate::tables::Tables;

pub mod addressing;
pub mod memorizing;
pub mod reading;

use addressing::{kept_half_scores_back, sub_key_gradient_back};
use memorizing::{half_score_gradient_back, pairs_back, value_gradient_back};
use reading::{half_scores_back, reads_back, weights_back};

/// A memory that keeps what it reads and steps, to go back through it.                      [GRD-1]
///
/// ```
/// use fwpkm_reference::{Cotangents, Memory, Rules, Settings, Tables, Tape, Tokens};
/// use ndarray::{Array2, Array4, arr3};
///
/// // After one step the slot holds the target, and the second token reads it: ∂read/∂target = 1.
/// let settings = Settings {
///     sub_keys: 2, key_dim: 2, value_dim: 1, top_k: 1, chunk: 1, lookahead: 0, ..Settings::paper()
/// };
/// let tables = Tables {
///     sub_keys: Array4::from_shape_vec((1, 2, 2, 1), vec![0.0, 1.0, 0.0, 1.0]).unwrap(),
///     slot_values: Array2::<f64>::zeros((4, 1)),
/// };
/// let mut tape = Tape::new(Memory::new(settings, Rules::paper(), tables)?)?;
/// let (queries, values) = (arr3(&[[[1.0, 0.0], [1.0, 0.0]]]), arr3(&[[[7.0], [9.0]]]));
/// tape.feed(&Tokens { queries: queries.view(), values: values.view(), gates: None, mask: None })?;
/// let of_the_second_read = arr3(&[[[0.0], [1.0]]]);
/// let cotangents = Cotangents { reads: of_the_second_read.view(), sub_keys: None, slot_values: None };
/// assert_eq!(tape.backward(&cotangents)?.values, arr3(&[[[1.0], [0.0]]]));
/// # Ok::<(), fwpkm_reference::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Tape<S> {
    memory: Memory<S>,
    moments: Vec<Moment<S>>,
    /// [B, T] so far.
    fed: Option<(usize, usize)>,
    gated: bool,
}

/// What a text is gone back through.
#[derive(Clone, Debug)]
enum Moment<S> {
    /// Tokens from `first` on were read.
    Reading { first: usize, read: Read<S> },
    /// A step over tokens from `first` on.
    Step { first: usize, read: Read<S>, traced: Box<TracedStep<S>> },
    /// The tables were replaced.
    Reset,
}

/// A reading, with the part of the tables that it saw.
#[derive(Clone, Debug)]
struct Read<S> {
    /// [rows, heads, 2, `d_k`/2]
    queries: Array4<S>,
    /// K: [heads, 2, n, `d_k`/2]
    sub_keys: Array4<S>,
    /// V of the slots chosen: [rows, heads, k, `d_v`]
    values: Array4<S>,
    reading: Reading<S>,
}

impl<S: Scalar> Read<S> {
    fn new(settings: &Settings, tables: &Tables<S>, queries: ArrayView3<S>, reading: Reading<S>) -> Self {
        let slots = &reading.selected.slots;
        let (rows, heads, k) = slots.dim();
        let values = Array4::from_shape_fn((rows, heads, k, settings.value_dim), |(row, head, place, d)| {
            tables.slot_values[[slots[[row, head, place]], d]]
        });
        Self { queries: split_halves(settings, queries), sub_keys: tables.sub_keys.clone(), values, reading }
    }
}

/// The gradient of the outer loss with respect to what the memory gave.
///
/// # Shapes   reads: [B, T, `d_v`]; `sub_keys`, `slot_values`: as [`Tables`]
#[derive(Clone, Debug)]
pub struct Cotangents<'a, S> {
    /// c, of every read.
    pub reads: ArrayView3<'a, S>,
    /// `c_K`, of the last sub-keys; absent: 0.
    pub sub_keys: Option<ArrayView4<'a, S>>,
    /// `c_V`, of the last slot values; absent: 0.
    pub slot_values: Option<ArrayView2<'a, S>>,
}

/// The gradient of the outer loss with respect to what the memory was given.                [GRD-1]
///
/// # Shapes   queries: [B, T, H·`d_k`]; values: [B, T, `d_v`]; gates: [B, T]
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients<S> {
    /// ∂E/∂q
    pub queries: Array3<S>,
    /// ∂E/∂v, as a target; what a layer does with its values beside the memory is not in it.
    pub values: Array3<S>,
    /// ∂E/∂g, where any call had gates; of tokens without, at the gate 1 that they count as.
    pub gates: Option<Array2<S>>,
    /// ∂E of the first tables, and of those that replaced them.
    pub tables: Tables<S>,
}

impl<S: Scalar> Tape<S> {
    /// An empty tape. The way back is that of the specification's stages: of a memory with others it gives no gradients.
    ///
    /// # Errors   `Error::Shape` where tokens are queued: they were read before the tape began
    pub fn new(memory: Memory<S>) -> Result<Self> {
        memory.still_running()?;
        if memory.queued() > 0 {
            let expected = "no queued tokens where a tape begins".into();
            return Err(Error::Shape { tensor: "queue", expected, found: vec![memory.queued()] });
        }
        Ok(Self { memory, moments: Vec::new(), fed: None, gated: false })
    }

    /// The memory inside.
    pub fn memory(&self) -> &Memory<S> {
        &self.memory
    }

    /// The memory inside, without the tape.
    pub fn into_memory(self) -> Memory<S> {
        self.memory
    }

    /// [`Memory::feed`], kept.                                                               [STR-1]
    ///
    /// # Errors   as [`Memory::feed`]; `Error::Shape` where B is another than before
    pub fn feed(&mut self, tokens: &Tokens<S>) -> Result<Fed<S>> {
        self.memory.takes(tokens)?;
        let (sequences, before) = self.fed.unwrap_or((tokens.sequences(), 0));
        if tokens.sequences() != sequences {
            let expected = format!("[sequences {sequences} as before, tokens, heads·key_dim]");
            return Err(Error::Shape { tensor: "queries", expected, found: tokens.queries.shape().to_vec() });
        }
        let mut fed = Fed::new(&self.memory, tokens);
        let mut from = 0;
        while from < tokens.len() {
            let to = tokens.len().min(from.saturating_add(self.memory.until_border()));
            self.feed_slice(tokens, from..to, before, &mut fed)?;
            from = to;
        }
        self.gated |= tokens.gates.is_some();
        self.fed = Some((sequences, before + tokens.len()));
        Ok(fed)
    }

    /// A reading, and the step where one falls due: both see the tables as they are before
    fn feed_slice(
        &mut self,
        tokens: &Tokens<S>,
        slice: Range<usize>,
        fed_before: usize,
        fed: &mut Fed<S>,
    ) -> Result<()> {
        let (queued, first) = (self.memory.queued(), fed_before + slice.start);
        // A step takes at least a chunk.
        let may_step = queued.saturating_add(slice.len()) >= self.memory.settings.chunk;
        let before = may_step.then(|| self.memory.tables.clone());
        let (tokens, mut trace) = (part(tokens, slice.clone()), Trace::default());
        fed.steps.extend(self.memory.feed_traced(&tokens, &mut trace)?.steps);
        let (settings, tables) = (&self.memory.settings, before.as_ref().unwrap_or(&self.memory.tables));
        for (_, reading) in trace.readings {
            fed.put(slice.start, slice.end, &reading);
            let read = Read::new(settings, tables, tokens.queries.permuted_axes([1, 0, 2]), reading);
            self.moments.push(Moment::Reading { first, read });
        }
        for traced in trace.steps {
            self.moments.push(stepped(settings, tables, first - queued, traced));
        }
        Ok(())
    }

    /// [`Memory::flush`], kept.                                                              [STR-4]
    ///
    /// # Errors   as [`Memory::flush`]
    pub fn flush(&mut self) -> Result<Option<StepReport<S>>> {
        let queued = self.memory.queued();
        if queued == 0 {
            return self.memory.flush();
        }
        let (before, mut trace) = (self.memory.tables.clone(), Trace::default());
        let report = self.memory.flush_traced(&mut trace)?;
        let first = self.fed.map_or(0, |(_, tokens)| tokens) - queued;
        for traced in trace.steps {
            self.moments.push(stepped(&self.memory.settings, &before, first, traced));
        }
        Ok(report)
    }

    /// [`Memory::reset_queue`], kept.                                                        [BAT-2]
    ///
    /// # Errors   `Error::Diverged` after a step failed: such a tape has no gradients
    pub fn reset_queue(&mut self) -> Result<()> {
        self.memory.still_running()?;
        self.memory.reset_queue();
        Ok(())
    }

    /// [`Memory::reset_tables`], kept. The gradient of these tables is added to that of the first ones.  [BAT-2]
    ///
    /// # Errors   as [`Memory::reset_tables`]; `Error::Diverged` after a step failed
    pub fn reset_tables(&mut self, tables: Tables<S>) -> Result<()> {
        self.memory.still_running()?;
        self.memory.reset_tables(tables)?;
        self.moments.push(Moment::Reset);
        Ok(())
    }

    /// Back through all that was read and stepped.                                           [GRD-1]
    ///
    /// # Shapes   see [`Cotangents`] and [`Gradients`]
    /// # Errors   `Error::Shape`, `Error::NotFinite` of the cotangents; `Error::GradientOverflow`; `Error::Diverged` where a
    ///   step failed
    /// # Source   arXiv 2601.00671 §3 trains the slow weights through the updates; the release's autograd, indices constant
    pub fn backward(&self, cotangents: &Cotangents<S>) -> Result<Gradients<S>> {
        self.memory.still_running()?;
        let settings = &self.memory.settings;
        let (sequences, tokens) = self.fed.unwrap_or((cotangents.reads.dim().0, 0));
        cotangents.check(&self.memory, sequences, tokens)?;
        let queries = Array3::from_elem((sequences, tokens, settings.heads * settings.key_dim), S::ZERO);
        let values = Array3::from_elem((sequences, tokens, settings.value_dim), S::ZERO);
        let gates = self.gated.then(|| Array2::from_elem((sequences, tokens), S::ZERO));
        let mut gradients = Gradients { queries, values, gates, tables: zero(&self.memory.tables) };
        let mut tables = cotangents.tables(&self.memory.tables);
        for moment in self.moments.iter().rev() {
            match moment {
                Moment::Reading { first, read } => {
                    let adjoint = rows_from(cotangents.reads, *first, read.reading.reads.nrows());
                    let queries = self.reading_back(read, Passed::of_reads(read, adjoint), &mut tables);
                    gradients.add_queries(settings, *first, &queries);
                }
                Moment::Step { first, read, traced } => {
                    self.step_back(*first, read, traced, &mut tables, &mut gradients);
                }
                Moment::Reset => {
                    gradients.tables.add(&tables);
                    tables = zero(&tables);
                }
            }
        }
        gradients.tables.add(&tables);
        gradients.check()?;
        Ok(gradients)
    }

    /// Back through a step: both gradients from the tables, then the pairs, then the reading of the chunk
    fn step_back(
        &self,
        first: usize,
        read: &Read<S>,
        traced: &TracedStep<S>,
        tables: &mut Tables<S>,
        gradients: &mut Gradients<S>,
    ) {
        let (settings, rules) = (&self.memory.settings, &self.memory.rules);
        let (chunk, memorized, addressed) = (&traced.chunk, &traced.step.memorized, &traced.step.addressed);
        let samples = traced.counted_tokens * chunk.sequences();
        let counted = Counted { slots: read.reading.selected.slots.view(), samples };
        let factor = S::from_f64(step_factor(settings, rules, chunk, &counted));
        let after = tables.slot_values.view();
        let mut pairs = value_gradient_back(settings, factor, memorized, chunk, &read.reading, after);
        let to_sub_keys = Zip::from(&addressed.sub_key_gradient)
            .and(&tables.sub_keys)
            .map_collect(|&gradient, &after| descend_back(settings, gradient, after));
        tables.decay_back(settings);
        let mut half_scores = Sparse::empty(read.queries.dim().0, settings.heads);
        let mut queries = Array4::from_elem(read.queries.dim(), S::ZERO);
        let mut pair_scores = None;
        if settings.addressing_weight != 0.0 || settings.memory_gradient_to_sub_keys {
            let kept = crate::address::usage(rules, &read.reading);
            let mut slopes =
                crate::address::half_score_gradient(settings, rules, kept.clone(), addressed.marginal.view());
            if let Some(gradient) = &memorized.half_score_gradient {
                slopes.add_chosen(&read.reading, gradient);
            }
            let back = sub_key_gradient_back(settings, &read.sub_keys, &read.queries, &slopes, &to_sub_keys);
            queries = back.queries;
            tables.sub_keys = &tables.sub_keys + &back.sub_keys;
            let (of_kept, of_chosen) = split(back.slopes, &kept, settings.top_k);
            half_scores = kept_half_scores_back(settings, rules, &kept, addressed.marginal.view(), &of_kept);
            if settings.memory_gradient_to_sub_keys {
                let (chunk, values) = (chunk, read.values.view());
                let more = half_score_gradient_back(settings, rules, chunk, &read.reading, values, &of_chosen);
                pairs.add(&more);
                add_to_slots(&mut tables.slot_values, &read.reading, &more.values);
                pair_scores = Some(more.pair_scores);
            }
        }
        let of_pairs = pairs_back(chunk, &read.reading, pairs.residuals.view());
        gradients.add_pairs(first, settings.lookahead, &of_pairs);
        let passed = Passed { reads: of_pairs.reads, weights: pairs.weights, pair_scores, half_scores };
        queries = queries + self.reading_back(read, passed, tables);
        gradients.add_queries(settings, first, &queries);
    }

    /// Back through a reading: K̄ and V̄ grow, q̄ is returned
    fn reading_back(&self, read: &Read<S>, passed: Passed<S>, tables: &mut Tables<S>) -> Array4<S> {
        let settings = &self.memory.settings;
        let (weights, values) = reads_back(&read.reading, read.values.view(), passed.reads.view());
        add_to_slots(&mut tables.slot_values, &read.reading, &values);
        let chosen = weights_back(settings, &read.reading, &(weights + passed.weights), passed.pair_scores.as_ref());
        let mut half_scores = passed.half_scores;
        half_scores.add_chosen(&read.reading, &chosen);
        half_scores_back(settings, &read.sub_keys, &read.queries, &half_scores, &mut tables.sub_keys)
    }
}

/// What is passed back to the results of a reading.
struct Passed<S> {
    /// [rows, `d_v`]
    reads: Array2<S>,
    /// Beyond what comes from the reads: [rows, heads, k].
    weights: Array3<S>,
    /// Beyond what comes from the weights: [rows, heads, k].
    pair_scores: Option<Array3<S>>,
    /// Beyond what comes from the pair scores.
    half_scores: Sparse<S>,
}

impl<S: Scalar> Passed<S> {
    fn of_reads(read: &Read<S>, reads: Array2<S>) -> Self {
        let weights = Array3::from_elem(read.reading.weights.dim(), S::ZERO);
        let half_scores = Sparse::empty(read.queries.dim().0, read.queries.dim().1);
        Self { reads, weights, pair_scores: None, half_scores }
    }
}

/// Ḡ = -η·P̄ of the element after the step, 0 where G was beyond the limit                  [GRD-2]
///
/// ```
/// use fwpkm_reference::{settings::Settings, train::descend_back};
/// let settings = Settings { learning_rate: 0.5, gradient_clip: Some(1.0), ..Settings::paper() };
/// assert_eq!((descend_back(&settings, 1.0, 3.0), descend_back(&settings, 1.5, 3.0)), (-1.5, 0.0));
/// ```
pub fn descend_back<S: Scalar>(settings: &Settings, gradient: S, after: S) -> S {
    let clipped = settings.gradient_clip.map(S::from_f64).is_some_and(|clip| gradient > clip || gradient < -clip);
    if clipped { S::ZERO } else { -(S::from_f64(settings.learning_rate) * after) }
}

/// What belongs to the kept half scores, and what to the chosen ones that were added to them: [rows, heads, 2, k]
fn split<S: Scalar>(mut slopes: Sparse<S>, kept: &Sparse<S>, top_k: usize) -> (Sparse<S>, Array4<S>) {
    let mut chosen = Array4::from_elem((slopes.rows() / slopes.heads, slopes.heads, 2, top_k), S::ZERO);
    for ((list, kept), mut chosen) in slopes.lists.iter_mut().zip(&kept.lists).zip(chosen.rows_mut()) {
        for ((_, slope), chosen) in list.drain(kept.len()..).zip(&mut chosen) {
            *chosen = slope;
        }
    }
    (slopes, chosen)
}

fn stepped<S: Scalar>(settings: &Settings, tables: &Tables<S>, first: usize, traced: TracedStep<S>) -> Moment<S> {
    let read = Read::new(settings, tables, traced.chunk.queries.view(), traced.reading.clone());
    Moment::Step { first, read, traced: Box::new(traced) }
}

fn part<'a, S>(tokens: &Tokens<'a, S>, slice: Range<usize>) -> Tokens<'a, S> {
    Tokens {
        queries: tokens.queries.slice_move(s![.., slice.clone(), ..]),
        values: tokens.values.slice_move(s![.., slice.clone(), ..]),
        gates: tokens.gates.map(|gates| gates.slice_move(s![.., slice.clone()])),
        mask: tokens.mask.map(|mask| mask.slice_move(s![.., slice])),
    }
}

/// Tokens of all sequences from `first` on, as `rows` rows (token, sequence)
fn rows_from<S: Scalar>(tokens: ArrayView3<S>, first: usize, rows: usize) -> Array2<S> {
    let (sequences, _, width) = tokens.dim();
    Array2::from_shape_fn((rows, width), |(row, d)| tokens[[row % sequences, first + row / sequences, d]])
}

/// Adds to V̄ of each chosen slot, the last first, so that a cut of the reading changes no order; values: [rows, heads, k, `d_v`]
fn add_to_slots<S: Scalar>(slot_values: &mut Array2<S>, reading: &Reading<S>, values: &Array4<S>) {
    let (rows, heads, k) = reading.selected.slots.dim();
    for row in (0..rows).rev() {
        for (head, place) in ndarray::indices((heads, k)) {
            let value = values.slice(s![row, head, place, ..]);
            let slot = reading.selected.slots[[row, head, place]];
            slot_values.row_mut(slot).zip_mut_with(&value, |sum, &value| *sum = *sum + value);
        }
    }
}

fn zero<S: Scalar>(tables: &Tables<S>) -> Tables<S> {
    Tables {
        sub_keys: Array4::from_elem(tables.sub_keys.dim(), S::ZERO),
        slot_values: Array2::from_elem(tables.slot_values.dim(), S::ZERO),
    }
}

impl<S: Scalar> Tables<S> {
    fn add(&mut self, other: &Self) {
        self.sub_keys.zip_mut_with(&other.sub_keys, |sum, &x| *sum = *sum + x);
        self.slot_values.zip_mut_with(&other.slot_values, |sum, &x| *sum = *sum + x);
    }

    /// P̄ before the step, as far as it comes from P itself: (1 - ηλ)·P̄ after it            [GRD-2]
    fn decay_back(&mut self, settings: &Settings) {
        if settings.weight_decay != 0.0 {
            let kept = S::ONE - S::from_f64(settings.learning_rate) * S::from_f64(settings.weight_decay);
            self.sub_keys.mapv_inplace(|x| kept * x);
            self.slot_values.mapv_inplace(|x| kept * x);
        }
    }
}

impl<S: Scalar> Cotangents<'_, S> {
    fn check(&self, memory: &Memory<S>, sequences: usize, tokens: usize) -> Result<()> {
        let width = memory.settings.value_dim;
        shape_is("cotangent of reads", self.reads.shape(), &[sequences, tokens, width], || {
            format!("[sequences {sequences}, tokens {tokens}, value_dim {width}]")
        })?;
        crate::numerics::check_finite("cotangent of reads", self.reads)?;
        if let Some(sub_keys) = self.sub_keys {
            let expected = || "that of sub_keys".into();
            shape_is("cotangent of sub_keys", sub_keys.shape(), memory.tables.sub_keys.shape(), expected)?;
            crate::numerics::check_finite("cotangent of sub_keys", sub_keys)?;
        }
        if let Some(slot_values) = self.slot_values {
            let expected = || "that of slot_values".into();
            shape_is("cotangent of slot_values", slot_values.shape(), memory.tables.slot_values.shape(), expected)?;
            crate::numerics::check_finite("cotangent of slot_values", slot_values)?;
        }
        Ok(())
    }

    fn tables(&self, like: &Tables<S>) -> Tables<S> {
        let zero = zero(like);
        Tables {
            sub_keys: self.sub_keys.map_or(zero.sub_keys, |sub_keys| sub_keys.to_owned()),
            slot_values: self.slot_values.map_or(zero.slot_values, |slot_values| slot_values.to_owned()),
        }
    }
}

impl<S: Scalar> Gradients<S> {
    /// Adds q̄ of the rows (token, sequence) from a token on; queries: [rows, heads, 2, `d_k`/2]
    fn add_queries(&mut self, settings: &Settings, first: usize, queries: &Array4<S>) {
        let sequences = self.queries.dim().0;
        for ((row, head, half, d), &x) in queries.indexed_iter() {
            let place = (head * 2 + half) * settings.half_dim() + d;
            let sum = &mut self.queries[[row % sequences, first + row / sequences, place]];
            *sum = *sum + x;
        }
    }

    /// Adds v̄ and ḡ of the pairs of a chunk, whose first query is token `first`
    fn add_pairs(&mut self, first: usize, lookahead: usize, pairs: &memorizing::PairsBack<S>) {
        let sequences = self.values.dim().0;
        for ((row, d), &x) in pairs.targets.indexed_iter() {
            let sum = &mut self.values[[row % sequences, first + row / sequences + lookahead, d]];
            *sum = *sum + x;
        }
        if let Some(gates) = &mut self.gates {
            for (row, &x) in pairs.gates.iter().enumerate() {
                let sum = &mut gates[[row % sequences, first + row / sequences]];
                *sum = *sum + x;
            }
        }
    }

    fn check(&self) -> Result<()> {
        let overflow = |finite: bool, tensor| if finite { Ok(()) } else { Err(Error::GradientOverflow { tensor }) };
        overflow(self.queries.iter().all(|x| x.is_finite()), "queries")?;
        overflow(self.values.iter().all(|x| x.is_finite()), "values")?;
        overflow(self.gates.iter().flatten().all(|x| x.is_finite()), "gates")?;
        overflow(self.tables.sub_keys.iter().all(|x| x.is_finite()), "sub_keys")?;
        overflow(self.tables.slot_values.iter().all(|x| x.is_finite()), "slot_values")
    }
}
