//! The tokens of a call: what is checked of them, and their order on the device.                  BAT-1, NUM-7

use fwpkm_reference::numerics::check_finite;
use fwpkm_reference::stream::Queued;
use fwpkm_reference::{Error, Settings, Tokens};
use ndarray::{Array, ArrayView, Dimension, s};

/// Checks shapes and that every number is finite, with the interpreter's errors.                    [NUM-7]
pub(crate) fn check(settings: &Settings, tokens: &Tokens<f32>) -> Result<(), Error> {
    let (b, t, width) = tokens.queries.dim();
    let query_dim = settings.heads * settings.key_dim;
    if width != query_dim || b == 0 {
        let expected = format!("[sequences 1 or more, tokens, heads·key_dim {query_dim}]");
        return Err(Error::Shape { tensor: "queries", expected, found: tokens.queries.shape().to_vec() });
    }
    let value_dim = settings.value_dim;
    shape_is("values", tokens.values.shape(), &[b, t, value_dim], || {
        format!("[sequences {b}, tokens {t}, {value_dim}]")
    })?;
    check_finite("queries", tokens.queries)?;
    check_finite("values", tokens.values)?;
    let two = || format!("[sequences {b}, tokens {t}]");
    if let Some(gates) = tokens.gates {
        shape_is("gates", gates.shape(), &[b, t], two)?;
        check_finite("gates", gates)?;
    }
    tokens.mask.map_or(Ok(()), |mask| shape_is("mask", mask.shape(), &[b, t], two))
}

fn shape_is(
    tensor: &'static str,
    found: &[usize],
    wanted: &[usize],
    expected: impl Fn() -> String,
) -> Result<(), Error> {
    if found == wanted { Ok(()) } else { Err(Error::Shape { tensor, expected: expected(), found: found.to_vec() }) }
}

/// Tokens `from` to `to` of a call, tokens first, then sequences.
pub(crate) fn time_major(tokens: &Tokens<f32>, from: usize, to: usize) -> Queued<f32> {
    Queued {
        queries: swap(tokens.queries.slice(s![.., from..to, ..])),
        values: swap(tokens.values.slice(s![.., from..to, ..])),
        gates: tokens.gates.map(|gates| swap(gates.slice(s![.., from..to]))),
        mask: tokens.mask.map(|mask| swap(mask.slice(s![.., from..to]))),
    }
}

fn swap<T: Clone, D: Dimension>(mut tokens: ArrayView<T, D>) -> Array<T, D> {
    tokens.swap_axes(0, 1);
    tokens.as_standard_layout().into_owned()
}
