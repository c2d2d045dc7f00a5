//! The suite catches every deviation, and says which it is.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use fwpkm::deviation::{self, Change, Deviation};
use fwpkm::identify::{Identification, compose};
use fwpkm::implementation::Implementation;
use fwpkm::judge::Verdict;
use fwpkm::numbers::Numbers;
use fwpkm::survey::Ground;
use fwpkm::vectors::collection::{FOLDER, Vector, vectors};
use rayon::prelude::*;

/// Deviations that no vector tells apart in f32, each set with the reason.
const SETS: &[(&[&str], &str)] = &[];

/// Sampled pairs that are not named, each with the reason.
const UNNAMED_PAIRS: &[(&str, &str, &str)] = &[
    ("mem-2-reported-loss-without-gate", "bat-4-never-writes", "without writes there is no loss to report"),
    ("mem-4-first-head-only", "bat-4-never-writes", "without writes the gradient changes nothing"),
    ("bat-4-never-writes", "mem-4-samples-per-pair", "without writes the factor changes nothing"),
];

/// How many pairs are sampled.
const PAIRS: usize = 60;

fn certified() -> Vec<Vector> {
    vectors(Path::new(FOLDER)).unwrap()
}

/// All deviations, or those named in the environment variable ONLY, for work on one of them.
fn selected() -> Vec<&'static Deviation> {
    let only = std::env::var("ONLY").unwrap_or_default();
    let named = |deviation: &&Deviation| only.is_empty() || only.split(',').any(|only| deviation.name == only);
    deviation::all().iter().filter(named).collect()
}

/// In these numbers, a case labelled with its clause catches every deviation, and none catches the specification.
///
/// Gradients are judged in f32 and f64 only (NUM-11).
fn all_are_caught(numbers: Numbers) {
    let judged = |deviation: &&Deviation| numbers == Numbers::F32 || !deviation.clause.starts_with("GRD-");
    let vectors = certified();
    let ground = Ground::new(&vectors, numbers).unwrap();
    assert_eq!(ground.findings(), Vec::<String>::new());
    let missed = |deviation: &&'static Deviation| {
        if ground.catches(deviation).is_some() {
            return None;
        }
        let (surveyed, evidence) = ground.survey(&[deviation]);
        let differing = evidence.iter().filter(|case| case.judgement.verdict() == Verdict::Differs);
        let names: Vec<&str> = differing.map(|case| case.problem.name.as_str()).take(8).collect();
        Some(format!("{}: {} cannot be run, differing: {names:?}", deviation.name, surveyed.errors))
    };
    let selected: Vec<&'static Deviation> = selected().into_iter().filter(judged).collect();
    let missed: Vec<String> = selected.par_iter().filter_map(missed).collect();
    assert!(missed.is_empty(), "{} are not caught in {}:\n{}", missed.len(), numbers.name(), missed.join("\n"));
}

#[test]
fn every_deviation_is_caught_in_f32() {
    all_are_caught(Numbers::F32);
}

#[test]
fn every_deviation_is_caught_with_results_kept_in_bf16() {
    all_are_caught(Numbers::Bf16);
}

#[test]
fn every_deviation_is_caught_with_results_kept_in_f16() {
    all_are_caught(Numbers::F16);
}

/// What changes nothing is not caught, and is consistent with the specification.
#[test]
fn the_control_is_not_caught() {
    let vectors = certified();
    for numbers in [Numbers::F32, Numbers::Bf16, Numbers::F16] {
        let ground = Ground::new(&vectors, numbers).unwrap();
        let evidence = ground.evidence(&Implementation::deviating(&deviation::CONTROL));
        assert!(evidence.iter().all(|case| case.judgement.verdict() != Verdict::Differs));
        assert!(matches!(ground.identified(&evidence), Identification::Conforms));
    }
}

/// In f32 every deviation is identified as itself, or as one of a listed set; docs/src/deviations.md holds the outcome.
#[test]
fn every_deviation_is_identified() {
    let vectors = certified();
    let ground = Ground::new(&vectors, Numbers::F32).unwrap();
    let outcome = |deviation: &&'static Deviation| {
        let (surveyed, evidence) = ground.survey(&[deviation]);
        let names = match ground.identified(&evidence) {
            Identification::Conforms => vec!["the specification".into()],
            Identification::Unknown | Identification::OfResults(_) => vec!["nothing known".into()],
            Identification::ConsistentWith(explanations) => {
                explanations.iter().map(|explanation| explanation.deviations.join(" and ")).collect()
            }
        };
        (deviation.name, (surveyed, names))
    };
    let outcomes: BTreeMap<&str, _> = selected().par_iter().map(outcome).collect();
    let listed = |name: &str| SETS.iter().find(|(set, _)| set.contains(&name)).map(|(set, _)| set.to_vec());
    let wrong: Vec<String> = outcomes
        .iter()
        .filter(|(name, (_, names))| *names != listed(name).unwrap_or(vec![**name]))
        .map(|(name, (_, names))| format!("{name}: {names:?}"))
        .collect();
    assert!(wrong.is_empty(), "{} are taken for others:\n{}", wrong.len(), wrong.join("\n"));
    if std::env::var_os("ONLY").is_none() {
        let table =
            table(|name| outcomes.get(name).map(|(surveyed, names)| (surveyed.caught_by[0].clone(), names.clone())));
        kept("../docs/src/deviations.md", &table);
    }
}

