//! Which JSON objects are cases, and what the others are told.

use serde_json::json;

use super::*;

/// The keys of a case of each mode, as the release's files have them.
pub(super) fn object(mode: &str) -> Value {
    let mut case = json!({
        "batch": 1, "tokens": 32, "n_subkeys": 8, "d_k": 8, "d_v": 6, "heads": 1, "topk": 3, "chunk": 8, "lookahead": 1,
        "score": "idw", "nonlinear": "softmax", "temperature": 1.0, "learning_rate": 1.0, "weight_decay": 0.0,
        "mem_grad_to_values_only": true, "grad_clip": false, "addr_loss": "me", "addr_loss_weight": 1.0, "mode": mode,
    });
    if mode == "streaming" {
        case["splits"] = json!([12, 0, 20]);
    }
    if mode == "layer" {
        for (key, value) in [("hidden", json!(12)), ("rms_eps", json!(1e-5)), ("compress_value", json!("zero_mean"))] {
            case[key] = value;
        }
        for (key, value) in
            [("compress_query", json!(null)), ("fuse_gate", json!(true)), ("weight_loss_with_gates", json!(false))]
        {
            case[key] = value;
        }
    }
    case
}

/// The same with every optional key.
pub(super) fn full_object(mode: &str) -> Value {
    let mut case = object(mode);
    let optional = json!({
        "splits": [12, 20], "after_calls": [["flush"], ["reset_queue", "reset_tables"]],
        "gates": true, "mask": false, "train": false, "seed": 18_446_744_073_709_551_615_u64,
        "query_scale": 30.0, "key_scale": -1.5, "spec": "1.0.0", "epsilon": 0.123_456_789_012_345_68,
        "rules": {"base": "paper"}, "border": "carry", "flush": true, "writes": false, "weights_over": "each_head",
        "gradient_clip": 0.5,
    });
    case.as_object_mut().unwrap().extend(optional.as_object().unwrap().clone());
    case
}

fn refusal(case: &Value) -> (String, String, String) {
    match Case::parse(&case.to_string()) {
        Err(Error::Key { key, expected, found }) => (key, expected, found),
        other => panic!("{case}: {other:?}"),
    }
}

#[test]
fn a_case_of_every_mode_reads_and_states_its_keys() {
    let case = Case::parse(&object("one_shot").to_string()).unwrap();
    assert_eq!((case.tokens, case.topk, case.score, case.nonlinear), (32, 3, Score::Idw, Nonlinear::Softmax));
    assert_eq!((case.mode, case.addr_loss), (Mode::OneShot, Some(AddressingLoss::MarginalEntropy)));
    assert_eq!((case.epsilon, case.splits, case.layer, case.border), (DEFAULT_EPSILON, None, None, None));
    assert_eq!(Case::parse(&object("streaming").to_string()).unwrap().splits, Some(vec![12, 0, 20]));
    let layer = Case::parse(&object("layer").to_string()).unwrap().layer.unwrap();
    assert_eq!((layer.hidden, layer.compress_value, layer.compress_query), (12, Some(Compress::ZeroMean), None));
}

#[test]
fn a_case_written_and_read_again_is_the_same() {
    for mode in ["one_shot", "streaming", "layer"] {
        for object in [object(mode), full_object(mode)] {
            let case = Case::parse(&object.to_string()).unwrap();
            assert_eq!(case.unknown, [""; 0]);
            let json = case.to_json().unwrap();
            assert_eq!(Case::parse(&json).unwrap(), case);
            let mut expected = object;
            expected["epsilon"] = json!(case.epsilon);
            assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), expected);
        }
    }
}

#[test]
fn a_missing_key_is_named_with_what_is_allowed() {
    for mode in ["one_shot", "streaming", "layer"] {
        let whole = object(mode);
        for key in whole.as_object().unwrap().keys() {
            let mut case = whole.clone();
            case.as_object_mut().unwrap().remove(key);
            let (named, expected, found) = refusal(&case);
            assert_eq!((&named, found.as_str()), (key, "no such key"));
            assert!(!expected.is_empty());
        }
    }
}

