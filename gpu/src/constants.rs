//! Shapes and settings as the compile-time constants of the kernels, and the limits of those.

use fwpkm_reference::rules::{Kept, PairFactor, ReadFactor, SubKeyLoss};
use fwpkm_reference::settings::{Activation, Border, Score, WeightsOver};
use fwpkm_reference::{Rules, Settings};

use crate::buffers::SEGMENT;
use crate::error::{Error, Result};
use crate::source::Kernels;

/// Most sub-keys per half: a lane of the selecting warp holds n / 32 numbers in registers.
pub const MOST_SUB_KEYS: usize = 2048;
/// Most slots per head: a lane per rank.
pub const MOST_TOP_K: usize = 32;
/// Longest half of a query: `NUM-2`'s condition (m + 8)² u ≤ 1/2, and shared memory of the gradient.
pub const MOST_HALF_DIM: usize = 1024;
/// Most numbers of a slot.
pub const MOST_VALUE_DIM: usize = 1 << 16;
/// Most heads.
pub const MOST_HEADS: usize = 64;

/// How work is cut: the square tile of a block that scores, and the blocks that share lists.
///
/// Results do not depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Rows and sub-keys of a block: a multiple of 4, at most 380.
    pub side: usize,
    /// Rows and sub-keys of a thread; divides `side`, at least `side` / 32, at most 16.
    pub per_thread: usize,
    /// Most blocks for a list whose length only the device knows, 1 or more; each takes every so many-th piece.
    pub blocks: usize,
    /// Whether sub-keys are ranked by tensor cores: faster, with more sub-keys left to compute. Then `side` is 64 or 128 and
    /// `per_thread` a sixteenth of it.
    pub tensor_cores: bool,
}

impl Tile {
    /// Whether the kernels can be cut so.
    ///
    /// # Errors   `Error::Tile` with what does not hold
    fn check(self) -> Result<()> {
        let Self { side, per_thread, blocks, .. } = self;
        let threads = side.checked_div(per_thread).map_or(usize::MAX, |row| row.saturating_mul(row));
        // Two tiles of 16 · (side + 4) numbers, as in kernels/score.cu.
        let shared = side.saturating_add(4).saturating_mul(2 * 16 * 4);
        let needs = [
            (side > 0 && side.is_multiple_of(4), "side must be a multiple of 4, since four numbers are loaded at once"),
            (
                per_thread > 0 && side.is_multiple_of(per_thread),
                "side must be a multiple of per_thread, which is 1 or more",
            ),
            (per_thread <= 16, "per_thread must be at most 16: its square are sums of one thread"),
            (threads <= MOST_THREADS, "(side / per_thread)² threads of a block must be at most 1024"),
            (
                !self.tensor_cores || (matches!(side, 64 | 128) && side / per_thread.max(1) == 16),
                "with tensor cores, side must be 64 or 128, and per_thread a sixteenth of it",
            ),
            (shared <= MOST_SHARED, "side must be at most 380, so that two tiles fit into shared memory"),
            (blocks > 0 && i32::try_from(blocks).is_ok(), "blocks must be from 1 to 2^31 - 1"),
        ];
        let broken = needs.into_iter().find(|(holds, _)| !holds);
        broken.map_or(Ok(()), |(_, needed)| Err(Error::Tile { tile: self, needed }))
    }

    /// Many blocks of little work, for few rows.
    pub const SMALL: Self = Self { side: 64, per_thread: 4, blocks: 8192, tensor_cores: false };
    /// Fewer loads per product, for many rows.
    pub const LARGE: Self = Self { side: 128, per_thread: 8, blocks: 8192, tensor_cores: false };
    /// Products in TF32 where only the order of sub-keys is asked for; many blocks, for few rows.
    pub const TENSOR_SMALL: Self = Self { tensor_cores: true, ..Self::SMALL };
    /// The same, for many rows.
    pub const TENSOR: Self = Self { tensor_cores: true, ..Self::LARGE };
}

