//! The verification suite of Fast-weight Product Key Memory: runs of the interpreter on case files, recorded outputs held
//! against it, the worked examples of the specification, and the command over all of these.
//!
//! Without the feature `suite` only what the clause tests need is built: runs, case files, oracles.

pub mod element;
pub mod error;
pub mod example;
pub mod inputs;
pub mod oracle;
pub mod run;
pub mod settings_file;
pub mod state_file;
pub mod store;
pub mod trace;
pub mod train;
pub mod verify;

#[cfg(feature = "suite")]
pub mod backend;
#[cfg(feature = "suite")]
pub mod bench;
#[cfg(feature = "suite")]
pub mod bench_device;
#[cfg(feature = "suite")]
pub mod command;
#[cfg(feature = "suite")]
pub mod deviation;
#[cfg(feature = "suite")]
pub mod gradients;
#[cfg(feature = "suite")]
pub mod identify;
#[cfg(feature = "suite")]
pub mod implementation;
#[cfg(feature = "suite")]
pub mod judge;
#[cfg(feature = "suite")]
pub mod judging;
#[cfg(feature = "suite")]
pub mod lockstep;
#[cfg(feature = "suite")]
pub mod long;
#[cfg(feature = "suite")]
pub mod numbers;
#[cfg(feature = "suite")]
pub mod outputs;
#[cfg(feature = "suite")]
pub mod page;
#[cfg(feature = "suite")]
pub mod problem;
#[cfg(feature = "suite")]
pub mod recording;
#[cfg(feature = "suite")]
pub mod report;
#[cfg(feature = "suite")]
pub mod reverse;
#[cfg(feature = "suite")]
pub mod selection;
#[cfg(feature = "suite")]
pub mod survey;
#[cfg(feature = "suite")]
pub mod vectors;
#[cfg(feature = "suite")]
pub mod walk;

pub use error::{Error, Result};
