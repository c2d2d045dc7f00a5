//! Other implementations, timed by commands that the user names; docs/baselines has the protocol.

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use super::{BOLD, mebibytes};
use crate::bench::Workload;
use crate::error::{Error, Result};

/// The last line a baseline prints.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Report {
    name: String,
    version: String,
    seconds: f64,
    peak_bytes: Option<u64>,
    note: String,
}

impl Report {
    /// Its time beside ours of the same run.
    pub(super) fn beside(&self, workload: Workload, name: &str, seconds: f64, memory: &str) -> String {
        let Workload { tokens, sub_keys, batch } = workload;
        let mut out = String::new();
        let _ = writeln!(
            out,
            "\n{BOLD}{} {}{BOLD:#}, T = {tokens}, n = {sub_keys}, B = {batch} ({})",
            self.name, self.version, self.note
        );
        let (theirs, peak, ratio) = (self.seconds, mebibytes(self.peak_bytes), self.seconds / seconds);
        let _ = writeln!(
            out,
            "  {theirs:.2} s and {peak} MiB; {name}, same run: {seconds:.3} s{memory}; time ratio {ratio:.0}"
        );
        out
    }
}

/// Whether every baseline can be started, before minutes are spent on measuring.
///
/// # Errors   a text without tokens, an empty command, a program that is not there
pub(super) fn check(commands: &[String], tokens: usize) -> Result<()> {
    if tokens == 0 {
        let reason = "--baseline-tokens 0: a text has at least 1 token".into();
        return Err(Error::Usage { reason });
    }
    for command in commands {
        let program = program(command)?;
        // With a slash a path, otherwise looked for as a shell does.
        let folders = std::env::var_os("PATH").unwrap_or_default();
        let is_there = if program.contains(std::path::MAIN_SEPARATOR) {
            is_program(Path::new(program))
        } else {
            std::env::split_paths(&folders).any(|folder| is_program(&folder.join(program)))
        };
        if !is_there {
            let reason =
                format!("--baseline {command:?}: no program {program}; it takes a command such as 'python script.py'");
            return Err(Error::Usage { reason });
        }
    }
    Ok(())
}

fn is_program(path: &Path) -> bool {
    path.is_file() || cfg!(windows) && path.with_extension("exe").is_file()
}

fn program(command: &str) -> Result<&str> {
    let reason = || "--baseline is empty; it takes a command such as 'python script.py'".into();
    command.split_whitespace().next().ok_or_else(|| Error::Usage { reason: reason() })
}

/// Runs a command with the workload appended, and with the device if it is not the processor.
pub(super) fn run(command: &str, workload: Workload, device: Option<&str>) -> Result<Report> {
    let Workload { tokens, sub_keys, batch } = workload;
    let mut process = Command::new(program(command)?);
    process.args(command.split_whitespace().skip(1));
    for (name, value) in [
        ("--tokens", tokens),
        ("--sub-keys", sub_keys),
        ("--key-dim", 512),
        ("--value-dim", 512),
        ("--heads", 1),
        ("--top-k", 8),
        ("--chunk", 512),
        ("--lookahead", 1),
        ("--batch", batch),
        ("--threads", std::thread::available_parallelism().map_or(1, usize::from)),
    ] {
        process.args([name, &value.to_string()]);
    }
    if let Some(device) = device {
        process.args(["--device", device]);
    }
    last_line(process, command)
}

/// Runs a process and reads the JSON object on the last line it prints.
pub(super) fn last_line<T: for<'de> Deserialize<'de>>(mut process: Command, name: &str) -> Result<T> {
    let wrong = |reason: String| Error::Usage { reason: format!("{name}: {reason}") };
    let output = process.stderr(Stdio::inherit()).output().map_err(|e| wrong(e.to_string()))?;
    if !output.status.success() {
        return Err(wrong(format!("ended with {}", output.status)));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().last().unwrap_or_default();
    serde_json::from_str(line).map_err(|e| wrong(format!("its last line should be a JSON report: {e}: {line:.200}")))
}
