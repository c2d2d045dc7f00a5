//! Compiled kernels, and the launches of a reading. Nothing here waits for the device.                        CHK-1

use std::cell::{OnceCell, RefCell};

use fwpkm_reference::{Rules, Settings};

use crate::backend::{Argument, Backend, Shape};
use crate::buffers::{ChunkBuffers, TableBuffers};
use crate::constants::{Constants, Tile};
use crate::error::Result;
use crate::graphs::Graphs;
use crate::source::Kernels;
use crate::timing::Launch;

/// Which kernels run. Both give the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Variant {
    /// One thread per row, slot or number; for tests.
    Simple,
    /// Warps and tiles.
    Fast(Tile),
}

impl Variant {
    fn tile(self) -> Tile {
        match self {
            Self::Simple => Tile::SMALL,
            Self::Fast(tile) => tile,
        }
    }
}

/// As in kernels/prelude.cuh.
pub(crate) const FLAG_NONE: i32 = i32::MAX;
/// Chunk numbers that fit beside the tensor in a flag, as in kernels/prelude.cuh.
pub(crate) const CHUNKS: usize = 1 << 26;

/// A step to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct StepPlan {
    /// Rows of the chunk, from the first of the queue.
    pub(crate) rows: usize,
    /// Rows of those whose target is present.
    pub(crate) pair_rows: usize,
    /// Rows whose slots are counted, and the first of them.
    pub(crate) counted_rows: usize,
    /// See `counted_rows`.
    pub(crate) counted_from: usize,
    /// Whether the chunk is read again first.
    pub(crate) reread: bool,
    pub(crate) has_gates: bool,
    pub(crate) has_mask: bool,
}

/// Compiled kernels with the settings they were compiled for.
#[derive(Debug)]
pub(crate) struct Driver<B: Backend> {
    pub(crate) settings: Settings,
    pub(crate) rules: Rules,
    pub(crate) variant: Variant,
    /// The launches so far, where they are timed one by one.
    pub(crate) profile: RefCell<Option<Vec<Launch<B>>>>,
    // Dropped in this order: what the backend made before the backend.
    pub(crate) graphs: RefCell<Graphs<B>>,
    module: B::Module,
    /// Compiled when it is first asked for.
    walk: OnceCell<B::Module>,
    pub(crate) walkers: walk::Walkers,
    pub(crate) backend: B,
}

/// Arguments in order.
macro_rules! arguments {
    ($($argument:expr),* $(,)?) => { &[$(ToArgument::to_argument($argument)),*] };
}

trait ToArgument<'a, Buffer> {
    fn to_argument(self) -> Argument<'a, Buffer>;
}
impl<'a, Buffer> ToArgument<'a, Buffer> for &'a Buffer {
    fn to_argument(self) -> Argument<'a, Buffer> {
        Argument::Buffer(self, 0)
    }
}
impl<'a, Buffer> ToArgument<'a, Buffer> for (&'a Buffer, usize) {
    /// A buffer, from the given 4-byte number on.
    fn to_argument(self) -> Argument<'a, Buffer> {
        Argument::Buffer(self.0, self.1 * 4)
    }
}
impl<'a, Buffer> ToArgument<'a, Buffer> for i32 {
    fn to_argument(self) -> Argument<'a, Buffer> {
        Argument::Integer(self)
    }
}

fn shape(units: usize, per_block: usize, block: usize) -> Shape {
    Shape { grid: units.div_ceil(per_block), block, shared: 0, together: false }
}

