//! Reports as text.

mod summary;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use fwpkm_spec::counted;
pub(super) use summary::stopped;

use super::{BOLD, DIM, GREEN, RED, YELLOW};
use crate::identify::{Explanation, Identification, OfResults};
use crate::judge::{Check, Verdict};
use crate::report::{ClauseLine, Report};

/// The most failing clauses that are shown in full.
const SHOWN: usize = 4;

/// The most lines of equations that are shown of a clause.
const EQUATIONS: usize = 8;

/// One line per clause, a column per report, then what differs, then the summary.
pub(super) fn text(heading: &str, reports: &[Report], rerun: &dyn Fn(&Report, &str) -> String, seconds: f64) -> String {
    let mut out = format!("{BOLD}{heading}{BOLD:#}\n\n");
    for taken_from in reports.iter().filter_map(|report| report.taken_from.as_ref()) {
        let _ = writeln!(out, "{YELLOW}{taken_from}{YELLOW:#}\n");
    }
    table(&mut out, reports);
    for report in reports {
        findings(&mut out, report, rerun);
        troubles(&mut out, report);
    }
    summary::summary(&mut out, reports, seconds);
    out
}

fn table(out: &mut String, reports: &[Report]) {
    let _ = write!(out, "{BOLD}{:7}{:36}{:>6}", "clause", "", "cases");
    for report in reports {
        let _ = write!(out, " {:>9}", column(report));
    }
    let _ = writeln!(out, "{BOLD:#}");
    let Some(first) = reports.first() else { return };
    let mut without_vector = false;
    for (number, line) in first.clauses.iter().enumerate() {
        let _ = write!(out, "{:7}{:36}", line.clause, shortened(&line.title, 35));
        if reports.iter().all(|report| report.clauses[number].cases == 0) {
            let none = if line.vectors == 0 { "no vector" } else { "nothing recorded" };
            without_vector |= line.vectors == 0;
            let _ = writeln!(out, "{DIM}{:>6}  {none}{DIM:#}", "-");
            continue;
        }
        let _ = write!(out, "{:>6}", line.cases);
        for report in reports {
            let line = &report.clauses[number];
            let (style, cell) = cell(line);
            let _ = write!(out, " {style}{cell:>9}{style:#}");
        }
        let _ = writeln!(out);
    }
    let no_vector = if without_vector { " \"no vector\": none of those asked for is made for the clause." } else { "" };
    let lines = || reports.iter().flat_map(|report| &report.clauses);
    let none_alone = lines().any(|line| line.cases > 0 && line.verdict == Verdict::NotJudged);
    let none_alone = if none_alone { " \"-\": no number that was recorded shows this clause alone." } else { "" };
    let _ = writeln!(
        out,
        "\n{DIM}cases: vectors judged for the clause. Other numbers: the largest error over its bound; up to 1 \
         conforms.{none_alone}{no_vector}{DIM:#}"
    );
}

fn column(report: &Report) -> String {
    match report.declared.distance {
        crate::judge::Distance::Direct => report.declared.numbers.name().into(),
        crate::judge::Distance::Expanded => format!("{} exp.", report.declared.numbers.name()),
    }
}

fn cell(line: &ClauseLine) -> (anstyle::Style, String) {
    match line.verdict {
        Verdict::Conforms => (GREEN, format!("{:.2}", line.ratio)),
        Verdict::NotJudged => (YELLOW, "-".into()),
        Verdict::Differs => (RED, format!("DIFFERS{}", if line.differing > 1 { "+" } else { " " })),
    }
}

fn shortened(text: &str, width: usize) -> String {
    if text.chars().count() <= width { text.into() } else { text.chars().take(width - 1).chain(['…']).collect() }
}

