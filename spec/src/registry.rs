//! The clauses of the specification, read from its text.
//!
//! A group of clauses is a section `## Stage name (GRP)`. In it, a clause is a heading `### GRP-1 Title` with everything
//! up to the next heading of its level or above. Its parts start at the beginning of a line with their name in bold:
//! `**Inputs**`, `**Semantics**`, `**Constraints**`, `**Ruling**`, `**Source**`, `**Example**`; each clause has each part
//! once. The example holds fenced blocks marked `toml`. What stands in a fenced block is never a heading or a part.

mod citations;
mod label;
mod parse;

use std::ops::Range;
use std::sync::OnceLock;

use crate::error::{Error, listed};

pub use citations::{Citation, cited_labels};
pub use label::{Group, Label};

/// The parts of a clause, in the order of the specification.
pub const PARTS: [&str; 6] = ["Inputs", "Semantics", "Constraints", "Ruling", "Source", "Example"];

/// One numbered clause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// Its label, such as MEM-4.
    pub label: Label,
    /// The rest of its heading.
    pub title: String,
    /// The whole text under the heading, markdown.
    pub body: String,
    /// The line of its heading, from 1.
    pub line: usize,
    parts: Vec<(&'static str, Range<usize>)>,
}

impl Clause {
    /// The text of a part, without its bold lead; the name is one of [`PARTS`], in any case.
    pub fn part(&self, name: &str) -> Option<&str> {
        let (_, range) = self.parts.iter().find(|(part, _)| part.eq_ignore_ascii_case(name))?;
        self.body.get(range.clone()).map(str::trim)
    }

    /// The examples: the content of each fenced `toml` block of the part Example.
    pub fn examples(&self) -> impl Iterator<Item = &str> {
        parse::fenced(self.part("Example").unwrap_or_default(), "toml")
    }

    /// The first example.
    pub fn example(&self) -> Option<&str> {
        self.examples().next()
    }
}

/// The section of one group of clauses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The group.
    pub group: Group,
    /// The heading without the group's code.
    pub title: String,
    /// The line of the heading, from 1.
    pub line: usize,
}

/// All sections and clauses of one text, in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registry {
    sections: Vec<Section>,
    clauses: Vec<Clause>,
}

impl Registry {
    /// Reads the clauses of a text.
    ///
    /// # Errors
    /// `BadLabel`, `BadGroup`, `DuplicateLabel`, `MissingPart`, `RepeatedPart`, `MisplacedClause`, `OutOfOrder`: each with
    /// the line.
    pub fn parse(text: &str) -> Result<Self, Error> {
        parse::parse(text)
    }

    /// The sections of groups.
    pub fn groups(&self) -> &[Section] {
        &self.sections
    }

    /// The clauses.
    pub fn clauses(&self) -> &[Clause] {
        &self.clauses
    }

    /// The clause of a label, written in any case.
    ///
    /// # Errors
    /// `UnknownClause`: names the labels of that group, or of the groups whose codes are nearest.
    pub fn clause(&self, label: &str) -> Result<&Clause, Error> {
        let wanted = label.trim().to_ascii_uppercase();
        let found = self.clauses.iter().find(|clause| clause.label.to_string() == wanted);
        found.ok_or_else(|| Error::UnknownClause {
            found: crate::error::shortened(label),
            expected: self.nearest(&wanted),
        })
    }

    /// The labels a wrong label may have meant: those of the groups with the nearest code, else one range per group.
    fn nearest(&self, wanted: &str) -> String {
        let letters: String = wanted.chars().take_while(char::is_ascii_alphabetic).take(8).collect();
        let distance = |group: Group| edit_distance(group.code(), &letters);
        let present = || self.sections.iter().map(|section| section.group);
        let labels =
            |group: Group| self.clauses.iter().map(|clause| clause.label).filter(move |label| label.group() == group);
        let least = present().filter(|&group| labels(group).next().is_some()).map(distance).min();
        if let Some(least) = least.filter(|&least| least <= 1) {
            let near = present().filter(|&group| distance(group) == least).flat_map(labels);
            let near: Vec<String> = near.map(|label| label.to_string()).collect();
            return near.join(", ");
        }
        let ranges: Vec<String> = present()
            .filter_map(|group| Some((labels(group).next()?, labels(group).next_back()?)))
            .map(|(first, last)| if first == last { first.to_string() } else { format!("{first} to {last}") })
            .collect();
        listed(ranges.iter().map(String::as_str))
    }
}

/// How many letters have to be changed, added or taken away to make one word the other (Levenshtein).
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &b) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

/// The registry of this crate's specification, or what is wrong with its text.
///
/// # Errors
/// Those of [`Registry::parse`].
pub fn registry() -> Result<&'static Registry, Error> {
    static REGISTRY: OnceLock<Result<Registry, Error>> = OnceLock::new();
    REGISTRY.get_or_init(|| Registry::parse(crate::TEXT)).as_ref().map_err(Clone::clone)
}

/// All clauses of the specification, in its order.
pub fn clauses() -> &'static [Clause] {
    registry().map_or(&[], Registry::clauses)
}

/// The sections of groups of the specification, in its order.
pub fn groups() -> &'static [Section] {
    registry().map_or(&[], Registry::groups)
}

/// The clause of a label such as `MEM-4` or `mem-4`.
///
/// # Errors
/// `UnknownClause`: names the labels that may have been meant.
pub fn clause(label: &str) -> Result<&'static Clause, Error> {
    registry()?.clause(label)
}

#[cfg(test)]
mod tests;
