//! The command from outside: what it prints, its exit status, and what it does with bad input.

mod backend;
mod interrupted;
mod judge;
mod nothing_judged;
#[cfg(unix)]
mod results;
mod run;
mod verify;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use fwpkm_spec::{Data, Tensor, TensorFile, tensor_file};
use serde_json::Value;
use tempfile::TempDir;

fn fwpkm<A: AsRef<std::ffi::OsStr>>(arguments: &[A]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fwpkm")).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn status(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn release() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors/release")
}

/// Fails with every place where a document is not as its schema says.
fn valid(schema: &str, document: &Value) {
    let validator = jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap();
    let wrong: Vec<String> =
        validator.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A recorded case whose parts a test may change before writing it again.
struct Edited {
    case: Value,
    tensors: BTreeMap<String, Tensor>,
}

impl Edited {
    fn new(name: &str) -> Self {
        let file = TensorFile::open(release().join(format!("{name}.safetensors"))).unwrap();
        let case = serde_json::from_str(&file.metadata()["case"]).unwrap();
        let tensors = file.names().map(|name| (name.to_string(), file.tensor(name).unwrap())).collect();
        Self { case, tensors }
    }

    fn with(mut self, key: &str, value: Value) -> Self {
        self.case[key] = value;
        self
    }

    fn number(mut self, tensor: &str, flat: usize, value: f64) -> Self {
        let Some(Data::F64(numbers)) = self.tensors.get_mut(tensor).map(|tensor| &mut tensor.data) else {
            panic!("{tensor} is not a tensor of f64")
        };
        numbers[flat] = value;
        self
    }

    fn write(&self, folder: &TempDir, name: &str) -> PathBuf {
        let path = folder.path().join(format!("{name}.safetensors"));
        let metadata = BTreeMap::from([("case".to_string(), self.case.to_string())]);
        let tensors: Vec<(&String, &Tensor)> = self.tensors.iter().collect();
        tensor_file::write(&path, &metadata, &tensors).unwrap();
        path
    }
}

#[test]
fn a_result_is_not_written_over_its_input() {
    let folder = TempDir::new().unwrap();
    let case = Edited::new("base").write(&folder, "case");
    let before = std::fs::read(&case).unwrap();
    for (job, option) in [("run", "--output"), ("run", "--save"), ("trace", "--html")] {
        let output = fwpkm(&[job.as_ref(), case.as_os_str(), option.as_ref(), case.as_os_str()]);
        assert_eq!(status(&output), 2);
        assert!(stderr(&output).contains("is the input; the result needs another file"), "{}", stderr(&output));
        assert_eq!(std::fs::read(&case).unwrap(), before);
    }
}

#[test]
fn spec_prints_a_clause_and_lists_the_labels_near_a_wrong_one() {
    let output = fwpkm(&["spec", "sel-3"]);
    assert_eq!(status(&output), 0);
    assert!(stdout(&output).starts_with("SEL-3"), "{}", stdout(&output));
    for part in fwpkm_spec::registry::PARTS {
        assert!(stdout(&output).lines().any(|line| line == part), "no {part}");
    }
    let output = fwpkm(&["spec", "mem-99"]);
    assert_eq!(status(&output), 2);
    assert!(stderr(&output).contains("mem-99") && stderr(&output).contains("MEM-4"), "{}", stderr(&output));
    let output = fwpkm(&["spec"]);
    for clause in fwpkm_spec::clauses() {
        assert!(stdout(&output).contains(&format!("{:7} {}", clause.label.to_string(), clause.title)));
    }
}

#[test]
fn wrong_usage_has_status_2() {
    for arguments in [vec!["judge"], vec!["verify"], vec!["verifi"], vec!["run", "x", "--element", "f16"]] {
        assert_eq!(status(&fwpkm(&arguments)), 2, "{arguments:?}");
    }
    let case = release().join("base.safetensors");
    let output = fwpkm(&["run".as_ref(), case.as_os_str(), "--trace".as_ref()]);
    assert_eq!(status(&output), 2);
    assert!(stderr(&output).contains("--output"), "{}", stderr(&output));
}

/// What cannot be written is an error, except where the reader has gone away.
#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_an_error() {
    let run = |stdout: std::fs::File| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fwpkm"));
        command.args(["spec", "sel-3"]).stdout(stdout).output().unwrap()
    };
    let output = run(std::fs::File::options().write(true).open("/dev/full").unwrap());
    assert_eq!(status(&output), 2);
    assert!(stderr(&output).contains("standard output: "), "{}", stderr(&output));
    let script = "\"$FWPKM\" spec sel-3 | true; \"$FWPKM\" spec | head -n 1 > /dev/null";
    let shell = Command::new("sh").args(["-c", script]).env("FWPKM", env!("CARGO_BIN_EXE_fwpkm")).output().unwrap();
    assert_eq!(stderr(&shell), "");
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let help = Command::new(env!("CARGO_BIN_EXE_fwpkm")).arg("--help").stdout(full()).output().unwrap();
    assert_eq!(status(&help), 2);
    // Nobody is left to be told; the status is the same.
    for (arguments, expected) in [(["judge", "/nope"], 2), (["spec", "sel-99"], 2), (["spec", "sel-3"], 0)] {
        let status = Command::new(env!("CARGO_BIN_EXE_fwpkm"))
            .args(arguments)
            .stdout(std::process::Stdio::null())
            .stderr(full())
            .status();
        assert_eq!(status.unwrap().code(), Some(expected), "{arguments:?}");
    }
}

