//! Case files: a case and its tensors in one safetensors file; and where to find them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::case::Case;
use crate::error::{Error, listed};
use crate::tensor_file::TensorFile;

/// How the names of case files end.
const EXTENSION: &str = "safetensors";

/// A safetensors file whose metadata states a case.
#[derive(Debug, Clone)]
pub struct CaseFile {
    /// The path it was read from.
    pub path: PathBuf,
    /// The case.
    pub case: Case,
    /// Where its numbers come from, in words, if it says so.
    pub source: Option<String>,
    /// Its tensors.
    pub file: TensorFile,
}

impl CaseFile {
    /// Reads a case file.
    ///
    /// # Errors
    /// Those of [`TensorFile::open`]; `Format` where the metadata has no `case`; `InFile` with those of [`Case::parse`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::of_file(TensorFile::open(path)?)
    }

    /// The case file that a file's content is.
    ///
    /// # Errors
    /// `Format` where the metadata has no `case`; `InFile` with those of [`Case::parse`].
    pub fn of_file(file: TensorFile) -> Result<Self, Error> {
        let path = file.path().to_owned();
        let Some(case) = file.metadata().get("case") else {
            let keys = listed(file.metadata().keys().map(String::as_str));
            let expected = "a text `case`, the JSON object of a case".to_owned();
            return Err(Error::Format { path, place: "__metadata__".to_owned(), expected, found: keys });
        };
        let case =
            Case::parse(case).map_err(|reason| Error::InFile { path: path.clone(), reason: Box::new(reason) })?;
        let source = file.metadata().get("source").cloned();
        Ok(Self { path, case, source, file })
    }
}

/// The case files at a path, sorted: a file is itself, whatever its name; a folder gives every `*.safetensors` in it and in
/// the folders below. Links to folders are not followed.
///
/// # Errors
/// `Io` where the system refuses; `Path` for a folder without case files.
pub fn case_paths(path: impl AsRef<Path>) -> Result<Vec<PathBuf>, Error> {
    let path = path.as_ref();
    let kind = fs::metadata(path).map_err(|error| Error::io(path, "open", &error))?;
    if !kind.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        let unread = |error: std::io::Error| Error::io(&folder, "list", &error);
        for entry in fs::read_dir(&folder).map_err(unread)? {
            let entry = entry.map_err(unread)?;
            if entry.file_type().map_err(unread)?.is_dir() {
                folders.push(entry.path());
            } else if entry.path().extension().is_some_and(|extension| extension == EXTENSION) {
                found.push(entry.path());
            }
        }
    }
    if found.is_empty() {
        let expected = "a folder with *.safetensors files in it or below";
        return Err(Error::Path { path: path.to_owned(), expected, found: "none".to_owned() });
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests;
