//! What comes before and after the memory: projections, outputs, statistics of the slots.           PRJ, OUT, STA

use std::collections::BTreeMap;

use fwpkm_reference::Scalar;
use fwpkm_reference::numerics::Bounded;
use fwpkm_reference::projection::Projected;
use ndarray::{Array2, ArrayD, Dim, Ix1, arr1};

use super::Stagewise;
use crate::error::Result;
use crate::problem::{Text, cast, cast_projection};

impl<const D: u32> Stagewise<'_, D> {
    /// PRJ: queries, values, gates; rows (sequence, token).
    pub(super) fn projected(&mut self, projected: Projected<Bounded<D>>) -> Projected<Bounded<D>> {
        let (b, t) = (self.problem.sequences, self.problem.tokens);
        let mut rows = |name: &str, expected: Array2<Bounded<D>>| {
            let shape = [b, t, expected.ncols()];
            let flat = expected.dim();
            self.check(name, &shape, |tensor| tensor.into_shape_with_order(flat).ok(), expected)
        };
        let queries = rows("trace.projection.queries", projected.queries);
        let values = rows("trace.projection.values", projected.values);
        let gates = projected.gates.map(|gates| {
            let count = gates.len();
            let flat = |tensor: ArrayD<f64>| tensor.into_shape_with_order(count).ok();
            let own = self.check("out.gates", &[b, t], flat, gates.clone());
            let traced = self.check("trace.projection.gates", &[b, t], flat, gates);
            if self.recorded.real("trace.projection.gates", &[b, t]).is_some() { traced } else { own }
        });
        Projected { queries, values, gates }
    }

    /// OUT: every token's, from the implementation's own reads.
    pub(super) fn output(&mut self, projected: Option<&Projected<Bounded<D>>>) -> Result<()> {
        let (Some(projected), Text::Layer { hidden, .. }, Some(maps)) =
            (projected, &self.problem.text, &self.problem.projection)
        else {
            return Ok(());
        };
        let (b, t) = (self.problem.sequences, self.problem.tokens);
        let dim = self.plan.settings.value_dim;
        let Some(reads) = self.recorded.real_of("out.reads", Dim([b, t, dim])) else { return Ok(()) };
        let reads = reads.into_shape_with_order((b * t, dim))?.mapv(|x| self.lifted(x));
        let output = self.walk.output_of(&cast(hidden), &cast_projection(maps), projected, &reads);
        for (name, expected) in
            [("trace.output.mixed", output.mixed), ("out.layer", output.layer), ("out.hidden", output.hidden)]
        {
            let (shape, flat) = ([b, t, expected.ncols()], expected.dim());
            self.check(name, &shape, |tensor| tensor.into_shape_with_order(flat).ok(), expected);
        }
        Ok(())
    }

    /// STA: from the implementation's own slots.
    pub(super) fn statistics(&mut self) {
        let settings = &self.plan.settings;
        let shape = [self.problem.sequences, self.problem.tokens, settings.heads, settings.top_k];
        let Some(slots) = self.recorded.integers("out.indices", &shape) else { return };
        let mut counts = BTreeMap::<i64, f64>::new();
        for &slot in &slots {
            *counts.entry(slot).or_default() += 1.0;
        }
        let number = |x: f64| Bounded::<D>::new(x, 0.0);
        let total = number(slots.len().max(1) as f64);
        let shared = number(counts.values().filter(|&&count| count > 1.0).sum());
        let size = number(settings.slots() as f64);
        let share = |count: f64| number(count) / total;
        let term = |count: f64| share(count) * (share(count) * size).ln();
        let divergence = counts.values().fold(Bounded::ZERO, |sum, &count| sum + term(count));
        for (name, expected) in [
            ("out.stats.collision_rate", shared / total),
            ("out.stats.coverage", number(counts.len() as f64) / size),
            ("out.stats.divergence", divergence),
        ] {
            self.check(name, &[1], |tensor| tensor.into_dimensionality::<Ix1>().ok(), arr1(&[expected]));
        }
    }
}
