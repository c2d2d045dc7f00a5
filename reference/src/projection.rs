//! Stage `projection`: hidden states to queries, values and gates.                 PRJ-1 … PRJ-6
//!
//! ```text
//! queries_t = norm_q( W_q RMSNorm_q(h_t) + b_q )
//! values_t  = norm_v( W_v RMSNorm_v(h_t) + b_v )
//! gate_t    = sigmoid( mean over outputs of W_g RMSNorm_g(h_t) + b_g )
//! ```

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, ArrayViewMut1, Axis, Zip, s};

use crate::batch::shape_is;
use crate::error::Result;
use crate::numerics::check_finite;
use crate::rules::{Rules, ZScore};
use crate::scalar::{Scalar, sum, sum_over};
use crate::settings::{Norm, Settings, setting};

/// A root-mean-square normalisation followed by a linear map.
///
/// # Shapes   norm: `[in]`; weight: [out, in]; bias: `[out]`
#[derive(Clone, Debug)]
pub struct NormedLinear<S> {
    /// w of `RMSNorm`, which scales by 1 + w.
    pub norm: Array1<S>,
    /// W
    pub weight: Array2<S>,
    /// b
    pub bias: Array1<S>,
}

impl<S: Scalar> NormedLinear<S> {
    /// W · RMSNorm(x) + b for every row.                                             [PRJ-1, PRJ-2]
    ///
    /// # Shapes   rows: [rows, in]; result: [rows, out]
    pub fn apply(&self, rows: ArrayView2<S>, rms_epsilon: f64) -> Array2<S> {
        let mut out = Array2::from_elem((rows.nrows(), self.bias.len()), S::ZERO);
        Zip::from(out.rows_mut()).and(rows.rows()).par_for_each(|out, row| {
            let normed = rms_norm(row, self.norm.view(), rms_epsilon);
            linear(normed.view(), self.weight.view(), self.bias.view(), out);
        });
        out
    }

    /// Checks shapes (`inputs` wide, and `outputs` high where that is fixed) and finiteness; names are those of norm, weight, bias.
    ///
    /// # Errors   `Error::Shape`, `Error::NotFinite`
    pub fn check(&self, names: [&'static str; 3], inputs: usize, outputs: Option<usize>) -> Result<()> {
        let high = outputs.unwrap_or(self.weight.nrows().max(1));
        shape_is(names[0], self.norm.shape(), &[inputs], || format!("[in {inputs}]"))?;
        shape_is(names[1], self.weight.shape(), &[high, inputs], || format!("[out {high}, in {inputs}]"))?;
        shape_is(names[2], self.bias.shape(), &[high], || format!("[out {high}]"))?;
        check_finite(names[0], self.norm.view())?;
        check_finite(names[1], self.weight.view())?;
        check_finite(names[2], self.bias.view())
    }
}

/// The four learned maps around the memory.
#[derive(Clone, Debug)]
pub struct Projection<S> {
    /// hidden → H·`d_k`
    pub query: NormedLinear<S>,
    /// hidden → `d_v`
    pub value: NormedLinear<S>,
    /// hidden → G outputs, averaged before the sigmoid; absent without output gate.
    pub gate: Option<NormedLinear<S>>,
    /// `d_v` → hidden
    pub output: NormedLinear<S>,
}

/// What the projections give, one row per token.
///
/// # Shapes   queries: [rows, H·`d_k`]; values: [rows, `d_v`]; gates: `[rows]`
#[derive(Clone, Debug)]
pub struct Projected<S> {
    /// q
    pub queries: Array2<S>,
    /// v, target and residual path alike
    pub values: Array2<S>,
    /// g
    pub gates: Option<Array1<S>>,
}

/// Queries, values and gates of hidden states.                                             [PRJ-6]
///
/// # Shapes   hidden: [rows, hidden]
/// Where a mean square, variance or sum of squares overflows, the row is NaN (NUM-7).
///
/// # Errors   `Error::Setting` where a z-score has too few features
/// # Source   arXiv 2601.00671 eqs 8-10, App. A.3; biases, 1 + w and the mean of gate outputs from the release
pub fn project<S: Scalar>(
    settings: &Settings,
    rules: &Rules,
    projection: &Projection<S>,
    hidden: ArrayView2<S>,
) -> Result<Projected<S>> {
    let epsilon = settings.rms_epsilon;
    let mut queries = projection.query.apply(hidden, epsilon);
    let halves = queries.ncols() / 2;
    normalise(settings.query_norm, rules.z_score, queries.slice_mut(s![.., ..halves]).rows_mut())?;
    normalise(settings.query_norm, rules.z_score, queries.slice_mut(s![.., halves..]).rows_mut())?;
    let mut values = projection.value.apply(hidden, epsilon);
    normalise(settings.value_norm, rules.z_score, values.rows_mut())?;
    let gates = projection.gate.as_ref().map(|gate| gates(&gate.apply(hidden, epsilon)));
    Ok(Projected { queries, values, gates })
}

/// x · 1/√(mean x² + ε) · (1 + w)                                                          [PRJ-1]
///
/// ```
/// use ndarray::arr1;
/// let x = fwpkm_reference::projection::rms_norm(arr1(&[3.0, 4.0]).view(), arr1(&[0.0, 1.0]).view(), 0.0);
/// assert!((x[0] - 3.0 / 12.5f64.sqrt()).abs() < 1e-15 && (x[1] - 8.0 / 12.5f64.sqrt()).abs() < 1e-15);
/// ```
pub fn rms_norm<S: Scalar>(x: ArrayView1<S>, w: ArrayView1<S>, epsilon: f64) -> Array1<S> {
    let mean_square = finite_or_nan(sum_over(x, x, |a, b| a * b) / S::from_f64(x.len() as f64));
    let scale = S::ONE / (mean_square + S::from_f64(epsilon)).sqrt();
    Zip::from(x).and(w).map_collect(|&x, &w| x * scale * (S::ONE + w))
}

/// What overflowed must not come back as the 0 that a division by it gives                   [NUM-7]
fn finite_or_nan<S: Scalar>(x: S) -> S {
    if x.is_finite() { x } else { S::from_f64(f64::NAN) }
}

/// W·x + b                                                                                 [PRJ-2]
pub fn linear<S: Scalar>(x: ArrayView1<S>, weight: ArrayView2<S>, bias: ArrayView1<S>, mut out: ArrayViewMut1<S>) {
    for ((out, row), &b) in out.iter_mut().zip(weight.rows()).zip(bias) {
        *out = sum_over(row, x, |w, x| w * x) + b;
    }
}

/// z-score, l2 or nothing, of each row in place                                             [PRJ-6]
pub fn normalise<'a, S: Scalar>(
    norm: Norm,
    z_score_rule: ZScore,
    rows: impl IntoIterator<Item = ArrayViewMut1<'a, S>>,
) -> Result<()> {
    for row in rows {
        match norm {
            Norm::ZScore => z_score(row, z_score_rule)?,
            Norm::L2 => l2(row),
            Norm::None => {}
        }
    }
    Ok(())
}

