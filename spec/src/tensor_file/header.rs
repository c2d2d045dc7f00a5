//! The header of a safetensors file: eight bytes of length, then JSON; and whether its tensors fit the file.

mod json;

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use safetensors::Dtype;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error as NameError;

use crate::error::{Error, quoted, shortened};
use json::{JsonHeader, JsonTensor};

pub(super) use json::MOST_DIMENSIONS;

/// The longest header of the format, in bytes.
pub(super) const LONGEST: u64 = 100_000_000;

/// What the header says.
#[derive(Debug, Clone)]
pub(super) struct Header {
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) entries: BTreeMap<String, Entry>,
}

/// What the header says of one tensor.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) element_type: String,
    pub(super) shape: Vec<usize>,
    /// Its bytes within the data.
    pub(super) range: Range<usize>,
}

impl Header {
    /// Reads the header of a file of so many bytes. Returns it with the number of bytes that follow.
    pub(super) fn read(path: &Path, source: &mut impl Read, length: u64) -> Result<(Self, u64), Error> {
        let wrong = |place: &str, expected: String, found: String| {
            let place = place.to_owned();
            Error::Format { path: path.to_owned(), place, expected, found }
        };
        let Some(rest) = length.checked_sub(8) else {
            return Err(wrong(
                "size",
                "at least the 8 bytes of a safetensors header's length".to_owned(),
                format!("{length} bytes"),
            ));
        };
        let mut first = [0; 8];
        source.read_exact(&mut first).map_err(|error| Error::io(path, "read", &error))?;
        let header_length = u64::from_le_bytes(first);
        if header_length > rest.min(LONGEST) {
            let expected = format!("at most {LONGEST} bytes and no more than the {rest} that follow");
            return Err(wrong("header's length", expected, format!("{header_length} bytes")));
        }
        let bytes = read_bytes(path, source, header_length)?;
        let text = std::str::from_utf8(&bytes).map_err(|error| {
            let byte = error.valid_up_to();
            wrong("header", "UTF-8 text".to_owned(), format!("other bytes after the first {byte}"))
        })?;
        let JsonHeader { metadata, tensors } = serde_json::from_str(text).map_err(|error| {
            let expected = "a JSON object of tensors {dtype, shape, data_offsets} and texts __metadata__".to_owned();
            wrong("header", expected, shortened(&error.to_string()))
        })?;
        let data_length = rest - header_length;
        let misfit = |misfit: Misfit| wrong(&misfit.place, misfit.expected, misfit.found);
        check_cover(&tensors, data_length).map_err(misfit)?;
        let entries = tensors.into_iter().map(|(name, tensor)| entry(&name, tensor).map(|entry| (name, entry)));
        let entries = entries.collect::<Result<_, Misfit>>().map_err(misfit)?;
        Ok((Self { metadata, entries }, data_length))
    }
}

/// Reads so many bytes, which the file is known to have had.
fn read_bytes(path: &Path, source: &mut impl Read, length: u64) -> Result<Vec<u8>, Error> {
    let refused = |found: String| Error::Io { path: path.to_owned(), action: "read", found };
    let length = usize::try_from(length).map_err(|_| refused(format!("{length} bytes do not fit this machine")))?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length).map_err(|error| refused(format!("{length} bytes: {error}")))?;
    bytes.resize(length, 0);
    source.read_exact(&mut bytes).map_err(|error| Error::io(path, "read", &error))?;
    Ok(bytes)
}

/// A place of the header that does not fit the file.
struct Misfit {
    place: String,
    expected: String,
    found: String,
}

fn place_of(name: &str) -> String {
    format!("tensor {}", quoted(name))
}

/// The tensors' ranges follow each other without overlap or gap, from the start of the data to its end.
fn check_cover(tensors: &BTreeMap<String, JsonTensor>, data_length: u64) -> Result<(), Misfit> {
    let mut by_offset: Vec<(&String, (u64, u64))> =
        tensors.iter().map(|(name, tensor)| (name, tensor.data_offsets)).collect();
    by_offset.sort_by_key(|&(_, offsets)| offsets);
    let mut end = 0;
    let mut before = "data begins".to_owned();
    for (name, (start, stop)) in by_offset {
        let misfit = |expected: String| Misfit { place: place_of(name), expected, found: format!("[{start}, {stop}]") };
        if stop < start || stop > data_length {
            return Err(misfit(format!("data_offsets that ascend within the {data_length} bytes of data")));
        }
        if start != end {
            return Err(misfit(format!("data_offsets from {end}, where the {before}")));
        }
        end = stop;
        before = format!("{} ends", place_of(name));
    }
    if end == data_length {
        return Ok(());
    }
    let expected = format!("{end} bytes, as many as the tensors take");
    Err(Misfit { place: "data".to_owned(), expected, found: format!("{data_length} bytes") })
}

/// A tensor whose shape takes as many bytes as its range has, as far as the size of its elements is known.
fn entry(name: &str, tensor: JsonTensor) -> Result<Entry, Misfit> {
    let JsonTensor { dtype: element_type, shape, data_offsets: (start, stop) } = tensor;
    let deserializer: serde::de::value::StrDeserializer<'_, NameError> = element_type.as_str().into_deserializer();
    let width = Dtype::deserialize(deserializer).ok().map(|known| known.bitsize() as u64);
    // An unknown size could be any, so the bytes say nothing.
    let fits = |elements: u64| width.is_none_or(|width| elements.checked_mul(width) == (stop - start).checked_mul(8));
    let sizes = shape.0.iter().map(|&length| usize::try_from(length).ok()).collect::<Option<Vec<usize>>>();
    let range = usize::try_from(start).ok().zip(usize::try_from(stop).ok());
    match (sizes, range) {
        (Some(shape), Some((start, stop))) if count(&shape).is_some_and(fits) => {
            Ok(Entry { element_type, shape, range: start..stop })
        }
        _ => Err(Misfit {
            place: place_of(name),
            expected: format!("a shape that takes {} bytes, its data_offsets [{start}, {stop}]", stop - start),
            found: format!("{} {:?}", shortened(&element_type), shape.0),
        }),
    }
}

/// The number of elements of a shape; none where a product of some of its lengths, zeros left out, would overflow.
pub(super) fn count(shape: &[usize]) -> Option<u64> {
    let lengths = shape.iter().filter(|&&length| length > 0);
    let product = lengths.copied().try_fold(1_usize, usize::checked_mul)?;
    Some(if shape.contains(&0) { 0 } else { product as u64 })
}
