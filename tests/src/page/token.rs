//! Panels of a token: from half scores to its read.

use std::fmt::Write;

use fwpkm_reference::chunk::Reading;
use fwpkm_reference::settings::{Activation, Score};
use ndarray::{Axis, s};

use super::bars::{Bar, Bars};
use super::grid::{candidates, chosen_slots};
use super::heat::Heat;
use super::html::{Panel, figure, largest, number, shown, vector, view};
use super::plane::{Plane, border, is_plane};
use super::record::{Record, Slice};
use crate::error::Result;

/// A head of a token of a sequence, where its reading stands, and the tables it was read with.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) record: &'a Record,
    pub(crate) slice: &'a Slice,
    pub(crate) token: usize,
    pub(crate) sequence: usize,
    pub(crate) head: usize,
    pub(crate) row: usize,
}

impl Place<'_> {
    pub(crate) fn reading(&self) -> &Reading<f64> {
        &self.slice.reading
    }

    /// The sub-keys of a half that were chosen, best first
    pub(crate) fn chosen(&self, half: usize) -> Vec<usize> {
        self.reading().selected.half_indices.slice(s![self.row, self.head, half, ..]).to_vec()
    }

    fn is_first(&self) -> bool {
        self.token + self.sequence + self.head == 0
    }
}

/// Every head of every token; `heads` = 1 gives every token once
fn places(record: &Record, heads: usize) -> impl Iterator<Item = Place<'_>> {
    let sequences = record.sequences();
    record.slices.iter().flat_map(move |slice| {
        slice.tokens.clone().flat_map(move |token| {
            (0..sequences * heads).map(move |place| {
                let (sequence, head) = (place / heads, place % heads);
                let row = (token - slice.tokens.start) * sequences + sequence;
                Place { record, slice, token, sequence, head, row }
            })
        })
    })
}

fn of_heads(out: &mut String, record: &Record, content: impl Fn(&mut String, &Place)) {
    for place in places(record, record.settings.heads) {
        let key = format!("t{}b{}h{}", place.token, place.sequence, place.head);
        view(out, &key, place.is_first(), |out| content(out, &place));
    }
}

fn of_tokens(out: &mut String, record: &Record, content: impl Fn(&mut String, &Place)) {
    for place in places(record, 1) {
        let key = format!("t{}b{}", place.token, place.sequence);
        view(out, &key, place.is_first(), |out| content(out, &place));
    }
}