/// Shapes were checked against limits far below 2^31.
fn int(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

mod address;
mod step;
pub(crate) mod walk;

impl<B: Backend> Driver<B> {
    pub(crate) fn new(backend: B, settings: &Settings, rules: &Rules, variant: Variant) -> Result<Self> {
        let kernels = if variant == Variant::Simple { Kernels::Simple } else { Kernels::Fast };
        let module = backend.load(&Constants::new(settings, rules, variant.tile(), kernels)?)?;
        Ok(Self {
            settings: settings.clone(),
            rules: rules.clone(),
            variant,
            profile: RefCell::new(None),
            graphs: RefCell::default(),
            module,
            walk: OnceCell::new(),
            walkers: walk::Walkers::default(),
            backend,
        })
    }

    fn blocks(&self) -> usize {
        self.variant.tile().blocks
    }

    /// Private to the launches of this folder: their arguments are those of the kernels in kernels/, their buffers those of
    /// buffers.rs or checked against the same sizes.
    fn launch(&self, kernel: &'static str, shape: Shape, arguments: &[Argument<B::Buffer>]) -> Result<()> {
        if shape.grid == 0 {
            return Ok(());
        }
        #[expect(unsafe_code, reason = "a kernel is launched")]
        // SAFETY: as above; the emulator runs the same calls, and checks the arguments and every access.
        let launch = || unsafe { self.backend.launch(&self.module, kernel, shape, arguments) };
        if let Some(launches) = &mut *self.profile.borrow_mut() {
            let from = self.backend.moment()?;
            launch()?;
            launches.push((kernel, from, self.backend.moment()?));
            return Ok(());
        }
        launch()
    }

    /// Whether tokens that were copied into the queue are finite, from row `from` on.                          [NUM-7]
    pub(crate) fn check_input(
        &self,
        t: &TableBuffers<B>,
        c: &ChunkBuffers<B>,
        (from, rows): (usize, usize),
        has_gates: bool,
    ) -> Result<()> {
        let (query, value) = (self.settings.heads * self.settings.key_dim, self.settings.value_dim);
        let grid = (rows * query.max(value)).div_ceil(256).min(self.blocks());
        let (queries, values) = ((&c.queue.queries, from * query), (&c.queue.values, from * value));
        let gates = (&c.queue.gates, from);
        let arguments = arguments![&t.flag, queries, values, gates, i32::from(has_gates), int(from), int(rows)];
        self.launch("input_check", Shape { grid, block: 256, shared: 0, together: false }, arguments)
    }

    /// Multiply-adds without memory.
    pub(crate) fn measure(&self, shape: Shape, sums: &B::Buffer, rounds: i32) -> Result<()> {
        self.launch("measure_fma", shape, arguments![sums, rounds])
    }

    /// Norms of the sub-keys, after the tables were written from outside.
    pub(crate) fn prepare(&self, t: &TableBuffers<B>) -> Result<()> {
        let keys = self.settings.heads * 2 * self.settings.sub_keys;
        self.launch("score_norms", shape(keys, 8, 256), arguments![&t.sub_keys, &t.norms])
    }

    /// Reads `rows` rows of the queue, from row `from` on, with the tables as they are.               [CHK-1]
    pub(crate) fn read(&self, t: &TableBuffers<B>, c: &ChunkBuffers<B>, from: usize, rows: usize) -> Result<()> {
        let s = &self.settings;
        let (units, entries) = (s.heads * 2, s.heads * s.top_k);
        let queries = (&c.queue.queries, from * s.heads * s.key_dim);
        let half_indices = (&c.half_indices, from * units * s.top_k);
        let half_values = (&c.half_values, from * units * s.top_k);
        let (ranks, slots) = ((&c.ranks, from * entries), (&c.slots, from * entries));
        let (merits, weights) = ((&c.merits, from * entries * 2), (&c.weights, from * entries));
        let reads = (&c.reads, from * s.value_dim);
        match self.variant {
            Variant::Simple => {
                let distances = (&c.distances, from * units * s.sub_keys);
                self.score_all(t, c, from, rows)?;
                self.launch(
                    "select_each",
                    shape(rows * s.heads, 64, 64),
                    arguments![&t.flag, distances, half_indices, half_values, ranks, merits, slots, int(rows)],
                )?;
                let arguments =
                    arguments![&t.flag, merits, slots, &t.slot_values, weights, reads, &t.limits, int(rows)];
                self.launch("read_each", shape(rows, 64, 64), arguments)
            }
            Variant::Fast(tile) => {
                let ranking = (&c.ranking, from * units * s.sub_keys);
                let tiles = rows.div_ceil(tile.side) * s.sub_keys.div_ceil(tile.side) * units;
                let blocks = shape(tiles, 1, (tile.side / tile.per_thread).pow(2));
                self.launch("score_rank", blocks, arguments![queries, &t.sub_keys, ranking, int(rows)])?;
                self.launch(
                    "select_best",
                    shape(rows * s.heads, 4, 256),
                    arguments![
                        &t.flag,
                        queries,
                        &t.sub_keys,
                        &t.norms,
                        ranking,
                        half_indices,
                        half_values,
                        ranks,
                        merits,
                        slots,
                        int(rows)
                    ],
                )?;
                let arguments = arguments![&t.flag, merits, slots, &t.slot_values, weights, reads, &t.limits];
                self.launch("read_slots", shape(rows, 1, 128), arguments)
            }
        }
    }

    fn score_all(&self, t: &TableBuffers<B>, c: &ChunkBuffers<B>, from: usize, rows: usize) -> Result<()> {
        let s = &self.settings;
        let queries = (&c.queue.queries, from * s.heads * s.key_dim);
        let distances = (&c.distances, from * s.heads * 2 * s.sub_keys);
        let threads = shape(rows * s.heads * 2 * s.sub_keys, 128, 128);
        self.launch("score_all", threads, arguments![&t.flag, queries, &t.sub_keys, distances, int(rows)])
    }
}
