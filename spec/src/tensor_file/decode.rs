//! From little-endian bytes to elements.

use std::io;

use half::{bf16, f16};

use super::{Data, ElementType};

/// Bytes that are decoded at a time.
const BLOCK: usize = 1 << 20;

/// Why bytes are not elements.
pub(super) enum Reason {
    /// They cannot be read.
    Io(io::Error),
    /// A truth value is neither 0 nor 1.
    NotBool {
        /// Its place.
        index: usize,
        /// Its value.
        byte: u8,
    },
}

/// So many elements; `read` fills bytes from an offset.
pub(super) fn read(
    kind: ElementType,
    elements: usize,
    read: impl Fn(usize, &mut [u8]) -> io::Result<()>,
) -> Result<Data, Reason> {
    Ok(match kind {
        ElementType::F32 => Data::F32(blocks(elements, read, f32::from_le_bytes)?),
        ElementType::F64 => Data::F64(blocks(elements, read, f64::from_le_bytes)?),
        ElementType::Bf16 => Data::Bf16(blocks(elements, read, bf16::from_le_bytes)?),
        ElementType::F16 => Data::F16(blocks(elements, read, f16::from_le_bytes)?),
        ElementType::I32 => Data::I32(blocks(elements, read, i32::from_le_bytes)?),
        ElementType::I64 => Data::I64(blocks(elements, read, i64::from_le_bytes)?),
        ElementType::U8 => Data::U8(blocks(elements, read, u8::from_le_bytes)?),
        ElementType::Bool => {
            let bytes = blocks(elements, read, u8::from_le_bytes)?;
            match bytes.iter().position(|&byte| byte > 1) {
                Some(index) => return Err(Reason::NotBool { index, byte: bytes[index] }),
                None => Data::Bool(bytes.into_iter().map(|byte| byte == 1).collect()),
            }
        }
    })
}

fn blocks<const WIDTH: usize, T>(
    elements: usize,
    read: impl Fn(usize, &mut [u8]) -> io::Result<()>,
    element: fn([u8; WIDTH]) -> T,
) -> Result<Vec<T>, Reason> {
    let mut decoded = Vec::new();
    decoded.try_reserve_exact(elements).map_err(|error| Reason::Io(io::Error::other(error)))?;
    let mut block = vec![0; BLOCK.min(elements * WIDTH)];
    while decoded.len() < elements {
        let offset = decoded.len() * WIDTH;
        let length = BLOCK.min(elements * WIDTH - offset);
        read(offset, &mut block[..length]).map_err(Reason::Io)?;
        decoded.extend(block[..length].as_chunks::<WIDTH>().0.iter().map(|&bytes| element(bytes)));
    }
    Ok(decoded)
}
