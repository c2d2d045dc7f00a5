//! Stage `chunk`: a reading and a step, each with the tables as they are.            CHK-1 … CHK-3
//!
//! ```text
//! reading   score, select, weigh, read
//! step      both gradients from the same tables and the same reading; both tables descend together
//! ```

use ndarray::parallel::prelude::*;
use ndarray::{Array, Array1, Array2, Array3, Array4, ArrayView2, ArrayView3, ArrayView4, Axis, Dimension, Zip};

use crate::address::{Addressed, address};
use crate::error::{Error, Result};
use crate::memorize::{Memorized, memorize};
use crate::output::{Output, output};
use crate::projection::{NormedLinear, Projected, Projection, project};
use crate::read::{read as read_slots, weigh};
use crate::rules::Rules;
use crate::scalar::Scalar;
use crate::score::half_scores;
use crate::select::{Selected, select};
use crate::settings::Settings;
use crate::tables::{Tables, descend};

/// The queries of a chunk with what their pairs need; tokens first, then sequences.
///
/// # Shapes   queries: [tokens, sequences, H·`d_k`]; values: [tokens, sequences, `d_v`] or up to `lookahead` tokens more;
///   gates, mask: [tokens, sequences]
#[derive(Clone, Debug)]
pub struct Chunk<S> {
    /// q of the chunk's tokens.
    pub queries: Array3<S>,
    /// v of the chunk's tokens, and of the tokens after them that are targets.
    pub values: Array3<S>,
    /// Weight of each query's pair.
    pub gates: Option<Array2<S>>,
    /// Whether each query's pair counts.
    pub mask: Option<Array2<bool>>,
    /// L
    pub lookahead: usize,
}

impl<S: Scalar> Chunk<S> {
    /// B
    pub fn sequences(&self) -> usize {
        self.queries.dim().1
    }

    /// Tokens of each sequence whose target is present.
    pub fn pairs(&self) -> usize {
        self.queries.dim().0.min(self.values.dim().0.saturating_sub(self.lookahead))
    }

    /// The queries as [rows, heads, 2, `d_k`/2], rows = tokens · sequences.
    pub fn query_halves(&self, settings: &Settings) -> Array4<S> {
        split_halves(settings, self.queries.view())
    }
}

/// Head h owns numbers h·`d_k` to (h+1)·`d_k` of a query; its halves are their first and last `d_k`/2   [SCR-1]
pub(crate) fn split_halves<S: Scalar>(settings: &Settings, queries: ArrayView3<S>) -> Array4<S> {
    let (tokens, sequences, _) = queries.dim();
    let half_dim = settings.half_dim();
    Array4::from_shape_fn((tokens * sequences, settings.heads, 2, half_dim), |(row, head, half, d)| {
        queries[[row / sequences, row % sequences, (head * 2 + half) * half_dim + d]]
    })
}

/// What `N_i` and S count.
#[derive(Clone, Copy, Debug)]
pub struct Counted<'a> {
    /// Slots read: [rows, heads, k].
    pub slots: ArrayView3<'a, usize>,
    /// Tokens of all sequences.
    pub samples: usize,
}

/// The stages as functions. [`Stages::specification`] is the specification; other implementations replace some.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::type_complexity, reason = "the types are the signatures of the stages, to be read as such")]
pub struct Stages<S> {
    /// hidden → queries, values, gates
    pub project: fn(&Settings, &Rules, &Projection<S>, ArrayView2<S>) -> Result<Projected<S>>,
    /// queries × sub-keys → half scores
    pub score: fn(&Settings, ArrayView4<S>, ArrayView4<S>) -> Array4<S>,
    /// half scores → slots
    pub select: fn(&Settings, ArrayView4<S>) -> Selected<S>,
    /// pair scores → weights
    pub weigh: fn(&Settings, ArrayView3<S>) -> Array3<S>,
    /// slots, weights → reads
    pub read: fn(ArrayView2<S>, ArrayView3<usize>, ArrayView3<S>) -> Result<Array2<S>>,
    /// reads, values, gates → the layer's output
    pub output:
        fn(&Settings, &NormedLinear<S>, ArrayView2<S>, ArrayView2<S>, Option<&Array1<S>>, ArrayView2<S>) -> Output<S>,
    /// reading, targets → value gradient
    pub memorize: fn(&Settings, &Rules, &Tables<S>, &Chunk<S>, &Reading<S>, &Counted) -> Memorized<S>,
    /// reading → sub-key gradient
    pub address: fn(&Settings, &Rules, &Tables<S>, &Chunk<S>, &Reading<S>, Option<&Array4<S>>) -> Addressed<S>,
    /// slot value, its gradient → slot value after the step
    pub value_step: fn(&Settings, S, S) -> S,
    /// element of a sub-key, its gradient → the element after the step
    pub sub_key_step: fn(&Settings, S, S) -> S,
    /// How every result of a stage is kept until it is used: as it is, or rounded to a narrower type.     [NUM-9]
    pub keep: Option<fn(S) -> S>,
}

