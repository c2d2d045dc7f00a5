//! `fwpkm trace`: a run as a page.

use std::path::{Path, PathBuf};

use fwpkm_spec::{CaseFile, counted, replace};
use serde::Serialize;

use super::results::{rules_file, writable};
use super::{Outcome, print, print_json};
use crate::error::Result;
use crate::page::{Record, example, page};
use crate::settings_file::rules;

/// Show a small run step by step, as a page to watch in a browser
///
/// Writes one self-contained HTML file: half scores and the chosen sub-keys, the candidate grid, slots read and written,
/// losses, gradients, and both tables before and after each step, each panel headed by its clause. Without CASE it shows a
/// built-in example. Computed in f64. Refused is what a page cannot show: more than 64 sub-keys, top_k 16, 64 slots per token,
/// key_dim 128, value_dim 64, 2048 tokens times sequences times heads, or 16 MiB of page.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A case file; default: a built-in example
    case: Option<PathBuf>,
    /// Write the page to this file
    #[arg(long, value_name = "FILE")]
    html: PathBuf,
    /// "paper", "release" or a TOML file of rules; default: those the case states, else the release's; paper for the example
    #[arg(long, value_name = "RULES")]
    rules: Option<String>,
    /// One JSON document instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    spec: &'static str,
    html: &'a Path,
    bytes: usize,
    sequences: usize,
    tokens: usize,
    steps: usize,
}

pub(super) fn trace(arguments: &Arguments) -> Result<Outcome> {
    let inputs = arguments.case.as_deref().into_iter().chain(rules_file(arguments.rules.as_deref()));
    writable(&[("--html", &arguments.html)], &inputs.collect::<Vec<_>>())?;
    let rules = arguments.rules.as_deref().map(rules).transpose()?;
    let record = match &arguments.case {
        Some(path) => Record::of_case(&CaseFile::open(path)?, rules.as_ref())?,
        None => example(rules.as_ref())?,
    };
    let page = page(&record)?;
    let path = arguments.html.as_path();
    replace(path, |out| out.write_all(page.as_bytes()))?;
    let (sequences, tokens, steps) = (record.sequences(), record.tokens(), record.steps.len());
    if arguments.json {
        print_json(&Document { spec: fwpkm_spec::version(), html: path, bytes: page.len(), sequences, tokens, steps })?;
    } else {
        let kilobytes = page.len().div_ceil(1000);
        print(&format!(
            "{}, {}: page of {kilobytes} KB written to {}. Open it in a browser.\n",
            counted(tokens, "token"),
            counted(steps, "step"),
            path.display()
        ));
    }
    Ok(Outcome::Done)
}
