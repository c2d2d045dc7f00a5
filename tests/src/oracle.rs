//! Oracles: bytes become an input, the reference computes, and what the clauses say of it is held against it.
//!
//! A fuzz target in `fuzz/` is one call of one of these functions; the tests replay the inputs in `fuzz/regressions` and
//! some more. What does not hold is a panic that names the clause and shows the input.

pub mod bytes;
mod case_files;
mod fields;
mod gradient_updates;
mod interruptions;
mod judge;
#[cfg(feature = "emulator")]
mod kernels;
#[cfg(feature = "emulator")]
mod long_sequence;
mod near_ties;
pub mod objectives;
mod one_chunk;
mod outcome;
mod outer_gradients;
#[cfg(feature = "suite")]
mod recorded_outputs;
mod recorded_run;
mod scene;
mod settings_files;
mod stream_cuts;
mod top_k_retrieval;
mod tracked;

pub use case_files::case_files;
pub use gradient_updates::{gradient_updates, step_holds};
pub use judge::{Judge, Judged};
#[cfg(feature = "emulator")]
pub use long_sequence::long_sequence;
pub use outcome::{Outcome, bits, run, run_with, table_bits};
pub use outer_gradients::{Differentiated, gradients_hold, outer_gradients};
#[cfg(feature = "suite")]
pub use recorded_outputs::recorded_outputs;
pub use scene::{Most, Scene, Text, cast, cast_tables};
pub use settings_files::settings_files;
pub use stream_cuts::stream_cuts;
pub use top_k_retrieval::{brute_force, top_k_retrieval};
pub use tracked::Tracked;

/// An oracle. It panics where the reference does not do what a clause says.
pub type Oracle = fn(&[u8]);

/// The oracle of each fuzz target, by name.
pub const TARGETS: &[(&str, Oracle)] = &[
    ("top_k_retrieval", top_k_retrieval),
    ("gradient_updates", gradient_updates),
    ("stream_cuts", stream_cuts),
    ("outer_gradients", outer_gradients),
    ("case_files", case_files),
    ("settings_files", settings_files),
    #[cfg(feature = "suite")]
    ("recorded_outputs", recorded_outputs),
    #[cfg(feature = "emulator")]
    ("long_sequence", long_sequence),
];
