//! What is checked in: the catalogue's files, their size, the clauses they cover, what the command does with them.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Output};

use fwpkm::inputs::is_given;
use fwpkm::vectors::compose::is_exact_everywhere;
use fwpkm_spec::certificate::Kind;
use fwpkm_spec::{CaseFile, Data, TensorFile, case_paths, clauses, tensor_file};
use serde_json::Value;

use super::cases::{folder, vectors};

/// Clauses that no case can exercise, and why.
const EXCUSED: &[(&str, &str)] = &[
    ("BAT-3", "initial tables are random; cases store tables"),
    ("BAT-5", "the state is a file of its own"),
    ("NUM-1", "element types and the order of sums: what a port computes in is its own"),
    ("NUM-2", "a bound, by which cases are judged"),
    ("NUM-3", "a bound, by which cases are judged"),
    ("NUM-4", "a bound, by which cases are judged"),
    ("NUM-5", "a bound, by which cases are judged"),
    ("NUM-7", "refused input has no outputs"),
    ("NUM-8", "equal bits of two runs, not of one"),
    ("NUM-9", "a bound, by which cases are judged"),
    ("NUM-10", "a bound, by which cases are judged"),
    ("NUM-11", "how cases are judged"),
];

fn fwpkm(arguments: &[&std::ffi::OsStr]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fwpkm")).args(arguments).output().unwrap()
}

