//! Stage `chunk`: a reading and a step, each with the tables as they are.            CHK-1 … CHK-3
//!
//! ```text
//! reading   score, select, weigh, read
//! step      value step and sub-key step from the same tables and the same reading, applied together
//! ```

use ndarray::{Array2, Array3, Array4, ArrayView3, Zip};

use crate::address::{Addressed, address};
use crate::error::{Error, Result};
use crate::memorize::{Memorized, memorize};
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
fn split_halves<S: Scalar>(settings: &Settings, queries: ArrayView3<S>) -> Array4<S> {
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
    /// queries × sub-keys → half scores
    pub score: fn(&Settings, ndarray::ArrayView4<S>, ndarray::ArrayView4<S>) -> Array4<S>,
    /// half scores → slots
    pub select: fn(&Settings, ndarray::ArrayView4<S>) -> Selected<S>,
    /// pair scores → weights
    pub weigh: fn(&Settings, ArrayView3<S>) -> Array3<S>,
    /// slots, weights → reads
    pub read: fn(ndarray::ArrayView2<S>, ArrayView3<usize>, ArrayView3<S>) -> Result<Array2<S>>,
    /// reading, targets → value step
    pub memorize: fn(&Settings, &Rules, &Tables<S>, &Chunk<S>, &Reading<S>, &Counted) -> Memorized<S>,
    /// reading → sub-key step
    pub address: fn(&Settings, &Rules, &Tables<S>, &Chunk<S>, &Reading<S>, Option<&Array4<S>>) -> Addressed<S>,
}

impl<S: Scalar> Stages<S> {
    /// The stages of this crate.
    pub fn specification() -> Self {
        Self { score: half_scores, select, weigh, read: read_slots, memorize, address }
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
    let scores = (stages.score)(settings, tables.sub_keys.view(), halves.view());
    diverged_unless(scores.iter().all(|x| x.is_finite()), chunk, "score", "half_scores")?;
    let selected = (stages.select)(settings, scores.view());
    diverged_unless(selected.pair_scores.iter().all(|x| x.is_finite()), chunk, "select", "pair_scores")?;
    let weights = (stages.weigh)(settings, selected.pair_scores.view());
    diverged_unless(weights.iter().all(|x| x.is_finite()), chunk, "read", "weights")?;
    let reads = (stages.read)(tables.slot_values.view(), selected.slots.view(), weights.view())?;
    diverged_unless(reads.iter().all(|x| x.is_finite()), chunk, "read", "reads")?;
    Ok(Reading { scores, selected, weights, reads })
}

/// Both halves of a step, not yet applied.
#[derive(Clone, Debug)]
pub struct Step<S> {
    /// The value step.
    pub memorized: Memorized<S>,
    /// The sub-key step.
    pub addressed: Addressed<S>,
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
    let memorized = (stages.memorize)(settings, rules, tables, chunk, reading, counted);
    diverged_unless(memorized.pair_losses.iter().all(|x| x.is_finite()), number, "memorize", "pair_losses")?;
    diverged_unless(memorized.value_gradient.iter().all(|x| x.is_finite()), number, "memorize", "value_gradient")?;
    diverged_unless(memorized.value_rows.iter().all(|x| x.is_finite()), number, "memorize", "slot_values")?;
    let addressed = (stages.address)(settings, rules, tables, chunk, reading, memorized.half_score_gradient.as_ref());
    diverged_unless(addressed.loss.is_finite(), number, "address", "addressing_loss")?;
    diverged_unless(addressed.sub_key_gradient.iter().all(|x| x.is_finite()), number, "address", "sub_key_gradient")?;
    diverged_unless(addressed.sub_keys.iter().all(|x| x.is_finite()), number, "address", "sub_keys")?;
    Ok(Step { memorized, addressed })
}

/// Applies both steps together; with decay every slot moves, else only those touched.      [CHK-2]
pub fn apply<S: Scalar>(settings: &Settings, tables: &mut Tables<S>, step: &Step<S>) {
    if settings.weight_decay != 0.0 {
        Zip::from(&mut tables.slot_values).par_for_each(|value| *value = descend(settings, *value, S::ZERO));
    }
    for (row, &slot) in step.memorized.value_rows.rows().into_iter().zip(&step.memorized.slots) {
        tables.slot_values.row_mut(slot).assign(&row);
    }
    tables.sub_keys.assign(&step.addressed.sub_keys);
}

fn diverged_unless(finite: bool, chunk: usize, stage: &'static str, tensor: &'static str) -> Result<()> {
    if finite { Ok(()) } else { Err(Error::Diverged { chunk, stage, tensor }) }
}
