//! What can be wrong with a specification text, a case or a file: where, what was expected, what was found.

use std::path::PathBuf;

use crate::registry::Label;

/// Everything that can be refused, with the place, what is allowed there and what stood there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A label that no clause has.
    #[error("no clause {found}; expected {expected}")]
    UnknownClause {
        /// The label asked for.
        found: String,
        /// The labels nearest to it.
        expected: String,
    },
    /// A heading or a name that should be a label and is not.
    #[error("specification, line {line}: expected {expected}, found {found}")]
    BadLabel {
        /// Line of the text, from 1; 0 for a label given by a caller.
        line: usize,
        /// What a label is.
        expected: String,
        /// What was given.
        found: String,
    },
    /// A group's section that the specification does not have, or has already.
    #[error("specification, line {line}: expected {expected}, found {found}")]
    BadGroup {
        /// Line of the heading, from 1.
        line: usize,
        /// The groups that may stand there.
        expected: String,
        /// The heading.
        found: String,
    },
    /// Two clauses with one label.
    #[error("specification, line {line}: expected a new label, found {label} again (first at line {first_line})")]
    DuplicateLabel {
        /// The label both carry.
        label: Label,
        /// Line of the second clause.
        line: usize,
        /// Line of the first clause.
        first_line: usize,
    },
    /// A clause lacks one of its parts, or the part is empty.
    #[error("specification, line {line}: expected {label} to have a part **{expected}**, found {found}")]
    MissingPart {
        /// The clause.
        label: Label,
        /// Line of its heading.
        line: usize,
        /// The part it lacks.
        expected: &'static str,
        /// The parts it has.
        found: String,
    },
    /// A part stands twice in one clause.
    #[error("specification, line {line}: expected one part **{part}** in {label}, found a second")]
    RepeatedPart {
        /// The clause.
        label: Label,
        /// Line of the second lead.
        line: usize,
        /// The part.
        part: &'static str,
    },
    /// A clause stands outside the section of its group.
    #[error("specification, line {line}: expected {label} in the section of {}, found it in {found}", label.group())]
    MisplacedClause {
        /// The clause.
        label: Label,
        /// Line of its heading.
        line: usize,
        /// The section it stands in.
        found: String,
    },
    /// The numbers of a group's clauses do not ascend.
    #[error("specification, line {line}: expected a number above {previous}, found {label}")]
    OutOfOrder {
        /// The clause.
        label: Label,
        /// Line of its heading.
        line: usize,
        /// The clause before it.
        previous: Label,
    },
    /// The operating system refused.
    #[error("{}: cannot {action}: {found}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The system's reason.
        found: String,
    },
    /// The path is not what it should be: a folder instead of a file, an empty folder.
    #[error("{}: expected {expected}, found {found}", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// The bytes of a file, or tensors to be written to one, are not a safetensors file.
    #[error("{}: {place}: expected {expected}, found {found}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The place in it: the header, a tensor.
        place: String,
        /// What is allowed there.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// The file has no tensor of that name.
    #[error("{}: expected a tensor {name}, found {found}", path.display())]
    NoTensor {
        /// The file.
        path: PathBuf,
        /// The tensor asked for.
        name: String,
        /// The tensors the file has.
        found: String,
    },
    /// The tensor is of an element type that is not read here.
    #[error("{}: tensor {name}: expected element type {expected}, found {found}", path.display())]
    ElementType {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The element types that are read.
        expected: &'static str,
        /// The element type it has.
        found: String,
    },
    /// A tensor whose shape and number of elements do not agree.
    #[error("tensor of shape {shape:?}: expected {expected}, found {found} elements")]
    Shape {
        /// The shape.
        shape: Vec<usize>,
        /// The number of elements the shape has, or what is wrong with the shape.
        expected: String,
        /// The number of elements given.
        found: usize,
    },
    /// A key of a case is missing or has a value it may not have.
    #[error("case key `{key}`: expected {expected}, found {found}")]
    Key {
        /// The key.
        key: String,
        /// The values it may have.
        expected: String,
        /// The value it has.
        found: String,
    },
    /// A case is not a JSON object.
    #[error("case: expected {expected}, found {found}")]
    Json {
        /// What is allowed.
        expected: &'static str,
        /// What was wrong, and where.
        found: String,
    },
    /// A certificate that is none.
    #[error("certificate: expected {expected}, found {found}")]
    Certificate {
        /// What is allowed.
        expected: &'static str,
        /// What was wrong.
        found: String,
    },
    /// A tensor that is to come from a closed form and cannot.
    #[error("closed form of {name}: expected {expected}, found {found}")]
    ClosedForm {
        /// The tensor.
        name: String,
        /// What is allowed.
        expected: String,
        /// What was wrong.
        found: String,
    },
    /// Something is wrong with what a file holds.
    #[error("{}: {reason}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: Box<Error>,
    },
}

impl Error {
    /// An error of the operating system, with the path and what was tried.
    pub(crate) fn io(path: &std::path::Path, action: &'static str, reason: &std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), action, found: reason.to_string() }
    }
}

/// Foreign text for a message: shortened, in quotes, what does not print escaped.
pub(crate) fn quoted(text: &str) -> String {
    format!("{:?}", cut(text))
}

/// Foreign text for a message: shortened, control characters escaped.
pub fn shortened(text: &str) -> String {
    printable(&cut(text))
}

/// Foreign text for a message: control characters escaped.
pub fn printable(text: &str) -> String {
    let mut printable = String::new();
    for letter in text.chars() {
        if letter.is_control() {
            printable.extend(letter.escape_default());
        } else {
            printable.push(letter);
        }
    }
    printable
}

/// Text cut to a length a message can hold.
fn cut(text: &str) -> String {
    const LONGEST: usize = 120;
    match text.char_indices().nth(LONGEST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}

/// Names for a message: as many as a reader can use, then how many more there are.
pub fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const MOST: usize = 20;
    let names: Vec<String> = names.into_iter().map(shortened).collect();
    match names.len() {
        0 => "none".to_owned(),
        count if count <= MOST => names.join(", "),
        count => format!("{} and {} more", names[..MOST].join(", "), count - MOST),
    }
}

/// A count and what is counted, for a message: "1 vector", "2 vectors".
pub fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// The verb of "3 of 5 differ", "1 of 5 differs", "0 of 1 differs".
pub fn verb(count: usize, total: usize, verb: &str) -> String {
    format!("{verb}{}", if count == 1 || total == 1 { "s" } else { "" })
}
