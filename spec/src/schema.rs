//! A validator for JSON Schema, for the tests: the few keywords that the schemas here use; any other fails the test.

use serde_json::Value;

/// Whether a value is valid under a schema, by the keywords of the schemas in `schema`.
pub(crate) fn is_valid(schema: &Value, value: &Value) -> bool {
    holds(schema, schema, value)
}

fn holds(root: &Value, schema: &Value, value: &Value) -> bool {
    let at_least = |limit: &Value, low: fn(f64, f64) -> bool| {
        value.as_f64().is_none_or(|number| low(number, limit.as_f64().unwrap()))
    };
    schema.as_object().unwrap().iter().all(|(keyword, rule)| match keyword.as_str() {
        "$schema" | "$defs" | "title" | "description" | "default" | "then" => true,
        "$ref" => holds(root, root.pointer(&rule.as_str().unwrap()[1..]).unwrap(), value),
        "type" => one_or_many(rule).iter().any(|name| has_type(value, name.as_str().unwrap())),
        "enum" => rule.as_array().unwrap().contains(value),
        "minimum" => at_least(rule, |number, limit| number >= limit),
        "maximum" => at_least(rule, |number, limit| number <= limit),
        "exclusiveMinimum" => at_least(rule, |number, limit| number > limit),
        "multipleOf" => at_least(rule, |number, factor| number % factor == 0.0),
        "required" => value
            .as_object()
            .is_none_or(|keys| one_or_many(rule).iter().all(|key| keys.contains_key(key.as_str().unwrap()))),
        "properties" => value.as_object().is_none_or(|keys| {
            let properties = rule.as_object().unwrap().iter();
            properties
                .filter_map(|(key, rule)| Some((rule, keys.get(key)?)))
                .all(|(rule, value)| holds(root, rule, value))
        }),
        "additionalProperties" => value.as_object().is_none_or(|keys| {
            let known = schema["properties"].as_object();
            let other = keys.iter().filter(|(key, _)| known.is_none_or(|known| !known.contains_key(*key)));
            other.into_iter().all(|(_, value)| rule.as_bool().unwrap_or_else(|| holds(root, rule, value)))
        }),
        "minItems" => value.as_array().is_none_or(|items| items.len() as u64 >= rule.as_u64().unwrap()),
        "minLength" => value.as_str().is_none_or(|text| text.chars().count() as u64 >= rule.as_u64().unwrap()),
        "items" => value.as_array().is_none_or(|items| items.iter().all(|item| holds(root, rule, item))),
        "allOf" => one_or_many(rule).iter().all(|rule| holds(root, rule, value)),
        "anyOf" => one_or_many(rule).iter().any(|rule| holds(root, rule, value)),
        "if" => !holds(root, rule, value) || holds(root, &schema["then"], value),
        other => panic!("the schema uses {other}, which is not checked here"),
    })
}

fn one_or_many(rule: &Value) -> Vec<Value> {
    rule.as_array().cloned().unwrap_or_else(|| vec![rule.clone()])
}

fn has_type(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        other => panic!("no JSON type {other}"),
    }
}

/// The schemas of the certified vectors' metadata say what the readers do, on every file.
#[cfg(test)]
mod certified {
    use super::*;
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

    #[test]
    fn schema_and_reader_agree_on_wrong_certificates() {
        let schema = parsed(CERTIFICATE_SCHEMA);
        let path = case_paths(CERTIFIED).unwrap().remove(0);
        let good = CaseFile::open(path).unwrap().certificate.unwrap().to_json().unwrap();
        let good = parsed(&good);
        let mut wrong = 0;
        for key in good.as_object().unwrap().keys().chain([&"separates".to_owned(), &"bounds".to_owned()]) {
            for value in
                ["null", "1", "[]", "[1]", "{}", "\"\"", "\"run\"", "true", "{\"a\": -1}", "{\"a\": {\"F32\": 0.5}}"]
            {
                let mut changed = good.clone();
                changed[key] = parsed(value);
                let valid = is_valid(&schema, &changed);
                assert_eq!(valid, Certificate::parse(&changed.to_string()).is_ok(), "{key}: {value}");
                wrong += usize::from(!valid);
            }
        }
        assert!(wrong > 50, "only {wrong}");
    }
}
