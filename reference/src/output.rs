//! Stage `output`: reads and values to the layer's output.                           OUT-1 … OUT-3
//!
//! ```text
//! mixed_t = g_t · read_t + (1 - g_t) · value_t          (without a gate: read_t + value_t)
//! layer_t = W_o RMSNorm_o(mixed_t) + b_o
//! result  = hidden_t + layer_t
//! ```

use ndarray::{Array1, Array2, ArrayView2, Zip};

use crate::projection::NormedLinear;
use crate::scalar::Scalar;
use crate::settings::Settings;

/// The layer's output at its three points, one row per token.
#[derive(Clone, Debug)]
pub struct Output<S> {
    /// Gated mixture of read and value: [rows, `d_v`].
    pub mixed: Array2<S>,
    /// Projected to the model's width: [rows, hidden].
    pub layer: Array2<S>,
    /// Added to the residual stream: [rows, hidden].
    pub hidden: Array2<S>,
}

/// Mixes, projects and adds to the residual stream.
///
/// # Shapes   reads, values: [rows, `d_v`]; gates: `[rows]`; hidden: [rows, hidden]
/// # Source   arXiv 2601.00671 eq. 12; without the gate as in the release
pub fn output<S: Scalar>(
    settings: &Settings,
    projection: &NormedLinear<S>,
    reads: ArrayView2<S>,
    values: ArrayView2<S>,
    gates: Option<&Array1<S>>,
    hidden: ArrayView2<S>,
) -> Output<S> {
    let mixed = mix(reads, values, gates);
    let layer = project(projection, mixed.view(), settings.rms_epsilon);
    let hidden = add_residual(hidden, layer.view());
    Output { mixed, layer, hidden }
}

/// g·read + (1 - g)·value, or read + value                                                 [OUT-1]
///
/// ```
/// use ndarray::{arr1, arr2};
/// let mixed = fwpkm_reference::output::mix(arr2(&[[8.0]]).view(), arr2(&[[4.0]]).view(), Some(&arr1(&[0.25])));
/// assert_eq!(mixed, arr2(&[[5.0]]));
/// ```
pub fn mix<S: Scalar>(reads: ArrayView2<S>, values: ArrayView2<S>, gates: Option<&Array1<S>>) -> Array2<S> {
    let mut mixed = Zip::from(reads).and(values).map_collect(|&read, &value| read + value);
    if let Some(gates) = gates {
        for (((mut mixed, read), value), &g) in
            mixed.rows_mut().into_iter().zip(reads.rows()).zip(values.rows()).zip(gates)
        {
            Zip::from(&mut mixed).and(read).and(value).for_each(|mixed, &read, &value| {
                *mixed = g * read + (S::ONE - g) * value;
            });
        }
    }
    mixed
}

/// W·RMSNorm(mixed) + b                                                                    [OUT-2]
pub fn project<S: Scalar>(projection: &NormedLinear<S>, mixed: ArrayView2<S>, rms_epsilon: f64) -> Array2<S> {
    projection.apply(mixed, rms_epsilon)
}

/// hidden + layer                                                                          [OUT-3]
pub fn add_residual<S: Scalar>(hidden: ArrayView2<S>, layer: ArrayView2<S>) -> Array2<S> {
    Zip::from(hidden).and(layer).map_collect(|&hidden, &layer| hidden + layer)
}
