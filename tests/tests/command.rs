//! The command from outside: what it prints, its exit status, and what it does with bad input.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use fwpkm_spec::{Data, Tensor, TensorFile, tensor_file};
use serde_json::{Value, json};
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
fn verify_of_the_release_conforms_and_leaves_outer_gradients_open() {
    let output = fwpkm(&["verify".as_ref(), release().as_os_str()]);
    let text = stdout(&output);
    assert_eq!(status(&output), 0, "{text}{}", stderr(&output));
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("all 48 cases conform"), "{last}");
    assert!(text.contains("Not yet specified, neither passed nor failed: 34 recorded tensors"), "{text}");
    assert!(!text.contains('\u{1b}'), "escape codes on a pipe");
}

#[test]
fn verify_json_is_one_document_with_every_tensor() {
    let output = fwpkm(&["verify".as_ref(), "--json".as_ref(), release().as_os_str()]);
    let document: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(document["spec"], fwpkm_spec::version());
    assert_eq!(document["summary"], json!({"conforms": 48, "differs": 0, "error": 0, "not_yet_specified": 34}));
    for case in document["cases"].as_array().unwrap() {
        assert!(case["tensors"].as_array().unwrap().len() >= 5, "{case}");
    }
}

#[test]
fn verify_names_the_tensor_and_the_place_that_differ() {
    let folder = TempDir::new().unwrap();
    // 64 slots of 6 numbers; flat 100 is slot 16, feature 4.
    let path = Edited::new("base").number("out.slot_values", 100, 0.125).write(&folder, "changed");
    let output = fwpkm(&["verify".as_ref(), path.as_os_str()]);
    assert_eq!(status(&output), 1);
    assert!(stdout(&output).contains("out.slot_values[16, 4]: recorded 1.25e-1"), "{}", stdout(&output));
    assert!(stdout(&output).contains("0 of 1 cases conform, 1 differ"), "{}", stdout(&output));
}

/// A difference of 2e-10 of the largest magnitude is outside the bound of 1e-10, half of the bound is inside.
#[test]
fn verify_allows_what_the_bound_says_and_no_more() {
    let folder = TempDir::new().unwrap();
    let edited = Edited::new("base");
    let Data::F64(reads) = edited.tensors["out.reads"].data.clone() else { panic!("not f64") };
    let largest = reads.iter().fold(0.0_f64, |largest, x| largest.max(x.abs()));
    for (share, expected) in [(0.5e-10, 0), (2e-10, 1)] {
        let path = Edited::new("base").number("out.reads", 7, reads[7] + share * largest).write(&folder, "moved");
        assert_eq!(status(&fwpkm(&["verify".as_ref(), path.as_os_str()])), expected, "{share}");
    }
}

#[test]
fn verify_calls_one_wrong_index_a_difference() {
    let folder = TempDir::new().unwrap();
    let mut edited = Edited::new("base");
    let Some(Data::I64(indices)) = edited.tensors.get_mut("out.indices").map(|tensor| &mut tensor.data) else {
        panic!("not i64")
    };
    indices.swap(0, 1);
    let output = fwpkm(&["verify".as_ref(), edited.write(&folder, "swapped").as_os_str()]);
    assert_eq!(status(&output), 1);
    assert!(stdout(&output).contains("2 off"), "{}", stdout(&output));
}

#[test]
fn verify_by_the_papers_rules_differs_where_the_release_does() {
    let output = fwpkm(&[
        "verify".as_ref(),
        release().join("base.safetensors").as_os_str(),
        "--rules".as_ref(),
        "paper".as_ref(),
    ]);
    assert_eq!(status(&output), 1);
    assert!(stdout(&output).contains("out.slot_values["), "{}", stdout(&output));
}

