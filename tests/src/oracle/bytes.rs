//! Bytes as choices and numbers, so that every byte string is an input.
//!
//! A choice takes one byte, so that one changed byte changes one choice; bytes that are missing are 0, and bytes left over
//! are not looked at. Byte 0 is always the plainest choice: the first of a list, the number 0.

use ndarray::{Array, Dimension, ShapeBuilder};

/// What numbers of an input may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// At most 2 in magnitude: halves, tenths, fractions, and numbers one place beside a half.
    Small,
    /// Also numbers of any size, from the smallest to the largest.
    Wide,
    /// Also infinities and NaN.
    Any,
}

/// Numbers at which arithmetic changes its ways.
const EXTREMES: [f64; 16] = [
    -0.0,
    f64::from_bits(1),
    f64::MIN_POSITIVE,
    1e-45,
    1.2e-38,
    -1e-30,
    1e-8,
    1e3,
    -1e8,
    16_777_216.0,
    1e16,
    -1e18,
    1e30,
    -3.4e38,
    1e154,
    -f64::MAX,
];

const NOT_FINITE: [f64; 3] = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];

/// Bytes that are read from the front.
#[derive(Clone, Debug)]
pub struct Bytes<'a> {
    rest: &'a [u8],
}

impl<'a> Bytes<'a> {
    /// All of them.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next byte, 0 after the last.
    pub fn byte(&mut self) -> u8 {
        let (&first, rest) = self.rest.split_first().unwrap_or((&0, &[]));
        self.rest = rest;
        first
    }

    /// Those that are left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// A whole number from `least` to `most`, of at most 256.
    pub fn count(&mut self, least: usize, most: usize) -> usize {
        least + usize::from(self.byte()) % (most - least + 1)
    }

    /// Yes or no.
    pub fn flag(&mut self) -> bool {
        self.byte() % 2 == 1
    }

    /// One of a list that is not empty.
    pub fn one_of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.count(0, choices.len() - 1)].clone()
    }

    /// Five of eight inputs are small, one is of any numbers.
    pub fn range(&mut self) -> Range {
        match self.byte() % 8 {
            0..5 => Range::Small,
            5..7 => Range::Wide,
            _ => Range::Any,
        }
    }

    /// A number; of one byte, fractions of three.
    pub fn number(&mut self, range: Range) -> f64 {
        let byte = self.byte();
        let half = f64::from((i16::from(byte) + 4) % 9 - 4) / 2.0;
        match (byte, range) {
            (252.., Range::Any) => NOT_FINITE[usize::from(byte) % 3],
            (240.., Range::Wide | Range::Any) => EXTREMES[usize::from(byte) % EXTREMES.len()],
            (0..120, _) => half,
            (120..180, _) => f64::from(i16::from(byte) % 41 - 20) / 10.0,
            (180..212, _) => f64::from(i16::from_le_bytes([self.byte(), self.byte()])) / 16384.0,
            (212..228, _) => f64::from((half as f32).next_up()),
            (228.., _) => half.next_down(),
        }
    }

    /// One of a list of settings, of the second one too where numbers may be of any size.
    pub fn setting(&mut self, range: Range, usual: &[f64], extreme: &[f64]) -> f64 {
        let extreme = if range == Range::Small { &[] } else { extreme };
        self.one_of(&[usual, extreme].concat())
    }

    /// Numbers of a shape, row by row.
    pub fn array<Sh: ShapeBuilder>(&mut self, shape: Sh, range: Range) -> Array<f64, Sh::Dim>
    where
        Sh::Dim: Dimension,
    {
        let mut array = Array::zeros(shape);
        array.iter_mut().for_each(|number| *number = self.number(range));
        array
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_missing_are_zero_and_zero_is_the_plainest_choice() {
        let mut bytes = Bytes::new(&[7]);
        assert_eq!((bytes.count(1, 3), bytes.count(1, 3)), (2, 1));
        assert_eq!((bytes.flag(), bytes.range(), bytes.number(Range::Any)), (false, Range::Small, 0.0));
        assert_eq!((bytes.one_of(&['a', 'b']), bytes.rest()), ('a', &[][..]));
    }

    #[test]
    fn numbers_are_of_their_range() {
        let all = |range| (0..=255).map(|byte| Bytes::new(&[byte, 3, 90]).number(range)).collect::<Vec<f64>>();
        assert!(all(Range::Small).iter().all(|x| x.abs() <= 2.000_000_3));
        assert!(all(Range::Wide).iter().all(|x| x.is_finite()));
        let count = |range, wanted: fn(&f64) -> bool| all(range).iter().filter(|x| wanted(x)).count();
        assert!(
            count(Range::Small, |x| x.fract() == 0.0) > 60 && count(Range::Small, |x| (x * 2.0).fract() != 0.0) > 60
        );
        assert!(count(Range::Wide, |x| x.abs() > 1e15) > 4 && count(Range::Wide, |x| *x != 0.0 && x.abs() < 1e-20) > 4);
        assert!(count(Range::Any, |x| x.is_nan()) > 1 && count(Range::Any, |x| x.is_infinite()) > 1);
    }
}
