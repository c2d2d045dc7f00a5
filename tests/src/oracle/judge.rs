//! Claims of an oracle: what does not hold is a panic that names the clause and shows the input.

use std::fmt::Debug;

use fwpkm_reference::Scalar;

use super::tracked::Tracked;

/// How much was held, and how close to its bound.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Judged {
    /// Numbers inside a bound.
    pub within: usize,
    /// Numbers whose bound is not known, so that nothing was held.
    pub unknown: usize,
    /// The largest error over its bound.
    pub closest: f64,
}

/// What is claimed of one input.
#[derive(Debug)]
pub struct Judge<'a> {
    input: &'a dyn Debug,
    element: &'static str,
    /// Of what was compared so far.
    pub judged: Judged,
}

impl<'a> Judge<'a> {
    /// Of an input as elements of type `S`.
    pub fn new<S: Scalar>(input: &'a dyn Debug) -> Self {
        Self { input, element: std::any::type_name::<S>(), judged: Judged::default() }
    }

    /// Something holds.
    ///
    /// # Panics
    /// Where it does not.
    pub fn claim(&self, clause: &str, holds: bool, found: impl FnOnce() -> String) {
        assert!(holds, "{clause}, {}: {}\nof {:#?}", self.element, found(), self.input);
    }

    /// A number is the exact one, up to the rounding errors of both.
    ///
    /// # Panics
    /// Where it is not.
    pub fn near<S: Scalar>(
        &mut self,
        clause: &str,
        found: Tracked<S>,
        exact: Tracked<f64>,
        what: impl FnOnce() -> String,
    ) {
        let bound = found.error + exact.error + f64::MIN_POSITIVE;
        let error = (found.value.to_f64() - exact.value).abs();
        if !bound.is_finite() || error.is_nan() {
            self.judged.unknown += 1;
            return;
        }
        self.claim(clause, error <= bound, || {
            format!("{} is {found:?}, not {exact:?}, which differ by {error:e} and may by {bound:e}", what())
        });
        self.judged.within += 1;
        self.judged.closest = self.judged.closest.max(error / bound);
    }
}
