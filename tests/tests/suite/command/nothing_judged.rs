//! Recorded outputs of which nothing, or not everything, can be judged.

use std::path::Path;

use fwpkm::implementation::Implementation;
use fwpkm::numbers::Numbers;
use fwpkm::run::Outputs;
use fwpkm::vectors::collection::{FOLDER, vectors};
use fwpkm_spec::tensor_file;
use serde_json::Value;
use tempfile::TempDir;

use super::{fwpkm, status, stderr, stdout, valid};

const VECTOR: &str = "both/rd_1_over_all_heads";
const OTHER: &str = "both/rd_1_temperature_2";

/// What the specification computes of a vector in f32, changed.
fn record(folder: &TempDir, name: &str, change: impl FnOnce(&mut Outputs)) {
    record_of(&Implementation::specification(), folder, name, change);
}

fn record_of(implementation: &Implementation, folder: &TempDir, name: &str, change: impl FnOnce(&mut Outputs)) {
    let all = vectors(Path::new(FOLDER)).unwrap();
    let vector = all.iter().find(|vector| vector.name == name).unwrap_or_else(|| panic!("no vector {name}"));
    let mut outputs = implementation.run(&vector.problem, Numbers::F32).unwrap();
    change(&mut outputs);
    let path = folder.path().join(name).with_extension("safetensors");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    tensor_file::write(&path, &[].into(), &outputs.iter().collect::<Vec<_>>()).unwrap();
}

/// Exactly the tensors of these new names; the first is that of the reads.
fn renamed(outputs: &mut Outputs, names: &[&str]) {
    let reads = outputs["out.reads"].clone();
    *outputs = names.iter().map(|name| (name.to_string(), reads.clone())).collect();
}

fn run(job: &str, folder: &TempDir, more: &[&str]) -> std::process::Output {
    let mut arguments = vec![job, folder.path().to_str().unwrap()];
    arguments.extend(more);
    fwpkm(&arguments)
}

/// Misspelt, unknown, of a stage alone, of a layer where there is none.
#[test]
fn a_file_without_any_result_of_its_vector_is_an_error() {
    for names in [
        &["out.read"][..],
        &["out.a", "out.b"],
        &["reads"],
        &["trace.score.half_scores"],
        &["out.gates", "out.layer"],
        &["out.read", "trace.score.half_scores"],
    ] {
        let folder = TempDir::new().unwrap();
        record(&folder, VECTOR, |outputs| renamed(outputs, names));
        for job in ["judge", "identify"] {
            let output = run(job, &folder, &[]);
            let text = stdout(&output);
            assert_eq!(status(&output), 2, "{job} {names:?}: {text}");
            let found = format!("found {}", names.join(", "));
            for part in [VECTOR, "expected out.reads, out.indices, ", &found] {
                assert!(text.contains(part), "{job} {names:?}: no {part} in\n{text}");
            }
            let says = |line: &&str| line.contains("conform") && !line.starts_with("cases: ");
            assert_eq!(text.lines().find(says), None, "{job} {names:?}");
            assert!(!text.contains("consistent with"), "{job} {names:?}: {text}");
            let document: Value = serde_json::from_str(&stdout(&run(job, &folder, &["--json"]))).unwrap();
            valid(fwpkm_spec::REPORT_SCHEMA, &document);
            assert!(document["reports"][0]["errors"][VECTOR].is_string(), "{document}");
            assert_eq!(document["reports"][0]["cases"].as_array().unwrap().len(), 0);
        }
    }
}

#[test]
fn the_other_files_are_judged() {
    let folder = TempDir::new().unwrap();
    record(&folder, VECTOR, |outputs| renamed(outputs, &["out.read"]));
    record(&folder, OTHER, |_| ());
    let judged = run("judge", &folder, &[]);
    assert_eq!(status(&judged), 2);
    assert!(stdout(&judged).contains("0 of 1 differs, 1 could not be judged"), "{}", stdout(&judged));
    let identified = run("identify", &folder, &[]);
    let text = stdout(&identified);
    assert_eq!(status(&identified), 2);
    assert!(text.contains("consistent with the specification") && text.contains(VECTOR), "{text}");
}

/// A name that nothing knows beside one that is asked for is told, and judged is the other.
#[test]
fn one_result_is_enough() {
    let folder = TempDir::new().unwrap();
    record(&folder, VECTOR, |outputs| renamed(outputs, &["out.read", "out.reads"]));
    let output = run("judge", &folder, &[]);
    assert_eq!(status(&output), 0, "{}", stdout(&output));
    assert!(stdout(&output).contains("not judged: out.read\n"), "{}", stdout(&output));
    assert!(stdout(&output).lines().last().unwrap().starts_with("1 vector conforms ("), "{}", stdout(&output));
}

