//! The specification against the code: examples, functions, tests and citations.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use fwpkm::example::evaluate;
use fwpkm_spec::registry::cited_labels;
use fwpkm_spec::{Clause, clause, clauses};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Files below a folder of the repository whose names end in one of `endings`, with their texts
fn texts(folder: &str, endings: &[&str]) -> Vec<(PathBuf, String)> {
    let mut folders = vec![root().join(folder)];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty(), "no {endings:?} below {folder}");
    found
}

fn labels(clauses: &[Clause]) -> BTreeSet<String> {
    clauses.iter().map(|clause| clause.label.to_string()).collect()
}

#[test]
fn the_text_has_clauses_of_every_stage() {
    fwpkm_spec::registry::registry().unwrap();
    let groups: BTreeSet<&str> = clauses().iter().map(|clause| clause.label.group().code()).collect();
    let expected = ["PRJ", "SCR", "SEL", "RD", "OUT", "MEM", "ADR", "CHK", "STR", "BAT", "GRD", "STA", "NUM"];
    assert_eq!(groups, BTreeSet::from(expected));
}

#[test]
fn every_example_gives_the_numbers_it_states() {
    let mut wrong = Vec::new();
    for clause in clauses() {
        assert!(clause.examples().next().is_some(), "{} has no example", clause.label);
        wrong.extend(clause.examples().filter_map(|example| evaluate(clause.label, example).err()));
    }
    let wrong: Vec<String> = wrong.iter().map(ToString::to_string).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_example_with_another_number_is_caught() {
    let label = clause("SCR-1").unwrap().label;
    let example = "[in]\nqueries = [[[0.0, 0.0]]]\nvalues = [[[0.0]]]\nsub_keys = [[[[0.0]], [[0.0]]]]\n\
                   slot_values = [[1.0]]\n[settings]\nwrites = false\nlookahead = 0\n[expect]\n\"out.reads\" = [[[X]]]\n";
    assert!(evaluate(label, &example.replace('X', "1.0")).is_ok());
    let wrong = evaluate(label, &example.replace('X', "1.000003")).unwrap_err().to_string();
    assert!(wrong.contains("SCR-1") && wrong.contains("out.reads"), "{wrong}");
    let wrong = evaluate(label, &example.replace("out.reads", "out.read").replace('X', "1.0")).unwrap_err().to_string();
    assert!(wrong.contains("expects out.read;"), "{wrong}");
}

/// A function's label stands in brackets in its documentation: `/// Sum of the chosen slots.   [RD-3]`.
///
/// The verdict on an implementation is the suite's: the functions of NUM-11 stand beside this, in `tests/src`.
#[test]
fn every_clause_has_a_function_of_the_reference() {
    let mut functions: BTreeSet<String> = BTreeSet::new();
    for (_, text) in texts("reference/src", &[".rs"]) {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for (number, line) in
            lines.iter().enumerate().filter(|(_, line)| line.starts_with("///") && line.ends_with(']'))
        {
            let documented = lines[number..].iter().find(|line| !line.starts_with("//") && !line.starts_with("#["));
            let is_item = documented.is_some_and(|line| {
                ["pub fn ", "pub(crate) fn ", "fn ", "pub struct ", "pub trait "]
                    .iter()
                    .any(|start| line.starts_with(start))
            });
            let cited = line.rsplit('[').next().unwrap_or_default();
            if is_item {
                functions.extend(cited_labels(cited).into_iter().map(|citation| citation.label));
            }
        }
    }
    let of_the_suite = texts("tests/src", &[".rs"]).iter().any(|(_, text)| text.contains("[NUM-11]\npub fn "));
    functions.extend(of_the_suite.then(|| "NUM-11".to_string()));
    let missing: Vec<String> = labels(clauses()).difference(&functions).cloned().collect();
    assert!(missing.is_empty(), "clauses without a function in reference/src: {missing:?}");
}

/// A test of a clause is named after it: `mem_4_…` or `prop_mem_4_…`.
#[test]
fn every_clause_has_a_test() {
    let mut tested = BTreeSet::new();
    for (_, text) in texts("tests/tests", &[".rs"]) {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for (attribute, function) in lines.iter().zip(lines.iter().skip(1)) {
            let name = function.strip_prefix("fn ").filter(|_| *attribute == "#[test]").unwrap_or_default();
            let renamed = format!("fn {}", name.strip_prefix("prop_").unwrap_or(name));
            tested.extend(cited_labels(&renamed).into_iter().map(|citation| citation.label));
        }
    }
    let missing: Vec<String> = labels(clauses()).difference(&tested).cloned().collect();
    assert!(missing.is_empty(), "clauses without a test in tests/tests: {missing:?}");
}

#[test]
fn every_cited_label_exists() {
    let known = labels(clauses());
    let mut unknown = Vec::new();
    for folder in ["spec", "reference", "tests"] {
        for (path, text) in texts(folder, &[".rs", ".md", ".toml"]) {
            // The reader of clauses is itself tested on labels that do not exist.
            if path.to_string_lossy().contains("registry") {
                continue;
            }
            let cited = cited_labels(&text).into_iter().filter(|citation| !known.contains(&citation.label));
            unknown.extend(cited.map(|citation| format!("{}:{}: {}", path.display(), citation.line, citation.label)));
        }
    }
    assert!(unknown.is_empty(), "labels that no clause has:\n{}", unknown.join("\n"));
}
