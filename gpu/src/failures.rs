//! What failed: errors of the device, and numbers that are not finite.                                        NUM-7

use fwpkm_reference::Error as MemoryError;

use crate::backend::Backend;
use crate::driver::FLAG_NONE;
use crate::error::{Error, Result};
use crate::memory::Memory;

/// What is checked of tokens from the device, as in kernels/input.cu; the first has number 1.
const INPUTS: [&str; 3] = ["queries", "values", "gates"];

/// What is not finite, by the numbers of kernels/prelude.cuh.
const CHECKED: [(&str, &str); 10] = [
    ("score", "half_scores"),
    ("select", "pair_scores"),
    ("read", "weights"),
    ("read", "reads"),
    ("memorize", "pair_losses"),
    ("memorize", "value_gradient"),
    ("memorize", "slot_values"),
    ("address", "addressing_loss"),
    ("address", "sub_key_gradient"),
    ("address", "sub_keys"),
];

pub(crate) const UNSEEN: &str = "a chunk that was fed from the device failed; call settle, which says which";

impl<B: Backend> Memory<B> {
    /// Work on the device. After an error of the device only [`Memory::reset_tables`] is of use.
    pub(crate) fn guarded<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.known()?;
        work(self).inspect_err(|error| {
            // A misuse in the middle of work leaves as little known.
            if let Error::Device { call, reason } | Error::Misuse { call, reason } = error {
                self.interrupted = Some(Error::Interrupted { call: call.clone(), reason: reason.clone() });
            }
        })
    }

    /// Whether a chunk fed from the device failed, and no call has said so yet.
    pub(crate) fn failed_unseen(&self) -> Result<bool> {
        Ok(self.halted.is_none() && self.get::<i32>(&self.tables.flag, 0, 1)? != [FLAG_NONE])
    }

    pub(crate) fn known(&self) -> Result<()> {
        self.interrupted.clone().map_or(Ok(()), Err)
    }

    /// Nothing is raised, and the next step has the number that the host counts.
    pub(crate) fn clear_flag(&mut self) -> Result<()> {
        (self.halted, self.unseen) = (None, false);
        let none = FLAG_NONE;
        self.driver.backend.write(&self.tables.flag, 0, &[none, none, none, none, self.number()])
    }

    pub(crate) fn still_running(&self) -> Result<()> {
        self.halted.clone().map_or(Ok(()), Err)
    }

    /// Waits for the device; whether every number so far is finite                                        [NUM-7]
    pub(crate) fn check_flag(&mut self) -> Result<()> {
        let flag: Vec<i32> = self.get(&self.tables.flag, 0, 4)?;
        if flag[0] == FLAG_NONE {
            self.unseen = false;
            return Ok(());
        }
        // The flag holds the number of the step, or its last digits.
        let behind = self.number().saturating_sub(flag[0] / 16);
        let chunk = self.steps.saturating_sub(usize::try_from(behind).unwrap_or(0));
        let error = match usize::try_from(flag[0] % 16).unwrap_or(0).checked_sub(1) {
            None => self.not_finite(&flag[1..], chunk),
            Some(tensor) => {
                let (stage, tensor) = CHECKED.get(tensor).copied().unwrap_or(("numerics", "a number"));
                MemoryError::Diverged { chunk, stage, tensor }.into()
            }
        };
        self.halted = Some(error.clone());
        if self.unseen {
            // Steps that were launched after it took nothing, and the queue holds what they would have begun with.
            self.steps = chunk;
            self.queued = 0;
        }
        Err(error)
    }

    /// The first of the numbers from the device that was not finite, tensor by tensor
    fn not_finite(&self, rows: &[i32], chunk: usize) -> Error {
        let tensors = INPUTS.iter().zip(rows);
        let first = tensors.filter(|&(_, &row)| row != FLAG_NONE).map(|(&tensor, &row)| (tensor, row)).next();
        let (tensor, row) = first.map_or(("a number", 0), |(tensor, row)| (tensor, usize::try_from(row).unwrap_or(0)));
        let sequences = self.rows(1).max(1);
        Error::NotFinite { tensor, chunk, token: row / sequences, sequence: row % sequences }
    }
}
