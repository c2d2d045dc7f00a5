//! The verification suite of FwPKM: case files, runs of the interpreter, comparison, and the command.
pub mod error;
pub mod example;
pub mod inputs;
pub mod run;
pub mod settings_file;
pub mod trace;
pub mod verify;
pub use error::{Error, Result};
