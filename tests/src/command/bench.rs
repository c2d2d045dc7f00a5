//! `fwpkm bench`: time and memory of the interpreter, and of a baseline beside it.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use criterion::Criterion;
use fwpkm_spec::{counted, replace};
use serde::Serialize;

use super::backend::BackendName;
use super::results::writable;
use super::{BOLD, DIM, Outcome, print, print_json, say};
use crate::bench::{Measured, STAGES, Workload, stages};
use crate::error::{Error, Result};
use baseline::Report;

mod baseline;
mod device;

/// Measure time and memory at the canonical size (n = 512, d_k = d_v = 512, k = 8, C = 512)
///
/// First every stage on one chunk (Criterion), then whole texts that are made while they are fed, one process each, so that
/// each has a peak memory of its own. Cost should be linear in T, memory flat in T, and both flat in N beyond scoring.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What is measured. cuda: verified, then timed by the device, per chunk and stage, beside floors from rates measured in the
    /// same run. emulator: the same on tiny shapes, without any time
    #[arg(long, value_name = "BACKEND", default_value = "cpu", conflicts_with = "full")]
    backend: BackendName,
    /// Texts up to a million tokens, f64 as well: about ten minutes on two cores
    #[arg(long)]
    full: bool,
    /// On a device, see in seconds that it runs: tiny shapes, whose times mean nothing
    #[arg(long)]
    tiny: bool,
    /// A command that times another implementation on the same workloads; see docs/baselines
    #[arg(long, value_name = "COMMAND")]
    baseline: Vec<String>,
    /// Tokens of the texts that baselines are timed on
    #[arg(long, value_name = "TOKENS", default_value_t = 1024)]
    baseline_tokens: usize,
    /// One JSON document instead of text
    #[arg(long)]
    json: bool,
    /// Write the JSON document into this file, besides what is printed. With --backend cuda or emulator it is written after every
    /// batch, so that what was measured is there if the run is stopped
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// For the command itself: time the stages into this folder
    #[arg(long, hide = true)]
    stages_into: Option<PathBuf>,
    /// For the command itself: measure one workload
    #[arg(long, hide = true)]
    workload: Option<String>,
}

