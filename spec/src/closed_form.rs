//! Numbers from a closed form: SplitMix64 of an index, on a grid that every element type holds.
//!
//! ```text
//! x(i)       = mix(seed + (i + 1)·GAMMA)          i = 0, 1, …; all modulo 2^64
//! mix(z)     : z = (z XOR z>>30)·0xBF58476D1CE4E5B9;  z = (z XOR z>>27)·0x94D049BB133111EB;  z XOR z>>31
//! number(i)  = unit · ( x(i) >> 56  -  128 )      a whole number from -128 to 127, times the unit
//! ```
//!
//! x(0), x(1), … are the outputs of the generator SplitMix64 with that seed (Steele, Lea, Flood 2014). `SPEC.md`, "Numbers
//! from a closed form", says the same.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::error::{Error, quoted, shortened};
use crate::unique::Unique;

/// What the state of SplitMix64 grows by.
pub const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// The most elements a tensor may have that is given by the closed form.
pub const MAX_ELEMENTS: usize = 1 << 26;

/// The output of SplitMix64 in state `z`.
///
/// ```
/// use fwpkm_spec::closed_form::{GAMMA, mix};
/// assert_eq!(mix(GAMMA), 0xE220_A839_7B1D_CDAF); // the first output for seed 0
/// ```
pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A tensor given by the closed form: its elements are numbers 0, 1, … in row-major order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClosedForm {
    /// The length of each dimension.
    pub shape: Vec<usize>,
    /// Seed of the generator.
    pub seed: u64,
    /// Distance of neighbouring numbers; a power of two from 2^-16 to 1.
    pub unit: f64,
}

impl ClosedForm {
    /// Some of the elements, by their row-major number.
    ///
    /// ```
    /// use fwpkm_spec::closed_form::ClosedForm;
    /// let table = ClosedForm { shape: vec![2, 2], seed: 7, unit: 0.0625 };
    /// assert_eq!(table.elements(0..4), [-1.8125, -7.75, 6.375, 1.3125]);
    /// assert_eq!(table.elements(2..3), [6.375]);
    /// ```
    pub fn elements(&self, range: Range<usize>) -> Vec<f32> {
        range.map(|index| self.element(index as u64)).collect()
    }

    fn element(&self, index: u64) -> f32 {
        let state = self.seed.wrapping_add(index.wrapping_add(1).wrapping_mul(GAMMA));
        let whole = i16::from((mix(state) >> 56) as u8) - 128;
        f32::from(whole) * self.unit as f32
    }

    /// Shapes, seeds and units that a file may ask for.
    fn check(&self, name: &str) -> Result<(), Error> {
        let wrong = |expected: String, found: String| Error::ClosedForm { name: shortened(name), expected, found };
        let count = self.shape.iter().try_fold(1_usize, |count, &length| count.checked_mul(length));
        if self.shape.is_empty() || self.shape.len() > 8 || count.is_none_or(|count| count == 0 || count > MAX_ELEMENTS)
        {
            let expected = format!("a shape of 1 to 8 lengths and 1 to {MAX_ELEMENTS} elements");
            return Err(wrong(expected, format!("{:?}", self.shape)));
        }
        if self.seed > 1 << 53 {
            return Err(wrong("a seed up to 2^53".to_owned(), self.seed.to_string()));
        }
        if !(0..=16).any(|power| self.unit == 0.5_f64.powi(power)) {
            return Err(wrong("a unit that is a power of two from 2^-16 to 1".to_owned(), self.unit.to_string()));
        }
        Ok(())
    }
}

/// Reads the text `closed_form` of a file's metadata: tensors by name.
///
/// # Errors
/// `ClosedForm` for what is not such an object, names the tensor.
pub fn parse(text: &str) -> Result<BTreeMap<String, ClosedForm>, Error> {
    let tensors: Unique<ClosedForm> = serde_json::from_str(text).map_err(|error| Error::ClosedForm {
        name: "closed_form".to_owned(),
        expected: "a JSON object of tensors {shape, seed, unit}, each once".to_owned(),
        found: format!("{} ({})", quoted(text), shortened(&error.to_string())),
    })?;
    tensors.0.iter().try_for_each(|(name, tensor)| tensor.check(name))?;
    Ok(tensors.0)
}

/// The text `closed_form` of a file's metadata; what [`parse`] reads as the same.
///
/// # Errors
/// `ClosedForm` for a tensor that [`parse`] would refuse.
pub fn to_json(tensors: &BTreeMap<String, ClosedForm>) -> Result<String, Error> {
    tensors.iter().try_for_each(|(name, tensor)| tensor.check(name))?;
    serde_json::to_string(tensors).map_err(|error| Error::ClosedForm {
        name: "closed_form".to_owned(),
        expected: "JSON".to_owned(),
        found: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_outputs_are_those_of_the_published_generator() {
        // Seed 1234567, as in the test vectors of Rosetta Code and of the Java class SplittableRandom.
        let outputs: Vec<u64> = (1..=5_u64).map(|i| mix(1_234_567_u64.wrapping_add(i.wrapping_mul(GAMMA)))).collect();
        let published = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        assert_eq!(outputs, published);
    }

    #[test]
    fn every_number_is_a_whole_number_of_units_of_at_most_eight_bits() {
        let table = ClosedForm { shape: vec![4096], seed: 3, unit: 0.03125 };
        let wholes: Vec<f32> = table.elements(0..4096).iter().map(|x| x / 0.03125).collect();
        assert!(wholes.iter().all(|x| x.fract() == 0.0 && (-128.0..=127.0).contains(x)));
        assert!(wholes.contains(&-128.0) && wholes.contains(&127.0));
    }

    #[test]
    fn what_is_no_closed_form_is_refused_by_name() {
        let good = r#"{"in.slot_values": {"shape": [4, 2], "seed": 1, "unit": 0.25}}"#;
        assert_eq!(parse(good).unwrap()["in.slot_values"].elements(0..8).len(), 8);
        for (text, names) in [
            (r#"{"in.x": {"shape": [0], "seed": 1, "unit": 0.25}}"#, "in.x"),
            (r#"{"in.x": {"shape": [1099511627776, 1099511627776], "seed": 1, "unit": 0.25}}"#, "in.x"),
            (r#"{"in.x": {"shape": [2], "seed": 9007199254740993, "unit": 0.25}}"#, "in.x"),
            (r#"{"in.x": {"shape": [2], "seed": 1, "unit": 0.3}}"#, "in.x"),
            (r#"{"in.x": {"shape": [2], "seed": -1, "unit": 0.5}}"#, "closed_form"),
            (r#"{"in.x": {"shape": [2], "seed": 1, "unit": 0.5, "more": 1}}"#, "closed_form"),
            (r#"{"in.x": {"shape": [2], "seed": 1, "unit": 1}, "in.x": {"shape": [2], "seed": 1, "unit": 1}}"#, "once"),
            ("[]", "closed_form"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(names), "{text}: {error}");
        }
    }
}