/// Every case here must be refused with words that say what is wrong; a good case beside it is still judged.
#[test]
fn verify_refuses_bad_files_by_name_and_judges_the_rest() {
    let folder = TempDir::new().unwrap();
    let huge = json!(1_u64 << 60);
    let refused: Vec<(PathBuf, &str)> = vec![
        (Edited::new("base").with("topk", json!(9)).write(&folder, "k_above_n"), "topk"),
        (Edited::new("base").with("d_k", json!(7)).write(&folder, "odd_d_k"), "d_k"),
        (Edited::new("base").with("chunk", json!(0)).write(&folder, "no_chunk"), "chunk"),
        (Edited::new("base").with("chunk", json!(-8)).write(&folder, "negative_chunk"), "chunk"),
        (
            Edited::new("base").with("lookahead", json!(8)).write(&folder, "lookahead"),
            "lookahead is 8; allowed: less than chunk = 8",
        ),
        (Edited::new("base").with("n_subkeys", huge.clone()).write(&folder, "huge_n"), "n_subkeys"),
        (Edited::new("base").with("heads", huge).write(&folder, "huge_heads"), "heads"),
        (
            Edited::new("base").with("heads", json!(1 << 30)).write(&folder, "many_heads"),
            "sub_keys has shape [1, 2, 8, 4]",
        ),
        (Edited::new("base").with("tokens", json!(33)).write(&folder, "tokens"), "tokens 33"),
        (Edited::new("base").with("d_v", json!(5)).write(&folder, "d_v"), "slot_values has shape [64, 6]"),
        (Edited::new("base").with("score", json!("cosine")).write(&folder, "score"), "score"),
        (Edited::new("base").with("learning_rate", json!("fast")).write(&folder, "rate"), "learning_rate"),
        (Edited::new("base").with("rules", json!({"kept": "most"})).write(&folder, "rules"), "most"),
        (Edited::new("base").with("mask", json!(true)).write(&folder, "mask"), "in.mask"),
        (Edited::new("base").number("in.queries", 3, f64::NAN).write(&folder, "nan"), "queries[0, 0, 3] is NaN"),
        (
            Edited::new("base").number("in.slot_values", 7, f64::INFINITY).write(&folder, "inf"),
            "slot_values[1, 1] is inf",
        ),
        (Edited::new("base").number("in.queries", 0, 1e200).write(&folder, "overflow"), "overflowed"),
        (Edited::new("mask").number("in.mask", 1, 0.5).write(&folder, "half_mask"), "0 and 1"),
        (Edited::new("stream_ragged").with("splits", json!([12, 5])).write(&folder, "splits"), "splits"),
        (folder.path().join("absent.safetensors"), "absent.safetensors"),
    ];
    let whole = std::fs::read(release().join("base.safetensors")).unwrap();
    let bytes = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let files = [
        bytes("empty.safetensors", b""),
        bytes("cut.safetensors", &whole[..whole.len() - 8]),
        bytes("header.safetensors", &[0xff; 64]),
        bytes("text.safetensors", b"not a tensor file at all"),
    ];
    for (path, words) in
        refused.iter().map(|(path, words)| (path, *words)).chain(files.iter().map(|path| (path, "expected")))
    {
        let good = release().join("base.safetensors");
        let output = fwpkm(&["verify".as_ref(), path.as_os_str(), good.as_os_str()]);
        let text = stdout(&output);
        assert_eq!(status(&output), 2, "{}: {text}{}", path.display(), stderr(&output));
        assert!(text.contains(words), "{}: {text}", path.display());
        assert!(text.contains("1 of 2 cases conform, 0 differ, 1 could not be judged"), "{text}");
    }
}

/// Numbers of another kind are refused by name; a mask may be of any, so long as it holds 0 and 1.
#[test]
fn tensors_of_the_wrong_element_type_are_refused() {
    let folder = TempDir::new().unwrap();
    for tensor in ["in.queries", "in.gates", "in.sub_keys", "in.slot_values"] {
        let mut edited = Edited::new("mask");
        let numbers = &mut edited.tensors.get_mut(tensor).unwrap().data;
        *numbers = Data::I64(vec![1; numbers.len()]);
        let output = fwpkm(&["verify".as_ref(), edited.write(&folder, "integers").as_os_str()]);
        assert_eq!(status(&output), 2);
        let words = format!("{tensor} has element type I64; expected F32 or F64");
        assert!(stdout(&output).contains(&words), "{}", stdout(&output));
    }
    let mut edited = Edited::new("mask");
    let mask = &mut edited.tensors.get_mut("in.mask").unwrap().data;
    *mask = Data::Bool(mask.to_f64().into_iter().map(|x| x == 1.0).collect());
    let output = fwpkm(&["verify".as_ref(), edited.write(&folder, "truth").as_os_str()]);
    assert_eq!(status(&output), 0, "{}", stdout(&output));
}

