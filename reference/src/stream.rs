//! Stage `stream`: a text in calls of any length, and the queue of pending pairs.    STR-1 … STR-6
//!
//! ```text
//! drop    a step after token (m+1)C - 1: the chunk is tokens [mC, (m+1)C), the queue is then empty
//! carry   a step after token (m+1)C + L - 1: the chunk is queries [mC, (m+1)C), reread; L tokens stay queued
//! flush   closes a chunk early
//! ```

use ndarray::{Array2, Array3, Array4, ArrayView, Axis, Dimension, RemoveAxis, s};

use crate::batch::{Fed, Memory, StepReport, Tokens, Trace, TracedStep};
use crate::chunk::{self, Chunk, Counted, Reading};
use crate::error::{Error, Result};
use crate::numerics::check_finite;
use crate::rules::StreamCount;
use crate::scalar::Scalar;
use crate::settings::{Border, Settings, setting};

/// Half scores of one chunk take at most this many bytes.
pub const CHUNK_BYTES: u128 = 8 << 30;

/// Tokens that are not yet part of a step.                                                  [STR-1]
#[derive(Clone, Debug)]
pub(crate) struct Queue<S> {
    pub(crate) pending: Option<Queued<S>>,
}

/// The content of a queue; tokens first, then sequences.
///
/// # Shapes   queries: [tokens, B, H·`d_k`]; values: [tokens, B, `d_v`]; gates, mask: [tokens, B]
#[derive(Clone, Debug, PartialEq)]
pub struct Queued<S> {
    /// q
    pub queries: Array3<S>,
    /// v
    pub values: Array3<S>,
    /// g
    pub gates: Option<Array2<S>>,
    /// Whether a query's pair counts.
    pub mask: Option<Array2<bool>>,
}

impl<S> Default for Queue<S> {
    fn default() -> Self {
        Self { pending: None }
    }
}

impl<S: Scalar> Queued<S> {
    /// Checks that these tokens can stand in a queue
    pub(crate) fn check(&self, settings: &Settings) -> Result<()> {
        let (tokens, sequences, _) = self.queries.dim();
        if !settings.writes {
            return Err(setting("writes", false, "true where tokens are queued"));
        }
        // A queue that is full would have been stepped.
        let most = settings.chunk.saturating_add(settings.lookahead).saturating_sub(1);
        if tokens == 0 || tokens > most || (settings.border == Border::Drop && tokens >= settings.chunk) {
            let expected = format!("1 or more queued tokens, fewer than make chunk {} due", settings.chunk);
            return Err(Error::Shape { tensor: "queue", expected, found: self.queries.shape().to_vec() });
        }
        let as_call = |array: &Array3<S>| array.view().permuted_axes([1, 0, 2]).to_owned();
        let (queries, values) = (as_call(&self.queries), as_call(&self.values));
        let of_two = |shape: &[usize]| shape == [tokens, sequences];
        let gates = self.gates.as_ref().filter(|gates| !of_two(gates.shape())).map(|gates| gates.shape().to_vec());
        let mask = self.mask.as_ref().filter(|mask| !of_two(mask.shape())).map(|mask| mask.shape().to_vec());
        if let Some(found) = gates.or(mask) {
            let expected = format!("[queued tokens {tokens}, sequences {sequences}] of gates and mask");
            return Err(Error::Shape { tensor: "queue", expected, found });
        }
        if let Some(gates) = &self.gates {
            check_finite("queued gates", gates.view())?;
        }
        Tokens { queries: queries.view(), values: values.view(), gates: None, mask: None }.check(settings)
    }
}

impl<S: Scalar> Queue<S> {
    pub(crate) fn len(&self) -> usize {
        self.pending.as_ref().map_or(0, |pending| pending.queries.dim().0)
    }

    /// Whether these tokens can follow the queued ones                                      [BAT-1]
    fn accepts(&self, tokens: &Tokens<S>) -> Result<()> {
        let Some(pending) = &self.pending else { return Ok(()) };
        let queued = pending.queries.dim().1;
        if queued != tokens.sequences() {
            return Err(Error::Batch { given: tokens.sequences(), queued });
        }
        for (tensor, given, had) in [
            ("gates", tokens.gates.is_some(), pending.gates.is_some()),
            ("mask", tokens.mask.is_some(), pending.mask.is_some()),
        ] {
            if given != had {
                return Err(Error::Presence { tensor, given, queued: self.len() });
            }
        }
        Ok(())
    }

