//! The JSON of a header, in its own words.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::error::quoted;
use crate::unique::Unique;

/// The most dimensions a tensor may have.
pub(in crate::tensor_file) const MOST_DIMENSIONS: usize = 16;

/// The whole header; every name stands once.
pub(super) struct JsonHeader {
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) tensors: BTreeMap<String, JsonTensor>,
}

/// One tensor. The element type is any text: one that nobody asks for may be of any kind.
#[derive(Deserialize)]
pub(super) struct JsonTensor {
    pub(super) dtype: String,
    pub(super) shape: Shape,
    pub(super) data_offsets: (u64, u64),
}

/// The lengths of at most [`MOST_DIMENSIONS`] dimensions.
pub(super) struct Shape(pub(super) Vec<u64>);

impl<'de> Deserialize<'de> for JsonHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = JsonHeader;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<JsonHeader, M::Error> {
                let (mut metadata, mut tensors) = (None, BTreeMap::new());
                while let Some(name) = map.next_key::<String>()? {
                    let within = |error: M::Error| M::Error::custom(format_args!("{}: {error}", quoted(&name)));
                    let is_metadata = name == "__metadata__";
                    if is_metadata && metadata.is_some() || tensors.contains_key(&name) {
                        return Err(M::Error::custom(format_args!("name {} twice", quoted(&name))));
                    }
                    if is_metadata {
                        metadata = Some(map.next_value::<Unique<String>>().map_err(within)?.0);
                    } else {
                        let tensor = map.next_value().map_err(within)?;
                        tensors.insert(name, tensor);
                    }
                }
                Ok(JsonHeader { metadata: metadata.unwrap_or_default(), tensors })
            }
        }
        deserializer.deserialize_map(Names)
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Lengths;
        impl<'de> Visitor<'de> for Lengths {
            type Value = Shape;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(out, "a shape of at most {MOST_DIMENSIONS} whole numbers")
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut items: S) -> Result<Shape, S::Error> {
                let mut lengths = Vec::new();
                while let Some(length) = items.next_element()? {
                    if lengths.len() == MOST_DIMENSIONS {
                        return Err(S::Error::invalid_length(MOST_DIMENSIONS + 1, &self));
                    }
                    lengths.push(length);
                }
                Ok(Shape(lengths))
            }
        }
        deserializer.deserialize_seq(Lengths)
    }
}
