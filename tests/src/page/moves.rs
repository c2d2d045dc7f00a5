//! The panel of a step's sub-keys: where they were, where they are, how far they moved.

use fwpkm_reference::settings::Score;
use ndarray::{ArrayView2, Axis, s};

use super::bars::{Bar, Bars};
use super::heat::Heat;
use super::html::{Panel, figure, largest, view};
use super::plane::{Plane, border, is_plane};
use super::record::{Record, Taken};
use super::step::lengths;
use crate::error::Result;

/// The panel of the sub-keys' step.
pub(crate) fn panel(out: &mut String, record: &Record) -> Result<()> {
    let descent = ("ADR-6", "K ← K − η · (clip(G) + λ · K)");
    let gradient = match record.settings.score {
        Score::InverseDistance { .. } => ("ADR-5", "G = Σ<sub>t</sub> s′ · 2(q − K) / (ε + Σ<sub>d</sub> (q − K)²)"),
        Score::DotProduct => ("ADR-5", "G = Σ<sub>t</sub> s′ · q"),
    };
    let memory = ("MEM-6", "s′ gains ∂(½ Σ f · |read − target|²)/∂s");
    let clauses = [gradient, memory, descent];
    let clauses = if record.settings.memory_gradient_to_sub_keys { &clauses[..] } else { &[gradient, descent][..] };
    let words = if is_plane(record) {
        "How far each sub-key moved. In the plane, a line leads from where it was to where it is; the small dots are the \
         chunk's queries."
    } else {
        "How far each sub-key moved, and the sub-keys before and after, one row each."
    };
    Panel { clauses, words, wide: true }.write(out, |out| {
        for (number, step) in record.steps.iter().enumerate() {
            for head in 0..record.settings.heads {
                let key = format!("s{number}h{head}");
                view(out, &key, number + head == 0, |out| moves(out, record, number, step, head));
            }
        }
    })
}

fn moves(out: &mut String, record: &Record, number: usize, step: &Taken, head: usize) {
    let (old, new) = (&record.tables[number].sub_keys, &record.tables[number + 1].sub_keys);
    out.push_str("<div class=\"row\">");
    for half in 0..2 {
        let (old, new) = (old.slice(s![head, half, .., ..]), new.slice(s![head, half, .., ..]));
        let change = &new - &old;
        let moved = lengths(change.view());
        out.push_str("<div class=\"row\">");
        if is_plane(record) {
            let queries = step.tokens.clone().flat_map(|token| {
                (0..record.sequences()).map(move |sequence| record.query_half([token, sequence, head, half]))
            });
            let queries = queries.collect();
            let label = "The sub-keys before and after, and the queries of the chunk";
            let border = border(record);
            let plane =
                Plane { label, border, sub_keys: old, moved: Some(new), chosen: Vec::new(), query: None, queries };
            figure(out, &format!("<b>Half {half}</b>"), |out| plane.write(out));
        } else {
            matrices(out, half, old, new);
        }
        let bar = |(index, &value): (usize, &f64)| Bar {
            name: format!("K{index}"),
            value,
            remark: String::new(),
            chosen: true,
        };
        let lines = moved.iter().enumerate().map(bar).collect();
        let name = ["moved_0", "moved_1"][half];
        let label = "How far each sub-key moved";
        figure(out, "moved by", |out| Bars { name, label, length: 100.0, reference: None, lines }.write(out));
        out.push_str("</div>");
    }
    out.push_str("</div>");
}

/// The sub-keys of a half before and after, on one scale
fn matrices(out: &mut String, half: usize, old: ArrayView2<f64>, new: ArrayView2<f64>) {
    let full = largest(old.iter().chain(&new));
    let width = (120.0 / old.len_of(Axis(1)) as f64).clamp(4.0, 30.0);
    let height = if old.nrows() > 24 { 13.0 } else { 19.0 };
    let before = format!("<b>Half {half}</b> before");
    for (caption, name, keys) in [(before.as_str(), "sub_keys_before", old), ("after", "sub_keys_after", new)] {
        let rows = (0..keys.nrows()).map(|index| format!("K{index}")).collect();
        let (columns, values) = (keys.ncols(), keys.iter().copied().collect());
        let label = "Sub-keys, one row each";
        let cell = (width, height);
        let map = Heat { name, label, rows, names: 30.0, columns, values, full, cell, digits: 0, slots: false };
        figure(out, caption, |out| map.write(out));
    }
}
