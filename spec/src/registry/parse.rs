//! From markdown to sections and clauses.

use std::ops::Range;

use super::{Clause, Group, Label, PARTS, Registry, Section};
use crate::error::{Error, listed, quoted};

/// A line of a text, with its line end: its number, its place, and where it stands to fenced blocks.
struct Line<'a> {
    number: usize,
    start: usize,
    text: &'a str,
    kind: Kind<'a>,
}

/// Where a line stands to fenced blocks; an opening line carries the block's language.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind<'a> {
    Prose,
    Opens(&'a str),
    Fenced,
    Closes,
}

/// A clause whose end has not been seen yet.
struct OpenClause {
    label: Label,
    title: String,
    line: usize,
    body_start: usize,
    leads: Vec<(&'static str, Range<usize>)>,
}

/// Reads the sections and clauses of a text.
pub(super) fn parse(text: &str) -> Result<Registry, Error> {
    let mut registry = Registry::default();
    let mut section = "no section of clauses".to_owned();
    let mut group = None;
    let mut open: Option<OpenClause> = None;
    for line in lines(text) {
        let heading = heading(&line);
        if heading.is_some()
            && let Some(clause) = open.take()
        {
            registry.clauses.push(close(clause, text, line.start)?);
        }
        match heading {
            Some((3, title)) => {
                if let Some((label, title)) = label_heading(title, line.number)? {
                    check_place(&registry, label, line.number, group, &section)?;
                    let body_start = line.start + line.text.len();
                    open = Some(OpenClause { label, title, line: line.number, body_start, leads: Vec::new() });
                }
            }
            Some((_, title)) => {
                section = quoted(title);
                group = section_heading(title, line.number, &registry)?.map(|section| {
                    let group = section.group;
                    registry.sections.push(section);
                    group
                });
            }
            None => {
                if let Some(clause) = open.as_mut() {
                    lead(clause, &line)?;
                }
            }
        }
    }
    if let Some(clause) = open {
        registry.clauses.push(close(clause, text, text.len())?);
    }
    Ok(registry)
}

/// The lines of a text. A block closes at a line of nothing but its own mark, at least as long as the opening one.
fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    let mut start = 0;
    let mut open: Option<&str> = None;
    text.split_inclusive('\n').enumerate().map(move |(index, text)| {
        let mark = fence_mark(text);
        let kind = match (open, mark) {
            (None, None) => Kind::Prose,
            (None, Some(mark)) => Kind::Opens(text.trim().trim_start_matches(mark)),
            (Some(open), Some(mark)) if mark.starts_with(open) && text.trim() == mark => Kind::Closes,
            (Some(_), _) => Kind::Fenced,
        };
        open = match kind {
            Kind::Opens(_) => mark,
            Kind::Closes => None,
            Kind::Prose | Kind::Fenced => open,
        };
        let line = Line { number: index + 1, start, text, kind };
        start += text.len();
        line
    })
}

/// The three or more backticks or tildes a line starts with.
fn fence_mark(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let mark = line.chars().next().filter(|mark| matches!(mark, '`' | '~'))?;
    let length = line.len() - line.trim_start_matches(mark).len();
    line.get(..length).filter(|_| length >= 3)
}

/// The level (1 to 3) and the text of a heading.
fn heading<'a>(line: &Line<'a>) -> Option<(usize, &'a str)> {
    let rest = line.text.trim_start_matches('#');
    let level = line.text.len() - rest.len();
    (line.kind == Kind::Prose && (1..=3).contains(&level) && rest.starts_with(' ')).then(|| (level, rest.trim()))
}

/// The label and title of a clause's heading; none for a heading that starts with no label.
fn label_heading(heading: &str, line: usize) -> Result<Option<(Label, String)>, Error> {
    let (word, title) = heading.split_once(' ').unwrap_or((heading, ""));
    let (letters, rest) = word.split_at(word.len() - word.trim_start_matches(|c: char| c.is_ascii_uppercase()).len());
    if !(2..=3).contains(&letters.len()) || !rest.starts_with('-') {
        return Ok(None);
    }
    let bad = |expected: String| Error::BadLabel { line, expected, found: quoted(heading) };
    let label = word.parse().map_err(|error| match error {
        Error::BadLabel { expected, .. } => bad(expected),
        other => other,
    })?;
    match title.trim() {
        "" => Err(bad(format!("a title after {word}"))),
        title => Ok(Some((label, title.to_owned()))),
    }
}

