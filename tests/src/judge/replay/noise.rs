//! Rounding injected into the results of stages.                                              NUM-11

use fwpkm_reference::Scalar;

use crate::numbers::Numbers;

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

/// The first so many of [`noise`] are louder, only to see which choices rounding may turn.
pub(super) const LOUD: usize = 2;

/// Ways to inject rounding: two of eight times its size, six of its size.
pub(super) fn noise<S: Scalar>(numbers: Numbers) -> [fn(S) -> S; 8] {
    macro_rules! seeds {
        ($bits:literal, $loud:literal) => {
            [
                noisy::<S, $loud, 7>,
                noisy::<S, $loud, 8>,
                noisy::<S, $bits, 1>,
                noisy::<S, $bits, 2>,
                noisy::<S, $bits, 3>,
                noisy::<S, $bits, 4>,
                noisy::<S, $bits, 5>,
                noisy::<S, $bits, 6>,
            ]
        };
    }
    match numbers {
        Numbers::F64 => seeds!(52, 49),
        Numbers::F32 => seeds!(23, 20),
        Numbers::Bf16 => seeds!(8, 5),
        Numbers::F16 => seeds!(11, 8),
    }
}
