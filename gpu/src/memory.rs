//! A memory on a device, with the calls of the interpreter's: feed, flush, resets, state.   BAT-2 ... BAT-5

use fwpkm_reference::{Error as MemoryError, Rules, Settings, State, Tables};
use ndarray::Array2;

use crate::backend::Backend;
use crate::buffers::{ChunkBuffers, TableBuffers};
use crate::driver::{CHUNKS, Driver, FLAG_NONE, Variant};
use crate::error::{Error, Result};
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
    pub(crate) steps: usize,
    halted: Option<Error>,
    /// Why it is unknown what the tables and the queue hold, if it is.
    interrupted: Option<Error>,
}

/// What is checked of tokens from the device, as in kernels/input.cu; the first has number 1.
pub(crate) const INPUTS: [&str; 3] = ["queries", "values", "gates"];

/// What is not finite, by the numbers of kernels/prelude.cuh.
const CHECKED: [(&str, &str); 10] = [
    ("score", "half_scores"),
    ("select", "pair_scores"),
    ("read", "weights"),
    ("read", "reads"),
    ("memorize", "pair_losses"),
    ("memorize", "value_gradient"),
    ("memorize", "slot_values"),
    ("address", "addressing_loss"),
    ("address", "sub_key_gradient"),
    ("address", "sub_keys"),
];

const UNSEEN: &str = "a chunk that was fed from the device failed; call settle, which says which";

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
            steps: 0,
            halted: None,
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

    /// Work on the device. After an error of the device only [`Memory::reset_tables`] is of use.
    pub(crate) fn guarded<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.known()?;
        work(self).inspect_err(|error| {
            // A misuse in the middle of work leaves as little known.
            if let Error::Device { call, reason } | Error::Misuse { call, reason } = error {
                self.interrupted = Some(Error::Interrupted { call: call.clone(), reason: reason.clone() });
            }
        })
    }

    /// Whether a chunk fed from the device failed, and no call has said so yet.
    fn failed_unseen(&self) -> Result<bool> {
        Ok(self.halted.is_none() && self.get::<i32>(&self.tables.flag, 0, 1)? != [FLAG_NONE])
    }

    pub(crate) fn known(&self) -> Result<()> {
        self.interrupted.clone().map_or(Ok(()), Err)
    }

    /// Nothing is queued, and no step is under way.
    fn start_over(&mut self) -> Result<()> {
        self.chunk = None;
        self.driver.forget_graphs();
        self.queued = 0;
        self.tables.clear(&self.driver.backend)
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

    /// Buffers for this number of sequences, kept while it stays the same
    pub(crate) fn make_room(&mut self, sequences: usize) -> Result<()> {
        if self.chunk.as_ref().is_none_or(|chunk| chunk.sequences != sequences) {
            self.chunk = None;
            self.driver.forget_graphs();
            let (settings, rules) = (self.settings(), self.rules());
            let simple = self.driver.variant == Variant::Simple;
            self.chunk = Some(ChunkBuffers::new(&self.driver.backend, settings, rules, sequences, simple)?);
        }
        Ok(())
    }

    /// Nothing is raised, and the next step has the number that the host counts.
    pub(crate) fn clear_flag(&mut self) -> Result<()> {
        self.halted = None;
        let none = FLAG_NONE;
        self.driver.backend.write(&self.tables.flag, 0, &[none, none, none, none, self.number()])
    }

    pub(crate) fn still_running(&self) -> Result<()> {
        self.halted.clone().map_or(Ok(()), Err)
    }

    /// Waits for the device; whether every number so far is finite                                        [NUM-7]
    pub(crate) fn check_flag(&mut self) -> Result<()> {
        let flag: Vec<i32> = self.get(&self.tables.flag, 0, 4)?;
        if flag[0] == FLAG_NONE {
            return Ok(());
        }
        // The flag holds the number of the step, or its last digits.
        let behind = self.number().saturating_sub(flag[0] / 16);
        let chunk = self.steps.saturating_sub(usize::try_from(behind).unwrap_or(0));
        let error = match usize::try_from(flag[0] % 16).unwrap_or(0).checked_sub(1) {
            None => self.not_finite(&flag[1..], chunk),
            Some(tensor) => {
                let (stage, tensor) = CHECKED.get(tensor).copied().unwrap_or(("numerics", "a number"));
                MemoryError::Diverged { chunk, stage, tensor }.into()
            }
        };
        self.halted = Some(error.clone());
        if chunk < self.steps {
            // Steps that were launched after it took nothing.
            self.steps = chunk;
            self.queued = 0;
        }
        Err(error)
    }

    /// The first of the numbers from the device that was not finite, tensor by tensor
    fn not_finite(&self, rows: &[i32], chunk: usize) -> Error {
        let tensors = INPUTS.iter().zip(rows);
        let first = tensors.filter(|&(_, &row)| row != FLAG_NONE).map(|(&tensor, &row)| (tensor, row)).next();
        let (tensor, row) = first.map_or(("a number", 0), |(tensor, row)| (tensor, usize::try_from(row).unwrap_or(0)));
        let sequences = self.rows(1).max(1);
        Error::NotFinite { tensor, chunk, token: row / sequences, sequence: row % sequences }
    }
}
