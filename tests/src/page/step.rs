//! Panels of a step: what one chunk does to both tables.

use std::fmt::Write;

use fwpkm_reference::settings::Border;
use ndarray::{ArrayView1, ArrayView2};

use super::bars::{Bar, Bars};
use super::chart::columns;
use super::heat::Heat;
use super::html::{Panel, figure, largest, numbers, shown, view};
use super::moves;
use super::record::{Record, Taken, by_call};
use crate::error::Result;

fn of_steps(out: &mut String, record: &Record, content: impl Fn(&mut String, usize, &Taken)) {
    for (number, step) in record.steps.iter().enumerate() {
        view(out, &format!("s{number}"), number == 0, |out| content(out, number, step));
    }
}

/// All panels of a step.
pub(crate) fn panels(out: &mut String, record: &Record) -> Result<()> {
    let words = "Both steps are computed from the same tables and applied together.";
    Panel { clauses: &[("CHK-2", "(K, V) ← (K′, V′)")], words, wide: false }
        .write(out, |out| of_steps(out, record, |out, number, step| facts(out, record, number, step)))?;
    let words = "One column per token of the chunk. The closer a read was to its target, the lower.";
    let loss =
        ("MEM-2", "loss<sub>t</sub> = f<sub>t</sub> · mean<sub>d</sub> (read<sub>t</sub> − target<sub>t</sub>)²");
    Panel { clauses: &[loss], words, wide: false }
        .write(out, |out| of_steps(out, record, |out, _, step| losses(out, record, step)))?;
    let counted = if by_call(&record.settings, &record.rules) {
        "How often the last slice of the caller's calls read each slot (STR-5)."
    } else {
        "How often the chunk read each slot."
    };
    let words =
        format!("{counted} Rows are sub-keys of half 0, columns of half 1; outlined are the slots of the token above.");
    let counts = ("MEM-3", "N<sub>i</sub> = number of reads of slot i");
    Panel { clauses: &[counts], words: &words, wide: false }
        .write(out, |out| of_steps(out, record, |out, _, step| read_counts(out, record, step)))?;
    let words = "How strongly the loss pulls at each slot: the length of its gradient, divided by its read count.";
    let gradient = (
        "MEM-4",
        "G<sub>i</sub> = F / max(N<sub>i</sub>, 1) · Σ f<sub>t</sub> · w · (read<sub>t</sub> − target<sub>t</sub>)",
    );
    Panel { clauses: &[gradient], words, wide: false }
        .write(out, |out| of_steps(out, record, |out, _, step| gradients(out, record, step)))?;
    let words = "The length of every slot's value before and after, and of its change. The first two share one scale.";
    let descent = ("MEM-5", "V<sub>i</sub> ← V<sub>i</sub> − η · (clip(G<sub>i</sub>) + λ · V<sub>i</sub>)");
    Panel { clauses: &[descent], words, wide: true }
        .write(out, |out| of_steps(out, record, |out, number, _| slot_values(out, record, number)))?;
    let words = "How much of the chunk each sub-key serves. The dashed line is even usage, 1/n, where the entropy is \
                 largest: ln n.";
    let marginal = ("ADR-2", "p̄<sub>i</sub> = mean over tokens and heads of softmax(kept scores)<sub>i</sub>");
    let entropy = ("ADR-3", "H = −Σ<sub>i</sub> p̄<sub>i</sub> · ln(p̄<sub>i</sub> + e), loss = α · (−H⁰ − H¹)");
    Panel { clauses: &[marginal, entropy], words, wide: true }
        .write(out, |out| of_steps(out, record, |out, _, step| usage(out, step)))?;
    moves::panel(out, record)
}

fn facts(out: &mut String, record: &Record, number: usize, step: &Taken) {
    let (memorized, addressed) = (&step.step.memorized, &step.step.addressed);
    let sequences = record.sequences();
    let mean = memorized.pair_losses.mean().map_or_else(|| "none: no pairs".into(), shown);
    let (before, after) = (&record.tables[number], &record.tables[number + 1]);
    let moved = before.slot_values.rows().into_iter().zip(after.slot_values.rows()).filter(|(a, b)| a != b).count();
    let tokens = match step.tokens.len() {
        0 => "none".into(),
        1 => format!("{}", step.tokens.start),
        _ => format!("{} to {}", step.tokens.start, step.tokens.end - 1),
    };
    let when = match (step.by_flush, record.settings.border) {
        (true, _) => "by the flush, at the end of the text (STR-4)".to_string(),
        (false, Border::Drop) => format!("after token {}, with the reading it already had", step.after - 1),
        (false, Border::Carry) => format!("after token {}, from a second reading", step.after - 1),
    };
    let of_sequences = if sequences > 1 { format!(" · {sequences} sequences") } else { String::new() };
    let rows = [
        ("tokens", format!("{tokens}{of_sequences}")),
        ("taken", when),
        ("pairs", format!("{}{of_sequences}", step.pairs)),
        ("mean loss", mean),
        ("addressing loss", shown(addressed.loss)),
        ("slots read", memorized.read_counts.iter().filter(|&&count| count > 0).count().to_string()),
        ("slots changed", format!("{moved} of {}", record.settings.slots())),
        ("factor F", shown(step.factor)),
    ];
    let _ = write!(out, "<table class=\"facts\"><caption>Step {number}</caption>");
    for (name, value) in rows {
        let _ = write!(out, "<tr><th>{name}</th><td>{value}</td></tr>");
    }
    out.push_str("</table>");
}

