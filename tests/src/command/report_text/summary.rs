//! The last lines of a report: what was not judged, then what became of all.

use std::collections::BTreeSet;
use std::fmt::Write;

use fwpkm_spec::{counted, verb};

use super::super::{GREEN, RED, YELLOW};
use crate::judge::Verdict;
use crate::report::Report;

pub(super) fn summary(out: &mut String, reports: &[Report], seconds: f64) {
    not_recorded(out, reports);
    let count = |of: &dyn Fn(&Report) -> usize| reports.iter().map(of).sum::<usize>();
    let of_verdict = |verdict| count(&|report| report.cases.iter().filter(|case| case.verdict() == verdict).count());
    let (conforming, differing) = (of_verdict(Verdict::Conforms), of_verdict(Verdict::Differs));
    let judged = count(&|report| report.cases.len());
    let errors = count(&|report| report.errors.len());
    let not_applicable = count(&|report| report.not_applicable.len());
    let rest = if not_applicable == 0 { String::new() } else { format!("; {not_applicable} not applicable") };
    let is_whole = conforming == judged && !reports.iter().any(|report| report.stopped);
    let _ = match (differing, errors) {
        (0, 0) if judged == 0 => writeln!(out, "\n{RED}nothing was judged{RED:#}{rest}"),
        (0, 0) if conforming == 0 => writeln!(out, "\n{RED}nothing could be judged by any bound{RED:#}{rest}"),
        (0, 0) if is_whole => {
            let all = all_conform(conforming / reports.len().max(1), reports.len());
            writeln!(out, "\n{GREEN}{all}{GREEN:#}{rest} ({seconds:.1} s)")
        }
        (0, 0) => writeln!(out, "\n{GREEN}{conforming} of {judged} conform{GREEN:#}{rest} ({seconds:.1} s)"),
        _ => {
            let differ = verb(differing, judged, "differ");
            let text = format!("{differing} of {judged} {differ}, {errors} could not be judged");
            writeln!(out, "\n{RED}{text}{RED:#}{rest} ({seconds:.1} s)")
        }
    };
    stopped(out, reports);
}

fn all_conform(vectors: usize, kinds: usize) -> String {
    let all = if vectors == 1 { "1 vector conforms".into() } else { format!("all {vectors} vectors conform") };
    if kinds == 1 { all } else { format!("{all} in {kinds} kinds of numbers") }
}

/// Whether Ctrl-C ended it, and what is lacking for that.
pub(in crate::command) fn stopped(out: &mut String, reports: &[Report]) {
    if let Some(report) = reports.iter().find(|report| report.stopped) {
        let left = report.not_begun > 0;
        let what = if left { "before the last vector" } else { "before it was known what is computed instead" };
        let _ = writeln!(out, "{YELLOW}stopped {what}{YELLOW:#}");
    }
}

/// Results of judged vectors that were not recorded.
fn not_recorded(out: &mut String, reports: &[Report]) {
    let of_report = |report: &Report| {
        let missing = report.missing().into_iter();
        missing.map(|(name, vectors)| format!("{name} ({})", counted(vectors, "vector"))).collect::<Vec<_>>()
    };
    let missing: BTreeSet<String> = reports.iter().flat_map(of_report).collect();
    if !missing.is_empty() {
        let names = missing.into_iter().collect::<Vec<_>>().join(", ");
        let _ = writeln!(out, "\n{YELLOW}not recorded, so not judged:{YELLOW:#} {names}");
    }
}
