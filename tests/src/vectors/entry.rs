//! One entry of the catalogue: what a vector is for, and how its inputs are drawn.

use fwpkm_reference::Rules;
use fwpkm_reference::settings::{Border, Settings};
use fwpkm_spec::case::Operation;
use fwpkm_spec::certificate::Kind;

use super::draw::Grid;

/// A vector, or several that share their inputs and differ in rules.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Name of its files.
    pub name: &'static str,
    /// What it is for, in one sentence.
    pub purpose: &'static str,
    /// Clauses it exercises.
    pub clauses: Vec<&'static str>,
    /// How it is judged.
    pub kind: Kind,
    /// Settings of the run.
    pub settings: Settings,
    /// Folders and rules it is recorded under.
    pub versions: Vec<(Folder, Rules)>,
    /// B
    pub sequences: usize,
    /// T
    pub tokens: usize,
    /// Tokens of each call; none: one call.
    pub calls: Option<Vec<usize>>,
    /// What follows each call; none: nothing.
    pub after_calls: Vec<Vec<Operation>>,
    /// Whether a flush follows.
    pub flush: bool,
    /// How inputs are drawn.
    pub inputs: Inputs,
    /// Margins that every selection must have.
    pub least: Least,
    /// Whether some scores are equal on purpose.
    pub ties: bool,
    /// Whether some scores are nearly equal on purpose.
    pub near_ties: bool,
}

/// Where a file lies: by the rules its outputs follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Folder {
    /// No step is taken, so the rules make no difference.
    Both,
    /// `Rules::paper()`
    Paper,
    /// `Rules::release()`
    Release,
    /// Other rules.
    Other,
}

impl Folder {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::Paper => "paper",
            Self::Release => "release",
            Self::Other => "other",
        }
    }

    /// The path of one of its files in a folder of vectors.
    pub fn path(self, name: &str) -> std::path::PathBuf {
        std::path::Path::new(self.name()).join(format!("{name}.safetensors"))
    }
}

/// How the inputs of an entry are drawn.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// Seed of the generator.
    pub seed: u64,
    /// Sub-keys.
    pub sub_keys: Table,
    /// Slot values.
    pub slot_values: Table,
    /// Queries of a bare memory.
    pub queries: Queries,
    /// Values of a bare memory.
    pub values: Grid,
    /// Gates of a bare memory are drawn from these; none if empty.
    pub gates: &'static [f64],
    /// A line of 0 and 1 for each sequence; none if empty.
    pub mask: &'static [&'static str],
    /// After so many tokens the text begins anew; 0: never.
    pub period: usize,
    /// The maps of a layer, and its hidden states.
    pub layer: Option<LayerInputs>,
    /// What gradients are asked for.
    pub cotangents: Asked,
}

/// What an outer loss is a sum of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// There is none.
    Nothing,
    /// Reads.
    Reads,
    /// Reads and the last tables.
    ReadsAndTables,
}

/// How a table is drawn.
#[derive(Clone, Debug)]
pub enum Table {
    /// Every element from a grid.
    Drawn(Grid),
    /// These numbers, row-major.
    Given(Vec<f64>),
    /// By the closed form.
    ClosedForm {
        /// Seed of the closed form.
        seed: u64,
        /// Its unit.
        unit: f64,
    },
}

/// How the queries of a bare memory are drawn.
#[derive(Clone, Debug)]
pub enum Queries {
    /// Every element from a grid.
    Wide(Grid),
    /// The first half of every head from one grid, the second from another.
    Halves(Grid, Grid),
    /// Each half near one of its initial sub-keys, any of the first so many (0: of all): that sub-key plus an offset.
    Near {
        /// Of the first so many sub-keys; 0: all.
        first: usize,
        /// Offset of every element.
        offset: Grid,
    },
    /// These numbers, row-major; their margins are what they are.
    Given(Vec<f64>),
}

/// The maps of a layer.
#[derive(Clone, Debug)]
pub struct LayerInputs {
    /// Numbers of a hidden state.
    pub width: usize,
    /// Hidden states.
    pub hidden: Grid,
    /// `norm` of every map.
    pub norm: Grid,
    /// `weight` and `bias` of the query's map.
    pub query: (Grid, Grid),
    /// Of the value's map.
    pub value: (Grid, Grid),
    /// Outputs of the gate's map, its weight and bias; 0: no gate.
    pub gate: (usize, Grid, Grid),
    /// Of the output's map.
    pub output: (Grid, Grid),
}

/// Margins that every selection must have, in units of the score and relative to its magnitude.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Least {
    /// Between the k-th and the next, of a half and of the pairs.
    pub set: f64,
    /// The same over the magnitude of the scores.
    pub relative: f64,
    /// Between neighbours among the chosen.
    pub order: f64,
    /// Margins that every second token must be below, and above a thousandth of.
    pub near: Option<Near>,
}

/// Where a near-tie is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Near {
    /// Between the k-th and the next of a half.
    Half(f64),
    /// Between the k-th and the next pair.
    Pair(f64),
}

