//! How long chunks and stages take on a device, and what the device can do at most.

use std::collections::BTreeMap;

use fwpkm_reference::{Error as MemoryError, Settings};
use ndarray::Array2;

use crate::backend::{Backend, Shape};
use crate::buffers::rows_of;
use crate::driver::Driver;
use crate::error::{Error, Result};
use crate::graphs::Launching;
use crate::memory::Memory;
use crate::resident::Resident;

/// Most repetitions that are timed, each of which keeps two moments until the last is done, and most chunks of a text.
const MOST_REPEATS: usize = 1 << 20;
/// Most blocks of a launch.
const MOST_BLOCKS: usize = i32::MAX as usize;

/// The tokens of one chunk, tokens first, then sequences (row = token · B + sequence), as in [`Resident`]:
/// `[chunk · sequences, H·d_k]` and `[chunk · sequences, d_v]`.
#[derive(Clone, Debug)]
pub struct ChunkInput {
    /// q
    pub queries: Array2<f32>,
    /// v
    pub values: Array2<f32>,
}

/// Seconds of every repetition; empty where the backend has no time of its own.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Timings {
    /// Whole chunks: reading and step, without copies to or from the host.
    pub chunks: Vec<f64>,
    /// The same where every kernel is launched by itself, not as a recorded graph.
    pub singly: Vec<f64>,
    /// The same where one launch takes all of the given chunks, for each of them; empty where it cannot.
    pub walked: Vec<f64>,
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
    /// The same, one after the other
    all: (B::Buffer, B::Buffer),
    /// Room for all of them
    reads: B::Buffer,
}

impl<B: Backend> Memory<B> {
    /// Feeds the chunks in turn, `repeats` times in all; then as often without graphs, then all of them in one launch, then with
    /// every kernel timed.
    ///
    /// # Errors   those of [`Memory::feed_resident`]; `Error::Memory(Shape)` for a chunk that is not one step; `Error::Misuse` for
    ///   no chunks, no repetition, or more than 2^20
    pub fn time_chunks(&mut self, sequences: usize, inputs: &[ChunkInput], repeats: usize) -> Result<Timings> {
        within("time_chunks", "repeats", repeats, MOST_REPEATS)?;
        within("time_chunks", "inputs", inputs.len(), usize::MAX)?;
        let uploaded = self.upload(sequences, inputs)?;
        self.launching_as_before(|memory| memory.time_uploaded(&uploaded, repeats))
    }

    fn time_uploaded(&mut self, uploaded: &Uploaded<B>, repeats: usize) -> Result<Timings> {
        let mut timings = Timings::default();
        self.set_launching(Launching::Graphs);
        // Twice before anything is timed: kernels are loaded, then recorded.
        self.feed_chunks(uploaded, 2)?;
        timings.chunks = self.time(repeats, |memory, repeat| memory.feed_uploaded(uploaded, repeat))?;
        self.set_launching(Launching::Single);
        timings.singly = self.time(repeats, |memory, repeat| memory.feed_uploaded(uploaded, repeat))?;
        self.set_launching(Launching::Persistent);
        if self.can_walk(uploaded.sequences)? {
            let seconds = self.time(repeats, |memory, _| memory.feed_all(uploaded))?;
            timings.walked = seconds.into_iter().map(|seconds| seconds / uploaded.chunks.len() as f64).collect();
        }
        let profiles = (0..repeats).map(|repeat| {
            self.driver.profile.replace(Some(Vec::new()));
            let fed = self.feed_uploaded(uploaded, repeat);
            let launches = self.driver.profile.take().unwrap_or_default();
            fed.map(|()| launches)
        });
        for launches in profiles.collect::<Result<Vec<_>>>()? {
            timings.launches = launches.len();
            self.add_stages(&mut timings, &launches)?;
        }
        self.settle()?;
        timings.touched = usize::try_from(self.get::<i32>(&self.tables.counters, 7, 1)?[0]).unwrap_or(0);
        Ok(timings)
    }

