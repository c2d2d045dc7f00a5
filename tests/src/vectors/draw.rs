//! Numbers for the inputs of vectors: SplitMix64, and a grid that every element type holds exactly.

use fwpkm_spec::closed_form::{GAMMA, mix};

/// Whole numbers from -`most` to `most`, times a power of two.
///
/// With `most` up to 256 a number has at most eight significant bits, so bf16 and f16 hold it as well.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    /// Largest whole number.
    pub most: u32,
    /// Distance of neighbours.
    pub unit: f64,
}

/// A generator: SplitMix64.
///
/// ```
/// use fwpkm::vectors::draw::{Draw, Grid};
/// let mut draw = Draw::new(1);
/// let x = draw.number(Grid { most: 64, unit: 0.03125 });
/// assert!(x.abs() <= 2.0 && (x * 32.0).fract() == 0.0);
/// assert!(draw.below(3) < 3);
/// ```
#[derive(Clone, Debug)]
pub struct Draw {
    state: u64,
}

impl Draw {
    /// The generator of a seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GAMMA);
        mix(self.state)
    }

    /// A whole number below `count`.
    pub fn below(&mut self, count: u32) -> u32 {
        (((self.next() >> 32) * u64::from(count)) >> 32) as u32
    }

    /// A number of a grid.
    pub fn number(&mut self, grid: Grid) -> f64 {
        let whole = f64::from(self.below(2 * grid.most + 1)) - f64::from(grid.most);
        whole * grid.unit
    }

    /// So many numbers of a grid.
    pub fn numbers(&mut self, grid: Grid, count: usize) -> Vec<f64> {
        (0..count).map(|_| self.number(grid)).collect()
    }

    /// One of the items; the first where there are none to choose from is the caller's mistake and gives the default.
    pub fn one_of<T: Copy + Default>(&mut self, items: &[T]) -> T {
        let place = self.below(items.len().max(1) as u32) as usize;
        items.get(place).copied().unwrap_or_default()
    }
}
