//! The order of the launches: a reading, and a step. Nothing here waits for the device.            CHK-1 ... CHK-3

use fwpkm_reference::rules::{Kept, StreamCount};
use fwpkm_reference::{Rules, Settings};

use crate::backend::{Argument, Backend, Shape};
use crate::buffers::{ChunkBuffers, TableBuffers};
use crate::constants::{Constants, Tile};
use crate::error::Result;

/// Which kernels run. Both give the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// One thread per row, slot or number; for tests.
    Simple,
    /// Warps and tiles.
    Fast(Tile),
}

impl Variant {
    fn tile(self) -> Tile {
        match self {
            Self::Simple => Tile::SMALL,
            Self::Fast(tile) => tile,
        }
    }
}

/// As in kernels/memorize.cu.
const CHECK: i32 = 0;
const APPLY: i32 = 1;
/// As in kernels/prelude.cuh.
pub(crate) const FLAG_NONE: i32 = i32::MAX;
/// Chunk numbers that fit beside the tensor in a flag.
pub(crate) const CHUNKS: usize = 1 << 26;

/// A step to be taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StepPlan {
    /// Rows of the chunk, from the first of the queue.
    pub(crate) rows: usize,
    /// Rows of those whose target is present.
    pub(crate) pair_rows: usize,
    /// Rows whose slots are counted, in buffer `counted` where they are not the chunk's own.
    pub(crate) counted_rows: usize,
    /// Whether the chunk is read again first.
    pub(crate) reread: bool,
    pub(crate) has_gates: bool,
    pub(crate) has_mask: bool,
    /// Number of the step.
    pub(crate) chunk: i32,
}

/// Compiled kernels with the settings they were compiled for.
#[derive(Debug)]
pub(crate) struct Driver<B: Backend> {
    pub(crate) backend: B,
    pub(crate) settings: Settings,
    pub(crate) rules: Rules,
    pub(crate) variant: Variant,
    module: B::Module,
}

/// Arguments in order.
macro_rules! arguments {
    ($($argument:expr),* $(,)?) => { &[$(ToArgument::to_argument($argument)),*] };
}

trait ToArgument<'a, Buffer> {
    fn to_argument(self) -> Argument<'a, Buffer>;
}
impl<'a, Buffer> ToArgument<'a, Buffer> for &'a Buffer {
    fn to_argument(self) -> Argument<'a, Buffer> {
        Argument::Buffer(self, 0)
    }
}
impl<'a, Buffer> ToArgument<'a, Buffer> for (&'a Buffer, usize) {
    /// A buffer, from the given 4-byte number on.
    fn to_argument(self) -> Argument<'a, Buffer> {
        Argument::Buffer(self.0, self.1 * 4)
    }
}
impl<'a, Buffer> ToArgument<'a, Buffer> for i32 {
    fn to_argument(self) -> Argument<'a, Buffer> {
        Argument::Integer(self)
    }
}

fn shape(units: usize, per_block: usize, block: usize) -> Shape {
    Shape { grid: units.div_ceil(per_block), block, shared: 0 }
}