#[test]
fn verify_reports_case_keys_that_nothing_reads() {
    let folder = TempDir::new().unwrap();
    let path = Edited::new("base").with("learning_speed", json!(1)).write(&folder, "unknown");
    let output = fwpkm(&["verify".as_ref(), path.as_os_str()]);
    assert_eq!(status(&output), 0);
    assert!(stdout(&output).contains("case keys that nothing reads: learning_speed"), "{}", stdout(&output));
}

#[test]
fn rules_that_do_not_exist_are_refused_with_those_that_do() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("rules.toml");
    for (text, words) in [
        ("base = \"papers\"", "expected `paper` or `release`"),
        ("kept_ties = true", "unknown field `kept_ties`, expected one of `base`, `read_factor`"),
        ("log_epsilon = -1.0", "log_epsilon is -1; allowed: a finite number, 0 or more"),
        ("base = ", "TOML parse error at line 1"),
    ] {
        std::fs::write(&file, text).unwrap();
        let output = fwpkm(&["verify".as_ref(), release().as_os_str(), "--rules".as_ref(), file.as_os_str()]);
        assert_eq!(status(&output), 2);
        assert!(stderr(&output).contains(words), "{text}: {}", stderr(&output));
    }
    let output = fwpkm(&["verify".as_ref(), release().as_os_str(), "--rules".as_ref(), "papers".as_ref()]);
    assert_eq!(status(&output), 2);
    assert!(stderr(&output).contains("allowed: paper, release, or a TOML file"), "{}", stderr(&output));
}

#[test]
fn rules_of_a_file_are_used() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("rules.toml");
    let case = release().join("base.safetensors");
    for (text, expected) in [("base = \"release\"", 0), ("base = \"release\"\nread_factor = \"one\"", 1)] {
        std::fs::write(&file, text).unwrap();
        let output = fwpkm(&["verify".as_ref(), case.as_os_str(), "--rules".as_ref(), file.as_os_str()]);
        assert_eq!(status(&output), expected, "{text}");
    }
}

#[test]
fn run_writes_what_verify_compares() {
    let folder = TempDir::new().unwrap();
    for name in ["base", "stream_ragged", "layer_heads2_batch2"] {
        let case = release().join(format!("{name}.safetensors"));
        let results = folder.path().join("out.safetensors");
        let output = fwpkm(&["run".as_ref(), case.as_os_str(), "-o".as_ref(), results.as_os_str(), "--trace".as_ref()]);
        assert_eq!(status(&output), 0, "{}", stderr(&output));
        let (recorded, results) = (TensorFile::open(&case).unwrap(), TensorFile::open(&results).unwrap());
        assert_eq!(results.metadata()["spec"], fwpkm_spec::version());
        for name in recorded.names().filter(|name| name.starts_with("out.")) {
            let (expected, actual) =
                (recorded.tensor(name).unwrap().data.to_f64(), results.tensor(name).unwrap().data.to_f64());
            let largest = expected.iter().fold(0.0_f64, |largest, x| largest.max(x.abs()));
            for (expected, actual) in expected.iter().zip(&actual) {
                approx::assert_abs_diff_eq!(expected, actual, epsilon = 1e-10 * largest);
            }
        }
        assert!(results.has("trace.score.half_scores") && results.has("trace.memorize.value_gradient.0"));
    }
}

#[test]
fn run_computes_in_the_element_type_of_the_queries() {
    let folder = TempDir::new().unwrap();
    let mut edited = Edited::new("base");
    for tensor in edited.tensors.values_mut() {
        if let Data::F64(numbers) = &tensor.data {
            tensor.data = Data::F32(numbers.iter().map(|&x| x as f32).collect());
        }
    }
    let results = folder.path().join("out.safetensors");
    let case = edited.write(&folder, "single");
    let output = fwpkm(&["run".as_ref(), case.as_os_str(), "-o".as_ref(), results.as_os_str()]);
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    assert_eq!(TensorFile::open(&results).unwrap().element_type("out.reads"), Some("F32"));
}