/// The section a heading such as `## Memorizing (MEM)` opens; none for one without a code.
fn section_heading(heading: &str, line: usize, registry: &Registry) -> Result<Option<Section>, Error> {
    let Some((title, code)) = heading.strip_suffix(')').and_then(|heading| heading.rsplit_once('(')) else {
        return Ok(None);
    };
    if !(2..=3).contains(&code.len()) || !code.bytes().all(|letter| letter.is_ascii_uppercase()) {
        return Ok(None);
    }
    let seen = |group: Group| registry.sections.iter().any(|section| section.group == group);
    let group = Group::of_code(code).filter(|&group| !seen(group)).ok_or_else(|| {
        let free: Vec<&str> = Group::ALL.into_iter().filter(|&group| !seen(group)).map(Group::code).collect();
        Error::BadGroup { line, expected: format!("one of the groups {}", free.join(" ")), found: quoted(heading) }
    })?;
    Ok(Some(Section { group, title: title.trim().to_owned(), line }))
}

/// A clause stands in its group's section, once, after the lower numbers of its group.
fn check_place(
    registry: &Registry,
    label: Label,
    line: usize,
    group: Option<Group>,
    section: &str,
) -> Result<(), Error> {
    if let Some(first) = registry.clauses.iter().find(|clause| clause.label == label) {
        return Err(Error::DuplicateLabel { label, line, first_line: first.line });
    }
    if group != Some(label.group()) {
        return Err(Error::MisplacedClause { label, line, found: section.to_owned() });
    }
    match registry.clauses.last().map(|clause| clause.label) {
        Some(previous) if previous.group() == label.group() && previous > label => {
            Err(Error::OutOfOrder { label, line, previous })
        }
        _ => Ok(()),
    }
}

/// Notes the part that a line opens, if it opens one; the part reaches to the next lead or the end of the clause.
fn lead(clause: &mut OpenClause, line: &Line<'_>) -> Result<(), Error> {
    let name = line.text.strip_prefix("**").and_then(|rest| rest.split_once("**")).map(|(name, _)| name);
    let Some(part) = PARTS.into_iter().find(|&part| line.kind == Kind::Prose && name == Some(part)) else {
        return Ok(());
    };
    if clause.leads.iter().any(|(seen, _)| *seen == part) {
        return Err(Error::RepeatedPart { label: clause.label, line: line.number, part });
    }
    let mark = line.start..line.start + "****".len() + part.len();
    clause.leads.push((part, mark));
    Ok(())
}

/// The finished clause: its body, and each part's range within it.
fn close(clause: OpenClause, text: &str, end: usize) -> Result<Clause, Error> {
    let OpenClause { label, title, line, body_start, leads } = clause;
    let whole = text.get(body_start..end).unwrap_or_default();
    let body_start = body_start + whole.len() - whole.trim_start().len();
    let body = whole.trim();
    let ends = leads.iter().skip(1).map(|(_, mark)| mark.start).chain([body_start + body.len()]);
    let parts: Vec<_> =
        leads.iter().zip(ends).map(|((part, mark), end)| (*part, mark.end - body_start..end - body_start)).collect();
    let is_filled = |range: &Range<usize>| body.get(range.clone()).is_some_and(|part| !part.trim().is_empty());
    let has = |name: &str| parts.iter().any(|(part, range)| *part == name && is_filled(range));
    if let Some(expected) = PARTS.into_iter().find(|part| !has(part)) {
        let found = listed(PARTS.into_iter().filter(|part| has(part)));
        return Err(Error::MissingPart { label, line, expected, found });
    }
    Ok(Clause { label, title, body: body.to_owned(), line, parts })
}

/// The content of each fenced block of a language.
pub(super) fn fenced<'a>(text: &'a str, language: &'static str) -> impl Iterator<Item = &'a str> {
    let mut lines = lines(text);
    std::iter::from_fn(move || {
        let opening = lines.find(|line| line.kind == Kind::Opens(language))?;
        let closing = lines.find(|line| line.kind == Kind::Closes)?;
        text.get(opening.start + opening.text.len()..closing.start)
    })
}
