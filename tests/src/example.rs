//! The worked examples of the specification, evaluated.
//!
//! An example is a whole run in TOML; SPEC.md, "Reading an example", says how it is read.

use std::collections::BTreeMap;

use fwpkm_reference::Settings;
use fwpkm_spec::Label;
use fwpkm_spec::case::Operation;
use ndarray::{ArrayD, Dimension};
use serde::Deserialize;
use toml::{Table, Value};

use crate::error::{Error, Result};
use crate::inputs::{Inputs, shapes_over};
use crate::run::{Outputs, Plan, run};
use crate::settings_file::{RulesFile, SettingsFile, toml_text};

/// Numbers in examples are rounded to six decimals: allowed is this, plus this times the magnitude.
pub const ROUNDING: f64 = 1e-6;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    #[serde(default)]
    settings: SettingsFile,
    #[serde(default)]
    rules: RulesFile,
    r#in: Table,
    #[serde(default)]
    run: Feeding,
    expect: Table,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Feeding {
    calls: Option<Vec<usize>>,
    #[serde(default)]
    after_calls: Vec<Vec<Operation>>,
    flush: Option<bool>,
}

/// Runs one example and compares what it expects.
///
/// # Errors   `Error::Example` that names the clause and the first tensor and number that differ
pub fn evaluate(label: Label, text: &str) -> Result<()> {
    let wrong = |reason: String| Error::Example { label: label.to_string(), reason };
    let mut example: Example = toml_text(&format!("example of {label}"), text)?;
    let expected_error = example.expect.remove("error");
    let outputs = outputs(&example);
    if let Some(expected) = expected_error {
        let expected = expected.as_str().unwrap_or_default();
        return match outputs {
            Err(error) if !expected.is_empty() && error.to_string().contains(expected) => Ok(()),
            Err(error) => Err(wrong(format!("expected an error with {expected:?}, found {error}"))),
            Ok(_) => Err(wrong(format!("expected an error with {expected:?}, found none"))),
        };
    }
    if example.expect.is_empty() {
        return Err(wrong("expects nothing".into()));
    }
    let outputs = outputs?;
    for (name, expected) in &example.expect {
        compare(name, &array(expected).map_err(&wrong)?, &outputs).map_err(&wrong)?;
    }
    Ok(())
}

fn outputs(example: &Example) -> Result<Outputs> {
    let tensors = example.r#in.iter().map(|(name, value)| {
        let reason = |reason| Error::Toml { origin: name.clone(), reason };
        Ok((name.clone(), array(value).map_err(reason)?))
    });
    let tensors: BTreeMap<String, ArrayD<f64>> = tensors.collect::<Result<_>>()?;
    let inputs = Inputs::new(&tensors)?;
    let paper = shapes_over(&inputs.tables::<f64>()?, Settings::paper());
    let defaults = Settings { top_k: 1, chunk: inputs.tokens().max(1), ..paper };
    let plan = Plan {
        rules: example.rules.rules()?,
        calls: example.run.calls.clone(),
        after_calls: example.run.after_calls.clone(),
        flush: example.run.flush.unwrap_or(true),
        trace: true,
        ..Plan::one_call(example.settings.over(defaults)?)
    };
    run::<f64>(&plan, &inputs)
}

/// Nested arrays of numbers as a tensor; all branches must have one shape.
fn array(value: &Value) -> std::result::Result<ArrayD<f64>, String> {
    let mut shape = Vec::new();
    let mut inner = value;
    while let Value::Array(list) = inner {
        shape.push(list.len());
        let Some(first) = list.first() else { break };
        inner = first;
    }
    let mut numbers = Vec::new();
    flatten(value, &shape, &mut numbers)?;
    ArrayD::from_shape_vec(shape, numbers).map_err(|e| e.to_string())
}

fn flatten(value: &Value, shape: &[usize], numbers: &mut Vec<f64>) -> std::result::Result<(), String> {
    match (value, shape) {
        (Value::Array(list), [length, rest @ ..]) if list.len() == *length => {
            list.iter().try_for_each(|value| flatten(value, rest, numbers))
        }
        (Value::Float(number), []) => {
            numbers.push(*number);
            Ok(())
        }
        (Value::Integer(number), []) => {
            numbers.push(*number as f64);
            Ok(())
        }
        _ => Err(format!("expected nested arrays of one shape, found {value}")),
    }
}

fn compare(name: &str, expected: &ArrayD<f64>, outputs: &Outputs) -> std::result::Result<(), String> {
    let Some(actual) = outputs.get(name) else {
        return Err(format!(
            "expects {name}; the run gives {}",
            outputs.keys().cloned().collect::<Vec<_>>().join(", ")
        ));
    };
    if expected.shape() != actual.shape {
        return Err(format!("{name}: expected shape {:?}, found {:?}", expected.shape(), actual.shape));
    }
    for ((at, &expected), actual) in expected.indexed_iter().zip(actual.data.to_f64()) {
        // Not a number is never inside the bound.
        let inside = (expected - actual).abs() <= ROUNDING + ROUNDING * expected.abs();
        if !inside {
            return Err(format!("{name}{:?}: expected {expected}, found {actual}", at.as_array_view().to_vec()));
        }
    }
    Ok(())
}
