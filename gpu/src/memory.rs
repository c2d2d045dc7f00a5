//! A memory on a device, with the calls of the interpreter's: feed, flush, resets, state.   BAT-2 ... BAT-5

use fwpkm_reference::{Rules, Settings, State, Tables};
use ndarray::Array2;

use crate::backend::Backend;
use crate::buffers::{ChunkBuffers, TableBuffers, rows_of};
use crate::driver::{CHUNKS, Driver, Variant};
use crate::error::{Error, Result};
use crate::failures::UNSEEN;
use crate::transfer::{host, shaped4};

/// What the buffers hold of the last reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// The queued tokens were read with other tables.
    Before,
    /// The readings of the queued tokens are of the tables as they are.
    Now,
    /// Whole chunks were read in one launch: parts of their readings. Nothing is queued.
    Walked,
}

/// What the buffers hold of the last step that was launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stepped {
    /// There was none.
    Never,
    /// Its marginal; the losses went with the buffers of its sequences.
    WithoutLosses,
    /// All of it, with losses of so many rows.
    With { pair_rows: usize },
}

/// A bare memory whose tables, queue and work stay on a device.
#[derive(Debug)]
pub struct Memory<B: Backend> {
    // Dropped in this order: buffers wait for the work that uses them, which needs the driver's modules.
    pub(crate) tables: TableBuffers<B>,
    chunk: Option<ChunkBuffers<B>>,
    pub(crate) driver: Driver<B>,
    pub(crate) queued: usize,
    pub(crate) gates: bool,
    pub(crate) mask: bool,
    pub(crate) read: Read,
    /// Rows, from the first of the queue, whose readings the buffers hold.
    pub(crate) readings: usize,
    pub(crate) stepped: Stepped,
    pub(crate) steps: usize,
    /// What was not finite, once a call has said so.
    pub(crate) halted: Option<Error>,
    /// Whether tokens were fed from the device since the flag was last seen down.
    pub(crate) unseen: bool,
    /// Why it is unknown what the tables and the queue hold, if it is.
    pub(crate) interrupted: Option<Error>,
}

impl<B: Backend> Memory<B> {
    /// A memory with an empty queue.
    ///
    /// # Errors   as the interpreter's; `Error::Limit` and those of the device
    pub fn new(backend: B, settings: Settings, rules: Rules, tables: Tables<f32>, variant: Variant) -> Result<Self> {
        Self::from_state(backend, State { settings, rules, tables, queued: None, steps: 0 }, variant)
    }

    /// A memory that goes on from a state, of this implementation or of the interpreter.               [BAT-5]
    ///
    /// # Errors   as [`Memory::new`]
    pub fn from_state(backend: B, state: State<f32>, variant: Variant) -> Result<Self> {
        // The interpreter checks everything that can be wrong with a state.
        let State { settings, rules, tables: from, queued, steps } =
            fwpkm_reference::Memory::from_state(state)?.into_state();
        let driver = Driver::new(backend, &settings, &rules, variant)?;
        let tables = TableBuffers::new(&driver.backend, &settings)?;
        let mut memory = Self {
            tables,
            chunk: None,
            driver,
            queued: 0,
            gates: false,
            mask: false,
            read: Read::Before,
            readings: 0,
            stepped: Stepped::Never,
            steps: 0,
            halted: None,
            unseen: false,
            interrupted: None,
        };
        memory.put_tables(&from)?;
        memory.steps = steps;
        memory.clear_flag()?;
        if let Some(queued) = queued {
            memory.make_room(queued.queries.dim().1)?;
            memory.put_rows(0, &queued)?;
            memory.queued = queued.queries.dim().0;
            (memory.gates, memory.mask) = (queued.gates.is_some(), queued.mask.is_some());
        }
        Ok(memory)
    }

    /// All there is to the memory, copied to the host; after `Error::Diverged` as after `reset_queue`.   [BAT-5]
    pub fn state(&self) -> Result<State<f32>> {
        self.known()?;
        if self.failed_unseen()? {
            return Err(Error::misuse("state", UNSEEN));
        }
        let settings = self.settings().clone();
        let queued = if self.queued == 0 || self.halted.is_some() { None } else { Some(self.queue()?) };
        Ok(State { settings, rules: self.rules().clone(), tables: self.tables()?, queued, steps: self.steps })
    }

    /// The device, to allocate buffers for [`Memory::feed_resident`] and to write and read them, in order with its work.
    pub fn device(&self) -> &B {
        &self.driver.backend
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.driver.settings
    }

