//! Case files, on disk and in memory; the recorded ones of the release.

use std::collections::BTreeMap;

use tempfile::tempdir;

use super::*;
use crate::tensor_file::{Data, Tensor, write};

const RELEASE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/release");

fn metadata(texts: &[(&str, &str)]) -> BTreeMap<String, String> {
    texts.iter().map(|&(key, text)| (key.to_owned(), text.to_owned())).collect()
}

fn one_tensor() -> [(&'static str, Tensor); 1] {
    [("in.values", Tensor::new(&[1], Data::F32(vec![1.0])).unwrap())]
}

#[test]
fn every_recorded_file_of_the_release_opens_and_every_tensor_reads() {
    let paths = case_paths(RELEASE).unwrap();
    assert_eq!(paths.len(), 48);
    for path in paths {
        let CaseFile { case, file, source, .. } = CaseFile::open(&path).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(case.unknown, [""; 0], "{}", path.display());
        assert!(source.is_some_and(|source| source.contains("public PyTorch release")));
        for name in file.names() {
            let tensor = file.tensor(name).unwrap();
            assert_eq!(tensor.shape.iter().product::<usize>(), tensor.data.len());
        }
        assert_eq!(file.shape("in.sub_keys").unwrap(), [case.heads, 2, case.n_subkeys, case.d_k / 2]);
        assert_eq!(file.shape("in.slot_values").unwrap(), [case.n_subkeys * case.n_subkeys, case.d_v]);
        assert_eq!(file.shape("out.indices").unwrap(), [case.batch, case.tokens, case.heads, case.topk]);
        assert_eq!(file.has("in.mask"), case.mask.unwrap_or(false));
        assert_eq!(file.has("in.gates"), case.gates.unwrap_or(false));
    }
}

#[test]
fn a_case_file_written_and_opened_again_is_the_same() {
    let folder = tempdir().unwrap();
    for path in case_paths(RELEASE).unwrap() {
        let recorded = CaseFile::open(&path).unwrap();
        let tensors: Vec<_> = recorded.file.names().map(|name| (name, recorded.file.tensor(name).unwrap())).collect();
        let copy = folder.path().join(path.file_name().unwrap());
        write(&copy, &recorded.case.metadata(recorded.source.as_deref()).unwrap(), &tensors).unwrap();
        let again = CaseFile::open(&copy).unwrap();
        assert_eq!((&again.path, &again.case, &again.source), (&copy, &recorded.case, &recorded.source));
        assert!(again.file.names().eq(recorded.file.names()));
        for (name, tensor) in tensors {
            assert_eq!(again.file.tensor(name).unwrap(), tensor);
        }
    }
}

#[test]
fn a_file_without_a_case_or_with_a_wrong_one_is_refused_by_name() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("no case.safetensors");
    write(&path, &metadata(&[("source", "x")]), &one_tensor()).unwrap();
    let error = CaseFile::open(&path).unwrap_err();
    assert!(matches!(error, Error::Format { .. }));
    assert!(
        error.to_string().ends_with("__metadata__: expected a text `case`, the JSON object of a case, found source"),
        "{error}"
    );

    write(&path, &metadata(&[("case", "{\"mode\": \"wild\"}")]), &one_tensor()).unwrap();
    let error = CaseFile::open(&path).unwrap_err();
    let reason = "case key `mode`: expected \"one_shot\", \"streaming\" or \"layer\", found \"wild\"";
    assert_eq!(error.to_string(), format!("{}: {reason}", path.display()));
}

#[test]
fn a_file_gives_itself_and_a_folder_its_case_files_sorted_and_those_below() {
    let folder = tempdir().unwrap();
    let root = folder.path();
    fs::create_dir_all(root.join("m/deep.safetensors")).unwrap();
    fs::create_dir(root.join("hollow")).unwrap();
    let names = ["z.safetensors", "a.safetensors", "m/b.safetensors", "m/deep.safetensors/c.safetensors"];
    for name in names.iter().chain(&["notes.txt", "m/README.md"]) {
        fs::write(root.join(name), "").unwrap();
    }
    let expected = ["a.safetensors", "m/b.safetensors", "m/deep.safetensors/c.safetensors", "z.safetensors"];
    assert_eq!(case_paths(root).unwrap(), expected.map(|name| root.join(name)));
    assert_eq!(case_paths(root.join("notes.txt")).unwrap(), [root.join("notes.txt")]);
}

#[test]
fn a_folder_without_case_files_and_a_path_that_is_not_there_are_refused_by_name() {
    let folder = tempdir().unwrap();
    fs::write(folder.path().join("notes.txt"), "").unwrap();
    let error = case_paths(folder.path()).unwrap_err();
    assert!(matches!(&error, Error::Path { path, .. } if path == folder.path()), "{error}");
    let absent = folder.path().join("absent");
    assert!(matches!(case_paths(&absent), Err(Error::Io { path, .. }) if path == absent));
}

#[cfg(unix)]
#[test]
fn a_link_back_to_the_folder_is_not_followed_and_a_broken_link_is_not_hidden() {
    use std::os::unix::fs::symlink;
    let folder = tempdir().unwrap();
    let root = folder.path();
    symlink(root, root.join("again")).unwrap();
    symlink(root.join("nowhere"), root.join("broken.safetensors")).unwrap();
    fs::write(root.join("a.safetensors"), "").unwrap();
    assert_eq!(case_paths(root).unwrap(), [root.join("a.safetensors"), root.join("broken.safetensors")]);
}
