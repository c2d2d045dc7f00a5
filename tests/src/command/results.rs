//! The files that a job is asked to write, looked at before any work.

use std::path::{Path, PathBuf};

use fwpkm_spec::Replacement;

use crate::error::{Error, Result};

/// Refuses results that could not be written, and those that would take the place of another one or of an input.
///
/// A result is the option that asks for it and its path. Inputs that are not there are for others to miss.
///
/// # Errors   a place that cannot be written; a device, a pipe or a folder; one place asked for twice; an input
pub(super) fn writable(results: &[(&str, &Path)], inputs: &[&Path]) -> Result<()> {
    let mut taken: Vec<(&str, PathBuf)> = Vec::new();
    for &(option, path) in results {
        let place =
            Replacement::create(path).map_err(|error| refused(format!("{option}: {error}")))?.place().to_owned();
        if inputs.iter().any(|input| input.canonicalize().is_ok_and(|input| input == place)) {
            return Err(refused(format!("{option}: {} is the input; the result needs another file", path.display())));
        }
        if let Some((other, _)) = taken.iter().find(|(_, taken)| *taken == place) {
            let reason = format!("{option}: {} is also that of {other}; each needs a file of its own", path.display());
            return Err(refused(reason));
        }
        taken.push((option, place));
    }
    Ok(())
}

fn refused(reason: String) -> Error {
    Error::Usage { reason }
}

/// The file of rules that an argument names; none for rules by name.
pub(super) fn rules_file(rules: Option<&str>) -> Option<&Path> {
    rules.filter(|rules| !["paper", "release"].contains(rules)).map(Path::new)
}