    fn push(&mut self, more: Queued<S>) {
        match &mut self.pending {
            None => self.pending = Some(more),
            Some(pending) => {
                grow(&mut pending.queries, &more.queries);
                grow(&mut pending.values, &more.values);
                if let (Some(gates), Some(more)) = (&mut pending.gates, &more.gates) {
                    grow(gates, more);
                }
                if let (Some(mask), Some(more)) = (&mut pending.mask, &more.mask) {
                    grow(mask, more);
                }
            }
        }
    }

    /// The first `tokens` queued queries with all queued values
    fn chunk(&self, tokens: usize, lookahead: usize) -> Option<Chunk<S>> {
        self.pending.as_ref().map(|pending| Chunk {
            queries: pending.queries.slice(s![..tokens, .., ..]).to_owned(),
            values: pending.values.slice(s![.., .., ..]).to_owned(),
            gates: pending.gates.as_ref().map(|gates| gates.slice(s![..tokens, ..]).to_owned()),
            mask: pending.mask.as_ref().map(|mask| mask.slice(s![..tokens, ..]).to_owned()),
            lookahead,
        })
    }

    /// Forgets all but the last `tokens`
    fn keep_last(&mut self, tokens: usize) {
        let from = self.len().saturating_sub(tokens);
        self.pending = self.pending.take().filter(|_| tokens > 0).map(|pending| Queued {
            queries: pending.queries.slice(s![from.., .., ..]).to_owned(),
            values: pending.values.slice(s![from.., .., ..]).to_owned(),
            gates: pending.gates.map(|gates| gates.slice(s![from.., ..]).to_owned()),
            mask: pending.mask.map(|mask| mask.slice(s![from.., ..]).to_owned()),
        });
    }
}

/// Appends along the first axis; memory grows in powers of two, so a token costs a constant
fn grow<T: Clone, D: Dimension + RemoveAxis>(queued: &mut ndarray::Array<T, D>, more: &ndarray::Array<T, D>) {
    // Sequences and widths were checked by `accepts` and `Tokens::check`.
    let _ = queued.append(Axis(0), more.view());
}

impl<S: Scalar> Memory<S> {
    /// Reads tokens with the tables of their moment and takes the steps that fall due.      [STR-1]
    ///
    /// # Shapes   see [`Tokens`] and [`Fed`]
    /// # Errors   `Error::Shape`, `NotFinite`, `Batch`, `Presence`, `TooLarge`: nothing has changed. `Error::Diverged`:
    ///   slices and steps before the failing one are done (their reads are not returned: calls of [`Memory::until_border`]
    ///   tokens keep them), the tables are as before its step, and every later call gives the same error until
    ///   `reset_queue` or `reset_tables`
    /// # Source   arXiv 2601.00671 §3 and App. A.1; the release's cut by calls under rule `stream_count` = call
    pub fn feed(&mut self, tokens: &Tokens<S>) -> Result<Fed<S>> {
        self.run(tokens, None)
    }

    /// The same, and adds every stage tensor to `trace`.
    pub fn feed_traced(&mut self, tokens: &Tokens<S>, trace: &mut Trace<S>) -> Result<Fed<S>> {
        self.run(tokens, Some(trace))
    }

    fn run(&mut self, tokens: &Tokens<S>, mut trace: Option<&mut Trace<S>>) -> Result<Fed<S>> {
        self.takes(tokens)?;
        let mut fed = Fed::new(self, tokens);
        if self.settings.writes && self.until_border() == 0 && !tokens.is_empty() {
            // A chunk whose step failed, with other tables since: its step comes first.
            let (due, keep) = self.closing();
            fed.steps.extend(self.halting(|memory| memory.step(due, keep, None, trace.as_deref_mut()))?);
        }
        let mut from = 0;
        while from < tokens.len() {
            let to = tokens.len().min(from.saturating_add(self.until_border()));
            let slice = time_major(tokens, from, to);
            let reading = self.halting(|memory| {
                chunk::read(&memory.stages, &memory.settings, &memory.tables, slice.queries.view(), memory.steps)
            })?;
            fed.put(from, to, &reading);
            if let Some(trace) = trace.as_deref_mut() {
                trace.readings.push((to - from, reading.clone()));
            }
            if self.settings.writes {
                self.queue.push(slice);
                if self.is_due() {
                    let report = self.halting(|memory| memory.step_due(&reading, to - from, trace.as_deref_mut()))?;
                    fed.steps.extend(report);
                }
            }
            from = to;
        }
        Ok(fed)
    }

    /// Closes the chunk early. Drop: all queued tokens. Carry: the queued queries that have a target.   [STR-4]
    ///
    /// Under rule `stream_count` = call it does nothing, as the release never closes its queue.
    ///
    /// # Errors   `Error::Diverged`, as for [`Memory::feed`]
    pub fn flush(&mut self) -> Result<Option<StepReport<S>>> {
        self.flush_with(None)
    }