/// Requirement, expected, actual; the first clauses in full.
fn findings(out: &mut String, report: &Report, rerun: &dyn Fn(&Report, &str) -> String) {
    let failing = report.failing();
    for line in failing.iter().take(SHOWN) {
        let Some((case, check)) = &line.worst else { continue };
        let _ = writeln!(
            out,
            "\n{RED}{BOLD}{} {}{BOLD:#}{RED:#} differs in {} of {} ({})",
            line.clause,
            line.title,
            line.differing,
            counted(line.cases, "case"),
            column(report)
        );
        requirement(out, &line.clause);
        let _ = writeln!(out, "  case      {case}: {}", place(check));
        if let (Some(expected), Some(actual), Some(bound)) = (check.expected, check.actual, check.bound) {
            let within = if bound > 0.0 { format!(" ± {bound:.2e}") } else { String::new() };
            let _ = writeln!(out, "  expected  {expected}{within}");
            let _ = writeln!(out, "  actual    {actual}{}", times(check));
        }
        if let Some(reason) = &check.reason {
            let _ = writeln!(out, "  because   {reason}");
        }
        let _ = writeln!(out, "  rerun     {}", rerun(report, case));
    }
    if failing.len() > SHOWN {
        let more: Vec<&str> = failing[SHOWN..].iter().map(|line| line.clause.as_str()).collect();
        let _ = writeln!(out, "\nAlso differing: {}", more.join(", "));
    }
    identification(out, report);
}

fn place(check: &Check) -> String {
    if check.at.is_empty() { check.tensor.clone() } else { format!("{} at {:?}", check.tensor, check.at) }
}

fn times(check: &Check) -> String {
    if check.ratio.is_finite() && check.bound.is_some_and(|bound| bound > 0.0) {
        format!("  ({:.3e} times the bound)", check.ratio)
    } else {
        String::new()
    }
}

/// The equations of a clause, or its first sentence.
fn requirement(out: &mut String, label: &str) {
    let Ok(clause) = fwpkm_spec::clause(label) else { return };
    let text = clause.part("Semantics").unwrap_or_default();
    let equations: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("    ")).filter(|line| !line.trim().is_empty()).collect();
    let sentence = text.split_inclusive(". ").next().unwrap_or_default();
    let sentence = sentence.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown: Vec<&str> =
        if equations.is_empty() { vec![&sentence] } else { equations.iter().take(EQUATIONS).copied().collect() };
    for (number, line) in shown.iter().enumerate() {
        let name = if number == 0 { "requires" } else { "" };
        let more = if number + 1 == shown.len() && shown.len() < equations.len() { " …" } else { "" };
        let source = if number == 0 { format!("   {DIM}(fwpkm spec {label}){DIM:#}") } else { String::new() };
        let _ = writeln!(out, "  {name:8}  {}{more}{source}", shortened(line, 110).trim_end());
    }
}

/// What the subject computes instead.
pub(super) fn identification(out: &mut String, report: &Report) {
    let title = |out: &mut String, of: &str, rest: &str| {
        let _ = writeln!(out, "\n{BOLD}{of}consistent with{BOLD:#}{rest}");
    };
    match &report.identification {
        None if report.verdict() == Verdict::Differs && !report.stopped => {
            let _ = writeln!(
                out,
                "\n{DIM}What is computed instead is not looked for on a long text; without --long it is.{DIM:#}"
            );
        }
        None | Some(Identification::Conforms) => {}
        Some(Identification::Unknown) => {
            title(out, "", " no known deviation, nor any pair of two");
            next_steps(out, report);
        }
        Some(Identification::ConsistentWith(explanations)) => {
            title(out, "", "");
            named(out, explanations, "every vector agrees with");
        }
        Some(Identification::OfResults(OfResults { consistent_with, differing })) => {
            let nearest = if consistent_with.is_empty() {
                title(out, "out.* alone are ", " the specification");
                "the specification"
            } else {
                title(out, "out.* alone are ", "");
                named(out, consistent_with, "out.* of every vector agrees with");
                "the first of these"
            };
            let names = fwpkm_spec::listed(differing.iter().map(String::as_str));
            let _ = writeln!(out, "  these differ from what {nearest} has under their name: {names}");
        }
    }
}

