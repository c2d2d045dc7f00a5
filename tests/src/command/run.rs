//! `fwpkm run`: the interpreter on anyone's tensors.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fwpkm_reference::{Rules, Settings};
use fwpkm_spec::{Case, CaseFile, ElementType, Tensor, TensorFile};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use serde::Serialize;

use super::{BOLD, DIM, Outcome, not_the_input, print, print_json};
use crate::element::Element;
use crate::error::{Error, Result};
use crate::inputs::Inputs;
use crate::run::{Outputs, Plan, Session, Totals, token_outputs};
use crate::settings_file::{RulesFile, SettingsFile, rules, toml_text};
use crate::state_file::{Saved, load, save};
use crate::store::{FileStore, Store, add, place};
use crate::trace;

/// Run the interpreter on your own tensors
///
/// Reads in.* from a safetensors file (names and shapes: SPEC.md, "Tensors") and gives reads, indices, weights, losses,
/// tables and slot statistics. Settings come from the file's case, or from --settings. Tokens are read and results written
/// chunk by chunk, so a text may be much longer than memory.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A safetensors file with in.*
    case: PathBuf,
    /// Write out.* (and trace.*) to this safetensors file
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
    for output in arguments.output.iter().chain(&arguments.save) {
        not_the_input(output, &arguments.case)?;
    }
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
    let (from, to) = (arguments.from, arguments.until.unwrap_or(inputs.tokens()));
    plan.flush &= !arguments.no_flush && to == inputs.tokens();
    let session = match saved {
        Some(saved) => Session::resumed(&plan, &inputs, saved.state)?,
        None => Session::new(&plan, &inputs)?,
    };
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

/// An input file with or without a case.
enum Opened {
    Case(Box<CaseFile>),
    Bare(TensorFile, Box<SettingsFile>),
    Resumed(TensorFile),
}

impl Opened {
    fn new(arguments: &Arguments, file: TensorFile) -> Result<Self> {
        if let Some(path) = &arguments.settings {
            let origin = path.display().to_string();
            let reason = |e: std::io::Error| Error::File { path: origin.clone(), reason: e.to_string() };
            let text = std::fs::read_to_string(path).map_err(reason)?;
            return Ok(Self::Bare(file, Box::new(toml_text(&origin, &text)?)));
        }
        if arguments.state.is_some() && !file.metadata().contains_key("case") {
            return Ok(Self::Resumed(file));
        }
        Ok(Self::Case(Box::new(CaseFile::of_file(file)?)))
    }

    fn inputs(&self) -> Result<Inputs<'_>> {
        match self {
            Self::Case(file) => Inputs::of_case(file),
            Self::Bare(file, _) | Self::Resumed(file) => Inputs::new(file),
        }
    }

    fn case(&self) -> Option<&Case> {
        match self {
            Self::Case(file) => Some(&file.case),
            Self::Bare(..) | Self::Resumed(_) => None,
        }
    }

    /// The plan of a state is the state's; where the file has a case as well, the two must agree.
    fn plan<S: Element>(
        &self,
        arguments: &Arguments,
        rules: Option<Rules>,
        saved: Option<&Saved<S>>,
        inputs: &Inputs,
    ) -> Result<Plan> {
        let plan = match self {
            Self::Case(file) => Plan::of_case(&file.case, rules.as_ref())?,
            Self::Bare(_, settings) => Plan::of_settings(**settings, rules, &inputs.tables::<S>()?)?,
            Self::Resumed(_) => {
                let state = saved.map(|saved| &saved.state);
                let settings = state.map_or_else(Settings::paper, |state| state.settings.clone());
                Plan { settings, rules: Rules::paper(), calls: None, flush: true, trace: false }
            }
        };
        let (Some(saved), Some(path)) = (saved, &arguments.state) else { return Ok(plan) };
        let json = |value: &SettingsFile| serde_json::to_value(value).unwrap_or_default();
        let (ours, theirs) = (json(&(&saved.state.settings).into()), json(&(&plan.settings).into()));
        let differs = |(name, value): (&String, &serde_json::Value)| {
            (theirs[name] != *value).then(|| format!("its setting {name} is {value}, the case has {}", theirs[name]))
        };
        if let Some(reason) = ours.as_object().and_then(|ours| ours.iter().find_map(differs)) {
            return Err(Error::State { path: path.display().to_string(), reason });
        }
        Ok(Plan { rules: saved.state.rules.clone(), ..plan })
    }
}

/// A run whose results go to a file as they come.
struct LongRun<S> {
    plan: Plan,
    session: Session<S>,
    totals: Totals<S>,
    store: Option<FileStore>,
    from: usize,
    reached: usize,
}

