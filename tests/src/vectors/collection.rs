//! The certified vectors of a folder, ready to be run and judged.

use std::path::Path;

use fwpkm_spec::certificate::Certificate;
use fwpkm_spec::{CaseFile, Label, case_paths};

use crate::error::{Error, Result};
use crate::problem::Problem;

/// The folder that comes with the source of this crate.
pub const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../spec/vectors/certified");

/// A vector with what it says of itself.
#[derive(Clone, Debug)]
pub struct Vector {
    /// Its path inside the folder, without extension.
    pub name: String,
    /// What it is given.
    pub problem: Problem,
    /// What it is for.
    pub certificate: Certificate,
}

impl AsRef<Problem> for Vector {
    fn as_ref(&self) -> &Problem {
        &self.problem
    }
}

/// Every vector of a folder and of the folders in it, by name.
///
/// # Errors   a folder without vectors; a vector that cannot be read, or has no certificate
pub fn vectors(folder: &Path) -> Result<Vec<Vector>> {
    let mut vectors = Vec::new();
    for path in case_paths(folder)? {
        vectors.push(vector(folder, &path)?);
    }
    Ok(vectors)
}

/// One vector.
pub fn vector(folder: &Path, path: &Path) -> Result<Vector> {
    let file = CaseFile::open(path)?;
    let Some(certificate) = file.certificate.clone() else {
        return Err(Error::File { path: path.display().to_string(), reason: "no certificate in its metadata".into() });
    };
    let inside = path.strip_prefix(folder).unwrap_or(path).with_extension("");
    let name = inside.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/");
    let clauses = certificate.clauses.iter().filter_map(|label| label.parse::<Label>().ok()).collect();
    let problem = Problem::of_case(&name, &file, clauses)?;
    Ok(Vector { name, problem, certificate })
}
