//! `fwpkm run`: its results, its settings, and what it leaves alone when it fails.

use std::collections::BTreeMap;

use fwpkm_spec::{Data, Tensor, TensorFile, tensor_file};
use serde_json::json;
use tempfile::TempDir;

use super::{Edited, fwpkm, release, status, stderr, stdout};

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

/// Gradients are written with the rest; a cotangent that is none is refused before anything is read.
#[test]
fn run_writes_gradients() {
    let folder = TempDir::new().unwrap();
    let results = folder.path().join("out.safetensors");
    let run = |case: &std::path::Path| fwpkm(&["run".as_ref(), case.as_os_str(), "-o".as_ref(), results.as_os_str()]);
    let case = release().join("train_base.safetensors");
    let output = run(&case);
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    let (recorded, written) = (TensorFile::open(&case).unwrap(), TensorFile::open(&results).unwrap());
    let gradients: Vec<&str> = recorded.names().filter(|name| name.starts_with("grad.")).collect();
    assert_eq!(gradients.len(), 5);
    for name in gradients {
        let (expected, actual) = (recorded.tensor(name).unwrap(), written.tensor(name).unwrap());
        assert_eq!(expected.shape, actual.shape, "{name}");
        let largest = expected.data.to_f64().iter().fold(0.0_f64, |largest, x| largest.max(x.abs()));
        for (expected, actual) in expected.data.to_f64().iter().zip(&actual.data.to_f64()) {
            approx::assert_abs_diff_eq!(expected, actual, epsilon = 1e-10 * largest);
        }
    }
    let mut misshapen = Edited::new("train_base");
    let reads = misshapen.tensors.get_mut("cotangent.reads").unwrap();
    reads.shape = vec![reads.shape[0], reads.shape[1] * reads.shape[2], 1];
    for (name, edited, said) in [
        ("shape", misshapen, "cotangent.reads has shape [1, 192, 1]; expected [1, 32, 6], the shape of the result"),
        ("nan", Edited::new("train_base").number("cotangent.reads", 3, f64::NAN), "cotangent.reads"),
    ] {
        let case = edited.write(&folder, name);
        for job in ["run", "verify"] {
            let output = fwpkm(&[job.as_ref(), case.as_os_str()]);
            let text = stdout(&output) + &stderr(&output);
            assert_eq!(status(&output), 2, "{name}: {text}");
            assert!(text.contains(said), "{job} {name}: {text}");
        }
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
fn run_names_the_limit_that_from_or_until_exceeds() {
    let case = release().join("base.safetensors");
    let tokens = TensorFile::open(&case).unwrap().shape("in.queries").unwrap()[1];
    let (more, to) = ((tokens + 1).to_string(), format!("≤ {tokens}"));
    for (arguments, parts) in [
        (vec!["--from", "5", "--until", "2"], ["--from 5", "--until 2"]),
        (vec!["--from", &more], ["--from", &to]),
        (vec!["--until", &more], ["--until", &to]),
    ] {
        let mut all = vec!["run", case.to_str().unwrap()];
        all.extend(arguments);
        let output = fwpkm(&all);
        assert_eq!(status(&output), 2, "{all:?}");
        for part in parts {
            assert!(stderr(&output).contains(part), "{all:?}: no {part} in {}", stderr(&output));
        }
    }
}