#[test]
fn a_wrong_value_is_named_with_what_was_given_and_what_is_allowed() {
    for (key, value, allowed) in [
        ("batch", json!(0), "a whole number from 1 to 2^30"),
        ("tokens", json!(-1), "a whole number from 0 to 2^30"),
        ("tokens", json!(1_u64 << 60), "a whole number from 0 to 2^30"),
        ("heads", json!(1.5), "a whole number from 1 to 2^30"),
        ("heads", json!("2"), "a whole number from 1 to 2^30"),
        ("d_k", json!(7), "an even number from 2 to 2^30"),
        ("chunk", json!(null), "a whole number from 1 to 2^30"),
        ("score", json!("cosine"), "\"idw\" or \"dot_product\""),
        ("score", json!({"idw": null}), "\"idw\" or \"dot_product\""),
        ("nonlinear", json!("gelu"), "\"softmax\", \"silu\" or \"relu\""),
        ("temperature", json!(0), "a number above 0"),
        ("temperature", json!(true), "a number above 0"),
        ("addr_loss", json!("mse"), "\"me\" or null"),
        ("grad_clip", json!(1), "true or false"),
        ("splits", json!([12, -5, 25]), "a list of whole numbers from 0 to 2^30"),
        ("splits", json!(null), "a list of whole numbers from 0 to 2^30"),
        ("rules", json!("ours"), "\"paper\", \"release\" or an object of fields"),
        ("border", json!("wrap"), "\"drop\" or \"carry\""),
        ("topk", json!(9), "at most n_subkeys = 8"),
    ] {
        let mut case = full_object("streaming");
        case[key] = value.clone();
        assert_eq!(refusal(&case), (key.to_owned(), allowed.to_owned(), value.to_string()));
    }
}

#[test]
fn splits_add_up_to_the_tokens() {
    let mut case = object("streaming");
    for splits in [json!([12, 19]), json!([]), json!(vec![MAX_SIZE; 70])] {
        case["splits"] = splits;
        let (key, expected, _) = refusal(&case);
        assert_eq!((key.as_str(), expected.as_str()), ("splits", "a list that adds up to tokens = 32"));
    }
}

#[test]
fn a_list_of_operations_follows_each_call() {
    let mut case = object("streaming");
    case["after_calls"] = json!([["flush", "reset_queue"], [], ["reset_tables"]]);
    let parsed = Case::parse(&case.to_string()).unwrap();
    assert_eq!(
        parsed.after_calls,
        Some(vec![vec![Operation::Flush, Operation::ResetQueue], vec![], vec![Operation::ResetTables]])
    );
    assert_eq!(Case::parse(&parsed.to_json().unwrap()).unwrap(), parsed);
    case["after_calls"] = json!([["flush"]]);
    let expected = "a list for each of the calls, of which there are 3".to_owned();
    assert_eq!(refusal(&case), ("after_calls".to_owned(), expected, "a list of length 1".to_owned()));
}

#[test]
fn whole_numbers_may_be_written_with_a_point_and_null_stands_for_an_absent_optional_key() {
    let mut case = full_object("one_shot");
    case["heads"] = json!(2.0);
    for key in ["splits", "after_calls", "gates", "seed", "epsilon", "rules", "gradient_clip"] {
        case[key] = Value::Null;
    }
    let case = Case::parse(&case.to_string()).unwrap();
    assert_eq!((case.heads, case.gates, case.seed, case.rules), (2, None, None, None));
    assert_eq!((case.epsilon, case.gradient_clip, case.splits), (DEFAULT_EPSILON, None, None));
}

#[test]
fn unknown_keys_are_listed_and_do_no_harm() {
    let mut case = object("one_shot");
    case["zeta"] = json!({"any": [1]});
    case["hidden"] = json!("unread outside mode layer");
    let case = Case::parse(&case.to_string()).unwrap();
    assert_eq!(case.unknown, ["hidden", "zeta"]);
}

#[test]
fn what_is_no_object_or_has_a_key_twice_is_refused() {
    let deep = "[".repeat(100_000);
    let twice = object("one_shot").to_string().replacen('{', "{\"heads\":2,", 1);
    for text in ["", "null", "[]", "{", "\"case\"", "{} {}", "{\"batch\": NaN}", "{\"batch\": 1e999}", &deep, &twice] {
        let error = Case::parse(text).unwrap_err();
        assert!(matches!(error, Error::Json { .. }), "{error}");
        assert!(error.to_string().len() < 500, "{error}");
    }
    assert!(Case::parse(&twice).unwrap_err().to_string().contains("key \"heads\" twice"));
}

#[test]
fn a_number_that_json_cannot_hold_is_not_written() {
    let case = Case::parse(&object("layer").to_string()).unwrap();
    let infinite = Case { temperature: f64::INFINITY, ..case.clone() };
    assert!(matches!(infinite.to_json(), Err(Error::Json { .. })));
    assert!(matches!(Case { gradient_clip: Some(f64::NAN), ..case }.to_json(), Err(Error::Json { .. })));
}
