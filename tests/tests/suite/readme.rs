//! README.md against what it shows.

use std::path::Path;
use std::process::Command;

fn text(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

/// The fenced blocks of a language, in order
fn blocks(text: &str, language: &str) -> Vec<String> {
    let start = format!("```{language}\n");
    text.split(&start).skip(1).map(|rest| rest.split("```").next().unwrap().to_string()).collect()
}

#[test]
fn the_ten_lines_are_those_of_the_example() {
    let lines = &blocks(&text("README.md"), "rust")[0];
    let example = text("tests/examples/read_twice.rs");
    let unindented: String = example
        .lines()
        .map(|line| line.strip_prefix("    ").unwrap_or(line))
        .fold(String::new(), |all, line| all + line + "\n");
    assert!(unindented.contains(lines.as_str()), "README.md shows other lines than tests/examples/read_twice.rs");
}

/// Cargo builds examples beside tests, unless a single test is asked for with --test.
#[test]
fn the_output_shown_is_what_the_example_prints() {
    let example = Path::new(env!("CARGO_BIN_EXE_fwpkm")).with_file_name("examples").join("read_twice");
    let output = Command::new(&example).output().unwrap_or_else(|e| panic!("{}: {e}", example.display()));
    assert!(output.status.success());
    assert!(blocks(&text("README.md"), "text").contains(&String::from_utf8(output.stdout).unwrap()));
}

#[test]
fn the_jobs_shown_are_those_of_the_command() {
    let help = Command::new(env!("CARGO_BIN_EXE_fwpkm")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let shown = blocks(&text("README.md"), "text").into_iter().find(|block| block.contains("fwpkm verify")).unwrap();
    let jobs = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    for job in jobs.map(|line| line.split_whitespace().next().unwrap()).filter(|job| *job != "help") {
        assert!(shown.contains(&format!("fwpkm {job}")), "README.md does not show fwpkm {job}");
    }
}

#[test]
fn the_counts_shown_are_those_of_the_suite() {
    let vectors = fwpkm::vectors::collection::vectors(Path::new(fwpkm::vectors::collection::FOLDER)).unwrap().len();
    let deviations = fwpkm::deviation::all().len();
    let (readme, guide) = (text("README.md"), text("docs/src/porting.md"));
    assert!(readme.contains(&format!("\nall {vectors} vectors conform in 5 kinds of numbers\n")), "{vectors}");
    assert!(readme.contains(&format!("**{deviations} wrong implementations, all caught.**")), "{deviations}");
    assert!(guide.contains(&format!("EXPORTED        {vectors} small cases")), "{vectors}");
}
