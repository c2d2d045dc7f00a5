//! Between host and device: tables, queue, readings.

use fwpkm_reference::stream::Queued;
use fwpkm_reference::{Fed, Tables};
use ndarray::{Array, Array2, Array3, Array4, Dimension, s};

use crate::backend::{Backend, Number};
use crate::error::{Error, Result};
use crate::memory::Memory;

/// An array, in whatever order it lies, from the `at`-th number of a buffer on.
fn write<B: Backend, D: Dimension>(backend: &B, to: &B::Buffer, at: usize, array: &Array<f32, D>) -> Result<()> {
    let array = array.as_standard_layout();
    let numbers = array.as_slice().ok_or_else(|| Error::misuse("write", "an array has no order in memory"))?;
    backend.write(to, at * 4, numbers)
}

impl<B: Backend> Memory<B> {
    pub(crate) fn put_tables(&self, tables: &Tables<f32>) -> Result<()> {
        let backend = &self.driver.backend;
        write(backend, &self.tables.sub_keys, 0, &tables.sub_keys)?;
        write(backend, &self.tables.slot_values, 0, &tables.slot_values)?;
        self.driver.prepare(&self.tables)
    }

    /// Tokens into the queue's buffers, from its `at`-th token on
    pub(crate) fn put_rows(&self, at: usize, rows: &Queued<f32>) -> Result<()> {
        let s = self.settings();
        let (row, backend, queue) = (self.rows(at), &self.driver.backend, &self.room()?.queue);
        write(backend, &queue.queries, row * s.heads * s.key_dim, &rows.queries)?;
        write(backend, &queue.values, row * s.value_dim, &rows.values)?;
        if let Some(gates) = &rows.gates {
            write(backend, &queue.gates, row, gates)?;
        }
        if let Some(mask) = &rows.mask {
            let mask: Vec<i32> = mask.iter().map(|&present| i32::from(present)).collect();
            backend.write(&queue.mask, row * 4, &mask)?;
        }
        Ok(())
    }

    pub(crate) fn queue(&self) -> Result<Queued<f32>> {
        let (s, t, b) = (self.settings(), self.queued, self.rows(1));
        let queue = &self.room()?.queue;
        let cube = |buffer, width: usize| {
            Array3::from_shape_vec((t, b, width), self.get(buffer, 0, t * b * width)?).map_err(host)
        };
        let gates: Option<Vec<f32>> = self.gates.then(|| self.get(&queue.gates, 0, t * b)).transpose()?;
        let mask: Option<Vec<i32>> = self.mask.then(|| self.get(&queue.mask, 0, t * b)).transpose()?;
        let mask = mask.map(|mask| mask.into_iter().map(|present| present != 0).collect());
        Ok(Queued {
            queries: cube(&queue.queries, s.heads * s.key_dim)?,
            values: cube(&queue.values, s.value_dim)?,
            gates: gates.map(|gates| Array2::from_shape_vec((t, b), gates)).transpose().map_err(host)?,
            mask: mask.map(|mask| Array2::from_shape_vec((t, b), mask)).transpose().map_err(host)?,
        })
    }

    /// `count` numbers of a buffer, from its `from`-th on
    pub(crate) fn get<T: Number>(&self, buffer: &B::Buffer, from: usize, count: usize) -> Result<Vec<T>> {
        let mut numbers = vec![T::default(); count];
        self.driver.backend.read(buffer, from * size_of::<T>(), &mut numbers)?;
        Ok(numbers)
    }

    pub(crate) fn get_reading(&self, fed: &mut Fed<f32>, from: usize, to: usize) -> Result<()> {
        let s = self.settings();
        let (first, rows, room) = (self.rows(self.queued), self.rows(to - from), self.room()?);
        let entries = s.heads * s.top_k;
        let slots: Vec<i32> = self.get(&room.slots, first * entries, rows * entries)?;
        let weights: Vec<f32> = self.get(&room.weights, first * entries, rows * entries)?;
        let reads: Vec<f32> = self.get(&room.reads, first * s.value_dim, rows * s.value_dim)?;
        let slots = slots.into_iter().map(|slot| usize::try_from(slot).unwrap_or(usize::MAX)).collect();
        let (tokens, b) = (to - from, room.sequences);
        let mut slots = shaped4((tokens, b, s.heads, s.top_k), slots)?;
        let mut weights = shaped4((tokens, b, s.heads, s.top_k), weights)?;
        let mut reads = Array3::from_shape_vec((tokens, b, s.value_dim), reads).map_err(host)?;
        slots.swap_axes(0, 1);
        weights.swap_axes(0, 1);
        reads.swap_axes(0, 1);
        fed.slots.slice_mut(s![.., from..to, .., ..]).assign(&slots);
        fed.weights.slice_mut(s![.., from..to, .., ..]).assign(&weights);
        fed.reads.slice_mut(s![.., from..to, ..]).assign(&reads);
        Ok(())
    }
}

pub(crate) fn shaped4<T>(shape: (usize, usize, usize, usize), numbers: Vec<T>) -> Result<Array4<T>> {
    Array4::from_shape_vec(shape, numbers).map_err(host)
}

pub(crate) fn host(error: ndarray::ShapeError) -> Error {
    Error::Device { call: "copy to the host".into(), reason: error.to_string() }
}