/// All panels of a token.
pub(crate) fn panels(out: &mut String, record: &Record) -> Result<()> {
    let score = match record.settings.score {
        Score::InverseDistance { .. } => ("SCR-1", "s<sub>i</sub> = −ln(ε + Σ<sub>d</sub> (q − K<sub>i</sub>)²)"),
        Score::DotProduct => ("SCR-2", "s<sub>i</sub> = Σ<sub>d</sub> q · K<sub>i</sub>"),
    };
    let words = "Each half of the query is compared with the n sub-keys of that half. The k best are chosen, in colour; \
                 rank 0 is the best. Bars to the left are negative scores, \
                 where shorter is better.";
    let best = ("SEL-1", "the k first, by score descending, then by index ascending");
    Panel { clauses: &[score, best], words, wide: true }.write(out, |out| of_heads(out, record, half_scores))?;
    let words = "Every pair of a chosen row and a chosen column is a candidate; its score is their sum. The k largest sums win, in \
                 colour with their place. A crossed-out pair cannot win, whatever the numbers: k others are at least as good.";
    let sums = ("SEL-2", "sum[a,b] = s⁰[a] + s¹[b], the k largest of k × k");
    let pruned = ("SEL-4", "only pairs of ranks with (a + 1)(b + 1) ≤ k can win");
    Panel { clauses: &[sums, pruned], words, wide: false }.write(out, |out| of_heads(out, record, candidates))?;
    let words = "Half 0 chooses rows of the table, half 1 columns. They cross in k · k candidates; the winners are the \
                 slots that are read.";
    Panel { clauses: &[("SEL-3", "slot = i · n + j")], words, wide: false }
        .write(out, |out| of_heads(out, record, chosen_slots))?;
    let weights = match record.settings.activation {
        Activation::Softmax => ("RD-1", "w = softmax(sum / τ)"),
        Activation::Silu => ("RD-2", "w = x · sigmoid(x), x = sum / τ"),
        Activation::Relu => ("RD-2", "w = max(x, 0), x = sum / τ"),
    };
    let words = if record.settings.writes {
        "The sums of the winners become weights; the read is the weighted sum of the slots. The step of this chunk \
         will move them so that the read comes nearer to the target, the value L tokens later."
    } else {
        "The sums of the winners become weights; the read is the weighted sum of the slots, which never change."
    };
    let read = ("RD-3", "read = Σ<sub>h,a</sub> w · V[slot]");
    let pair = ("MEM-1", "target<sub>t</sub> = v<sub>t+L</sub>");
    let clauses: &[_] = if record.settings.writes { &[weights, read, pair] } else { &[weights, read] };
    Panel { clauses, words, wide: true }.write(out, |out| {
        of_tokens(out, record, |out, place| {
            out.push_str("<div class=\"row\">");
            figure(out, "<b>Weights</b>", |out| weights_of(out, place));
            let slots = if record.settings.writes { "<b>Slots, read and target</b>" } else { "<b>Slots and read</b>" };
            figure(out, slots, |out| read_and_target(out, place));
            out.push_str("</div>");
        });
    })?;
    if record.text.mixed.is_some() {
        let words = "The layer passes on a mix of what was read and the token's own value.";
        let equation = if record.settings.output_gate { "o = g · read + (1 − g) · v" } else { "o = read + v" };
        Panel { clauses: &[("OUT-1", equation)], words, wide: true }.write(out, |out| of_tokens(out, record, mixed))?;
    }
    Ok(())
}

fn half_scores(out: &mut String, place: &Place) {
    let record = place.record;
    let plane = is_plane(record);
    out.push_str("<div class=\"row\">");
    for half in 0..2 {
        let query = record.query_half([place.token, place.sequence, place.head, half]);
        let chosen = place.chosen(half);
        let numbers =
            if query.len() <= 6 { format!(" · q = {}", vector(query.iter().copied())) } else { String::new() };
        figure(out, &format!("<b>Half {half}</b>{numbers}"), |out| {
            if plane {
                let tables = &record.tables[place.slice.tables];
                Plane {
                    label: "The query (cross) and the sub-keys of this half",
                    border: border(record),
                    sub_keys: tables.sub_keys.slice(s![place.head, half, .., ..]),
                    moved: None,
                    chosen: chosen.clone(),
                    query: Some(query),
                    queries: Vec::new(),
                }
                .write(out);
            }
            let scores = place.reading().scores.slice(s![place.row, place.head, half, ..]);
            let bar = |(index, &value): (usize, &f64)| {
                let rank = chosen.iter().position(|&chosen| chosen == index);
                let remark = rank.map_or_else(String::new, |rank| format!("rank {rank}"));
                Bar { name: format!("K{index}"), value, remark, chosen: rank.is_some() }
            };
            let name = ["half_scores_0", "half_scores_1"][half];
            let lines = scores.iter().enumerate().map(bar).collect();
            let length = if plane { 130.0 } else { 300.0 };
            Bars { name, label: "Scores of the sub-keys", length, reference: None, lines }.write(out);
        });
    }
    out.push_str("</div>");
}

