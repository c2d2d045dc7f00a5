//! Time of the CUDA implementation: verified first, then timed by the device, beside what the device can do at most.

use fwpkm_gpu::{Backend, ChunkInput, Launching, Memory, Resident, Tile, Timings, Variant};
use fwpkm_reference::{Rules, Settings, Tables};
use ndarray::{Array, Array2, Array3, Dimension, ShapeBuilder};
use ndarray_rand::rand::rngs::StdRng;
use ndarray_rand::rand::{Rng, SeedableRng};
use ndarray_rand::rand_distr::StandardNormal;
use serde::Serialize;

use crate::backend::{DECLARED, run};
use crate::error::{Error, Result};
use crate::implementation::Implementation;
use crate::judge::{Verdict, judge};
use crate::problem::{Problem, Text, Tokens};
use crate::run::Plan;

/// How much is measured.
#[derive(Clone, Debug)]
pub struct Extent {
    /// Shapes; chunks are read and stepped whole.
    pub settings: Settings,
    /// Sequences.
    pub batches: Vec<usize>,
    /// Repetitions, of which the median is given.
    pub repeats: usize,
    /// Lengths of whole texts, in chunks.
    pub texts: Vec<usize>,
    /// Most sub-keys, and most tokens of all sequences, of the verification, whose oracle computes every number in f64.
    pub verified: (usize, usize),
    /// Bytes that are copied to measure the memory.
    pub copied: usize,
    /// Blocks and rounds of the multiply-adds.
    pub multiply_adds: (usize, i32),
}

impl Extent {
    /// The paper's layer.
    pub fn canonical() -> Self {
        Self {
            settings: Settings::paper(),
            batches: vec![1, 8, 32],
            repeats: 100,
            texts: vec![16, 64, 256],
            verified: (128, 4096),
            copied: 1 << 30,
            multiply_adds: (8192, 4096),
        }
    }

    /// The same work on shapes that an emulator runs in seconds.
    pub fn tiny() -> Self {
        let settings = Settings { sub_keys: 16, key_dim: 16, value_dim: 16, top_k: 4, chunk: 24, ..Settings::paper() };
        Self {
            settings,
            batches: vec![1, 3],
            repeats: 3,
            texts: vec![2, 8],
            verified: (16, 72),
            copied: 1 << 12,
            multiply_adds: (2, 40),
        }
    }
}

/// What was found. No number is here that a device did not measure.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// Bytes per second, read and written, of a copy; none where there is no time.
    pub copy_rate: Option<f64>,
    /// f32 operations per second.
    pub multiply_add_rate: Option<f64>,
    /// Chunks, by batch.
    pub chunks: Vec<Chunk>,
    /// Whole texts.
    pub texts: Vec<WholeText>,
}

/// A text that is fed chunk by chunk without a wait.
#[derive(Clone, Debug, Serialize)]
pub struct WholeText {
    /// B
    pub sequences: usize,
    /// T
    pub tokens: usize,
    /// None where there is no time.
    pub seconds: Option<f64>,
    /// The same where a launch takes four chunks; none also where that cannot be.
    pub walked: Option<f64>,
}

/// Chunks of one batch.
#[derive(Clone, Debug, Serialize)]
pub struct Chunk {
    /// B
    pub sequences: usize,
    /// The largest error over its bound that the verification found.
    pub ratio: f64,
    /// Kernels of a chunk.
    pub launches: usize,
    /// Median of a whole chunk where every kernel is launched by itself, not as a recorded graph.
    pub singly: Option<f64>,
    /// Whole chunk, then stage by stage.
    pub lines: Vec<Line>,
}

/// A time beside its floor.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// "chunk"; "walked", a chunk where one launch takes four; a chunk with other tiles; or a stage.
    pub name: &'static str,
    /// Median; none where there is no time.
    pub seconds: Option<f64>,
    /// Bytes that have to be read and written.
    pub bytes: f64,
    /// f32 operations that have to be done.
    pub operations: f64,
    /// The larger of bytes over the copy's rate and operations over the multiply-adds'.
    pub floor: Option<f64>,
}

/// Other tiles than the one whose stages are timed; the second name is that of whole chunks in one launch, where that can be.
const OTHER_TILES: [(&str, Option<&str>, Tile); 3] = [
    ("tensor, 128", None, Tile::TENSOR),
    ("tensor, 64", Some("its walk"), Tile::TENSOR_SMALL),
    ("tiles of 128", None, Tile::LARGE),
];

