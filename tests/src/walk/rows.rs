//! Tokens and rows of readings, cut and joined.

use std::ops::Range;

use fwpkm_reference::chunk::{Chunk, Reading};
use fwpkm_reference::projection::Projected;
use fwpkm_reference::{Scalar, Settings};
use ndarray::{Array2, Array3, Axis, s};

use super::{Due, Walked};
use crate::error::Result;
use crate::problem::{Tokens, cast, swapped};

/// The reads of all tokens; rows are (sequence, token).
pub(super) fn reads_by_sequence<S: Scalar>(walked: &Walked<S>, sequences: usize) -> Option<Array2<S>> {
    let views: Vec<_> = walked.trace.readings.iter().map(|(_, reading)| reading.reads.view()).collect();
    let rows = ndarray::concatenate(Axis(0), &views).ok()?;
    let (count, width) = rows.dim();
    let by_token = rows.into_shape_with_order((count / sequences, sequences, width)).ok()?;
    swapped(&by_token).into_shape_with_order((count, width)).ok()
}

/// What a layer's projections give its memory.
pub(crate) fn memory_tokens<S: Scalar>(
    settings: &Settings,
    projected: &Projected<S>,
    mask: Option<&Array2<bool>>,
    b: usize,
    t: usize,
) -> Result<Tokens<S>> {
    let by_token = |rows: &Array2<S>| -> Result<Array3<S>> {
        Ok(swapped(&rows.clone().into_shape_with_order((b, t, rows.ncols()))?))
    };
    let gates = projected.gates.as_ref().filter(|_| settings.gate_weighted_loss);
    let gates = gates.map(|gates| gates.clone().into_shape_with_order((b, t))).transpose()?;
    Ok(Tokens {
        queries: by_token(&projected.queries)?,
        values: by_token(&projected.values)?,
        gates: gates.as_ref().map(swapped),
        mask: mask.cloned(),
    })
}

/// Tokens in another type.
pub(crate) fn cast_tokens<S: Scalar>(tokens: &Tokens<f64>) -> Tokens<S> {
    Tokens {
        queries: cast(&tokens.queries),
        values: cast(&tokens.values),
        gates: tokens.gates.as_ref().map(cast),
        mask: tokens.mask.clone(),
    }
}

/// The chunk of a step.
pub(crate) fn chunk_of<S: Scalar>(tokens: &Tokens<S>, due: &Due, lookahead: usize) -> Chunk<S> {
    let queries = due.queries.clone();
    Chunk {
        queries: tokens.queries.slice(s![queries.clone(), .., ..]).to_owned(),
        values: tokens.values.slice(s![queries.start..due.values_to, .., ..]).to_owned(),
        gates: tokens.gates.as_ref().map(|gates| gates.slice(s![queries.clone(), ..]).to_owned()),
        mask: tokens.mask.as_ref().map(|mask| mask.slice(s![queries, ..]).to_owned()),
        lookahead,
    }
}

/// The readings of some tokens as one.
pub(crate) fn gathered<S: Scalar>(
    readings: &[(usize, Reading<S>)],
    tokens: Range<usize>,
    sequences: usize,
) -> Result<Reading<S>> {
    let mut parts = Vec::new();
    let mut at = 0;
    for (length, reading) in readings {
        let (from, to) = (tokens.start.max(at), tokens.end.min(at + length));
        if from < to {
            parts.push(rows_of(reading, (from - at) * sequences..(to - at) * sequences));
        }
        at += length;
    }
    joined(&parts)
}

/// Some rows of a reading.
pub(crate) fn rows_of<S: Scalar>(reading: &Reading<S>, rows: Range<usize>) -> Reading<S> {
    let selected = &reading.selected;
    Reading {
        scores: reading.scores.slice(s![rows.clone(), .., .., ..]).to_owned(),
        selected: fwpkm_reference::select::Selected {
            half_indices: selected.half_indices.slice(s![rows.clone(), .., .., ..]).to_owned(),
            half_scores: selected.half_scores.slice(s![rows.clone(), .., .., ..]).to_owned(),
            ranks: selected.ranks.slice(s![rows.clone(), .., .., ..]).to_owned(),
            pair_scores: selected.pair_scores.slice(s![rows.clone(), .., ..]).to_owned(),
            slots: selected.slots.slice(s![rows.clone(), .., ..]).to_owned(),
        },
        weights: reading.weights.slice(s![rows.clone(), .., ..]).to_owned(),
        reads: reading.reads.slice(s![rows, ..]).to_owned(),
    }
}

fn joined<S: Scalar>(parts: &[Reading<S>]) -> Result<Reading<S>> {
    macro_rules! join {
        ($($field:ident).+) => {
            ndarray::concatenate(Axis(0), &parts.iter().map(|part| part.$($field).+.view()).collect::<Vec<_>>())?
        };
    }
    Ok(Reading {
        scores: join!(scores),
        selected: fwpkm_reference::select::Selected {
            half_indices: join!(selected.half_indices),
            half_scores: join!(selected.half_scores),
            ranks: join!(selected.ranks),
            pair_scores: join!(selected.pair_scores),
            slots: join!(selected.slots),
        },
        weights: join!(weights),
        reads: join!(reads),
    })
}
