//! The device memory of one memory: tables, queue, one reading, one step. All of it is allocated before the first token.

use fwpkm_reference::rules::{Kept, StreamCount};
use fwpkm_reference::settings::Border;
use fwpkm_reference::{Rules, Settings};

use crate::backend::Backend;
use crate::error::{Error, Result};

/// Entries of a list that one block sums; as SEGMENT in kernels/prelude.cuh.
pub(crate) const SEGMENT: usize = 32;
/// Rows times heads of a chunk: a bitmap of them fits into shared memory.
pub(crate) const MOST_ROW_HEADS: usize = 360_000;

/// The tables and what belongs to them.
#[derive(Debug)]
pub(crate) struct TableBuffers<B: Backend> {
    pub(crate) sub_keys: B::Buffer,
    pub(crate) slot_values: B::Buffer,
    pub(crate) norms: B::Buffer,
    pub(crate) next: B::Buffer,
    pub(crate) counts: B::Buffer,
    pub(crate) writers: B::Buffer,
    pub(crate) base: B::Buffer,
    pub(crate) flag: B::Buffer,
    /// Blocks of a walk that came to its barriers.
    pub(crate) arrivals: B::Buffer,
    pub(crate) counters: B::Buffer,
    pub(crate) limits: B::Buffer,
    pub(crate) marginal: B::Buffer,
    pub(crate) slopes: B::Buffer,
    pub(crate) report: B::Buffer,
}

/// Tokens that await a step, tokens first, then sequences.
#[derive(Debug)]
pub(crate) struct QueueBuffers<B: Backend> {
    pub(crate) queries: B::Buffer,
    pub(crate) values: B::Buffer,
    pub(crate) gates: B::Buffer,
    pub(crate) mask: B::Buffer,
}

/// What grows with the number of sequences: queue, reading and step.
#[derive(Debug)]
pub(crate) struct ChunkBuffers<B: Backend> {
    pub(crate) sequences: usize,
    pub(crate) words: usize,
    pub(crate) queue: QueueBuffers<B>,
    /// Where the tokens that stay queued are moved to.
    pub(crate) spare: QueueBuffers<B>,
    pub(crate) ranking: B::Buffer,
    pub(crate) distances: B::Buffer,
    pub(crate) half_indices: B::Buffer,
    pub(crate) half_values: B::Buffer,
    pub(crate) ranks: B::Buffer,
    pub(crate) merits: B::Buffer,
    pub(crate) slots: B::Buffer,
    pub(crate) counted: B::Buffer,
    pub(crate) weights: B::Buffer,
    pub(crate) reads: B::Buffer,
    pub(crate) pair_weights: B::Buffer,
    pub(crate) residuals: B::Buffer,
    pub(crate) pair_losses: B::Buffer,
    pub(crate) arrival: B::Buffer,
    pub(crate) list: B::Buffer,
    pub(crate) sorted: B::Buffer,
    pub(crate) segment_slot: B::Buffer,
    pub(crate) segment_first: B::Buffer,
    pub(crate) segment_partial: B::Buffer,
    pub(crate) hot_slot: B::Buffer,
    pub(crate) hot_partial: B::Buffer,
    pub(crate) partials: B::Buffer,
    pub(crate) along: B::Buffer,
    pub(crate) half_gradient: B::Buffer,
    pub(crate) kept_count: B::Buffer,
    pub(crate) kept_index: B::Buffer,
    pub(crate) kept_value: B::Buffer,
    pub(crate) usage: B::Buffer,
    pub(crate) bits: B::Buffer,
}

/// Bytes of `numbers` numbers of 4 bytes; never none, so that every buffer has an address.
fn words(numbers: &[usize]) -> usize {
    numbers.iter().fold(4_usize, |bytes, &factor| bytes.saturating_mul(factor)).max(4)
}

impl<B: Backend> TableBuffers<B> {
    pub(crate) fn new(backend: &B, settings: &Settings) -> Result<Self> {
        let buffers = Self::allocate(backend, settings).map_err(|error| {
            error.advising(|| {
                let (slots, keys) = (settings.slots(), settings.heads * 2 * settings.sub_keys);
                let of_slots = words(&[slots, settings.value_dim]).saturating_add(words(&[5, slots]));
                let all = of_slots.saturating_add(words(&[2, keys, settings.half_dim()]));
                format!(
                    "the tables and what belongs to them take at least {all} bytes: lower sub_keys ({}), whose square is the number of \
                     slots, value_dim ({}), key_dim ({}) or heads ({})",
                    settings.sub_keys, settings.value_dim, settings.key_dim, settings.heads
                )
            })
        })?;
        buffers.clear(backend)?;
        Ok(buffers)
    }

    fn allocate(backend: &B, settings: &Settings) -> Result<Self> {
        let keys = settings.heads * 2 * settings.sub_keys;
        let slots = settings.slots();
        let new = |name, numbers: &[usize]| backend.allocate(name, words(numbers));
        Ok(Self {
            sub_keys: new("sub_keys", &[keys, settings.half_dim()])?,
            slot_values: new("slot_values", &[slots, settings.value_dim])?,
            norms: new("norms", &[keys])?,
            next: new("next", &[keys, settings.half_dim()])?,
            // A walk has two sets of counts.
            counts: new("counts", &[2, slots])?,
            writers: new("writers", &[2, slots])?,
            base: new("base", &[slots])?,
            arrivals: new("arrivals", &[1])?,
            flag: new("flag", &[5])?,
            counters: new("counters", &[2, 8])?,
            limits: new("limits", &[2, 4])?,
            marginal: new("marginal", &[2, settings.sub_keys])?,
            slopes: new("slopes", &[2, 2, settings.sub_keys, 2])?,
            report: new("report", &[3])?,
        })
    }

