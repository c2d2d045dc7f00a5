//! `fwpkm verify`: recorded cases that conform, those that differ, and those that cannot be judged.

use std::path::PathBuf;

use fwpkm_spec::Data;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Edited, fwpkm, release, status, stderr, stdout, valid};

#[test]
fn verify_of_the_release_conforms_outer_gradients_too() {
    let output = fwpkm(&["verify".as_ref(), release().as_os_str()]);
    let text = stdout(&output);
    assert_eq!(status(&output), 0, "{text}{}", stderr(&output));
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("all 48 cases conform"), "{last}");
    let gradients = text.lines().filter(|line| line.starts_with("train_")).map(|line| line.split_whitespace().last());
    assert_eq!(gradients.filter(|cell| cell.is_some_and(|cell| cell.contains("e-1"))).count(), 7, "{text}");
    assert!(!text.contains("Not specified"), "{text}");
    assert!(!text.contains('\u{1b}'), "escape codes on a pipe");
}

#[test]
fn verify_json_is_one_document_with_every_tensor() {
    let output = fwpkm(&["verify".as_ref(), "--json".as_ref(), release().as_os_str()]);
    let document: Value = serde_json::from_str(&stdout(&output)).unwrap();
    valid(fwpkm_spec::VERIFY_SCHEMA, &document);
    assert_eq!(document["spec"], fwpkm_spec::version());
    assert_eq!(document["summary"], json!({"conforms": 48, "differs": 0, "error": 0, "not_specified": 0}));
    for case in document["cases"].as_array().unwrap() {
        assert!(case["tensors"].as_array().unwrap().len() >= 5, "{case}");
    }
}

/// A case that differs, and one that cannot be read.
#[test]
fn verify_json_of_what_is_wrong_is_as_its_schema_says() {
    let folder = TempDir::new().unwrap();
    let path = Edited::new("base").number("out.slot_values", 100, f64::NAN).write(&folder, "changed");
    let nothing = folder.path().join("nothing.safetensors");
    let output = fwpkm(&["verify".as_ref(), "--json".as_ref(), path.as_os_str(), nothing.as_os_str()]);
    let document: Value = serde_json::from_str(&stdout(&output)).unwrap();
    valid(fwpkm_spec::VERIFY_SCHEMA, &document);
    assert_eq!(document["summary"]["error"], 1, "{document}");
    let mut extra = document.clone();
    extra["more"] = json!(1);
    let schema = serde_json::from_str(fwpkm_spec::VERIFY_SCHEMA).unwrap();
    assert!(!jsonschema::is_valid(&schema, &extra));
}

#[test]
fn verify_names_the_tensor_and_the_place_that_differ() {
    let folder = TempDir::new().unwrap();
    // 64 slots of 6 numbers; flat 100 is slot 16, feature 4.
    let path = Edited::new("base").number("out.slot_values", 100, 0.125).write(&folder, "changed");
    let output = fwpkm(&["verify".as_ref(), path.as_os_str()]);
    assert_eq!(status(&output), 1);
    assert!(stdout(&output).contains("out.slot_values[16, 4]: recorded 1.25e-1"), "{}", stdout(&output));
    assert!(stdout(&output).contains("0 of 1 case conforms, 1 differs, 0"), "{}", stdout(&output));
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
        assert!(text.contains("1 of 2 cases conforms, 0 differ, 1 could not be judged"), "{text}");
    }
}

/// Files of one name are told apart by their paths; a file given again is judged once.
#[test]
fn verify_tells_files_of_one_name_apart_and_judges_each_once() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    for (below, case) in [("a", "base"), ("b", "topk1")] {
        std::fs::create_dir(path(below)).unwrap();
        std::fs::copy(release().join(format!("{case}.safetensors")), path(below).join("x.safetensors")).unwrap();
    }
    std::fs::copy(release().join("base.safetensors"), path("b/y.safetensors")).unwrap();
    let (a, b) = (path("a/x.safetensors"), path("b/x.safetensors"));
    let again = path("b/../a/x.safetensors");
    let output = fwpkm(&["verify".as_ref(), path("a").as_os_str(), path("b").as_os_str(), again.as_os_str()]);
    let text = stdout(&output);
    assert_eq!(status(&output), 0, "{text}");
    for name in [a.to_str().unwrap(), b.to_str().unwrap(), "y "] {
        assert_eq!(text.lines().filter(|line| line.starts_with(name)).count(), 1, "{name} in\n{text}");
    }
    assert!(text.contains("all 3 cases conform"), "{text}");
}

/// A folder that cannot be listed keeps what stands beside it from nothing. Permissions do not bind root; a path that is too long
/// does.
#[cfg(target_os = "linux")]
#[test]
fn verify_names_a_folder_it_cannot_read_and_judges_the_rest() {
    let folder = TempDir::new().unwrap();
    let deep: PathBuf = std::iter::repeat_n("d".repeat(250), 9).collect();
    let (upper, lower) = (folder.path().join("upper"), folder.path().join("lower"));
    std::fs::create_dir_all(upper.join(&deep)).unwrap();
    std::fs::create_dir_all(lower.join(&deep)).unwrap();
    std::fs::rename(lower, upper.join(&deep).join("lower")).unwrap();
    std::fs::copy(release().join("base.safetensors"), upper.join("base.safetensors")).unwrap();
    let output = fwpkm(&["verify".as_ref(), upper.as_os_str()]);
    let text = stdout(&output);
    assert_eq!(status(&output), 2, "{text}");
    assert!(text.contains("cannot list: File name too long"), "{text}");
    assert!(text.contains("1 of 2 cases conforms, 0 differ, 1 could not be judged"), "{text}");
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
