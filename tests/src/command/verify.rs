//! `fwpkm verify`: recorded case files against the interpreter.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use fwpkm_reference::Rules;
use fwpkm_spec::{CaseFile, Listing, counted, listed, verb};
use serde::Serialize;

use super::backend::{BackendName, Run};
use super::judging::{progress, stop_flag};
use super::{BOLD, DIM, GREEN, Outcome, RED, YELLOW, check, print, print_json, quoted, report_text};
use crate::backend::DECLARED;
use crate::error::Result;
use crate::inputs::Inputs;
use crate::judging::report;
use crate::problem::Problem;
use crate::report::Report;
use crate::run::Plan;
use crate::settings_file::rules;
use crate::verify::{CaseReport, RELATIVE_BOUND, TensorReport, Verdict, verify as verify_case};

/// Hold recorded case files against the interpreter, in f64
///
/// Each case is run on its recorded inputs; indices must be equal, every other output may differ by 1e-10 of its largest
/// recorded magnitude. With --backend the CUDA implementation runs each case in f32, and is judged against the interpreter on the
/// same inputs, within the bounds of the specification (NUM), as check does. A file is judged once, however often it is given.
/// Exit status: 0 all conform, 1 some differ, 2 some could not be judged.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Case files, or folders of them
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// "paper", "release" or a TOML file of rules; default: those each case states, else the release's
    #[arg(long, value_name = "RULES")]
    rules: Option<String>,
    /// What runs the cases
    #[arg(long, value_name = "BACKEND", default_value = "cpu")]
    backend: BackendName,
    /// One JSON document instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    spec: &'a str,
    relative_bound: f64,
    cases: &'a [CaseReport],
    summary: Summary,
}

#[derive(Clone, Copy, Default, Serialize)]
struct Summary {
    conforms: usize,
    differs: usize,
    error: usize,
    not_specified: usize,
}

pub(super) fn verify(arguments: &Arguments) -> Result<Outcome> {
    let started = Instant::now();
    let rules = arguments.rules.as_deref().map(rules).transpose()?;
    if let Some(run) = arguments.backend.run()? {
        return judged(arguments, rules.as_ref(), &run);
    }
    let Listing { cases, unread } = listed_once(&arguments.paths);
    let mut reports: Vec<CaseReport> = cases.iter().map(|case| verify_case(case, rules.as_ref())).collect();
    reports.extend(unread.iter().map(|(path, error)| CaseReport::unreadable(path, error)));
    let summary = summarise(&reports);
    if arguments.json {
        let spec = fwpkm_spec::version();
        print_json(&Document { spec, relative_bound: RELATIVE_BOUND, cases: &reports, summary })?;
    } else {
        print(&text(&reports, summary, started.elapsed().as_secs_f64()));
    }
    Ok(match summary {
        Summary { error: 1.., .. } => Outcome::BadFile,
        Summary { differs: 1.., .. } => Outcome::Differs,
        _ => Outcome::Done,
    })
}

/// The case files at all paths, each once, however often and by whatever path it was given.
fn listed_once(paths: &[PathBuf]) -> Listing {
    let mut all = Listing::default();
    let mut seen = BTreeSet::new();
    for path in paths {
        let Listing { cases, unread } = Listing::of(path);
        let mut is_new = |path: &PathBuf| seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone()));
        all.cases.extend(cases.into_iter().filter(&mut is_new));
        all.unread.extend(unread.into_iter().filter(|(path, _)| is_new(path)));
    }
    all
}

/// The cases on a backend, judged as vectors are.
fn judged(arguments: &Arguments, rules: Option<&Rules>, run: &Run) -> Result<Outcome> {
    let started = Instant::now();
    let (mut problems, mut errors) = (Vec::new(), BTreeMap::new());
    let Listing { cases, unread } = listed_once(&arguments.paths);
    errors.extend(unread.iter().map(|(path, error)| (path.display().to_string(), error.to_string())));
    for case in cases {
        match problem(&case, rules) {
            Ok(problem) => problems.push(problem),
            Err(error) => drop(errors.insert(case.display().to_string(), error.to_string())),
        }
    }
    let (stop, bar) = (stop_flag(), progress(problems.len()));
    let subject = arguments.backend.name();
    let mut report = report(subject, DECLARED, &problems, &**run, true, &stop, &|| bar.inc(1));
    bar.finish_and_clear();
    report.errors.extend(errors);
    let reports = [report];
    if arguments.json {
        print_json(&check::Document { spec: fwpkm_spec::version(), reports: &reports })?;
    } else {
        let cases = counted(problems.len(), "case");
        let heading = format!("{subject} on {cases}, specification {}", fwpkm_spec::version());
        let rerun = |_: &Report, case: &str| {
            format!("fwpkm verify{} {}", arguments.backend.argument(), quoted(Path::new(case)))
        };
        print(&report_text::text(&heading, &reports, &rerun, started.elapsed().as_secs_f64()));
    }
    Ok(check::outcome(&reports))
}

fn problem(path: &Path, rules: Option<&Rules>) -> Result<Problem> {
    let file = CaseFile::open(path)?;
    let plan = Plan { trace: true, ..Plan::of_case(&file.case, rules)? };
    Problem::new(&path.display().to_string(), Vec::new(), plan, &Inputs::of_case(&file)?)
}

