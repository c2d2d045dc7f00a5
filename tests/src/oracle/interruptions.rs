//! What may happen between two calls of a stream without a trace.

use fwpkm_reference::{Error, Memory, State};
use ndarray::{Array, Array2, Axis, Dimension, RemoveAxis};

use super::judge::Judge;
use super::scene::Text;
use crate::Result;
use crate::element::Element;
use crate::state_file::{Saved, load, save};

/// Something that changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Nothing.
    Nothing,
    /// A call without tokens.
    Empty,
    /// The memory is taken down to its state and made again.
    Restored,
    /// The same by way of a file.
    Saved,
    /// A call that has a number that is not finite.
    NotFinite,
    /// A call of another number of sequences.
    Batch,
    /// A call with gates where the queued tokens had none, or the other way round.
    Presence,
}

/// Files are slow, so rare.
pub(super) const ACTS: [Act; 16] = {
    use Act::{Batch, Empty, NotFinite, Nothing, Presence, Restored, Saved};
    [
        Nothing, Nothing, Nothing, Empty, Restored, NotFinite, Batch, Presence, Nothing, Empty, Restored, Restored,
        NotFinite, Batch, Presence, Saved,
    ]
};

/// Does it.
///
/// # Panics
/// Where it is refused and should not be, or the other way round.
pub(super) fn interrupt<S: Element>(judge: &Judge, act: Act, memory: &mut Memory<S>, text: &Text<S>) {
    match act {
        Act::Nothing => {}
        Act::Empty => {
            let fed = memory.feed(&text.part(0, 0).tokens());
            let empty = fed.as_ref().is_ok_and(|fed| fed.steps.is_empty() && fed.reads.is_empty());
            judge.claim("STR-1", empty, || format!("an empty call gave {fed:?}"));
        }
        Act::Restored => restore(judge, memory, memory.clone().into_state()),
        Act::Saved => match through_file(memory) {
            Ok(state) => restore(judge, memory, state),
            Err(error) => judge.claim("BAT-5", false, || error.to_string()),
        },
        Act::NotFinite | Act::Batch | Act::Presence if text.shape().1 == 0 => {}
        Act::NotFinite => {
            let mut token = text.part(0, 1);
            token.values[[0, 0, 0]] = S::from_f64(f64::NAN);
            let refused = |error: &Error| error.to_string().contains("is not finite");
            is_refused(judge, "NUM-7", memory, &token, refused);
        }
        // Without queued tokens both are allowed.
        Act::Batch | Act::Presence if memory.queued() == 0 => {}
        Act::Batch => {
            let token = text.part(0, 1);
            let sequences = 3 - text.shape().0;
            let token = Text {
                queries: resized(&token.queries, sequences),
                values: resized(&token.values, sequences),
                gates: token.gates.as_ref().map(|gates| resized(gates, sequences)),
                mask: token.mask.as_ref().map(|mask| resized(mask, sequences)),
            };
            is_refused(judge, "BAT-1", memory, &token, |error| matches!(error, Error::Batch { .. }));
        }
        Act::Presence => {
            let mut token = text.part(0, 1);
            let ones = Array2::from_elem((text.shape().0, 1), S::ONE);
            token.gates = if token.gates.is_some() { None } else { Some(ones) };
            is_refused(judge, "STR-1", memory, &token, |error| matches!(error, Error::Presence { .. }));
        }
    }
}

fn is_refused<S: Element>(
    judge: &Judge,
    clause: &str,
    memory: &mut Memory<S>,
    call: &Text<S>,
    expected: impl FnOnce(&Error) -> bool,
) {
    let fed = memory.feed(&call.tokens());
    let refused = fed.as_ref().is_err_and(expected);
    judge.claim(clause, refused, || format!("a call that cannot be taken gave {fed:?}: {call:?}"));
}

/// Another number of sequences, each the first one
fn resized<T: Clone, D: Dimension + RemoveAxis>(tokens: &Array<T, D>, sequences: usize) -> Array<T, D> {
    tokens.select(Axis(0), &vec![0; sequences])
}

fn restore<S: Element>(judge: &Judge, memory: &mut Memory<S>, state: State<S>) {
    match Memory::from_state(state) {
        Ok(restored) => *memory = restored,
        Err(error) => judge.claim("BAT-5", false, || error.to_string()),
    }
}

fn through_file<S: Element>(memory: &Memory<S>) -> Result<State<S>> {
    let refused = |error: std::io::Error| crate::Error::File { path: "a folder".into(), reason: error.to_string() };
    let folder = tempfile::tempdir().map_err(refused)?;
    let path = folder.path().join("state");
    save(&path, &Saved { state: memory.clone().into_state(), tokens: 0 })?;
    Ok(load(&path)?.state)
}
