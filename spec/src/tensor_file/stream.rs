//! Writing a safetensors file piece by piece.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorInfo;
use tempfile::NamedTempFile;

use super::write::{dtype, format_error, header_bytes, write_elements};
use super::{Data, ElementType, header};
use crate::error::{Error, quoted};
use crate::replacement::Replacement;

/// Bytes kept free for the header, which is written last.
const HEADER: usize = 1 << 16;

/// Bytes moved at a time.
const BLOCK: usize = 1 << 20;

/// A safetensors file whose tensors are declared with their shapes and filled in any order, in pieces.
///
/// It is a [`Replacement`], which takes its path's place in [`TensorWriter::finish`]; until then, and if anything fails, an
/// existing file stays as it was.
#[derive(Debug)]
pub struct TensorWriter {
    path: PathBuf,
    file: Replacement,
    tensors: Vec<(String, ElementType, TensorInfo)>,
    end: usize,
}

impl TensorWriter {
    /// A new file.
    ///
    /// # Errors
    /// Those of [`Replacement::create`].
    pub fn create(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref().to_owned();
        let file = Replacement::create(&path)?;
        Ok(Self { path, file, tensors: Vec::new(), end: 0 })
    }

    /// Adds a tensor after those there are, its elements zero. Returns its number.
    ///
    /// # Errors
    /// `Format` for a name that is taken or a shape too large; `Io` where the disk has no room.
    pub fn declare(&mut self, name: &str, kind: ElementType, shape: &[usize]) -> Result<usize, Error> {
        let wrong =
            |expected: &str, found: String| Err(format_error(&self.path, "tensors", expected.to_owned(), found));
        if name == "__metadata__" || self.tensors.iter().any(|(taken, ..)| taken == name) {
            return wrong("each name once, and not __metadata__", quoted(name));
        }
        let bytes = header::count(shape).and_then(|count| usize::try_from(count).ok()?.checked_mul(kind.width()));
        let Some(end) = bytes.and_then(|bytes| self.end.checked_add(bytes)) else {
            return wrong("a shape whose bytes can be counted", format!("{shape:?}"));
        };
        let info = TensorInfo { dtype: dtype(kind), shape: shape.to_vec(), data_offsets: (self.end, end) };
        self.tensors.push((name.to_owned(), kind, info));
        self.end = end;
        self.resize()?;
        Ok(self.tensors.len() - 1)
    }

    /// Names and shapes of the tensors declared so far.
    pub fn shapes(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.tensors.iter().map(|(name, _, info)| (name.as_str(), info.shape.as_slice()))
    }

    /// Writes elements of a tensor, from a row-major number on.
    ///
    /// # Errors
    /// `Format` for elements of another type or beyond the tensor; `Io` where the system refuses.
    pub fn write(&mut self, tensor: usize, first: usize, data: &Data) -> Result<(), Error> {
        let wrong = |expected: String, found: String| Err(format_error(&self.path, "tensors", expected, found));
        let Some((name, kind, info)) = self.tensors.get(tensor) else {
            return wrong(format!("a tensor below {}", self.tensors.len()), tensor.to_string());
        };
        let (start, end) = info.data_offsets;
        let count = (end - start) / kind.width();
        if data.element_type() != *kind || first.checked_add(data.len()).is_none_or(|last| last > count) {
            let found = format!("{} {} from {first} on", data.len(), data.element_type().name());
            return wrong(format!("{count} elements {} in {}", kind.name(), quoted(name)), found);
        }
        let offset = offset_of(start + first * kind.width());
        let fill = |file: &mut NamedTempFile| {
            file.seek(SeekFrom::Start(offset))?;
            let mut out = BufWriter::with_capacity(BLOCK, file);
            write_elements(&mut out, data)?;
            out.flush()
        };
        fill(&mut self.file.file).map_err(|error| Error::io(&self.path, "write", &error))
    }

    /// Shortens the second dimension of every tensor declared so far to `length`, for a run that ends early.
    ///
    /// # Errors
    /// `Format` for a tensor with fewer; `Io` where the system refuses.
    pub fn shorten(&mut self, length: usize) -> Result<(), Error> {
        let mut end = 0;
        for (name, kind, info) in &mut self.tensors {
            let [first, second, rest @ ..] = info.shape.as_mut_slice() else {
                return Err(format_error(&self.path, "tensors", "two dimensions".to_owned(), quoted(name)));
            };
            if length > *second {
                return Err(format_error(&self.path, "tensors", format!("at most {second}"), length.to_string()));
            }
            let row = rest.iter().product::<usize>() * kind.width();
            let from = info.data_offsets.0;
            for index in 0..*first {
                // Everything moves towards the front, so nothing that is still needed is overwritten.
                move_bytes(&mut self.file.file, from + index * *second * row, end + index * length * row, length * row)
                    .map_err(|error| Error::io(&self.path, "write", &error))?;
            }
            *second = length;
            info.data_offsets = (end, end + *first * length * row);
            end = info.data_offsets.1;
        }
        self.end = end;
        self.resize()
    }