fn summarise(reports: &[CaseReport]) -> Summary {
    let count = |verdict| reports.iter().filter(|report| report.verdict == verdict).count();
    Summary {
        conforms: count(Verdict::Conforms),
        differs: count(Verdict::Differs),
        error: count(Verdict::Error),
        not_specified: reports.iter().map(|report| report.not_specified.len()).sum(),
    }
}

/// Columns of the table: heading, and the tensor or the beginning of the names of several.
const COLUMNS: [(&str, &str); 11] = [
    ("reads", "out.reads"),
    ("indices", "out.indices"),
    ("weights", "out.weights"),
    ("losses", "out.mem_losses"),
    ("addr", "out.addr_loss_mean"),
    ("sub_keys", "out.sub_keys"),
    ("values", "out.slot_values"),
    ("layer", "out.layer"),
    ("hidden", "out.hidden"),
    ("gates", "out.gates"),
    ("grad", "grad."),
];

fn text(reports: &[CaseReport], summary: Summary, seconds: f64) -> String {
    let names = names(reports);
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(4);
    let mut out = String::new();
    let _ = write!(out, "{BOLD}{:width$}  verdict ", "case");
    for (heading, _) in COLUMNS {
        let _ = write!(out, " {heading:>8}");
    }
    let _ = writeln!(out, "{BOLD:#}");
    for (report, name) in reports.iter().zip(&names) {
        line(&mut out, report, name, width);
    }
    let _ = writeln!(
        out,
        "\n{DIM}Numbers: largest difference over the tensor's largest recorded magnitude; allowed {RELATIVE_BOUND:.0e}. \
         \"same\": equal bits; for indices, equal.{DIM:#}"
    );
    if summary.not_specified > 0 {
        let _ = writeln!(
            out,
            "{YELLOW}Not specified, neither passed nor failed: {}.{YELLOW:#}",
            counted(summary.not_specified, "recorded tensor")
        );
    }
    let total = reports.len();
    let cases = if total == 1 { "1 case conforms" } else { &format!("all {total} cases conform") };
    let _ = match summary {
        Summary { differs: 0, error: 0, .. } => writeln!(out, "{GREEN}{cases}{GREEN:#} ({seconds:.2} s)"),
        Summary { conforms, differs, error, .. } => {
            let (conform, differ) = (verb(conforms, total, "conform"), verb(differs, total, "differ"));
            let of = format!("{conforms} of {}", counted(total, "case"));
            writeln!(
                out,
                "{RED}{of} {conform}, {differs} {differ}, {error} could not be judged{RED:#} ({seconds:.2} s)"
            )
        }
    };
    out
}

fn line(out: &mut String, report: &CaseReport, name: &str, width: usize) {
    let (style, verdict) = match report.verdict {
        Verdict::Conforms => (GREEN, "conforms"),
        Verdict::Differs => (RED, "DIFFERS "),
        Verdict::Error => (RED, "ERROR   "),
    };
    let _ = write!(out, "{name:width$}  {style}{verdict}{style:#}");
    if let Some(error) = &report.error {
        let _ = writeln!(out, "  {error}");
        return;
    }
    for (_, tensor) in COLUMNS {
        let of_column = |report: &&TensorReport| {
            if tensor.ends_with('.') { report.name.starts_with(tensor) } else { report.name == tensor }
        };
        let cell = report.tensors.iter().filter(of_column).max_by(|a, b| a.error.total_cmp(&b.error));
        let style = if cell.is_some_and(|cell| !cell.conforms) { RED } else { anstyle::Style::new() };
        let _ = write!(out, " {style}{:>8}{style:#}", cell.map_or_else(|| "-".into(), number));
    }
    if !report.not_specified.is_empty() {
        let _ = write!(out, "  {YELLOW}{} not specified{YELLOW:#}", report.not_specified.len());
    }
    let _ = writeln!(out);
    for tensor in report.tensors.iter().filter(|tensor| !tensor.conforms) {
        let (at, expected, actual) = (tensor.at.clone().unwrap_or_default(), tensor.expected, tensor.actual);
        let (expected, actual) = (expected.unwrap_or(f64::NAN), actual.unwrap_or(f64::NAN));
        let _ = writeln!(out, "    {}{at:?}: recorded {expected:e}, interpreter {actual:e}", tensor.name);
    }
    if !report.unknown_keys.is_empty() {
        let _ = writeln!(
            out,
            "    {YELLOW}case keys that nothing reads: {}{YELLOW:#}",
            listed(report.unknown_keys.iter().map(String::as_str))
        );
    }
}

fn number(tensor: &TensorReport) -> String {
    match tensor.error {
        0.0 => "same".into(),
        count if tensor.name == "out.indices" => format!("{count} off"),
        error => format!("{error:.0e}"),
    }
}

/// The names of the files; the whole path where several have one name.
fn names(reports: &[CaseReport]) -> Vec<String> {
    let name = |path: &Path| path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let mut times = BTreeMap::<String, usize>::new();
    for report in reports {
        *times.entry(name(&report.path)).or_default() += 1;
    }
    let told_apart = |report: &CaseReport| match name(&report.path) {
        name if times[&name] == 1 => name,
        _ => report.path.display().to_string(),
    };
    reports.iter().map(|report| fwpkm_spec::printable(&told_apart(report))).collect()
}
