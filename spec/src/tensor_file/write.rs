//! Writing a safetensors file.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::header::LONGEST;
use super::{Data, ElementType, Tensor};
use crate::error::{Error, quoted};
use crate::replacement::replace;

/// Writes a safetensors file, as a [`Replacement`](crate::Replacement) of what stands there. Equal content gives equal bytes,
/// whatever the order of the tensors given.
///
/// # Errors
/// `Format` for a tensor whose elements are not as many as its shape has, a name given twice or reserved, names too long in
/// all; `Path` and `Io` as for a replacement.
pub fn write<N, T>(path: impl AsRef<Path>, metadata: &BTreeMap<String, String>, tensors: &[(N, T)]) -> Result<(), Error>
where
    N: AsRef<str>,
    T: Borrow<Tensor>,
{
    let path = path.as_ref();
    let (header, placed) = content(path, metadata, tensors)?;
    replace(path, |out| {
        out.write_all(&header)?;
        placed.iter().try_for_each(|placed| write_elements(out, placed.data))
    })
}

/// The bytes that [`write()`] writes; the path is for messages only.
///
/// # Errors
/// `Format`, as for [`write()`].
pub fn to_bytes<N, T>(
    path: impl AsRef<Path>,
    metadata: &BTreeMap<String, String>,
    tensors: &[(N, T)],
) -> Result<Vec<u8>, Error>
where
    N: AsRef<str>,
    T: Borrow<Tensor>,
{
    let (mut bytes, placed) = content(path.as_ref(), metadata, tensors)?;
    for placed in placed {
        bytes.append(&mut placed.data.to_bytes());
    }
    Ok(bytes)
}

/// The first bytes of a file, and the tensors that follow
fn content<'a, N: AsRef<str>, T: Borrow<Tensor>>(
    path: &Path,
    metadata: &BTreeMap<String, String>,
    tensors: &'a [(N, T)],
) -> Result<(Vec<u8>, Vec<Placed<'a>>), Error> {
    let placed = placed(path, tensors)?;
    let infos = placed.iter().map(|placed| (placed.name, &placed.info)).collect();
    Ok((header_bytes(path, metadata, infos, 0)?, placed))
}

/// The first bytes of a file: length and header, metadata first, then the tensors in the order of their data. The header is
/// filled with spaces to `at_least` bytes and to a multiple of 8.
pub(super) fn header_bytes(
    path: &Path,
    metadata: &BTreeMap<String, String>,
    tensors: Vec<(&str, &TensorInfo)>,
    at_least: usize,
) -> Result<Vec<u8>, Error> {
    let json = serde_json::to_vec(&Header { metadata, tensors });
    let mut json = json.map_err(|error| Error::io(path, "write", &error.into()))?;
    json.resize(json.len().max(at_least).next_multiple_of(8), b' ');
    if json.len() as u64 > LONGEST {
        let expected = format!("at most {LONGEST} bytes");
        return Err(format_error(path, "header", expected, format!("{} bytes", json.len())));
    }
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut json);
    Ok(bytes)
}

/// A tensor with its place in the file.
struct Placed<'a> {
    name: &'a str,
    info: TensorInfo,
    data: &'a Data,
}

struct Header<'a> {
    metadata: &'a BTreeMap<String, String>,
    tensors: Vec<(&'a str, &'a TensorInfo)>,
}

impl Serialize for Header<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.metadata.is_empty() {
            map.serialize_entry("__metadata__", self.metadata)?;
        }
        for (name, info) in &self.tensors {
            map.serialize_entry(name, info)?;
        }
        map.end()
    }
}

/// The tensors one after the other: wide elements first, so that all are aligned, then by name.
fn placed<'a, N: AsRef<str>, T: Borrow<Tensor>>(path: &Path, tensors: &'a [(N, T)]) -> Result<Vec<Placed<'a>>, Error> {
    let mut by_name = BTreeMap::new();
    for (name, tensor) in tensors {
        let (name, tensor) = (name.as_ref(), tensor.borrow());
        if name == "__metadata__" {
            let expected = "other names than that of the metadata".to_owned();
            return Err(format_error(path, "tensors", expected, quoted(name)));
        }
        if by_name.insert(name, tensor).is_some() {
            return Err(format_error(path, "tensors", "each name once".to_owned(), format!("{} twice", quoted(name))));
        }
    }
    let mut ordered: Vec<(&str, &Tensor)> = by_name.into_iter().collect();
    ordered.sort_by_key(|(_, tensor)| std::cmp::Reverse(tensor.data.element_type().width()));
    let mut end = 0;
    let place = |(name, tensor): (&'a str, &'a Tensor)| {
        if let Err(Error::Shape { shape, expected, found }) = tensor.check() {
            let found = format!("{found} elements in shape {shape:?}");
            return Err(format_error(path, &format!("tensor {}", quoted(name)), expected, found));
        }
        let kind = tensor.data.element_type();
        let start = end;
        end += tensor.data.len() * kind.width();
        let info = TensorInfo { dtype: dtype(kind), shape: tensor.shape.clone(), data_offsets: (start, end) };
        Ok(Placed { name, info, data: &tensor.data })
    };
    ordered.into_iter().map(place).collect()
}

pub(super) fn format_error(path: &Path, place: &str, expected: String, found: String) -> Error {
    Error::Format { path: path.to_owned(), place: place.to_owned(), expected, found }
}

pub(super) fn dtype(kind: ElementType) -> Dtype {
    match kind {
        ElementType::F32 => Dtype::F32,
        ElementType::F64 => Dtype::F64,
        ElementType::Bf16 => Dtype::BF16,
        ElementType::F16 => Dtype::F16,
        ElementType::I32 => Dtype::I32,
        ElementType::I64 => Dtype::I64,
        ElementType::U8 => Dtype::U8,
        ElementType::Bool => Dtype::BOOL,
    }
}

pub(super) fn write_elements(out: &mut dyn Write, data: &Data) -> io::Result<()> {
    match data {
        Data::F32(numbers) => write_each(out, numbers, |number| number.to_le_bytes()),
        Data::F64(numbers) => write_each(out, numbers, |number| number.to_le_bytes()),
        Data::Bf16(numbers) => write_each(out, numbers, |number| number.to_le_bytes()),
        Data::F16(numbers) => write_each(out, numbers, |number| number.to_le_bytes()),
        Data::I32(numbers) => write_each(out, numbers, |number| number.to_le_bytes()),
        Data::I64(numbers) => write_each(out, numbers, |number| number.to_le_bytes()),
        Data::U8(numbers) => out.write_all(numbers),
        Data::Bool(flags) => write_each(out, flags, |&flag| [u8::from(flag)]),
    }
}

fn write_each<T, const WIDTH: usize>(out: &mut dyn Write, items: &[T], bytes: fn(&T) -> [u8; WIDTH]) -> io::Result<()> {
    items.iter().try_for_each(|item| out.write_all(&bytes(item)))
}
