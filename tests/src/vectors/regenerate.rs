//! The files of a folder against the catalogue: checked, or written anew where they differ.

use std::path::{Path, PathBuf};

use fwpkm_spec::certificate::Margins;
use fwpkm_spec::{CaseFile, Certificate, Tensor, tensor_file};

use super::catalogue::catalogue;
use super::vector::{Vector, vectors};
use crate::error::{Error, Result};
use crate::verify::compare;

/// What became of a file.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// It holds what the catalogue gives: the same inputs, outputs within the bound.
    Same,
    /// It does not; why.
    Differs(String),
    /// It does not, and was written; why.
    Written(String),
    /// The catalogue has no such vector.
    Unknown,
}

/// A file and what became of it.
#[derive(Clone, Debug)]
pub struct FileReport {
    /// Its path.
    pub path: PathBuf,
    /// What became of it.
    pub state: State,
}

/// Allowed difference of margins, relative: they come from the same scores as the outputs.
const MARGIN_BOUND: f64 = 1e-9;

/// Holds the files of a folder against the catalogue; `write` replaces those that differ.
///
/// `only` names the entries looked at: those whose name contains it. Files that agree are left alone, so that machines whose logarithms differ in the last bit do not rewrite each other's.
///
/// # Errors   what cannot be drawn, read or written; a file that differs is no error
pub fn regenerate(
    root: &Path,
    only: Option<&str>,
    write: bool,
    done: &mut dyn FnMut(&FileReport),
) -> Result<Vec<FileReport>> {
    let mut reports = Vec::new();
    for entry in catalogue().into_iter().filter(|entry| only.is_none_or(|only| entry.name.contains(only))) {
        for vector in vectors(&entry)? {
            let path = vector.path(root);
            let state = match (difference(&path, &vector)?, write) {
                (None, _) => State::Same,
                (Some(reason), false) => State::Differs(reason),
                (Some(reason), true) => {
                    put(&path, &vector)?;
                    State::Written(reason)
                }
            };
            reports.push(FileReport { path, state });
            reports.last().into_iter().for_each(&mut *done);
        }
    }
    for path in if only.is_none() { files(root)? } else { Vec::new() } {
        if !reports.iter().any(|report| report.path == path) {
            reports.push(FileReport { path, state: State::Unknown });
            reports.last().into_iter().for_each(&mut *done);
        }
    }
    Ok(reports)
}

fn files(root: &Path) -> Result<Vec<PathBuf>> {
    match fwpkm_spec::case_paths(root) {
        Ok(paths) => Ok(paths),
        // Nothing there yet.
        Err(fwpkm_spec::Error::Path { .. }) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

fn put(path: &Path, vector: &Vector) -> Result<()> {
    if let Some(folder) = path.parent() {
        let reason =
            |error: std::io::Error| Error::File { path: folder.display().to_string(), reason: error.to_string() };
        std::fs::create_dir_all(folder).map_err(reason)?;
    }
    let tensors: Vec<(&String, &Tensor)> = vector.inputs.iter().chain(&vector.outputs).collect();
    Ok(tensor_file::write(path, &vector.metadata()?, &tensors)?)
}

/// Why a file is not this vector; none if it is.
fn difference(path: &Path, vector: &Vector) -> Result<Option<String>> {
    if !path.exists() {
        return Ok(Some("is not there".into()));
    }
    let file = match CaseFile::open(path) {
        Ok(file) => file,
        Err(error) => return Ok(Some(error.to_string())),
    };
    Ok(of_statements(&file, vector)?.or(of_inputs(&file, vector)?).or(of_outputs(&file, vector)?))
}

fn of_statements(file: &CaseFile, vector: &Vector) -> Result<Option<String>> {
    let (found, expected) = (file.file.metadata(), vector.metadata()?);
    if let Some(key) = ["case", "source", "closed_form"].into_iter().find(|&key| found.get(key) != expected.get(key)) {
        return Ok(Some(format!("its metadata `{key}` is another")));
    }
    Ok(match &file.certificate {
        Some(certificate) if certifies(certificate, &vector.certificate) => None,
        Some(_) => Some("its certificate is another".into()),
        None => Some("it has no certificate".into()),
    })
}

/// The same but for members that are filled in later, and rounding of margins
fn certifies(found: &Certificate, expected: &Certificate) -> bool {
    let bare = |certificate: &Certificate| Certificate {
        smallest_margin: Margins::default(),
        separates: None,
        bounds: None,
        ..certificate.clone()
    };
    let margins = |Margins { half, pair, order, relative }: Margins| [half, pair, order, relative];
    let near = |(found, expected): (Option<f64>, Option<f64>)| match (found, expected) {
        (Some(found), Some(expected)) => (found - expected).abs() <= MARGIN_BOUND,
        (found, expected) => found == expected,
    };
    let mut each = margins(found.smallest_margin).into_iter().zip(margins(expected.smallest_margin));
    bare(found) == bare(expected) && each.all(near)
}

fn of_inputs(file: &CaseFile, vector: &Vector) -> Result<Option<String>> {
    let inputs = file.file.names().filter(|name| name.starts_with("in."));
    if !inputs.eq(vector.inputs.keys()) {
        return Ok(Some("it has other inputs".into()));
    }
    for (name, expected) in &vector.inputs {
        let found = file.file.tensor(name)?;
        if found.shape != expected.shape || found.data.to_bytes() != expected.data.to_bytes() {
            return Ok(Some(format!("{name} holds other bytes")));
        }
    }
    Ok(None)
}

fn of_outputs(file: &CaseFile, vector: &Vector) -> Result<Option<String>> {
    let outputs = file.file.names().filter(|name| !name.starts_with("in."));
    if !outputs.eq(vector.outputs.keys()) {
        return Ok(Some("it has other outputs".into()));
    }
    for name in vector.outputs.keys() {
        match compare(name, &file.file.tensor(name)?, &vector.outputs) {
            Ok(report) if report.conforms => {}
            Ok(report) => return Ok(Some(format!("{name} is off by {:.1e} of its magnitude", report.error))),
            Err(error) => return Ok(Some(error.to_string())),
        }
    }
    Ok(None)
}
