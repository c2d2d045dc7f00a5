//! Feeding from buffers of the device: nothing is copied to or from the host, and nothing waits.

use fwpkm_reference::Error as MemoryError;

use crate::backend::Backend;
use crate::driver::walk::Walk;
use crate::error::{Error, Result};
use crate::graphs::{Launching, Work};
use crate::memory::{Memory, Read};

/// Rows of one launch, so that it does not hold the device for long: a fraction of a second.
const MOST_WALKED: usize = 1 << 20;

/// Tokens on the device, tokens first, then sequences.
///
/// # Shapes   queries: [tokens, sequences, H·`d_k`]; values: [tokens, sequences, `d_v`]; gates, mask (i32, 0 or 1): [tokens,
///   sequences]
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
    /// As [`Memory::feed`], with the reads, [tokens, sequences, `d_v`], left in a buffer of the device.
    ///
    /// Numbers that are not finite, given or computed, are found on the device before the step that they belong to: it and all
    /// later ones write nothing to the tables. [`Memory::settle`], or the next call that waits for the device, reports them; what
    /// was read since is not to be used.                                                                [NUM-7]
    ///
    /// # Errors   `Error::Memory` for tokens that cannot follow the queued ones, and for buffers too short for them; `Error::Misuse`
    ///   for buffers of another device or stream; those of the device
    pub fn feed_resident(&mut self, tokens: &Resident<B::Buffer>, reads: &B::Buffer) -> Result<()> {
        if tokens.sequences == 0 {
            let expected = "[tokens, sequences 1 or more, ..]".to_string();
            return Err(MemoryError::Shape { tensor: "queries", expected, found: vec![tokens.tokens, 0] }.into());
        }
        self.known()?;
        self.accepts(tokens.sequences, tokens.gates.is_some(), tokens.mask.is_some())?;
        self.make_room(tokens.sequences)?;
        self.still_running()?;
        self.has_room_for(tokens, reads)?;
        if self.settings().writes && self.until_border() == 0 && tokens.tokens > 0 {
            return Err(Error::misuse("feed_resident", "a failed chunk waits; call flush or reset_queue first"));
        }
        let blocks = if self.can_walk_on(tokens, reads) { self.driver.walkers(tokens.sequences)? } else { None };
        self.guarded(|memory| {
            let mut from = 0;
            while from < tokens.tokens {
                let chunk = memory.settings().chunk;
                // A barrier counts its blocks in an integer, and a chunk has at most eight.
                let barriers = i32::MAX as usize / (8 * blocks.unwrap_or(1)) - 1;
                let most = (MOST_WALKED / (chunk * tokens.sequences)).clamp(1, barriers);
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

    /// Whether a walk is asked for, and can work on these buffers: it reads tokens where they are, 16 bytes at once, while it
    /// writes what is read.
    fn can_walk_on(&self, tokens: &Resident<B::Buffer>, reads: &B::Buffer) -> bool {
        let backend = &self.driver.backend;
        let place = |buffer: &B::Buffer| {
            let from = backend.address(buffer);
            (from, from.saturating_add(backend.bytes(buffer) as u64))
        };
        let (from, to) = place(reads);
        let given = [Some(tokens.queries), Some(tokens.values), tokens.gates, tokens.mask];
        self.driver.walks()
            && from % 16 == 0
            && given
                .into_iter()
                .flatten()
                .map(place)
                .all(|(first, last)| first % 16 == 0 && (last <= from || to <= first))
    }

    /// Whole chunks, with nothing queued, in one launch.
    fn walk(&mut self, tokens: &Resident<B::Buffer>, reads: &B::Buffer, walk: Walk, blocks: usize) -> Result<()> {
        self.driver.walk(&self.tables, self.room()?, tokens, reads, walk, blocks)?;
        self.read = Read::Walked;
        (self.gates, self.mask) = (tokens.gates.is_some(), tokens.mask.is_some());
        self.steps = self.steps.saturating_add(walk.chunks);
        Ok(())
    }

    /// Whether the buffers are this device's, and as long as the tokens say.
    fn has_room_for(&self, tokens: &Resident<B::Buffer>, reads: &B::Buffer) -> Result<()> {
        let (query, value, one) = self.row_bytes();
        let buffers = [
            ("queries", Some(tokens.queries), query),
            ("values", Some(tokens.values), value),
            ("gates", tokens.gates, one),
            ("mask", tokens.mask, one),
            ("reads", Some(reads), value),
        ];
        for (tensor, buffer, row) in buffers {
            let (Some(buffer), backend) = (buffer, &self.driver.backend) else { continue };
            if !backend.owns(buffer) {
                let reason = format!(
                    "{tensor} are in a buffer of another device or stream; memory.device() allocates on this one"
                );
                return Err(Error::misuse("feed_resident", reason));
            }
            let found = backend.bytes(buffer);
            let needed = tokens.tokens.saturating_mul(row);
            if found < needed {
                let expected = format!("{needed} bytes for {} tokens", tokens.tokens);
                return Err(MemoryError::Shape { tensor, expected, found: vec![found] }.into());
            }
        }
        Ok(())
    }

    fn feed_slice(&mut self, tokens: &Resident<B::Buffer>, reads: &B::Buffer, from: usize, to: usize) -> Result<()> {
        let (query, value, row) = self.row_bytes();
        let at = self.queued;
        if at == 0 {
            self.read = Read::Now;
        }
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
        if !self.settings().writes {
            return Ok(());
        }
        self.queued += to - from;
        (self.gates, self.mask) = (tokens.gates.is_some(), tokens.mask.is_some());
        if self.is_due() {
            let (step, keep, counted) = self.due((at, to - from));
            let plan = self.planned(step, counted);
            let work = Work::Step { plan, from: self.queued.saturating_sub(keep), kept: keep };
            self.driver.repeat(work, &mut || {
                self.driver.step(&self.tables, self.room()?, &plan)?;
                self.move_last(keep)
            })?;
            self.steps += 1;
            self.queued = keep.min(self.queued);
        }
        Ok(())
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
    /// ties, no weight decay, no memorization gradient to the sub-keys, [`Tile::SMALL`](crate::Tile::SMALL), and sub-keys and
    /// chunks that fit into shared memory.
    ///
    /// # Errors   those of the device
    pub fn can_walk(&self, sequences: usize) -> Result<bool> {
        Ok(self.driver.walkers(sequences)?.is_some())
    }

    /// Graphs recorded so far, for the sequences that are fed now.
    pub fn graphs(&self) -> usize {
        self.driver.graphs()
    }

    /// Bytes of a token of all sequences: query, value, one number
    fn row_bytes(&self) -> (usize, usize, usize) {
        let (settings, one) = (self.settings(), self.rows(1) * 4);
        (one * settings.heads * settings.key_dim, one * settings.value_dim, one)
    }

    /// Waits for the device, and says whether every number since [`Memory::feed_resident`] was finite.
    ///
    /// # Errors   `Error::Memory(Diverged)`, `Error::NotFinite`: the tables are those before that step, the queue is empty
    pub fn settle(&mut self) -> Result<()> {
        self.guarded(Self::check_flag).inspect_err(|error| {
            if let Error::Memory(MemoryError::Diverged { chunk, .. }) | Error::NotFinite { chunk, .. } = error {
                self.steps = *chunk;
                self.queued = 0;
            }
        })
    }
}