/// A reader that goes away changes nothing of the status.
#[test]
fn a_closed_pipe_keeps_the_status() {
    let sound = ["check", "--case", "paper/mem_4_heads_and_sequences"];
    let wrong = [&sound[..], &["--deviation", "mem-4-sum-instead-of-division"]].concat();
    let json = [&wrong[..], &["--json"]].concat();
    for (arguments, expected) in [(&sound[..], 0), (&wrong, 1), (&json, 1)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fwpkm"));
        let piped = std::process::Stdio::piped;
        let mut child = command.args(arguments).stdout(piped()).stderr(piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!((status(&output), stderr(&output).as_str()), (expected, ""), "{arguments:?}");
    }
}

#[test]
fn deviations_are_listed_as_text_and_as_json() {
    let text = stdout(&fwpkm(&["check", "--deviation", "list"]));
    let document: Value = serde_json::from_str(&stdout(&fwpkm(&["check", "--deviation", "list", "--json"]))).unwrap();
    assert_eq!(document["spec"], fwpkm_spec::version());
    let listed = document["deviations"].as_array().unwrap();
    assert_eq!((listed.len(), text.lines().count()), (fwpkm::deviation::all().len(), listed.len()));
    for (deviation, line) in listed.iter().zip(text.lines()) {
        for part in ["name", "clause", "instead"] {
            assert!(line.contains(deviation[part].as_str().unwrap()), "{line}: {deviation}");
        }
    }
}

#[test]
fn a_case_of_other_rules_is_refused_by_its_rules() {
    for (rules, case) in
        [("paper", "release/mem_4_heads_and_sequences"), ("release", "paper/mem_4_heads_and_sequences")]
    {
        let output = fwpkm(&["check", "--rules", rules, "--case", case]);
        let expected = format!("{case} does not follow the rules of --rules {rules}");
        assert_eq!(status(&output), 2);
        assert!(stderr(&output).contains(&expected), "{}", stderr(&output));
        assert_eq!(status(&fwpkm(&["check", "--case", case, "--rules", case.split('/').next().unwrap()])), 0);
    }
    let output = fwpkm(&["check", "--rules", "paper", "--case", "release/no_such"]);
    assert!(stderr(&output).contains("no vector release/no_such; a name looks like"), "{}", stderr(&output));
}

#[test]
fn vectors_regenerate_refuses_a_folder_that_is_not_there() {
    let folder = TempDir::new().unwrap();
    for arguments in [vec!["regenerate"], vec!["regenerate", "--check"], vec!["regenerate", "--check", "elsewhere"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fwpkm"));
        let output = command.arg("vectors").args(&arguments).current_dir(folder.path()).output().unwrap();
        assert_eq!(status(&output), 2, "{arguments:?}: {}", stdout(&output));
        assert!(stderr(&output).lines().count() == 1 && stdout(&output).is_empty(), "{}", stderr(&output));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

/// Before anything is measured.
#[test]
fn bench_refuses_a_baseline_that_is_not_there() {
    for arguments in [
        vec!["--baseline", "/nope"],
        vec!["--baseline", "no-such-program x"],
        vec!["--baseline", " "],
        vec!["--baseline", "true", "--baseline-tokens", "0"],
    ] {
        let mut all = vec!["bench"];
        all.extend(arguments);
        let output = fwpkm(&all);
        assert_eq!(status(&output), 2, "{all:?}");
        assert!(
            stderr(&output).contains("--baseline") && !stderr(&output).contains("measuring"),
            "{}",
            stderr(&output)
        );
    }
}
