//! What a case states: the JSON object `case` in the metadata of a case file.
//!
//! The keys are those of the authors' release, so that its recorded outputs and ours are files of one form; a few keys of
//! ours are optional. `schema/case.schema.json` says the same for other languages.

mod kinds;
mod object;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

pub use kinds::{AddressingLoss, Border, Compress, MAX_SIZE, Mode, Nonlinear, Operation, Score, WeightsOver};

use crate::error::Error;
use object::Object;

/// The epsilon of the inverse-distance score where a case states none.
pub const DEFAULT_EPSILON: f64 = 1e-3;

/// One case: the shapes, the settings, and how its tensors are fed. Field names are the keys of the JSON object.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Case {
    /// Sequences.
    pub batch: usize,
    /// Tokens per sequence, in all calls together.
    pub tokens: usize,
    /// Sub-keys per half; there are `n_subkeys²` slots.
    pub n_subkeys: usize,
    /// Numbers of a query per head, both halves together; even.
    pub d_k: usize,
    /// Numbers of a value.
    pub d_v: usize,
    /// Heads.
    pub heads: usize,
    /// Slots read per head; at most `n_subkeys`.
    pub topk: usize,
    /// Tokens per chunk.
    pub chunk: usize,
    /// Tokens between a query and its target.
    pub lookahead: usize,
    /// How queries and sub-keys are compared.
    pub score: Score,
    /// How scores become weights.
    pub nonlinear: Nonlinear,
    /// What scores are divided by before that.
    pub temperature: f64,
    /// The step size of both tables.
    pub learning_rate: f64,
    /// The weight decay of both tables.
    pub weight_decay: f64,
    /// Whether the memorization gradient stays off the sub-keys.
    pub mem_grad_to_values_only: bool,
    /// Whether each gradient element is clamped to ±1.
    pub grad_clip: bool,
    /// The addressing loss; none: no addressing step.
    pub addr_loss: Option<AddressingLoss>,
    /// Its weight.
    pub addr_loss_weight: f64,
    /// How the tokens are fed, and whether the case is the memory or the layer around it.
    pub mode: Mode,
    /// Tokens of each call, in order; always there in mode streaming.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub splits: Option<Vec<usize>>,
    /// What follows each call, in order, before the next one; the last one's comes before the flush of `flush`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_calls: Option<Vec<Vec<Operation>>>,
    /// The settings of the layer; there in mode layer and only there.
    #[serde(flatten)]
    pub layer: Option<Layer>,
    /// Whether the case has `in.gates`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gates: Option<bool>,
    /// Whether the case has `in.mask`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask: Option<bool>,
    /// Whether the case has outer gradients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train: Option<bool>,
    /// The seed its inputs were drawn with; information only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// What its queries were multiplied by; information only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_scale: Option<f64>,
    /// What its sub-keys were multiplied by; information only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_scale: Option<f64>,
    /// The version of the specification it was written under.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<String>,
    /// The epsilon of the inverse-distance score; [`DEFAULT_EPSILON`] where the object states none.
    pub epsilon: f64,
    /// The rules its outputs follow: "paper", "release", or an object of fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<Value>,
    /// What becomes of pairs that cross a chunk border.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub border: Option<Border>,
    /// Whether a flush follows the last token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flush: Option<bool>,
    /// Whether the tables are written at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writes: Option<bool>,
    /// What the weights of one read are normalised over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights_over: Option<WeightsOver>,
    /// The bound each gradient element is clamped to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gradient_clip: Option<f64>,
    /// Keys of the object that nothing here reads, in alphabetical order; outside mode layer also the keys of [`Layer`].
    /// They are reported, not refused, and not written again.
    #[serde(skip)]
    pub unknown: Vec<String>,
}

/// The settings of the layer around the memory.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Layer {
    /// Numbers of a hidden state.
    pub hidden: usize,
    /// The epsilon of the `RMSNorm`s.
    pub rms_eps: f64,
    /// How values are normalised after their projection; none: not.
    pub compress_value: Option<Compress>,
    /// How queries are normalised after their projection, each half by itself; none: not.
    pub compress_query: Option<Compress>,
    /// Whether the gate mixes reads and values.
    pub fuse_gate: bool,
    /// Whether the gate weighs the loss.
    pub weight_loss_with_gates: bool,
}