#[test]
fn run_takes_settings_from_a_file() {
    let folder = TempDir::new().unwrap();
    let settings = folder.path().join("settings.toml");
    let case = release().join("base.safetensors");
    let run = |text: &str, rest: &[&str]| {
        std::fs::write(&settings, text).unwrap();
        let mut arguments = vec!["run", case.to_str().unwrap(), "--settings", settings.to_str().unwrap()];
        arguments.extend(rest);
        fwpkm(&arguments)
    };
    let results = folder.path().join("out.safetensors");
    let output = run("top_k = 3\nchunk = 8", &["--rules", "release", "-o", results.to_str().unwrap()]);
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    let (recorded, actual) = (TensorFile::open(&case).unwrap(), TensorFile::open(&results).unwrap());
    assert_eq!(recorded.tensor("out.indices").unwrap(), actual.tensor("out.indices").unwrap());
    for (text, words) in [
        ("topk = 3", "unknown field `topk`, expected one of `heads`"),
        ("top_k = 9", "top_k is 9; allowed: 1 to sub_keys = 8"),
        ("top_k = 3\nvalue_dim = 7", "slot_values has shape [64, 6]"),
        ("top_k = 3\ntemperature = nan", "temperature is NaN; allowed: a finite number above 0"),
    ] {
        let output = run(text, &[]);
        assert_eq!(status(&output), 2);
        assert!(stderr(&output).contains(words), "{text}: {}", stderr(&output));
    }
}

/// Whatever fails, what stood at the output path before still stands there, and nothing is left beside it.
#[test]
fn run_leaves_an_existing_output_alone_when_it_fails() {
    let folder = TempDir::new().unwrap();
    let results = TempDir::new().unwrap();
    let output_path = results.path().join("out.safetensors");
    std::fs::write(&output_path, "kept").unwrap();
    for (name, case) in [
        ("nan", Edited::new("base").number("in.values", 0, f64::NAN)),
        ("overflow", Edited::new("base").number("in.values", 6, 1e200)),
        ("k", Edited::new("base").with("topk", json!(9))),
    ] {
        let case = case.write(&folder, name);
        let output = fwpkm(&["run".as_ref(), case.as_os_str(), "-o".as_ref(), output_path.as_os_str()]);
        assert_eq!(status(&output), 2, "{name}: {}", stdout(&output));
        assert!(!stderr(&output).is_empty());
        assert_eq!(std::fs::read_to_string(&output_path).unwrap(), "kept");
        assert_eq!(std::fs::read_dir(results.path()).unwrap().count(), 1);
    }
    let case = release().join("base.safetensors");
    let nowhere = results.path().join("no_such_folder").join("out.safetensors");
    let output = fwpkm(&["run".as_ref(), case.as_os_str(), "-o".as_ref(), nowhere.as_os_str()]);
    assert_eq!(status(&output), 2);
    assert!(stderr(&output).contains("no_such_folder"), "{}", stderr(&output));
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
fn run_without_a_case_or_settings_says_what_is_needed() {
    let folder = TempDir::new().unwrap();
    let edited = Edited::new("base");
    let path = folder.path().join("bare.safetensors");
    let tensors: Vec<(&String, &Tensor)> = edited.tensors.iter().collect();
    tensor_file::write(&path, &BTreeMap::new(), &tensors).unwrap();
    let output = fwpkm(&["run".as_ref(), path.as_os_str()]);
    assert_eq!(status(&output), 2);
    assert!(stderr(&output).contains("`case`"), "{}", stderr(&output));
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
    for arguments in [vec![], vec!["verify"], vec!["verifi"], vec!["run", "x", "--element", "f16"]] {
        assert_eq!(status(&fwpkm(&arguments)), 2, "{arguments:?}");
    }
    let case = release().join("base.safetensors");
    let output = fwpkm(&["run".as_ref(), case.as_os_str(), "--trace".as_ref()]);
    assert_eq!(status(&output), 2);
    assert!(stderr(&output).contains("--output"), "{}", stderr(&output));
}
