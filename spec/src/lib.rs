//! The specification of `FwPKM` as data: its text, its clauses, and the files cases are kept in.
//!
//! - [`registry`]: the clauses, read from `SPEC.md`. `clause("MEM-4")` gives one, with its parts and its example.
//! - [`case`]: what one case states, the JSON object in the metadata of a case file.
//! - [`tensor_file`]: named tensors in a safetensors file, read as hostile input and written so that equal content
//!   gives equal bytes.
//! - [`certificate`]: what a certified vector states of itself; [`closed_form`]: tensors too large to store.
//! - [`replacement`]: a file that takes its path's place when it is complete.
//! - [`case_file`]: all of them together, and finding the case files of a folder.
//!
//! Nothing here computes the layer; this crate depends on no other crate of the project.

pub mod case;
pub mod case_file;
pub mod certificate;
pub mod closed_form;
mod error;
pub mod registry;
pub mod replacement;
pub mod tensor_file;
mod unique;

pub use case::Case;
pub use case_file::{CaseFile, Listing, case_paths};
pub use certificate::Certificate;
pub use closed_form::ClosedForm;
pub use error::{Error, counted, listed, printable, shortened, verb};
pub use registry::{Clause, Group, Label, clause, clauses};
pub use replacement::{Replacement, replace};
pub use tensor_file::{Data, ElementType, Tensor, TensorFile, TensorWriter};

/// The whole specification, as written in `SPEC.md`.
pub const TEXT: &str = include_str!("../SPEC.md");

/// The JSON Schema (2020-12) of the `case` object of a case file.
pub const CASE_SCHEMA: &str = include_str!("../schema/case.schema.json");

/// The JSON Schema (2020-12) of the `certificate` object of a certified vector.
pub const CERTIFICATE_SCHEMA: &str = include_str!("../schema/certificate.schema.json");

/// The JSON Schema (2020-12) of the `closed_form` object of a case file.
pub const CLOSED_FORM_SCHEMA: &str = include_str!("../schema/closed_form.schema.json");

/// The JSON Schema (2020-12) of `declaration.json` in a folder of recorded outputs.
pub const DECLARATION_SCHEMA: &str = include_str!("../schema/declaration.schema.json");

/// The JSON Schema (2020-12) of `index.json` beside exported vectors.
pub const INDEX_SCHEMA: &str = include_str!("../schema/index.schema.json");

/// The JSON Schema (2020-12) of what `check`, `judge` and `identify` print with `--json`.
pub const REPORT_SCHEMA: &str = include_str!("../schema/report.schema.json");

/// JSON Schema of what `fwpkm verify --json` prints.
pub const VERIFY_SCHEMA: &str = include_str!("../schema/verify.schema.json");

/// The version of the specification, from its line `Version: x.y.z`; "unversioned" where a text has no such line.
pub fn version() -> &'static str {
    version_line(TEXT).unwrap_or("unversioned")
}

/// The value of the first line `Version: x.y.z`, three numbers, of a text.
fn version_line(text: &str) -> Option<&str> {
    let version = text.lines().find_map(|line| line.strip_prefix("Version:"))?.trim();
    let numbers: Vec<&str> = version.split('.').collect();
    let is_number = |part: &&str| part.parse::<u32>().is_ok();
    (numbers.len() == 3 && numbers.iter().all(is_number)).then_some(version)
}

#[cfg(test)]
mod schema;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specification_states_its_version() {
        assert!(version_line(TEXT).is_some(), "SPEC.md has no line `Version: x.y.z`");
        assert_eq!(version_line(TEXT), Some(version()));
    }

    #[test]
    fn a_version_is_three_numbers_on_a_line_of_its_own() {
        assert_eq!(version_line("# Spec\n\nVersion: 1.20.3\n"), Some("1.20.3"));
        assert_eq!(version_line("Version: 1.2"), None);
        assert_eq!(version_line("Version: 1.2.x"), None);
        assert_eq!(version_line("see Version: 1.2.3"), None);
    }
}