/// Verifies, then measures.
///
/// One chunk of each batch is judged as a certified vector is, on fewer sub-keys; the very module that is timed must give the bits
/// of the simple kernels.
///
/// `batch` is given what was found so far, after every batch.
///
/// # Errors   `Error::Usage` where the verification fails: nothing is timed then; those of `batch` and of the device
pub fn measure<B: Backend>(
    new: &dyn Fn() -> Result<B>,
    variant: Variant,
    extent: &Extent,
    batch: &mut dyn FnMut(&Measured) -> Result<()>,
) -> Result<Measured> {
    let mut rng = StdRng::seed_from_u64(1);
    let ratios = extent.batches.iter().map(|&sequences| verify(new()?, variant, extent, sequences, &mut rng));
    let ratios = ratios.collect::<Result<Vec<_>>>()?;
    let tables = Tables::random(&extent.settings, &mut rng)?;
    let most = extent.batches.iter().copied().max().unwrap_or(1);
    let variants = OTHER_TILES.map(|(_, _, tile)| Variant::Fast(tile)).into_iter().chain([variant]);
    same_bits(new, &variants.collect::<Vec<_>>(), &extent.settings, &tables, most, &mut rng)?;
    let mut measured = Measured { copy_rate: None, multiply_add_rate: None, chunks: Vec::new(), texts: Vec::new() };
    for (&sequences, ratio) in extent.batches.iter().zip(ratios) {
        let (settings, rules) = (extent.settings.clone(), Rules::paper());
        let mut memory = Memory::new(new()?, settings.clone(), rules, tables.clone(), variant)?;
        if measured.chunks.is_empty() {
            let (blocks, rounds) = extent.multiply_adds;
            let copies = memory.time_copies(extent.copied, extent.repeats)?;
            measured.copy_rate = median(copies).map(|seconds| 2.0 * extent.copied as f64 / seconds);
            let operations = blocks as f64 * 256.0 * f64::from(rounds) * 16.0;
            let runs = memory.time_multiply_adds(blocks, rounds, extent.repeats)?;
            measured.multiply_add_rate = median(runs).map(|seconds| operations / seconds);
        }
        let rows = settings.chunk * sequences;
        let inputs: Vec<ChunkInput> = (0..4)
            .map(|_| ChunkInput {
                queries: normal((rows, settings.heads * settings.key_dim), &mut rng),
                values: normal((rows, settings.value_dim), &mut rng),
            })
            .collect();
        let timings = memory.time_chunks(sequences, &inputs, extent.repeats)?;
        let mut lines = lines(&settings, rows, &timings, &measured);
        for (name, walked, tile) in OTHER_TILES {
            let mut memory =
                Memory::new(new()?, settings.clone(), Rules::paper(), tables.clone(), Variant::Fast(tile))?;
            let timings = memory.time_chunks(sequences, &inputs, extent.repeats)?;
            // What tensor cores do at most is not measured.
            let floor = if tile.tensor_cores { None } else { lines[0].floor };
            let line = |name, seconds| Line { name, seconds: median(seconds), floor, ..lines[0].clone() };
            let walked = walked.map(|name| line(name, timings.walked));
            let other = [Some(line(name, timings.chunks)), walked];
            lines.splice(2..2, other.into_iter().flatten());
        }
        let (launches, singly) = (timings.launches, median(timings.singly));
        measured.chunks.push(Chunk { sequences, ratio, launches, singly, lines });
        for &chunks in &extent.texts {
            let seconds = memory.time_text(sequences, &inputs, chunks, Launching::Graphs)?;
            let walked = if chunks.is_multiple_of(inputs.len()) && memory.can_walk(sequences)? {
                memory.time_text(sequences, &inputs, chunks, Launching::Persistent)?
            } else {
                None
            };
            measured.texts.push(WholeText { sequences, tokens: chunks * settings.chunk, seconds, walked });
        }
        batch(&measured)?;
    }
    Ok(measured)
}

/// Bits of what was read, and of the tables after it.
type Bits = [Vec<u32>; 3];

fn bits(reads: &[f32], tables: &Tables<f32>) -> Bits {
    let sub_keys: Vec<f32> = tables.sub_keys.iter().copied().collect();
    let slot_values: Vec<f32> = tables.slot_values.iter().copied().collect();
    [reads, &sub_keys, &slot_values].map(|numbers| numbers.iter().map(|x| x.to_bits()).collect())
}

