//! `fwpkm vectors`: the certified vectors, checked or written anew; their inputs for a port.

use std::path::{Path, PathBuf};

use fwpkm_spec::{counted, verb};

use super::{DIM, GREEN, Outcome, RED, YELLOW, print};
use crate::error::{Error, Result};
use crate::vectors::entry::Folder;
use crate::vectors::export::export;
use crate::vectors::regenerate::{FileReport, State, regenerate};

/// Check, rewrite or export the certified vectors
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    job: Job,
}

/// Where the vectors are in the source.
const DEFAULT: &str = "spec/vectors/certified";

#[derive(Debug, clap::Subcommand)]
enum Job {
    Regenerate(Regenerate),
    Export(Export),
}

/// Make every vector from the catalogue and replace the files that differ
///
/// Inputs must be the same byte for byte. Outputs are judged in f64, as `judge` would, and each number must be within its bound.
/// Bounds and margins that the certificate states are computed anew, and must be the same as far as logarithms are on all
/// machines (SPEC.md, "Certified vectors"). A file that agrees is left alone. Exit status: 0 all agree or were written, 1 some
/// differ.
#[derive(Debug, clap::Args)]
struct Regenerate {
    /// Folder of the vectors
    #[arg(default_value = DEFAULT)]
    folder: PathBuf,
    /// Only vectors whose name contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Only say which files differ
    #[arg(long)]
    check: bool,
}

/// Write the inputs of every vector to a new folder, with a list of the outputs asked for
///
/// index.json names each file, what it is for, and the outputs to write, with their shapes.
#[derive(Debug, clap::Args)]
struct Export {
    /// A new or empty folder
    folder: PathBuf,
    /// Only vectors whose outputs follow these rules; default: all
    #[arg(long, value_name = "RULES")]
    rules: Option<RulesName>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum RulesName {
    Paper,
    Release,
}

pub(super) fn vectors(arguments: &Arguments) -> Result<Outcome> {
    match &arguments.job {
        Job::Regenerate(arguments) => regenerate_folder(arguments),
        Job::Export(arguments) => export_to(arguments),
    }
}

fn regenerate_folder(arguments: &Regenerate) -> Result<Outcome> {
    if !arguments.folder.is_dir() && (arguments.check || arguments.folder == Path::new(DEFAULT)) {
        let reason = if arguments.folder.exists() { "not a folder" } else { "there is no such folder" };
        let reason = format!("{reason}; run this where the source is, or name the folder of the vectors");
        return Err(Error::File { path: arguments.folder.display().to_string(), reason });
    }
    let mut say = |report: &FileReport| {
        if let Some(line) = line(report) {
            print(&line);
        }
    };
    let reports = regenerate(&arguments.folder, arguments.only.as_deref(), !arguments.check, &mut say)?;
    let count = |is: fn(&State) -> bool| reports.iter().filter(|report| is(&report.state)).count();
    let (same, written) = (count(|s| *s == State::Same), count(|s| matches!(s, State::Written(_))));
    let wrong = reports.len() - same - written;
    let total = reports.len();
    if total == 0 {
        let reason = format!("no vector's name contains {:?}", arguments.only.as_deref().unwrap_or_default());
        return Err(Error::Usage { reason });
    }
    let vectors = counted(total, "vector");
    print(&match (wrong, written) {
        (0, 0) if total == 1 => format!("{GREEN}1 vector is as the catalogue gives it{GREEN:#}\n"),
        (0, 0) => format!("{GREEN}all {total} vectors are as the catalogue gives them{GREEN:#}\n"),
        (0, _) => format!("{GREEN}{written} of {vectors} written, the others agree{GREEN:#}\n"),
        _ => {
            let differ = verb(wrong, total, "differ");
            format!("{RED}{wrong} of {vectors} {differ}{RED:#}; without --check what differs is written anew\n")
        }
    });
    Ok(if wrong > 0 { Outcome::Differs } else { Outcome::Done })
}

fn line(report: &FileReport) -> Option<String> {
    let path = report.path.display();
    match &report.state {
        State::Same => None,
        State::Differs(reason) => Some(format!("{RED}differs{RED:#}  {path}: {reason}\n")),
        State::Written(reason) => Some(format!("{YELLOW}written{YELLOW:#}  {path} {DIM}({reason}){DIM:#}\n")),
        State::Unknown => Some(format!("{RED}unknown{RED:#}  {path}: the catalogue has no such vector; remove it\n")),
    }
}

fn export_to(arguments: &Export) -> Result<Outcome> {
    let folders: &[Folder] = match arguments.rules {
        None => &[Folder::Both, Folder::Paper, Folder::Release, Folder::Other],
        Some(RulesName::Paper) => &[Folder::Both, Folder::Paper],
        Some(RulesName::Release) => &[Folder::Both, Folder::Release],
    };
    let index = export(&arguments.folder, folders)?;
    let list: &Path = &arguments.folder.join("index.json");
    let cases = counted(index.cases.len(), "case");
    print(&format!("{GREEN}{cases}{GREEN:#}; {} says what outputs they ask for\n", list.display()));
    Ok(Outcome::Done)
}
