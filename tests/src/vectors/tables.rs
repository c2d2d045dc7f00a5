//! The tensors of an entry that do not depend on tokens: tables, and the maps of a layer.

use fwpkm_reference::projection::{NormedLinear, Projection};
use fwpkm_reference::{Settings, Tables};
use fwpkm_spec::ClosedForm;
use ndarray::{Array1, Array2, Array4};

use super::draw::{Draw, Grid};
use super::entry::{Inputs, LayerInputs, Table};
use crate::error::{Error, Result};

/// Tables before the first token, and how the slot values are given where they are not stored.
pub(super) struct Initial {
    pub(super) tables: Tables<f64>,
    pub(super) slot_values: Option<ClosedForm>,
    pub(super) projection: Option<Projection<f64>>,
}

/// Draws sub-keys, slot values and maps, in this order.
pub(super) fn draw_initial(draw: &mut Draw, settings: &Settings, inputs: &Inputs) -> Result<Initial> {
    let sub_keys = draw_sub_keys(draw, settings, &inputs.sub_keys)?;
    let shape = vec![settings.slots(), settings.value_dim];
    let closed_form = match inputs.slot_values {
        Table::ClosedForm { seed, unit } => Some(ClosedForm { shape, seed, unit }),
        Table::Drawn(_) | Table::Given(_) => None,
    };
    let count = settings.slots() * settings.value_dim;
    let numbers = match (&inputs.slot_values, &closed_form) {
        (_, Some(table)) => table.elements(0..count).into_iter().map(f64::from).collect(),
        (Table::Drawn(grid), _) => draw.numbers(*grid, count),
        (Table::Given(numbers), _) => numbers.clone(),
        (Table::ClosedForm { .. }, None) => Vec::new(),
    };
    let slot_values = Array2::from_shape_vec((settings.slots(), settings.value_dim), numbers)?;
    let projection = inputs.layer.as_ref().map(|layer| draw_projection(draw, settings, layer));
    Ok(Initial { tables: Tables { sub_keys, slot_values }, slot_values: closed_form, projection })
}

/// Sub-keys of which no two of a half are equal
fn draw_sub_keys(draw: &mut Draw, settings: &Settings, table: &Table) -> Result<Array4<f64>> {
    let (heads, n, width) = (settings.heads, settings.sub_keys, settings.half_dim());
    let grid = match table {
        Table::Drawn(grid) => *grid,
        Table::Given(numbers) => return Ok(Array4::from_shape_vec((heads, 2, n, width), numbers.clone())?),
        Table::ClosedForm { .. } => {
            return Err(Error::Usage {
                reason: "sub-keys of a vector are stored, not given by the closed form".into(),
            });
        }
    };
    let mut numbers: Vec<f64> = Vec::new();
    for _ in 0..heads * 2 {
        let from = numbers.len();
        while numbers.len() < from + n * width {
            let sub_key = draw.numbers(grid, width);
            if !numbers[from..].chunks(width).any(|other| other == sub_key) {
                numbers.extend(sub_key);
            }
        }
    }
    Ok(Array4::from_shape_vec((heads, 2, n, width), numbers)?)
}

fn draw_projection(draw: &mut Draw, settings: &Settings, layer: &LayerInputs) -> Projection<f64> {
    let mut map = |inputs: usize, outputs: usize, (weight, bias): (Grid, Grid)| NormedLinear {
        norm: Array1::from_shape_fn(inputs, |_| draw.number(layer.norm)),
        weight: Array2::from_shape_fn((outputs, inputs), |_| draw.number(weight)),
        bias: Array1::from_shape_fn(outputs, |_| draw.number(bias)),
    };
    let (gates, weight, bias) = layer.gate;
    Projection {
        query: map(layer.width, settings.heads * settings.key_dim, layer.query),
        value: map(layer.width, settings.value_dim, layer.value),
        gate: (gates > 0).then(|| map(layer.width, gates, (weight, bias))),
        output: map(settings.value_dim, layer.width, layer.output),
    }
}
