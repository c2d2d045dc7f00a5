//! Whole chunks in one launch.                                                                              CHK-1 ... CHK-3

use std::cell::Cell;

use super::{Driver, ToArgument, Variant, int};
use crate::backend::{Backend, Shape};
use crate::buffers::{ChunkBuffers, TableBuffers, rows_of};
use crate::constants::{Constants, MOST_SHARED, walk_bytes};
use crate::error::Result;
use crate::resident::Resident;
use crate::source::Kernels;

const BLOCK: usize = 256;

/// Whole chunks of a call's tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk {
    /// First token.
    pub(crate) from: usize,
    /// Chunks.
    pub(crate) chunks: usize,
}

/// How many blocks a walk has.
#[derive(Debug, Default)]
pub(crate) struct Walkers {
    /// The bytes of shared memory that the backend was asked about last, and its answer.
    asked: Cell<Option<(usize, usize)>>,
    /// No more than these, if any number is given.
    pub(crate) most: Cell<Option<usize>>,
}

impl<B: Backend> Driver<B> {
    /// Blocks of a walk of these sequences; none where it is not possible.
    pub(crate) fn walkers(&self, sequences: usize) -> Result<Option<usize>> {
        let Variant::Fast(tile) = self.variant else { return Ok(None) };
        if sequences == 0 || rows_of(&self.settings, sequences).is_err() {
            return Ok(None);
        }
        let shared = self.hot_bytes(sequences);
        match walk_bytes(&self.settings, &self.rules, tile) {
            Some(bytes) if bytes + shared <= MOST_SHARED => {
                let together = match self.walkers.asked.get() {
                    Some((bytes, blocks)) if bytes == shared => blocks,
                    _ => self.backend.together(self.walk_module()?, "chunk_walk", BLOCK, shared)?,
                };
                self.walkers.asked.set(Some((shared, together)));
                let blocks = self.walkers.most.get().map_or(together, |most| together.min(most));
                Ok((blocks > 0).then_some(blocks))
            }
            _ => Ok(None),
        }
    }

    fn walk_module(&self) -> Result<&B::Module> {
        if let Some(module) = self.walk.get() {
            return Ok(module);
        }
        let tile = self.variant.tile();
        let module = self.backend.load(&Constants::new(&self.settings, &self.rules, tile, Kernels::Walk)?)?;
        Ok(self.walk.get_or_init(|| module))
    }

    /// The bitmap of a hot slot's rows and heads.
    fn hot_bytes(&self, sequences: usize) -> usize {
        (self.pair_tokens() * sequences * self.settings.heads).div_ceil(32) * 4
    }

    /// Tokens of a chunk whose target is in it, as with border drop.
    pub(crate) fn pair_tokens(&self) -> usize {
        self.settings.chunk.saturating_sub(self.settings.lookahead)
    }

    /// Reads and steps chunks; nothing is queued before, nor after.
    pub(crate) fn walk(
        &self,
        t: &TableBuffers<B>,
        c: &ChunkBuffers<B>,
        tokens: &Resident<'_, B::Buffer>,
        reads: &B::Buffer,
        walk: Walk,
        blocks: usize,
    ) -> Result<()> {
        let s = &self.settings;
        let (rows, first) = (s.chunk * c.sequences, walk.from * c.sequences);
        let query = s.heads * s.key_dim;
        self.backend.zero(&t.arrivals)?;
        let arguments = arguments![
            &t.flag,
            &t.arrivals,
            &t.counters,
            &t.limits,
            (tokens.queries, first * query),
            (tokens.values, first * s.value_dim),
            tokens.gates.map_or((&c.queue.gates, 0), |gates| (gates, first)),
            tokens.mask.map_or((&c.queue.mask, 0), |mask| (mask, first)),
            i32::from(tokens.gates.is_some()),
            i32::from(tokens.mask.is_some()),
            int(walk.chunks),
            int(rows),
            int(self.pair_tokens() * c.sequences),
            int(s.lookahead * c.sequences),
            (reads, first * s.value_dim),
            &t.sub_keys,
            &t.norms,
            &t.next,
            &t.slot_values,
            &c.ranking,
            &c.half_indices,
            &c.half_values,
            &c.ranks,
            &c.merits,
            &c.slots,
            &c.weights,
            &c.pair_weights,
            &c.residuals,
            &c.pair_losses,
            &t.counts,
            &t.writers,
            &t.base,
            &c.arrival,
            &c.list,
            &c.sorted,
            &c.segment_slot,
            &c.segment_first,
            &c.segment_partial,
            &c.hot_slot,
            &c.hot_partial,
            &c.partials,
            &c.usage,
            &c.bits,
            int(c.words),
            &t.marginal,
            &t.slopes,
            &t.report
        ];
        let shape = Shape { grid: blocks, block: BLOCK, shared: self.hot_bytes(c.sequences), together: true };
        #[expect(unsafe_code, reason = "a kernel is launched")]
        // SAFETY: the arguments are those of kernels/chunk.cu, the buffers those of buffers.rs, and tokens and reads were checked
        // against the same sizes; the emulator runs the same call, and checks the arguments and every access.
        unsafe {
            self.backend.launch(self.walk_module()?, "chunk_walk", shape, arguments)
        }
    }
}
