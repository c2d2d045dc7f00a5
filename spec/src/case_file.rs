//! Case files: a case and its tensors in one safetensors file; and where to find them.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::case::Case;
use crate::certificate::Certificate;
use crate::closed_form::{self, ClosedForm};
use crate::error::{Error, listed, quoted};
use crate::tensor_file::{Data, TensorFile};

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
    /// What it states of itself, if it is a certified vector.
    pub certificate: Option<Certificate>,
    /// Its inputs that are not stored, by name.
    pub closed_form: BTreeMap<String, ClosedForm>,
    /// Its stored tensors.
    pub file: TensorFile,
}

impl CaseFile {
    /// Reads a case file.
    ///
    /// # Errors
    /// Those of [`TensorFile::open`] and [`CaseFile::of_file`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::of_file(TensorFile::open(path)?)
    }

    /// The case file that a file's content is.
    ///
    /// # Errors
    /// `Format` where the metadata has no `case`, or a tensor is stored and given by a closed form; `InFile` with those of
    /// [`Case::parse`], [`Certificate::parse`] and [`closed_form::parse`].
    pub fn of_file(file: TensorFile) -> Result<Self, Error> {
        let path = file.path().to_owned();
        let metadata = file.metadata();
        let Some(case) = metadata.get("case") else {
            let keys = listed(metadata.keys().map(String::as_str));
            let expected = "a text `case`, the JSON object of a case".to_owned();
            return Err(Error::Format { path, place: "__metadata__".to_owned(), expected, found: keys });
        };
        let in_file = |reason| Error::InFile { path: path.clone(), reason: Box::new(reason) };
        let case = Case::parse(case).map_err(in_file)?;
        let source = metadata.get("source").cloned();
        let certificate = metadata.get("certificate").map(|text| Certificate::parse(text)).transpose();
        let certificate = certificate.map_err(in_file)?;
        let closed_form = metadata.get("closed_form").map(|text| closed_form::parse(text)).transpose();
        let closed_form = closed_form.map_err(in_file)?.unwrap_or_default();
        if let Some(name) = closed_form.keys().find(|name| file.has(name)) {
            let (place, expected) =
                (format!("tensor {}", quoted(name)), "stored, or given by a closed form".to_owned());
            return Err(Error::Format { path, place, expected, found: "both".to_owned() });
        }
        Ok(Self { path, case, source, certificate, closed_form, file })
    }

    /// The names of all tensors, stored or not.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.file.names().chain(self.closed_form.keys().map(String::as_str))
    }

    /// The shape of a tensor, stored or not, if there is one of that name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.closed_form.get(name).map(|tensor| tensor.shape.as_slice()).or_else(|| self.file.shape(name))
    }

    /// Some of the elements of a tensor, stored or not, by their row-major number.
    ///
    /// # Errors
    /// Those of [`TensorFile::elements`].
    pub fn elements(&self, name: &str, elements: Range<usize>) -> Result<Data, Error> {
        let Some(tensor) = self.closed_form.get(name) else { return self.file.elements(name, elements) };
        let count: usize = tensor.shape.iter().product();
        if elements.start > elements.end || elements.end > count {
            let (path, place) = (self.path.clone(), format!("tensor {}", quoted(name)));
            let (expected, found) = (format!("at most {count} elements"), format!("{elements:?} asked for"));
            return Err(Error::Format { path, place, expected, found });
        }
        Ok(Data::F32(tensor.elements(elements)))
    }
}

/// The case files at a path, and what could not be looked into.
#[derive(Debug, Default)]
pub struct Listing {
    /// Case files, sorted: a file is itself, whatever its name; a folder gives every `*.safetensors` in it and in the folders
    /// below. Links to folders are not followed.
    pub cases: Vec<PathBuf>,
    /// Folders that cannot be listed, and paths where there is nothing.
    pub unread: Vec<(PathBuf, Error)>,
}

impl Listing {
    /// Looks at a path; what cannot be read keeps nothing else from being found.
    pub fn of(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        let mut listing = Self::default();
        match fs::metadata(path) {
            Err(error) => listing.unread.push((path.to_owned(), Error::io(path, "open", &error))),
            Ok(kind) if !kind.is_dir() => listing.cases.push(path.to_owned()),
            Ok(_) => listing.look_into(path),
        }
        listing
    }

    fn look_into(&mut self, path: &Path) {
        let mut folders = vec![path.to_owned()];
        while let Some(folder) = folders.pop() {
            if let Err(error) = self.list(&folder, &mut folders) {
                self.unread.push((folder.clone(), Error::io(&folder, "list", &error)));
            }
        }
        if self.cases.is_empty() && self.unread.is_empty() {
            let expected = "a folder with *.safetensors files in it or below";
            let nothing = Error::Path { path: path.to_owned(), expected, found: "none".to_owned() };
            self.unread.push((path.to_owned(), nothing));
        }
        self.cases.sort();
        self.unread.sort_by(|(left, _), (right, _)| left.cmp(right));
    }

    /// Adds the case files of one folder; the folders in it are left to the caller.
    fn list(&mut self, folder: &Path, below: &mut Vec<PathBuf>) -> std::io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                below.push(entry.path());
            } else if entry.path().extension().is_some_and(|extension| extension == EXTENSION) {
                self.cases.push(entry.path());
            }
        }
        Ok(())
    }
}

/// The case files at a path, as a [`Listing`] gives them.
///
/// # Errors
/// `Io` where the system refuses; `Path` for a folder without case files.
pub fn case_paths(path: impl AsRef<Path>) -> Result<Vec<PathBuf>, Error> {
    let Listing { cases, mut unread } = Listing::of(path);
    if unread.is_empty() { Ok(cases) } else { Err(unread.swap_remove(0).1) }
}

#[cfg(test)]
mod tests;
