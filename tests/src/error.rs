//! What can go wrong around the interpreter.

/// An error of the suite or the command; each says what was given, what is allowed, and where.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// From the interpreter.
    #[error(transparent)]
    Reference(#[from] fwpkm_reference::Error),
    /// Arguments that do not go together.
    #[error("{reason}")]
    Usage {
        /// What does not go together, and what is needed.
        reason: String,
    },
    /// From case files or the specification's text.
    #[error(transparent)]
    Spec(#[from] fwpkm_spec::Error),
    /// Rules that are neither a name nor a readable file.
    #[error("rules {given}: {reason}; allowed: paper, release, or a TOML file of rules")]
    Rules {
        /// What was given.
        given: String,
        /// Why it is not rules.
        reason: String,
    },
    /// TOML that does not parse or has unknown names.
    #[error("{origin}: {reason}")]
    Toml {
        /// Path or place.
        origin: String,
        /// Line, column, and what is allowed there.
        reason: String,
    },
    /// A tensor that is not there.
    #[error("no tensor {tensor}; there are: {found}")]
    Missing {
        /// Name.
        tensor: String,
        /// Names there are.
        found: String,
    },
    /// Outputs of which nothing can be judged.
    #[error("none of the results that the case asks for is there: expected {expected}; found {found}")]
    NoResult {
        /// Names of the results.
        expected: String,
        /// Names there are.
        found: String,
    },
    /// An optional tensor that is there against the case's word, or the other way round.
    #[error("the case says that {tensor} is {}, and it is {}", there(*.stated), there(*.found))]
    Stated {
        /// Name.
        tensor: &'static str,
        /// Whether the case has it.
        stated: bool,
        /// Whether the file has it.
        found: bool,
    },
    /// Tokens that could not be read.
    #[error("the input ends or fails after token {reached}: {reason}")]
    Tokens {
        /// Tokens read before.
        reached: usize,
        /// Why.
        reason: Box<Error>,
    },
    /// A state file that cannot be gone on from.
    #[error("{path}: {reason}")]
    State {
        /// Path.
        path: String,
        /// What it is, and what it would have to be.
        reason: String,
    },
    /// A tensor whose shape contradicts the case.
    #[error("{tensor} has shape {found:?}; {expected}")]
    Shape {
        /// Name.
        tensor: String,
        /// What the case asks for.
        expected: String,
        /// What it is.
        found: Vec<usize>,
    },
    /// A tensor of a type that cannot be used there.
    #[error("{tensor} has element type {found}; expected {expected}")]
    ElementType {
        /// Name.
        tensor: String,
        /// What is allowed.
        expected: String,
        /// What it is.
        found: String,
    },
    /// Tensors of one run that do not fit together.
    #[error("tensors of the run do not fit together: {0}")]
    Layout(#[from] ndarray::ShapeError),
    /// A mask that holds something else than 0 and 1.
    #[error("in.mask{at:?} is {value}; a mask holds only 0 and 1")]
    Mask {
        /// Index.
        at: Vec<usize>,
        /// The number.
        value: f64,
    },
    /// A file or folder that cannot be read or written.
    #[error("{path}: {reason}")]
    File {
        /// Path.
        path: String,
        /// Why.
        reason: String,
    },
    /// From the CUDA implementation.
    #[cfg(feature = "suite")]
    #[error(transparent)]
    Device(fwpkm_gpu::Error),
    /// A case that an implementation does not cover, by its own word.
    #[error("not applicable: {reason}")]
    NotApplicable {
        /// What it does not do.
        reason: String,
    },
    /// A certified vector that cannot be made.
    #[error("vector {name}: {reason}")]
    Vector {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
    /// An example of the specification that is not as SPEC.md, "Reading an example", says.
    #[error("example of {label}: {reason}")]
    Example {
        /// Clause.
        label: String,
        /// What is wrong.
        reason: String,
    },
}

/// Result of the suite.
pub type Result<T> = std::result::Result<T, Error>;

fn there(is: bool) -> &'static str {
    if is { "there" } else { "absent" }
}
