//! Rounding injected into the results of stages.                                              NUM-11

use fwpkm_reference::Scalar;

use crate::numbers::Numbers;
use crate::reverse::{Reverse, with_value};

/// A number in ±1 drawn from a place and a seed: SplitMix64's output function
pub(in crate::judge) fn drawn(place: u64, seed: u64) -> f64 {
    let mut z = place.wrapping_add(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

/// x·(1 + ξ·2^-BITS), ξ in ±1 drawn from x itself and the seed
fn noisy<S: Scalar, const BITS: i32, const SEED: u64>(x: S) -> S {
    let xi = drawn(x.to_f64().to_bits(), SEED);
    S::from_f64(x.to_f64() * (1.0 + xi * 2f64.powi(-BITS)))
}

/// The same of a number that remembers how it was computed, which it keeps.
fn noisy_value<S: Scalar, const BITS: i32, const SEED: u64>(x: Reverse<S>) -> Reverse<S> {
    with_value(x, noisy::<S, BITS, SEED>(x.value))
}

/// The first so many of [`noise`] are louder, only to see which choices rounding may turn.
pub(super) const LOUD: usize = 2;

macro_rules! seeds {
    ($noisy:ident, $scalar:ident, $bits:literal, $loud:literal) => {
        [
            $noisy::<$scalar, $loud, 7>,
            $noisy::<$scalar, $loud, 8>,
            $noisy::<$scalar, $bits, 1>,
            $noisy::<$scalar, $bits, 2>,
            $noisy::<$scalar, $bits, 3>,
            $noisy::<$scalar, $bits, 4>,
            $noisy::<$scalar, $bits, 5>,
            $noisy::<$scalar, $bits, 6>,
        ]
    };
}

macro_rules! ways {
    ($numbers:expr, $noisy:ident, $scalar:ident) => {
        match $numbers {
            Numbers::F64 => seeds!($noisy, $scalar, 52, 49),
            Numbers::F32 => seeds!($noisy, $scalar, 23, 20),
            Numbers::Bf16 => seeds!($noisy, $scalar, 8, 5),
            Numbers::F16 => seeds!($noisy, $scalar, 11, 8),
        }
    };
}

/// Ways to inject rounding: two of eight times its size, six of its size.
pub(super) fn noise<S: Scalar>(numbers: Numbers) -> [fn(S) -> S; 8] {
    ways!(numbers, noisy, S)
}

/// The same of numbers that gradients are computed with.
pub(super) fn noise_of_values<S: Scalar>(numbers: Numbers) -> [fn(Reverse<S>) -> Reverse<S>; 8] {
    ways!(numbers, noisy_value, S)
}

/// What one of these ways does to a product on the way back of gradients, whose number is `place`.
pub(super) fn shaken(numbers: Numbers, way: usize, place: u64, x: f64) -> f64 {
    let louder = if way < LOUD { 8.0 } else { 1.0 };
    x * (1.0 + drawn(place, way as u64 + 1) * 2.0 * louder * numbers.unit_roundoff())
}