    /// What every step leaves at 0.
    pub(crate) fn clear(&self, backend: &B) -> Result<()> {
        [&self.counts, &self.writers, &self.counters, &self.limits]
            .into_iter()
            .try_for_each(|buffer| backend.zero(buffer))
    }
}

impl<B: Backend> QueueBuffers<B> {
    fn new(backend: &B, settings: &Settings, rows: usize) -> Result<Self> {
        let new = |name, numbers: &[usize]| backend.allocate(name, words(numbers));
        Ok(Self {
            queries: new("queries", &[rows, settings.heads, settings.key_dim])?,
            values: new("values", &[rows, settings.value_dim])?,
            gates: new("gates", &[rows])?,
            mask: new("mask", &[rows])?,
        })
    }
}

impl<B: Backend> ChunkBuffers<B> {
    /// Buffers for `sequences` sequences, as many as [`rows_of`] allows; `simple`: the simple kernels run, which keep all distances.
    pub(crate) fn new(backend: &B, settings: &Settings, rules: &Rules, sequences: usize, simple: bool) -> Result<Self> {
        Self::allocate(backend, settings, rules, sequences, simple).map_err(|error| {
            error.advising(|| {
                format!(
                    "use fewer sequences ({sequences}), a smaller chunk ({}) or a smaller lookahead ({})",
                    settings.chunk, settings.lookahead
                )
            })
        })
    }

    fn allocate(backend: &B, settings: &Settings, rules: &Rules, sequences: usize, simple: bool) -> Result<Self> {
        let rows = rows_of(settings, sequences)?;
        let row_heads = rows * settings.heads;
        let entries = row_heads * settings.top_k;
        let (n, k, units) = (settings.sub_keys, settings.top_k, row_heads * 2);
        let ties = rules.kept == Kept::Ties;
        let moved = if settings.border == Border::Carry { settings.lookahead * sequences } else { 0 };
        let steps = usize::from(settings.writes);
        let kept = if ties { steps * units * n } else { 0 };
        let counted = if rules.stream_count == StreamCount::Call { entries } else { 0 };
        let to_scores = usize::from(settings.memory_gradient_to_sub_keys);
        let bitmap = rows.div_ceil(32);
        let new = |name, numbers: &[usize]| backend.allocate(name, words(numbers));
        let bits = new("bits", &[steps, settings.heads, 2, n, bitmap])?;
        backend.zero(&bits)?;
        Ok(Self {
            sequences,
            words: bitmap,
            queue: QueueBuffers::new(backend, settings, rows)?,
            spare: QueueBuffers::new(backend, settings, moved)?,
            ranking: new("ranking", &[usize::from(!simple), units, n])?,
            distances: new("distances", &[usize::from(simple || ties), units, n])?,
            half_indices: new("half_indices", &[units, k])?,
            half_values: new("half_values", &[units, k])?,
            ranks: new("ranks", &[entries])?,
            merits: new("merits", &[entries, 2])?,
            slots: new("slots", &[2, entries])?,
            counted: new("counted", &[counted])?,
            weights: new("weights", &[entries])?,
            reads: new("reads", &[rows, settings.value_dim])?,
            pair_weights: new("pair_weights", &[rows])?,
            residuals: new("residuals", &[steps, rows, settings.value_dim])?,
            pair_losses: new("pair_losses", &[rows])?,
            arrival: new("arrival", &[steps, entries])?,
            list: new("list", &[steps, entries])?,
            sorted: new("sorted", &[steps, entries])?,
            segment_slot: new("segment_slot", &[steps, entries])?,
            segment_first: new("segment_first", &[steps, entries])?,
            segment_partial: new("segment_partial", &[steps, entries])?,
            hot_slot: new("hot_slot", &[steps, entries / SEGMENT + 1])?,
            hot_partial: new("hot_partial", &[steps, entries / SEGMENT + 1])?,
            partials: new("partials", &[steps, 2 * entries / SEGMENT + 1, settings.value_dim])?,
            along: new("along", &[to_scores, entries, 2])?,
            half_gradient: new("half_gradient", &[to_scores, units, k, 2])?,
            kept_count: new("kept_count", &[usize::from(ties), units])?,
            kept_index: new("kept_index", &[kept])?,
            kept_value: new("kept_value", &[kept])?,
            usage: new("usage", &[steps, units, if ties { n } else { k }])?,
            bits,
        })
    }
}

/// Most rows that are queued at a time.
///
/// # Errors   `Error::Limit` where those are too many
pub(crate) fn rows_of(settings: &Settings, sequences: usize) -> Result<usize> {
    let rows = capacity(settings).saturating_mul(sequences);
    let row_heads = rows.saturating_mul(settings.heads);
    if row_heads <= MOST_ROW_HEADS {
        return Ok(rows);
    }
    let (given, most) = (row_heads as u128, MOST_ROW_HEADS as u128);
    Err(Error::Limit { what: "(chunk + lookahead)·sequences·heads", given, most })
}

/// Most tokens of a sequence that are queued at a time.
pub(crate) fn capacity(settings: &Settings) -> usize {
    match settings.border {
        Border::Drop => settings.chunk,
        Border::Carry => settings.chunk.saturating_add(settings.lookahead),
    }
}
