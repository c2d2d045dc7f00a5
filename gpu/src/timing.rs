//! How long chunks and stages take on a device, and what the device can do at most.

use std::collections::BTreeMap;

use ndarray::Array2;

use crate::backend::{Backend, Shape};
use crate::driver::Driver;
use crate::error::{Error, Result};
use crate::memory::Memory;
use crate::resident::Resident;

/// The tokens of one chunk: `[tokens · sequences, H·d_k]` and `[tokens · sequences, d_v]`.
#[derive(Clone, Debug)]
pub struct ChunkInput {
    /// q
    pub queries: Array2<f32>,
    /// v
    pub values: Array2<f32>,
}

/// Seconds of every repetition; empty where the backend has no time of its own.
#[derive(Clone, Debug, Default)]
pub struct Timings {
    /// Whole chunks: reading and step, without copies to or from the host.
    pub chunks: Vec<f64>,
    /// The same where every kernel is launched by itself, not as a recorded graph.
    pub singly: Vec<f64>,
    /// The kernels of each stage, by the first word of their names, timed one by one in other repetitions.
    pub stages: BTreeMap<&'static str, Vec<f64>>,
    /// Kernels of a chunk.
    pub launches: usize,
    /// Slots that the last step touched.
    pub touched: usize,
}

/// Chunks on the device, and room for what is read.
struct Uploaded<B: Backend> {
    sequences: usize,
    /// Queries and values
    chunks: Vec<(B::Buffer, B::Buffer)>,
    reads: B::Buffer,
}

impl<B: Backend> Memory<B> {
    /// Feeds the chunks in turn, `repeats` times in all; then as often without graphs, then with every kernel timed.
    ///
    /// # Errors   those of [`Memory::feed_resident`]; a chunk that is not one step
    pub fn time_chunks(&mut self, sequences: usize, inputs: &[ChunkInput], repeats: usize) -> Result<Timings> {
        let uploaded = self.upload(sequences, inputs)?;
        let mut timings = Timings::default();
        self.use_graphs(true);
        // Twice before anything is timed: kernels are loaded, then recorded.
        self.feed_chunks(&uploaded, 2)?;
        for repeat in 0..repeats {
            timings.chunks.extend(self.feed_chunk(&uploaded, repeat)?);
        }
        self.use_graphs(false);
        for repeat in 0..repeats {
            timings.singly.extend(self.feed_chunk(&uploaded, repeat)?);
        }
        for repeat in 0..repeats {
            self.driver.profile.replace(Some(Vec::new()));
            let fed = self.feed_chunk(&uploaded, repeat);
            let launches = self.driver.profile.take().unwrap_or_default();
            fed?;
            timings.launches = launches.len();
            self.add_stages(&mut timings, &launches)?;
        }
        self.use_graphs(true);
        self.settle()?;
        timings.touched = usize::try_from(self.get::<i32>(&self.tables.counters, 7, 1)?[0]).unwrap_or(0);
        Ok(timings)
    }

    /// Seconds of a text of so many chunks, the given ones in turn, one after the other without a wait; none where there is no
    /// time.
    ///
    /// # Errors   as [`Memory::time_chunks`]
    pub fn time_text(&mut self, sequences: usize, inputs: &[ChunkInput], chunks: usize) -> Result<Option<f64>> {
        let uploaded = self.upload(sequences, inputs)?;
        self.feed_chunks(&uploaded, 2)?;
        let from = self.driver.backend.moment()?;
        self.feed_chunks(&uploaded, chunks)?;
        let to = self.driver.backend.moment()?;
        self.settle()?;
        self.driver.backend.seconds(&from, &to)
    }

