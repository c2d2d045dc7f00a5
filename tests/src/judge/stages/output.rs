//! OUT and STA: what is computed of all tokens at the end.

use fwpkm_reference::Scalar;
use fwpkm_reference::chunk::Reading;
use fwpkm_reference::numerics::Bounded;
use fwpkm_reference::projection::Projected;
use ndarray::{Array2, ArrayD, Axis};

use super::Stagewise;
use crate::error::Result;
use crate::problem::{Text, cast, cast_projection, swapped};

impl<const D: u32> Stagewise<'_, D> {
    /// OUT: from the implementation's own reads; where it did not record them, of the tokens before the first step.
    pub(super) fn output(
        &mut self,
        projected: Option<&Projected<Bounded<D>>>,
        reading: &Reading<Bounded<D>>,
    ) -> Result<()> {
        let (Some(projected), Text::Layer { hidden, .. }, Some(maps)) =
            (projected, &self.problem.text, &self.problem.projection)
        else {
            return Ok(());
        };
        let (b, t) = (self.problem.sequences, self.problem.tokens);
        let (tokens, reads) = self.reads(reading)?;
        let rows: Vec<usize> = (0..b).flat_map(|sequence| sequence * t..sequence * t + tokens).collect();
        let of_rows = |all: &Array2<Bounded<D>>| all.select(Axis(0), &rows);
        let projected = Projected {
            queries: of_rows(&projected.queries),
            values: of_rows(&projected.values),
            gates: projected.gates.as_ref().map(|gates| gates.select(Axis(0), &rows)),
        };
        let output = self.walk.output_of(&of_rows(&cast(hidden)), &cast_projection(maps), &projected, &reads);
        for (name, expected) in
            [("trace.output.mixed", output.mixed), ("out.layer", output.layer), ("out.hidden", output.hidden)]
        {
            let width = expected.ncols();
            let part = |tensor: ArrayD<f64>| {
                let all = tensor.into_shape_with_order((b * t, width)).ok()?;
                Some(all.select(Axis(0), &rows))
            };
            self.check(name, &[b, t, width], part, expected);
        }
        Ok(())
    }

    /// The reads that the outputs are made of, rows (sequence, token), and of how many tokens.
    fn reads(&self, reading: &Reading<Bounded<D>>) -> Result<(usize, Array2<Bounded<D>>)> {
        let (b, t, width) = (self.problem.sequences, self.problem.tokens, self.plan.settings.value_dim);
        if let Some(reads) = self.recorded.real_of("out.reads", ndarray::Dim([b, t, width])) {
            return Ok((t, reads.into_shape_with_order((b * t, width))?.mapv(|x| self.lifted(x))));
        }
        let tokens = reading.reads.nrows() / b.max(1);
        let by_token = reading.reads.clone().into_shape_with_order((tokens, b, width))?;
        Ok((tokens, swapped(&by_token).into_shape_with_order((tokens * b, width))?))
    }

    /// STA: from the implementation's own slots.
    pub(super) fn statistics(&mut self) {
        let settings = &self.plan.settings;
        let shape = [self.problem.sequences, self.problem.tokens, settings.heads, settings.top_k];
        let Some(slots) = self.recorded.integers("out.indices", &shape) else { return };
        let mut counts = std::collections::BTreeMap::<i64, f64>::new();
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
            self.check(
                name,
                &[1],
                |tensor| tensor.into_dimensionality::<ndarray::Ix1>().ok(),
                ndarray::arr1(&[expected]),
            );
        }
    }
}
