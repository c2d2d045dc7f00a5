//! Named tensors in a safetensors file.
//!
//! A file is hostile input. It is refused, with its path, what was found and what is allowed, unless its header is JSON of
//! the right form with every name once, and its tensors cover its data exactly, without overlap or gap. Tensors are read as
//! they are asked for, whole or in part; nothing larger than the file is ever allocated. Tensors of element types that are
//! not read here do no harm until one is asked for.
//!
//! The format is that of the crate safetensors, which lends its element types and checks this reader in the tests. The
//! reader is our own because that crate lets a name stand twice, refuses a whole file for one unknown element type, and
//! says neither what it found nor what it allows; the writer, because it orders metadata at random.

mod decode;
mod elements;
mod header;
mod stream;
mod write;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, listed, quoted, shortened};
use header::{Entry, Header};

pub use elements::{Data, ElementType};
pub use stream::TensorWriter;
pub use write::{to_bytes, write};

/// The element types that are read.
const READ_TYPES: &str = "F32, F64, BF16, F16, I32, I64, U8 or BOOL";

/// A tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// The length of each dimension; none for a single number.
    pub shape: Vec<usize>,
    /// The elements, the last dimension fastest.
    pub data: Data,
}

impl Tensor {
    /// A tensor of a shape.
    ///
    /// # Errors
    /// `Shape` if the shape has another number of elements.
    pub fn new(shape: &[usize], data: Data) -> Result<Self, Error> {
        let tensor = Self { shape: shape.to_vec(), data };
        tensor.check()?;
        Ok(tensor)
    }

    /// Whether shape and elements agree; the fields are open to anyone.
    fn check(&self) -> Result<(), Error> {
        let found = self.data.len();
        let expected = match header::count(&self.shape) {
            _ if self.shape.len() > header::MOST_DIMENSIONS => {
                format!("at most {} dimensions", header::MOST_DIMENSIONS)
            }
            Some(elements) if elements == found as u64 => return Ok(()),
            Some(elements) => format!("{elements} elements"),
            None => "lengths whose product is below 2^64".to_owned(),
        };
        Err(Error::Shape { shape: self.shape.clone(), expected, found })
    }
}

/// A safetensors file: its header, and its tensors as they are asked for.
#[derive(Clone)]
pub struct TensorFile {
    path: PathBuf,
    header: Header,
    source: Source,
}

/// Where the bytes of the tensors are.
#[derive(Clone)]
enum Source {
    /// In memory.
    Bytes(Arc<[u8]>),
    /// In the file, from this offset on.
    File(Arc<Mutex<File>>, u64),
}