/// The catalogue as a page of the book.
fn table(outcome: impl Fn(&str) -> Option<(Option<String>, Vec<String>)>) -> String {
    let mut text = String::from(
        "# Deviations\n\nOther implementations that the suite knows: what ports were seen to compute, and what they may compute by a slip. \
         Each is the specification with one thing changed. In f32 and with results kept in bf16 and f16, a certified vector \
         made for its clause catches each of them; the table names one. The last column is what `fwpkm identify` says of it, \
         in f32, given its outputs on all vectors. This page is written by the test `every_deviation_is_identified`.\n\n\
         Some others compute what the specification computes and are no deviations: more than k candidates of each half; \
         a softmax without subtracting the largest score (until it overflows); the slope ln p̄ without + 1 where the \
         logarithm has no constant; other orders of exact ties.\n",
    );
    for clause in fwpkm_spec::clauses() {
        let label = clause.label.to_string();
        let of_clause: Vec<&Deviation> =
            deviation::all().iter().filter(|deviation| deviation.clause == label).collect();
        if of_clause.is_empty() {
            continue;
        }
        let _ = writeln!(
            text,
            "\n## {label} {}\n\n| deviation | computes | seen | caught by | identified as |\n|---|---|---|---|---|",
            clause.title
        );
        for deviation in of_clause {
            let (caught, names) = outcome(deviation.name).unwrap_or_default();
            let named = if names == [deviation.name] { "itself".into() } else { names.join(", ") };
            let (name, instead, source) = (deviation.name, deviation.instead.replace('|', "\\|"), deviation.source);
            let _ = writeln!(text, "| {name} | {instead} | {source} | {} | {named} |", caught.unwrap_or_default());
        }
    }
    text
}

/// A file that holds this text; written where BLESS is set.
fn kept(path: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let line = found.lines().zip(text.lines()).find(|(a, b)| a != b);
    let again = "BLESS=1 cargo test -p fwpkm --test suite gates writes it anew";
    assert!(found == text, "{} is not what the test gives, first at {line:?}; {again}", path.display());
}

/// Of two that replace the same, only one would be seen.
#[test]
fn nothing_composes_with_itself() {
    for deviation in deviation::all() {
        if matches!(deviation.change, Change::Stage(_) | Change::Order(_)) {
            assert!(!compose(&[deviation, deviation]), "{}", deviation.name);
        }
    }
}

/// Pairs of deviations of different clauses, sampled evenly from all that compose, are named as that pair.
#[test]
fn pairs_of_deviations_are_named() {
    let vectors = certified();
    let ground = Ground::new(&vectors, Numbers::F32).unwrap();
    let unnamed = |pair: &(&'static Deviation, &'static Deviation)| {
        let (first, second) = *pair;
        let (_, evidence) = ground.survey(&[first, second]);
        let wanted = [format!("{} and {}", first.name, second.name), format!("{} and {}", second.name, first.name)];
        let names: Vec<String> = match ground.identified(&evidence) {
            Identification::Conforms => vec!["the specification".into()],
            Identification::Unknown | Identification::OfResults(_) => vec!["nothing known".into()],
            Identification::ConsistentWith(explanations) => {
                explanations.iter().map(|explanation| explanation.deviations.join(" and ")).collect()
            }
        };
        let listed = UNNAMED_PAIRS.iter().any(|(a, b, _)| (*a, *b) == (first.name, second.name));
        let named = names.iter().any(|name| wanted.contains(name));
        (named == listed).then(|| format!("{} and {}: {names:?}", first.name, second.name))
    };
    let unnamed: Vec<String> = sampled().par_iter().filter_map(unnamed).collect();
    assert!(unnamed.is_empty(), "{} pairs are not named:\n{}", unnamed.len(), unnamed.join("\n"));
}

/// Every so many-th pair of deviations of different clauses that can be had at once.
fn sampled() -> Vec<(&'static Deviation, &'static Deviation)> {
    let all: Vec<&Deviation> = deviation::all().iter().collect();
    let mut pairs = Vec::new();
    for (place, first) in all.iter().enumerate() {
        for second in &all[place + 1..] {
            if first.clause != second.clause && compose(&[first, second]) {
                pairs.push((*first, *second));
            }
        }
    }
    let step = pairs.len() / PAIRS;
    (0..PAIRS).map(|number| pairs[number * step + step / 2]).collect()
}
