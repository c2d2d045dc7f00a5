//! Feeding and closing chunks: when a step falls due, what it takes, what stays queued.          STR-1 ... STR-6, BAT-1

use fwpkm_reference::settings::Border;
use fwpkm_reference::{Error as MemoryError, Fed, StepReport, Tokens};
use ndarray::{Array2, Array3, Array4};

use crate::backend::Backend;
use crate::driver::StepPlan;
use crate::error::Result;
use crate::memory::{Memory, Read, Stepped};
use crate::tokens::{check, time_major};
use crate::trace::Trace;
use crate::transfer::host;

impl<B: Backend> Memory<B> {
    /// Reads tokens with the tables of their moment and takes the steps that fall due.                  [STR-1]
    ///
    /// The arrays are the interpreter's, sequences first; [`Memory::feed_resident`] takes tokens first.
    ///
    /// # Shapes   queries: [B, T, H·`d_k`]; values: [B, T, `d_v`]; gates, mask: [B, T]; gives reads: [B, T, `d_v`]; slots, weights:
    ///   [B, T, H, k]; of each step, pair losses: [pairs, B]
    /// # Errors   as the interpreter's feed; `Error::Limit` for too many sequences; those of the device
    pub fn feed(&mut self, tokens: &Tokens<f32>) -> Result<Fed<f32>> {
        self.guarded(|memory| memory.run(tokens, None))
    }

    /// The same, and adds what lies between the stages to `trace`.
    pub fn feed_traced(&mut self, tokens: &Tokens<f32>, trace: &mut Trace) -> Result<Fed<f32>> {
        self.guarded(|memory| memory.run(tokens, Some(trace)))
    }

    fn run(&mut self, tokens: &Tokens<f32>, mut trace: Option<&mut Trace>) -> Result<Fed<f32>> {
        check(self.settings(), tokens)?;
        self.accepts(tokens.sequences(), tokens.gates.is_some(), tokens.mask.is_some())?;
        self.still_running()?;
        self.make_room(tokens.sequences())?;
        let mut fed = self.nothing_fed(tokens);
        let writes = self.settings().writes;
        if writes && self.until_border() == 0 && !tokens.is_empty() {
            let (due, keep) = self.closing();
            fed.steps.push(self.step(due, keep, None, trace.as_deref_mut())?);
        }
        let mut from = 0;
        while from < tokens.len() {
            let to = tokens.len().min(from.saturating_add(self.until_border()));
            self.put_rows(self.queued, &time_major(tokens, from, to))?;
            let (first, rows) = (self.rows(self.queued), self.rows(to - from));
            self.driver.read(&self.tables, self.room()?, first, rows)?;
            self.was_read(first, rows);
            self.check_flag()?;
            self.get_reading(&mut fed, from, to)?;
            if let Some(trace) = trace.as_deref_mut() {
                trace.readings.push(self.reading(first, rows)?);
            }
            if writes {
                let slice = (self.queued, to - from);
                self.queued += to - from;
                (self.gates, self.mask) = (tokens.gates.is_some(), tokens.mask.is_some());
                if self.is_due() {
                    let (tokens, keep, counted) = self.due(slice);
                    fed.steps.push(self.step(tokens, keep, counted, trace.as_deref_mut())?);
                }
            }
            from = to;
        }
        Ok(fed)
    }

    /// Reads a whole text and closes its last chunk: feed, then flush. The step of the flush comes last in `steps`.     [STR-6]
    ///
    /// # Shapes   as [`Memory::feed`]
    /// # Errors   as [`Memory::feed`] and [`Memory::flush`]
    pub fn read_text(&mut self, tokens: &Tokens<f32>) -> Result<Fed<f32>> {
        let mut fed = self.feed(tokens)?;
        fed.steps.extend(self.flush()?);
        Ok(fed)
    }

    /// Closes the chunk early; gives nothing where there is nothing to close.                              [STR-4]
    ///
    /// # Shapes   of the step, pair losses: [pairs, B]
    /// # Errors   as the interpreter's flush; those of the device
    pub fn flush(&mut self) -> Result<Option<StepReport<f32>>> {
        self.guarded(|memory| memory.flush_with(None))
    }

    /// The same, and adds what lies between the stages to `trace`.
    pub fn flush_traced(&mut self, trace: &mut Trace) -> Result<Option<StepReport<f32>>> {
        self.guarded(|memory| memory.flush_with(Some(trace)))
    }

    fn flush_with(&mut self, trace: Option<&mut Trace>) -> Result<Option<StepReport<f32>>> {
        self.still_running()?;
        let (tokens, keep) = self.closing();
        if tokens == 0 || self.driver.counts_calls() {
            return Ok(None);
        }
        self.step(tokens, keep, None, trace).map(Some)
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
    fn step(
        &mut self,
        tokens: usize,
        keep: usize,
        counted: Option<(usize, usize)>,
        trace: Option<&mut Trace>,
    ) -> Result<StepReport<f32>> {
        let plan = self.planned(tokens, counted);
        self.driver.step(&self.tables, self.room()?, &plan)?;
        self.was_stepped(&plan);
        self.check_flag()?;
        let report = self.report(plan.pair_rows)?;
        if let Some(trace) = trace {
            trace.marginals.push(self.last_marginal()?);
        }
        self.steps = self.steps.saturating_add(1);
        self.move_last(keep)?;
        self.queued = keep.min(self.queued);
        Ok(report)
    }

    /// What a step over the first `tokens` queued queries takes
    pub(crate) fn planned(&self, tokens: usize, counted: Option<(usize, usize)>) -> StepPlan {
        let settings = self.settings();
        let pairs = self.queued.saturating_sub(settings.lookahead).min(tokens);
        let (counted_from, counted_tokens) =
            if self.driver.counts_calls() { counted.unwrap_or_default() } else { (0, tokens) };
        StepPlan {
            rows: self.rows(tokens),
            pair_rows: self.rows(pairs),
            counted_rows: self.rows(counted_tokens),
            counted_from: self.rows(counted_from),
            reread: settings.border == Border::Carry || self.read == Read::Before,
            has_gates: self.gates,
            has_mask: self.mask,
        }
    }

    /// What the buffers hold after a step was launched
    pub(crate) fn was_stepped(&mut self, plan: &StepPlan) {
        self.stepped = Stepped::With { pair_rows: plan.pair_rows };
        if plan.reread {
            self.readings = self.readings.max(plan.rows);
        }
    }

    pub(crate) fn report(&self, pair_rows: usize) -> Result<StepReport<f32>> {
        let losses = self.get(&self.room()?.pair_losses, 0, pair_rows)?;
        let sequences = self.rows(1);
        let report: Vec<f32> = self.get(&self.tables.report, 0, 3)?;
        let counters: Vec<i32> = self.get(&self.tables.counters, 7, 1)?;
        Ok(StepReport {
            pair_losses: Array2::from_shape_vec((pair_rows / sequences.max(1), sequences), losses).map_err(host)?,
            addressing_loss: report[2],
            entropy: [report[0], report[1]],
            slots_touched: usize::try_from(counters[0]).unwrap_or(0),
        })
    }

    /// Copies the last `tokens` queued tokens to the front
    pub(crate) fn move_last(&self, tokens: usize) -> Result<()> {
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
}