/// On the shapes that are timed, all of these give the bits of the simple kernels on one chunk; and whole chunks of so many
/// sequences in one launch those of single kernels
fn same_bits<B: Backend>(
    new: &dyn Fn() -> Result<B>,
    variants: &[Variant],
    settings: &Settings,
    tables: &Tables<f32>,
    sequences: usize,
    rng: &mut StdRng,
) -> Result<()> {
    let mut tokens = |rows| -> (Array2<f32>, Array2<f32>) {
        (normal((rows, settings.heads * settings.key_dim), rng), normal((rows, settings.value_dim), rng))
    };
    let (one, many) = (tokens(settings.chunk), tokens(3 * settings.chunk * sequences));
    let memory =
        |variant| Ok::<_, Error>(Memory::new(new()?, settings.clone(), Rules::paper(), tables.clone(), variant)?);
    let simple = resident(&mut memory(Variant::Simple)?, Launching::Single, 1, &one)?;
    for &variant in variants {
        let mut fast = memory(variant)?;
        if resident(&mut fast, Launching::Single, 1, &one)? != simple {
            let reason = format!("not timed: {variant:?} does not give the bits of the simple kernels");
            return Err(Error::Usage { reason });
        }
        // Several chunks of many sequences, so that a launch of them does all of its work several times over.
        if fast.can_walk(sequences)? {
            let fed = |launching| resident(&mut memory(variant)?, launching, sequences, &many);
            if fed(Launching::Persistent)? != fed(Launching::Graphs)? {
                let reason = "not timed: chunks in one launch do not give the bits of single kernels".into();
                return Err(Error::Usage { reason });
            }
        }
    }
    Ok(())
}

/// What tokens on the device give, tokens first, then sequences
fn resident<B: Backend>(
    memory: &mut Memory<B>,
    launching: Launching,
    sequences: usize,
    (queries, values): &(Array2<f32>, Array2<f32>),
) -> Result<Bits> {
    let upload = |numbers: &Array2<f32>| {
        let buffer = memory.device().allocate("tokens", numbers.len() * 4)?;
        memory.device().write(&buffer, 0, numbers.as_slice().unwrap_or_default())?;
        Ok::<_, Error>(buffer)
    };
    let mut read = vec![0.0; values.len()];
    let tokens = values.nrows() / sequences;
    let (queries, values) = (upload(queries)?, upload(values)?);
    let reads = memory.device().allocate("reads", read.len() * 4)?;
    memory.set_launching(launching);
    let tokens = Resident { tokens, sequences, queries: &queries, values: &values, gates: None, mask: None };
    memory.feed_resident(&tokens, &reads)?;
    memory.settle()?;
    memory.device().read(&reads, 0, &mut read)?;
    Ok(bits(&read, &memory.tables()?))
}

/// One chunk with fewer sub-keys and tokens, judged like a certified vector
fn verify<B: Backend>(
    backend: B,
    variant: Variant,
    extent: &Extent,
    sequences: usize,
    rng: &mut StdRng,
) -> Result<f64> {
    let (sub_keys, chunk) = (extent.settings.sub_keys, extent.settings.chunk);
    let (sub_keys, chunk) = (sub_keys.min(extent.verified.0), chunk.min(extent.verified.1 / sequences));
    let settings = Settings { sub_keys, chunk, ..extent.settings.clone() };
    let tokens = settings.chunk;
    let problem = Problem {
        name: format!("bench, B = {sequences}"),
        clauses: Vec::new(),
        sequences,
        tokens,
        text: Text::Memory(Tokens {
            queries: normal64((tokens, sequences, settings.heads * settings.key_dim), rng),
            values: normal64((tokens, sequences, settings.value_dim), rng),
            gates: None,
            mask: None,
        }),
        tables: Tables::random(&settings, rng)?,
        projection: None,
        cotangents: None,
        plan: Plan { trace: true, ..Plan::one_call(settings) },
    };
    let outputs = run(backend, &problem, variant)?;
    let judgement = judge(&problem, &Implementation::specification(), DECLARED, &outputs)?;
    if judgement.verdict() == Verdict::Conforms {
        return Ok(judgement.checks.iter().fold(0.0, |worst, check| check.ratio.max(worst)));
    }
    let tensors: Vec<&str> = judgement.findings().map(|check| check.tensor.as_str()).collect();
    let reason = format!("not timed: {} differs from the specification in {}", problem.name, tensors.join(", "));
    Err(Error::Usage { reason })
}

fn normal<D: Dimension, Sh: ShapeBuilder<Dim = D>>(shape: Sh, rng: &mut StdRng) -> Array<f32, D> {
    Array::from_shape_simple_fn(shape, || rng.sample(StandardNormal))
}

fn normal64(shape: (usize, usize, usize), rng: &mut StdRng) -> Array3<f64> {
    normal(shape, rng).mapv(f64::from)
}

