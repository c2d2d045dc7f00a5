//! Stage `batch`: the memory, its state across calls, and its resets.                BAT-1 … BAT-5

use ndarray::{Array2, Array3, Array4, ArrayView2, ArrayView3};

use crate::chunk::{Chunk, Reading, Stages, Step};
use crate::error::{Error, Result};
use crate::numerics::check_finite;
use crate::rules::Rules;
use crate::scalar::Scalar;
use crate::settings::Settings;
use crate::stream::{Queue, Queued};
use crate::tables::Tables;

/// A bare memory: tables, shared by all sequences and living on across calls, and a queue.  [BAT-1]
///
/// ```
/// use fwpkm_reference::{Memory, Rules, Settings, Tables, Tokens};
/// use ndarray::{Array2, Array4, arr3};
///
/// // One slot is hit exactly; after one step it holds the target.
/// let settings = Settings {
///     sub_keys: 2, key_dim: 2, value_dim: 1, top_k: 1, chunk: 1, lookahead: 0, ..Settings::paper()
/// };
/// let tables = Tables {
///     sub_keys: Array4::from_shape_vec((1, 2, 2, 1), vec![0.0, 1.0, 0.0, 1.0]).unwrap(),
///     slot_values: Array2::<f64>::zeros((4, 1)),
/// };
/// let mut memory = Memory::new(settings, Rules::paper(), tables)?;
/// let (query, value) = (arr3(&[[[1.0, 0.0]]]), arr3(&[[[7.0]]]));
/// let tokens = Tokens { queries: query.view(), values: value.view(), gates: None, mask: None };
/// assert_eq!(memory.feed(&tokens)?.reads[[0, 0, 0]], 0.0); // read before the step
/// assert_eq!(memory.feed(&tokens)?.reads[[0, 0, 0]], 7.0); // and after it
/// # Ok::<(), fwpkm_reference::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Memory<S> {
    pub(crate) settings: Settings,
    pub(crate) rules: Rules,
    pub(crate) stages: Stages<S>,
    pub(crate) tables: Tables<S>,
    pub(crate) queue: Queue<S>,
    pub(crate) steps: usize,
    pub(crate) halted: Option<Error>,
}

/// Tokens of one call, the same number for every sequence.
///
/// # Shapes   queries: [B, T, H·`d_k`]; values: [B, T, `d_v`]; gates, mask: [B, T]
#[derive(Clone, Debug)]
pub struct Tokens<'a, S> {
    /// q
    pub queries: ArrayView3<'a, S>,
    /// v, the targets of earlier queries
    pub values: ArrayView3<'a, S>,
    /// g, weights of the pairs; absent: 1
    pub gates: Option<ArrayView2<'a, S>>,
    /// Whether a query's pair counts; absent: all do
    pub mask: Option<ArrayView2<'a, bool>>,
}

/// What a call gives.
#[derive(Clone, Debug)]
pub struct Fed<S> {
    /// [B, T, `d_v`]
    pub reads: Array3<S>,
    /// Slots read, best first: [B, T, H, k].
    pub slots: Array4<usize>,
    /// Their weights: [B, T, H, k].
    pub weights: Array4<S>,
    /// The steps taken during the call.
    pub steps: Vec<StepReport<S>>,
}

/// What is reported of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepReport<S> {
    /// MEM-2's loss of each pair, 0 where masked: [pairs, B].
    pub pair_losses: Array2<S>,
    /// ADR-3's loss.
    pub addressing_loss: S,
    /// Entropy of the marginal usage of each half.
    pub entropy: [S; 2],
    /// Slots that the step touched.
    pub slots_touched: usize,
}

/// Every stage tensor of a run, in the order it was computed.
#[derive(Clone, Debug)]
pub struct Trace<S> {
    /// The readings whose reads were returned, with their number of tokens.
    pub readings: Vec<(usize, Reading<S>)>,
    /// The steps.
    pub steps: Vec<TracedStep<S>>,
}

/// One step with what it was computed from.
#[derive(Clone, Debug)]
pub struct TracedStep<S> {
    /// How many of the trace's readings came before it.
    pub after: usize,
    /// Tokens that `N_i` counted, of each sequence.
    pub counted_tokens: usize,
    /// The queries, and all values that were queued with them.
    pub chunk: Chunk<S>,
    /// The chunk's reading with the tables before the step.
    pub reading: Reading<S>,
    /// The step.
    pub step: Step<S>,
}

