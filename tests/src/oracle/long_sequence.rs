//! A text of many chunks on the CUDA kernels: replayed as a whole, in lockstep, and in any cuts.
//!
//! ```text
//! replay     the whole text, the interpreter with the kernels' choices of slots                    NUM-11
//! lockstep   every chunk by itself, from the interpreter's tables                                  NUM-11
//! bits       cuts of the text, the simple kernels, another schedule, a state taken at a token      NUM-8, STR-1, BAT-5
//! ```

use fwpkm_reference::settings::Border;
use fwpkm_reference::{Settings, Tables};
use ndarray::Array3;
use ndarray_rand::rand::rngs::StdRng;
use ndarray_rand::rand::{Rng, SeedableRng};
use ndarray_rand::rand_distr::StandardNormal;

use super::bytes::Bytes;
use super::kernels::{bits_hold, kernels_hold, lockstep_holds};
use super::scene::{Most, Scene, Text};

/// Tables and text follow from a seed; these are for settings and rules.
const MOST: Most = Most { heads: 2, sub_keys: 9, half_dim: 5, value_dim: 6, sequences: 2, tokens: 0 };

/// Most tokens of a text.
const TOKENS: usize = 48;

/// A long text on the emulator.                                          STR-1 … STR-5, BAT-5, NUM-7, NUM-8, NUM-11
///
/// # Panics
/// Where the kernels compute something else than the interpreter, or two ways of running them differ.
pub fn long_sequence(bytes: &[u8]) {
    let mut bytes = Bytes::new(bytes);
    let border = bytes.one_of(&[Border::Drop, Border::Carry]);
    let chunk = bytes.count(1, 12);
    let lookahead = bytes.count(0, if border == Border::Carry { chunk + 2 } else { chunk - 1 });
    let tokens = bytes.count(1, TOKENS);
    let seed = u64::from_le_bytes([(); 8].map(|()| bytes.byte()));
    let calls = calls(&mut bytes, tokens);
    let saved_at = bytes.count(0, tokens);
    let (spread, gated, masked) = (bytes.one_of(&[1.0, 0.3, 0.1, 2.0]), bytes.flag(), bytes.flag());
    let mut scene = Scene::choose(&mut bytes, MOST);
    scene.settings = Settings { border, chunk, lookahead, ..scene.settings };
    let mut rng = StdRng::seed_from_u64(seed);
    let Ok(tables) = Tables::random(&scene.settings, &mut rng) else { return };
    let (sequences, settings) = (scene.text.shape().0, &scene.settings);
    let mut normal = |spread: f64| spread * rng.sample::<f64, _>(StandardNormal);
    let mut cube = |width, spread| Array3::from_shape_simple_fn((sequences, tokens, width), || normal(spread));
    let text = Text {
        queries: cube(settings.heads * settings.key_dim, spread),
        values: cube(settings.value_dim, 1.0),
        gates: gated.then(|| cube(1, 1.0).remove_axis(ndarray::Axis(2)).mapv(|x| 1.0 / (1.0 + (-x).exp()))),
        mask: masked.then(|| cube(1, 1.0).remove_axis(ndarray::Axis(2)).mapv(|x| x < 1.0)),
    };
    let scene = Scene { tables, text, ..scene };
    kernels_hold(&scene, Some(calls.clone()));
    lockstep_holds(&scene);
    bits_hold(&scene, &calls, saved_at);
}

/// Up to 9 calls of all tokens, some of them perhaps empty.
fn calls(bytes: &mut Bytes, tokens: usize) -> Vec<usize> {
    let cuts = bytes.count(0, 8);
    let mut ends: Vec<usize> = (0..cuts).map(|_| bytes.count(0, tokens)).collect();
    ends.push(tokens);
    ends.sort_unstable();
    let starts = std::iter::once(0).chain(ends.iter().copied());
    ends.iter().zip(starts).map(|(end, start)| end - start).collect()
}