fn weights_of(out: &mut String, place: &Place) {
    let (heads, n) = (place.record.settings.heads, place.record.settings.sub_keys);
    let selected = &place.reading().selected;
    let bar = |((head, number), &weight): ((usize, usize), &f64)| {
        let slot = selected.slots[[place.row, head, number]];
        let head_name = if heads > 1 { format!("head {head}: ") } else { String::new() };
        let name = format!("{head_name}V{slot} = ({}, {})", slot / n, slot % n);
        let remark = format!("sum {}", shown(selected.pair_scores[[place.row, head, number]]));
        Bar { name, value: weight, remark, chosen: true }
    };
    let lines = place.reading().weights.index_axis(Axis(0), place.row).indexed_iter().map(bar).collect();
    let label = "Weights of the slots that are read";
    Bars { name: "weights", label, length: 200.0, reference: None, lines }.write(out);
}

fn read_and_target(out: &mut String, place: &Place) {
    let record = place.record;
    let (token, sequence) = (place.token, place.sequence);
    let reading = place.reading();
    let slots = reading.selected.slots.index_axis(Axis(0), place.row);
    let values = &record.tables[place.slice.tables].slot_values;
    let mut rows = Vec::new();
    let mut numbers = Vec::new();
    for (&slot, &weight) in slots.iter().zip(reading.weights.index_axis(Axis(0), place.row)) {
        rows.push(format!("{} · V{slot}", number(weight)));
        numbers.extend(values.row(slot));
    }
    rows.push("= read".into());
    numbers.extend(reading.reads.row(place.row));
    let step =
        record.step_of(token).map(|number| (number, &record.steps[number], token - record.steps[number].tokens.start));
    let lookahead = record.settings.lookahead;
    let mut caption = String::new();
    match step {
        Some((number, step, position)) if position < step.pairs => {
            rows.push(format!("target v{}", token + lookahead));
            numbers.extend(record.text.values.slice(s![sequence, token + lookahead, ..]));
            let weight = step.pair_weights[[position, sequence]];
            let loss = step.step.memorized.pair_losses[[position, sequence]];
            let _ = write!(caption, "Step {number} counts a loss of {} for this pair", shown(loss));
            let _ = match weight {
                1.0 => write!(caption, "."),
                0.0 => write!(caption, ": it weighs 0 (masked)."),
                weight => write!(caption, ", of weight {} (its gate).", shown(weight)),
            };
        }
        Some((number, ..)) => {
            let _ = write!(caption, "No target: token {} is not in the chunk of step {number}.", token + lookahead);
        }
        None if record.settings.writes => caption.push_str("The run ends before a step takes this token."),
        None => caption.push_str("No step follows: the memory is static."),
    }
    let target = if record.settings.writes { ", read and target" } else { " and read" };
    table(out, "read", &format!("Slot values{target}, one column per feature"), rows, numbers);
    let _ = write!(out, "<p class=\"caption\">{caption}</p>");
}

fn mixed(out: &mut String, place: &Place) {
    let (record, at) = (place.record, (place.sequence, place.token));
    let Some(mixed) = &record.text.mixed else { return };
    let rows = ["read", "value v", "mixed o"].map(String::from).to_vec();
    let mut numbers = place.reading().reads.row(place.row).to_vec();
    numbers.extend(record.text.values.slice(s![at.0, at.1, ..]));
    numbers.extend(mixed.slice(s![at.0, at.1, ..]));
    table(out, "mixed", "Read, value and their mix, one column per feature", rows, numbers);
    if let Some(gates) = &record.text.gates {
        let _ = write!(out, "<p class=\"caption\">g = {}</p>", shown(gates[at]));
    }
}

/// Rows of numbers that are compared feature by feature
fn table(out: &mut String, name: &str, label: &str, rows: Vec<String>, values: Vec<f64>) {
    let columns = values.len().checked_div(rows.len()).unwrap_or(0);
    let width = (400.0 / columns.max(1) as f64).clamp(6.0, 56.0);
    let digits = if width >= 36.0 { 2 } else { 0 };
    let full = largest(&values);
    Heat { name, label, rows, names: 92.0, columns, values, full, cell: (width, 30.0), digits, slots: false }
        .write(out);
}
