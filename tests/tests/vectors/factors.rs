//! Factors that a slip may take for each other differ within a case, and vary among the cases of a clause.

use std::collections::{BTreeMap, BTreeSet};

use fwpkm_reference::settings::Border;
use fwpkm_spec::certificate::Kind;

use super::cases::{Vector, vectors};

/// The factors of a one-chunk case with a step: what a value or sub-key step could be multiplied or divided by
fn factors(vector: &Vector) -> Vec<(&'static str, usize)> {
    let (s, case) = (&vector.plan.settings, &vector.file.case);
    let queries = if s.border == Border::Carry { s.chunk } else { case.tokens };
    let pairs = if s.border == Border::Carry { s.chunk } else { case.tokens.saturating_sub(s.lookahead) };
    let mut factors =
        vec![("d_v", s.value_dim), ("k·H", s.top_k * s.heads), ("n", s.sub_keys), ("queries", queries * case.batch)];
    let only_if = [
        ("k", s.top_k, s.heads > 1),
        ("H", s.heads, s.heads > 1),
        ("B", case.batch, case.batch > 1),
        ("pairs", pairs * case.batch, pairs > 0 && pairs < queries),
    ];
    factors.extend(only_if.into_iter().filter(|(.., used)| *used).map(|(name, factor, _)| (name, factor)));
    factors
}

fn steps_of_one_chunk() -> Vec<Vector> {
    let stepping = |vector: &Vector| {
        let certificate = &vector.certificate;
        certificate.kind == Kind::OneChunk && vector.plan.settings.writes && !certificate.ties && !certificate.near_ties
    };
    vectors().into_iter().filter(stepping).collect()
}

#[test]
fn no_factor_equals_another_within_a_case() {
    let mut equal = Vec::new();
    for vector in steps_of_one_chunk() {
        let mut seen: BTreeMap<usize, &str> = BTreeMap::new();
        for (name, factor) in factors(&vector) {
            if let Some(other) = seen.insert(factor, name) {
                equal.push(format!("{}: {other} = {name} = {factor}", vector.name));
            }
        }
        assert_ne!(vector.plan.settings.heads, 2, "{}: as many heads as halves", vector.name);
    }
    assert!(equal.is_empty(), "{}", equal.join("\n"));
}

#[test]
fn settings_vary_among_the_cases_of_a_clause() {
    let mut by_clause: BTreeMap<String, Vec<[usize; 5]>> = BTreeMap::new();
    for vector in steps_of_one_chunk() {
        let (s, case) = (&vector.plan.settings, &vector.file.case);
        let point = [s.top_k, s.heads, s.chunk, s.lookahead, case.batch];
        for clause in &vector.certificate.clauses {
            by_clause.entry(clause.clone()).or_default().push(point);
        }
    }
    for clause in [
        "MEM-1", "MEM-2", "MEM-3", "MEM-4", "MEM-5", "MEM-6", "ADR-1", "ADR-2", "ADR-3", "ADR-4", "ADR-5", "ADR-6",
        "CHK-2",
    ] {
        for (place, name) in ["k", "H", "C", "L"].iter().enumerate() {
            let values: BTreeSet<usize> = by_clause[clause].iter().map(|point| point[place]).collect();
            assert!(values.len() >= 2, "{clause}: {name} is always {values:?}");
        }
    }
}
