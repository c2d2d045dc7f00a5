//! The buffers of a call: whether they are this device's, as long as the tokens say, and apart where they must be.

use std::ops::Range;

use fwpkm_reference::Error as MemoryError;

use crate::backend::Backend;
use crate::buffers::rows_of;
use crate::error::{Error, Result};
use crate::memory::Memory;
use crate::resident::Resident;

impl<B: Backend> Memory<B> {
    /// Bytes of a token of all sequences: query, value, one number
    pub(crate) fn row_bytes(&self, sequences: usize) -> (usize, usize, usize) {
        let (settings, one) = (self.settings(), sequences * 4);
        (one * settings.heads * settings.key_dim, one * settings.value_dim, one)
    }

    /// Whether the tokens can be taken from their buffers, and what is read be put into `reads`; nothing has changed if not.
    pub(crate) fn check_given(&self, tokens: &Resident<B::Buffer>, reads: &B::Buffer) -> Result<()> {
        // Bytes of so many rows are far from overflow.
        rows_of(self.settings(), tokens.sequences)?;
        let (query, value, one) = self.row_bytes(tokens.sequences);
        let read = self.place(tokens.tokens, "reads", reads, value)?;
        for (tensor, buffer, row) in [
            ("queries", Some(tokens.queries), query),
            ("values", Some(tokens.values), value),
            ("gates", tokens.gates, one),
            ("mask", tokens.mask, one),
        ] {
            let Some(buffer) = buffer else { continue };
            let given = self.place(tokens.tokens, tensor, buffer, row)?;
            let apart = given.end <= read.start || read.end <= given.start;
            // What is read of a slice goes over values of that slice only, which are in the queue by then.
            if apart || tensor == "values" && given == read {
                continue;
            }
            let bytes = |range: &Range<u64>| format!("{} bytes at {:#x}", range.end - range.start, range.start);
            let reason = format!(
                "reads ({}) overlap {tensor} ({}), which would be overwritten before they are used; what is read may go exactly \
                 where the values are, or apart from all tokens",
                bytes(&read),
                bytes(&given)
            );
            return Err(Error::misuse("feed_resident", reason));
        }
        Ok(())
    }

    /// The addresses that the tokens take of a buffer
    fn place(&self, tokens: usize, tensor: &'static str, buffer: &B::Buffer, row: usize) -> Result<Range<u64>> {
        let backend = &self.driver.backend;
        if !backend.owns(buffer) {
            let reason =
                format!("{tensor} are in a buffer of another device or stream; memory.device() allocates on this one");
            return Err(Error::misuse("feed_resident", reason));
        }
        let (found, needed) = (backend.bytes(buffer), tokens.saturating_mul(row));
        if found < needed {
            let expected = format!("{needed} bytes for {tokens} tokens");
            return Err(MemoryError::Shape { tensor, expected, found: vec![found] }.into());
        }
        let from = backend.address(buffer);
        Ok(from..from.saturating_add(needed as u64))
    }

    /// Whether a walk is asked for, and can work on these buffers: it reads tokens where they are, 16 bytes at once, while it
    /// writes what is read. Other tokens than the values are apart from that by now.
    pub(crate) fn can_walk_on(&self, tokens: &Resident<B::Buffer>, reads: &B::Buffer) -> bool {
        let place = |buffer| self.driver.backend.address(buffer);
        let given = [Some(tokens.queries), Some(tokens.values), tokens.gates, tokens.mask, Some(reads)];
        self.driver.walks()
            && given.into_iter().flatten().all(|buffer| place(buffer).is_multiple_of(16))
            && place(reads) != place(tokens.values)
    }
}
