//! A JSON object whose keys are read one by one, so that every error names its key.

use serde_json::Value;

use super::kinds::Kind;
use crate::error::{Error, quoted, shortened};
use crate::unique::Unique;

/// The keys of a JSON object that have not been read yet.
pub(super) struct Object(Unique<Value>);

impl Object {
    /// Reads a JSON object; a key may stand in it only once.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let error = |error: serde_json::Error| Error::Json {
            expected: "a JSON object with each key once",
            found: format!("{} ({})", quoted(text), shortened(&error.to_string())),
        };
        serde_json::from_str(text).map(Self).map_err(error)
    }

    /// The value of a key that must be there.
    pub(super) fn required<T>(&mut self, key: &str, kind: &Kind<T>) -> Result<T, Error> {
        match self.0.0.remove(key) {
            Some(value) => read(key, &value, kind),
            None => Err(wrong(key, kind, "no such key".to_owned())),
        }
    }

    /// The value of a key that may be absent or null.
    pub(super) fn optional<T>(&mut self, key: &str, kind: &Kind<T>) -> Result<Option<T>, Error> {
        match self.0.0.remove(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => read(key, &value, kind).map(Some),
        }
    }

    /// The keys that were never asked for, in alphabetical order.
    pub(super) fn into_unread_keys(self) -> Vec<String> {
        self.0.0.into_keys().collect()
    }
}

fn read<T>(key: &str, value: &Value, kind: &Kind<T>) -> Result<T, Error> {
    (kind.read)(value).ok_or_else(|| wrong(key, kind, shortened(&value.to_string())))
}

fn wrong<T>(key: &str, kind: &Kind<T>, found: String) -> Error {
    Error::Key { key: key.to_owned(), expected: kind.allowed.to_owned(), found }
}