impl<S: Element> LongRun<S> {
    /// Feeds up to token `to`; true if it was stopped before.
    fn feed(&mut self, inputs: &Inputs, to: usize) -> Result<bool> {
        let interrupted = Arc::new(AtomicBool::new(false));
        let flag = interrupted.clone();
        // A second Ctrl-C, or a process that cannot have a handler, ends at once.
        let _ = ctrlc::set_handler(move || {
            if flag.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
        });
        let bar = progress(to.saturating_sub(self.from));
        let Self { plan, session, totals, store, from, reached } = self;
        let asked = to.saturating_sub(*from);
        let result = session.feed(plan, inputs, (*from, to), &mut |at, done| {
            let length = done.fed.reads.dim().1;
            totals.add(&done.fed);
            if let Some(store) = store {
                place(store, at - *from, asked, &token_outputs(&done, plan.trace)?)?;
            }
            *reached = at + length;
            bar.inc(length as u64);
            let stop = interrupted.load(Ordering::SeqCst) && *reached < to;
            Ok(if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        });
        bar.finish_and_clear();
        result.map(|()| self.reached < to)
    }

    fn finish(mut self, inputs: &Inputs, arguments: &Arguments, opened: &Opened, stopped: bool) -> Result<Document> {
        if self.plan.flush && !stopped {
            self.totals.add_step(self.session.flush()?);
        }
        let mut small = Outputs::new();
        self.totals.outputs(self.plan.settings.slots(), inputs.sequences(), &mut small)?;
        let stat = |name: &str| small.get(name).and_then(|tensor| tensor.data.to_f64().first().copied()).unwrap_or(0.0);
        let (collision_rate, coverage) = (stat("out.stats.collision_rate"), stat("out.stats.coverage"));
        let divergence = stat("out.stats.divergence");
        let mut tensors = Vec::new();
        if let Some(store) = self.store.take() {
            tensors = self.write(store, small, inputs, opened)?;
        }
        let steps = self.totals.steps();
        let loss = |step: &fwpkm_reference::StepReport<S>| {
            let losses = step.pair_losses.iter().fold(0.0, |sum, loss| sum + loss.to_f64());
            (!step.pair_losses.is_empty()).then(|| losses / step.pair_losses.len() as f64)
        };
        let losses: Vec<f64> = steps.iter().filter_map(loss).collect();
        let document = Document {
            spec: fwpkm_spec::version(),
            element: S::TYPE.name(),
            tokens: (self.from, self.reached),
            stopped,
            steps: steps.len(),
            mean_loss: (!losses.is_empty()).then(|| losses.iter().sum::<f64>() / losses.len() as f64),
            mean_loss_of_last_step: steps.last().and_then(loss),
            addressing_loss_of_last_step: steps.last().map(|step| step.addressing_loss.to_f64()),
            collision_rate,
            coverage,
            divergence,
            output: arguments.output.clone(),
            tensors,
            state: arguments.save.clone(),
        };
        if let Some(path) = &arguments.save {
            self.save(path)?;
        }
        Ok(document)
    }

    /// Completes the output file.
    fn write(&self, mut store: FileStore, small: Outputs, inputs: &Inputs, opened: &Opened) -> Result<Vec<Entry>> {
        let mut rest = small;
        if let Some(trace) = self.session.trace() {
            trace::outputs(trace, inputs.sequences(), &mut rest)?;
        }
        store.shorten(self.reached - self.from)?;
        for (name, Tensor { shape, data }) in &rest {
            store.declare(name, data.element_type(), shape)?;
            store.write(name, 0, data)?;
        }
        let tables = self.session.memory().tables();
        add(&mut store, "out.slot_values", tables.slot_values.view(), S::data, &mut |_| ())?;
        add(&mut store, "out.sub_keys", tables.sub_keys.view(), S::data, &mut |_| ())?;
        let entries = store.shapes();
        store.finish(&metadata(&self.plan, opened.case())?)?;
        Ok(entries.into_iter().map(|(name, shape)| Entry { name, shape }).collect())
    }

    fn save(self, path: &Path) -> Result<()> {
        save(path, &Saved { state: self.session.into_memory().into_state(), tokens: self.reached })
    }
}

fn progress(tokens: usize) -> ProgressBar {
    let target =
        if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(tokens as u64), target);
    let template = "{bar:24} {pos}/{len} tokens  {rate}  {eta} left";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_style(style.with_key("rate", |state: &ProgressState, out: &mut dyn Write| {
        let _ = write!(out, "{:.0} tokens/s", state.per_sec());
    }))
}

/// The version of the specification, the settings and the rules, so that the results can be made again.
fn metadata(plan: &Plan, case: Option<&Case>) -> Result<BTreeMap<String, String>> {
    let mut metadata = case.map_or_else(|| Ok(BTreeMap::new()), |case| case.metadata(None))?;
    let json = |e: serde_json::Error| Error::Usage { reason: e.to_string() };
    metadata.insert("spec".into(), fwpkm_spec::version().into());
    metadata.insert("source".into(), format!("fwpkm {}", env!("CARGO_PKG_VERSION")));
    metadata.insert("settings".into(), serde_json::to_string(&SettingsFile::from(&plan.settings)).map_err(json)?);
    metadata.insert("rules".into(), serde_json::to_string(&RulesFile::from(&plan.rules)).map_err(json)?);
    Ok(metadata)
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
