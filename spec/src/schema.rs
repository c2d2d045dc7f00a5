//! The schemas of the certified vectors' metadata say what the readers do, on every file.

use jsonschema::is_valid;
use serde_json::Value;

use crate::{CASE_SCHEMA, CERTIFICATE_SCHEMA, CLOSED_FORM_SCHEMA, CaseFile, Certificate, TensorFile, case_paths};

const CERTIFIED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/certified");

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn every_certified_file_is_valid_under_its_schemas() {
    let schemas = [("case", CASE_SCHEMA), ("certificate", CERTIFICATE_SCHEMA), ("closed_form", CLOSED_FORM_SCHEMA)];
    let mut checked = 0;
    for path in case_paths(CERTIFIED).unwrap() {
        let file = TensorFile::open(&path).unwrap();
        for (key, schema) in schemas {
            match file.metadata().get(key) {
                Some(text) => assert!(is_valid(&parsed(schema), &parsed(text)), "{}: {key}", path.display()),
                None => assert_eq!(key, "closed_form", "{} has no {key}", path.display()),
            }
            checked += 1;
        }
        let case = CaseFile::of_file(file).unwrap().case;
        assert_eq!(case.unknown, [""; 0], "{}", path.display());
    }
    assert!(checked > 100, "only {checked}");
}

/// Objects that may or may not be `separates` or `bounds`, in single quotes
const MEMBERS: [&str; 9] = [
    "{'a': -1}",
    "{'a': 0.5}",
    "{'a': 1}",
    "{'a': null}",
    "{'a': {}}",
    "{'a': {'F32': 0.5, 'BF16': 0}}",
    "{'a': {'F32': -0.5}}",
    "{'a': {'F8': 0.5}}",
    "{'a': {'F32': null}}",
];

#[test]
fn schema_and_reader_agree_on_wrong_certificates() {
    let schema = parsed(CERTIFICATE_SCHEMA);
    let path = case_paths(CERTIFIED).unwrap().remove(0);
    let good = CaseFile::open(path).unwrap().certificate.unwrap().to_json().unwrap();
    let good = parsed(&good);
    let mut wrong = 0;
    for key in good.as_object().unwrap().keys().chain([&"separates".to_owned(), &"bounds".to_owned()]) {
        for value in ["null", "1", "[]", "[1]", "{}", "''", "'run'", "true"].iter().chain(&MEMBERS) {
            let mut changed = good.clone();
            changed[key] = parsed(&value.replace('\'', "\""));
            let valid = is_valid(&schema, &changed);
            assert_eq!(valid, Certificate::parse(&changed.to_string()).is_ok(), "{key}: {value}");
            wrong += usize::from(!valid);
        }
    }
    assert!(wrong > 50, "only {wrong}");
}
