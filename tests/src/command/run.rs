//! `fwpkm run`: the interpreter on anyone's tensors.

mod long_run;
mod opened;

use std::fmt::Write;
use std::path::PathBuf;

use fwpkm_spec::{ElementType, TensorFile, counted};
use serde::Serialize;

use super::results::{rules_file, writable};
use super::{BOLD, DIM, Outcome, print, print_json};
use crate::element::Element;
use crate::error::{Error, Result};
use crate::run::{Session, Totals};
use crate::settings_file::rules;
use crate::state_file::load;
use crate::store::FileStore;
use long_run::LongRun;
use opened::Opened;

/// Run the interpreter on your own tensors
///
/// Reads in.* from a safetensors file (names and shapes: SPEC.md, "Tensors") and gives reads, indices, weights, losses,
/// tables and slot statistics. Settings come from the file's case, or from --settings. Tokens are read and results written
/// chunk by chunk, so a text may be much longer than memory. With cotangent.* in the file, a run over the whole text with --output
/// and without --state also writes grad.* (GRD-1), for which all of it is held.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A safetensors file with in.*
    case: PathBuf,
    /// Write out.* (and grad.*, trace.*) to this safetensors file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write every stage tensor as well
    #[arg(long, requires = "output")]
    trace: bool,
    /// A TOML file of settings, in place of the file's case
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// "paper", "release" or a TOML file of rules; default: those the case states, else the release's; paper with --settings
    #[arg(long, value_name = "RULES")]
    rules: Option<String>,
    /// Element type of the computation; default: that of the state, else of the queries or hidden states
    #[arg(long, value_name = "TYPE")]
    element: Option<ElementName>,
    /// Go on from this state, with its tables, queue, settings and rules
    #[arg(long, value_name = "FILE", conflicts_with_all = ["settings", "rules"])]
    state: Option<PathBuf>,
    /// Write the state after the last token to this file; also when stopped by Ctrl-C
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// First token of the text to feed
    #[arg(long, value_name = "TOKEN", default_value_t = 0)]
    from: usize,
    /// Token of the text to stop before; default: all. A run that stops before the end takes no flush
    #[arg(long, value_name = "TOKEN")]
    until: Option<usize>,
    /// Do not close the last chunk: the text goes on in another file
    #[arg(long)]
    no_flush: bool,
    /// One JSON document instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum ElementName {
    F32,
    F64,
}

/// What is shown of a run.
#[derive(Serialize)]
struct Document {
    spec: &'static str,
    element: &'static str,
    tokens: (usize, usize),
    stopped: bool,
    steps: usize,
    mean_loss: Option<f64>,
    mean_loss_of_last_step: Option<f64>,
    addressing_loss_of_last_step: Option<f64>,
    collision_rate: f64,
    coverage: f64,
    divergence: f64,
    output: Option<PathBuf>,
    tensors: Vec<Entry>,
    state: Option<PathBuf>,
}

#[derive(Serialize)]
struct Entry {
    name: String,
    shape: Vec<usize>,
}

pub(super) fn run(arguments: &Arguments) -> Result<Outcome> {
    let output = arguments.output.as_deref().map(|path| ("--output", path));
    let results: Vec<_> = output.into_iter().chain(arguments.save.as_deref().map(|path| ("--save", path))).collect();
    let files = [arguments.settings.as_deref(), arguments.state.as_deref(), rules_file(arguments.rules.as_deref())];
    let inputs: Vec<_> = [Some(arguments.case.as_path())].into_iter().chain(files).flatten().collect();
    writable(&results, &inputs)?;
    let file = TensorFile::open(&arguments.case)?;
    let document = match element(arguments, &file)? {
        ElementName::F32 => run_as::<f32>(arguments, file)?,
        ElementName::F64 => run_as::<f64>(arguments, file)?,
    };
    if arguments.json {
        print_json(&document)?;
    } else {
        print(&text(&document, arguments));
    }
    Ok(if document.stopped { Outcome::Stopped } else { Outcome::Done })
}

