//! The verification suite of Fast-weight Product Key Memory: runs of the interpreter on case files, recorded outputs held
//! against it, the worked examples of the specification, and the command over all of these.

pub mod bench;
pub mod command;
pub mod element;
pub mod error;
pub mod example;
pub mod inputs;
pub mod oracle;
pub mod page;
pub mod run;
pub mod settings_file;
pub mod state_file;
pub mod store;
pub mod trace;
pub mod verify;

pub use error::{Error, Result};
