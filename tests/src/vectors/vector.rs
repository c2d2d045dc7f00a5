//! A vector as a file: the case, what it certifies, its inputs and the interpreter's outputs in f64.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use fwpkm_reference::settings::{Activation, Border, Norm, Score, WeightsOver};
use fwpkm_reference::{Rules, Settings};
use fwpkm_spec::case::{self, AddressingLoss, Case, Compress, Layer, Mode, Nonlinear};
use fwpkm_spec::certificate::{Certificate, Kind, Margins};
use fwpkm_spec::{ClosedForm, Data, Tensor};
use ndarray::ArrayD;
use serde_json::Value;

use super::compose::{Composed, compose, is_exact_everywhere};
use super::entry::{Entry, Folder};
use super::margin;
use crate::error::{Error, Result};
use crate::inputs::{Inputs, in_full};
use crate::problem::Problem;
use crate::run::{Outputs, Plan, Session, run};
use crate::settings_file::{RulesFile, settings_of_case};

/// A vector, ready to be written.
#[derive(Clone, Debug)]
pub struct Vector {
    /// Where it lies.
    pub folder: Folder,
    /// Name of its file, without ending.
    pub name: String,
    /// The case.
    pub case: Case,
    /// What it certifies.
    pub certificate: Certificate,
    /// `in.*` that are stored, and `cotangent.*`.
    pub inputs: Outputs,
    /// `in.*` given by the closed form.
    pub closed_form: BTreeMap<String, ClosedForm>,
    /// `out.*`, `grad.*`, and `trace.*` where they are small.
    pub outputs: Outputs,
    /// The case in memory.
    pub problem: Problem,
}

/// Stage tensors are recorded up to so many bytes in all, of one chunk and of a run.
const TRACE_BYTES: (usize, usize) = (32 << 10, 6 << 10);

/// The vectors of an entry, one for each of its versions.
///
/// # Errors   inputs that cannot be drawn, or that not every element type holds
pub fn vectors(entry: &Entry) -> Result<Vec<Vector>> {
    let composed = compose(entry)?;
    for (name, tensor) in &composed.tensors {
        if let Some(number) = tensor.iter().find(|number| !is_exact_everywhere(**number)) {
            return Err(wrong(entry, format!("in.{name} holds {number}, which bf16 and f16 do not")));
        }
    }
    entry.versions.iter().map(|(folder, rules)| vector(entry, &composed, *folder, rules)).collect()
}

fn wrong(entry: &Entry, reason: String) -> Error {
    Error::Vector { name: entry.name.into(), reason }
}

fn vector(entry: &Entry, composed: &Composed, folder: Folder, rules: &Rules) -> Result<Vector> {
    let case = case_of(entry, folder, rules)?;
    if settings_of_case(&case)? != entry.settings {
        return Err(wrong(entry, "has settings that a case cannot state".into()));
    }
    let plan = Plan { trace: true, ..Plan::of_case(&case, None)? };
    let tensors = expanded(composed)?;
    let inputs = Inputs::new(&tensors)?;
    let mut outputs = run::<f64>(&plan, &inputs)?;
    let trace = |name: &String| name.starts_with("trace.");
    let bytes: usize = outputs.iter().filter(|(name, _)| trace(name)).map(|(_, tensor)| tensor.data.len() * 8).sum();
    if bytes > if entry.kind == Kind::Run { TRACE_BYTES.1 } else { TRACE_BYTES.0 } {
        outputs.retain(|name, _| !trace(name));
    }
    let certificate = Certificate {
        spec: fwpkm_spec::version().to_string(),
        purpose: entry.purpose.to_string(),
        clauses: entry.clauses.iter().map(ToString::to_string).collect(),
        kind: entry.kind,
        ties: entry.ties,
        near_ties: entry.near_ties,
        smallest_margin: smallest_margin(&plan, &inputs)?,
        separates: None,
        bounds: None,
    };
    let labels = entry.clauses.iter().filter_map(|label| label.parse().ok()).collect();
    let name = format!("{}/{}", folder.name(), entry.name);
    let problem = Problem::new(&name, labels, plan, &inputs)?;
    let stored = composed.tensors.iter().map(|(name, tensor)| (in_full(name), narrowed(tensor)));
    let closed_form = composed.closed_form.iter().map(|(name, table)| (in_full(name), table.clone()));
    Ok(Vector {
        folder,
        name: entry.name.to_string(),
        case,
        certificate,
        inputs: stored.collect(),
        closed_form: closed_form.collect(),
        outputs,
        problem,
    })
}

/// All inputs, those of the closed form written out
fn expanded(composed: &Composed) -> Result<BTreeMap<String, ArrayD<f64>>> {
    let mut tensors = composed.tensors.clone();
    for (name, table) in &composed.closed_form {
        let numbers = table.elements(0..table.shape.iter().product()).into_iter().map(f64::from).collect();
        tensors.insert(name.clone(), ArrayD::from_shape_vec(table.shape.clone(), numbers)?);
    }
    Ok(tensors)
}

fn narrowed(tensor: &ArrayD<f64>) -> Tensor {
    Tensor { shape: tensor.shape().to_vec(), data: Data::F32(tensor.iter().map(|&number| number as f32).collect()) }
}

