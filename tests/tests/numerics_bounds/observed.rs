//! How close errors come to their bounds.

use approx::abs_diff_eq;

/// Checks numbers against their bounds and remembers the largest error / bound.
pub(crate) struct Observed {
    what: String,
    elements: usize,
    largest: f64,
}

impl Observed {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), elements: 0, largest: 0.0 }
    }

    /// Requires |computed - exact| ≤ bound
    pub(crate) fn within(&mut self, computed: f64, exact: f64, bound: f64) {
        let Self { what, elements, .. } = &self;
        assert!(bound.is_finite() && computed.is_finite(), "{what} {elements}: {computed}, bound {bound}");
        let ratio = (computed - exact).abs() / bound;
        assert!(
            abs_diff_eq!(computed, exact, epsilon = bound),
            "{what} {elements}: {computed:e} instead of {exact:e}, {ratio} times the bound {bound:e}"
        );
        self.elements += 1;
        if bound > 0.0 {
            self.largest = self.largest.max(ratio);
        }
    }

    /// Whether nothing was checked
    pub(crate) fn is_empty(&self) -> bool {
        self.elements == 0
    }

    /// Requires that the worst element came at least this close to its bound
    pub(crate) fn comes_close(&self, factor: f64) {
        let Self { what, elements, largest } = self;
        println!("{what}: largest error / bound {largest:.4}, of {elements} elements");
        assert!(*largest >= factor, "{what}: largest error / bound {largest} of {elements} elements, below {factor}");
    }
}