impl<S: Scalar> Stages<S> {
    /// The stages of this crate.
    pub fn specification() -> Self {
        Self {
            project,
            score: half_scores,
            select,
            weigh,
            read: read_slots,
            output,
            memorize,
            address,
            value_step: descend,
            sub_key_step: descend,
            keep: None,
        }
    }

    /// A result of a stage, as it is kept.                                                            [NUM-9]
    pub(crate) fn kept<D: Dimension>(&self, mut result: Array<S, D>) -> Array<S, D> {
        if let Some(keep) = self.keep {
            result.mapv_inplace(keep);
        }
        result
    }
}

/// A reading and all its stage tensors; rows are tokens · sequences.
#[derive(Clone, Debug)]
pub struct Reading<S> {
    /// [rows, heads, 2, n]
    pub scores: Array4<S>,
    /// Chosen sub-keys and slots.
    pub selected: Selected<S>,
    /// [rows, heads, k]
    pub weights: Array3<S>,
    /// [rows, `d_v`]
    pub reads: Array2<S>,
}

/// Reads with the tables of the moment.                                                    [CHK-1]
///
/// # Shapes   queries: [tokens, sequences, H·`d_k`]
/// # Errors   `Error::Diverged` where finite input overflows
pub fn read<S: Scalar>(
    stages: &Stages<S>,
    settings: &Settings,
    tables: &Tables<S>,
    queries: ArrayView3<S>,
    chunk: usize,
) -> Result<Reading<S>> {
    let halves = split_halves(settings, queries);
    let scores = stages.kept((stages.score)(settings, tables.sub_keys.view(), halves.view()));
    diverged_unless(scores.iter().all(|x| x.is_finite()), chunk, "score", "half_scores")?;
    let mut selected = (stages.select)(settings, scores.view());
    selected.pair_scores = stages.kept(selected.pair_scores);
    diverged_unless(selected.pair_scores.iter().all(|x| x.is_finite()), chunk, "select", "pair_scores")?;
    let weights = stages.kept((stages.weigh)(settings, selected.pair_scores.view()));
    diverged_unless(weights.iter().all(|x| x.is_finite()), chunk, "read", "weights")?;
    let reads = stages.kept((stages.read)(tables.slot_values.view(), selected.slots.view(), weights.view())?);
    diverged_unless(reads.iter().all(|x| x.is_finite()), chunk, "read", "reads")?;
    Ok(Reading { scores, selected, weights, reads })
}

/// Both halves of a step, not yet applied.
#[derive(Clone, Debug)]
pub struct Step<S> {
    /// Losses and value gradient.
    pub memorized: Memorized<S>,
    /// The touched slots after the step, in the order of `memorized.slots`: [touched, `d_v`].             [MEM-5]
    pub slot_values: Array2<S>,
    /// Marginal, entropy and sub-key gradient.
    pub addressed: Addressed<S>,
    /// The sub-keys after the step: [heads, 2, n, `d_k`/2].                                            [ADR-6]
    pub sub_keys: Array4<S>,
}

