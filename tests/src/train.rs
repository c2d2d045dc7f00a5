//! The gradients of a run's inputs, by name.                                                       GRD-1

use fwpkm_reference::{Gradients, Memory, Tape, Tokens};
use fwpkm_spec::case::Operation;

use crate::element::{Element, real};
use crate::error::{Error, Result};
use crate::inputs::{Cotangents, Inputs, Piece};
use crate::run::{Outputs, Plan};
use crate::store::put;

/// `grad.*` of a run, given what its reads and last tables contribute to an outer loss.              [GRD-1]
///
/// # Errors   those of the interpreter; calls that do not add up to the tokens there are
pub fn gradients<S: Element>(plan: &Plan, inputs: &Inputs, cotangents: &Cotangents<S>) -> Result<Outputs> {
    let mut tape = Tape::new(Memory::new(plan.settings.clone(), plan.rules.clone(), inputs.tables()?)?)?;
    let mut from = 0;
    for (call, operations) in plan.each_call(inputs.tokens()) {
        let Piece::Memory { queries, values, gates, mask } = inputs.piece(from, from + call)? else {
            return Err(Error::Usage { reason: "a layer has no gradients here".into() });
        };
        let (gates, mask) = (gates.as_ref().map(|array| array.view()), mask.as_ref().map(|array| array.view()));
        tape.feed(&Tokens { queries: queries.view(), values: values.view(), gates, mask })?;
        for operation in operations {
            match operation {
                Operation::Flush => drop(tape.flush()?),
                Operation::ResetQueue => tape.reset_queue()?,
                Operation::ResetTables => tape.reset_tables(inputs.tables()?)?,
            }
        }
        from += call;
    }
    if plan.flush {
        tape.flush()?;
    }
    Ok(outputs(&tape.backward(&cotangents.view())?))
}

/// Gradients by name.
pub fn outputs<S: Element>(gradients: &Gradients<S>) -> Outputs {
    let mut out = Outputs::new();
    put(&mut out, "grad.queries", real(gradients.queries.view()));
    put(&mut out, "grad.values", real(gradients.values.view()));
    if let Some(gates) = &gradients.gates {
        put(&mut out, "grad.gates", real(gates.view()));
    }
    put(&mut out, "grad.sub_keys", real(gradients.tables.sub_keys.view()));
    put(&mut out, "grad.slot_values", real(gradients.tables.slot_values.view()));
    out
}
