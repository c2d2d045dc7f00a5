//! `fwpkm judge` and `fwpkm identify`: the recorded outputs of anyone's implementation.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Instant;

use fwpkm_spec::counted;

use super::check::{Document, outcome};
use super::judging::{Chosen, RulesName, progress, stop_flag};
use super::{Outcome, RED, print, print_json, quoted, report_text, say};
use crate::error::{Error, Result};
use crate::judge::{Distance, Verdict};
use crate::judging::{recorded, report};
use crate::numbers::Numbers;
use crate::recording::Recording;
use crate::report::{ClauseLine, Report};

/// Judge recorded outputs, clause by clause
///
/// FOLDER holds one safetensors file per vector, named as `fwpkm vectors export` names its inputs, with the tensors out.* and,
/// where the implementation has them, grad.* and trace.*; what is not there is not judged, but a file without any result of its
/// vector is an error. declaration.json beside them may say what results are kept in: {"numbers": "f32", "distance": "expanded"}.
/// Exit status: 0 all conform, 1 some differ, 2 some could not be judged, or nothing was, 130 stopped by Ctrl-C.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Folder of recorded outputs
    folder: PathBuf,
    /// Only vectors whose outputs follow these rules; default: all
    #[arg(long, value_name = "RULES")]
    rules: Option<RulesName>,
    /// Only this vector
    #[arg(long, value_name = "NAME")]
    case: Option<String>,
    /// What results are kept in: f64, f32, bf16 or f16; default: the type of the files
    #[arg(long, value_name = "TYPE", value_parser = numbers)]
    numbers: Option<Numbers>,
    /// How it takes distances: direct, or expanded as torch.cdist does
    #[arg(long, value_name = "FORM", value_parser = distance)]
    distance: Option<Distance>,
    /// Exit status 1 also where something asked for was not recorded: a vector, an out.* of one, or a grad.* beside others
    #[arg(long, value_name = "WHAT")]
    require: Option<Required>,
    /// Folder of the vectors; default: those that came with the source
    #[arg(long, value_name = "FOLDER")]
    vectors: Option<PathBuf>,
    /// One JSON document instead of text
    #[arg(long)]
    json: bool,
}

/// What must be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Required {
    All,
}

/// What `identify` is, in a line.
pub(super) const IDENTIFY: &str = "Say which known implementation recorded outputs are consistent with";

/// The same, in full.
pub(super) const IDENTIFY_LONG: &str = "Say which known implementation recorded outputs are consistent with

As judge, but only the answer: the specification, a named deviation, several that the vectors cannot tell apart, a pair of two, or \
nothing known; with the clauses that differ. FOLDER and exit status as for judge.";

fn numbers(text: &str) -> std::result::Result<Numbers, String> {
    let found = Numbers::ALL.into_iter().find(|numbers| numbers.name() == text);
    found.ok_or_else(|| "allowed: f64, f32, bf16, f16".into())
}

fn distance(text: &str) -> std::result::Result<Distance, String> {
    let found = [Distance::Direct, Distance::Expanded].into_iter().find(|distance| distance.name() == text);
    found.ok_or_else(|| "allowed: direct, expanded".into())
}

pub(super) fn judge(arguments: &Arguments) -> Result<Outcome> {
    let (report, seconds) = judged(arguments)?;
    let reports = [report];
    if arguments.json {
        print_json(&Document { spec: fwpkm_spec::version(), reports: &reports })?;
    } else {
        let [report] = &reports;
        let heading = format!(
            "{} on {}, specification {}",
            report.subject,
            counted(report.cases.len(), "certified vector"),
            fwpkm_spec::version()
        );
        let rerun = |_: &Report, case: &str| rerun(arguments, case);
        print(&report_text::text(&heading, &reports, &rerun, seconds));
    }
    Ok(required(arguments, &reports))
}