fn median(mut seconds: Vec<f64>) -> Option<f64> {
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied()
}

/// What has to be moved and computed, each tensor once; reads of a table row once for each time it is chosen.
fn lines(settings: &Settings, rows: usize, timings: &Timings, measured: &Measured) -> Vec<Line> {
    let Settings { heads, sub_keys, key_dim, value_dim, top_k, .. } = *settings;
    let real = |numbers: usize| numbers as f64;
    let (queries, values) = (real(rows * heads * key_dim), real(rows * value_dim));
    let (keys, rankings) = (real(heads * sub_keys * key_dim), real(rows * heads * 2 * sub_keys));
    let chosen = real(rows * heads * top_k);
    let (gathered, written) = (chosen * real(value_dim), 2.0 * real(timings.touched * value_dim));
    let scoring = 2.0 * real(rows * heads * sub_keys * key_dim);
    let weighted = 2.0 * chosen * real(value_dim);
    let kept = 2.0 * chosen * real(key_dim / 2);
    let whole = queries + 3.0 * values + 3.0 * keys + gathered + written;
    let stages = [
        ("chunk", whole, scoring + 2.0 * weighted + 2.0 * kept),
        ("walked", whole, scoring + 2.0 * weighted + 2.0 * kept),
        ("score", queries + keys + rankings, scoring),
        ("select", rankings, kept),
        ("read", gathered + values, weighted),
        ("memorize", 3.0 * values + written, weighted),
        ("address", queries + 3.0 * keys, kept),
        ("input", queries + values, 0.0),
    ];
    let line = |(name, numbers, operations): (&'static str, f64, f64)| {
        let seconds = match name {
            "chunk" => timings.chunks.clone(),
            "walked" => timings.walked.clone(),
            stage => timings.stages.get(stage).cloned().unwrap_or_default(),
        };
        let bytes = 4.0 * numbers;
        let rates = measured.copy_rate.zip(measured.multiply_add_rate);
        let floor = rates.map(|(copy, compute)| (bytes / copy).max(operations / compute));
        Line { name, seconds: median(seconds), bytes, operations, floor }
    };
    stages.into_iter().map(line).collect()
}

/// Rows of a table of `Measured`, for people; no figure where there is no time.
pub fn table(measured: &Measured) -> String {
    use std::fmt::Write;
    let mut out = String::new();
    let rate = |rate: Option<f64>, unit: f64| rate.map_or("-".into(), |rate| format!("{:.2}", rate / unit));
    let (copy, compute) = (rate(measured.copy_rate, 1e12), rate(measured.multiply_add_rate, 1e12));
    let _ = writeln!(out, "copy {copy} TB/s, multiply-adds {compute} TFLOP/s in f32, both in this run\n");
    let _ = writeln!(out, "{:>4}  {:12} {:>11} {:>11} {:>9}", "B", "", "µs", "floor µs", "of floor");
    let time = |seconds: Option<f64>| seconds.map_or("-".into(), |seconds| format!("{:.2}", seconds * 1e6));
    for Chunk { sequences, lines, .. } in &measured.chunks {
        for Line { name, seconds, floor, .. } in lines {
            let times = seconds.zip(*floor).map_or("-".into(), |(seconds, floor)| format!("{:.1}", seconds / floor));
            let (seconds, floor) = (time(*seconds), time(*floor));
            let _ = writeln!(out, "{sequences:4}  {name:12} {seconds:>11} {floor:>11} {times:>9}");
        }
    }
    let _ = writeln!(out, "\n{:>4}  {:>9} {:>11} {:>13} {:>11}", "B", "T", "seconds", "ns per token", "walked, s");
    for WholeText { sequences, tokens, seconds, walked } in &measured.texts {
        let each = seconds.map(|seconds| seconds * 1e9 / (sequences * tokens) as f64);
        let number = |number: Option<f64>, digits| number.map_or("-".into(), |number| format!("{number:.digits$}"));
        let (seconds, each, walked) = (number(*seconds, 4), number(each, 1), number(*walked, 4));
        let _ = writeln!(out, "{sequences:4}  {tokens:9} {seconds:>11} {each:>13} {walked:>11}");
    }
    for Chunk { sequences, ratio, launches, singly, .. } in &measured.chunks {
        let _ = writeln!(
            out,
            "\nB = {sequences}: {launches} kernels per chunk, in two graphs; {} µs where each is launched by itself; \
             verified, largest error {ratio:.2} of its bound",
            time(*singly)
        );
    }
    out
}
