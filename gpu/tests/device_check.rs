//! gpu/device-check.sh with programs that only say what they were asked to do.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The script beside its programs, each a line of shell.
struct Pack {
    folder: tempfile::TempDir,
}

/// What the script said, and its exit status.
struct Said {
    text: String,
    status: Option<i32>,
}

impl Pack {
    fn new() -> Self {
        let pack = Self { folder: tempfile::tempdir().unwrap() };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("device-check.sh");
        fs::copy(script, pack.path("device-check.sh")).unwrap();
        fs::create_dir(pack.path("vectors")).unwrap();
        fs::create_dir(pack.path("bin")).unwrap();
        pack.program("fwpkm", r#"case "$1" in bench) echo "the table" ;; *) echo "$*" ;; esac"#);
        pack.program("device-test", "echo 'test one ... ok'");
        pack.program("bin/compute-sanitizer", "echo \"$*\"");
        pack
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn program(&self, name: &str, line: &str) {
        fs::write(self.path(name), format!("#!/bin/sh\n{line}\n")).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn run(&self, seconds: usize) -> Said {
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("bash");
        command.arg(self.path("device-check.sh")).arg("--quick").env("PATH", path).env_remove("LD_LIBRARY_PATH");
        command.env("OUT", self.path("logs")).env("FWPKM_CHECK_SECONDS", seconds.to_string());
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        Said { text, status: output.status.code() }
    }
}

impl Said {
    /// The lines after the table of times.
    fn ends(&self, status: i32, lines: &[&str]) {
        assert_eq!(self.status, Some(status), "{}", self.text);
        let (_, last) = self.text.rsplit_once("== times\nthe table\n").unwrap_or_else(|| panic!("{}", self.text));
        let found: Vec<&str> = last.trim().lines().skip(1).collect();
        assert_eq!(found, lines, "{}", self.text);
    }
}

#[test]
fn all_steps_pass_and_leave_logs() {
    let pack = Pack::new();
    pack.run(60).ends(0, &["all passed"]);
    let mut logs: Vec<_> = fs::read_dir(pack.path("logs")).unwrap().map(|file| file.unwrap().file_name()).collect();
    logs.sort();
    assert_eq!(logs, ["bench.log", "machine.log", "sanitizers.log", "tests.log", "text.log", "vectors.log"]);
    let sanitizers = fs::read_to_string(pack.path("logs/sanitizers.log")).unwrap();
    for tool in ["memcheck", "racecheck", "initcheck", "synccheck"] {
        assert_eq!(sanitizers.matches(&format!("--tool {tool} ")).count(), 3, "{sanitizers}");
    }
}

#[test]
fn what_fails_keeps_nothing_else_from_running() {
    let pack = Pack::new();
    pack.program("device-test", "exit 101");
    pack.program(
        "fwpkm",
        r#"case "$*" in bench*) echo "the table"; exit 3 ;; *--long*) exit 4 ;; *) echo "$*" ;; esac"#,
    );
    pack.program("bin/compute-sanitizer", r#"case "$*" in *memcheck*whole*) exit 9 ;; esac"#);
    pack.run(60).ends(
        1,
        &[
            "FAILED: the same bits as the emulator: exit status 101",
            "FAILED: times: exit status 3",
            "FAILED: 1024 tokens, as a whole and chunk by chunk: exit status 4",
            "FAILED: memcheck on whole chunks in one launch: exit status 9",
        ],
    );
}

#[test]
fn tests_without_a_device_are_a_failure_also_where_libtest_names_them_first() {
    let pack = Pack::new();
    pack.program("device-test", "echo 'test one ... not run: no NVRTC found'");
    pack.run(60).ends(1, &["FAILED: the same bits as the emulator: tests found no device"]);
}

#[test]
fn a_sanitizer_that_does_not_support_the_device_is_not_run() {
    let pack = Pack::new();
    pack.program("bin/compute-sanitizer", "echo '========= Error: Device not supported'; exit 1");
    let said = pack.run(60);
    assert_eq!(said.status, Some(0), "{}", said.text);
    assert_eq!(said.text.matches("\nnot run: ").count(), 12, "{}", said.text);
}

#[test]
fn a_step_that_does_not_end_is_stopped_and_what_has_no_time_is_named() {
    let pack = Pack::new();
    pack.program("fwpkm", r#"case "$*" in bench*) echo "the table" ;; *--vectors*) sleep 60 ;; esac"#);
    let said = pack.run(7);
    assert_eq!(said.status, Some(1), "{}", said.text);
    assert!(said.text.contains("FAILED: the certified vectors: did not end in"), "{}", said.text);
    assert!(said.text.contains("FAILED: 1024 tokens, as a whole and chunk by chunk: no time left"), "{}", said.text);
    assert!(said.text.contains("== times\nthe table\n"), "{}", said.text);
}

#[test]
fn folders_of_nvrtc_are_found_and_a_machine_without_it_is_refused() {
    let pack = Pack::new();
    pack.program(
        "fwpkm",
        r#"case "$1:$LD_LIBRARY_PATH" in doctor:*/nvidia/cu13/lib*) ;; doctor:*) echo LACKS; exit 1 ;; bench:*) echo "the table" ;; esac"#,
    );
    let refused = pack.run(60);
    assert_eq!(refused.status, Some(2), "{}", refused.text);
    assert!(
        refused.text.contains("LACKS") && refused.text.contains("not ready for --backend cuda"),
        "{}",
        refused.text
    );
    fs::create_dir_all(pack.path("nvidia/cu13/lib")).unwrap();
    pack.program("bin/python3", &format!("echo '{}'", pack.path("nvidia").display()));
    pack.run(60).ends(0, &["all passed"]);
}
