//! The inputs of an entry: tables, then tokens one at a time, each drawn again until every selection it takes part in, under
//! every version's rules and with the tables of its moment, has the margins asked for.

use std::collections::BTreeMap;

use fwpkm_spec::ClosedForm;
use ndarray::{Array1, ArrayD, IxDyn};

use super::course::{After, Course, Row};
use super::draw::{Draw, Grid};
use super::entry::{Asked, Entry, Queries};
use super::tables::{Initial, draw_initial};
use crate::error::{Error, Result};

/// Inputs by name without `in.`, `cotangent.*` in full; all numbers exact in f32.
#[derive(Clone, Debug)]
pub struct Composed {
    /// Stored tensors.
    pub tensors: BTreeMap<String, ArrayD<f64>>,
    /// Tensors given by the closed form.
    pub closed_form: BTreeMap<String, ClosedForm>,
}

/// How often a token is drawn before the entry is given up.
const TRIES: usize = 4_000_000;
/// How often the tokens since a step are drawn before those before it are as well.
const RETURNS: usize = 40;

/// Draws the inputs of an entry.
///
/// # Errors   `Error::Vector` where no tokens with such margins are found
pub fn compose(entry: &Entry) -> Result<Composed> {
    let mut draw = Draw::new(entry.inputs.seed);
    let initial = draw_initial(&mut draw, &entry.settings, &entry.inputs)?;
    let text = draw_text(&mut draw, entry, &initial)?;
    let mut composed = tensors(entry, initial, &text)?;
    draw_cotangents(&mut draw, entry, &mut composed)?;
    Ok(composed)
}

/// What an outer loss takes of reads and last tables
fn draw_cotangents(draw: &mut Draw, entry: &Entry, composed: &mut Composed) -> Result<()> {
    let grid = Grid { most: 16, unit: 0.125 };
    let shapes = [
        ("cotangent.reads", vec![entry.sequences, entry.tokens, entry.settings.value_dim]),
        ("cotangent.sub_keys", composed.tensors["sub_keys"].shape().to_vec()),
        ("cotangent.slot_values", vec![entry.settings.slots(), entry.settings.value_dim]),
    ];
    let asked = match entry.inputs.cotangents {
        Asked::Nothing => 0,
        Asked::Reads => 1,
        Asked::ReadsAndTables => 3,
    };
    for (name, shape) in shapes.into_iter().take(asked) {
        let numbers = draw.numbers(grid, shape.iter().product());
        composed.tensors.insert(name.into(), ArrayD::from_shape_vec(shape, numbers)?);
    }
    Ok(())
}

/// Where drawing may go back to: so many tokens, and the courses after them.
struct Checkpoint {
    tokens: usize,
    courses: Vec<Course>,
    returns: usize,
}

fn draw_text(draw: &mut Draw, entry: &Entry, initial: &Initial) -> Result<Vec<Vec<Row>>> {
    let courses =
        entry.versions.iter().map(|(_, rules)| Course::new(entry, rules, &initial.tables, initial.projection.clone()));
    let mut courses = courses.collect::<Result<Vec<_>>>()?;
    let mut checkpoints = vec![Checkpoint { tokens: 0, courses: courses.clone(), returns: 0 }];
    let mut text: Vec<Vec<Row>> = Vec::new();
    let mut tries = 0;
    while text.len() < entry.tokens {
        let token = text.len();
        let rows = draw_token(draw, entry, initial, &courses, &text, &mut tries)?;
        let mut after = After::Nothing;
        if let Some(rows) = rows {
            for course in &mut courses {
                after = worse(after, course.push(rows.clone(), token, &entry.least)?);
            }
            text.push(rows);
        } else {
            after = After::Close;
        }
        match after {
            After::Nothing => {}
            After::Stepped => checkpoints.push(Checkpoint { tokens: token + 1, courses: courses.clone(), returns: 0 }),
            After::Close => go_back(entry, &mut checkpoints, &mut courses, &mut text)?,
        }
    }
    Ok(text)
}

fn worse(a: After, b: After) -> After {
    match (a, b) {
        (After::Close, _) | (_, After::Close) => After::Close,
        (After::Stepped, _) | (_, After::Stepped) => After::Stepped,
        _ => After::Nothing,
    }
}

fn go_back(
    entry: &Entry,
    checkpoints: &mut Vec<Checkpoint>,
    courses: &mut Vec<Course>,
    text: &mut Vec<Vec<Row>>,
) -> Result<()> {
    while checkpoints.last().is_some_and(|last| last.returns >= RETURNS) {
        checkpoints.pop();
    }
    // A repeated text stands or falls with its first reading.
    if entry.inputs.period > 0 {
        checkpoints.truncate(1);
    }
    let Some(last) = checkpoints.last_mut() else { return Err(no_tokens(entry, text.len())) };
    last.returns += 1;
    courses.clone_from(&last.courses);
    text.truncate(last.tokens);
    Ok(())
}

fn no_tokens(entry: &Entry, token: usize) -> Error {
    let reason = format!("no token {token} with the margins {:?}", entry.least);
    Error::Vector { name: entry.name.into(), reason }
}

