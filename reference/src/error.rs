//! What can go wrong, each with what was given, what is allowed, and where.

/// An error of the interpreter.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting outside its range.
    #[error("setting {name} is {given}; allowed: {allowed}")]
    Setting {
        /// Field of `Settings` or `Rules`.
        name: &'static str,
        /// What was given.
        given: String,
        /// What is allowed.
        allowed: String,
    },
    /// A tensor of another shape than the settings ask for.
    #[error("{tensor} has shape {found:?}; expected {expected}")]
    Shape {
        /// Name of the tensor.
        tensor: &'static str,
        /// Shape asked for, with the names of its dimensions.
        expected: String,
        /// Shape given.
        found: Vec<usize>,
    },
    /// A number of the input that is infinite or NaN.
    #[error("{tensor}{at:?} is {value}, which is not finite")]
    NotFinite {
        /// Name of the tensor.
        tensor: &'static str,
        /// Index of the first such number.
        at: Vec<usize>,
        /// The number.
        value: f64,
    },
    /// Gates or a mask given with some calls of a text and not with others.
    #[error("{tensor} is {}, but the {queued} queued tokens came {}; a text has it for every token or for none",
            if *given { "given" } else { "absent" }, if *given { "without" } else { "with it" })]
    Presence {
        /// `gates` or `mask`.
        tensor: &'static str,
        /// Whether this call has it.
        given: bool,
        /// Tokens waiting in the queue.
        queued: usize,
    },
    /// Another number of sequences while tokens are queued.
    #[error("{given} sequences given while tokens of {queued} are queued; flush or reset the queue first")]
    Batch {
        /// Sequences of this call.
        given: usize,
        /// Sequences of the queue.
        queued: usize,
    },
    /// A slot index beyond the table.
    #[error("row {token}, head {head} reads slot {slot}; the table has {slots} slots")]
    SlotOutOfRange {
        /// Row of the reading.
        token: usize,
        /// Head.
        head: usize,
        /// Slot asked for.
        slot: usize,
        /// Slots of the table.
        slots: usize,
    },
    /// Finite input overflowed on the way; tables are as before the step.
    #[error(
        "{tensor} overflowed in stage {stage} at chunk {chunk}; the tables are as before its step, and the memory \
         takes no more tokens until reset_queue or reset_tables"
    )]
    Diverged {
        /// Steps taken before the failing one.
        chunk: usize,
        /// Stage.
        stage: &'static str,
        /// Tensor that is not finite.
        tensor: &'static str,
    },
    /// Finite cotangents overflowed on the way back through a text.
    #[error("the gradient of {tensor} overflowed on the way back through the text; smaller cotangents may do")]
    GradientOverflow {
        /// Input whose gradient is not finite.
        tensor: &'static str,
    },
    /// A chunk whose half scores alone would not fit.
    #[error("{what} would take {bytes} bytes; at most {limit} are allowed: use a smaller chunk")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        bytes: u128,
        /// The limit.
        limit: u128,
    },
}

/// Result of the interpreter.
pub type Result<T> = std::result::Result<T, Error>;