/// A port that has no training conforms, and is not said to conform in the clauses of training.
#[test]
fn gradients_may_be_left_out() {
    let folder = TempDir::new().unwrap();
    let case = "paper/grd_5_three_heads";
    record(&folder, case, |outputs| outputs.retain(|name, _| !name.starts_with("grad.")));
    let output = run("judge", &folder, &["--require", "all", "--case", case]);
    assert_eq!(status(&output), 0, "{}", stdout(&output));
    let text = stdout(&output);
    let of_training = text.lines().filter(|line| line.starts_with("GRD-"));
    assert_eq!(of_training.filter(|line| line.ends_with("nothing recorded")).count(), 2, "{text}");
    // Some gradients without the others are not all of them.
    record(&folder, case, |outputs| outputs.retain(|name, _| name != "grad.queries"));
    let output = run("judge", &folder, &["--require", "all", "--case", case]);
    assert_eq!(status(&output), 1, "{}", stdout(&output));
    assert!(stdout(&output).contains("not judged: grad.queries (1 vector)"), "{}", stdout(&output));
}

/// The log of a probability near 0 makes the bound of this loss useless in f32.
#[test]
fn what_no_bound_can_judge_does_not_conform() {
    let folder = TempDir::new().unwrap();
    record(&folder, "paper/adr_4_log_epsilon", |outputs| outputs.retain(|name, _| name == "out.addr_loss_mean"));
    let judged = run("judge", &folder, &[]);
    assert_eq!(status(&judged), 2, "{}", stdout(&judged));
    assert!(stdout(&judged).contains("nothing could be judged by any bound"), "{}", stdout(&judged));
    let identified = run("identify", &folder, &[]);
    assert_eq!(status(&identified), 2, "{}", stdout(&identified));
    assert!(stdout(&identified).contains("nothing was judged, so nothing is identified"), "{}", stdout(&identified));
}

#[test]
fn require_all_says_what_is_lacking() {
    let folder = TempDir::new().unwrap();
    record(&folder, VECTOR, |_| ());
    record(&folder, OTHER, |outputs| drop(outputs.remove("out.reads")));
    let others = vectors(Path::new(FOLDER)).unwrap().len() - 2;
    let files = format!("--require all: {others} vectors have no recorded outputs (the first: ");
    let results = format!("1 vector has not every result (the first: {OTHER})");
    for job in ["judge", "identify"] {
        let output = run(job, &folder, &["--require", "all"]);
        assert_eq!(status(&output), 1);
        for part in [&files, &results] {
            assert!(stdout(&output).contains(part), "{job}: no {part} in\n{}", stdout(&output));
        }
        let output = run(job, &folder, &["--require", "all", "--case", OTHER, "--json"]);
        assert_eq!(status(&output), 1);
        assert_eq!(stderr(&output), format!("--require all: {results}\n"));
        assert!(serde_json::from_str::<Value>(&stdout(&output)).is_ok());
        let output = run(job, &folder, &["--require", "all", "--case", VECTOR]);
        assert_eq!((status(&output), stdout(&output).contains("--require")), (0, false), "{job}");
    }
}

/// The list that is held against the names that were recorded.
#[test]
fn the_results_of_a_case_are_those_that_are_computed() {
    for vector in vectors(Path::new(FOLDER)).unwrap() {
        let outputs = Implementation::specification().run(&vector.problem, Numbers::F32).unwrap();
        let mut names = fwpkm::outputs::result_names(&vector.problem);
        names.sort_unstable();
        assert!(outputs.keys().filter(|name| !name.starts_with("trace.")).eq(names.iter()), "{}", vector.name);
    }
}

/// A count of one and its noun.
#[test]
fn one_is_singular() {
    let folder = TempDir::new().unwrap();
    let wrong = fwpkm::deviation::named("rd-1-softmax-of-each-head").unwrap();
    record_of(&Implementation::deviating(wrong), &folder, VECTOR, |outputs| drop(outputs.remove("out.weights")));
    let case = ["--case", VECTOR];
    for text in [
        stdout(&run("judge", &folder, &case)),
        stdout(&run("identify", &folder, &case)),
        stdout(&fwpkm(&["check", "--case", VECTOR])),
        stdout(&fwpkm(&["check", "--long", "1"])),
    ] {
        let words: Vec<&str> = text.split(|letter: char| !letter.is_alphanumeric() && letter != '.').collect();
        let plural = |pair: &&[&str]| pair[0] == "1" && ["vectors", "cases", "tokens", "chunks"].contains(&pair[1]);
        assert_eq!(words.windows(2).find(plural), None, "{text}");
        assert!(words.windows(2).any(|pair| pair == ["1", "vector"] || pair == ["1", "token"]), "{text}");
    }
}