#[test]
fn the_files_are_what_the_catalogue_gives() {
    let output = fwpkm(&["vectors".as_ref(), "regenerate".as_ref(), folder().as_ref(), "--check".as_ref()]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\nto write them anew: cargo run --release -- vectors regenerate");
}

#[test]
fn the_set_is_small() {
    let sizes: Vec<u64> = case_paths(folder()).unwrap().iter().map(|path| path.metadata().unwrap().len()).collect();
    assert!(sizes.len() >= 150, "{} files", sizes.len());
    assert!(sizes.iter().sum::<u64>() < 4_000_000, "{} bytes", sizes.iter().sum::<u64>());
    assert!(sizes.iter().all(|size| *size < 200_000));
}

#[test]
fn every_clause_has_cases_except_those_excused() {
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    let mut one_chunk: BTreeMap<String, BTreeSet<(usize, usize, usize)>> = BTreeMap::new();
    for vector in vectors() {
        let s = &vector.plan.settings;
        for clause in &vector.certificate.clauses {
            *count.entry(clause.clone()).or_default() += 1;
            if vector.certificate.kind != Kind::Run {
                let point = (s.top_k, s.heads, s.sub_keys * 1000 + s.value_dim);
                one_chunk.entry(clause.clone()).or_default().insert(point);
            }
        }
    }
    for clause in clauses() {
        let label = clause.label.to_string();
        let excused = EXCUSED.iter().any(|(excused, _)| *excused == label);
        assert_eq!(count.contains_key(&label), !excused, "{label}");
        let by_stage = ["SCR", "SEL", "RD", "MEM", "ADR", "CHK", "PRJ", "OUT"].contains(&clause.label.group().code());
        let points = one_chunk.get(&label).map_or(0, BTreeSet::len);
        assert!(!by_stage || points >= 2, "{label}: one-chunk cases at {points} settings");
    }
}

#[test]
fn every_clause_of_a_run_has_a_case_whose_sub_keys_stay() {
    let vectors = vectors();
    for clause in clauses().iter().map(|clause| clause.label.to_string()) {
        let of_runs = ["CHK-1", "CHK-2", "STR-", "BAT-1", "STA-"].iter().any(|start| clause.starts_with(start));
        let still = vectors.iter().any(|vector| {
            let s = &vector.plan.settings;
            vector.has(&clause)
                && vector.certificate.kind == Kind::Run
                && s.addressing_weight == 0.0
                && s.learning_rate <= 0.5
        });
        assert!(!of_runs || still, "{clause}");
    }
}

#[test]
fn every_input_is_exact_in_bf16_and_f16() {
    for vector in vectors() {
        for name in vector.file.names().filter(|name| is_given(name)) {
            let count = vector.file.shape(name).unwrap().iter().product();
            let data = vector.file.elements(name, 0..count).unwrap();
            assert!(matches!(data, Data::F32(_)), "{} {name}", vector.name);
            assert!(data.to_f64().iter().all(|number| is_exact_everywhere(*number)), "{} {name}", vector.name);
        }
    }
    for wrong in [257.0, 1.0 + 0.5_f64.powi(8), 0.5_f64.powi(25), 131_072.0, 0.1, f64::NAN, f64::INFINITY] {
        assert!(!is_exact_everywhere(wrong), "{wrong}");
    }
}

#[test]
fn margins_are_wide_but_where_a_case_says_otherwise() {
    let (mut ties, mut near_ties) = (0, 0);
    for vector in vectors() {
        let (certificate, name) = (&vector.certificate, &vector.name);
        let margins = certificate.smallest_margin;
        let set = [margins.half, margins.pair].into_iter().flatten().fold(f64::INFINITY, f64::min);
        match (certificate.ties, certificate.near_ties) {
            (true, _) => assert!(set == 0.0 || margins.order == Some(0.0), "{name}"),
            (_, true) => assert!(set > 1e-9 && set < 5e-6, "{name}: {set}"),
            _ => assert!(set >= 0.02 && margins.relative.is_none_or(|relative| relative >= 0.01), "{name}: {set}"),
        }
        ties += usize::from(certificate.ties);
        near_ties += usize::from(certificate.near_ties);
    }
    assert!(ties >= 4 && near_ties >= 2);
}

/// A copy of one vector with one number changed
fn changed(original: &TensorFile, change: &str) -> Vec<(String, fwpkm_spec::Tensor)> {
    let each = original.names().map(|name| {
        let mut tensor = original.tensor(name).unwrap();
        match &mut tensor.data {
            Data::F32(numbers) if name == change => numbers[0] += 0.03125,
            Data::F64(numbers) if name == change => numbers[0] += 1e-6,
            _ => {}
        }
        (name.to_string(), tensor)
    });
    each.collect()
}

#[test]
fn a_changed_file_is_noticed_and_written_anew() {
    let root = tempfile::tempdir().unwrap();
    let name = "both/sel_3_slot_index.safetensors";
    std::fs::create_dir(root.path().join("both")).unwrap();
    let (copy, original) = (root.path().join(name), TensorFile::open(folder().join(name)).unwrap());
    let report = |more: &[&str]| {
        let mut arguments: Vec<&std::ffi::OsStr> =
            vec!["vectors".as_ref(), "regenerate".as_ref(), root.path().as_ref()];
        arguments.extend(["--only", "sel_3_slot_index"].iter().chain(more).map(std::ffi::OsStr::new));
        let output = fwpkm(&arguments);
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    for change in ["in.queries", "out.reads", "trace.score.half_scores"] {
        tensor_file::write(&copy, original.metadata(), &changed(&original, change)).unwrap();
        let (status, text) = report(&["--check"]);
        assert!(status == 1 && text.starts_with("differs") && text.contains(change), "{change}: {text}");
    }
    for (key, from, to) in [("case", "\"topk\":2", "\"topk\":3"), ("certificate", "j·n", "j+n")] {
        let mut metadata = original.metadata().clone();
        metadata.insert(key.into(), metadata[key].replace(from, to));
        tensor_file::write(&copy, &metadata, &changed(&original, "")).unwrap();
        let (status, text) = report(&["--check"]);
        assert!(status == 1 && text.contains(key), "{key}: {text}");
    }
    assert!(report(&[]).1.starts_with("written"));
    assert_eq!(std::fs::read(&copy).unwrap(), std::fs::read(folder().join(name)).unwrap());
    std::fs::remove_file(&copy).unwrap();
    assert!(report(&["--check"]).1.contains("is not there"));
}

#[test]
fn a_file_that_the_catalogue_does_not_have_is_named() {
    let root = tempfile::tempdir().unwrap();
    let stray = root.path().join("stray.safetensors");
    std::fs::write(&stray, "").unwrap();
    let output = fwpkm(&["vectors".as_ref(), "regenerate".as_ref(), root.path().as_ref(), "--check".as_ref()]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("stray.safetensors: the catalogue has no such vector"), "{text}");
    assert_eq!(text.lines().filter(|line| line.contains("is not there")).count(), vectors().len());
    assert_eq!(output.status.code(), Some(1));
    let output =
        fwpkm(&["vectors".as_ref(), "regenerate".as_ref(), root.path().as_ref(), "--only".as_ref(), "sel_9".as_ref()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no vector's name contains \"sel_9\""));
}

#[test]
fn no_case_is_degenerate_or_grows_without_bound() {
    for vector in vectors() {
        let (name, s) = (&vector.name, &vector.plan.settings);
        let numbers = |tensor: &str| -> Vec<f64> {
            let count = vector.file.shape(tensor).unwrap().iter().product();
            vector.file.elements(tensor, 0..count).unwrap().to_f64()
        };
        let largest = |tensor: &str| numbers(tensor).iter().fold(0.0_f64, |largest, x| largest.max(x.abs()));
        let weighed = numbers("out.weights").iter().filter(|w| **w != 0.0).count() as f64;
        assert!(weighed >= 0.4 * numbers("out.weights").len() as f64, "{name}: most weights are 0");
        for table in ["sub_keys", "slot_values"] {
            let growth = largest(&format!("out.{table}")) / largest(&format!("in.{table}"));
            assert!(growth < 9.0, "{name}: {table} grow by {growth}");
        }
        let moves = s.writes && (s.addressing_weight > 0.0 || s.memory_gradient_to_sub_keys || s.weight_decay > 0.0);
        let stays = numbers("in.sub_keys") == numbers("out.sub_keys");
        assert_eq!(stays, !moves, "{name}: sub-keys");
    }
}

#[test]
fn an_export_holds_inputs_alone_and_lists_the_outputs() {
    let parent = tempfile::tempdir().unwrap();
    let root = parent.path().join("inputs");
    let output = fwpkm(&["vectors".as_ref(), "export".as_ref(), root.as_ref(), "--rules".as_ref(), "release".as_ref()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let index: Value = serde_json::from_str(&std::fs::read_to_string(root.join("index.json")).unwrap()).unwrap();
    let cases = index["cases"].as_array().unwrap();
    assert_eq!(case_paths(&root).unwrap().len(), cases.len());
    for case in cases {
        let name = case["file"].as_str().unwrap();
        assert!(name.starts_with("both/") || name.starts_with("release/"), "{name}");
        let (exported, recorded) =
            (CaseFile::open(root.join(name)).unwrap(), CaseFile::open(folder().join(name)).unwrap());
        assert!(exported.names().all(is_given) && exported.certificate.is_none());
        assert_eq!(exported.case, recorded.case);
        for input in recorded.names().filter(|name| is_given(name)) {
            let count: usize = recorded.shape(input).unwrap().iter().product();
            assert_eq!(exported.elements(input, 0..count), recorded.elements(input, 0..count), "{name} {input}");
        }
        for (prefix, list) in [("out.", "outputs"), ("grad.", "gradients")] {
            for output in recorded.names().filter(|name| name.starts_with(prefix)) {
                let shape: Vec<usize> = serde_json::from_value(case[list][output].clone()).unwrap();
                assert_eq!(shape, recorded.shape(output).unwrap(), "{name} {output}");
            }
        }
    }
    let again = fwpkm(&["vectors".as_ref(), "export".as_ref(), root.as_ref()]);
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&again.stderr).contains("is not empty"));
}