/// Computes both steps from the same tables.                                        [CHK-2, CHK-3]
///
/// Without pairs the value gradient is zero: only decay moves the slot values. Without rows so is the sub-key gradient.
///
/// # Errors   `Error::Diverged` where finite input overflows
pub fn step<S: Scalar>(
    stages: &Stages<S>,
    settings: &Settings,
    rules: &Rules,
    tables: &Tables<S>,
    chunk: &Chunk<S>,
    reading: &Reading<S>,
    counted: &Counted,
    number: usize,
) -> Result<Step<S>> {
    let memorized = memorized(stages, settings, rules, tables, chunk, reading, counted, number)?;
    let slot_values = Array2::from_shape_fn(memorized.value_gradient.dim(), |(place, d)| {
        let value = tables.slot_values[[memorized.slots[place], d]];
        (stages.value_step)(settings, value, memorized.value_gradient[[place, d]])
    });
    let slot_values = stages.kept(slot_values);
    let finite =
        slot_values.iter().all(|x| x.is_finite()) && decay_is_finite(stages, settings, tables, &memorized.slots);
    diverged_unless(finite, number, "memorize", "slot_values")?;
    let to_scores = memorized.half_score_gradient.as_ref();
    let addressed = addressed(stages, settings, rules, tables, chunk, reading, to_scores, number)?;
    let sub_keys = Zip::from(&tables.sub_keys)
        .and(&addressed.sub_key_gradient)
        .map_collect(|&key, &gradient| (stages.sub_key_step)(settings, key, gradient));
    let sub_keys = stages.kept(sub_keys);
    diverged_unless(sub_keys.iter().all(|x| x.is_finite()), number, "address", "sub_keys")?;
    Ok(Step { memorized, slot_values, addressed, sub_keys })
}

fn memorized<S: Scalar>(
    stages: &Stages<S>,
    settings: &Settings,
    rules: &Rules,
    tables: &Tables<S>,
    chunk: &Chunk<S>,
    reading: &Reading<S>,
    counted: &Counted,
    number: usize,
) -> Result<Memorized<S>> {
    let mut memorized = (stages.memorize)(settings, rules, tables, chunk, reading, counted);
    memorized.pair_losses = stages.kept(memorized.pair_losses);
    diverged_unless(memorized.pair_losses.iter().all(|x| x.is_finite()), number, "memorize", "pair_losses")?;
    memorized.value_gradient = stages.kept(memorized.value_gradient);
    diverged_unless(memorized.value_gradient.iter().all(|x| x.is_finite()), number, "memorize", "value_gradient")?;
    Ok(memorized)
}

fn addressed<S: Scalar>(
    stages: &Stages<S>,
    settings: &Settings,
    rules: &Rules,
    tables: &Tables<S>,
    chunk: &Chunk<S>,
    reading: &Reading<S>,
    memory_gradient: Option<&Array4<S>>,
    number: usize,
) -> Result<Addressed<S>> {
    let mut addressed = (stages.address)(settings, rules, tables, chunk, reading, memory_gradient);
    addressed.marginal = stages.kept(addressed.marginal);
    addressed.entropy = stages.kept(addressed.entropy);
    addressed.loss = stages.keep.map_or(addressed.loss, |keep| keep(addressed.loss));
    diverged_unless(addressed.loss.is_finite(), number, "address", "addressing_loss")?;
    addressed.sub_key_gradient = stages.kept(addressed.sub_key_gradient);
    diverged_unless(addressed.sub_key_gradient.iter().all(|x| x.is_finite()), number, "address", "sub_key_gradient")?;
    Ok(addressed)
}

/// A number of a slot that the step did not touch, after it: only decay moves it              [CHK-2]
fn decayed<S: Scalar>(stages: &Stages<S>, settings: &Settings, value: S) -> S {
    let after = (stages.value_step)(settings, value, S::ZERO);
    stages.keep.map_or(after, |keep| keep(after))
}

/// Whether decay keeps the slots finite that the step does not touch; `touched` is ascending
fn decay_is_finite<S: Scalar>(stages: &Stages<S>, settings: &Settings, tables: &Tables<S>, touched: &[usize]) -> bool {
    let finite = |value: &S| decayed(stages, settings, *value).is_finite();
    let slots = tables.slot_values.axis_iter(Axis(0)).into_par_iter().enumerate();
    settings.weight_decay == 0.0
        || slots.all(|(slot, values)| touched.binary_search(&slot).is_ok() || values.iter().all(finite))
}

/// Applies both steps together; with decay every slot moves, else only those touched.      [CHK-2]
pub fn apply<S: Scalar>(stages: &Stages<S>, settings: &Settings, tables: &mut Tables<S>, step: &Step<S>) {
    if settings.weight_decay != 0.0 {
        Zip::from(&mut tables.slot_values).par_for_each(|value| *value = decayed(stages, settings, *value));
    }
    for (row, &slot) in step.slot_values.rows().into_iter().zip(&step.memorized.slots) {
        tables.slot_values.row_mut(slot).assign(&row);
    }
    tables.sub_keys.assign(&step.sub_keys);
}

fn diverged_unless(finite: bool, chunk: usize, stage: &'static str, tensor: &'static str) -> Result<()> {
    if finite { Ok(()) } else { Err(Error::Diverged { chunk, stage, tensor }) }
}
