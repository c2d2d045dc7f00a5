//! `fwpkm check`: the built-in implementations on every certified vector.

use std::path::PathBuf;
use std::time::Instant;

use fwpkm_spec::counted;
use serde::Serialize;

use super::backend::BackendName;
use super::judging::{Chosen, RulesName, progress, stop_flag};
use super::{Outcome, print, print_json, quoted, report_text};
use crate::backend::DECLARED;
use crate::deviation::{self, Deviation};
use crate::error::{Error, Result};
use crate::implementation::Implementation;
use crate::judge::{Declaration, Distance, Verdict};
use crate::judging::{Source, built_in, report};
use crate::long::problems;
use crate::numbers::Numbers;
use crate::problem::Problem;
use crate::report::Report;

/// Judge a built-in implementation on every certified vector, clause by clause
///
/// The interpreter in f64, f32, and f32 with results kept in bf16 and f16; distances taken directly and, in f32, expanded. With
/// --backend the CUDA implementation, in f32; what it does not cover is counted as not applicable. With --deviation a wrong
/// implementation takes the interpreter's place, to see what a failure looks like. Exit status: 0 all conform, 1 some differ, 2
/// some could not be judged, or nothing was, 130 stopped by Ctrl-C.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Arguments {
    /// Only vectors whose outputs follow these rules; default: all
    #[arg(long, value_name = "RULES")]
    rules: Option<RulesName>,
    /// Only this vector
    #[arg(long, value_name = "NAME")]
    case: Option<String>,
    /// Instead of the vectors, a text of so many random tokens: the whole, and each of its chunks by itself
    ///
    /// All of it is held, with what is computed of it: about 45 kB for each token. Ctrl-C stops it after the case under way, and the
    /// whole text is one case. What is computed instead is not looked for.
    #[arg(long, value_name = "TOKENS", conflicts_with_all = ["rules", "case", "vectors"])]
    long: Option<usize>,
    /// What is judged
    #[arg(long, value_name = "BACKEND", default_value = "cpu")]
    backend: BackendName,
    /// Judge this named deviation instead, in f32; "list" lists all
    #[arg(long, value_name = "NAME", conflicts_with = "backend")]
    deviation: Option<String>,
    /// Folder of the vectors; default: those that came with the source
    #[arg(long, value_name = "FOLDER")]
    vectors: Option<PathBuf>,
    /// One JSON document instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
pub(super) struct Document<'a> {
    pub(super) spec: &'a str,
    pub(super) reports: &'a [Report],
}

pub(super) fn check(arguments: &Arguments) -> Result<Outcome> {
    let started = Instant::now();
    if arguments.deviation.as_deref() == Some("list") {
        return list(arguments);
    }
    let (cases, what) = cases(arguments)?;
    let backend = arguments.backend.run()?;
    let (implementation, declared) = match &arguments.deviation {
        None if backend.is_some() => (Implementation::specification(), vec![DECLARED]),
        None => (Implementation::specification(), KINDS.to_vec()),
        Some(name) => (deviating(name)?, vec![Declaration { numbers: Numbers::F32, distance: Distance::Direct }]),
    };
    let (stop, bar) = (stop_flag(), progress(cases.len() * declared.len()));
    let subject = arguments.deviation.as_deref().unwrap_or(arguments.backend.name());
    let reports: Vec<Report> = declared
        .iter()
        .map(|&declared| {
            let implementation = Implementation { distance: declared.distance, ..implementation.clone() };
            let interpreter = built_in(&implementation, declared);
            let source: Source = backend.as_deref().map_or(&interpreter, |run| run);
            // On a long text every deviation would take as long as the text does.
            let explain = arguments.long.is_none();
            report(subject, declared, &cases, source, explain, &stop, &|| bar.inc(1))
        })
        .collect();
    bar.finish_and_clear();
    if arguments.json {
        print_json(&Document { spec: fwpkm_spec::version(), reports: &reports })?;
    } else {
        let spec = fwpkm_spec::version();
        let heading = format!("{subject} on {what}, specification {spec}");
        let rerun = |_: &Report, case: &str| {
            let of = arguments.deviation.as_ref().map(|name| format!(" --deviation {name}"));
            let of = of.unwrap_or_else(|| arguments.backend.argument().into());
            let case = arguments.long.map_or_else(|| format!("--case {case}"), |tokens| format!("--long {tokens}"));
            let vectors = arguments.vectors.as_ref().map(|folder| format!(" --vectors {}", quoted(folder)));
            format!("fwpkm check{of} {case}{}", vectors.unwrap_or_default())
        };
        print(&report_text::text(&heading, &reports, &rerun, started.elapsed().as_secs_f64()));
    }
    Ok(outcome(&reports))
}

/// What is judged on, and in words
fn cases(arguments: &Arguments) -> Result<(Vec<Problem>, String)> {
    if let Some(tokens) = arguments.long {
        let problems = problems(tokens)?;
        let chunks = problems.len() - 1;
        let (tokens, chunks) = (counted(tokens, "token"), counted(chunks, "chunk"));
        return Ok((problems, format!("a random text of {tokens} and its {chunks}")));
    }
    let chosen = Chosen::new(arguments.vectors.as_deref(), arguments.rules, arguments.case.as_deref())?;
    let problems: Vec<Problem> = chosen.vectors.into_iter().map(|vector| vector.problem).collect();
    let what = counted(problems.len(), "certified vector");
    Ok((problems, what))
}

/// The kinds of numbers and distances that the interpreter is judged in.
const KINDS: [Declaration; 5] = [
    Declaration { numbers: Numbers::F64, distance: Distance::Direct },
    Declaration { numbers: Numbers::F32, distance: Distance::Direct },
    Declaration { numbers: Numbers::Bf16, distance: Distance::Direct },
    Declaration { numbers: Numbers::F16, distance: Distance::Direct },
    Declaration { numbers: Numbers::F32, distance: Distance::Expanded },
];

fn deviating(name: &str) -> Result<Implementation> {
    let found = deviation::all().iter().find(|deviation| deviation.name == name);
    let reason = || format!("no deviation {name}; `fwpkm check --deviation list` lists them");
    found.map(Implementation::deviating).ok_or_else(|| Error::Usage { reason: reason() })
}

/// A deviation as it is listed.
#[derive(Serialize)]
struct Listed {
    name: &'static str,
    clause: &'static str,
    instead: &'static str,
}

#[derive(Serialize)]
struct List {
    spec: &'static str,
    deviations: Vec<Listed>,
}

fn list(arguments: &Arguments) -> Result<Outcome> {
    let listed = |&Deviation { name, clause, instead, .. }: &Deviation| Listed { name, clause, instead };
    let deviations: Vec<Listed> = deviation::all().iter().map(listed).collect();
    if arguments.json {
        print_json(&List { spec: fwpkm_spec::version(), deviations })?;
        return Ok(Outcome::Done);
    }
    for Listed { name, clause, instead } in deviations {
        print(&format!("{name:44} {clause:6} {instead}\n"));
    }
    Ok(Outcome::Done)
}

/// The outcome of all reports; where nothing at all could be judged, that of a bad file.
pub(super) fn outcome(reports: &[Report]) -> Outcome {
    let any = |is: fn(&Report) -> bool| reports.iter().any(is);
    if any(|report| report.stopped) {
        Outcome::Stopped
    } else if any(|report| !report.errors.is_empty()) {
        Outcome::BadFile
    } else if any(|report| report.verdict() == Verdict::Differs) {
        Outcome::Differs
    } else if any(|report| report.verdict() == Verdict::Conforms) {
        Outcome::Done
    } else {
        Outcome::BadFile
    }
}
