//! The files of a folder against the catalogue: checked, or written anew where they differ.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use fwpkm_spec::certificate::Margins;
use fwpkm_spec::{CaseFile, Certificate, Replacement, Tensor, tensor_file};

use super::agreement;
use super::catalogue::catalogue;
use super::certify::{bounds, is_judged, separates};
use super::entry::Entry;
use super::vector::{Vector, vectors};
use crate::error::{Error, Result};
use crate::implementation::Implementation;
use crate::inputs::is_given;
use crate::judge::{Check, Declaration, Distance, is_in_one_step, judge};
use crate::numbers::Numbers;
use crate::run::Outputs;

/// What became of a file.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// It holds what the catalogue gives: the same inputs, outputs within their bounds, the same certificate.
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
/// `only` names the entries looked at: those whose name contains it. Files that agree are left alone, so that machines whose
/// logarithms differ in the last bit do not rewrite each other's.
///
/// # Errors   what cannot be drawn, read or written; a file that differs is no error
pub fn regenerate(
    root: &Path,
    only: Option<&str>,
    write: bool,
    done: &mut dyn FnMut(&FileReport),
) -> Result<Vec<FileReport>> {
    let entries: Vec<Entry> =
        catalogue().into_iter().filter(|entry| only.is_none_or(|only| entry.name.contains(only))).collect();
    if write {
        // Whether each can be written, before any is made.
        let paths =
            |entry: &Entry| entry.versions.iter().map(|(folder, _)| folder.path(entry.name)).collect::<Vec<_>>();
        entries.iter().flat_map(paths).try_for_each(|path| writable(&root.join(path)))?;
    }
    let mut reports = Vec::new();
    for entry in entries {
        for mut vector in vectors(&entry)? {
            let path = vector.path(root);
            let state = match (difference(&path, &vector)?, write) {
                (None, _) => State::Same,
                (Some(reason), false) => State::Differs(reason),
                (Some(reason), true) => {
                    vector.certificate.separates = Some(separates(&vector.problem)?);
                    vector.certificate.bounds = Some(bounds(&vector.problem, &vector.outputs)?);
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

/// Makes the folder of a file and sees that the file can be written there.
fn writable(path: &Path) -> Result<()> {
    if let Some(folder) = path.parent() {
        let reason =
            |error: std::io::Error| Error::File { path: folder.display().to_string(), reason: error.to_string() };
        std::fs::create_dir_all(folder).map_err(reason)?;
    }
    Replacement::create(path)?;
    Ok(())
}

fn put(path: &Path, vector: &Vector) -> Result<()> {
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
    let outputs: Outputs = file
        .file
        .names()
        .filter(|name| !is_given(name))
        .map(|name| Ok((name.to_string(), file.file.tensor(name)?)))
        .collect::<Result<_>>()?;
    for difference in [of_statements(&file, vector), of_inputs(&file, vector), of_outputs(&outputs, vector)] {
        if let Some(reason) = difference? {
            return Ok(Some(reason));
        }
    }
    of_certificate(&file, vector, &outputs)
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

/// The same but for what [`of_certificate`] compares, and rounding of margins
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
    let inputs: BTreeSet<&str> = file.file.names().filter(|name| is_given(name)).collect();
    if !inputs.into_iter().eq(vector.inputs.keys()) {
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

/// Names, types and shapes as they are computed; numbers and choices judged in f64, each of them.   NUM-11
fn of_outputs(outputs: &Outputs, vector: &Vector) -> Result<Option<String>> {
    if !outputs.keys().eq(vector.outputs.keys()) {
        return Ok(Some("it has other outputs".into()));
    }
    for ((name, found), expected) in outputs.iter().zip(vector.outputs.values()) {
        let kind = |tensor: &Tensor| format!("{} {:?}", tensor.data.element_type().name(), tensor.shape);
        if kind(found) != kind(expected) {
            return Ok(Some(format!("{name} is {}, not {}", kind(found), kind(expected))));
        }
    }
    let declared = Declaration { numbers: Numbers::F64, distance: Distance::Direct };
    let judgement = judge(&vector.problem, &Implementation::specification(), declared, outputs)?;
    let finding = judgement.findings().next().map(said);
    let unjudged = || outputs.iter().find(|(name, tensor)| !is_judged(&judgement, name, tensor.data.len()));
    Ok(finding.or_else(|| unjudged().map(|(name, _)| format!("{name} cannot be judged in f64"))))
}

fn said(finding: &Check) -> String {
    let (name, at) = (&finding.tensor, &finding.at);
    match (&finding.reason, finding.expected, finding.actual, finding.bound) {
        (None, Some(expected), Some(actual), Some(bound)) if bound > 0.0 => {
            let error = (actual - expected).abs();
            format!("{name} at {at:?} is off by {error:.1e}, where {bound:.1e} is allowed ({})", finding.clause)
        }
        (None, Some(expected), Some(actual), _) => format!("{name} at {at:?} is {actual}, not {expected}"),
        (reason, ..) => format!("{name}: {}", reason.as_deref().unwrap_or("it differs")),
    }
}

/// The bounds and margins, which belong to the outputs of the file.
fn of_certificate(file: &CaseFile, vector: &Vector, outputs: &Outputs) -> Result<Option<String>> {
    let stated = file.certificate.as_ref();
    let Some(found) = stated.and_then(|certificate| certificate.bounds.as_ref()) else {
        return Ok(Some("its certificate has no bounds".into()));
    };
    let in_one_step = is_in_one_step(&vector.problem)?;
    let difference = agreement::of_bounds(found, &bounds(&vector.problem, outputs)?, in_one_step);
    if difference.is_some() {
        return Ok(difference);
    }
    let Some(found) = stated.and_then(|certificate| certificate.separates.as_ref()) else {
        return Ok(Some("its certificate does not say what it separates".into()));
    };
    Ok(agreement::of_margins(found, &separates(&vector.problem)?, in_one_step))
}
