//! The fast weights: sub-keys and slot values.                                        BAT-1, BAT-3

use ndarray::{Array2, Array4};
use ndarray_rand::RandomExt;
use ndarray_rand::rand::Rng;
use ndarray_rand::rand_distr::{Distribution, Normal, Uniform};

use crate::error::{Error, Result};
use crate::numerics::check_finite;
use crate::scalar::Scalar;
use crate::settings::{Settings, setting};

/// The two tables, shared by all sequences of a batch.                                      [BAT-1]
///
/// # Shapes   `sub_keys`: [heads, 2, n, `key_dim` / 2]; `slot_values`: [n², `value_dim`], shared by the heads
#[derive(Clone, Debug, PartialEq)]
pub struct Tables<S> {
    /// K
    pub sub_keys: Array4<S>,
    /// V
    pub slot_values: Array2<S>,
}

impl<S: Scalar> Tables<S> {
    /// Initial tables: K uniform in ±1/√d_k, V normal with standard deviation 1/√d_v.        [BAT-3]
    ///
    /// # Errors   `Error::Setting` where `settings` are not valid, or the tables do not fit into memory
    /// # Source   arXiv 2601.00671 §3 and the release; the paper leaves the generator open, so does this
    pub fn random(settings: &Settings, rng: &mut impl Rng) -> Result<Self> {
        settings.check_in::<S>()?;
        let (heads, n) = (settings.heads, settings.sub_keys);
        has_room::<S>(settings, [heads, 2, n, settings.half_dim()])?;
        has_room::<S>(settings, [n, n, settings.value_dim, 1])?;
        let bound = 1.0 / (settings.key_dim as f64).sqrt();
        let spread = 1.0 / (settings.value_dim as f64).sqrt();
        let uniform =
            Uniform::new_inclusive(-bound, bound).map_err(|e| setting("key_dim", settings.key_dim, e.to_string()))?;
        let normal = Normal::new(0.0, spread).map_err(|e| setting("value_dim", settings.value_dim, e.to_string()))?;
        Ok(Self {
            sub_keys: Array4::random_using((heads, 2, n, settings.half_dim()), uniform.map(S::from_f64), rng),
            slot_values: Array2::random_using((n * n, settings.value_dim), normal.map(S::from_f64), rng),
        })
    }

    /// Checks shapes and that every number is finite (NUM-7).
    ///
    /// # Errors   `Error::Shape`, `Error::NotFinite`
    pub fn check(&self, settings: &Settings) -> Result<()> {
        let (heads, n, half) = (settings.heads, settings.sub_keys, settings.half_dim());
        if self.sub_keys.shape() != [heads, 2, n, half] {
            let expected = format!("[heads {heads}, 2, sub_keys {n}, key_dim/2 {half}]");
            return Err(Error::Shape { tensor: "sub_keys", expected, found: self.sub_keys.shape().to_vec() });
        }
        if self.slot_values.shape() != [settings.slots(), settings.value_dim] {
            let expected = format!("[slots {}, value_dim {}]", settings.slots(), settings.value_dim);
            return Err(Error::Shape { tensor: "slot_values", expected, found: self.slot_values.shape().to_vec() });
        }
        check_finite("sub_keys", self.sub_keys.view())?;
        check_finite("slot_values", self.slot_values.view())
    }
}

/// Whether a table of this shape can be allocated
fn has_room<S>(settings: &Settings, shape: [usize; 4]) -> Result<()> {
    let numbers = shape.into_iter().try_fold(1, usize::checked_mul);
    if numbers.is_some_and(|numbers| Vec::<S>::new().try_reserve_exact(numbers).is_ok()) {
        return Ok(());
    }
    Err(setting("sub_keys", settings.sub_keys, format!("tables that fit into memory, not {shape:?} numbers")))
}

/// One step of gradient descent: p - η(clip(g) + λp).                              [MEM-5, ADR-6]
///
/// A step of zero leaves the bits of p as they are.
///
/// ```
/// use fwpkm_reference::{settings::Settings, tables::descend};
/// let settings = Settings { learning_rate: 0.5, gradient_clip: Some(1.0), weight_decay: 0.25, ..Settings::paper() };
/// assert_eq!(descend(&settings, 4.0, 3.0), 4.0 - 0.5 * (1.0 + 0.25 * 4.0));
/// ```
pub fn descend<S: Scalar>(settings: &Settings, parameter: S, gradient: S) -> S {
    let mut direction = gradient;
    if let Some(clip) = settings.gradient_clip.map(S::from_f64) {
        // Where both are equal it is the gradient that passes, so that it has a slope (GRD-2).
        direction = (-clip).max(direction).min(clip);
    }
    if settings.weight_decay != 0.0 {
        direction = direction + S::from_f64(settings.weight_decay) * parameter;
    }
    let step = S::from_f64(settings.learning_rate) * direction;
    if step == S::ZERO { parameter } else { parameter - step }
}
