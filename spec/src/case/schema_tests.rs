//! The JSON Schema says what the parser does: checked on every release file and on wrong values of every key.

use std::collections::BTreeSet;

use jsonschema::is_valid;
use serde_json::{Value, json};

use super::tests::{full_object, object};
use crate::{CASE_SCHEMA, Case, TensorFile, case_paths};

const RELEASE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/release");

fn schema() -> Value {
    serde_json::from_str(CASE_SCHEMA).unwrap()
}

#[test]
fn every_release_file_is_valid() {
    let schema = schema();
    for path in case_paths(RELEASE).unwrap() {
        let file = TensorFile::open(&path).unwrap();
        let case: Value = serde_json::from_str(&file.metadata()["case"]).unwrap();
        assert!(is_valid(&schema, &case), "{}", path.display());
    }
}

#[test]
fn the_schema_has_the_keys_of_the_parser() {
    let schema = schema();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<String>>();
    let mut known = keys(&schema["properties"]);
    assert_eq!(known, keys(&full_object("streaming")));
    known.extend(keys(&schema["allOf"][1]["then"]["properties"]));
    assert_eq!(known, keys(&full_object("layer")));
    let required: BTreeSet<String> = serde_json::from_value(schema["required"].clone()).unwrap();
    assert_eq!(required, keys(&object("one_shot")));
}

#[test]
fn schema_and_parser_agree_on_right_and_wrong_values_of_every_key() {
    let schema = schema();
    let values = json!([
        null, true, -1, -0.5, 0, 0.5, 1, 1.5, 2, 2.0, 3, 8, 32, 1_073_741_824, 1_073_741_825, 1e300, "", "idw", "softmax", "silu", "relu",
        "dot_product", "me", "zero_mean", "l2norm", "drop", "carry", "paper", "release", "all_heads", "each_head", "x",
        [], [32], [16, 16], [32.5], [-1, 33], ["32"], [[]], [["flush"], []], [["reset_queue"], ["x"]], [[8]], {}, {"base": "paper"}
    ]);
    let mut accepted = 0;
    for mode in ["one_shot", "streaming", "layer"] {
        for (key, _) in full_object(mode).as_object().unwrap() {
            let mut missing = full_object(mode);
            missing.as_object_mut().unwrap().remove(key);
            let changed = values.as_array().unwrap().iter().map(|value| {
                let mut case = full_object(mode);
                case[key] = value.clone();
                case
            });
            for mut case in changed.chain([missing]) {
                stay_within_one_key(&mut case, key);
                let valid = is_valid(&schema, &case);
                let parsed = Case::parse(&case.to_string());
                assert_eq!(valid, parsed.is_ok(), "{key} in {case}: {parsed:?}");
                accepted += usize::from(valid);
            }
        }
    }
    assert!(accepted > 100, "only {accepted} accepted: the test says little");
}

/// Undoes what a change of one key breaks in another, which a schema cannot state.
fn stay_within_one_key(case: &mut Value, key: &str) {
    match key {
        "topk" => case["n_subkeys"] = json!(1 << 30),
        "n_subkeys" => case["topk"] = json!(1),
        "tokens" if case["tokens"].as_f64().is_some_and(|tokens| tokens.fract() == 0.0) => {
            case["splits"] = json!([case["tokens"]]);
            case["after_calls"] = json!([[]]);
        }
        "splits" => {
            case["after_calls"] = json!(vec![json!([]); case["splits"].as_array().map_or(1, Vec::len)]);
            let sizes = case["splits"].as_array().filter(|sizes| sizes.iter().all(Value::is_u64));
            if let Some(sum) = sizes.map(|sizes| sizes.iter().filter_map(Value::as_u64).sum::<u64>()) {
                case["tokens"] = json!(sum);
            }
        }
        "after_calls" => {
            if let Some(calls) = case["after_calls"].as_array() {
                (case["splits"], case["tokens"]) = (json!(vec![0; calls.len()]), json!(0));
            }
        }
        _ => {}
    }
}
