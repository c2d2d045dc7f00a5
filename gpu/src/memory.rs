//! A memory on a device, with the calls of the interpreter's: feed, flush, resets, state.   STR-1 ... STR-6, BAT-1 ... BAT-5

use fwpkm_reference::settings::Border;
use fwpkm_reference::stream::Queued;
use fwpkm_reference::{Error as MemoryError, Fed, Rules, Settings, State, StepReport, Tables, Tokens};
use ndarray::{Array2, Array3, Array4, s};

use crate::backend::{Backend, Number};
use crate::buffers::{ChunkBuffers, TableBuffers};
use crate::driver::{CHUNKS, Driver, FLAG_NONE, StepPlan, Variant};
use crate::error::{Error, Result};
use crate::tokens::{check, time_major};

/// A bare memory whose tables, queue and work stay on a device.
#[derive(Debug)]
pub struct Memory<B: Backend> {
    pub(crate) driver: Driver<B>,
    pub(crate) tables: TableBuffers<B>,
    chunk: Option<ChunkBuffers<B>>,
    pub(crate) queued: usize,
    pub(crate) gates: bool,
    pub(crate) mask: bool,
    /// Whether the readings of the queued tokens are of the tables as they are.
    pub(crate) read: bool,
    pub(crate) steps: usize,
    halted: Option<MemoryError>,
}

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
            driver,
            tables,
            chunk: None,
            queued: 0,
            gates: false,
            mask: false,
            read: false,
            steps: 0,
            halted: None,
        };
        memory.put_tables(&from)?;
        memory.steps = steps;
        if let Some(queued) = queued {
            memory.make_room(queued.queries.dim().1)?;
            memory.put_rows(0, &queued)?;
            memory.queued = queued.queries.dim().0;
            (memory.gates, memory.mask) = (queued.gates.is_some(), queued.mask.is_some());
        }
        Ok(memory)
    }

    /// All there is to the memory, copied to the host.                                                 [BAT-5]
    pub fn state(&self) -> Result<State<f32>> {
        let settings = self.settings().clone();
        let queued = if self.queued == 0 { None } else { Some(self.queue()?) };
        Ok(State { settings, rules: self.rules().clone(), tables: self.tables()?, queued, steps: self.steps })
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
    pub fn tables(&self) -> Result<Tables<f32>> {
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
    pub fn reset_queue(&mut self) -> Result<()> {
        self.queued = 0;
        self.clear_flag()
    }

    /// Replaces the tables and keeps the queue, whose counting goes on.                                  [BAT-2]
    ///
    /// # Errors   as [`Memory::new`]; the memory is then unchanged
    pub fn reset_tables(&mut self, tables: &Tables<f32>) -> Result<()> {
        tables.check(self.settings())?;
        self.put_tables(tables)?;
        self.steps = 0;
        self.read = false;
        Ok(())
    }

    /// Reads tokens with the tables of their moment and takes the steps that fall due.                  [STR-1]
    ///
    /// # Errors   as the interpreter's feed; those of the device
    pub fn feed(&mut self, tokens: &Tokens<f32>) -> Result<Fed<f32>> {
        check(self.settings(), tokens)?;
        self.accepts(tokens.sequences(), tokens.gates.is_some(), tokens.mask.is_some())?;
        self.make_room(tokens.sequences())?;
        self.still_running()?;
        let mut fed = self.nothing_fed(tokens);
        let writes = self.settings().writes;
        if writes && self.until_border() == 0 && !tokens.is_empty() {
            let (due, keep) = self.closing();
            fed.steps.push(self.step(due, keep, None)?);
        }
        let mut from = 0;
        while from < tokens.len() {
            let to = tokens.len().min(from.saturating_add(self.until_border()));
            self.put_rows(self.queued, &time_major(tokens, from, to))?;
            if self.queued == 0 {
                self.read = true;
            }
            self.driver.read(
                &self.tables,
                self.room()?,
                self.queued * tokens.sequences(),
                self.rows(to - from),
                self.number(),
            )?;
            self.check_flag()?;
            self.get_reading(&mut fed, from, to)?;
            if writes {
                let slice = (self.queued, to - from);
                self.queued += to - from;
                (self.gates, self.mask) = (tokens.gates.is_some(), tokens.mask.is_some());
                if self.is_due() {
                    let (tokens, keep, counted) = self.due(slice);
                    fed.steps.push(self.step(tokens, keep, counted)?);
                }
            }
            from = to;
        }
        Ok(fed)
    }

    /// Closes the chunk early.                                                                           [STR-4]
    ///
    /// # Errors   as the interpreter's flush; those of the device
    pub fn flush(&mut self) -> Result<Option<StepReport<f32>>> {
        self.still_running()?;
        let (tokens, keep) = self.closing();
        if tokens == 0 || self.driver.counts_calls() {
            return Ok(None);
        }
        self.step(tokens, keep, None).map(Some)
    }

    /// Tokens until a slice of a call must end; a call of that many is one slice.
    pub fn until_border(&self) -> usize {
        crate::buffers::capacity(self.settings()).saturating_sub(self.queued)
    }

    /// Queued tokens that a step of all there is would take, and how many would stay
    pub(crate) fn closing(&self) -> (usize, usize) {
        let lookahead = self.settings().lookahead;
        match self.settings().border {
            Border::Drop => (self.queued, 0),
            Border::Carry => (self.queued.saturating_sub(lookahead), lookahead),
        }
    }

    pub(crate) fn is_due(&self) -> bool {
        let settings = self.settings();
        if self.driver.counts_calls() { self.queued >= settings.chunk } else { self.until_border() == 0 }
    }

    /// The step that is due, after a slice (first token, tokens) of the queue was read: its tokens, those that stay queued, and
    /// the slice if its reads are what counts                                              [STR-2, STR-3, STR-5]
    pub(crate) fn due(&self, slice: (usize, usize)) -> (usize, usize, Option<(usize, usize)>) {
        let (tokens, keep) = self.closing();
        (tokens, keep, self.driver.counts_calls().then_some(slice))
    }

    /// A step over the first `tokens` queued queries; the last `keep` tokens stay queued.
    ///
    /// `counted`: the slice whose reads `N_i` and S count, if not the chunk itself.
    fn step(&mut self, tokens: usize, keep: usize, counted: Option<(usize, usize)>) -> Result<StepReport<f32>> {
        let pairs = self.launch_step(tokens, counted)?;
        self.check_flag()?;
        let report = self.report(pairs)?;
        self.steps += 1;
        self.keep_last(keep)?;
        Ok(report)
    }

    /// Launches a step and waits for nothing; pairs of each sequence
    pub(crate) fn launch_step(&self, tokens: usize, counted: Option<(usize, usize)>) -> Result<usize> {
        let settings = self.settings();
        let pairs = self.queued.saturating_sub(settings.lookahead).min(tokens);
        let counted_tokens = if self.driver.counts_calls() { counted.map_or(0, |(_, tokens)| tokens) } else { tokens };
        let plan = StepPlan {
            rows: self.rows(tokens),
            pair_rows: self.rows(pairs),
            counted_rows: self.rows(counted_tokens),
            reread: settings.border == Border::Carry || !self.read,
            has_gates: self.gates,
            has_mask: self.mask,
            chunk: self.number(),
        };
        if let Some((from, tokens)) = counted {
            let per_token = self.rows(1) * settings.heads * settings.top_k * 4;
            let room = self.room()?;
            self.driver.backend.copy(&room.counted, 0, &room.slots, from * per_token, tokens * per_token)?;
        }
        self.driver.step(&self.tables, self.room()?, &plan)?;
        Ok(pairs)
    }

    fn report(&self, pairs: usize) -> Result<StepReport<f32>> {
        let losses = self.get(&self.room()?.pair_losses, 0, self.rows(pairs))?;
        let report: Vec<f32> = self.get(&self.tables.report, 0, 3)?;
        let counters: Vec<i32> = self.get(&self.tables.counters, 7, 1)?;
        Ok(StepReport {
            pair_losses: Array2::from_shape_vec((pairs, self.rows(1)), losses).map_err(host)?,
            addressing_loss: report[2],
            entropy: [report[0], report[1]],
            slots_touched: usize::try_from(counters[0]).unwrap_or(0),
        })
    }

    /// Forgets all but the last `tokens`
    pub(crate) fn keep_last(&mut self, tokens: usize) -> Result<()> {
        let (kept, from) = (tokens.min(self.queued), self.queued.saturating_sub(tokens));
        if kept > 0 && from > 0 {
            let s = self.settings();
            let (query, value) = (self.rows(1) * s.heads * s.key_dim * 4, self.rows(1) * s.value_dim * 4);
            let (one, backend, room) = (self.rows(1) * 4, &self.driver.backend, self.room()?);
            let (queue, spare) = (&room.queue, &room.spare);
            let mut moves = vec![(&queue.queries, &spare.queries, query), (&queue.values, &spare.values, value)];
            moves.extend(self.gates.then_some((&queue.gates, &spare.gates, one)));
            moves.extend(self.mask.then_some((&queue.mask, &spare.mask, one)));
            for (queue, spare, bytes) in moves {
                backend.copy(spare, 0, queue, from * bytes, kept * bytes)?;
                backend.copy(queue, 0, spare, 0, kept * bytes)?;
            }
        }
        self.queued = kept;
        Ok(())
    }

    pub(crate) fn number(&self) -> i32 {
        i32::try_from(self.steps % CHUNKS).unwrap_or(0)
    }

    /// Rows of some tokens
    pub(crate) fn rows(&self, tokens: usize) -> usize {
        tokens * self.chunk.as_ref().map_or(0, |chunk| chunk.sequences)
    }

    pub(crate) fn room(&self) -> Result<&ChunkBuffers<B>> {
        let missing = || Error::Device { call: "chunk".into(), reason: "no tokens were fed yet".into() };
        self.chunk.as_ref().ok_or_else(missing)
    }

    /// Buffers for this number of sequences, kept while it stays the same
    pub(crate) fn make_room(&mut self, sequences: usize) -> Result<()> {
        if self.chunk.as_ref().is_none_or(|chunk| chunk.sequences != sequences) {
            self.chunk = None;
            let (settings, rules) = (self.settings(), self.rules());
            let simple = self.driver.variant == Variant::Simple;
            self.chunk = Some(ChunkBuffers::new(&self.driver.backend, settings, rules, sequences, simple)?);
        }
        Ok(())
    }

    fn put_tables(&mut self, tables: &Tables<f32>) -> Result<()> {
        let backend = &self.driver.backend;
        backend.write(&self.tables.sub_keys, 0, tables.sub_keys.as_standard_layout().as_slice().unwrap_or_default())?;
        let slot_values = tables.slot_values.as_standard_layout();
        backend.write(&self.tables.slot_values, 0, slot_values.as_slice().unwrap_or_default())?;
        self.driver.prepare(&self.tables)?;
        self.clear_flag()
    }

    fn clear_flag(&mut self) -> Result<()> {
        self.halted = None;
        self.driver.backend.write(&self.tables.flag, 0, &[FLAG_NONE])
    }

    /// Tokens into the queue's buffers, from its `at`-th token on
    fn put_rows(&self, at: usize, rows: &Queued<f32>) -> Result<()> {
        let s = self.settings();
        let (row, backend, queue) = (self.rows(at), &self.driver.backend, &self.room()?.queue);
        backend.write(&queue.queries, row * s.heads * s.key_dim * 4, rows.queries.as_slice().unwrap_or_default())?;
        backend.write(&queue.values, row * s.value_dim * 4, rows.values.as_slice().unwrap_or_default())?;
        if let Some(gates) = &rows.gates {
            backend.write(&queue.gates, row * 4, gates.as_slice().unwrap_or_default())?;
        }
        if let Some(mask) = &rows.mask {
            let mask: Vec<i32> = mask.iter().map(|&present| i32::from(present)).collect();
            backend.write(&queue.mask, row * 4, &mask)?;
        }
        Ok(())
    }

    fn queue(&self) -> Result<Queued<f32>> {
        let (s, t, b) = (self.settings(), self.queued, self.rows(1));
        let queue = &self.room()?.queue;
        let cube = |buffer, width: usize| {
            Array3::from_shape_vec((t, b, width), self.get(buffer, 0, t * b * width)?).map_err(host)
        };
        let gates: Option<Vec<f32>> = self.gates.then(|| self.get(&queue.gates, 0, t * b)).transpose()?;
        let mask: Option<Vec<i32>> = self.mask.then(|| self.get(&queue.mask, 0, t * b)).transpose()?;
        let mask = mask.map(|mask| mask.into_iter().map(|present| present != 0).collect());
        Ok(Queued {
            queries: cube(&queue.queries, s.heads * s.key_dim)?,
            values: cube(&queue.values, s.value_dim)?,
            gates: gates.map(|gates| Array2::from_shape_vec((t, b), gates)).transpose().map_err(host)?,
            mask: mask.map(|mask| Array2::from_shape_vec((t, b), mask)).transpose().map_err(host)?,
        })
    }

    /// `count` numbers of a buffer, from its `from`-th on
    pub(crate) fn get<T: Number>(&self, buffer: &B::Buffer, from: usize, count: usize) -> Result<Vec<T>> {
        let mut numbers = vec![T::default(); count];
        self.driver.backend.read(buffer, from * size_of::<T>(), &mut numbers)?;
        Ok(numbers)
    }

    fn get_reading(&self, fed: &mut Fed<f32>, from: usize, to: usize) -> Result<()> {
        let s = self.settings();
        let (first, rows, room) = (self.rows(self.queued), self.rows(to - from), self.room()?);
        let entries = s.heads * s.top_k;
        let slots: Vec<i32> = self.get(&room.slots, first * entries, rows * entries)?;
        let weights: Vec<f32> = self.get(&room.weights, first * entries, rows * entries)?;
        let reads: Vec<f32> = self.get(&room.reads, first * s.value_dim, rows * s.value_dim)?;
        let slots = slots.into_iter().map(|slot| usize::try_from(slot).unwrap_or(usize::MAX)).collect();
        let (tokens, b) = (to - from, room.sequences);
        let mut slots = shaped4((tokens, b, s.heads, s.top_k), slots)?;
        let mut weights = shaped4((tokens, b, s.heads, s.top_k), weights)?;
        let mut reads = Array3::from_shape_vec((tokens, b, s.value_dim), reads).map_err(host)?;
        slots.swap_axes(0, 1);
        weights.swap_axes(0, 1);
        reads.swap_axes(0, 1);
        fed.slots.slice_mut(s![.., from..to, .., ..]).assign(&slots);
        fed.weights.slice_mut(s![.., from..to, .., ..]).assign(&weights);
        fed.reads.slice_mut(s![.., from..to, ..]).assign(&reads);
        Ok(())
    }

    fn nothing_fed(&self, tokens: &Tokens<f32>) -> Fed<f32> {
        let (s, b, t) = (self.settings(), tokens.sequences(), tokens.len());
        Fed {
            reads: Array3::zeros((b, t, s.value_dim)),
            slots: Array4::zeros((b, t, s.heads, s.top_k)),
            weights: Array4::zeros((b, t, s.heads, s.top_k)),
            steps: Vec::new(),
        }
    }

    /// Whether tokens of these sequences, with or without gates and mask, can follow the queued ones      [BAT-1]
    pub(crate) fn accepts(&self, sequences: usize, gates: bool, mask: bool) -> Result<()> {
        let (queued, had) = (self.queued, self.rows(1));
        if queued == 0 {
            return Ok(());
        }
        if sequences != had {
            return Err(MemoryError::Batch { given: sequences, queued: had }.into());
        }
        for (tensor, given, had) in [("gates", gates, self.gates), ("mask", mask, self.mask)] {
            if given != had {
                return Err(MemoryError::Presence { tensor, given, queued }.into());
            }
        }
        Ok(())
    }

    pub(crate) fn still_running(&self) -> Result<()> {
        self.halted.clone().map_or(Ok(()), |error| Err(error.into()))
    }

    /// Waits for the device; whether every number so far is finite                                        [NUM-7]
    pub(crate) fn check_flag(&mut self) -> Result<()> {
        let flag: Vec<i32> = self.get(&self.tables.flag, 0, 1)?;
        if flag[0] == FLAG_NONE {
            return Ok(());
        }
        let tensor = usize::try_from(flag[0] % 16).unwrap_or(0).wrapping_sub(1);
        let (stage, tensor) = CHECKED.get(tensor).copied().unwrap_or(("numerics", "a number"));
        // The flag holds the number of the step, or its last digits.
        let behind = self.number().saturating_sub(flag[0] / 16);
        let chunk = self.steps.saturating_sub(usize::try_from(behind).unwrap_or(0));
        let error = MemoryError::Diverged { chunk, stage, tensor };
        self.halted = Some(error.clone());
        Err(error.into())
    }
}

pub(crate) fn shaped4<T>(shape: (usize, usize, usize, usize), numbers: Vec<T>) -> Result<Array4<T>> {
    Array4::from_shape_vec(shape, numbers).map_err(host)
}

pub(crate) fn host(error: ndarray::ShapeError) -> Error {
    Error::Device { call: "copy to the host".into(), reason: error.to_string() }
}
