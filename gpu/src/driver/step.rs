//! The launches of a step.                                                                     CHK-2, CHK-3, MEM-1 ... MEM-6

use fwpkm_reference::rules::StreamCount;

use super::{Driver, StepPlan, ToArgument, Variant, int, shape};
use crate::backend::{Backend, Shape};
use crate::buffers::{ChunkBuffers, TableBuffers};
use crate::error::Result;

/// As in kernels/memorize.cu.
const CHECK: i32 = 0;
const APPLY: i32 = 1;

impl<B: Backend> Driver<B> {
    /// Both steps from the same tables, applied together; nothing is applied where the flag is raised.  [CHK-2, CHK-3]
    pub(crate) fn step(&self, t: &TableBuffers<B>, c: &ChunkBuffers<B>, plan: &StepPlan) -> Result<()> {
        if self.counts_calls() {
            // What was read then, not what is read again.
            let row = self.settings.heads * self.settings.top_k * 4;
            self.backend.copy(&c.counted, 0, &c.slots, plan.counted_from * row, plan.counted_rows * row)?;
        }
        if plan.reread {
            self.read(t, c, 0, plan.rows)?;
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
            &t.flag,
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
            Shape { grid: blocks, block: 256, shared: row_heads.div_ceil(32) * 4, together: false },
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

    fn value_step(&self, t: &TableBuffers<B>, c: &ChunkBuffers<B>, plan: &StepPlan, mode: i32) -> Result<()> {
        let (_, pairs) = self.entries(plan);
        let samples = int(plan.counted_rows);
        let (pair_rows, has_mask) = (int(plan.pair_rows), i32::from(plan.has_mask));
        if self.settings.weight_decay != 0.0 {
            let elements = self.settings.slots() * self.settings.value_dim;
            let blocks =
                Shape { grid: elements.div_ceil(256).min(self.blocks()), block: 256, shared: 0, together: false };
            self.launch("memorize_decay", blocks, arguments![&t.flag, mode, &t.writers, &t.slot_values])?;
        }
        self.launch(
            "memorize_segments",
            shape(pairs.min(self.blocks() * 4), 4, 128),
            arguments![
                &t.flag,
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
