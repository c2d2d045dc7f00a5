//! Settings and rules from TOML and from case files.
//!
//! A settings file holds fields of `Settings`, a rules file `base = "paper" | "release"` and fields of `Rules`, both
//! named as in SPEC.md. Names that do not exist are refused with the names that do.

mod names;

use fwpkm_reference::rules::Rules;
use fwpkm_reference::settings::{Activation, Border, Norm, Score, Settings, WeightsOver};
use fwpkm_spec::case::{self, Case, Compress, Mode, Nonlinear};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

pub use names::{
    ActivationName, BorderName, KeptName, NormName, PairFactorName, ReadFactorName, ScoreName, StreamCountName,
    SubKeyLossName, WeightsOverName, ZScoreName,
};

/// Named points of [`Rules`].
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Base {
    /// [`Rules::paper`]
    Paper,
    /// [`Rules::release`]
    Release,
}

/// A rules file.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RulesFile {
    base: Option<Base>,
    read_factor: Option<ReadFactorName>,
    pair_factor: Option<PairFactorName>,
    stream_count: Option<StreamCountName>,
    log_epsilon: Option<f64>,
    kept: Option<KeptName>,
    z_score: Option<ZScoreName>,
    sub_key_loss: Option<SubKeyLossName>,
}

fn set<T, N: Into<T>>(field: &mut T, name: Option<N>) {
    if let Some(name) = name {
        *field = name.into();
    }
}

impl From<&Rules> for RulesFile {
    fn from(rules: &Rules) -> Self {
        Self {
            base: None,
            read_factor: Some(rules.read_factor.into()),
            pair_factor: Some(rules.pair_factor.into()),
            stream_count: Some(rules.stream_count.into()),
            log_epsilon: Some(rules.log_epsilon),
            kept: Some(rules.kept.into()),
            z_score: Some(rules.z_score.into()),
            sub_key_loss: Some(rules.sub_key_loss.into()),
        }
    }
}

impl RulesFile {
    /// The rules it states.
    pub fn rules(self) -> Result<Rules> {
        let mut rules = match self.base {
            Some(Base::Release) => Rules::release(),
            Some(Base::Paper) | None => Rules::paper(),
        };
        set(&mut rules.read_factor, self.read_factor);
        set(&mut rules.pair_factor, self.pair_factor);
        set(&mut rules.stream_count, self.stream_count);
        set(&mut rules.log_epsilon, self.log_epsilon);
        set(&mut rules.kept, self.kept);
        set(&mut rules.z_score, self.z_score);
        set(&mut rules.sub_key_loss, self.sub_key_loss);
        rules.check()?;
        Ok(rules)
    }
}

/// Rules by name, or from a TOML file.
///
/// # Errors   `Error::Rules` for what is neither; `Error::Toml` with the line and the names allowed
pub fn rules(name_or_path: &str) -> Result<Rules> {
    match name_or_path {
        "paper" => Ok(Rules::paper()),
        "release" => Ok(Rules::release()),
        path => {
            let reason = |e: std::io::Error| Error::Rules { given: path.to_string(), reason: e.to_string() };
            let text = std::fs::read_to_string(path).map_err(reason)?;
            toml_text::<RulesFile>(path, &text)?.rules()
        }
    }
}

/// Rules that a case states: a name, or an object of fields.
pub fn rules_of_case(case: &Case) -> Result<Rules> {
    match &case.rules {
        None => Ok(Rules::release()),
        Some(serde_json::Value::String(name)) if name == "paper" => Ok(Rules::paper()),
        Some(serde_json::Value::String(name)) if name == "release" => Ok(Rules::release()),
        Some(object) => {
            let reason =
                |e: serde_json::Error| Error::Rules { given: "the case's rules".into(), reason: e.to_string() };
            serde_json::from_value::<RulesFile>(object.clone()).map_err(reason)?.rules()
        }
    }
}

/// A settings file. Shapes (heads, `sub_keys`, `key_dim`, `value_dim`) may be given; they are then checked.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SettingsFile {
    heads: Option<usize>,
    sub_keys: Option<usize>,
    key_dim: Option<usize>,
    value_dim: Option<usize>,
    top_k: Option<usize>,
    chunk: Option<usize>,
    lookahead: Option<usize>,
    border: Option<BorderName>,
    learning_rate: Option<f64>,
    weight_decay: Option<f64>,
    gradient_clip: Option<f64>,
    score: Option<ScoreName>,
    epsilon: Option<f64>,
    activation: Option<ActivationName>,
    temperature: Option<f64>,
    weights_over: Option<WeightsOverName>,
    writes: Option<bool>,
    addressing_weight: Option<f64>,
    memory_gradient_to_sub_keys: Option<bool>,
    value_norm: Option<NormName>,
    query_norm: Option<NormName>,
    output_gate: Option<bool>,
    gate_weighted_loss: Option<bool>,
    rms_epsilon: Option<f64>,
}

