//! The book in `docs` against the command, the files and the headings it names.
//!
//! `BLESS=1 cargo test -p fwpkm --test suite book` rewrites what is stale. `docs/build` builds the book itself.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

const REGENERATE: &str = "BLESS=1 cargo test -p fwpkm --test suite book";
const SHOWN_COMMAND: &str = "cargo run --release --";
const REFERENCE_STARTS: &str = "<!-- Generated from --help";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn source() -> PathBuf {
    root().join("docs/src")
}

/// The chapters by file name, includes not yet expanded
fn chapters() -> Vec<(String, String)> {
    let mut chapters = Vec::new();
    for entry in std::fs::read_dir(source()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "md") {
            let name = path.file_name().unwrap().to_str().unwrap().to_string();
            chapters.push((name, std::fs::read_to_string(&path).unwrap()));
        }
    }
    chapters.sort();
    chapters
}

/// Keeps a chapter as it should be: rewrites it under BLESS=1, fails where it differs otherwise
fn keep(name: &str, is: &str, should_be: &str, why: &str) {
    if is == should_be {
        return;
    }
    assert!(std::env::var_os("BLESS").is_some(), "docs/src/{name} is stale: {why}\n{REGENERATE}");
    std::fs::write(source().join(name), should_be).unwrap();
}

/// What a command line of the book prints, run by a shell in the root of the repository
fn printed(line: &str) -> String {
    let arguments = line.strip_prefix(SHOWN_COMMAND).unwrap_or_else(|| panic!("not {SHOWN_COMMAND}: {line}"));
    // Arguments as `cargo run` passes them on; globs and pipes are the shell's. Results are shown written to `target`.
    std::fs::create_dir_all(root().join("target")).unwrap();
    let script = format!("\"$FWPKM\"{arguments}");
    let shell = Command::new("sh")
        .args(["-c", &script])
        .current_dir(root())
        .env("FWPKM", env!("CARGO_BIN_EXE_fwpkm"))
        .env("LC_ALL", "C")
        .env_remove("COLUMNS")
        .output()
        .unwrap();
    let text = String::from_utf8(shell.stdout).unwrap();
    assert!(!text.is_empty(), "{line}\nprints nothing; {}", String::from_utf8_lossy(&shell.stderr));
    text
}

/// Whether two outputs say the same: timings aside, numbers to 1e-6 of their size, all below verify's bound alike.
fn agree(shown: &str, printed: &str) -> bool {
    let untimed = |line: &str| match line.rfind(" (") {
        Some(from) if line.ends_with(" s)") => line[..from].to_string(),
        _ => line.to_string(),
    };
    let words = |text: &str| -> Vec<String> {
        let lines: Vec<String> = text.lines().map(untimed).collect();
        lines.join("\n↵ ").split_whitespace().map(str::to_string).collect()
    };
    let number = |word: &str| match word {
        "same" => Some(0.0),
        word => word.trim_matches(['[', ']', ',', ';']).parse::<f64>().ok(),
    };
    let alike = |(shown, printed): (&String, &String)| match (number(shown), number(printed)) {
        _ if shown == printed => true,
        (Some(a), Some(b)) => {
            (a - b).abs() <= 1e-6 * a.abs().max(b.abs()) || a.abs().max(b.abs()) <= fwpkm::verify::RELATIVE_BOUND
        }
        _ => false,
    };
    let (shown, printed) = (words(shown), words(printed));
    shown.len() == printed.len() && shown.iter().zip(&printed).all(alike)
}

#[test]
fn outputs_agree_up_to_timings_and_rounding_only() {
    assert!(agree("base  same  4e-16\nall conform (0.06 s)", "base 3e-15 same\nall conform (1.25 s)"));
    assert!(agree("[1, 0.5000001]", "[1, 0.5]"));
    for (shown, printed) in [("7e-1", "6e-1"), ("same", "2e-10"), ("a b", "a"), ("a\nb", "a b"), ("1 (2 s)", "2 (2 s)")]
    {
        assert!(!agree(shown, printed), "{shown:?} {printed:?}");
    }
}

/// A block of the language console: commands after `$ `, continued after `\`, each followed by what it prints.
fn rerun(block: &str) -> String {
    let mut lines = block.lines().peekable();
    let mut out = String::new();
    while let Some(first) = lines.next() {
        let mut command = first.strip_prefix("$ ").unwrap_or_else(|| panic!("expected a command: {first}")).to_string();
        writeln!(out, "{first}").unwrap();
        while command.ends_with('\\') {
            let more = lines.next().unwrap();
            writeln!(out, "{more}").unwrap();
            command = format!("{} {}", command.trim_end_matches('\\').trim_end(), more.trim_start());
        }
        let mut shown = String::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with("$ ")) {
            writeln!(shown, "{line}").unwrap();
        }
        let printed = printed(&command);
        out += if agree(&shown, &printed) { &shown } else { &printed };
    }
    out
}