fn element(arguments: &Arguments, file: &TensorFile) -> Result<ElementName> {
    let stored = if let Some(state) = &arguments.state {
        crate::state_file::element(state)?
    } else {
        let name = if file.has("in.hidden") { "in.hidden" } else { "in.queries" };
        file.element_type(name).unwrap_or_default().to_string()
    };
    let stored = if stored == ElementType::F32.name() { ElementName::F32 } else { ElementName::F64 };
    Ok(arguments.element.unwrap_or(stored))
}

fn run_as<S: Element>(arguments: &Arguments, file: TensorFile) -> Result<Document> {
    let chosen = arguments.rules.as_deref().map(rules).transpose()?;
    let saved = arguments.state.as_deref().map(load::<S>).transpose()?;
    let opened = Opened::new(arguments, file)?;
    let inputs = opened.inputs()?;
    let mut plan = opened.plan::<S>(arguments, chosen, saved.as_ref(), &inputs)?;
    plan.trace = arguments.trace;
    let (from, to) = between(arguments, inputs.tokens())?;
    plan.flush &= !arguments.no_flush && to == inputs.tokens();
    let session = match saved {
        Some(saved) => Session::resumed(&plan, &inputs, saved.state)?,
        None => Session::new(&plan, &inputs)?,
    };
    // Refused before anything is read.
    inputs.cotangents::<S>()?;
    let store = arguments.output.as_deref().map(FileStore::create).transpose()?;
    let mut long = LongRun { plan, session, totals: Totals::default(), store, from, reached: from };
    match (long.feed(&inputs, to), &arguments.save) {
        (Ok(stopped), _) => long.finish(&inputs, arguments, &opened, stopped),
        (Err(error @ Error::Tokens { .. }), Some(path)) => {
            // What was read before is kept; the error is still the result.
            long.save(path)?;
            Err(error)
        }
        (Err(error), _) => Err(error),
    }
}

/// The tokens that are fed.
fn between(arguments: &Arguments, tokens: usize) -> Result<(usize, usize)> {
    let (from, to) = (arguments.from, arguments.until.unwrap_or(tokens));
    let reason = if to > tokens {
        format!("--until {to}: the text has {}", counted(tokens, "token"))
    } else if from > to {
        match arguments.until {
            Some(until) => format!("--from {from} is after --until {until}"),
            None => format!("--from {from}: the text has {}", counted(tokens, "token")),
        }
    } else {
        return Ok((from, to));
    };
    Err(Error::Usage { reason: format!("{reason}; allowed: 0 ≤ --from ≤ --until ≤ {tokens}") })
}

fn text(document: &Document, arguments: &Arguments) -> String {
    let mut out = String::new();
    let number = |x: Option<f64>| x.map_or_else(|| "none".into(), |x| format!("{x:.5}"));
    let (from, to) = document.tokens;
    let rows = [
        ("tokens", format!("{from} to {to}, in {}", document.element)),
        ("steps", document.steps.to_string()),
        ("mean loss", number(document.mean_loss)),
        ("  of the last step", number(document.mean_loss_of_last_step)),
        ("addressing loss of the last step", number(document.addressing_loss_of_last_step)),
        ("collision rate", number(Some(document.collision_rate))),
        ("coverage", number(Some(document.coverage))),
        ("divergence from uniform", number(Some(document.divergence))),
    ];
    for (name, value) in rows {
        let _ = writeln!(out, "{name:34} {value}");
    }
    if !document.tensors.is_empty() {
        let _ = writeln!(out, "\n{BOLD}{:34} shape{BOLD:#}", "tensor");
        for entry in &document.tensors {
            let _ = writeln!(out, "{:34} {:?}", entry.name, entry.shape);
        }
    }
    let _ = match &document.output {
        Some(path) => writeln!(out, "\nResults written to {}.", path.display()),
        None => writeln!(out, "\n{DIM}Nothing written; -o FILE writes the tensors.{DIM:#}"),
    };
    if let Some(path) = &document.state {
        let _ = writeln!(out, "State after token {to} written to {}.", path.display());
    }
    if document.stopped {
        let case = arguments.case.display();
        let _ = match &document.state {
            Some(state) => {
                writeln!(out, "Stopped. To go on: fwpkm run {case} --state {} --from {to} …", state.display())
            }
            None => writeln!(out, "Stopped; without --save FILE there is no state to go on from."),
        };
    }
    out
}