/// The outcome; a report that conforms and is not complete differs where all is required, which is then said.
fn required(arguments: &Arguments, [report]: &[Report; 1]) -> Outcome {
    let outcome = outcome(std::slice::from_ref(report));
    if outcome != Outcome::Done || arguments.require != Some(Required::All) || report.is_complete() {
        return outcome;
    }
    let lacking = [
        (report.not_recorded.len(), "no recorded outputs", report.not_recorded.first().cloned()),
        (report.incomplete().count(), "not every result", report.incomplete().next().map(|case| case.case.clone())),
    ];
    let lacking = lacking.into_iter().filter_map(|(count, what, first)| {
        let have = if count == 1 { "has" } else { "have" };
        Some(format!("{} {have} {what} (the first: {})", counted(count, "vector"), first?))
    });
    let reason = format!("{RED}--require all: {}{RED:#}\n", lacking.collect::<Vec<_>>().join("; "));
    if arguments.json {
        say(reason.trim_end());
    } else {
        print(&reason);
    }
    Outcome::Differs
}

/// The command that judges one vector of the folder alike.
fn rerun(arguments: &Arguments, case: &str) -> String {
    let mut line = format!("fwpkm judge {} --case {case}", quoted(&arguments.folder));
    if let Some(numbers) = arguments.numbers {
        let _ = write!(line, " --numbers {}", numbers.name());
    }
    if let Some(distance) = arguments.distance {
        let _ = write!(line, " --distance {}", distance.name());
    }
    if let Some(vectors) = &arguments.vectors {
        let _ = write!(line, " --vectors {}", quoted(vectors));
    }
    line
}

/// See [`IDENTIFY_LONG`].
pub(super) fn identify(arguments: &Arguments) -> Result<Outcome> {
    let (report, _) = judged(arguments)?;
    let reports = [report];
    if arguments.json {
        print_json(&Document { spec: fwpkm_spec::version(), reports: &reports })?;
        return Ok(required(arguments, &reports));
    }
    let [report] = &reports;
    let mut text = format!("{}, {}\n", report.subject, counted(report.cases.len(), "vector"));
    if let Some(taken_from) = &report.taken_from {
        let _ = writeln!(text, "{taken_from}");
    }
    for line in report.clauses.iter().filter(|line| line.differing > 0) {
        let ClauseLine { clause, title, differing, cases, .. } = line;
        let cases = counted(*cases, "case");
        let _ = writeln!(text, "  {clause:7}{title:36} differs in {differing} of {cases}");
    }
    match report.verdict() {
        Verdict::Conforms => text += "consistent with the specification\n",
        Verdict::NotJudged => text += "nothing was judged, so nothing is identified\n",
        Verdict::Differs => report_text::identification(&mut text, report),
    }
    report_text::troubles(&mut text, report);
    report_text::stopped(&mut text, &reports);
    print(&text);
    Ok(required(arguments, &reports))
}

fn judged(arguments: &Arguments) -> Result<(Report, f64)> {
    let started = Instant::now();
    let recording = Recording::open(&arguments.folder)?;
    let chosen = Chosen::new(arguments.vectors.as_deref(), arguments.rules, arguments.case.as_deref())?;
    let names: Vec<&str> = chosen.vectors.iter().map(|vector| vector.name.as_str()).collect();
    let mut declared = recording.declared(&names);
    declared.numbers = arguments.numbers.unwrap_or(declared.numbers);
    declared.distance = arguments.distance.unwrap_or(declared.distance);
    // Foreign text, printed.
    let name = recording.stated.name.as_deref().map(fwpkm_spec::shortened);
    let subject = name.unwrap_or_else(|| arguments.folder.display().to_string());
    let (stop, bar) = (stop_flag(), progress(chosen.vectors.len()));
    let source = recorded(&recording);
    let mut report = report(&subject, declared, &chosen.vectors, &source, true, &stop, &|| bar.inc(1));
    report.taken_from = if arguments.numbers.is_some() { None } else { recording.taken_from(&names) };
    bar.finish_and_clear();
    if report.cases.is_empty() && report.errors.is_empty() && !report.stopped {
        let reason = format!(
            "{} has no file for any of {}; the first is expected at {}",
            arguments.folder.display(),
            counted(chosen.vectors.len(), "vector"),
            recording.path(names[0]).display()
        );
        return Err(Error::Usage { reason });
    }
    Ok((report, started.elapsed().as_secs_f64()))
}