/// (x - mean) / (std + 1e-6), in place                                                     [PRJ-3]
///
/// # Errors   `Error::Setting` for fewer than two features under the sample rule
pub fn z_score<S: Scalar>(mut x: ArrayViewMut1<S>, rule: ZScore) -> Result<()> {
    let count = x.len();
    let divisor = match rule {
        ZScore::Sample if count < 2 => {
            return Err(setting("value_norm or query_norm", "z_score", "two features or more under z_score sample"));
        }
        ZScore::Sample => count - 1,
        ZScore::Population => count,
    };
    let mean = sum(x.view()) / S::from_f64(count as f64);
    let variance = sum_over(x.view(), x.view(), |a, b| (a - mean) * (b - mean)) / S::from_f64(divisor as f64);
    let spread = finite_or_nan(variance).sqrt() + S::from_f64(1e-6);
    x.mapv_inplace(|x| (x - mean) / spread);
    Ok(())
}

/// x / √(Σx² + 1e-6), in place                                                             [PRJ-4]
pub fn l2<S: Scalar>(mut x: ArrayViewMut1<S>) {
    let squares = finite_or_nan(sum_over(x.view(), x.view(), |a, b| a * b));
    let scale = S::ONE / (squares + S::from_f64(1e-6)).sqrt();
    x.mapv_inplace(|x| x * scale);
}

/// sigmoid of the mean over gate outputs, one gate per row                                 [PRJ-5]
pub fn gates<S: Scalar>(outputs: &Array2<S>) -> Array1<S> {
    let count = S::from_f64(outputs.ncols() as f64);
    outputs.map_axis(Axis(1), |row| sigmoid(sum(row) / count))
}

/// 1 / (1 + e^-x), without overflow
pub fn sigmoid<S: Scalar>(x: S) -> S {
    if x >= S::ZERO {
        S::ONE / (S::ONE + (-x).exp())
    } else {
        let e = x.exp();
        e / (S::ONE + e)
    }
}