    /// Writes the header and takes the place of the path.
    ///
    /// # Errors
    /// `Format` for a header too long; `Io` where the system refuses.
    pub fn finish(mut self, metadata: &BTreeMap<String, String>) -> Result<(), Error> {
        let infos = self.tensors.iter().map(|(name, _, info)| (name.as_str(), info)).collect();
        let header = header_bytes(&self.path, metadata, infos, HEADER)?;
        if header.len() != 8 + HEADER {
            let found = format!("{} bytes", header.len() - 8);
            return Err(format_error(&self.path, "header", format!("at most {HEADER} bytes"), found));
        }
        let refused = |error: io::Error| Error::io(&self.path, "write", &error);
        let file = &mut self.file.file;
        file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(&header)).map_err(refused)?;
        self.file.persist()
    }

    fn resize(&mut self) -> Result<(), Error> {
        let length = offset_of(self.end);
        self.file.file.as_file().set_len(length).map_err(|error| Error::io(&self.path, "write", &error))
    }
}

fn offset_of(data: usize) -> u64 {
    (8 + HEADER + data) as u64
}

fn move_bytes(file: &mut NamedTempFile, from: usize, to: usize, length: usize) -> io::Result<()> {
    if from == to {
        return Ok(());
    }
    let mut block = vec![0; BLOCK.min(length)];
    let mut done = 0;
    while done < length {
        let part = BLOCK.min(length - done);
        file.seek(SeekFrom::Start(offset_of(from + done)))?;
        file.read_exact(&mut block[..part])?;
        file.seek(SeekFrom::Start(offset_of(to + done)))?;
        file.write_all(&block[..part])?;
        done += part;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor_file::TensorFile;

    fn numbers(range: std::ops::Range<u8>) -> Data {
        Data::F32(range.map(f32::from).collect())
    }

    #[test]
    fn pieces_in_any_order_make_the_tensor() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.safetensors");
        let mut writer = TensorWriter::create(&path).unwrap();
        let x = writer.declare("x", ElementType::F32, &[2, 3]).unwrap();
        writer.write(x, 4, &numbers(4..6)).unwrap();
        writer.write(x, 0, &numbers(0..4)).unwrap();
        assert!(!path.exists());
        writer.finish(&BTreeMap::from([("a".into(), "b".into())])).unwrap();
        let file = TensorFile::open(&path).unwrap();
        assert_eq!(file.tensor("x").unwrap().data, numbers(0..6));
        assert_eq!(file.elements("x", 2..4).unwrap(), numbers(2..4));
        assert_eq!(file.metadata()["a"], "b");
    }

    #[test]
    fn shortening_keeps_the_first_of_each_row() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.safetensors");
        let mut writer = TensorWriter::create(&path).unwrap();
        let x = writer.declare("x", ElementType::F32, &[2, 3, 2]).unwrap();
        let y = writer.declare("y", ElementType::I64, &[2, 3]).unwrap();
        writer.write(x, 0, &numbers(0..12)).unwrap();
        writer.write(y, 0, &Data::I64(vec![0, 1, 2, 3, 4, 5])).unwrap();
        writer.shorten(2).unwrap();
        let z = writer.declare("z", ElementType::U8, &[1]).unwrap();
        writer.write(z, 0, &Data::U8(vec![7])).unwrap();
        writer.finish(&BTreeMap::new()).unwrap();
        let file = TensorFile::open(&path).unwrap();
        assert_eq!(file.shape("x"), Some(&[2, 2, 2][..]));
        assert_eq!(file.tensor("x").unwrap().data, Data::F32(vec![0.0, 1.0, 2.0, 3.0, 6.0, 7.0, 8.0, 9.0]));
        assert_eq!(file.tensor("y").unwrap().data, Data::I64(vec![0, 1, 3, 4]));
        assert_eq!(file.tensor("z").unwrap().data, Data::U8(vec![7]));
    }

    #[test]
    fn elements_of_another_type_or_beyond_the_tensor_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.safetensors");
        let mut writer = TensorWriter::create(&path).unwrap();
        let x = writer.declare("x", ElementType::F32, &[2]).unwrap();
        assert!(writer.declare("x", ElementType::F32, &[2]).is_err());
        assert!(writer.declare("huge", ElementType::F64, &[usize::MAX, 2]).is_err());
        assert!(writer.write(x, 1, &numbers(0..2)).is_err());
        assert!(writer.write(x, 0, &Data::F64(vec![1.0])).is_err());
        assert!(writer.write(7, 0, &numbers(0..1)).is_err());
        drop(writer);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
