//! What lies between the stages, copied to the host; for comparisons stage by stage.

use ndarray::{Array2, Array3, Array4};

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::memory::{Memory, Read, Stepped};
use crate::transfer::{host, shaped4};

/// The stage tensors of a reading; rows are (token, sequence).
///
/// The kernels order by numbers that the scores follow from, and compute no score: half_scores = -ln half_values and pair_scores
/// = -ln merits for inverse distances, half_values and -merits for dot products.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Sub-key of each rank: [rows, heads, 2, k].
    pub half_indices: Array4<usize>,
    /// ε + |q - K|² of it, or q · K: [rows, heads, 2, k].
    pub half_values: Array4<f32>,
    /// The two ranks of each pair: [rows, heads, k, 2].
    pub ranks: Array4<usize>,
    /// What pairs are ordered by, smallest first: the product of the half values, or minus their sum; [rows, heads, k].
    pub merits: Array3<f64>,
    /// [rows, heads, k]
    pub slots: Array3<usize>,
    /// [rows, heads, k]
    pub weights: Array3<f32>,
    /// [rows, `d_v`]
    pub reads: Array2<f32>,
}

/// What lies between the stages of a run, in order.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Trace {
    /// The first reading of every token, slice by slice.
    pub readings: Vec<Reading>,
    /// p̄ of every step: [2, n].
    pub marginals: Vec<Array2<f32>>,
}

fn natural(numbers: Vec<i32>) -> Vec<usize> {
    numbers.into_iter().map(|x| usize::try_from(x).unwrap_or(usize::MAX)).collect()
}

impl<B: Backend> Memory<B> {
    /// The last reading of the first `rows` rows of the queue, which the last step was computed from. Rows are tokens first, then
    /// sequences: row = token · B + sequence.
    ///
    /// # Errors   those of the device; `Error::Misuse` before the first token, for more rows than were read since the queue was
    ///   last empty, and after a launch of whole chunks
    pub fn last_reading(&self, rows: usize) -> Result<Reading> {
        self.known()?;
        if self.read == Read::Walked {
            let reason = "whole chunks were read in one launch, which keeps no reading; Launching::Graphs does";
            return Err(Error::misuse("last_reading", reason));
        }
        if rows > self.readings {
            let reason = format!("{rows} rows were asked for, and {} of the queue were read", self.readings);
            return Err(Error::misuse("last_reading", reason));
        }
        self.reading(0, rows)
    }

    /// The last reading of some rows of the queue
    pub(crate) fn reading(&self, from: usize, rows: usize) -> Result<Reading> {
        let (s, room) = (self.settings(), self.room()?);
        let (h, k) = (s.heads, s.top_k);
        let pairs: Vec<usize> = natural(self.get(&room.ranks, from * h * k, rows * h * k)?);
        let ranks = pairs.into_iter().flat_map(|pair| [pair / 32, pair % 32]).collect();
        let cube = |numbers| Array3::from_shape_vec((rows, h, k), numbers).map_err(host);
        Ok(Reading {
            half_indices: shaped4(
                (rows, h, 2, k),
                natural(self.get(&room.half_indices, from * h * 2 * k, rows * h * 2 * k)?),
            )?,
            half_values: shaped4((rows, h, 2, k), self.get(&room.half_values, from * h * 2 * k, rows * h * 2 * k)?)?,
            ranks: shaped4((rows, h, k, 2), ranks)?,
            merits: Array3::from_shape_vec((rows, h, k), self.get(&room.merits, from * h * k, rows * h * k)?)
                .map_err(host)?,
            slots: Array3::from_shape_vec((rows, h, k), natural(self.get(&room.slots, from * h * k, rows * h * k)?))
                .map_err(host)?,
            weights: cube(self.get(&room.weights, from * h * k, rows * h * k)?)?,
            reads: Array2::from_shape_vec(
                (rows, s.value_dim),
                self.get(&room.reads, from * s.value_dim, rows * s.value_dim)?,
            )
            .map_err(host)?,
        })
    }

    /// p̄ of the last step, also of one that failed: [2, n].
    ///
    /// # Errors   those of the device; `Error::Misuse` before the first step of this memory
    pub fn last_marginal(&self) -> Result<Array2<f32>> {
        self.known()?;
        if self.stepped == Stepped::Never {
            let reason = "no step was taken yet; feed a chunk, or call flush";
            return Err(Error::misuse("last_marginal", reason));
        }
        let n = self.settings().sub_keys;
        Array2::from_shape_vec((2, n), self.get(&self.tables.marginal, 0, 2 * n)?).map_err(host)
    }
}