/// The constants of a module, by name.
#[derive(Clone, Debug, PartialEq)]
pub struct Constants {
    values: Vec<(&'static str, f64)>,
    reals: usize,
    pub(crate) kernels: Kernels,
}

impl Constants {
    /// The constants of a memory, for these kernels.
    ///
    /// # Errors   `Error::Limit`, `Error::Tile` where the kernels cannot do it
    pub(crate) fn new(settings: &Settings, rules: &Rules, tile: Tile, kernels: Kernels) -> Result<Self> {
        settings.check()?;
        tile.check()?;
        limit("sub_keys", settings.sub_keys, MOST_SUB_KEYS)?;
        limit("top_k", settings.top_k, MOST_TOP_K)?;
        limit("key_dim", settings.key_dim, 2 * MOST_HALF_DIM)?;
        limit("value_dim", settings.value_dim, MOST_VALUE_DIM)?;
        limit("heads", settings.heads, MOST_HEADS)?;
        let k = settings.top_k;
        let ties = rules.kept == Kept::Ties;
        let activation = match settings.activation {
            Activation::Softmax => 0,
            Activation::Silu => 1,
            Activation::Relu => 2,
        };
        let (eta, lambda) = (settings.learning_rate, settings.weight_decay);
        let epsilon = match settings.score {
            Score::InverseDistance { epsilon } => epsilon,
            Score::DotProduct => 1.0,
        };
        let integers = [
            ("HEADS", settings.heads),
            ("SUB_KEYS", settings.sub_keys),
            ("HALF_DIM", settings.half_dim()),
            ("VALUE_DIM", settings.value_dim),
            ("TOP_K", k),
            ("KEPT_MAX", if ties { settings.sub_keys } else { k }),
            ("KEPT_LANES", kept_lanes(settings, rules)),
            ("PAIRS", (1..=k).map(|rank| k / rank).sum()),
            ("DOT_PRODUCT", usize::from(settings.score == Score::DotProduct)),
            ("KEEP_TIES", usize::from(ties)),
            ("ACTIVATION", activation),
            ("EACH_HEAD", usize::from(settings.weights_over == WeightsOver::EachHead)),
            ("CLIP", usize::from(settings.gradient_clip.is_some())),
            ("DECAY", usize::from(lambda != 0.0)),
            // Whether P - η λ P can be larger than P, or λ P than any number.
            ("DECAY_GROWS", usize::from(lambda > 1.0 || eta * lambda > 1.0)),
            ("READ_FACTOR", usize::from(rules.read_factor == ReadFactor::SlotsPerToken)),
            ("PAIR_FACTOR", usize::from(rules.pair_factor == PairFactor::SamplesPerPair)),
            ("SUB_KEY_MEAN", usize::from(rules.sub_key_loss == SubKeyLoss::Mean)),
            ("MEMORY_TO_SUB_KEYS", usize::from(settings.memory_gradient_to_sub_keys)),
            ("TILE", tile.side),
            ("PER", tile.per_thread),
            ("TENSOR", usize::from(tile.tensor_cores)),
            ("WALK", usize::from(kernels == Kernels::Walk)),
        ];
        let reals = [
            ("EPSILON", epsilon),
            ("TEMPERATURE", settings.temperature),
            ("LEARNING_RATE", eta),
            ("WEIGHT_DECAY", lambda),
            ("GRADIENT_CLIP", settings.gradient_clip.unwrap_or(1.0)),
            ("LOG_EPSILON", rules.log_epsilon),
            ("ADDRESSING_WEIGHT", settings.addressing_weight),
        ];
        let mut values: Vec<_> = reals.to_vec();
        values.extend(integers.map(|(name, value)| (name, value as f64)));
        Ok(Self { values, reals: reals.len(), kernels })
    }

    /// Names and values.
    pub fn values(&self) -> &[(&'static str, f64)] {
        &self.values
    }

    /// As options of a compiler: `-DNAME=value`, integers without a point.
    pub fn options(&self) -> Vec<String> {
        let (reals, integers) = self.values.split_at(self.reals);
        let reals = reals.iter().map(|(name, value)| format!("-D{name}={value:?}"));
        reals.chain(integers.iter().map(|(name, value)| format!("-D{name}={value:.0}"))).collect()
    }
}

/// Threads of a block that any device has.
const MOST_THREADS: usize = 1024;
/// Shared memory of a block that any device has.
pub(crate) const MOST_SHARED: usize = 48 << 10;

/// Shared memory that kernels/chunk.cu needs, beside the bitmap of the hot slots; none where it cannot take these settings.
pub(crate) fn walk_bytes(settings: &Settings, rules: &Rules, tile: Tile) -> Option<usize> {
    let taken = settings.writes
        && settings.border == Border::Drop
        && rules.kept != Kept::Ties
        && settings.weight_decay == 0.0
        && !settings.memory_gradient_to_sub_keys
        // More products per thread leave too few registers for the other stages.
        && tile.per_thread <= 4
        && tile.side == 16 * tile.per_thread;
    // Two tiles of 16 · (side + 4) or, for tensor cores, (16 + 4) · side; sums of 8 · HALF_DIM, 3 · 256 + 16 · SEGMENT + 8 numbers for lists.
    let tile = if tile.tensor_cores { 20 * tile.side } else { 16 * (tile.side + 4) };
    let numbers = 2 * tile + 8 * settings.half_dim() + 3 * 256 + 16 * SEGMENT + 8;
    (taken && numbers * 4 <= MOST_SHARED).then_some(numbers * 4)
}

/// Lanes of a warp that share the kept sub-keys of a row and half: a power of two, no fewer than sub-keys unless there may be more
/// than 32.
pub(crate) fn kept_lanes(settings: &Settings, rules: &Rules) -> usize {
    if rules.kept == Kept::Ties { 32 } else { settings.top_k.next_power_of_two() }
}

fn limit(what: &'static str, given: usize, most: usize) -> Result<()> {
    if given <= most { Ok(()) } else { Err(Error::Limit { what, given: given as u128, most: most as u128 }) }
}
