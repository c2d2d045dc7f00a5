//! Other implementations, timed by commands that the user names; docs/baselines has the protocol.

use std::fmt::Write;
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

/// Runs a command with the workload appended, and with the device if it is not the processor.
pub(super) fn run(command: &str, workload: Workload, device: Option<&str>) -> Result<Report> {
    let mut words = command.split_whitespace();
    let Some(program) = words.next() else {
        return Err(Error::Usage {
            reason: "--baseline is empty; it takes a command such as 'python script.py'".into(),
        });
    };
    let Workload { tokens, sub_keys, batch } = workload;
    let mut process = Command::new(program);
    process.args(words);
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