    /// The same, and adds every stage tensor to `trace`.
    pub fn flush_traced(&mut self, trace: &mut Trace<S>) -> Result<Option<StepReport<S>>> {
        self.flush_with(Some(trace))
    }

    /// Reads a whole text and closes its last chunk: feed, then flush. The step of the flush comes last in `steps`.  [STR-6]
    ///
    /// With chunk >= T this is one step per reading; repeated, it is the paper's reading of a text several times.
    ///
    /// # Errors   as [`Memory::feed`] and [`Memory::flush`]
    /// # Source   arXiv 2601.00671 §4.3
    pub fn read_text(&mut self, tokens: &Tokens<S>) -> Result<Fed<S>> {
        let mut fed = self.feed(tokens)?;
        fed.steps.extend(self.flush()?);
        Ok(fed)
    }

    fn flush_with(&mut self, trace: Option<&mut Trace<S>>) -> Result<Option<StepReport<S>>> {
        self.still_running()?;
        let (tokens, keep) = self.closing();
        let never = self.settings.border == Border::Carry && self.rules.stream_count == StreamCount::Call;
        if tokens == 0 || never {
            return Ok(None);
        }
        self.halting(|memory| memory.step(tokens, keep, None, trace))
    }

    /// Queued tokens that a step of all there is would take, and how many would stay
    fn closing(&self) -> (usize, usize) {
        let (queued, lookahead) = (self.queue.len(), self.settings.lookahead);
        match self.settings.border {
            Border::Drop => (queued, 0),
            Border::Carry => (queued.saturating_sub(lookahead), lookahead),
        }
    }

    /// Tokens until a slice of a call must end; a call of that many is one slice    [STR-2, STR-3, STR-5]
    pub fn until_border(&self) -> usize {
        let (chunk, lookahead) = (self.settings.chunk, self.settings.lookahead);
        match self.settings.border {
            Border::Drop => chunk - self.queue.len(),
            Border::Carry => chunk + lookahead - self.queue.len(),
        }
    }

    /// Whether a step falls due at the end of a slice                       [STR-2, STR-3, STR-5]
    fn is_due(&self) -> bool {
        let (chunk, lookahead) = (self.settings.chunk, self.settings.lookahead);
        match (self.settings.border, self.rules.stream_count) {
            (Border::Drop, _) => self.queue.len() == chunk,
            (Border::Carry, StreamCount::Chunk) => self.queue.len() == chunk + lookahead,
            (Border::Carry, StreamCount::Call) => self.queue.len() >= chunk,
        }
    }

    /// The step that is due, after `slice` tokens were read as `reading`    [STR-2, STR-3, STR-5]
    fn step_due(
        &mut self,
        reading: &Reading<S>,
        slice: usize,
        trace: Option<&mut Trace<S>>,
    ) -> Result<Option<StepReport<S>>> {
        let lookahead = self.settings.lookahead;
        match (self.settings.border, self.rules.stream_count) {
            (Border::Drop, _) => {
                // A slice that is the whole chunk was read with these very tables.
                let reread = (slice == self.settings.chunk).then_some(reading);
                self.step_from(self.settings.chunk, 0, None, reread, trace)
            }
            (Border::Carry, StreamCount::Chunk) => self.step(self.settings.chunk, lookahead, None, trace),
            (Border::Carry, StreamCount::Call) => {
                let with_target = self.queue.len().saturating_sub(lookahead);
                self.step(with_target, lookahead, Some((reading, slice)), trace)
            }
        }
    }

    fn step(
        &mut self,
        tokens: usize,
        keep: usize,
        counted: Option<(&Reading<S>, usize)>,
        trace: Option<&mut Trace<S>>,
    ) -> Result<Option<StepReport<S>>> {
        self.step_from(tokens, keep, counted, None, trace)
    }