fn losses(out: &mut String, record: &Record, step: &Taken) {
    let losses = &step.step.memorized.pair_losses;
    let tokens = step.tokens.len();
    // In a narrow column a sign stands for the words.
    let narrow = tokens > 9;
    let (no_target, masked) = if narrow { ("×", "m") } else { ("no target", "masked") };
    let signs = if narrow { "×: no target, m: masked" } else { "" };
    for sequence in 0..record.sequences() {
        let values: Vec<Option<f64>> = (0..tokens).map(|position| losses.get([position, sequence]).copied()).collect();
        let mark = |position| match step.pair_weights.get([position, sequence]) {
            None => no_target,
            Some(0.0) => masked,
            Some(_) => "",
        };
        let marks: Vec<&str> = (0..tokens).map(mark).collect();
        let of_several = if record.sequences() > 1 { format!("<b>Sequence {sequence}</b> ") } else { String::new() };
        figure(out, &format!("{of_several}{signs}"), |out| {
            columns(
                out,
                "pair_losses",
                "Loss of each pair",
                step.tokens.start,
                &values,
                &marks,
                losses.iter().copied(),
            );
        });
    }
}

/// Numbers of the touched slots as a map over all
fn over_slots(record: &Record, step: &Taken, number: impl Fn(usize) -> f64) -> Vec<f64> {
    let mut all = vec![0.0; record.settings.slots()];
    for (place, &slot) in step.step.memorized.slots.iter().enumerate() {
        all[slot] = number(place);
    }
    all
}

fn read_counts(out: &mut String, record: &Record, step: &Taken) {
    let counts = over_slots(record, step, |place| step.step.memorized.read_counts[place] as f64);
    let n = record.settings.sub_keys;
    let map = Heat::of_slots("read_counts", "Read counts over the slots", n, counts, 300.0);
    let digits = if n <= 16 { 4 } else { 0 };
    Heat { digits, ..map }.write(out);
}

fn gradients(out: &mut String, record: &Record, step: &Taken) {
    let lengths = over_slots(record, step, |place| length(step.step.memorized.value_gradient.row(place)));
    Heat::of_slots(
        "gradient_norms",
        "Lengths of the value gradients over the slots",
        record.settings.sub_keys,
        lengths,
        300.0,
    )
    .write(out);
}

fn length(vector: ArrayView1<f64>) -> f64 {
    vector.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// Length of each row
pub(crate) fn lengths(rows: ArrayView2<f64>) -> Vec<f64> {
    rows.rows().into_iter().map(length).collect()
}

fn slot_values(out: &mut String, record: &Record, number: usize) {
    let (old, new) = (&record.tables[number].slot_values, &record.tables[number + 1].slot_values);
    let (before, after, change) = (lengths(old.view()), lengths(new.view()), lengths((new - old).view()));
    let full = largest(before.iter().chain(&after));
    let n = record.settings.sub_keys;
    out.push_str("<div class=\"row\">");
    for (caption, name, values, full) in [
        ("before", "values_before", before, full),
        ("after", "values_after", after, full),
        ("change", "values_change", change, 0.0),
    ] {
        figure(out, &format!("<b>{caption}</b>"), |out| {
            Heat { full, ..Heat::of_slots(name, "Lengths over the slots", n, values, 300.0) }.write(out);
        });
    }
    out.push_str("</div>");
}

fn usage(out: &mut String, step: &Taken) {
    let addressed = &step.step.addressed;
    out.push_str("<div class=\"row\">");
    for (half, marginal) in addressed.marginal.outer_iter().enumerate() {
        let n = marginal.len() as f64;
        let entropy = shown(addressed.entropy[half]);
        let caption = format!("<b>Half {half}</b> · H = {entropy} of at most {}", shown(n.ln()));
        figure(out, &caption, |out| {
            let bar = |(index, &value): (usize, &f64)| Bar {
                name: format!("K{index}"),
                value,
                remark: String::new(),
                chosen: value >= 1.0 / n,
            };
            let lines = marginal.iter().enumerate().map(bar).collect();
            let name = ["marginal_0", "marginal_1"][half];
            let label = "Marginal usage of the sub-keys";
            Bars { name, label, length: 340.0, reference: Some(1.0 / n), lines }.write(out);
        });
    }
    let entropy = numbers(addressed.entropy.iter().copied());
    let _ = write!(out, "</div><span hidden data-name=\"entropy\" data-values=\"{entropy}\"></span>");
}