impl TensorFile {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// `Io` where the system refuses, `Path` for what is no regular file, `Format` for what is no safetensors file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open_at_most(path, u64::MAX)
    }

    /// Opens a file of at most so many bytes; for files whose size someone else chose.
    ///
    /// # Errors
    /// Those of [`TensorFile::open`], and `Path` for a larger file.
    pub fn open_at_most(path: impl AsRef<Path>, bytes: u64) -> Result<Self, Error> {
        let path = path.as_ref();
        let refused = |found: String| Error::Path { path: path.to_owned(), expected: "a safetensors file", found };
        // Before the file is opened, which would wait at a pipe.
        let kind = fs::metadata(path).map_err(|error| Error::io(path, "open", &error))?;
        if kind.is_dir() {
            return Err(refused("a folder".to_owned()));
        }
        if !kind.is_file() {
            return Err(refused("a device, pipe or socket".to_owned()));
        }
        let file = fs::File::open(path).map_err(|error| Error::io(path, "open", &error))?;
        let length = file.metadata().map_err(|error| Error::io(path, "open", &error))?.len();
        if length > bytes {
            return Err(refused(format!("{length} bytes, more than the {bytes} allowed here")));
        }
        let mut file = file;
        let (header, data_length) = Header::read(path, &mut file, length)?;
        let source = Source::File(Arc::new(Mutex::new(file)), length - data_length);
        Ok(Self { path: path.to_owned(), header, source })
    }

    /// Reads the bytes of a file; the path is for messages only.
    ///
    /// # Errors
    /// `Format` for what is no safetensors file.
    pub fn from_bytes(path: impl AsRef<Path>, bytes: &[u8]) -> Result<Self, Error> {
        let path = path.as_ref();
        let mut rest = bytes;
        let (header, _) = Header::read(path, &mut rest, bytes.len() as u64)?;
        Ok(Self { path: path.to_owned(), header, source: Source::Bytes(rest.into()) })
    }

    /// The path it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The texts of `__metadata__`.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.header.metadata
    }

    /// The names of the tensors, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.header.entries.keys().map(String::as_str)
    }

    /// Whether there is a tensor of that name.
    pub fn has(&self, name: &str) -> bool {
        self.header.entries.contains_key(name)
    }

    /// The shape of a tensor, if there is one of that name; known without reading its elements. No product of a shape's
    /// lengths overflows, zeros left out.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.header.entries.get(name).map(|entry| entry.shape.as_slice())
    }

    /// The element type of a tensor, as written in the file, if there is one of that name.
    pub fn element_type(&self, name: &str) -> Option<&str> {
        self.header.entries.get(name).map(|entry| entry.element_type.as_str())
    }

    /// A tensor.
    ///
    /// # Errors
    /// Those of [`TensorFile::elements`].
    pub fn tensor(&self, name: &str) -> Result<Tensor, Error> {
        let entry = self.entry(name)?;
        let shape = entry.shape.clone();
        let elements = header::count(&shape).and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
        Ok(Tensor { shape, data: self.elements(name, 0..elements)? })
    }

    /// Some of the elements of a tensor, by their row-major number.
    ///
    /// # Errors
    /// `NoTensor`; `ElementType` for elements that are not read here; `Format` for a truth value that is neither 0 nor 1, or
    /// elements the tensor does not have; `Io` where the file cannot be read, or has become shorter.
    pub fn elements(&self, name: &str, elements: Range<usize>) -> Result<Data, Error> {
        let entry = self.entry(name)?;
        let Some(kind) = ElementType::of_name(&entry.element_type) else {
            return Err(Error::ElementType {
                path: self.path.clone(),
                name: shortened(name),
                expected: READ_TYPES,
                found: shortened(&entry.element_type),
            });
        };
        let wrong = |place: String, expected: String, found: String| Error::Format {
            path: self.path.clone(),
            place: format!("tensor {}{place}", quoted(name)),
            expected,
            found,
        };
        let count = entry.range.len() / kind.width();
        if elements.start > elements.end || elements.end > count {
            return Err(wrong(String::new(), format!("at most {count} elements"), format!("{elements:?} asked for")));
        }
        let start = entry.range.start + elements.start * kind.width();
        decode::read(kind, elements.len(), |offset, bytes| self.read_at(start + offset, bytes)).map_err(|reason| {
            match reason {
                decode::Reason::Io(error) => Error::io(&self.path, "read", &error),
                decode::Reason::NotBool { index, byte } => {
                    wrong(format!(", element {}", elements.start + index), "0 or 1".to_owned(), byte.to_string())
                }
            }
        })
    }

    fn entry(&self, name: &str) -> Result<&Entry, Error> {
        self.header.entries.get(name).ok_or_else(|| Error::NoTensor {
            path: self.path.clone(),
            name: shortened(name),
            found: listed(self.names()),
        })
    }

    /// Fills `bytes` from an offset of the data.
    fn read_at(&self, offset: usize, bytes: &mut [u8]) -> std::io::Result<()> {
        match &self.source {
            Source::Bytes(data) => {
                let mut rest = data.get(offset..).unwrap_or_default();
                rest.read_exact(bytes)
            }
            Source::File(file, start) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(start + offset as u64))?;
                file.read_exact(bytes)
            }
        }
    }
}

impl fmt::Debug for TensorFile {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, header, .. } = self;
        out.debug_struct("TensorFile").field("path", path).field("header", header).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;