/// All there is to a memory, to be kept and continued later.                               [BAT-5]
#[derive(Clone, Debug, PartialEq)]
pub struct State<S> {
    /// What the run chose.
    pub settings: Settings,
    /// How the text is read.
    pub rules: Rules,
    /// The tables.
    pub tables: Tables<S>,
    /// Tokens that are not yet part of a step.
    pub queued: Option<Queued<S>>,
    /// Steps taken since the tables were set.
    pub steps: usize,
}

impl<S> Default for Trace<S> {
    fn default() -> Self {
        Self { readings: Vec::new(), steps: Vec::new() }
    }
}

impl<S: Scalar> Memory<S> {
    /// A memory with an empty queue.
    ///
    /// # Errors   `Error::Setting`, `Error::Shape`, `Error::NotFinite`
    pub fn new(settings: Settings, rules: Rules, tables: Tables<S>) -> Result<Self> {
        Self::with_stages(settings, rules, tables, Stages::specification())
    }

    /// The same with some stages replaced.
    pub fn with_stages(settings: Settings, rules: Rules, tables: Tables<S>, stages: Stages<S>) -> Result<Self> {
        settings.check_in::<S>()?;
        rules.check()?;
        tables.check(&settings)?;
        let queue = Queue::default();
        Ok(Self { settings, rules, stages, tables, queue, steps: 0, halted: None })
    }

    /// The memory as it is; a memory made from it goes on with the same bits.               [BAT-5]
    ///
    /// After `Error::Diverged` it is the state after `reset_queue`.
    pub fn into_state(self) -> State<S> {
        let Self { settings, rules, tables, queue, steps, halted, .. } = self;
        State { settings, rules, tables, queued: queue.pending.filter(|_| halted.is_none()), steps }
    }

    /// A memory that goes on from a state.                                                  [BAT-5]
    ///
    /// # Errors   as [`Memory::new`]; `Error::Shape`, `Error::NotFinite`, `Error::Setting` for tokens that cannot have been queued
    pub fn from_state(state: State<S>) -> Result<Self> {
        let mut memory = Self::new(state.settings, state.rules, state.tables)?;
        if let Some(queued) = &state.queued {
            queued.check(&memory.settings)?;
        }
        memory.queue = Queue { pending: state.queued };
        memory.steps = state.steps;
        Ok(memory)
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The rules.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The tables as they are now.
    pub fn tables(&self) -> &Tables<S> {
        &self.tables
    }

    /// Steps taken since the tables were set.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Tokens waiting in the queue.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Begins a new text: forgets the queued tokens, keeps the tables.                      [BAT-2]
    pub fn reset_queue(&mut self) {
        self.queue = Queue::default();
        self.halted = None;
    }

    /// Replaces the tables and keeps the queue, whose counting goes on.                      [BAT-2]
    ///
    /// # Errors   as [`Memory::new`]; the memory is then unchanged
    pub fn reset_tables(&mut self, tables: Tables<S>) -> Result<()> {
        tables.check(&self.settings)?;
        self.tables = tables;
        self.steps = 0;
        self.halted = None;
        Ok(())
    }
}

impl<S: Scalar> Tokens<'_, S> {
    /// B
    pub fn sequences(&self) -> usize {
        self.queries.dim().0
    }

    /// T
    pub fn len(&self) -> usize {
        self.queries.dim().1
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Checks shapes and finiteness (NUM-7).
    pub(crate) fn check(&self, settings: &Settings) -> Result<()> {
        let (b, t, width) = self.queries.dim();
        let query_dim = settings.heads.saturating_mul(settings.key_dim);
        if width != query_dim || b == 0 {
            let expected = format!("[sequences 1 or more, tokens, heads·key_dim {query_dim}]");
            return Err(Error::Shape { tensor: "queries", expected, found: self.queries.shape().to_vec() });
        }
        let value_dim = settings.value_dim;
        shape_is("values", self.values.shape(), &[b, t, value_dim], || {
            format!("[sequences {b}, tokens {t}, {value_dim}]")
        })?;
        check_finite("queries", self.queries)?;
        check_finite("values", self.values)?;
        if let Some(gates) = self.gates {
            shape_is("gates", gates.shape(), &[b, t], || format!("[sequences {b}, tokens {t}]"))?;
            check_finite("gates", gates)?;
        }
        match self.mask {
            Some(mask) => shape_is("mask", mask.shape(), &[b, t], || format!("[sequences {b}, tokens {t}]")),
            None => Ok(()),
        }
    }
}

pub(crate) fn shape_is(
    tensor: &'static str,
    found: &[usize],
    wanted: &[usize],
    expected: impl Fn() -> String,
) -> Result<()> {
    if found == wanted { Ok(()) } else { Err(Error::Shape { tensor, expected: expected(), found: found.to_vec() }) }
}