    fn upload(&self, sequences: usize, inputs: &[ChunkInput]) -> Result<Uploaded<B>> {
        let (settings, backend) = (self.settings(), &self.driver.backend);
        let reads = backend.allocate("reads", settings.chunk * sequences * settings.value_dim * 4)?;
        let buffer = |name, numbers: &Array2<f32>| {
            let buffer = backend.allocate(name, numbers.len() * 4)?;
            backend.write(&buffer, 0, numbers.as_standard_layout().as_slice().unwrap_or_default())?;
            Ok::<_, Error>(buffer)
        };
        let both = |input: &ChunkInput| Ok((buffer("queries", &input.queries)?, buffer("values", &input.values)?));
        Ok(Uploaded { sequences, chunks: inputs.iter().map(both).collect::<Result<_>>()?, reads })
    }

    fn feed_chunks(&mut self, uploaded: &Uploaded<B>, chunks: usize) -> Result<()> {
        (0..chunks).try_for_each(|number| self.feed_uploaded(uploaded, number))
    }

    fn feed_uploaded(&mut self, uploaded: &Uploaded<B>, number: usize) -> Result<()> {
        let (queries, values) = &uploaded.chunks[number % uploaded.chunks.len()];
        let (tokens, sequences) = (self.settings().chunk, uploaded.sequences);
        let resident = Resident { tokens, sequences, queries, values, gates: None, mask: None };
        self.feed_resident(&resident, &uploaded.reads)
    }

    /// Seconds of one of them
    fn feed_chunk(&mut self, uploaded: &Uploaded<B>, number: usize) -> Result<Option<f64>> {
        let from = self.driver.backend.moment()?;
        self.feed_uploaded(uploaded, number)?;
        let to = self.driver.backend.moment()?;
        self.driver.backend.seconds(&from, &to)
    }

    fn add_stages(&self, timings: &mut Timings, launches: &[Launch<B>]) -> Result<()> {
        let mut sums = BTreeMap::<&'static str, f64>::new();
        for (kernel, from, to) in launches {
            let stage = kernel.split('_').next().unwrap_or(kernel);
            if let Some(seconds) = self.driver.backend.seconds(from, to)? {
                *sums.entry(stage).or_default() += seconds;
            }
        }
        for (stage, seconds) in sums {
            timings.stages.entry(stage).or_default().push(seconds);
        }
        Ok(())
    }

    /// Seconds of each of `repeats` copies of `bytes` bytes within the device, which reads and writes them once.
    ///
    /// # Errors   those of the device
    pub fn time_copies(&self, bytes: usize, repeats: usize) -> Result<Vec<f64>> {
        let backend = &self.driver.backend;
        let (from, to) = (backend.allocate("from", bytes)?, backend.allocate("to", bytes)?);
        backend.zero(&from)?;
        self.driver.time(repeats, &|| backend.copy(&to, 0, &from, 0, bytes))
    }

    /// Seconds of each of `repeats` runs of `blocks · 256 · rounds · 16` f32 operations, multiply-adds without memory.
    ///
    /// # Errors   those of the device; a wrong result
    pub fn time_multiply_adds(&self, blocks: usize, rounds: i32, repeats: usize) -> Result<Vec<f64>> {
        let backend = &self.driver.backend;
        let sums = backend.allocate("sums", blocks * 256 * 4)?;
        let shape = Shape { grid: blocks, block: 256, shared: 0 };
        let seconds = self.driver.time(repeats, &|| self.driver.measure(shape, &sums, rounds))?;
        let found: Vec<f32> = self.get(&sums, 0, blocks * 256)?;
        if found.iter().all(|sum| (sum - 16.0).abs() < 1e-3) {
            return Ok(seconds);
        }
        Err(Error::Device { call: "measure_fma".into(), reason: "its sums are wrong".into() })
    }
}

/// A kernel, and the moments before and after it.
pub(crate) type Launch<B> = (&'static str, <B as Backend>::Moment, <B as Backend>::Moment);

impl<B: Backend> Driver<B> {
    fn time(&self, repeats: usize, work: &dyn Fn() -> Result<()>) -> Result<Vec<f64>> {
        let mut seconds = Vec::new();
        for _ in 0..repeats {
            let from = self.backend.moment()?;
            work()?;
            let to = self.backend.moment()?;
            seconds.extend(self.backend.seconds(&from, &to)?);
        }
        Ok(seconds)
    }
}
