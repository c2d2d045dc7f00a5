//! From little-endian bytes to elements.

use super::Data;

/// Why bytes are not elements that are read here.
pub(super) enum Reason {
    /// The element type is not one of those read.
    ElementType,
    /// A truth value is neither 0 nor 1.
    NotBool {
        /// Its place.
        index: usize,
        /// Its value.
        byte: u8,
    },
}

/// The elements of an element type; the header's reader has checked that the bytes are whole elements.
pub(super) fn decode(element_type: &str, bytes: &[u8]) -> Result<Data, Reason> {
    match element_type {
        "F32" => Ok(Data::F32(elements(bytes, f32::from_le_bytes))),
        "F64" => Ok(Data::F64(elements(bytes, f64::from_le_bytes))),
        "I32" => Ok(Data::I32(elements(bytes, i32::from_le_bytes))),
        "I64" => Ok(Data::I64(elements(bytes, i64::from_le_bytes))),
        "U8" => Ok(Data::U8(bytes.to_vec())),
        "BOOL" => match bytes.iter().position(|&byte| byte > 1) {
            Some(index) => Err(Reason::NotBool { index, byte: bytes[index] }),
            None => Ok(Data::Bool(bytes.iter().map(|&byte| byte == 1).collect())),
        },
        _ => Err(Reason::ElementType),
    }
}

fn elements<const WIDTH: usize, T>(bytes: &[u8], element: fn([u8; WIDTH]) -> T) -> Vec<T> {
    bytes.as_chunks::<WIDTH>().0.iter().map(|&bytes| element(bytes)).collect()
}
