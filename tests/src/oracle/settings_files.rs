//! Text as a settings or rules file, against the tables of SPEC.md, "Settings" and "Rules", read a second time.
//!
//! A text is TOML of fields that are all allowed, and gives just these values; or it is refused with an error that names one
//! that is not. What was read can be written, as TOML and as JSON, and reads as the same.

use fwpkm_reference::{Rules, Settings};
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::bytes::Bytes;
use super::fields::{Field, RULES, SETTINGS, TEXTS, faults};
use super::judge::Judge;
use crate::error::{Error, Result};
use crate::settings_file::{RulesFile, SettingsFile, toml_text};

/// The name of the file in messages.
const NAME: &str = "settings.toml";

/// A settings file or a rules file, as it stands or made of fields.
///
/// # Panics
/// Where it is taken and should not be, or the other way round; where a value is lost or an error names nothing.
pub fn settings_files(bytes: &[u8]) {
    let mut bytes = Bytes::new(bytes);
    let of_rules = bytes.flag();
    let fields = if of_rules { RULES } else { SETTINGS };
    let text =
        if bytes.flag() { made_of(fields, &mut bytes) } else { String::from_utf8_lossy(bytes.rest()).into_owned() };
    let judge = Judge::new::<f64>(&text);
    if of_rules {
        let rules = |file: RulesFile| file.rules();
        file_holds(&judge, &text, fields, rules, |rules: &Rules| RulesFile::from(rules));
    } else {
        let settings = |file: SettingsFile| file.over(Settings::paper());
        file_holds(&judge, &text, fields, settings, |settings: &Settings| SettingsFile::from(settings));
    }
}

/// Lines of a field and a value
fn made_of(fields: &[Field], bytes: &mut Bytes) -> String {
    let mut text = String::new();
    for _ in 0..bytes.count(0, 6) {
        let field = bytes.one_of(fields);
        let any = bytes.count(0, 3) == 3;
        let value = if any { bytes.one_of(TEXTS).to_string() } else { field.text(bytes) };
        text.extend([field.name, " = ", value.as_str(), "\n"]);
    }
    text
}

fn file_holds<F, T>(
    judge: &Judge,
    text: &str,
    fields: &[Field],
    read: impl Fn(F) -> Result<T>,
    file_of: impl Fn(&T) -> F,
) where
    F: DeserializeOwned + Serialize,
    T: PartialEq + std::fmt::Debug,
{
    let found = toml_text::<F>(NAME, text).and_then(&read);
    let Ok(table) = text.parse::<Table>() else {
        // A table has no integers beyond i64; the reader knows u64 too.
        let refused = matches!(&found, Err(Error::Toml { reason, .. }) if reason.contains("line "));
        let holds = refused || text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word.len() > 15);
        return judge.claim("TOML", holds, || format!("text that is not TOML gave {found:?}"));
    };
    let faults = faults(&table, fields);
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            let message = error.to_string();
            let named = faults.iter().any(|fault| message.contains(fault.as_str()));
            return judge.claim("Settings, Rules", named, || format!("faults {faults:?}, refused as {message}"));
        }
    };
    judge.claim("Settings, Rules", faults.is_empty(), || format!("taken with faults {faults:?}: {found:?}"));
    let written = toml::to_string(&file_of(&found)).map_err(|error| error.to_string());
    let again = written.clone().and_then(|text| toml_text(NAME, &text).and_then(&read).map_err(|e| e.to_string()));
    judge.claim("read and written", again.as_ref() == Ok(&found), || format!("{again:?}\nnot {found:?}"));
    let json = serde_json::to_string(&file_of(&found)).and_then(|text| serde_json::from_str::<F>(&text));
    let again = json.map_err(|error| error.to_string()).and_then(|file| read(file).map_err(|error| error.to_string()));
    judge.claim("read and written as JSON", again.as_ref() == Ok(&found), || format!("{again:?}\nnot {found:?}"));
    let written: Table = written.unwrap_or_default().parse().unwrap_or_default();
    let release = table.get("base").and_then(Value::as_str) == Some("release");
    for field in fields {
        let expected = table.get(field.name).cloned().or_else(|| field.default(release));
        let found = written.get(field.name);
        // What has no use is not kept: the base of rules, and ε of a score without one.
        let dot_product = written.get("score").and_then(Value::as_str) == Some("dot_product");
        let unused = field.name == "base" || field.name == "epsilon" && dot_product;
        let same =
            unused || expected.is_some() == found.is_some() && expected.iter().zip(found).all(|(a, b)| same(a, b));
        judge.claim("the values given, and defaults", same, || format!("{}: {found:?}, not {expected:?}", field.name));
    }
}

/// Whether two values are the same; an integer may stand for a number
fn same(a: &Value, b: &Value) -> bool {
    let number = |value: &Value| value.as_float().or_else(|| value.as_integer().map(|integer| integer as f64));
    a == b || number(a).is_some() && number(a) == number(b)
}
