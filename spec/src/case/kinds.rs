//! The values a key of a case may have.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The largest size a case may state; sizes are still to be held against the shapes of the tensors.
pub const MAX_SIZE: usize = 1 << 30;

/// The largest integer that JSON readers agree on.
const MAX_INTEGER: f64 = 9_007_199_254_740_992.0;

/// A kind of value: in words, and how it is read.
pub(super) struct Kind<T> {
    /// What is allowed, as it stands in an error.
    pub(super) allowed: &'static str,
    /// The value, if it is of this kind.
    pub(super) read: fn(&Value) -> Option<T>,
}

pub(super) const SIZE: Kind<usize> = Kind { allowed: "a whole number from 0 to 2^30", read: size };
pub(super) const POSITIVE_SIZE: Kind<usize> =
    Kind { allowed: "a whole number from 1 to 2^30", read: |value| size(value).filter(|&size| size > 0) };
pub(super) const EVEN_SIZE: Kind<usize> = Kind {
    allowed: "an even number from 2 to 2^30",
    read: |value| size(value).filter(|&size| size > 0 && size % 2 == 0),
};
pub(super) const SIZES: Kind<Vec<usize>> = Kind {
    allowed: "a list of whole numbers from 0 to 2^30",
    read: |value| value.as_array()?.iter().map(size).collect(),
};
pub(super) const OPERATIONS: Kind<Vec<Vec<Operation>>> = Kind {
    allowed: "a list of lists of \"flush\", \"reset_queue\" and \"reset_tables\"",
    read: |value| value.as_array()?.iter().map(|list| list.as_array()?.iter().map(choice).collect()).collect(),
};
pub(super) const SEED: Kind<u64> = Kind { allowed: "a whole number from 0 to 2^64 - 1", read: whole };
pub(super) const NUMBER: Kind<f64> =
    Kind { allowed: "a number from 0", read: |value| value.as_f64().filter(|&number| number >= 0.0) };
pub(super) const POSITIVE_NUMBER: Kind<f64> =
    Kind { allowed: "a number above 0", read: |value| value.as_f64().filter(|&number| number > 0.0) };
pub(super) const SIGNED_NUMBER: Kind<f64> = Kind { allowed: "a number", read: Value::as_f64 };
pub(super) const FLAG: Kind<bool> = Kind { allowed: "true or false", read: Value::as_bool };
pub(super) const TEXT: Kind<String> = Kind { allowed: "a string", read: |value| value.as_str().map(str::to_owned) };
pub(super) const RULES: Kind<Value> = Kind {
    allowed: "\"paper\", \"release\" or an object of fields",
    read: |value| (value.is_object() || matches!(value.as_str(), Some("paper" | "release"))).then(|| value.clone()),
};
pub(super) const SCORE: Kind<Score> = Kind { allowed: "\"idw\" or \"dot_product\"", read: choice };
pub(super) const NONLINEAR: Kind<Nonlinear> = Kind { allowed: "\"softmax\", \"silu\" or \"relu\"", read: choice };
pub(super) const MODE: Kind<Mode> = Kind { allowed: "\"one_shot\", \"streaming\" or \"layer\"", read: choice };
pub(super) const ADDRESSING_LOSS: Kind<Option<AddressingLoss>> =
    Kind { allowed: "\"me\" or null", read: choice_or_null };
pub(super) const COMPRESS: Kind<Option<Compress>> =
    Kind { allowed: "\"zero_mean\", \"l2norm\" or null", read: choice_or_null };
pub(super) const BORDER: Kind<Border> = Kind { allowed: "\"drop\" or \"carry\"", read: choice };
pub(super) const WEIGHTS_OVER: Kind<WeightsOver> = Kind { allowed: "\"all_heads\" or \"each_head\"", read: choice };

/// How queries and sub-keys are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Score {
    /// Inverse distance, `-ln(epsilon + distance²)`.
    Idw,
    /// The inner product.
    DotProduct,
}

/// How scores become weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Nonlinear {
    /// Exponentials, normalised.
    Softmax,
    /// `x·sigmoid(x)`.
    Silu,
    /// `max(x, 0)`.
    Relu,
}

/// How a case is fed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The memory; all tokens in one call.
    OneShot,
    /// The memory; calls of the lengths in `splits`.
    Streaming,
    /// The whole layer, from hidden states; one call.
    Layer,
}

/// The loss of the addressing step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AddressingLoss {
    /// Minus the entropy of the marginal usage of sub-keys; written `me`.
    #[serde(rename = "me")]
    MarginalEntropy,
}

/// How queries or values are normalised after their projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compress {
    /// z-score over the features.
    ZeroMean,
    /// l2 normalisation; written `l2norm`.
    #[serde(rename = "l2norm")]
    L2Norm,
}

/// What becomes of pairs that cross a chunk border.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Border {
    /// They are dropped.
    Drop,
    /// They wait in the queue for their target.
    Carry,
}

/// What happens between two calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// The chunk that is open is closed.
    Flush,
    /// The queue is emptied.
    ResetQueue,
    /// The tables are those of the beginning again.
    ResetTables,
}

/// What the weights of one read are normalised over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightsOver {
    /// The chosen slots of all heads together.
    AllHeads,
    /// The chosen slots of each head by itself.
    EachHead,
}

/// A whole number, which may be written 8 or 8.0.
fn whole(value: &Value) -> Option<u64> {
    let exact = |number: &f64| (0.0..=MAX_INTEGER).contains(number) && number.fract() == 0.0;
    #[expect(clippy::cast_sign_loss, reason = "checked to be from 0")]
    value.as_u64().or_else(|| value.as_f64().filter(exact).map(|number| number as u64))
}

fn size(value: &Value) -> Option<usize> {
    whole(value).and_then(|size| usize::try_from(size).ok()).filter(|&size| size <= MAX_SIZE)
}

/// One of the names of an enum.
fn choice<T: for<'de> Deserialize<'de>>(value: &Value) -> Option<T> {
    if value.is_string() { T::deserialize(value).ok() } else { None }
}

/// One of the names of an enum, or null for none of them.
#[expect(clippy::option_option, reason = "the outer none is a wrong value, the inner one is null")]
fn choice_or_null<T: for<'de> Deserialize<'de>>(value: &Value) -> Option<Option<T>> {
    if value.is_null() { Some(None) } else { choice(value).map(Some) }
}
