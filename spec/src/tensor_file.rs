//! Named tensors in a safetensors file.
//!
//! A file is hostile input. It is refused, with its path, what was found and what is allowed, unless its header is JSON of
//! the right form with every name once, and its tensors cover its data exactly, without overlap or gap. Nothing larger than
//! the file is ever allocated. Tensors of element types that are not read here do no harm until one is asked for.
//!
//! The format is that of the crate safetensors, which lends its element types and checks this reader in the tests. The
//! reader is our own because that crate lets a name stand twice, refuses a whole file for one unknown element type, and
//! says neither what it found nor what it allows; the writer, because it orders metadata at random.

mod decode;
mod header;
mod write;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::{Error, listed, quoted, shortened};
use header::{Entry, Header};

pub use write::write;

/// The element types that are read.
const READ_TYPES: &str = "F32, F64, I32, I64, U8 or BOOL";

/// The elements of a tensor, in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// IEEE numbers of 32 bits.
    F32(Vec<f32>),
    /// IEEE numbers of 64 bits.
    F64(Vec<f64>),
    /// Integers of 32 bits.
    I32(Vec<i32>),
    /// Integers of 64 bits.
    I64(Vec<i64>),
    /// Bytes.
    U8(Vec<u8>),
    /// Truth values.
    Bool(Vec<bool>),
}

impl Data {
    /// The number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(numbers) => numbers.len(),
            Self::F64(numbers) => numbers.len(),
            Self::I32(numbers) => numbers.len(),
            Self::I64(numbers) => numbers.len(),
            Self::U8(numbers) => numbers.len(),
            Self::Bool(flags) => flags.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements as f64; exact but for integers beyond 2^53. Truth values are 0 and 1.
    pub fn to_f64(&self) -> Vec<f64> {
        match self {
            Self::F32(numbers) => numbers.iter().copied().map(f64::from).collect(),
            Self::F64(numbers) => numbers.clone(),
            Self::I32(numbers) => numbers.iter().copied().map(f64::from).collect(),
            Self::I64(numbers) => numbers.iter().map(|&number| number as f64).collect(),
            Self::U8(numbers) => numbers.iter().copied().map(f64::from).collect(),
            Self::Bool(flags) => flags.iter().copied().map(f64::from).collect(),
        }
    }

    /// The elements as i64; none for floating-point elements. Truth values are 0 and 1.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        match self {
            Self::F32(_) | Self::F64(_) => None,
            Self::I32(numbers) => Some(numbers.iter().copied().map(i64::from).collect()),
            Self::I64(numbers) => Some(numbers.clone()),
            Self::U8(numbers) => Some(numbers.iter().copied().map(i64::from).collect()),
            Self::Bool(flags) => Some(flags.iter().copied().map(i64::from).collect()),
        }
    }
}

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

/// The content of a safetensors file.
#[derive(Clone)]
pub struct TensorFile {
    path: PathBuf,
    header: Header,
    data: Vec<u8>,
}

impl TensorFile {
    /// Reads a file.
    ///
    /// # Errors
    /// `Io` where the system refuses, `Path` for what is no regular file, `Format` for what is no safetensors file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open_at_most(path, u64::MAX)
    }

    /// Reads a file of at most so many bytes; for files whose size someone else chose.
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
        Self::read(path, file, length)
    }

    /// Reads the bytes of a file; the path is for messages only.
    ///
    /// # Errors
    /// `Format` for what is no safetensors file.
    pub fn from_bytes(path: impl AsRef<Path>, bytes: &[u8]) -> Result<Self, Error> {
        Self::read(path.as_ref(), bytes, bytes.len() as u64)
    }

    /// Reads the header and, once that is known to fit the length, the data.
    fn read(path: &Path, mut source: impl Read, length: u64) -> Result<Self, Error> {
        let (header, data_length) = Header::read(path, &mut source, length)?;
        let data = header::read_bytes(path, &mut source, data_length)?;
        Ok(Self { path: path.to_owned(), header, data })
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
    /// `NoTensor`; `ElementType` for elements that are not read here; `Format` for a truth value that is neither 0 nor 1.
    pub fn tensor(&self, name: &str) -> Result<Tensor, Error> {
        let entry = self.header.entries.get(name).ok_or_else(|| Error::NoTensor {
            path: self.path.clone(),
            name: shortened(name),
            found: listed(self.names()),
        })?;
        let Entry { shape, element_type, range } = entry;
        let bytes = self.data.get(range.clone()).unwrap_or_default();
        let data = decode::decode(element_type, bytes).map_err(|reason| match reason {
            decode::Reason::ElementType => Error::ElementType {
                path: self.path.clone(),
                name: shortened(name),
                expected: READ_TYPES,
                found: shortened(element_type),
            },
            decode::Reason::NotBool { index, byte } => Error::Format {
                path: self.path.clone(),
                place: format!("tensor {}, element {index}", quoted(name)),
                expected: "0 or 1".to_owned(),
                found: byte.to_string(),
            },
        })?;
        Ok(Tensor { shape: shape.clone(), data })
    }
}

impl fmt::Debug for TensorFile {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, header, data } = self;
        out.debug_struct("TensorFile").field("path", path).field("header", header).field("bytes", &data.len()).finish()
    }
}

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;