/// Shapes were checked against limits far below 2^31.
fn int(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

impl<B: Backend> Driver<B> {
    pub(crate) fn new(backend: B, settings: &Settings, rules: &Rules, variant: Variant) -> Result<Self> {
        let module = backend.load(&Constants::new(settings, rules, variant.tile())?)?;
        Ok(Self { backend, settings: settings.clone(), rules: rules.clone(), variant, module })
    }

    fn blocks(&self) -> usize {
        self.variant.tile().blocks
    }

    fn launch(&self, kernel: &'static str, shape: Shape, arguments: &[Argument<B::Buffer>]) -> Result<()> {
        if shape.grid == 0 { Ok(()) } else { self.backend.launch(&self.module, kernel, shape, arguments) }
    }

    /// Norms of the sub-keys, after the tables were written from outside.
    pub(crate) fn prepare(&self, t: &TableBuffers<B>) -> Result<()> {
        let keys = self.settings.heads * 2 * self.settings.sub_keys;
        self.launch("score_norms", shape(keys, 8, 256), arguments![&t.sub_keys, &t.norms])
    }

    /// Reads `rows` rows of the queue, from row `from` on, with the tables as they are.               [CHK-1]
    pub(crate) fn read(
        &self,
        t: &TableBuffers<B>,
        c: &ChunkBuffers<B>,
        from: usize,
        rows: usize,
        chunk: i32,
    ) -> Result<()> {
        let s = &self.settings;
        let (units, entries) = (s.heads * 2, s.heads * s.top_k);
        let queries = (&c.queue.queries, from * s.heads * s.key_dim);
        let half_indices = (&c.half_indices, from * units * s.top_k);
        let half_values = (&c.half_values, from * units * s.top_k);
        let (ranks, slots) = ((&c.ranks, from * entries), (&c.slots, from * entries));
        let (merits, weights) = ((&c.merits, from * entries * 2), (&c.weights, from * entries));
        let reads = (&c.reads, from * s.value_dim);
        match self.variant {
            Variant::Simple => {
                let distances = (&c.distances, from * units * s.sub_keys);
                self.score_all(t, c, from, rows, chunk)?;
                self.launch(
                    "select_each",
                    shape(rows * s.heads, 64, 64),
                    arguments![&t.flag, chunk, distances, half_indices, half_values, ranks, merits, slots, int(rows)],
                )?;
                let arguments =
                    arguments![&t.flag, chunk, merits, slots, &t.slot_values, weights, reads, &t.limits, int(rows)];
                self.launch("read_each", shape(rows, 64, 64), arguments)
            }
            Variant::Fast(tile) => {
                let ranking = (&c.ranking, from * units * s.sub_keys);
                let tiles = rows.div_ceil(tile.side) * s.sub_keys.div_ceil(tile.side) * units;
                self.launch(
                    "score_rank",
                    shape(tiles, 1, (tile.side / tile.per_thread).pow(2)),
                    arguments![queries, &t.sub_keys, &t.norms, ranking, int(rows)],
                )?;
                self.launch(
                    "select_best",
                    shape(rows * s.heads, 8, 256),
                    arguments![
                        &t.flag,
                        chunk,
                        queries,
                        &t.sub_keys,
                        &t.norms,
                        ranking,
                        half_indices,
                        half_values,
                        ranks,
                        merits,
                        slots,
                        int(rows)
                    ],
                )?;
                let arguments = arguments![&t.flag, chunk, merits, slots, &t.slot_values, weights, reads, &t.limits];
                self.launch("read_slots", shape(rows, 1, 128), arguments)
            }
        }
    }

    fn score_all(&self, t: &TableBuffers<B>, c: &ChunkBuffers<B>, from: usize, rows: usize, chunk: i32) -> Result<()> {
        let s = &self.settings;
        let queries = (&c.queue.queries, from * s.heads * s.key_dim);
        let distances = (&c.distances, from * s.heads * 2 * s.sub_keys);
        let threads = shape(rows * s.heads * 2 * s.sub_keys, 128, 128);
        self.launch("score_all", threads, arguments![&t.flag, chunk, queries, &t.sub_keys, distances, int(rows)])
    }

    /// Both steps from the same tables, applied together; nothing is applied where the flag is raised.  [CHK-2, CHK-3]
    pub(crate) fn step(&self, t: &TableBuffers<B>, c: &ChunkBuffers<B>, plan: &StepPlan) -> Result<()> {
        if plan.reread {
            self.read(t, c, 0, plan.rows, plan.chunk)?;
        }
        self.residuals(t, c, plan)?;
        let fast = self.variant != Variant::Simple;
        if fast {
            self.lists(t, c, plan)?;
        }
        if self.settings.memory_gradient_to_sub_keys {
            self.to_scores(t, c, plan)?;
        }
        self.address(t, c, plan)?;
        for mode in [CHECK, APPLY] {
            if fast { self.value_step(t, c, plan, mode)? } else { self.value_step_each(t, c, plan, mode)? }
        }
        let keys = self.settings.heads * 2 * self.settings.sub_keys;
        self.launch("address_apply", shape(keys, 8, 256), arguments![&t.flag, &t.next, &t.sub_keys, &t.norms])?;
        if !fast {
            self.backend.zero(&c.bits)?;
        }
        let (counted, pairs) = self.entries(plan);
        let threads = shape(counted.max(pairs).max(1), 256, 256);
        let arguments = arguments![
            self.counted(c),
            int(counted),
            &c.slots,
            int(pairs),
            &t.counts,
            &t.writers,
            &t.counters,
            &t.limits
        ];
        self.launch("memorize_clear", threads, arguments)
    }

    /// Entries that are counted, and those of pairs
    fn entries(&self, plan: &StepPlan) -> (usize, usize) {
        let per_row = self.settings.heads * self.settings.top_k;
        (plan.counted_rows * per_row, plan.pair_rows * per_row)
    }

    fn counted<'a>(&self, c: &'a ChunkBuffers<B>) -> &'a B::Buffer {
        if self.counts_calls() { &c.counted } else { &c.slots }
    }

    pub(crate) fn counts_calls(&self) -> bool {
        self.settings.border == fwpkm_reference::settings::Border::Carry && self.rules.stream_count == StreamCount::Call
    }

    fn residuals(&self, t: &TableBuffers<B>, c: &ChunkBuffers<B>, plan: &StepPlan) -> Result<()> {
        let (kernel, per_block, block) = match self.variant {
            Variant::Simple => ("memorize_residual_each", 64, 64),
            Variant::Fast(_) => ("memorize_residual", 8, 256),
        };
        let ahead = self.settings.lookahead * c.sequences;
        self.launch(
            kernel,
            shape(plan.pair_rows, per_block, block),
            arguments![
                &t.flag,
                plan.chunk,
                &c.reads,
                &c.queue.values,
                &c.queue.gates,
                &c.queue.mask,
                i32::from(plan.has_gates),
                i32::from(plan.has_mask),
                int(ahead),
                &c.pair_weights,
                &c.residuals,
                &c.pair_losses,
                &t.counters,
                &t.limits,
                int(plan.pair_rows)
            ],
        )
    }

    /// Counts the reads and sorts the writes by slot
    fn lists(&self, t: &TableBuffers<B>, c: &ChunkBuffers<B>, plan: &StepPlan) -> Result<()> {
        let (counted, pairs) = self.entries(plan);
        self.launch(
            "memorize_count",
            shape(counted.max(pairs), 256, 256),
            arguments![
                self.counted(c),
                int(counted),
                &c.slots,
                &c.pair_weights,
                int(pairs),
                &t.counts,
                &t.writers,
                &c.arrival,
                &t.counters
            ],
        )?;
        let threads = shape(pairs, 256, 256);
        self.launch(
            "memorize_lists",
            threads,
            arguments![
                &c.slots,
                &c.arrival,
                int(pairs),
                &t.counts,
                &t.writers,
                &t.base,
                &c.segment_slot,
                &c.segment_first,
                &c.segment_partial,
                &c.hot_slot,
                &c.hot_partial,
                &t.counters
            ],
        )?;
        self.launch("memorize_place", threads, arguments![&c.slots, &c.arrival, int(pairs), &t.base, &c.list])?;
        let row_heads = plan.pair_rows * self.settings.heads;
        let blocks = (pairs / crate::buffers::SEGMENT).min(self.blocks());
        self.launch(
            "memorize_sort_hot",
            Shape { grid: blocks, block: 256, shared: row_heads.div_ceil(32) * 4 },
            arguments![&c.hot_slot, &t.writers, &t.base, &c.list, &c.sorted, &t.counters, int(row_heads)],
        )
    }

    fn to_scores(&self, t: &TableBuffers<B>, c: &ChunkBuffers<B>, plan: &StepPlan) -> Result<()> {
        self.launch(
            "memorize_to_scores",
            shape(plan.rows, 8, 256),
            arguments![
                &c.residuals,
                &t.slot_values,
                &c.slots,
                &c.ranks,
                &c.merits,
                &c.weights,
                &c.along,
                &c.half_gradient,
                int(plan.pair_rows),
                int(plan.rows)
            ],
        )
    }

    fn address(&self, t: &TableBuffers<B>, c: &ChunkBuffers<B>, plan: &StepPlan) -> Result<()> {
        let s = &self.settings;
        let (n, rows, words) = (s.sub_keys, int(plan.rows), int(c.words));
        let units = plan.rows * s.heads * 2;
        let threads = shape(units, 128, 128);
        let ties = self.rules.kept == Kept::Ties;
        if ties {
            if self.variant != Variant::Simple {
                self.score_all(t, c, 0, plan.rows, plan.chunk)?;
            }
            let arguments =
                arguments![&c.distances, &c.half_values, &c.kept_count, &c.kept_index, &c.kept_value, int(units)];
            self.launch("address_ties", threads, arguments)?;
        }
        let (kept_index, kept_value) =
            if ties { (&c.kept_index, &c.kept_value) } else { (&c.half_indices, &c.half_values) };
        let kept = &c.kept_count;
        let usage = arguments![kept, kept_index, kept_value, &c.usage, &c.bits, words, int(units)];
        self.launch("address_usage", threads, usage)?;
        if self.variant == Variant::Simple {
            let marginal = arguments![kept, kept_index, &c.usage, &t.marginal, &t.slopes, rows];
            self.launch("address_marginal_each", shape(2 * n, 64, 64), marginal)?;
            let entropy = arguments![&t.flag, plan.chunk, &t.marginal, &t.report];
            self.launch("address_entropy_alone", shape(1, 1, 1), entropy)?;
        } else {
            let marginal = arguments![kept, kept_index, &c.usage, &c.bits, words, &t.marginal, &t.slopes, rows];
            self.launch("address_marginal", shape(2 * n, 8, 256), marginal)?;
            let entropy = arguments![&t.flag, plan.chunk, &t.marginal, &t.report];
            self.launch("address_entropy", shape(1, 1, 64), entropy)?;
        }
        let slopes = arguments![
            kept,
            kept_index,
            kept_value,
            &t.slopes,
            &c.half_indices,
            &c.half_gradient,
            &c.usage,
            rows,
            int(units)
        ];
        self.launch("address_slopes", threads, slopes)?;
        let queries = &c.queue.queries;
        if self.variant == Variant::Simple {
            let numbers = s.heads * 2 * n * s.half_dim();
            let arguments =
                arguments![&t.flag, plan.chunk, kept, kept_index, &c.usage, queries, &t.sub_keys, &t.next, rows];
            self.launch("address_gradient_each", shape(numbers, 128, 128), arguments)
        } else {
            let arguments = arguments![
                &t.flag,
                plan.chunk,
                kept,
                kept_index,
                &c.usage,
                &c.bits,
                words,
                queries,
                &t.sub_keys,
                &t.next
            ];
            self.launch("address_gradient", shape(s.heads * 2 * n, 1, 256), arguments)
        }
    }

    fn value_step(&self, t: &TableBuffers<B>, c: &ChunkBuffers<B>, plan: &StepPlan, mode: i32) -> Result<()> {
        let (_, pairs) = self.entries(plan);
        let samples = int(plan.counted_rows);
        let (pair_rows, has_mask) = (int(plan.pair_rows), i32::from(plan.has_mask));
        if self.settings.weight_decay != 0.0 {
            let elements = self.settings.slots() * self.settings.value_dim;
            let blocks = Shape { grid: elements.div_ceil(256).min(self.blocks()), block: 256, shared: 0 };
            self.launch("memorize_decay", blocks, arguments![&t.flag, plan.chunk, mode, &t.writers, &t.slot_values])?;
        }
        self.launch(
            "memorize_segments",
            shape(pairs.min(self.blocks()), 1, 128),
            arguments![
                &t.flag,
                plan.chunk,
                mode,
                &c.segment_slot,
                &c.segment_first,
                &c.segment_partial,
                &t.counts,
                &t.writers,
                &t.base,
                &c.list,
                &c.sorted,
                &c.weights,
                &c.residuals,
                &c.partials,
                &t.slot_values,
                &t.counters,
                &t.limits,
                samples,
                pair_rows,
                has_mask
            ],
        )?;
        self.launch(
            "memorize_hot",
            shape((pairs / crate::buffers::SEGMENT).min(self.blocks()), 1, 128),
            arguments![
                &t.flag,
                plan.chunk,
                mode,
                &c.hot_slot,
                &c.hot_partial,
                &t.counts,
                &t.writers,
                &c.partials,
                &t.slot_values,
                &t.counters,
                &t.limits,
                samples,
                pair_rows,
                has_mask
            ],
        )
    }

    fn value_step_each(&self, t: &TableBuffers<B>, c: &ChunkBuffers<B>, plan: &StepPlan, mode: i32) -> Result<()> {
        let (counted, _) = self.entries(plan);
        self.launch(
            "memorize_each",
            shape(self.settings.slots(), 64, 64),
            arguments![
                &t.flag,
                plan.chunk,
                mode,
                self.counted(c),
                int(counted),
                &c.slots,
                &c.pair_weights,
                &c.weights,
                &c.residuals,
                &t.slot_values,
                &t.counters,
                int(plan.counted_rows),
                int(plan.pair_rows),
                i32::from(plan.has_mask)
            ],
        )
    }
}
