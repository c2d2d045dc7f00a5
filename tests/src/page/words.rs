//! Settings, rules and shapes of a run, in words.

use std::fmt::Write;

use fwpkm_reference::rules::StreamCount;
use fwpkm_reference::settings::{Border, Score};
use fwpkm_reference::{Rules, Settings};
use serde_json::Value;

use super::html::{escape, number};
use super::record::Record;
use crate::settings_file::{RulesFile, SettingsFile};

/// Fields of Settings with what they are.
pub(crate) const SETTINGS: [(&str, &str); 24] = [
    ("heads", "H: reads per token, each with its own sub-keys; all share the slot values"),
    ("sub_keys", "n: sub-keys per half; the table has n² slots"),
    ("key_dim", "d<sub>k</sub>: numbers of a query per head, half of them in each half"),
    ("value_dim", "d<sub>v</sub>: numbers of a slot, a value and a read"),
    ("top_k", "k: slots that each head of a token reads"),
    ("chunk", "C: tokens of a chunk, after which the tables change"),
    ("lookahead", "L: how many tokens after its query the target stands"),
    ("border", "drop: a step follows each chunk, pairs across its border are lost; carry: it waits for all targets"),
    ("learning_rate", "η: size of both steps"),
    ("weight_decay", "λ: share of the tables that is taken away at each step"),
    ("gradient_clip", "limit of each gradient element"),
    ("score", "how a half of a query is compared with a sub-key"),
    ("epsilon", "ε of the inverse-distance score"),
    ("activation", "how pair scores become weights"),
    ("temperature", "τ: divides pair scores before that"),
    ("weights_over", "what one softmax runs over"),
    ("writes", "whether the tables change at all"),
    ("addressing_weight", "α: weight of the addressing loss"),
    ("memory_gradient_to_sub_keys", "whether the memorization loss moves the sub-keys too"),
    ("value_norm", "layer: normalisation of projected values"),
    ("query_norm", "layer: normalisation of projected queries"),
    ("output_gate", "layer: whether a gate mixes read and value"),
    ("gate_weighted_loss", "layer: whether gates weigh the loss"),
    ("rms_epsilon", "layer: ε of RMSNorm"),
];

/// Fields of Rules with what they are.
pub(crate) const RULES: [(&str, &str); 7] = [
    ("read_factor", "value step times 1, or times the k·H slots a token reads"),
    ("pair_factor", "value step times 1, or times samples per pair"),
    ("stream_count", "border carry: chunks cut by the text, or by the caller's calls"),
    ("log_epsilon", "added inside the entropy's logarithm"),
    ("kept", "sub-keys kept for addressing: exactly k, or all that tie with the k-th"),
    ("z_score", "layer: divisor of the z-score's variance"),
    ("sub_key_loss", "scale of the memorization loss that moves sub-keys"),
];

/// The run in a few sentences.
pub(crate) fn sentences(out: &mut String, record: &Record) {
    let Settings { heads, sub_keys: n, key_dim, value_dim, top_k, chunk, lookahead, .. } = record.settings;
    let (sequences, tokens, half) = (record.sequences(), record.tokens(), key_dim / 2);
    let mut say = |sentence: String| {
        let _ = writeln!(out, "<li>{sentence}</li>");
    };
    if record.text.mixed.is_some() {
        say("<b>Layer.</b> Queries and values are projections of hidden states (PRJ-1 to PRJ-6).".into());
    }
    say(format!(
        "<b>Text.</b> {} of {}. A token has a query of {} and a value of {}.",
        count(sequences, "sequence"),
        count(tokens, "token"),
        count(heads * key_dim, "number"),
        count(value_dim, "number")
    ));
    say(format!(
        "<b>Memory.</b> {n} sub-keys for each half of a query ({} each) name {n} · {n} = {} of {}.",
        count(half, "number"),
        count(n * n, "slot"),
        count(value_dim, "number")
    ));
    let score = match record.settings.score {
        Score::InverseDistance { .. } => "nearest to",
        Score::DotProduct => "with the largest product with",
    };
    say(format!(
        "<b>Read.</b> {} finds the {top_k} sub-keys {score} each half of its query, and reads the {} with the best sums.",
        if heads == 1 { "A token".into() } else { format!("Each of {heads} heads of a token") },
        count(top_k, "slot")
    ));
    if !record.settings.writes {
        say("<b>Write.</b> Never: this is a static memory.".into());
        return;
    }
    let when = match (record.settings.border, record.rules.stream_count) {
        (Border::Drop, _) => format!("After every {}", count(chunk, "token")),
        (Border::Carry, StreamCount::Chunk) => {
            format!("When a chunk of {} and all its targets have been read", count(chunk, "token"))
        }
        (Border::Carry, StreamCount::Call) => {
            format!("At the end of a slice of the caller's calls, once {} are queued,", count(chunk, "token"))
        }
    };
    say(format!(
        "<b>Write.</b> {when} one step moves the slots read towards the values {} later, and the sub-keys towards even \
         usage. {} taken in this run.",
        count(lookahead, "token"),
        if record.steps.len() == 1 { "One step is".into() } else { format!("{} steps are", record.steps.len()) }
    ));
}

fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// All settings and rules as two tables.
pub(crate) fn tables(out: &mut String, record: &Record) {
    let settings = serde_json::to_value(SettingsFile::from(&record.settings)).unwrap_or_default();
    table(out, "Settings", &SETTINGS, &settings);
    let title = match &record.rules {
        rules if *rules == Rules::paper() => "Rules: the paper's",
        rules if *rules == Rules::release() => "Rules: the release's",
        _ => "Rules",
    };
    let rules = serde_json::to_value(RulesFile::from(&record.rules)).unwrap_or_default();
    table(out, title, &RULES, &rules);
}

fn table(out: &mut String, title: &str, fields: &[(&str, &str)], values: &Value) {
    let _ = write!(out, "<table><caption>{title}</caption>");
    for (field, words) in fields {
        let value = match &values[field] {
            Value::Null => "none".into(),
            Value::String(text) => escape(text),
            Value::Number(given) => given.as_f64().map_or_else(|| given.to_string(), number),
            other => escape(&other.to_string()),
        };
        let _ = write!(out, "<tr><th>{field}</th><td>{value}</td><td>{words}</td></tr>");
    }
    out.push_str("</table>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_words() {
        let settings = serde_json::to_value(SettingsFile::from(&Settings::paper())).unwrap();
        let rules = serde_json::to_value(RulesFile::from(&Rules::paper())).unwrap();
        for (object, words) in [(settings, &SETTINGS[..]), (rules, &RULES[..])] {
            let fields = object.as_object().unwrap().keys().filter(|field| *field != "base");
            let fields: Vec<&str> = fields.map(String::as_str).collect();
            assert!(fields.iter().all(|field| words.iter().any(|(name, _)| name == field)), "{fields:?}");
            assert_eq!(fields.len(), words.len());
        }
    }
}
