//! Reports as text.

use std::fmt::Write;

use super::{BOLD, DIM, GREEN, RED, YELLOW};
use crate::identify::Identification;
use crate::judge::{Check, Verdict};
use crate::report::{ClauseLine, Report};

/// The most failing clauses that are shown in full.
const SHOWN: usize = 4;

/// One line per clause, a column per report, then what differs, then the summary.
pub(super) fn text(heading: &str, reports: &[Report], rerun: &dyn Fn(&Report, &str) -> String, seconds: f64) -> String {
    let mut out = format!("{BOLD}{heading}{BOLD:#}\n\n");
    table(&mut out, reports);
    for report in reports {
        findings(&mut out, report, rerun);
        troubles(&mut out, report);
    }
    summary(&mut out, reports, seconds);
    out
}

fn table(out: &mut String, reports: &[Report]) {
    let _ = write!(out, "{BOLD}{:7}{:36}{:>6}", "clause", "", "cases");
    for report in reports {
        let _ = write!(out, " {:>9}", column(report));
    }
    let _ = writeln!(out, "{BOLD:#}");
    let Some(first) = reports.first() else { return };
    let all_recorded = reports.iter().all(|report| report.not_recorded.is_empty());
    let none = if all_recorded { "no vector" } else { "nothing recorded" };
    for (number, line) in first.clauses.iter().enumerate() {
        let _ = write!(out, "{:7}{:36}", line.clause, shortened(&line.title, 35));
        if reports.iter().all(|report| report.clauses[number].cases == 0) {
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
    let held = if all_recorded { " \"no vector\": the clause is held by tests of this project only." } else { "" };
    let _ = writeln!(
        out,
        "\n{DIM}cases: vectors judged for the clause. Other numbers: the largest error over its bound; up to 1 conforms.{held}{DIM:#}"
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
    let failing: Vec<&ClauseLine> = report.clauses.iter().filter(|line| line.verdict == Verdict::Differs).collect();
    for line in failing.iter().take(SHOWN) {
        let Some((case, check)) = &line.worst else { continue };
        let _ = writeln!(
            out,
            "\n{RED}{BOLD}{} {}{BOLD:#}{RED:#} differs in {} of {} cases ({})",
            line.clause,
            line.title,
            line.differing,
            line.cases,
            column(report)
        );
        let _ = writeln!(out, "  requires  {}", requirement(&line.clause));
        let _ = writeln!(out, "  case      {case}: {}", place(check));
        if let (Some(expected), Some(actual), Some(bound)) = (check.expected, check.actual, check.bound) {
            let _ = writeln!(out, "  expected  {expected} ± {bound:.2e}");
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

/// The first equation of a clause, or its first sentence.
fn requirement(label: &str) -> String {
    let Ok(clause) = fwpkm_spec::clause(label) else { return String::new() };
    let text = clause.part("Semantics").unwrap_or_default();
    let equation = text.lines().find(|line| line.starts_with("    ") && !line.trim().is_empty());
    let sentence = text.split_inclusive(". ").next().unwrap_or_default();
    let first = equation.unwrap_or(sentence).split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{}   {DIM}(fwpkm spec {label}){DIM:#}", shortened(&first, 100))
}

/// What the subject computes instead.
pub(super) fn identification(out: &mut String, report: &Report) {
    match &report.identification {
        None | Some(Identification::Conforms) => {}
        Some(Identification::Unknown) => {
            let _ = writeln!(out, "\n{BOLD}consistent with{BOLD:#} no known deviation, nor any pair of two");
        }
        Some(Identification::ConsistentWith(explanations)) => {
            let _ = writeln!(out, "\n{BOLD}consistent with{BOLD:#}");
            for explanation in explanations {
                let _ = writeln!(out, "  {}: {}", explanation.deviations.join(" + "), explanation.instead);
            }
            if let Some(first) = explanations.first() {
                let _ = writeln!(
                    out,
                    "  {DIM}every vector agrees with {}; {} is outside the specification's bounds by a factor of {:.1e}{DIM:#}",
                    if explanations.len() == 1 { "this" } else { "each of these, and none tells them apart" },
                    first.separated_by,
                    first.factor
                );
            }
        }
    }
}

/// Files that could not be judged, tensors nothing knows.
fn troubles(out: &mut String, report: &Report) {
    for (case, error) in &report.errors {
        let _ = writeln!(out, "\n{RED}error{RED:#} {case}: {error}");
    }
    let unknown: std::collections::BTreeSet<&String> = report.cases.iter().flat_map(|case| &case.unknown).collect();
    if !unknown.is_empty() {
        let names = fwpkm_spec::listed(unknown.into_iter().map(String::as_str));
        let _ = writeln!(out, "\n{YELLOW}Tensors that no clause names, not judged:{YELLOW:#} {names}");
    }
    let mut reasons = std::collections::BTreeMap::<&String, Vec<&str>>::new();
    for (case, reason) in &report.not_applicable {
        reasons.entry(reason).or_default().push(case);
    }
    for (reason, cases) in reasons {
        let more = if cases.len() > 3 { format!(" and {} more", cases.len() - 3) } else { String::new() };
        let shown = cases.iter().take(3).copied().collect::<Vec<_>>().join(", ");
        let _ = writeln!(out, "\n{YELLOW}not applicable:{YELLOW:#} {reason}: {shown}{more}");
    }
    if !report.not_recorded.is_empty() {
        let _ = writeln!(out, "\n{YELLOW}{} vectors have no recorded outputs{YELLOW:#}", report.not_recorded.len());
    }
    if let Some(chunk) = report.cases.iter().find_map(|case| Some((&case.case, case.first_diverging_chunk?))) {
        let _ = writeln!(out, "\nFirst chunk whose reads differ: {} of {}", chunk.1, chunk.0);
    }
}

fn summary(out: &mut String, reports: &[Report], seconds: f64) {
    let judged: usize = reports.iter().map(|report| report.cases.len()).sum();
    let differing: usize = reports.iter().map(|report| report.differing().count()).sum();
    let errors: usize = reports.iter().map(|report| report.errors.len()).sum();
    let stopped = reports.iter().any(|report| report.stopped);
    let not_applicable: usize = reports.iter().map(|report| report.not_applicable.len()).sum();
    let rest = if not_applicable == 0 { String::new() } else { format!("; {not_applicable} not applicable") };
    let kinds = if reports.len() == 1 { String::new() } else { format!(" in {} kinds of numbers", reports.len()) };
    let _ = match (differing, errors, judged) {
        (0, 0, 0) => writeln!(out, "\n{RED}nothing was judged{RED:#}{rest}"),
        (0, 0, _) => writeln!(
            out,
            "\n{GREEN}all {} vectors conform{kinds}{GREEN:#}{rest} ({seconds:.1} s)",
            judged / reports.len().max(1)
        ),
        _ => {
            writeln!(
                out,
                "\n{RED}{differing} of {judged} differ, {errors} could not be judged{RED:#}{rest} ({seconds:.1} s)"
            )
        }
    };
    if stopped {
        let _ = writeln!(out, "{YELLOW}stopped before the last vector{YELLOW:#}");
    }
}
