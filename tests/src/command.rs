//! The command `fwpkm`: text for people on stdout, `--json` one document instead, errors on stderr.
//!
//! Exit status: 0 conforms or done, 1 differs, 2 usage or bad file, or nothing was judged, 130 stopped by Ctrl-C.

mod backend;
mod bench;
mod check;
mod doctor;
mod judge;
mod judging;
mod report_text;
mod results;
mod run;
mod spec;
mod trace;
mod vectors;
mod verify;

use std::io::Write;
use std::process::ExitCode;
use std::sync::OnceLock;

use anstyle::{AnsiColor, Style};
use clap::{Parser, Subcommand};

/// Specification, reference and verification suite of Fast-weight Product Key Memory (arXiv 2601.00671).
#[derive(Debug, Parser)]
#[command(name = "fwpkm", version, max_term_width = 100)]
pub struct Command {
    #[command(subcommand)]
    job: Option<Job>,
}

#[derive(Debug, Subcommand)]
enum Job {
    Check(check::Arguments),
    Judge(judge::Arguments),
    #[command(about = judge::IDENTIFY, long_about = judge::IDENTIFY_LONG)]
    Identify(judge::Arguments),
    Verify(verify::Arguments),
    Run(run::Arguments),
    Trace(trace::Arguments),
    Spec(spec::Arguments),
    Bench(bench::Arguments),
    Vectors(vectors::Arguments),
    Doctor(doctor::Arguments),
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Done,
    Differs,
    BadFile,
    Stopped,
}

/// Reads the arguments of the process, does the job and gives its exit status.
pub fn main() -> ExitCode {
    let command = match Command::try_parse() {
        Ok(command) => command,
        Err(error) => return unparsed(&error),
    };
    let outcome = match command.job.unwrap_or_else(|| Job::Check(check::Arguments::default())) {
        Job::Check(arguments) => check::check(&arguments),
        Job::Judge(arguments) => judge::judge(&arguments),
        Job::Identify(arguments) => judge::identify(&arguments),
        Job::Verify(arguments) => verify::verify(&arguments),
        Job::Run(arguments) => run::run(&arguments),
        Job::Trace(arguments) => trace::trace(&arguments),
        Job::Spec(arguments) => spec::spec(&arguments),
        Job::Bench(arguments) => bench::bench(&arguments),
        Job::Vectors(arguments) => vectors::vectors(&arguments),
        Job::Doctor(arguments) => doctor::doctor(&arguments),
    };
    let outcome = match UNWRITTEN.get() {
        Some(reason) => Err(crate::Error::File { path: "standard output".into(), reason: reason.clone() }),
        None => outcome,
    };
    match outcome {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Differs) => ExitCode::from(1),
        Ok(Outcome::BadFile) => ExitCode::from(2),
        Ok(Outcome::Stopped) => ExitCode::from(130),
        Err(error) => {
            say(&format!("{RED}error:{RED:#} {error}"));
            ExitCode::from(2)
        }
    }
}

/// Prints a help text or what is wrong with the arguments.
fn unparsed(error: &clap::Error) -> ExitCode {
    let status = u8::try_from(error.exit_code()).unwrap_or(2);
    match error.print() {
        Err(unwritten) if unwritten.kind() != std::io::ErrorKind::BrokenPipe => ExitCode::from(2),
        _ => ExitCode::from(status),
    }
}

const RED: Style = AnsiColor::Red.on_default().bold();
const GREEN: Style = AnsiColor::Green.on_default();
const YELLOW: Style = AnsiColor::Yellow.on_default();
const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();

/// Why what was printed could not be written, where that was not the reader's going away.
static UNWRITTEN: OnceLock<String> = OnceLock::new();

/// Prints lines, and says nothing where the reader has gone away.
fn print(text: &str) {
    let mut out = anstream::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            UNWRITTEN.get_or_init(|| error.to_string());
        }
        _ => {}
    }
}

/// A path as a word of a shell.
fn quoted(path: &std::path::Path) -> String {
    let text = path.display().to_string();
    let plain = |letter: char| letter.is_alphanumeric() || "/._-+=:,@%".contains(letter);
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// Says something on standard error, to whoever hears it: where it cannot be written there is nobody to tell.
fn say(text: &str) {
    let _ = anstream::stderr().write_all(format!("{text}\n").as_bytes());
}

/// Prints one JSON document.
fn print_json(document: &impl serde::Serialize) -> crate::Result<()> {
    let text = serde_json::to_string_pretty(document)
        .map_err(|e| crate::Error::File { path: "standard output".into(), reason: e.to_string() })?;
    print(&(text + "\n"));
    Ok(())
}
