//! `--backend` and `fwpkm doctor`, with whatever the machine has.

use std::process::Command;

use serde_json::Value;

use super::{fwpkm, release, status, stderr, stdout};

/// With the emulator it conforms; without it the error says how to build it.
#[test]
fn check_and_verify_on_the_emulator() {
    let case = release().join("base.safetensors").display().to_string();
    for arguments in [
        ["check", "--case", "paper/str_1_carry_cut"],
        ["check", "--case", "release/mem_4_heads_and_sequences"],
        ["verify", "--rules=release", &case],
    ] {
        let output = fwpkm(&[&arguments[..], &["--backend", "emulator"]].concat());
        if cfg!(feature = "emulator") {
            assert_eq!(status(&output), 0, "{}{}", stdout(&output), stderr(&output));
            let last = stdout(&output).lines().last().unwrap_or_default().to_string();
            assert!(last.starts_with("1 vector conforms"), "{last}");
        } else {
            assert_eq!(status(&output), 2);
            assert!(stderr(&output).contains("cargo run --release --features emulator"), "{}", stderr(&output));
        }
    }
}

/// 600 tokens: the whole, a chunk of 512 and one of 88.
#[test]
fn check_a_long_text() {
    let sound = fwpkm(&["check", "--long", "600"]);
    assert_eq!(status(&sound), 0, "{}{}", stdout(&sound), stderr(&sound));
    assert!(stdout(&sound).contains("a random text of 600 tokens and its 2 chunks"), "{}", stdout(&sound));
    assert!(stdout(&sound).contains("all 3 vectors conform in 5 kinds of numbers"), "{}", stdout(&sound));
    let wrong = fwpkm(&["check", "--long", "600", "--deviation", "mem-4-sum-instead-of-division"]);
    assert_eq!(status(&wrong), 1, "{}{}", stdout(&wrong), stderr(&wrong));
    assert!(
        stdout(&wrong).contains("fwpkm check --deviation mem-4-sum-instead-of-division --long 600"),
        "{}",
        stdout(&wrong)
    );
    assert!(stdout(&wrong).contains("is not looked for on a long text"), "{}", stdout(&wrong));
    for (tokens, expected) in [("0", "1 to 1048576"), ("2000000", "1 to 1048576")] {
        let refused = fwpkm(&["check", "--long", tokens]);
        assert_eq!(status(&refused), 2);
        assert!(stderr(&refused).contains(expected), "{}", stderr(&refused));
    }
    if cfg!(feature = "emulator") {
        let emulated = fwpkm(&["check", "--long", "600", "--backend", "emulator"]);
        assert_eq!(status(&emulated), 0, "{}{}", stdout(&emulated), stderr(&emulated));
    }
}

#[test]
fn a_deviation_is_of_the_interpreter_only() {
    let output = fwpkm(&["check", "--backend", "emulator", "--deviation", "list"]);
    assert_eq!(status(&output), 2, "{}", stdout(&output));
}

#[test]
fn doctor_says_what_is_missing_and_how_to_get_it() {
    let json = fwpkm(&["doctor", "--json"]);
    let document: Value = serde_json::from_str(&stdout(&json)).unwrap();
    assert_eq!(status(&json), i32::from(document["cuda_ready"] != true), "{document}");
    assert_eq!(document["emulator_ready"], cfg!(feature = "emulator"));
    let text = stdout(&fwpkm(&["doctor"]));
    for finding in document["findings"].as_array().unwrap() {
        assert!(text.contains(finding["what"].as_str().unwrap()), "{text}");
        // A device cannot be had without a driver.
        let follows = finding["found"] == "unknown without a driver";
        assert!(finding["good"] != false || finding["mend"].is_string() || follows, "{finding}");
    }
    let ready = if document["cuda_ready"] == true { "ready" } else { "not ready" };
    assert!(text.contains(&format!("--backend cuda: {ready}")), "{text}");
    if document["cuda_ready"] != true {
        let output = fwpkm(&["check", "--backend", "cuda"]);
        assert_eq!(status(&output), 2);
        assert!(stderr(&output).contains("`fwpkm doctor` says what is missing"), "{}", stderr(&output));
    }
}

#[test]
fn doctor_names_a_compiler_that_does_not_run() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fwpkm"));
    let output = command.arg("doctor").env("CXX", "/no/such/compiler").output().unwrap();
    assert!(stdout(&output).contains("CXX=/no/such/compiler does not run"), "{}", stdout(&output));
}

/// The emulator verifies and runs every launch, and gives no time.
#[test]
fn bench_on_the_emulator_gives_no_time() {
    let file = std::env::temp_dir().join(format!("fwpkm-bench-{}.json", std::process::id()));
    let output = fwpkm(&["bench", "--backend", "emulator", "--json", "--out", &file.display().to_string()]);
    if !cfg!(feature = "emulator") {
        assert_eq!(status(&output), 2, "{}", stdout(&output));
        return;
    }
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    let document: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let written: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(written, document);
    let _ = std::fs::remove_file(file);
    assert_eq!(document["timed"], false);
    assert!(document["measured"]["copy_rate"].is_null() && document["measured"]["multiply_add_rate"].is_null());
    for chunk in document["measured"]["chunks"].as_array().unwrap() {
        assert!(chunk["ratio"].as_f64().unwrap() <= 1.0 && chunk["launches"].as_u64().unwrap() > 5, "{chunk}");
        for line in chunk["lines"].as_array().unwrap() {
            assert!(line["seconds"].is_null() && line["floor"].is_null(), "{line}");
            assert!(line["bytes"].as_f64().unwrap() > 0.0, "{line}");
        }
    }
}
