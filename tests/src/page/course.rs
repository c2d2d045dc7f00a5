//! The run as a whole: when each token is read and written, and how loss and entropy go.

use std::fmt::Write;

use fwpkm_reference::rules::StreamCount;
use fwpkm_reference::settings::Border;

use super::chart::{Line, lines};
use super::html::{Panel, px, shown};
use super::record::Record;
use crate::error::Result;

/// Width of the line of tokens.
const WIDTH: f64 = 1000.0;

/// The panels of the whole run.
pub(crate) fn panels(out: &mut String, record: &Record) -> Result<()> {
    let border = match (record.settings.border, record.rules.stream_count) {
        _ if !record.settings.writes => ("BAT-4", "K and V never change"),
        (Border::Drop, _) => ("STR-2", "Q = tokens mC to (m + 1)C − 1, the step follows its last token"),
        (Border::Carry, StreamCount::Chunk) => {
            ("STR-3", "Q = tokens mC to (m + 1)C − 1, the step follows token (m + 1)C + L − 1")
        }
        (Border::Carry, StreamCount::Call) => ("STR-5", "Q = the queue without its last L tokens, once C are queued"),
    };
    let words = if record.settings.writes {
        "Above, which tables each token was read with; below, the step whose chunk it belongs to. The mark is the \
         token you look at."
    } else {
        "Above, the tables each token was read with: the initial ones. The mark is the token you look at."
    };
    Panel { clauses: &[("CHK-1", "read with the tables of the moment"), border], words, wide: true }
        .write(out, |out| timeline(out, record))?;
    if record.steps.is_empty() {
        return Ok(());
    }
    let words = "The mean loss of each step's pairs.";
    let mean = ("MEM-2", "mean of f · mean<sub>d</sub> (read − target)² over the pairs");
    let losses = record.steps.iter().map(|step| step.step.memorized.pair_losses.mean()).collect();
    let losses = [Line { name: "mean loss".into(), data: "mean_losses", values: losses }];
    Panel { clauses: &[mean], words, wide: false }
        .write(out, |out| lines(out, "Mean loss of each step", &losses, None, true))?;
    let words = "How evenly the sub-keys of each half are used; ln n is perfectly even.";
    let entropy = ("ADR-3", "H = −Σ<sub>i</sub> p̄<sub>i</sub> · ln(p̄<sub>i</sub> + e)");
    let of_half = |half: usize| record.steps.iter().map(|step| Some(step.step.addressed.entropy[half])).collect();
    let entropies = [("entropies_0", 0), ("entropies_1", 1)].map(|(data, half)| Line {
        name: format!("half {half}"),
        data,
        values: of_half(half),
    });
    let most = (record.settings.sub_keys as f64).ln();
    let name = format!("ln n = {}", shown(most));
    Panel { clauses: &[entropy], words, wide: false }
        .write(out, |out| lines(out, "Entropy of each half at each step", &entropies, Some((most, &name)), false))
}

/// Two rows over the tokens: tables read with, and steps.
fn timeline(out: &mut String, record: &Record) {
    let unit = WIDTH / record.tokens() as f64;
    let x = |token: usize| px(unit * token as f64);
    let _ = write!(
        out,
        "<div class=\"scroll\"><svg class=\"timeline\" width=\"{WIDTH}\" height=\"108\" viewBox=\"-6 0 {} 108\" \
         role=\"img\" aria-label=\"When each token is read and written\" data-unit=\"{unit}\">",
        WIDTH + 12.0
    );
    let mut block = |from: usize, to: usize, top: f64, class: &str, text: &str| {
        let (left, width) = (x(from), px(x(to) - x(from)));
        let _ = write!(out, "<rect class=\"{class}\" x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"30\"/>");
        if width > 7.5 * text.len() as f64 {
            let middle = px(left + width / 2.0);
            let _ = write!(out, "<text class=\"mid\" x=\"{middle}\" y=\"{}\">{text}</text>", top + 20.0);
        }
    };
    for (tables, from, to) in readings(record) {
        let text = match tables {
            0 => "initial tables".into(),
            _ => format!("tables after step {}", tables - 1),
        };
        block(from, to, 20.0, if tables % 2 == 0 { "even" } else { "odd" }, &text);
    }
    for (number, step) in record.steps.iter().enumerate() {
        let class = if number % 2 == 0 { "even" } else { "odd" };
        block(step.tokens.start, step.tokens.end, 56.0, class, &format!("step {number}"));
    }
    let written = record.steps.last().map_or(0, |step| step.tokens.end);
    if written < record.tokens() {
        block(written, record.tokens(), 56.0, "open", "no step");
    }
    for step in &record.steps {
        let at = x(step.after);
        let _ = write!(out, "<path class=\"taken\" d=\"M{at} 50V88l-4 -7h8l-4 7\"/>");
    }
    let every = (record.tokens() / 32 + 1).next_power_of_two();
    for token in (0..record.tokens()).step_by(if record.tokens() <= 40 { 1 } else { every }) {
        let _ = write!(out, "<text class=\"mid\" x=\"{}\" y=\"12\">{token}</text>", px(x(token) + unit / 2.0));
    }
    let _ = write!(out, "<rect class=\"now\" x=\"0\" y=\"17\" width=\"{}\" height=\"72\"/>", px(unit.max(2.0)));
    if !record.steps.is_empty() {
        out.push_str("<text x=\"0\" y=\"104\">▼ a step is taken</text>");
    }
    out.push_str("</svg></div>");
}

/// Tables with the tokens that were read with them.
fn readings(record: &Record) -> Vec<(usize, usize, usize)> {
    let mut all: Vec<(usize, usize, usize)> = Vec::new();
    for slice in &record.slices {
        match all.last_mut() {
            Some((tables, _, to)) if *tables == slice.tables => *to = slice.tokens.end,
            _ => all.push((slice.tables, slice.tokens.start, slice.tokens.end)),
        }
    }
    all
}
