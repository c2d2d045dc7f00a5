//! `fwpkm spec`: clauses in a terminal.

use std::fmt::Write;

use fwpkm_spec::{Clause, clauses};
use serde::Serialize;

use super::{BOLD, DIM, GREEN, Outcome, print, print_json};
use crate::error::Result;

/// Read a clause of the specification, or list them all
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A clause (MEM-4) or a group (MEM); none lists every clause
    label: Option<String>,
    /// One JSON document instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Entry<'a> {
    label: String,
    title: &'a str,
    body: &'a str,
}

pub(super) fn spec(arguments: &Arguments) -> Result<Outcome> {
    fwpkm_spec::registry::registry()?;
    let chosen = chosen(arguments.label.as_deref())?;
    if arguments.json {
        let entry = |clause: &&'static Clause| Entry {
            label: clause.label.to_string(),
            title: &clause.title,
            body: &clause.body,
        };
        print_json(&chosen.iter().map(entry).collect::<Vec<_>>())?;
    } else if arguments.label.is_none() || chosen.len() > 1 {
        print(&list(&chosen));
    } else {
        for clause in chosen {
            print(&page(clause));
        }
    }
    Ok(Outcome::Done)
}

fn chosen(label: Option<&str>) -> Result<Vec<&'static Clause>> {
    let Some(label) = label else { return Ok(clauses().iter().collect()) };
    let group: Vec<&Clause> =
        clauses().iter().filter(|clause| clause.label.group().code().eq_ignore_ascii_case(label.trim())).collect();
    if group.is_empty() { Ok(vec![fwpkm_spec::clause(label)?]) } else { Ok(group) }
}

fn list(clauses: &[&Clause]) -> String {
    let mut out = format!("{DIM}FwPKM specification {}{DIM:#}\n", fwpkm_spec::version());
    let mut group = None;
    for clause in clauses {
        if group != Some(clause.label.group()) {
            group = Some(clause.label.group());
            let _ = writeln!(out, "\n{BOLD}{}{BOLD:#}", clause.label.group().stage());
        }
        let _ = writeln!(out, "  {GREEN}{:7}{GREEN:#} {}", clause.label.to_string(), clause.title);
    }
    let _ = writeln!(out, "\n{DIM}fwpkm spec LABEL shows one.{DIM:#}");
    out
}

/// Widest line of running text; longer ones are wrapped at the terminal's width.
const WIDEST: usize = 100;

/// One clause: headings and part names stand out, paragraphs are filled, equations and examples stay as written.
fn page(clause: &Clause) -> String {
    let width = terminal_size::terminal_size().map_or(WIDEST, |(width, _)| usize::from(width.0)).clamp(40, WIDEST);
    let mut out = format!("{BOLD}{GREEN}{}{GREEN:#} {BOLD}{}{BOLD:#}", clause.label, clause.title);
    let _ = writeln!(out, "  {DIM}FwPKM specification {}{DIM:#}\n", fwpkm_spec::version());
    let mut paragraph = String::new();
    let mut fenced = false;
    for line in clause.body.trim().lines() {
        let fence = line.starts_with("```");
        let verbatim = fenced || fence || line.starts_with("    ") || line.starts_with('|') || line.trim().is_empty();
        if !verbatim && !line.starts_with("- ") {
            paragraph.push_str(line.trim());
            paragraph.push(' ');
            continue;
        }
        fill(&mut out, &mut paragraph, width);
        if line.starts_with("- ") {
            paragraph.push_str(line);
            paragraph.push(' ');
        } else if fenced && !fence {
            let _ = writeln!(out, "    {DIM}{line}{DIM:#}");
        } else if !fence {
            let _ = writeln!(out, "{line}");
        }
        fenced ^= fence;
    }
    fill(&mut out, &mut paragraph, width);
    out
}

/// Wraps and empties a paragraph; a bold lead `**Inputs**` is shown bold, and on a line of its own
fn fill(out: &mut String, paragraph: &mut String, width: usize) {
    let text = std::mem::take(paragraph).replace('`', "");
    let mut text = text.trim();
    if text.is_empty() {
        return;
    }
    if let Some((lead, rest)) = text.strip_prefix("**").and_then(|text| text.split_once("**")) {
        let _ = writeln!(out, "{BOLD}{lead}{BOLD:#}");
        text = rest.trim();
    }
    let options = textwrap::Options::new(width).initial_indent("  ").subsequent_indent("  ");
    for line in textwrap::wrap(text, options).iter().filter(|line| !line.trim().is_empty()) {
        let _ = writeln!(out, "{line}");
    }
}
