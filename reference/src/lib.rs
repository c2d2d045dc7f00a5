//! The executable specification of Fast-weight Product Key Memory (arXiv 2601.00671), one short function per clause.
//!
//! A memory is two tables: sub-keys K `[heads, 2, n, d_k/2]` and slot values V `[n², d_v]`. A query chooses the k best of
//! n² slots by its two halves, reads their weighted sum, and after each chunk of tokens one step of gradient descent moves
//! the values read towards the values that followed, and the sub-keys towards even usage.
//!
//! Read the files in this order; each opens with its equation. `SPEC.md` has the clauses and their reasons.
//!
//! | file | clauses | from | to |
//! |---|---|---|---|
//! | [`projection`] | PRJ-1 … PRJ-6 | hidden states | queries, values, gates |
//! | [`score`] | SCR-1, SCR-2 | queries, sub-keys | half scores |
//! | [`select`] | SEL-1 … SEL-4 | half scores | k slots per head |
//! | [`read`] | RD-1 … RD-3 | pair scores, slots | weights, reads |
//! | [`output`] | OUT-1 … OUT-3 | reads, values, gates | the layer's output |
//! | [`memorize`] | MEM-1 … MEM-6 | reads, targets | value step |
//! | [`address`] | ADR-1 … ADR-6 | half scores | sub-key step |
//! | [`chunk`] | CHK-1 … CHK-3 | tables, chunk | a reading, a step |
//! | [`stream`] | STR-1 … STR-6 | calls of any length | readings and steps in order |
//! | [`batch`] | BAT-1 … BAT-5 | | the memory and its state |
//! | [`train`] | GRD-1 … GRD-7 | an outer gradient of reads and tables | gradients of queries, values, gates, tables |
//! | [`stats`] | STA-1 … STA-3 | slots read | collision, coverage, divergence |
//! | [`numerics`] | NUM-2 … NUM-7, NUM-10 | | error bounds, margins, finiteness |
//!
//! Beside them stand [`settings`] (what a run chooses), [`rules`] (how the text is read, where paper and release differ),
//! [`tables`] (MEM-5 and ADR-6's descent, BAT-3), [`scalar`] (NUM-1, NUM-8), [`layer`] (the whole layer) and [`error`].
//!
//! In the documentation of a function, the label in brackets names the clause that it is.

pub mod address;
pub mod batch;
pub mod chunk;
pub mod error;
pub mod layer;
pub mod memorize;
pub mod numerics;
pub mod output;
pub mod projection;
pub mod read;
pub mod rules;
pub mod scalar;
pub mod score;
pub mod select;
pub mod settings;
pub mod stats;
pub mod stream;
pub mod tables;
pub mod train;

pub use batch::{Fed, Memory, State, StepReport, Tokens, Trace, TracedStep};
pub use chunk::Stages;
pub use error::{Error, Result};
pub use layer::{Layer, LayerFed};
pub use rules::Rules;
pub use scalar::Scalar;
pub use settings::Settings;
pub use tables::Tables;
pub use train::{Cotangents, Gradients, Tape};