fn named(out: &mut String, explanations: &[Explanation], agrees: &str) {
    for explanation in explanations {
        let _ = writeln!(out, "  {}: {}", explanation.deviations.join(" + "), explanation.instead);
    }
    let Some(first) = explanations.first() else { return };
    let which = if explanations.len() == 1 { "this" } else { "each of these, and none tells them apart" };
    let outside = match first.factor {
        factor if factor.is_finite() => {
            format!("is outside the specification's bounds by a factor of {factor:.1e}")
        }
        _ => "differs where the specification allows no difference".into(),
    };
    let _ = writeln!(out, "  {DIM}{agrees} {which}; {} {outside}{DIM:#}", first.separated_by);
}

/// What to do where nothing is known.
fn next_steps(out: &mut String, report: &Report) {
    if let Some(first) = report.failing().first() {
        let _ = writeln!(out, "  next: {} {} first; what comes later may follow from it", first.clause, first.title);
    }
    let stage = |name: &str| name.strip_prefix("trace.").and_then(|rest| rest.split('.').next()).map(str::to_string);
    let differing = || report.differing();
    let recorded: BTreeSet<String> =
        differing().flat_map(|case| &case.checks).filter_map(|check| stage(&check.tensor)).collect();
    let missing: BTreeSet<String> = differing().flat_map(|case| &case.missing).filter_map(|name| stage(name)).collect();
    let missing: Vec<&String> = missing.difference(&recorded).collect();
    if !missing.is_empty() {
        let stages = missing.iter().map(|stage| format!("trace.{stage}.*")).collect::<Vec<_>>().join(", ");
        let _ = writeln!(out, "  record what was not: {stages}; with these a fault is named where it arises");
    }
}

/// Files that could not be judged, tensors nothing knows.
pub(super) fn troubles(out: &mut String, report: &Report) {
    for (error, cases) in by_reason(&report.errors) {
        let _ = match &cases[..] {
            [case] => writeln!(out, "\n{RED}error{RED:#} {case}: {error}"),
            _ => writeln!(out, "\n{RED}error{RED:#} in {} vectors: {error}: {}", cases.len(), some(&cases)),
        };
    }
    let unknown: std::collections::BTreeSet<&String> = report.cases.iter().flat_map(|case| &case.unknown).collect();
    if !unknown.is_empty() {
        let names = fwpkm_spec::listed(unknown.into_iter().map(String::as_str));
        let _ = writeln!(out, "\n{YELLOW}Tensors that no clause names, not judged:{YELLOW:#} {names}");
    }
    for (reason, cases) in by_reason(&report.not_applicable) {
        let _ = writeln!(out, "\n{YELLOW}not applicable:{YELLOW:#} {reason}: {}", some(&cases));
    }
    if !report.not_recorded.is_empty() {
        let have = if report.not_recorded.len() == 1 { "has" } else { "have" };
        let vectors = counted(report.not_recorded.len(), "vector");
        let _ = writeln!(out, "\n{YELLOW}{vectors} {have} no recorded outputs{YELLOW:#}");
    }
    if let Some(chunk) = report.cases.iter().find_map(|case| Some((&case.case, case.first_diverging_chunk?))) {
        let _ = writeln!(out, "\nFirst chunk whose reads differ: {} of {}", chunk.1, chunk.0);
    }
}

/// Vectors by what is said of them
fn by_reason(reasons: &BTreeMap<String, String>) -> BTreeMap<&str, Vec<&str>> {
    let mut by_reason = BTreeMap::<&str, Vec<&str>>::new();
    for (case, reason) in reasons {
        by_reason.entry(reason).or_default().push(case);
    }
    by_reason
}

fn some(cases: &[&str]) -> String {
    let more = if cases.len() > 3 { format!(" and {} more", cases.len() - 3) } else { String::new() };
    format!("{}{more}", cases.iter().take(3).copied().collect::<Vec<_>>().join(", "))
}