    /// A step over the first `tokens` queued queries; the last `keep` tokens stay queued. None where nothing is queued.
    ///
    /// `counted`: what `N_i` and S count, if not the chunk itself. `reread`: the chunk's reading, if it is at hand.
    fn step_from(
        &mut self,
        tokens: usize,
        keep: usize,
        counted: Option<(&Reading<S>, usize)>,
        reread: Option<&Reading<S>>,
        trace: Option<&mut Trace<S>>,
    ) -> Result<Option<StepReport<S>>> {
        let Some(chunk) = self.queue.chunk(tokens, self.settings.lookahead) else { return Ok(None) };
        let (settings, tables) = (&self.settings, &self.tables);
        let fresh;
        let reading = if let Some(reading) = reread {
            reading
        } else {
            fresh = chunk::read(&self.stages, settings, tables, chunk.queries.view(), self.steps)?;
            &fresh
        };
        let (counted, counted_tokens) = counted.unwrap_or((reading, tokens));
        let samples = counted_tokens * chunk.sequences();
        let counted = Counted { slots: counted.selected.slots.view(), samples };
        let step = chunk::step(&self.stages, settings, &self.rules, tables, &chunk, reading, &counted, self.steps)?;
        chunk::apply(&self.stages, &self.settings, &mut self.tables, &step);
        self.steps = self.steps.saturating_add(1);
        self.queue.keep_last(keep);
        let report = StepReport {
            pair_losses: step.memorized.pair_losses.clone(),
            addressing_loss: step.addressed.loss,
            entropy: [step.addressed.entropy[0], step.addressed.entropy[1]],
            slots_touched: step.memorized.slots.len(),
        };
        if let Some(trace) = trace {
            let (after, reading) = (trace.readings.len(), reading.clone());
            trace.steps.push(TracedStep { after, counted_tokens, chunk, reading, step });
        }
        Ok(Some(report))
    }

    /// Whether these tokens can be fed
    pub(crate) fn takes(&self, tokens: &Tokens<S>) -> Result<()> {
        tokens.check(&self.settings)?;
        self.queue.accepts(tokens)?;
        self.fits(tokens)?;
        self.still_running()
    }

    /// Refuses chunks whose half scores would not fit
    fn fits(&self, tokens: &Tokens<S>) -> Result<()> {
        let settings = &self.settings;
        let most = (self.queue.len() + tokens.len()).min(settings.chunk + settings.lookahead);
        let bytes = [most, tokens.sequences(), settings.heads, 2, settings.sub_keys, size_of::<S>()];
        let bytes = bytes.into_iter().fold(1, |product: u128, factor| product.saturating_mul(factor as u128));
        if bytes > CHUNK_BYTES {
            return Err(Error::TooLarge { what: "the half scores of one chunk", bytes, limit: CHUNK_BYTES });
        }
        Ok(())
    }

    pub(crate) fn still_running(&self) -> Result<()> {
        self.halted.clone().map_or(Ok(()), Err)
    }

    /// Stops at numbers of a stage around the memory that are not finite                            [NUM-7]
    pub(crate) fn finite<'a>(
        &mut self,
        stage: &'static str,
        tensor: &'static str,
        mut numbers: impl Iterator<Item = &'a S>,
    ) -> Result<()> {
        let chunk = self.steps;
        let finite = numbers.all(|x| x.is_finite());
        self.halting(|_| if finite { Ok(()) } else { Err(Error::Diverged { chunk, stage, tensor }) })
    }

    /// Remembers an error, so that a memory that missed a step is not used further
    fn halting<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        work(self).inspect_err(|error| self.halted = Some(error.clone()))
    }
}

fn time_major<S: Scalar>(tokens: &Tokens<S>, from: usize, to: usize) -> Queued<S> {
    Queued {
        queries: swap(tokens.queries.slice(s![.., from..to, ..])),
        values: swap(tokens.values.slice(s![.., from..to, ..])),
        gates: tokens.gates.map(|gates| swap(gates.slice(s![.., from..to]))),
        mask: tokens.mask.map(|mask| swap(mask.slice(s![.., from..to]))),
    }
}

fn swap<T: Clone, D: Dimension>(mut tokens: ArrayView<T, D>) -> ndarray::Array<T, D> {
    tokens.swap_axes(0, 1);
    tokens.as_standard_layout().into_owned()
}

impl<S: Scalar> Fed<S> {
    pub(crate) fn new(memory: &Memory<S>, tokens: &Tokens<S>) -> Self {
        let (b, t) = (tokens.sequences(), tokens.len());
        let (heads, k) = (memory.settings.heads, memory.settings.top_k);
        Self {
            reads: Array3::from_elem((b, t, memory.settings.value_dim), S::ZERO),
            slots: Array4::from_elem((b, t, heads, k), 0),
            weights: Array4::from_elem((b, t, heads, k), S::ZERO),
            steps: Vec::new(),
        }
    }

    /// Rows of a reading are (token, sequence); results are [sequence, token, …]
    pub(crate) fn put(&mut self, from: usize, to: usize, reading: &Reading<S>) {
        let sequences = self.reads.dim().0;
        for row in 0..(to - from) * sequences {
            let (token, sequence) = (from + row / sequences, row % sequences);
            self.reads.slice_mut(s![sequence, token, ..]).assign(&reading.reads.row(row));
            self.slots.slice_mut(s![sequence, token, .., ..]).assign(&reading.selected.slots.index_axis(Axis(0), row));
            self.weights.slice_mut(s![sequence, token, .., ..]).assign(&reading.weights.index_axis(Axis(0), row));
        }
    }
}
