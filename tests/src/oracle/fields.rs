//! The tables of SPEC.md, "Settings" and "Rules": which values a field may have.

use toml::{Table, Value};

use super::bytes::Bytes;

/// A field of a settings or rules file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    allowed: Allowed,
    /// What it is where it is not given, as text: of the paper, of the release; nothing where it is then absent.
    defaults: [&'static str; 2],
}

#[derive(Clone, Copy, Debug)]
enum Allowed {
    /// A whole number from this on.
    AtLeast(i64),
    /// An even number from 2 on.
    Even,
    /// A finite number from 0 on.
    From0,
    /// A finite number above 0.
    Above0,
    /// Truth.
    Flag,
    /// One of these texts.
    OneOf(&'static [&'static str]),
}

use Allowed::{Above0, AtLeast, Even, Flag, From0, OneOf};

const fn rule(name: &'static str, allowed: Allowed, defaults: [&'static str; 2]) -> Field {
    Field { name, allowed, defaults }
}

const fn setting(name: &'static str, allowed: Allowed, default: &'static str) -> Field {
    rule(name, allowed, [default, default])
}

pub(super) const SETTINGS: &[Field] = &[
    setting("heads", AtLeast(1), "1"),
    setting("sub_keys", AtLeast(1), "512"),
    setting("key_dim", Even, "512"),
    setting("value_dim", AtLeast(1), "512"),
    setting("top_k", AtLeast(1), "8"),
    setting("chunk", AtLeast(1), "512"),
    setting("lookahead", AtLeast(0), "1"),
    setting("border", OneOf(&["drop", "carry"]), "\"drop\""),
    setting("learning_rate", From0, "1.0"),
    setting("weight_decay", From0, "0.0"),
    setting("gradient_clip", Above0, ""),
    setting("score", OneOf(&["inverse_distance", "dot_product"]), "\"inverse_distance\""),
    setting("epsilon", Above0, "1e-3"),
    setting("activation", OneOf(&["softmax", "silu", "relu"]), "\"softmax\""),
    setting("temperature", Above0, "1.0"),
    setting("weights_over", OneOf(&["all_heads", "each_head"]), "\"all_heads\""),
    setting("writes", Flag, "true"),
    setting("addressing_weight", From0, "1.0"),
    setting("memory_gradient_to_sub_keys", Flag, "false"),
    setting("value_norm", OneOf(&["z_score", "l2", "none"]), "\"z_score\""),
    setting("query_norm", OneOf(&["z_score", "l2", "none"]), "\"none\""),
    setting("output_gate", Flag, "true"),
    setting("gate_weighted_loss", Flag, "true"),
    setting("rms_epsilon", Above0, "1e-5"),
];

pub(super) const RULES: &[Field] = &[
    rule("base", OneOf(&["paper", "release"]), ["", ""]),
    rule("read_factor", OneOf(&["one", "slots_per_token"]), ["\"one\"", "\"slots_per_token\""]),
    rule("pair_factor", OneOf(&["one", "samples_per_pair"]), ["\"one\"", "\"samples_per_pair\""]),
    rule("stream_count", OneOf(&["chunk", "call"]), ["\"chunk\"", "\"call\""]),
    rule("log_epsilon", From0, ["0.0", "1e-8"]),
    rule("kept", OneOf(&["top_k", "ties"]), ["\"top_k\"", "\"ties\""]),
    rule("z_score", OneOf(&["sample", "population"]), ["\"sample\"", "\"sample\""]),
    rule("sub_key_loss", OneOf(&["sum", "mean"]), ["\"sum\"", "\"mean\""]),
];

/// Values of every type, most of them wrong for most fields.
pub(super) const TEXTS: &[&str] = &[
    "0",
    "-1",
    "nan",
    "inf",
    "-inf",
    "-0.0",
    "1.0",
    "-0.5",
    "true",
    "\"\"",
    "\"drop\"",
    "\"softmax\"",
    "[1]",
    "{}",
    "1979-05-27",
    "0x10",
    "1_000",
    "'''\n1'''",
    "9223372036854775807",
    "9223372036854775808",
    "1e400",
    "\"NaN\"",
];

const WHOLE: &[&str] = &["1", "0", "-1", "2", "3", "4", "8", "512", "1000000", "9223372036854775806"];
const NUMBERS: &[&str] =
    &["1", "0.5", "-0.5", "0", "0.1", "1e-3", "1e-300", "5e-324", "1.7976931348623157e308", "0.30000000000000004"];

impl Field {
    /// A value of the right type, as text.
    pub(super) fn text(&self, bytes: &mut Bytes) -> String {
        match self.allowed {
            AtLeast(_) | Even => bytes.one_of(WHOLE).to_string(),
            From0 | Above0 => bytes.one_of(NUMBERS).to_string(),
            Flag => bytes.flag().to_string(),
            OneOf(names) => format!("\"{}\"", bytes.one_of(names)),
        }
    }

    /// The value where none is given.
    pub(super) fn default(&self, release: bool) -> Option<Value> {
        let line = format!("value = {}", self.defaults[usize::from(release)]);
        line.parse::<Table>().ok().and_then(|mut table| table.remove("value"))
    }

    fn allows(&self, value: &Value) -> bool {
        let number = value.as_float().or_else(|| value.as_integer().map(|integer| integer as f64));
        let number = number.filter(|number| number.is_finite());
        match self.allowed {
            AtLeast(least) => value.as_integer().is_some_and(|integer| integer >= least),
            Even => value.as_integer().is_some_and(|integer| integer >= 2 && integer % 2 == 0),
            From0 => number.is_some_and(|number| number >= 0.0),
            Above0 => number.is_some_and(|number| number > 0.0),
            Flag => value.is_bool(),
            OneOf(names) => value.as_str().is_some_and(|text| names.contains(&text)),
        }
    }
}

/// The names of what is wrong: fields that do not exist or have a value they may not have, alone or beside the others.
pub(super) fn faults(table: &Table, fields: &[Field]) -> Vec<String> {
    let wrong =
        |(name, value): (&String, &Value)| !fields.iter().any(|field| field.name == name && field.allows(value));
    let mut faults: Vec<String> = table.iter().filter(|&entry| wrong(entry)).map(|entry| entry.0.clone()).collect();
    let whole = |name: &str, default| table.get(name).and_then(Value::as_integer).unwrap_or(default);
    let is = |name: &str, text: &str| table.get(name).and_then(Value::as_str) == Some(text);
    if whole("top_k", 8) > whole("sub_keys", 512) {
        faults.push("top_k".into());
    }
    let writes = table.get("writes").and_then(Value::as_bool).unwrap_or(true);
    if writes && !is("border", "carry") && whole("lookahead", 1) >= whole("chunk", 512) {
        faults.push("lookahead".into());
    }
    if is("weights_over", "each_head") && (is("activation", "silu") || is("activation", "relu")) {
        faults.push("weights_over".into());
    }
    faults
}