    /// The rules.
    pub fn rules(&self) -> &Rules {
        &self.driver.rules
    }

    /// Steps taken since the tables were set.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Tokens waiting in the queue.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// The tables as they are now, copied to the host.
    ///
    /// # Errors   `Error::Interrupted` after an error of the device; those of the device
    pub fn tables(&self) -> Result<Tables<f32>> {
        self.known()?;
        let s = self.settings();
        let (heads, n, half) = (s.heads, s.sub_keys, s.half_dim());
        let sub_keys = self.get(&self.tables.sub_keys, 0, heads * 2 * n * half)?;
        let slot_values = self.get(&self.tables.slot_values, 0, s.slots() * s.value_dim)?;
        Ok(Tables {
            sub_keys: shaped4((heads, 2, n, half), sub_keys)?,
            slot_values: Array2::from_shape_vec((s.slots(), s.value_dim), slot_values).map_err(host)?,
        })
    }

    /// Begins a new text: forgets the queued tokens, keeps the tables.                                  [BAT-2]
    ///
    /// # Errors   `Error::Interrupted` after an error of the device; those of the device
    pub fn reset_queue(&mut self) -> Result<()> {
        self.known()?;
        // What failed before counts as not taken.
        match self.guarded(Self::check_flag) {
            Err(error @ (Error::Device { .. } | Error::Misuse { .. })) => return Err(error),
            _ => self.queued = 0,
        }
        self.clear_flag()
    }

    /// Replaces the tables and keeps the queue, whose counting goes on; after an error of the device the queue is empty.  [BAT-2]
    ///
    /// # Errors   as [`Memory::new`]; `Error::Misuse` where tokens fed from the device failed and nobody was told; for tables that
    ///   are refused the memory is unchanged
    pub fn reset_tables(&mut self, tables: &Tables<f32>) -> Result<()> {
        tables.check(self.settings())?;
        if self.interrupted.is_none() && self.guarded(|memory| memory.failed_unseen())? {
            return Err(Error::misuse("reset_tables", UNSEEN));
        }
        let interrupted = self.interrupted.take();
        self.guarded(|memory| {
            if interrupted.is_some() {
                memory.start_over()?;
            }
            memory.put_tables(tables)?;
            memory.steps = 0;
            memory.read = Read::Before;
            memory.clear_flag()
        })
    }

    /// Nothing is queued, and no step is under way.
    fn start_over(&mut self) -> Result<()> {
        self.forget_chunk();
        self.queued = 0;
        self.stepped = Stepped::Never;
        self.tables.clear(&self.driver.backend)
    }

    /// First of all, so that there is room for other buffers.
    fn forget_chunk(&mut self) {
        self.chunk = None;
        self.readings = 0;
        if self.stepped != Stepped::Never {
            self.stepped = Stepped::WithoutLosses;
        }
        self.driver.forget_graphs();
    }

    /// Rows of the queue were read with the tables as they are, from the given one on.
    pub(crate) fn was_read(&mut self, from: usize, rows: usize) {
        if from == 0 {
            (self.read, self.readings) = (Read::Now, rows);
        } else if from <= self.readings {
            self.readings = self.readings.max(from + rows);
        }
    }

    pub(crate) fn number(&self) -> i32 {
        i32::try_from(self.steps % CHUNKS).unwrap_or(0)
    }

    /// Rows of some tokens
    pub(crate) fn rows(&self, tokens: usize) -> usize {
        tokens * self.chunk.as_ref().map_or(0, |chunk| chunk.sequences)
    }

    pub(crate) fn room(&self) -> Result<&ChunkBuffers<B>> {
        let missing = || Error::misuse("last_reading", "no tokens were fed yet; feed some first");
        self.chunk.as_ref().ok_or_else(missing)
    }

    /// Buffers for this number of sequences, kept while it stays the same, and where there cannot be others
    pub(crate) fn make_room(&mut self, sequences: usize) -> Result<()> {
        if self.chunk.as_ref().is_none_or(|chunk| chunk.sequences != sequences) {
            rows_of(self.settings(), sequences)?;
            self.forget_chunk();
            let (settings, rules) = (self.settings(), self.rules());
            let simple = self.driver.variant == Variant::Simple;
            self.chunk = Some(ChunkBuffers::new(&self.driver.backend, settings, rules, sequences, simple)?);
        }
        Ok(())
    }
}
