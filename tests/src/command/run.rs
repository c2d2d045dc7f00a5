//! `fwpkm run`: the interpreter on anyone's tensors.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use fwpkm_spec::{Case, CaseFile, Data, Tensor, TensorFile};
use serde::Serialize;

use super::{BOLD, DIM, Outcome, print, print_json};
use crate::error::{Error, Result};
use crate::inputs::Inputs;
use crate::run::{Element, Outputs, Plan, run as run_plan};
use crate::settings_file::{SettingsFile, rules, toml_text};

/// Run the interpreter on your own tensors
///
/// Reads in.* from a safetensors file (names and shapes: SPEC.md, "Tensors") and gives reads, indices, weights, losses,
/// tables and slot statistics. Settings come from the file's case, or from --settings.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A safetensors file with in.*
    case: PathBuf,
    /// Write out.* (and trace.*) to this safetensors file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write every stage tensor as well
    #[arg(long)]
    trace: bool,
    /// A TOML file of settings, in place of the file's case
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// "paper", "release" or a TOML file of rules; default: those the case states, else the release's; paper with --settings
    #[arg(long, value_name = "RULES")]
    rules: Option<String>,
    /// Element type of the computation; default: that of the queries or hidden states
    #[arg(long, value_name = "TYPE")]
    element: Option<ElementName>,
    /// One JSON document instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum ElementName {
    F32,
    F64,
}

#[derive(Serialize)]
struct Document<'a> {
    spec: &'a str,
    element: &'a str,
    output: Option<&'a Path>,
    tensors: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    name: String,
    shape: Vec<usize>,
    smallest: Option<f64>,
    largest: Option<f64>,
    mean: Option<f64>,
}

pub(super) fn run(arguments: &Arguments) -> Result<Outcome> {
    if arguments.trace && arguments.output.is_none() {
        return Err(Error::Usage { reason: "--trace writes tensors and needs --output FILE".into() });
    }
    let file = TensorFile::open(&arguments.case)?;
    let element = arguments.element.unwrap_or_else(|| stored_element(&file));
    let (outputs, metadata) = match element {
        ElementName::F32 => outputs::<f32>(arguments, file)?,
        ElementName::F64 => outputs::<f64>(arguments, file)?,
    };
    if let Some(path) = &arguments.output {
        let tensors: Vec<(&String, &Tensor)> = outputs.iter().collect();
        fwpkm_spec::tensor_file::write(path, &metadata, &tensors)?;
    }
    let element = match element {
        ElementName::F32 => "f32",
        ElementName::F64 => "f64",
    };
    let entries = outputs.iter().map(|(name, tensor)| entry(name, tensor)).collect();
    let document =
        Document { spec: fwpkm_spec::version(), element, output: arguments.output.as_deref(), tensors: entries };
    if arguments.json {
        print_json(&document)?;
    } else {
        print(&text(&document));
    }
    Ok(Outcome::Done)
}

fn stored_element(file: &TensorFile) -> ElementName {
    let name = if file.has("in.hidden") { "in.hidden" } else { "in.queries" };
    if file.element_type(name) == Some("F32") { ElementName::F32 } else { ElementName::F64 }
}

fn outputs<S: Element>(arguments: &Arguments, file: TensorFile) -> Result<(Outputs, BTreeMap<String, String>)> {
    let chosen = arguments.rules.as_deref().map(rules).transpose()?;
    let (inputs, mut plan, case) = if let Some(path) = &arguments.settings {
        let origin = path.display().to_string();
        let reason = |e: std::io::Error| Error::File { path: origin.clone(), reason: e.to_string() };
        let settings: SettingsFile = toml_text(&origin, &std::fs::read_to_string(path).map_err(reason)?)?;
        let inputs = Inputs::<S>::read(&file)?;
        let plan = Plan::of_settings(settings, chosen, &inputs)?;
        (inputs, plan, None)
    } else {
        let file = CaseFile::of_file(file)?;
        let inputs = Inputs::<S>::of_case(&file)?;
        (inputs, Plan::of_case(&file.case, chosen.as_ref())?, Some(file.case))
    };
    plan.trace = arguments.trace;
    let metadata = metadata(&plan, case.as_ref())?;
    Ok((run_plan(&plan, inputs)?, metadata))
}

/// The version of the specification, the settings and the rules, so that the results can be made again
fn metadata(plan: &Plan, case: Option<&Case>) -> Result<BTreeMap<String, String>> {
    let mut metadata = case.map_or_else(|| Ok(BTreeMap::new()), |case| case.metadata(None))?;
    metadata.insert("spec".into(), fwpkm_spec::version().into());
    metadata.insert("source".into(), format!("fwpkm {}", env!("CARGO_PKG_VERSION")));
    metadata.insert("settings".into(), format!("{:?}", plan.settings));
    metadata.insert("rules".into(), format!("{:?}", plan.rules));
    Ok(metadata)
}

fn entry(name: &str, tensor: &Tensor) -> Entry {
    let numbers = tensor.data.to_f64();
    let of = |pick: fn(f64, f64) -> f64| numbers.iter().copied().reduce(pick);
    let mean = of(|a, b| a + b).map(|sum| sum / numbers.len() as f64).filter(|_| !matches!(tensor.data, Data::I64(_)));
    Entry { name: name.into(), shape: tensor.shape.clone(), smallest: of(f64::min), largest: of(f64::max), mean }
}

fn text(document: &Document) -> String {
    let mut out =
        format!("{BOLD}{:34} {:20} {:>12} {:>12} {:>12}{BOLD:#}\n", "tensor", "shape", "smallest", "mean", "largest");
    let number = |x: Option<f64>| x.map_or_else(|| "-".into(), |x| format!("{x:.5}"));
    for entry in &document.tensors {
        let shape = format!("{:?}", entry.shape);
        let (smallest, mean, largest) = (number(entry.smallest), number(entry.mean), number(entry.largest));
        let _ = writeln!(out, "{:34} {shape:20} {smallest:>12} {mean:>12} {largest:>12}", entry.name);
    }
    let _ = write!(out, "{DIM}computed in {}, specification {}{DIM:#}", document.element, document.spec);
    let _ = match document.output {
        Some(path) => writeln!(out, "; written to {}", path.display()),
        None => writeln!(out, "; nothing written (-o FILE writes the tensors)"),
    };
    out
}