#[test]
fn every_command_shown_prints_what_is_shown() {
    let mut commands = 0;
    for (name, text) in chapters() {
        let mut parts = text.split("```console\n");
        let mut rewritten = parts.next().unwrap().to_string();
        for part in parts {
            let (block, rest) = part.split_once("```").unwrap();
            commands += block.lines().filter(|line| line.starts_with("$ ")).count();
            write!(rewritten, "```console\n{}```{rest}", rerun(block)).unwrap();
        }
        let changed = rewritten.lines().zip(text.lines()).find(|(printed, shown)| printed != shown);
        let (printed, shown) = changed.unwrap_or_default();
        keep(
            &name,
            &text,
            &rewritten,
            &format!("a command no longer prints what is shown\n  {shown}\nbut\n  {printed}"),
        );
    }
    assert!(commands > 0, "no commands found");
}

/// Help of a job and of the jobs below it
fn help(job: &[&str], out: &mut String) {
    let output = Command::new(env!("CARGO_BIN_EXE_fwpkm")).args(job).arg("--help").env_remove("COLUMNS").output();
    let help = String::from_utf8(output.unwrap().stdout).unwrap();
    let trimmed = help.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    let title = if job.is_empty() { "In short".to_string() } else { format!("fwpkm {}", job.join(" ")) };
    write!(out, "\n{} {title}\n\n```text\n{trimmed}\n```\n", "#".repeat(job.len().max(1) + 1)).unwrap();
    let jobs = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    for below in jobs.filter_map(|line| line.strip_prefix("  ")?.split(' ').next()) {
        if !below.is_empty() && below != "help" {
            self::help(&[job, &[below]].concat(), out);
        }
    }
}

#[test]
fn the_command_reference_is_what_help_says() {
    let text = std::fs::read_to_string(source().join("command.md")).unwrap();
    let (by_hand, _) = text.split_once(REFERENCE_STARTS).expect("command.md has no generated part");
    let mut rewritten = format!("{by_hand}{REFERENCE_STARTS} by {REGENERATE}. -->\n");
    help(&[], &mut rewritten);
    keep("command.md", &text, &rewritten, "--help says something else");
}

/// The text without fenced blocks and code, includes expanded
fn prose(text: &str) -> String {
    let mut prose = String::new();
    let mut fenced = false;
    for line in text.lines() {
        fenced ^= line.starts_with("```");
        if let Some(path) = line.strip_prefix("{{#include ").and_then(|rest| rest.strip_suffix("}}")) {
            let path = source().join(path);
            let included = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            prose += &self::prose(&included);
        } else if !fenced && !line.starts_with("```") {
            prose += &line.split('`').step_by(2).collect::<Vec<_>>().join("`");
            prose.push('\n');
        }
    }
    prose
}

/// The anchors of the headings, as mdBook makes them
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#') && line.contains("# "));
    let anchor = |heading: &str| -> String {
        let kept = |letter: char| match letter {
            letter if letter.is_whitespace() => Some('-'),
            letter => (letter.is_alphanumeric() || letter == '-' || letter == '_').then_some(letter),
        };
        heading.trim_start_matches('#').trim().to_lowercase().chars().filter_map(kept).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_and_image_leads_somewhere() {
    let mut wrong = Vec::new();
    let mut links = 0;
    for (name, text) in chapters() {
        let text = prose(&text);
        let markdown = text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
        let html = [" src=\"", " href=\""].into_iter().flat_map(|start| text.split(start).skip(1));
        for link in markdown.chain(html.map(|rest| rest.split('"').next().unwrap())) {
            links += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = source().join(if file.is_empty() { &name } else { file });
            let found = match std::fs::read_to_string(&target) {
                _ if link.starts_with("https://") => true,
                Ok(text) if target.extension().is_some_and(|ending| ending == "md") => {
                    anchor.is_empty() || anchors(&prose(&text)).contains(anchor)
                }
                _ => anchor.is_empty() && target.is_file() && target.starts_with(source()) && !link.contains(".."),
            };
            if !found {
                wrong.push(format!("docs/src/{name}: {link}"));
            }
        }
    }
    assert!(links > 0 && wrong.is_empty(), "links that lead nowhere:\n{}", wrong.join("\n"));
}

#[test]
fn every_label_the_book_cites_exists() {
    for (name, text) in chapters() {
        for citation in fwpkm_spec::registry::cited_labels(&text) {
            let known = fwpkm_spec::clause(&citation.label).is_ok();
            assert!(known, "docs/src/{name}:{}: there is no {}", citation.line, citation.label);
        }
    }
}

#[test]
fn every_chapter_is_in_the_summary() {
    let summary = std::fs::read_to_string(source().join("SUMMARY.md")).unwrap();
    for (name, _) in chapters().iter().filter(|(name, _)| name != "SUMMARY.md") {
        assert!(summary.contains(&format!("({name})")), "SUMMARY.md does not list {name}");
    }
}

#[test]
fn every_rules_file_and_settings_file_is_used() {
    let book: String = chapters().into_iter().map(|(_, text)| text).collect();
    for folder in ["rules", "settings"] {
        for entry in std::fs::read_dir(root().join("docs").join(folder)).unwrap() {
            let path = format!("docs/{folder}/{}", entry.unwrap().file_name().into_string().unwrap());
            assert!(book.contains(&path), "{path} is in no command of the book");
        }
    }
}
