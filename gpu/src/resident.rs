//! Feeding from buffers of the device: nothing is copied to or from the host, and nothing waits.

use fwpkm_reference::{Error as MemoryError, StepReport};

use crate::backend::Backend;
use crate::driver::walk::Walk;
use crate::error::{Error, Result};
use crate::graphs::{Launching, Work};
use crate::memory::{Memory, Read, Stepped};

/// Rows of one launch, so that it does not hold the device for long: a fraction of a second.
const MOST_WALKED: usize = 1 << 20;

/// Tokens on the device, tokens first, then sequences: number d of token t of sequence b stands at (t · B + b) · width + d. The
/// arrays of [`Memory::feed`] are the other way round, [B, T, ..]: swap their first two axes before they are copied.
///
/// # Shapes   queries: [T, B, H·`d_k`]; values: [T, B, `d_v`]; gates: [T, B]; mask (i32, 0 or 1): [T, B]; no gaps
#[derive(Debug)]
pub struct Resident<'a, Buffer> {
    /// T
    pub tokens: usize,
    /// B
    pub sequences: usize,
    /// q
    pub queries: &'a Buffer,
    /// v
    pub values: &'a Buffer,
    /// g
    pub gates: Option<&'a Buffer>,
    /// Whether a query's pair counts.
    pub mask: Option<&'a Buffer>,
}

impl<B: Backend> Memory<B> {
    /// As [`Memory::feed`], with tokens and reads in buffers of the device, tokens first, then sequences.
    ///
    /// `reads` may be the very buffer of the values: what is read then goes over them. It must be apart from all other tokens, and
    /// from the values if it does not begin where they do. Buffers may be longer than the tokens need.
    ///
    /// Numbers that are not finite, given or computed, are found on the device before the step that they belong to: it and all
    /// later ones write nothing to the tables. [`Memory::settle`], or the next call that waits for the device, reports them; what
    /// was read since is not to be used.                                                                [NUM-7]
    ///
    /// # Shapes   tokens as in [`Resident`]; reads: [T, B, `d_v`]
    /// # Errors   `Error::Memory` for tokens that cannot follow the queued ones, and for buffers too short for them; `Error::Limit` for
    ///   too many sequences; `Error::Misuse` for buffers of another device or stream, and for reads that overlap tokens; those of
    ///   the device
    pub fn feed_resident(&mut self, tokens: &Resident<B::Buffer>, reads: &B::Buffer) -> Result<()> {
        if tokens.sequences == 0 {
            let expected = "[tokens, sequences 1 or more, ..]".to_string();
            return Err(MemoryError::Shape { tensor: "queries", expected, found: vec![tokens.tokens, 0] }.into());
        }
        self.known()?;
        self.accepts(tokens.sequences, tokens.gates.is_some(), tokens.mask.is_some())?;
        self.still_running()?;
        self.check_given(tokens, reads)?;
        if self.settings().writes && self.until_border() == 0 && tokens.tokens > 0 {
            return Err(Error::misuse("feed_resident", "a failed chunk waits; call flush or reset_queue first"));
        }
        self.make_room(tokens.sequences)?;
        let blocks = if self.can_walk_on(tokens, reads) { self.driver.walkers(tokens.sequences)? } else { None };
        self.unseen = true;
        self.guarded(|memory| {
            let mut from = 0;
            while from < tokens.tokens {
                let chunk = memory.settings().chunk;
                // A barrier counts its blocks in an integer, and a chunk has at most eight.
                let barriers = (i32::MAX as usize / blocks.unwrap_or(1).saturating_mul(8)).saturating_sub(1);
                let most = (MOST_WALKED / (chunk * tokens.sequences)).min(barriers).max(1);
                let chunks = ((tokens.tokens - from) / chunk).min(most);
                match blocks {
                    Some(blocks) if memory.queued == 0 && chunks > 0 => {
                        memory.walk(tokens, reads, Walk { from, chunks }, blocks)?;
                        from += chunks * chunk;
                    }
                    _ => {
                        let to = tokens.tokens.min(from.saturating_add(memory.until_border()));
                        memory.feed_slice(tokens, reads, from, to)?;
                        from = to;
                    }
                }
            }
            Ok(())
        })
    }

    /// Whole chunks, with nothing queued, in one launch.
    fn walk(&mut self, tokens: &Resident<B::Buffer>, reads: &B::Buffer, walk: Walk, blocks: usize) -> Result<()> {
        self.driver.walk(&self.tables, self.room()?, tokens, reads, walk, blocks)?;
        self.read = Read::Walked;
        self.stepped = Stepped::With { pair_rows: self.rows(self.driver.pair_tokens()) };
        (self.gates, self.mask) = (tokens.gates.is_some(), tokens.mask.is_some());
        self.steps = self.steps.saturating_add(walk.chunks);
        Ok(())
    }