impl From<&Settings> for SettingsFile {
    fn from(settings: &Settings) -> Self {
        let (score, epsilon) = match settings.score {
            Score::InverseDistance { epsilon } => (ScoreName::InverseDistance, Some(epsilon)),
            Score::DotProduct => (ScoreName::DotProduct, None),
        };
        Self {
            heads: Some(settings.heads),
            sub_keys: Some(settings.sub_keys),
            key_dim: Some(settings.key_dim),
            value_dim: Some(settings.value_dim),
            top_k: Some(settings.top_k),
            chunk: Some(settings.chunk),
            lookahead: Some(settings.lookahead),
            border: Some(settings.border.into()),
            learning_rate: Some(settings.learning_rate),
            weight_decay: Some(settings.weight_decay),
            gradient_clip: settings.gradient_clip,
            score: Some(score),
            epsilon,
            activation: Some(settings.activation.into()),
            temperature: Some(settings.temperature),
            weights_over: Some(settings.weights_over.into()),
            writes: Some(settings.writes),
            addressing_weight: Some(settings.addressing_weight),
            memory_gradient_to_sub_keys: Some(settings.memory_gradient_to_sub_keys),
            value_norm: Some(settings.value_norm.into()),
            query_norm: Some(settings.query_norm.into()),
            output_gate: Some(settings.output_gate),
            gate_weighted_loss: Some(settings.gate_weighted_loss),
            rms_epsilon: Some(settings.rms_epsilon),
        }
    }
}

impl SettingsFile {
    /// Its fields over `settings`.
    pub fn over(self, mut settings: Settings) -> Result<Settings> {
        set(&mut settings.heads, self.heads);
        set(&mut settings.sub_keys, self.sub_keys);
        set(&mut settings.key_dim, self.key_dim);
        set(&mut settings.value_dim, self.value_dim);
        set(&mut settings.top_k, self.top_k);
        set(&mut settings.chunk, self.chunk);
        set(&mut settings.lookahead, self.lookahead);
        set(&mut settings.border, self.border);
        set(&mut settings.learning_rate, self.learning_rate);
        set(&mut settings.weight_decay, self.weight_decay);
        settings.gradient_clip = self.gradient_clip.or(settings.gradient_clip);
        let default_epsilon = match settings.score {
            Score::InverseDistance { epsilon } => epsilon,
            Score::DotProduct => 1e-3,
        };
        settings.score = match (self.score, settings.score) {
            (Some(ScoreName::DotProduct), _) | (None, Score::DotProduct) => Score::DotProduct,
            _ => Score::InverseDistance { epsilon: self.epsilon.unwrap_or(default_epsilon) },
        };
        set(&mut settings.activation, self.activation);
        set(&mut settings.temperature, self.temperature);
        set(&mut settings.weights_over, self.weights_over);
        set(&mut settings.writes, self.writes);
        set(&mut settings.addressing_weight, self.addressing_weight);
        set(&mut settings.memory_gradient_to_sub_keys, self.memory_gradient_to_sub_keys);
        set(&mut settings.value_norm, self.value_norm);
        set(&mut settings.query_norm, self.query_norm);
        set(&mut settings.output_gate, self.output_gate);
        set(&mut settings.gate_weighted_loss, self.gate_weighted_loss);
        set(&mut settings.rms_epsilon, self.rms_epsilon);
        settings.check()?;
        Ok(settings)
    }
}

/// TOML text as a value; `origin` names it in errors.
pub fn toml_text<T: for<'de> Deserialize<'de>>(origin: &str, text: &str) -> Result<T> {
    toml::from_str(text).map_err(|e| Error::Toml { origin: origin.to_string(), reason: e.to_string() })
}

/// Settings that a case states.
pub fn settings_of_case(case: &Case) -> Result<Settings> {
    let layer = case.layer.as_ref();
    let norm = |compress: Option<Compress>| match compress {
        None => Norm::None,
        Some(Compress::ZeroMean) => Norm::ZScore,
        Some(Compress::L2Norm) => Norm::L2,
    };
    let settings = Settings {
        heads: case.heads,
        sub_keys: case.n_subkeys,
        key_dim: case.d_k,
        value_dim: case.d_v,
        top_k: case.topk,
        chunk: case.chunk,
        lookahead: case.lookahead,
        border: match (case.border, case.mode) {
            (Some(case::Border::Carry), _) | (None, Mode::Streaming) => Border::Carry,
            (Some(case::Border::Drop), _) | (None, Mode::OneShot | Mode::Layer) => Border::Drop,
        },
        learning_rate: case.learning_rate,
        weight_decay: case.weight_decay,
        gradient_clip: case.gradient_clip.or(case.grad_clip.then_some(1.0)),
        score: match case.score {
            case::Score::Idw => Score::InverseDistance { epsilon: case.epsilon },
            case::Score::DotProduct => Score::DotProduct,
        },
        activation: match case.nonlinear {
            Nonlinear::Softmax => Activation::Softmax,
            Nonlinear::Silu => Activation::Silu,
            Nonlinear::Relu => Activation::Relu,
        },
        temperature: case.temperature,
        weights_over: match case.weights_over {
            Some(case::WeightsOver::EachHead) => WeightsOver::EachHead,
            Some(case::WeightsOver::AllHeads) | None => WeightsOver::AllHeads,
        },
        writes: case.writes.unwrap_or(true),
        addressing_weight: if case.addr_loss.is_some() { case.addr_loss_weight } else { 0.0 },
        memory_gradient_to_sub_keys: !case.mem_grad_to_values_only,
        value_norm: layer.map_or(Norm::ZScore, |layer| norm(layer.compress_value)),
        query_norm: layer.map_or(Norm::None, |layer| norm(layer.compress_query)),
        output_gate: layer.is_none_or(|layer| layer.fuse_gate),
        gate_weighted_loss: layer.is_none_or(|layer| layer.weight_loss_with_gates),
        rms_epsilon: layer.map_or(1e-5, |layer| layer.rms_eps),
    };
    settings.check()?;
    Ok(settings)
}