    /// Seconds of a text of so many chunks, the given ones in turn, one after the other without a wait; none where there is no
    /// time. With [`Launching::Persistent`] a launch takes all the given ones, and the text is as many of those as fit.
    ///
    /// # Errors   as [`Memory::time_chunks`]; `Error::Misuse` for a text of no chunks, or of more than 2^20
    pub fn time_text(
        &mut self,
        sequences: usize,
        inputs: &[ChunkInput],
        chunks: usize,
        launching: Launching,
    ) -> Result<Option<f64>> {
        within("time_text", "chunks", chunks, MOST_REPEATS)?;
        within("time_text", "inputs", inputs.len(), usize::MAX)?;
        let uploaded = self.upload(sequences, inputs)?;
        self.launching_as_before(|memory| {
            memory.set_launching(launching);
            let seconds = if launching == Launching::Persistent {
                memory.feed_all(&uploaded)?;
                let calls = chunks / inputs.len().max(1);
                memory.time(1, |memory, _| (0..calls).try_for_each(|_| memory.feed_all(&uploaded)))
            } else {
                memory.feed_chunks(&uploaded, 2)?;
                memory.time(1, |memory, _| memory.feed_chunks(&uploaded, chunks))
            }?;
            memory.settle()?;
            Ok(seconds.first().copied())
        })
    }

    /// Does some work, after which, whether it failed or not, work is given to the device as before it.
    fn launching_as_before<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let before = self.driver.launching();
        let result = work(self);
        self.set_launching(before);
        result
    }

    /// Seconds that the device takes for each repetition of some work; none where there is no time
    fn time(&mut self, repeats: usize, mut work: impl FnMut(&mut Self, usize) -> Result<()>) -> Result<Vec<f64>> {
        let mut moments = Vec::new();
        for repeat in 0..repeats {
            let from = self.driver.backend.moment()?;
            work(self, repeat)?;
            moments.push((from, self.driver.backend.moment()?));
        }
        self.driver.seconds(&moments)
    }

    fn upload(&self, sequences: usize, inputs: &[ChunkInput]) -> Result<Uploaded<B>> {
        self.known()?;
        let (settings, backend) = (self.settings(), &self.driver.backend);
        check_chunks(settings, sequences, inputs)?;
        let bytes = settings.chunk * sequences * settings.value_dim * 4;
        let reads = backend.allocate("reads", bytes.saturating_mul(inputs.len()))?;
        let buffer = |name, numbers: &[&Array2<f32>]| {
            let numbers: Vec<f32> = numbers.iter().flat_map(|numbers| numbers.iter().copied()).collect();
            let buffer = backend.allocate(name, numbers.len() * 4)?;
            backend.write(&buffer, 0, &numbers)?;
            Ok::<_, Error>(buffer)
        };
        let both = |inputs: &[ChunkInput]| {
            let (queries, values): (Vec<_>, Vec<_>) =
                inputs.iter().map(|input| (&input.queries, &input.values)).unzip();
            Ok::<_, Error>((buffer("queries", &queries)?, buffer("values", &values)?))
        };
        let chunks = inputs.chunks(1).map(both).collect::<Result<_>>()?;
        Ok(Uploaded { sequences, chunks, all: both(inputs)?, reads })
    }

    /// All chunks in one call
    fn feed_all(&mut self, uploaded: &Uploaded<B>) -> Result<()> {
        let (queries, values) = &uploaded.all;
        let (tokens, sequences) = (self.settings().chunk * uploaded.chunks.len(), uploaded.sequences);
        let resident = Resident { tokens, sequences, queries, values, gates: None, mask: None };
        self.feed_resident(&resident, &uploaded.reads)
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
    /// # Errors   those of the device; `Error::Misuse` for no bytes, no repetition, or more than 2^20
    pub fn time_copies(&self, bytes: usize, repeats: usize) -> Result<Vec<f64>> {
        within("time_copies", "bytes", bytes, usize::MAX)?;
        within("time_copies", "repeats", repeats, MOST_REPEATS)?;
        let backend = &self.driver.backend;
        let (from, to) = (backend.allocate("from", bytes)?, backend.allocate("to", bytes)?);
        backend.zero(&from)?;
        self.driver.time(repeats, &|| backend.copy(&to, 0, &from, 0, bytes))
    }

    /// Seconds of each of `repeats` runs of `blocks · 256 · rounds · 16` f32 operations, multiply-adds without memory.
    ///
    /// # Errors   those of the device; a wrong result; `Error::Misuse` for no blocks, rounds or repetition, for more than 2^31 - 1
    ///   blocks or 2^20 repetitions
    pub fn time_multiply_adds(&self, blocks: usize, rounds: i32, repeats: usize) -> Result<Vec<f64>> {
        within("time_multiply_adds", "blocks", blocks, MOST_BLOCKS)?;
        within("time_multiply_adds", "rounds", usize::try_from(rounds).unwrap_or(0), usize::MAX)?;
        within("time_multiply_adds", "repeats", repeats, MOST_REPEATS)?;
        let backend = &self.driver.backend;
        let sums = backend.allocate("sums", blocks.saturating_mul(256 * 4))?;
        let shape = Shape { grid: blocks, block: 256, shared: 0, together: false };
        let seconds = self.driver.time(repeats, &|| self.driver.measure(shape, &sums, rounds))?;
        let found: Vec<f32> = self.get(&sums, 0, blocks * 256)?;
        if found.iter().all(|sum| (sum - 16.0).abs() < 1e-3) {
            return Ok(seconds);
        }
        Err(Error::Device { call: "measure_fma".into(), reason: "its sums are wrong".into() })
    }
}