    fn feed_slice(&mut self, tokens: &Resident<B::Buffer>, reads: &B::Buffer, from: usize, to: usize) -> Result<()> {
        let (query, value, row) = self.row_bytes(self.rows(1));
        let at = self.queued;
        let (room, backend) = (self.room()?, &self.driver.backend);
        let copy =
            |into, source, bytes: usize| backend.copy(into, at * bytes, source, from * bytes, (to - from) * bytes);
        copy(&room.queue.queries, tokens.queries, query)?;
        copy(&room.queue.values, tokens.values, value)?;
        tokens.gates.map_or(Ok(()), |gates| copy(&room.queue.gates, gates, row))?;
        tokens.mask.map_or(Ok(()), |mask| copy(&room.queue.mask, mask, row))?;
        let (first, rows, has_gates) = (self.rows(at), self.rows(to - from), tokens.gates.is_some());
        self.driver.repeat(Work::Reading { from: first, rows, has_gates }, &mut || {
            self.driver.check_input(&self.tables, room, (first, rows), has_gates)?;
            self.driver.read(&self.tables, room, first, rows)
        })?;
        backend.copy(reads, from * value, &room.reads, at * value, (to - from) * value)?;
        self.was_read(first, rows);
        if !self.settings().writes {
            return Ok(());
        }
        self.queued += to - from;
        (self.gates, self.mask) = (tokens.gates.is_some(), tokens.mask.is_some());
        if self.is_due() {
            let (step, keep, counted) = self.due((at, to - from));
            self.step_resident(step, keep, counted)?;
        }
        Ok(())
    }

    /// As [`Memory::step`], without a wait.
    fn step_resident(&mut self, tokens: usize, keep: usize, counted: Option<(usize, usize)>) -> Result<()> {
        let plan = self.planned(tokens, counted);
        let work = Work::Step { plan, from: self.queued.saturating_sub(keep), kept: keep };
        self.driver.repeat(work, &mut || {
            self.driver.step(&self.tables, self.room()?, &plan)?;
            self.move_last(keep)
        })?;
        self.was_stepped(&plan);
        self.steps = self.steps.saturating_add(1);
        self.queued = keep.min(self.queued);
        Ok(())
    }

    /// Closes the chunk early, as [`Memory::flush`], and waits for nothing.                                [STR-4]
    ///
    /// # Errors   `Error::Memory(Diverged)`, `Error::NotFinite` that were reported before and that `reset_queue` or `reset_tables` did
    ///   not follow; those of the device
    pub fn flush_resident(&mut self) -> Result<()> {
        self.known()?;
        self.still_running()?;
        let (tokens, keep) = self.closing();
        if tokens == 0 || self.driver.counts_calls() {
            return Ok(());
        }
        self.unseen = true;
        self.guarded(|memory| memory.step_resident(tokens, keep, None))
    }

    /// How [`Memory::feed_resident`] gives its work to the device from now on.
    pub fn set_launching(&mut self, launching: Launching) {
        self.driver.set_launching(launching);
    }

    /// No more blocks than these in a launch of whole chunks from now on; without a number as many as run at once. Where tools
    /// instrument kernels, fewer fit than the driver says.
    pub fn set_most_blocks(&mut self, blocks: Option<usize>) {
        self.driver.walkers.most.set(blocks);
    }

    /// Whether the device can take whole chunks of so many sequences in one launch: with border drop, the paper's rule for
    /// ties, no weight decay, no memorization gradient to the sub-keys, a tile with a `side` of at most 64 that is 16 ·
    /// `per_thread`, such as [`Tile::SMALL`](crate::Tile::SMALL), and sub-keys and chunks that fit into shared memory. The simple kernels never can.
    ///
    /// # Errors   those of the device
    pub fn can_walk(&self, sequences: usize) -> Result<bool> {
        Ok(self.driver.walkers(sequences)?.is_some())
    }

    /// Graphs recorded so far, for the sequences that are fed now.
    pub fn graphs(&self) -> usize {
        self.driver.graphs()
    }

    /// Waits for the device, and says whether every number since [`Memory::feed_resident`] was finite.
    ///
    /// # Errors   `Error::Memory(Diverged)`, `Error::NotFinite`: the tables are those before that step, the queue is empty
    pub fn settle(&mut self) -> Result<()> {
        self.guarded(Self::check_flag)
    }

    /// What is reported of the last step, [pairs, B] losses and more; waits for the device as [`Memory::settle`] does. Nothing of it
    /// is copied to the host before it is asked for, so of a call that takes several steps it is the last one's.
    ///
    /// # Errors   as [`Memory::settle`]; `Error::Misuse` before the first step with these sequences
    pub fn last_step(&mut self) -> Result<StepReport<f32>> {
        self.settle()?;
        let Stepped::With { pair_rows } = self.stepped else {
            return Err(Error::misuse("last_step", "no step was taken with these sequences; feed a chunk, or flush"));
        };
        self.report(pair_rows)
    }
}