/// Margins of all readings, those of steps included
fn smallest_margin(plan: &Plan, inputs: &Inputs) -> Result<Margins> {
    let mut session = Session::<f64>::new(plan, inputs)?;
    session.feed(plan, inputs, (0, inputs.tokens()), &mut |_, _| Ok(ControlFlow::Continue(())))?;
    if plan.flush {
        session.flush()?;
    }
    let mut margins = Margins::default();
    let Some(trace) = session.trace() else { return Ok(margins) };
    let readings = trace.readings.iter().map(|(_, reading)| reading);
    for reading in readings.chain(trace.steps.iter().map(|step| &step.reading)) {
        margin::add(&mut margins, reading, plan.settings.top_k);
    }
    Ok(margins)
}

/// The case of an entry under some rules
fn case_of(entry: &Entry, folder: Folder, rules: &Rules) -> Result<Case> {
    let settings = &entry.settings;
    let layer = entry.inputs.layer.as_ref().map(|layer| layer_of(settings, layer.width));
    let carry = settings.border == Border::Carry;
    let calls = entry.calls.clone().or_else(|| carry.then(|| vec![entry.tokens]));
    let (score, epsilon) = match settings.score {
        Score::InverseDistance { epsilon } => (case::Score::Idw, epsilon),
        Score::DotProduct => (case::Score::DotProduct, case::DEFAULT_EPSILON),
    };
    Ok(Case {
        batch: entry.sequences,
        tokens: entry.tokens,
        n_subkeys: settings.sub_keys,
        d_k: settings.key_dim,
        d_v: settings.value_dim,
        heads: settings.heads,
        topk: settings.top_k,
        chunk: settings.chunk,
        lookahead: settings.lookahead,
        score,
        nonlinear: match settings.activation {
            Activation::Softmax => Nonlinear::Softmax,
            Activation::Silu => Nonlinear::Silu,
            Activation::Relu => Nonlinear::Relu,
        },
        temperature: settings.temperature,
        learning_rate: settings.learning_rate,
        weight_decay: settings.weight_decay,
        mem_grad_to_values_only: !settings.memory_gradient_to_sub_keys,
        grad_clip: settings.gradient_clip == Some(1.0),
        addr_loss: Some(AddressingLoss::MarginalEntropy),
        addr_loss_weight: settings.addressing_weight,
        mode: match (&layer, carry) {
            (Some(_), _) => Mode::Layer,
            (None, true) => Mode::Streaming,
            (None, false) => Mode::OneShot,
        },
        splits: calls,
        after_calls: (!entry.after_calls.is_empty()).then(|| entry.after_calls.clone()),
        layer,
        gates: Some(!entry.inputs.gates.is_empty()),
        mask: Some(!entry.inputs.mask.is_empty()),
        train: None,
        seed: None,
        query_scale: None,
        key_scale: None,
        spec: Some(fwpkm_spec::version().to_string()),
        epsilon,
        rules: Some(rules_of(folder, rules)?),
        border: Some(if carry { case::Border::Carry } else { case::Border::Drop }),
        flush: Some(entry.flush),
        writes: Some(settings.writes),
        weights_over: Some(match settings.weights_over {
            WeightsOver::AllHeads => case::WeightsOver::AllHeads,
            WeightsOver::EachHead => case::WeightsOver::EachHead,
        }),
        gradient_clip: settings.gradient_clip,
        unknown: Vec::new(),
    })
}

fn layer_of(settings: &Settings, hidden: usize) -> Layer {
    let compress = |norm: Norm| match norm {
        Norm::ZScore => Some(Compress::ZeroMean),
        Norm::L2 => Some(Compress::L2Norm),
        Norm::None => None,
    };
    Layer {
        hidden,
        rms_eps: settings.rms_epsilon,
        compress_value: compress(settings.value_norm),
        compress_query: compress(settings.query_norm),
        fuse_gate: settings.output_gate,
        weight_loss_with_gates: settings.gate_weighted_loss,
    }
}

fn rules_of(folder: Folder, rules: &Rules) -> Result<Value> {
    match folder {
        Folder::Both | Folder::Paper => Ok("paper".into()),
        Folder::Release => Ok("release".into()),
        Folder::Other => {
            let fields = serde_json::to_value(RulesFile::from(rules));
            fields.map_err(|error| Error::Rules { given: "of a vector".into(), reason: error.to_string() })
        }
    }
}

impl Vector {
    /// The metadata of its file.
    pub fn metadata(&self) -> Result<BTreeMap<String, String>> {
        let source = format!("the interpreter in f64, FwPKM specification {}", fwpkm_spec::version());
        let mut metadata = self.case.metadata(Some(&source))?;
        metadata.insert("certificate".into(), self.certificate.to_json()?);
        if !self.closed_form.is_empty() {
            metadata.insert("closed_form".into(), fwpkm_spec::closed_form::to_json(&self.closed_form)?);
        }
        Ok(metadata)
    }

    /// Path of its file in a folder of vectors.
    pub fn path(&self, root: &std::path::Path) -> std::path::PathBuf {
        root.join(self.folder.path(&self.name))
    }
}