impl Case {
    /// Reads the JSON object of a case.
    ///
    /// # Errors
    /// `Json` for what is no JSON object or has a key twice; `Key` for a missing key, a value of the wrong type or out of
    /// range, an odd `d_k`, a `topk` above `n_subkeys`, `splits` that do not add up to `tokens`, `after_calls` of another length.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut object = Object::parse(text)?;
        let mode = object.required("mode", &kinds::MODE)?;
        let layer = if mode == Mode::Layer { Some(Layer::read(&mut object)?) } else { None };
        let splits = match mode {
            Mode::Streaming => Some(object.required("splits", &kinds::SIZES)?),
            Mode::OneShot | Mode::Layer => object.optional("splits", &kinds::SIZES)?,
        };
        let case = Self {
            batch: object.required("batch", &kinds::POSITIVE_SIZE)?,
            tokens: object.required("tokens", &kinds::SIZE)?,
            n_subkeys: object.required("n_subkeys", &kinds::POSITIVE_SIZE)?,
            d_k: object.required("d_k", &kinds::EVEN_SIZE)?,
            d_v: object.required("d_v", &kinds::POSITIVE_SIZE)?,
            heads: object.required("heads", &kinds::POSITIVE_SIZE)?,
            topk: object.required("topk", &kinds::POSITIVE_SIZE)?,
            chunk: object.required("chunk", &kinds::POSITIVE_SIZE)?,
            lookahead: object.required("lookahead", &kinds::SIZE)?,
            score: object.required("score", &kinds::SCORE)?,
            nonlinear: object.required("nonlinear", &kinds::NONLINEAR)?,
            temperature: object.required("temperature", &kinds::POSITIVE_NUMBER)?,
            learning_rate: object.required("learning_rate", &kinds::NUMBER)?,
            weight_decay: object.required("weight_decay", &kinds::NUMBER)?,
            mem_grad_to_values_only: object.required("mem_grad_to_values_only", &kinds::FLAG)?,
            grad_clip: object.required("grad_clip", &kinds::FLAG)?,
            addr_loss: object.required("addr_loss", &kinds::ADDRESSING_LOSS)?,
            addr_loss_weight: object.required("addr_loss_weight", &kinds::NUMBER)?,
            mode,
            splits,
            after_calls: object.optional("after_calls", &kinds::OPERATIONS)?,
            layer,
            gates: object.optional("gates", &kinds::FLAG)?,
            mask: object.optional("mask", &kinds::FLAG)?,
            train: object.optional("train", &kinds::FLAG)?,
            seed: object.optional("seed", &kinds::SEED)?,
            query_scale: object.optional("query_scale", &kinds::SIGNED_NUMBER)?,
            key_scale: object.optional("key_scale", &kinds::SIGNED_NUMBER)?,
            spec: object.optional("spec", &kinds::TEXT)?,
            epsilon: object.optional("epsilon", &kinds::POSITIVE_NUMBER)?.unwrap_or(DEFAULT_EPSILON),
            rules: object.optional("rules", &kinds::RULES)?,
            border: object.optional("border", &kinds::BORDER)?,
            flush: object.optional("flush", &kinds::FLAG)?,
            writes: object.optional("writes", &kinds::FLAG)?,
            weights_over: object.optional("weights_over", &kinds::WEIGHTS_OVER)?,
            gradient_clip: object.optional("gradient_clip", &kinds::POSITIVE_NUMBER)?,
            unknown: object.into_unread_keys(),
        };
        case.check()?;
        Ok(case)
    }

    /// What no single key says: the slots read are there to be read, the calls make up the tokens.
    fn check(&self) -> Result<(), Error> {
        if self.topk > self.n_subkeys {
            let expected = format!("at most n_subkeys = {}", self.n_subkeys);
            return Err(Error::Key { key: "topk".to_owned(), expected, found: self.topk.to_string() });
        }
        let calls = self.splits.as_ref().map_or(1, Vec::len);
        if let Some(after_calls) = self.after_calls.as_ref().filter(|after_calls| after_calls.len() != calls) {
            let expected = format!("a list for each of the calls, of which there are {calls}");
            let found = format!("a list of length {}", after_calls.len());
            return Err(Error::Key { key: "after_calls".to_owned(), expected, found });
        }
        let Some(splits) = &self.splits else { return Ok(()) };
        let sum = splits.iter().fold(0_usize, |sum, &tokens| sum.saturating_add(tokens));
        if sum != self.tokens {
            let expected = format!("a list that adds up to tokens = {}", self.tokens);
            return Err(Error::Key {
                key: "splits".to_owned(),
                expected,
                found: format!("{} calls of {sum} in all", splits.len()),
            });
        }
        Ok(())
    }

    /// The JSON object, keys in the order of the fields; what [`Case::parse`] reads as the same case, without unknown keys.
    ///
    /// # Errors
    /// `Json` where a number is not finite.
    pub fn to_json(&self) -> Result<String, Error> {
        let numbers = [
            self.temperature,
            self.learning_rate,
            self.weight_decay,
            self.addr_loss_weight,
            self.epsilon,
            self.gradient_clip.unwrap_or_default(),
            self.query_scale.unwrap_or_default(),
            self.key_scale.unwrap_or_default(),
            self.layer.as_ref().map_or(0.0, |layer| layer.rms_eps),
        ];
        let json_error = |found: String| Error::Json { expected: "finite numbers", found };
        if let Some(number) = numbers.into_iter().find(|number| !number.is_finite()) {
            return Err(json_error(number.to_string()));
        }
        serde_json::to_string(self).map_err(|error| json_error(error.to_string()))
    }

    /// The metadata of a case file: `case`, and `source` where there is one.
    ///
    /// # Errors
    /// Those of [`Case::to_json`].
    pub fn metadata(&self, source: Option<&str>) -> Result<BTreeMap<String, String>, Error> {
        let mut metadata = BTreeMap::from([("case".to_owned(), self.to_json()?)]);
        metadata.extend(source.map(|source| ("source".to_owned(), source.to_owned())));
        Ok(metadata)
    }
}

impl Layer {
    fn read(object: &mut Object) -> Result<Self, Error> {
        Ok(Self {
            hidden: object.required("hidden", &kinds::POSITIVE_SIZE)?,
            rms_eps: object.required("rms_eps", &kinds::POSITIVE_NUMBER)?,
            compress_value: object.required("compress_value", &kinds::COMPRESS)?,
            compress_query: object.required("compress_query", &kinds::COMPRESS)?,
            fuse_gate: object.required("fuse_gate", &kinds::FLAG)?,
            weight_loss_with_gates: object.required("weight_loss_with_gates", &kinds::FLAG)?,
        })
    }
}

#[cfg(test)]
mod schema_tests;
#[cfg(test)]
mod tests;
