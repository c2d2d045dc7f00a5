//! The whole layer: projection, memory, output.                         PRJ-6, STR-1, OUT-1 … OUT-3

use ndarray::{Array1, Array2, Array3, ArrayView2, ArrayView3};

use crate::batch::{Fed, Memory, StepReport, Tokens, Trace};
use crate::error::{Error, Result};
use crate::numerics::check_finite;
use crate::output::Output;
use crate::projection::{Projected, Projection};
use crate::rules::ZScore;
use crate::scalar::Scalar;
use crate::settings::{Norm, setting};
use crate::tables::Tables;

/// Names of a map's tensors.
macro_rules! names {
    ($map:literal) => {
        [
            concat!("projection.", $map, ".norm"),
            concat!("projection.", $map, ".weight"),
            concat!("projection.", $map, ".bias"),
        ]
    };
}

/// A layer: learned maps around a memory.
#[derive(Clone, Debug)]
pub struct Layer<S> {
    projection: Projection<S>,
    hidden_dim: usize,
    memory: Memory<S>,
}

/// What a call of the layer gives; rows of `projected` and `output` are (sequence, token).
#[derive(Clone, Debug)]
pub struct LayerFed<S> {
    /// Queries, values, gates.
    pub projected: Projected<S>,
    /// Reads, slots, weights, steps.
    pub memory: Fed<S>,
    /// Mixed, projected, added to the residual stream.
    pub output: Output<S>,
}

impl<S: Scalar> Layer<S> {
    /// Checks the maps against the memory's settings.
    ///
    /// # Errors   `Error::Shape`, `Error::NotFinite`, `Error::Setting`
    pub fn new(projection: Projection<S>, memory: Memory<S>) -> Result<Self> {
        let settings = memory.settings();
        // W_q gives the model's width; every other length must agree with it.
        let hidden_dim = projection.query.weight.ncols();
        projection.query.check(names!("query"), hidden_dim, Some(settings.heads.saturating_mul(settings.key_dim)))?;
        projection.value.check(names!("value"), hidden_dim, Some(settings.value_dim))?;
        projection.output.check(names!("output"), settings.value_dim, Some(hidden_dim))?;
        let too_few = |features: usize| features < 2 && memory.rules().z_score == ZScore::Sample;
        for (name, norm, features) in [
            ("value_norm", settings.value_norm, settings.value_dim),
            ("query_norm", settings.query_norm, settings.heads.saturating_mul(settings.half_dim())),
        ] {
            if norm == Norm::ZScore && too_few(features) {
                return Err(setting(name, "z_score", "two features or more under z_score sample"));
            }
        }
        match (&projection.gate, settings.output_gate || settings.gate_weighted_loss) {
            (Some(gate), true) => gate.check(names!("gate"), hidden_dim, None)?,
            (None, false) => {}
            (gate, _) => {
                let given = if gate.is_some() { "present" } else { "absent" };
                let allowed = "present if output_gate or gate_weighted_loss is true, else absent";
                return Err(setting("projection.gate", given, allowed));
            }
        }
        Ok(Self { projection, hidden_dim, memory })
    }

    /// The memory inside.
    pub fn memory(&self) -> &Memory<S> {
        &self.memory
    }

    /// Closes the chunk early: [`Memory::flush`].                                               [STR-4]
    ///
    /// # Errors   as [`Memory::flush`]
    pub fn flush(&mut self) -> Result<Option<StepReport<S>>> {
        self.memory.flush()
    }

    /// The same, and adds every stage tensor to `trace`.
    ///
    /// # Errors   as [`Memory::flush`]
    pub fn flush_traced(&mut self, trace: &mut Trace<S>) -> Result<Option<StepReport<S>>> {
        self.memory.flush_traced(trace)
    }

    /// Begins a new text: [`Memory::reset_queue`].                                              [BAT-2]
    pub fn reset_queue(&mut self) {
        self.memory.reset_queue();
    }