/// The next token of every sequence; none where it is given by the period and its margins are too small.
fn draw_token(
    draw: &mut Draw,
    entry: &Entry,
    initial: &Initial,
    courses: &[Course],
    text: &[Vec<Row>],
    tries: &mut usize,
) -> Result<Option<Vec<Row>>> {
    let token = text.len();
    let again = token.checked_sub(entry.inputs.period).filter(|_| entry.inputs.period > 0);
    if let Some(rows) = again.and_then(|earlier| text.get(earlier)) {
        let allowed = rows.iter().map(|row| allowed(courses, row, entry, false));
        return Ok(allowed.collect::<Result<Vec<bool>>>()?.into_iter().all(|allowed| allowed).then(|| rows.clone()));
    }
    let near = entry.least.near.is_some() && token % 2 == 1;
    let mut rows = Vec::new();
    for sequence in 0..entry.sequences {
        let mut row = draw_beside_query(draw, entry, sequence, token);
        loop {
            row.query = draw_query(draw, entry, initial, sequence, token);
            if matches!(entry.inputs.queries, Queries::Given(_)) || allowed(courses, &row, entry, near)? {
                break;
            }
            *tries += 1;
            if *tries > TRIES {
                return Err(no_tokens(entry, token));
            }
        }
        rows.push(row);
    }
    Ok(Some(rows))
}

fn allowed(courses: &[Course], row: &Row, entry: &Entry, near: bool) -> Result<bool> {
    for course in courses {
        if !course.allows(row, &entry.least, near)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Value, gate and mask of a token
fn draw_beside_query(draw: &mut Draw, entry: &Entry, sequence: usize, token: usize) -> Row {
    let inputs = &entry.inputs;
    let width = if inputs.layer.is_some() { 0 } else { entry.settings.value_dim };
    let value = draw.numbers(inputs.values, width);
    let gate = if inputs.gates.is_empty() { 1.0 } else { draw.one_of(inputs.gates) };
    let mask = inputs.mask.get(sequence).is_none_or(|line| line.as_bytes().get(token) != Some(&b'0'));
    Row { query: Vec::new(), value, gate, mask }
}

fn draw_query(draw: &mut Draw, entry: &Entry, initial: &Initial, sequence: usize, token: usize) -> Vec<f64> {
    let settings = &entry.settings;
    let (half_dim, width) = (settings.half_dim(), settings.heads * settings.key_dim);
    if let Some(layer) = &entry.inputs.layer {
        return draw.numbers(layer.hidden, layer.width);
    }
    match &entry.inputs.queries {
        Queries::Wide(grid) => draw.numbers(*grid, width),
        Queries::Halves(first, second) => {
            let grid = |place: usize| if (place / half_dim).is_multiple_of(2) { *first } else { *second };
            (0..width).map(|place| draw.number(grid(place))).collect()
        }
        Queries::Near { first, offset } => {
            let choices = if *first == 0 { settings.sub_keys } else { *first };
            let mut query = Vec::new();
            for part in 0..settings.heads * 2 {
                let sub_key = draw.below(choices as u32) as usize;
                query.extend(
                    (0..half_dim)
                        .map(|d| initial.tables.sub_keys[[part / 2, part % 2, sub_key, d]] + draw.number(*offset)),
                );
            }
            query
        }
        Queries::Given(numbers) => {
            let row = sequence * entry.tokens + token;
            numbers.get(row * width..(row + 1) * width).unwrap_or_default().to_vec()
        }
    }
}

fn tensors(entry: &Entry, initial: Initial, text: &[Vec<Row>]) -> Result<Composed> {
    let mut tensors = BTreeMap::new();
    let mut put = |name: &str, tensor: ArrayD<f64>| tensors.insert(name.to_string(), tensor);
    let by_sequence: Vec<&Row> = (0..entry.sequences).flat_map(|b| text.iter().map(move |token| &token[b])).collect();
    let rows = |numbers: fn(&Row) -> Vec<f64>| -> Result<ArrayD<f64>> {
        let width = by_sequence.first().map_or(0, |row| numbers(row).len());
        let flat = by_sequence.iter().flat_map(|row| numbers(row)).collect();
        Ok(ArrayD::from_shape_vec(IxDyn(&[entry.sequences, entry.tokens, width]), flat)?)
    };
    let numbers = |number: fn(&Row) -> f64| -> Result<ArrayD<f64>> {
        let flat: Array1<f64> = by_sequence.iter().map(|row| number(row)).collect();
        Ok(flat.into_shape_with_order(IxDyn(&[entry.sequences, entry.tokens]))?)
    };
    put("sub_keys", initial.tables.sub_keys.into_dyn());
    if entry.inputs.layer.is_some() {
        put("hidden", rows(|row| row.query.clone())?);
    } else {
        put("queries", rows(|row| row.query.clone())?);
        put("values", rows(|row| row.value.clone())?);
    }
    if !entry.inputs.gates.is_empty() {
        put("gates", numbers(|row| row.gate)?);
    }
    if !entry.inputs.mask.is_empty() {
        put("mask", numbers(|row| f64::from(row.mask))?);
    }
    let maps = initial.projection.into_iter().flat_map(|projection| {
        let fwpkm_reference::projection::Projection { query, value, gate, output } = projection;
        [("query", Some(query)), ("value", Some(value)), ("gate", gate), ("output", Some(output))]
    });
    for (name, map) in maps.filter_map(|(name, map)| Some((name, map?))) {
        put(&format!("projection.{name}.norm"), map.norm.into_dyn());
        put(&format!("projection.{name}.weight"), map.weight.into_dyn());
        put(&format!("projection.{name}.bias"), map.bias.into_dyn());
    }
    let mut closed_form = BTreeMap::new();
    match initial.slot_values {
        Some(table) => _ = closed_form.insert("slot_values".to_string(), table),
        None => _ = put("slot_values", initial.tables.slot_values.into_dyn()),
    }
    Ok(Composed { tensors, closed_form })
}

/// Numbers that a case's inputs may consist of: at most eight significant bits, and small enough for f16.
pub fn is_exact_everywhere(number: f64) -> bool {
    let grid = Grid { most: 256, unit: 0.5_f64.powi(24) };
    (0..=32).any(|power| {
        let whole = number / (grid.unit * 2.0_f64.powi(power));
        whole.fract() == 0.0 && whole.abs() <= f64::from(grid.most)
    })
}