/// Whether an argument is 1 or more, and no more than `most`.
fn within(call: &str, argument: &str, given: usize, most: usize) -> Result<()> {
    if (1..=most).contains(&given) {
        return Ok(());
    }
    let most = if most == usize::MAX { "more".into() } else { most.to_string() };
    Err(Error::misuse(call, format!("{argument} are {given}, allowed are 1 to {most}")))
}

/// Whether each of the inputs is one chunk of these sequences.
fn check_chunks(settings: &Settings, sequences: usize, inputs: &[ChunkInput]) -> Result<()> {
    rows_of(settings, sequences)?;
    let rows = settings.chunk * sequences;
    for input in inputs {
        for (tensor, given, width) in [
            ("queries", &input.queries, settings.heads * settings.key_dim),
            ("values", &input.values, settings.value_dim),
        ] {
            if rows == 0 || given.dim() != (rows, width) {
                let expected = format!("[chunk {} · sequences, 1 or more, {width}]", settings.chunk);
                return Err(MemoryError::Shape { tensor, expected, found: given.shape().to_vec() }.into());
            }
        }
    }
    Ok(())
}

/// A kernel, and the moments before and after it.
pub(crate) type Launch<B> = (&'static str, <B as Backend>::Moment, <B as Backend>::Moment);

impl<B: Backend> Driver<B> {
    fn time(&self, repeats: usize, work: &dyn Fn() -> Result<()>) -> Result<Vec<f64>> {
        let mut moments = Vec::new();
        for _ in 0..repeats {
            let from = self.backend.moment()?;
            work()?;
            moments.push((from, self.backend.moment()?));
        }
        self.seconds(&moments)
    }

    /// Seconds between the moments of each pair. Asked for after the last repetition: to ask is to wait, and on a device that has
    /// nothing to do a time would begin with what the host needs for the next launch.
    fn seconds(&self, moments: &[(B::Moment, B::Moment)]) -> Result<Vec<f64>> {
        let seconds = moments.iter().map(|(from, to)| self.backend.seconds(from, to));
        Ok(seconds.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }
}