impl Least {
    /// Meant for half scores in bf16.
    pub const WIDE: Self = Self { set: 0.15, relative: 0.05, order: 0.05, near: None };
    /// Nothing is asked for.
    pub const NONE: Self = Self { set: 0.0, relative: 0.0, order: 0.0, near: None };
}

/// An entry with one head, one sequence, the paper's settings, and the paper's and the release's rules.
pub fn entry(name: &'static str, clauses: &[&'static str], purpose: &'static str) -> Entry {
    // Distinct for distinct names, so that no two entries share their numbers (FNV-1a).
    let seed = name
        .bytes()
        .fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3));
    Entry {
        name,
        purpose,
        clauses: clauses.to_vec(),
        kind: Kind::OneChunk,
        settings: Settings::paper(),
        versions: vec![(Folder::Paper, Rules::paper()), (Folder::Release, Rules::release())],
        sequences: 1,
        tokens: 0,
        calls: None,
        after_calls: Vec::new(),
        flush: true,
        inputs: Inputs {
            seed,
            sub_keys: Table::Drawn(Grid { most: 64, unit: 0.03125 }),
            slot_values: Table::Drawn(Grid { most: 64, unit: 0.03125 }),
            queries: Queries::Near { first: 0, offset: Grid { most: 24, unit: 0.03125 } },
            values: Grid { most: 64, unit: 0.03125 },
            gates: &[],
            mask: &[],
            period: 0,
            layer: None,
            cotangents: Asked::Nothing,
        },
        least: Least::WIDE,
        ties: false,
        near_ties: false,
    }
}

impl Entry {
    /// H, n, `d_k`, `d_v`, k.
    pub fn memory(mut self, heads: usize, sub_keys: usize, key_dim: usize, value_dim: usize, top_k: usize) -> Self {
        self.settings = Settings { heads, sub_keys, key_dim, value_dim, top_k, ..self.settings };
        self
    }

    /// C and L, under border drop.
    pub fn drop(mut self, chunk: usize, lookahead: usize) -> Self {
        self.settings = Settings { chunk, lookahead, border: Border::Drop, ..self.settings };
        self
    }

    /// C and L, under border carry.
    pub fn carry(mut self, chunk: usize, lookahead: usize) -> Self {
        self.settings = Settings { chunk, lookahead, border: Border::Carry, ..self.settings };
        self
    }

    /// B and T.
    pub fn text(mut self, sequences: usize, tokens: usize) -> Self {
        (self.sequences, self.tokens) = (sequences, tokens);
        self
    }

    /// Reading alone: no step, so one file serves all rules.
    pub fn reading(mut self) -> Self {
        self.settings.writes = false;
        self.versions = vec![(Folder::Both, Rules::paper())];
        self
    }

    /// Any other settings.
    pub fn set(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// Any other way of drawing.
    pub fn draw(mut self, change: impl FnOnce(&mut Inputs)) -> Self {
        change(&mut self.inputs);
        self
    }

    /// Recorded under these rules only.
    pub fn only(mut self, folder: Folder) -> Self {
        self.versions.retain(|(other, _)| *other == folder);
        self
    }

    /// Recorded under other rules as well.
    pub fn and(mut self, rules: Rules) -> Self {
        self.versions.push((Folder::Other, rules));
        self
    }

    /// Several steps, in these calls (none: one call).
    pub fn run(mut self, calls: &[usize]) -> Self {
        self.kind = Kind::Run;
        self.calls(calls)
    }

    /// In these calls (none: one call).
    pub fn calls(mut self, calls: &[usize]) -> Self {
        self.calls = (!calls.is_empty()).then(|| calls.to_vec());
        self
    }

    /// What follows each call.
    pub fn after_calls(mut self, operations: &[&[Operation]]) -> Self {
        self.after_calls = operations.iter().map(|operations| operations.to_vec()).collect();
        self
    }

    /// No flush after the last call.
    pub fn unflushed(mut self) -> Self {
        self.flush = false;
        self
    }

    /// Queries near sub-keys: offsets up to `most` / 32.
    pub fn near(self, most: u32) -> Self {
        self.draw(|inputs| inputs.queries = Queries::Near { first: 0, offset: Grid { most, unit: 0.03125 } })
    }

    /// Queries from a grid.
    pub fn wide(self, most: u32, unit: f64) -> Self {
        self.draw(|inputs| inputs.queries = Queries::Wide(Grid { most, unit }))
    }

    /// Sub-keys from a grid.
    pub fn sub_keys(self, most: u32, unit: f64) -> Self {
        self.draw(|inputs| inputs.sub_keys = Table::Drawn(Grid { most, unit }))
    }

    /// Gates drawn from these.
    pub fn gates(self, gates: &'static [f64]) -> Self {
        self.draw(|inputs| inputs.gates = gates)
    }

    /// A mask, one line for each sequence.
    pub fn mask(self, mask: &'static [&'static str]) -> Self {
        self.draw(|inputs| inputs.mask = mask)
    }

    /// Gradients of a sum of the reads, and of the last tables.
    pub fn differentiated(self, cotangents: Asked) -> Self {
        self.draw(|inputs| inputs.cotangents = cotangents)
    }

    /// Other margins.
    pub fn least(mut self, least: Least) -> Self {
        self.least = least;
        self
    }
}
