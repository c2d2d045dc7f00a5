//! What a certified vector states of itself: the JSON object `certificate` in the metadata of its file.
//!
//! `schema/certificate.schema.json` says the same for other languages.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, quoted, shortened};
use crate::registry::clause;

/// A certificate. Field names are the keys of the JSON object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// The version of the specification its outputs follow.
    pub spec: String,
    /// What it is for, in one sentence.
    pub purpose: String,
    /// Labels of the clauses it exercises.
    pub clauses: Vec<String>,
    /// How it is judged.
    pub kind: Kind,
    /// Whether some scores are equal on purpose, so that a port may choose either.
    pub ties: bool,
    /// Whether some scores are so close on purpose that rounding in f32 may decide.
    pub near_ties: bool,
    /// The smallest selection margins of all its readings.
    pub smallest_margin: Margins,
    /// Deviations of its clauses that it catches in f32, and by what margin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub separates: Option<Separates>,
    /// How far a result may be from the recorded one, given the same slots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bounds: Option<Bounds>,
}

/// By name of a deviation: the largest error over its bound; none where what is wrong has no bound above 0, as a slot or a count.
pub type Separates = BTreeMap<String, Option<f64>>;

/// By name of a tensor, then element type: the largest bound of any of its numbers.
pub type Bounds = BTreeMap<String, BTreeMap<String, f64>>;

/// The element types that bounds are given for.
const TYPES: [&str; 4] = ["F64", "F32", "BF16", "F16"];

/// How a certified vector is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One call with at most one step, after its last token: stage by stage, with the bounds of single stages.
    OneChunk,
    /// Several steps: errors of one step enter the next.
    Run,
    /// A layer: projections around the memory.
    Layer,
}

/// Differences of scores at which a selection is decided; none where nothing competes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Margins {
    /// Of the k-th and the next sub-key of a half.
    #[serde(deserialize_with = "Option::deserialize")]
    pub half: Option<f64>,
    /// Of the k-th and the next of all n² pairs.
    #[serde(deserialize_with = "Option::deserialize")]
    pub pair: Option<f64>,
    /// Of neighbours among the chosen.
    #[serde(deserialize_with = "Option::deserialize")]
    pub order: Option<f64>,
    /// The smaller of `half` and `pair`, each over the larger magnitude of its two scores, or over 1 if that is larger.
    #[serde(deserialize_with = "Option::deserialize")]
    pub relative: Option<f64>,
}

impl Certificate {
    /// Reads the JSON object of a certificate.
    ///
    /// # Errors
    /// `Certificate` for what is no such object, names a clause that does not exist, or has a number below 0.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let certificate: Self = serde_json::from_str(text).map_err(|error| Error::Certificate {
            expected: "a JSON object as in certificate.schema.json",
            found: format!("{} ({})", quoted(text), shortened(&error.to_string())),
        })?;
        certificate.check()?;
        Ok(certificate)
    }

    fn check(&self) -> Result<(), Error> {
        let wrong = |expected: &'static str, found: &str| Err(Error::Certificate { expected, found: shortened(found) });
        if self.purpose.is_empty() {
            return wrong("a purpose in words", "an empty text");
        }
        if self.clauses.is_empty() {
            return wrong("at least one clause", "none");
        }
        if let Some(unknown) = self.clauses.iter().find(|label| !is_label(label)) {
            return wrong("labels of clauses, each in capitals", unknown);
        }
        let Margins { half, pair, order, relative } = self.smallest_margin;
        let margins = [half, pair, order, relative].into_iter().flatten();
        let bounds = || self.bounds.iter().flat_map(BTreeMap::values);
        let numbers = margins.chain(bounds().flat_map(BTreeMap::values).copied());
        if let Some(number) = numbers.into_iter().find(|number| !number.is_finite() || *number < 0.0) {
            return wrong("numbers from 0", &number.to_string());
        }
        let separates = self.separates.iter().flat_map(BTreeMap::values).flatten();
        if let Some(margin) = separates.into_iter().find(|margin| !margin.is_finite() || **margin < 1.0) {
            return wrong("in `separates` numbers from 1", &margin.to_string());
        }
        let types = bounds().flat_map(BTreeMap::keys).map(String::as_str);
        match (types.into_iter().find(|name| !TYPES.contains(name)), bounds().find(|types| types.is_empty())) {
            (Some(name), _) => wrong("in `bounds` the types F64, F32, BF16 and F16", name),
            (_, Some(_)) => wrong("in `bounds` at least one type of each tensor", "none"),
            (None, None) => Ok(()),
        }
    }

    /// The JSON object, keys in the order of the fields; what [`Certificate::parse`] reads as the same certificate.
    ///
    /// # Errors
    /// `Certificate` where a number is not finite.
    pub fn to_json(&self) -> Result<String, Error> {
        self.check()?;
        let refused = |error: serde_json::Error| Error::Certificate { expected: "JSON", found: error.to_string() };
        serde_json::to_string(self).map_err(refused)
    }
}

fn is_label(label: &str) -> bool {
    clause(label).is_ok_and(|clause| clause.label.to_string() == label)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object() -> Value {
        json!({
            "spec": "0.1.0", "purpose": "Shows what it shows.", "clauses": ["MEM-4", "ADR-2"], "kind": "one_chunk",
            "ties": false, "near_ties": true,
            "smallest_margin": {"half": 0.25, "pair": 0.125, "order": null, "relative": 0.0625},
        })
    }

    #[test]
    fn a_certificate_written_and_read_again_is_the_same() {
        let mut full = object();
        full["separates"] = json!({"transposed_slots": 12.5, "swapped_halves": null});
        full["bounds"] = json!({"out.reads": {"F32": 1e-6}});
        for object in [object(), full] {
            let certificate = Certificate::parse(&object.to_string()).unwrap();
            let json = certificate.to_json().unwrap();
            assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), object);
            assert_eq!(Certificate::parse(&json).unwrap(), certificate);
        }
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        for (key, value, said) in [
            ("kind", json!("wild"), "wild"),
            ("clauses", json!([concat!("MEM-", "99")]), concat!("MEM-", "99")),
            ("clauses", json!(["mem-4"]), "mem-4"),
            ("clauses", json!([]), "at least one clause"),
            ("purpose", json!(""), "purpose"),
            ("smallest_margin", json!({"half": -1.0, "pair": null, "order": null, "relative": null}), "-1"),
            ("bounds", json!({"out.reads": {"F32": -1e-6}}), "-0.000001"),
            ("bounds", json!({"out.reads": {"F8": 1e-6}}), "F8"),
            ("bounds", json!({"out.reads": {}}), "at least one type"),
            ("separates", json!({"transposed_slots": 0.5}), "0.5"),
            ("colour", json!("red"), "colour"),
        ] {
            let mut changed = object();
            changed[key] = value;
            let error = Certificate::parse(&changed.to_string()).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        for key in object().as_object().unwrap().keys() {
            let mut missing = object();
            missing.as_object_mut().unwrap().remove(key);
            assert!(Certificate::parse(&missing.to_string()).unwrap_err().to_string().contains(key), "{key}");
        }
        let mut missing = object();
        missing["smallest_margin"].as_object_mut().unwrap().remove("order");
        assert!(Certificate::parse(&missing.to_string()).unwrap_err().to_string().contains("order"));
    }
}