#[derive(Debug, Default, Serialize)]
struct Document {
    spec: &'static str,
    machine: Machine,
    element: &'static str,
    stages: Vec<Stage>,
    texts: Vec<Text>,
    baselines: Vec<Baseline>,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Machine {
    pub(super) processor: String,
    pub(super) cores: usize,
    pub(super) system: String,
}

#[derive(Debug, Serialize)]
struct Stage {
    name: &'static str,
    seconds: f64,
    /// Half the width of Criterion's 95 % interval.
    margin: f64,
}

#[derive(Debug, Serialize)]
struct Text {
    element: &'static str,
    workload: Workload,
    measured: Measured,
}

#[derive(Debug, Serialize)]
struct Baseline {
    report: Report,
    workload: Workload,
    ours: Measured,
}

pub(super) fn bench(arguments: &Arguments) -> Result<Outcome> {
    if let Some(folder) = &arguments.stages_into {
        return stages_into(folder);
    }
    if let Some(workload) = &arguments.workload {
        return measure_here(workload);
    }
    baseline::check(&arguments.baseline, arguments.baseline_tokens)?;
    let out: Vec<_> = arguments.out.iter().map(|path| ("--out", path.as_path())).collect();
    // What a baseline is run with may be files.
    let words: Vec<&Path> = arguments.baseline.iter().flat_map(|line| line.split_whitespace()).map(Path::new).collect();
    writable(&out, &words)?;
    if arguments.backend != BackendName::Cpu {
        return device::on_device(arguments);
    }
    if arguments.tiny {
        return Err(Error::Usage { reason: "--tiny is for --backend cuda".into() });
    }
    let mut document =
        Document { spec: fwpkm_spec::version(), machine: machine(), element: "f32", ..Document::default() };
    note("stages");
    document.stages = time_stages()?;
    for (element, workload) in workloads(arguments.full) {
        note(&format!("T = {}, n = {}, B = {}, {element}", workload.tokens, workload.sub_keys, workload.batch));
        document.texts.push(Text { element, workload, measured: measure(element, workload)? });
    }
    for command in &arguments.baseline {
        let workload = Workload { tokens: arguments.baseline_tokens, sub_keys: 512, batch: 1 };
        note(command);
        let report = baseline::run(command, workload, None)?;
        document.baselines.push(Baseline { report, workload, ours: measure("f32", workload)? });
    }
    write_out(arguments, &document)?;
    if arguments.json {
        print_json(&document)?;
    } else {
        print(&text(&document));
    }
    Ok(Outcome::Done)
}

/// The document into the file of `--out`, where it is given.
fn write_out(arguments: &Arguments, document: &impl Serialize) -> Result<()> {
    let Some(path) = &arguments.out else { return Ok(()) };
    let unwritten = |e: serde_json::Error| Error::File { path: path.display().to_string(), reason: e.to_string() };
    let text = serde_json::to_string_pretty(document).map_err(unwritten)?;
    Ok(replace(path, |out| out.write_all((text + "\n").as_bytes()))?)
}

fn note(what: &str) {
    say(&format!("{DIM}measuring {what}{DIM:#}"));
}

/// T, then n, then B varied; each once from the same base.
fn workloads(full: bool) -> Vec<(&'static str, Workload)> {
    let tokens: &[usize] = if full { &[8, 32, 128, 512, 1024] } else { &[8, 32] };
    let base = Workload { tokens: 8 << 10, sub_keys: 512, batch: 1 };
    let mut workloads: Vec<(&'static str, Workload)> =
        tokens.iter().map(|thousands| ("f32", Workload { tokens: thousands << 10, ..base })).collect();
    workloads.extend([128, 256, 1024].map(|sub_keys| ("f32", Workload { sub_keys, ..base })));
    workloads.extend([2, 4, 8].map(|batch| ("f32", Workload { batch, ..base })));
    workloads.push(("f64", base));
    if full {
        workloads.push(("f64", Workload { tokens: 128 << 10, ..base }));
    }
    workloads
}

fn this_command() -> Result<Command> {
    let path =
        std::env::current_exe().map_err(|e| Error::Usage { reason: format!("cannot find this program: {e}") })?;
    Ok(Command::new(path))
}

/// Criterion writes its report to standard output, so the stages are timed in a process of their own.
fn time_stages() -> Result<Vec<Stage>> {
    let folder = std::env::temp_dir().join(format!("fwpkm-bench-{}", std::process::id()));
    let status = this_command()?.args(["bench", "--stages-into"]).arg(&folder).stdout(Stdio::null()).status();
    let status = status.map_err(|e| Error::Usage { reason: format!("cannot start this program: {e}") })?;
    if !status.success() {
        return Err(Error::Usage { reason: format!("timing the stages ended with {status}") });
    }
    let times = STAGES.iter().map(|name| stage(&folder, name)).collect();
    let _ = std::fs::remove_dir_all(&folder);
    times
}

fn stages_into(folder: &Path) -> Result<Outcome> {
    let mut criterion = Criterion::default()
        .output_directory(folder)
        .without_plots()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    stages::<f32>(&mut criterion)?;
    Ok(Outcome::Done)
}

/// Median and its interval, from Criterion's estimates.
fn stage(folder: &Path, name: &'static str) -> Result<Stage> {
    let path = folder.join(name).join("new").join("estimates.json");
    let wrong = |reason: String| Error::File { path: path.display().to_string(), reason };
    let text = std::fs::read_to_string(&path).map_err(|e| wrong(e.to_string()))?;
    let estimates: serde_json::Value = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
    let median = &estimates["median"];
    let number = |value: &serde_json::Value| value.as_f64().ok_or_else(|| wrong("no median in it".to_string()));
    let nanoseconds = number(&median["point_estimate"])?;
    let interval = &median["confidence_interval"];
    let width = number(&interval["upper_bound"])? - number(&interval["lower_bound"])?;
    Ok(Stage { name, seconds: nanoseconds * 1e-9, margin: width / 2.0 * 1e-9 })
}

fn measure(element: &str, workload: Workload) -> Result<Measured> {
    let json = serde_json::to_string(&(element, workload)).map_err(|e| Error::Usage { reason: e.to_string() })?;
    let mut command = this_command()?;
    command.args(["bench", "--workload", &json]);
    baseline::last_line(command, "a workload of this program")
}

fn measure_here(workload: &str) -> Result<Outcome> {
    let (element, workload): (String, Workload) =
        serde_json::from_str(workload).map_err(|e| Error::Usage { reason: format!("--workload: {e}") })?;
    let measured = if element == "f64" { workload.measure::<f64>()? } else { workload.measure::<f32>()? };
    print(&(serde_json::to_string(&measured).map_err(|e| Error::Usage { reason: e.to_string() })? + "\n"));
    Ok(Outcome::Done)
}

pub(super) fn machine() -> Machine {
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors.lines().find_map(|line| line.strip_prefix("model name"));
    let processor = model.map_or("unknown", |model| model.trim_start_matches([' ', '\t', ':'])).to_string();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Machine { processor, cores, system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH) }
}

fn text(document: &Document) -> String {
    let Machine { processor, cores, system } = &document.machine;
    let cores = counted(*cores, "core");
    let mut out = format!("{DIM}{processor}, {cores}, {system}; specification {}{DIM:#}\n\n", document.spec);
    let chunk = document.stages.iter().find(|stage| stage.name == "chunk").map_or(f64::NAN, |stage| stage.seconds);
    let _ = writeln!(out, "{BOLD}{:12} {:>14} {:>9} {:>10}{BOLD:#}", "stage", "ms per chunk", "±", "of a chunk");
    for Stage { name, seconds, margin } in &document.stages {
        let (ms, margin, share) = (seconds * 1e3, margin * 1e3, seconds / chunk * 100.0);
        let _ = writeln!(out, "{name:12} {ms:14.3} {margin:9.3} {share:8.1} %");
    }
    let columns = format!(
        "{:>9} {:>6} {:>4} {:>5} {:>10} {:>11} {:>14} {:>10}",
        "T", "n", "B", "type", "seconds", "tokens/s", "µs per token", "peak MiB"
    );
    let _ = writeln!(out, "\n{BOLD}{columns}{BOLD:#}");
    for Text { element, workload: Workload { tokens, sub_keys, batch }, measured } in &document.texts {
        let total = (tokens * batch) as f64;
        let (rate, each) = (total / measured.seconds, measured.seconds / total * 1e6);
        let (seconds, peak) = (measured.seconds, mebibytes(measured.peak_bytes));
        let _ = writeln!(
            out,
            "{tokens:9} {sub_keys:6} {batch:4} {element:>5} {seconds:10.2} {rate:11.0} {each:14.1} {peak:>10}"
        );
    }
    for Baseline { report, workload, ours } in &document.baselines {
        let memory = format!(" and {} MiB", mebibytes(ours.peak_bytes));
        out.push_str(&report.beside(*workload, "this interpreter", ours.seconds, &memory));
    }
    out
}

fn mebibytes(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "unknown".into(), |bytes| (bytes >> 20).to_string())
}
