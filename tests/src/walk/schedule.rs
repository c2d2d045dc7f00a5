//! When a run reads, steps and is reset, and what belongs to each step.                     STR-1 ... STR-5, BAT-2

use std::ops::Range;

use fwpkm_reference::rules::StreamCount;
use fwpkm_reference::settings::{Border, WeightsOver};
use fwpkm_reference::{Memory, Settings, Tables, Trace};
use fwpkm_spec::case::Operation;
use ndarray::{Array2, Array3};

use crate::error::Result;
use crate::run::Plan;

/// What happens in a run, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A call begins.
    Call,
    /// Tokens are read, with the tables of the moment.
    Read(Range<usize>),
    /// A step is taken.
    Step(Due),
    /// The tables are the initial ones again.
    ResetTables,
}

/// A step: the tokens that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The queries of the chunk.
    pub queries: Range<usize>,
    /// Where the values end that are there as targets.
    pub values_to: usize,
    /// The tokens that `N_i` and S count.
    pub counted: Range<usize>,
}

/// When steps take effect. All but the first are orders that an implementation may have by mistake or by choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// As CHK and STR say.
    Specification,
    /// The tokens of a chunk are read after its step.
    WriteBeforeRead,
    /// The first token after a step still reads the tables from before it.
    OneTokenLate,
    /// A step takes effect when the next one is taken; its gradients then move the tables of that moment.
    OneChunkLate,
    /// All steps take effect after the last token.
    AtTheEnd,
    /// The sub-keys move first; the chunk is read again for the value step.
    SubKeysFirst,
    /// The slot values move first; the chunk is read again for the sub-key step.
    SlotValuesFirst,
    /// A pair keeps the reading of when its query was fed.
    FirstReading,
    /// A chunk without pairs is closed without a step.
    OnlyWithPairs,
    /// Every call is a text of its own, and ends with a flush.
    CallsApart,
    /// Every call is a text of its own; what is queued at its end is lost.
    QueueLost,
    /// Every call begins with the initial tables.
    TablesPerCall,
    /// Every sequence has tables of its own.
    TablesPerSequence,
    /// A sequence is read to its end before the next one begins, with the tables that it left.
    SequencesInTurn,
    /// As specified; but no gradient passes through the tables from one chunk to the one before it.
    Detached,
}

/// The events of a run.
///
/// # Errors   settings or rules out of range
pub fn events(plan: &Plan, tokens: usize) -> Result<Vec<Event>> {
    let one = Settings { heads: 1, sub_keys: 1, key_dim: 2, value_dim: 1, top_k: 1, ..plan.settings.clone() };
    let one = Settings { weights_over: WeightsOver::AllHeads, learning_rate: 0.0, ..one };
    let tables = Tables { sub_keys: ndarray::Array4::zeros((1, 2, 1, 1)), slot_values: Array2::<f64>::zeros((1, 1)) };
    let by_call = one.border == Border::Carry && plan.rules.stream_count == StreamCount::Call;
    let mut memory = Memory::new(one, plan.rules.clone(), tables)?;
    let mut trace = Trace::default();
    let mut events = Vec::new();
    let mut read = 0;
    let mut note = |trace: &mut Trace<f64>, events: &mut Vec<Event>| {
        let readings = std::mem::take(&mut trace.readings);
        let mut steps = std::mem::take(&mut trace.steps).into_iter().peekable();
        for after in 0..=readings.len() {
            while let Some(step) = steps.next_if(|step| step.after == after) {
                let from = read - step.chunk.values.dim().0;
                let queries = from..from + step.chunk.queries.dim().0;
                let counted = if by_call { read - step.counted_tokens..read } else { queries.clone() };
                events.push(Event::Step(Due { queries, values_to: read, counted }));
            }
            if let Some((tokens, _)) = readings.get(after) {
                events.push(Event::Read(read..read + tokens));
                read += tokens;
            }
        }
    };
    for (call, operations) in plan.each_call(tokens) {
        let (queries, values) = (Array3::zeros((1, call, 2)), Array3::zeros((1, call, 1)));
        let fed = fwpkm_reference::Tokens { queries: queries.view(), values: values.view(), gates: None, mask: None };
        memory.feed_traced(&fed, &mut trace)?;
        events.push(Event::Call);
        note(&mut trace, &mut events);
        for operation in operations {
            match operation {
                Operation::Flush => {
                    memory.flush_traced(&mut trace)?;
                    note(&mut trace, &mut events);
                }
                Operation::ResetQueue => memory.reset_queue(),
                Operation::ResetTables => events.push(Event::ResetTables),
            }
        }
    }
    if plan.flush {
        memory.flush_traced(&mut trace)?;
        note(&mut trace, &mut events);
    }
    Ok(events)
}
