//! Where results go: what is refused before any work, and what stays.

use std::os::unix::fs::{FileTypeExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use super::{fwpkm, release, status, stderr, stdout};

/// Every job that writes a result: the job, its arguments, the option.
fn jobs() -> Vec<(Vec<String>, &'static str)> {
    let case = release().join("base.safetensors").display().to_string();
    let job = |words: &[&str]| words.iter().map(ToString::to_string).collect();
    vec![
        (job(&["run", &case]), "--output"),
        (job(&["run", &case]), "--save"),
        (job(&["trace"]), "--html"),
        (job(&["bench"]), "--out"),
        (job(&["bench", "--backend", "emulator"]), "--out"),
    ]
}

fn written_to(job: &(Vec<String>, &str), path: &Path) -> Output {
    let mut arguments: Vec<String> = job.0.clone();
    arguments.extend([job.1.into(), path.display().to_string()]);
    fwpkm(&arguments)
}

fn names(folder: &TempDir) -> Vec<String> {
    let entries = std::fs::read_dir(folder.path()).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Refused before any work, with status 2, these words, and nothing on standard output or left behind.
fn refused(job: &(Vec<String>, &str), path: &Path, words: &str, folder: &TempDir) {
    let before = names(folder);
    let output = written_to(job, path);
    let error = stderr(&output);
    assert_eq!(status(&output), 2, "{job:?} {}: {error}", path.display());
    assert!(error.contains(words) && error.contains(job.1), "{job:?}: no {words} in {error}");
    assert!(!error.contains("measuring") && stdout(&output).is_empty(), "{job:?}: {error}{}", stdout(&output));
    assert_eq!(names(folder), before, "{job:?}");
}

#[test]
fn devices_pipes_and_folders_are_refused_and_stay() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    assert!(Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
    let _socket = UnixListener::bind(path("socket")).unwrap();
    symlink("/dev/null", path("device")).unwrap();
    symlink("pipe", path("link")).unwrap();
    std::fs::create_dir(path("folder")).unwrap();
    for job in jobs() {
        for (name, words) in [
            ("pipe", "found a named pipe"),
            ("link", "found a named pipe"),
            ("socket", "found a socket"),
            ("device", "found a device"),
            ("folder", "found a folder"),
            ("new/", "found the name of a folder"),
        ] {
            refused(&job, &path(name), words, &folder);
        }
    }
    assert!(std::fs::symlink_metadata(path("pipe")).unwrap().file_type().is_fifo());
    assert!(std::fs::symlink_metadata(path("socket")).unwrap().file_type().is_socket());
    assert!(path("device").is_symlink() && path("link").is_symlink() && path("folder").is_dir());
}

/// As root too, whom permissions do not bind.
#[test]
fn places_that_cannot_be_written_are_found_before_the_work() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("file"), "").unwrap();
    symlink("nowhere/file", path("dangling")).unwrap();
    for job in jobs() {
        for (name, words) in [
            ("no_such/file", "no_such: No such file or directory"),
            ("dangling", "nowhere: No such file or directory"),
            ("file/below", "Not a directory"),
        ] {
            refused(&job, &path(name), words, &folder);
        }
    }
    // The one that could be written is not either.
    let case = release().join("base.safetensors");
    let (good, bad) = (path("good"), path("no_such/state"));
    let output = fwpkm(&[Path::new("run"), &case, "-o".as_ref(), &good, "--save".as_ref(), &bad]);
    assert_eq!(status(&output), 2);
    assert!(!good.exists() && stdout(&output).is_empty());
}

#[test]
fn a_link_stays_a_link() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("elsewhere")).unwrap();
    for job in jobs().into_iter().take(3) {
        for (target, before) in [("elsewhere/old", Some("old")), ("elsewhere/new", None)] {
            let _ = std::fs::remove_file(path(target));
            if let Some(before) = before {
                std::fs::write(path(target), before).unwrap();
            }
            let link = path("link");
            symlink(target, &link).unwrap();
            let output = written_to(&job, &link);
            assert_eq!(status(&output), 0, "{job:?}: {}", stderr(&output));
            assert!(link.is_symlink(), "{job:?}");
            assert!(std::fs::metadata(path(target)).unwrap().len() > 1000, "{job:?}");
            std::fs::remove_file(link).unwrap();
        }
    }
}

#[test]
fn two_results_need_two_places() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("below")).unwrap();
    symlink("target", path("link")).unwrap();
    let case = release().join("base.safetensors");
    for (output, save) in [("target", "target"), ("target", "link"), ("target", "below/../target")] {
        let output = fwpkm(&[Path::new("run"), &case, "-o".as_ref(), &path(output), "--save".as_ref(), &path(save)]);
        assert_eq!(status(&output), 2, "{save}");
        assert!(stderr(&output).contains("is also that of --output"), "{}", stderr(&output));
        assert_eq!(names(&folder), ["below", "link"], "{save}");
    }
}

/// The case, the state, the settings, the rules, and what a baseline is run with.
#[test]
fn no_input_is_written_over() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    std::fs::copy(release().join("base.safetensors"), path("case")).unwrap();
    symlink("case", path("link")).unwrap();
    std::fs::write(path("settings"), "top_k = 3\nchunk = 8").unwrap();
    std::fs::write(path("rules"), "base = \"release\"").unwrap();
    let text = |name: &str| path(name).display().to_string();
    let (case, state, settings, rules) = (text("case"), text("state"), text("settings"), text("rules"));
    assert_eq!(status(&fwpkm(&["run", &case, "--until", "8", "--save", &state])), 0);
    let baseline = format!("true {settings}");
    for arguments in [
        vec!["run", &case, "-o", &case],
        vec!["run", &case, "-o", &text("link")],
        vec!["run", &text("link"), "--save", &case],
        vec!["run", &case, "--state", &state, "--save", &state],
        vec!["run", &case, "--settings", &settings, "-o", &settings],
        vec!["run", &case, "--rules", &rules, "-o", &rules],
        vec!["trace", &case, "--html", &case],
        vec!["trace", &case, "--rules", &rules, "--html", &rules],
        vec!["bench", "--baseline", &baseline, "--out", &settings],
    ] {
        let written = arguments.last().unwrap();
        let before = std::fs::read(written).unwrap();
        let output = fwpkm(&arguments);
        assert_eq!(status(&output), 2, "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("is the input; the result needs another file"), "{}", stderr(&output));
        assert_eq!(std::fs::read(written).unwrap(), before, "{arguments:?}");
    }
}

/// A folder of vectors whose first file could be written and whose last could not.
#[test]
fn vectors_are_not_begun_where_one_cannot_be_written() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("release"), "").unwrap();
    let into = folder.path().as_os_str();
    // Of the paper's rules first, then of the release's.
    let only = "mem_4_heads_and_sequences".as_ref();
    let regenerated = fwpkm(&["vectors".as_ref(), "regenerate".as_ref(), into, "--only".as_ref(), only]);
    assert_eq!(status(&regenerated), 2);
    assert!(stdout(&regenerated).is_empty() && stderr(&regenerated).contains("release: "), "{}", stderr(&regenerated));
    assert_eq!(std::fs::read_dir(folder.path().join("paper")).unwrap().count(), 0);
    let file = folder.path().join("release");
    let exported = fwpkm(&["vectors".as_ref(), "export".as_ref(), file.as_os_str()]);
    assert_eq!(status(&exported), 2);
    assert!(std::fs::read_to_string(file).unwrap().is_empty());
}
