//! What the commands that judge have in common.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fwpkm_reference::Rules;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::error::{Error, Result};
use crate::vectors::collection::{FOLDER, Vector, vectors};

/// Rules by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum RulesName {
    Paper,
    Release,
}

impl RulesName {
    fn name(self) -> &'static str {
        match self {
            Self::Paper => "paper",
            Self::Release => "release",
        }
    }

    /// Whether a vector follows them; those that say "both" follow either.
    fn are_those_of(self, vector: &Vector) -> bool {
        let rules = if self == Self::Paper { Rules::paper() } else { Rules::release() };
        vector.name.starts_with("both/") || vector.problem.plan.rules == rules
    }
}

/// The vectors that are to be judged.
pub(super) struct Chosen {
    pub(super) vectors: Vec<Vector>,
}

impl Chosen {
    pub(super) fn new(folder: Option<&Path>, rules: Option<RulesName>, case: Option<&str>) -> Result<Self> {
        let mut chosen = vectors(folder.unwrap_or(Path::new(FOLDER)))?;
        if let Some(case) = case {
            let names: Vec<String> = chosen.iter().map(|vector| vector.name.clone()).collect();
            chosen.retain(|vector| vector.name == case);
            if chosen.is_empty() {
                return Err(no_vector(case, &names));
            }
        }
        if let Some(rules) = rules {
            chosen.retain(|vector| rules.are_those_of(vector));
        }
        if let (Some(rules), true) = (rules, chosen.is_empty()) {
            let which = case.map_or_else(|| "no vector follows".into(), |case| format!("{case} does not follow"));
            let reason = format!("{which} the rules of --rules {}; without --rules all are judged", rules.name());
            return Err(Error::Usage { reason });
        }
        Ok(Self { vectors: chosen })
    }
}

fn no_vector(case: &str, names: &[String]) -> Error {
    let last = case.rsplit('/').next().unwrap_or(case);
    let like: Vec<&str> = names.iter().map(String::as_str).filter(|name| name.contains(last)).take(5).collect();
    let like = if like.is_empty() { names[0].as_str() } else { &like.join(", ") };
    Error::Usage { reason: format!("no vector {case}; a name looks like {like}") }
}

/// Set by the first Ctrl-C; the second ends at once, as does the first where a process cannot have a handler.
pub(super) fn stop_flag() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    let _ = ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    });
    stop
}

/// A bar on the terminal, nothing elsewhere.
pub(super) fn progress(length: usize) -> ProgressBar {
    let bar = ProgressBar::new(length as u64);
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} vectors {elapsed}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