    /// Replaces the tables: [`Memory::reset_tables`].                                           [BAT-2]
    ///
    /// # Errors   as [`Memory::reset_tables`]
    pub fn reset_tables(&mut self, tables: Tables<S>) -> Result<()> {
        self.memory.reset_tables(tables)
    }

    /// The memory inside, without the layer.
    pub fn into_memory(self) -> Memory<S> {
        self.memory
    }

    /// Runs the layer on hidden states, [B, T, hidden].
    ///
    /// # Errors   as [`Memory::feed`]; `Error::Diverged` also where a projection or the output overflows (NUM-7)
    pub fn feed(&mut self, hidden: ArrayView3<S>, mask: Option<ArrayView2<bool>>) -> Result<LayerFed<S>> {
        self.run(hidden, mask, None)
    }

    /// The same, and adds every stage tensor to `trace`.
    pub fn feed_traced(
        &mut self,
        hidden: ArrayView3<S>,
        mask: Option<ArrayView2<bool>>,
        trace: &mut Trace<S>,
    ) -> Result<LayerFed<S>> {
        self.run(hidden, mask, Some(trace))
    }

    fn run(
        &mut self,
        hidden: ArrayView3<S>,
        mask: Option<ArrayView2<bool>>,
        trace: Option<&mut Trace<S>>,
    ) -> Result<LayerFed<S>> {
        let (b, t, width) = hidden.dim();
        if width != self.hidden_dim {
            let expected = format!("[sequences, tokens, hidden {}]", self.hidden_dim);
            return Err(Error::Shape { tensor: "hidden", expected, found: hidden.shape().to_vec() });
        }
        check_finite("hidden", hidden)?;
        let rows = Array2::from_shape_fn((b * t, width), |(row, i)| hidden[[row / t, row % t, i]]);
        let settings = self.memory.settings().clone();
        let stages = self.memory.stages;
        self.memory.still_running()?;
        let mut projected = (stages.project)(&settings, self.memory.rules(), &self.projection, rows.view())?;
        projected.queries = stages.kept(projected.queries);
        projected.values = stages.kept(projected.values);
        projected.gates = projected.gates.map(|gates| stages.kept(gates));
        self.memory.finite("projection", "queries", projected.queries.iter())?;
        self.memory.finite("projection", "values", projected.values.iter())?;
        self.memory.finite("projection", "gates", projected.gates.iter().flatten())?;
        let queries = by_sequence(&projected.queries, b, t);
        let values = by_sequence(&projected.values, b, t);
        let gates = projected.gates.as_ref().filter(|_| settings.gate_weighted_loss);
        let gates = gates.map(|gates: &Array1<S>| Array2::from_shape_fn((b, t), |(b, i)| gates[b * t + i]));
        let tokens = Tokens {
            queries: queries.view(),
            values: values.view(),
            gates: gates.as_ref().map(|gates| gates.view()),
            mask,
        };
        let fed = match trace {
            Some(trace) => self.memory.feed_traced(&tokens, trace)?,
            None => self.memory.feed(&tokens)?,
        };
        let reads = Array2::from_shape_fn((b * t, settings.value_dim), |(row, i)| fed.reads[[row / t, row % t, i]]);
        let gates = projected.gates.as_ref().filter(|_| settings.output_gate);
        let (reads, values) = (reads.view(), projected.values.view());
        let mut output = (stages.output)(&settings, &self.projection.output, reads, values, gates, rows.view());
        output.mixed = stages.kept(output.mixed);
        output.layer = stages.kept(output.layer);
        output.hidden = stages.kept(output.hidden);
        self.memory.finite("output", "mixed", output.mixed.iter())?;
        self.memory.finite("output", "layer", output.layer.iter())?;
        self.memory.finite("output", "hidden", output.hidden.iter())?;
        Ok(LayerFed { projected, memory: fed, output })
    }
}

/// [B·T, width] as [B, T, width]
fn by_sequence<S: Scalar>(rows: &Array2<S>, b: usize, t: usize) -> Array3<S> {
    Array3::from_shape_fn((b, t, rows.ncols()), |(sequence, token, i)| rows[[sequence * t + token, i]])
}
