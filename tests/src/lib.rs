//! The verification suite of Fast-weight Product Key Memory: runs of the interpreter on case files, recorded outputs held
//! against it, the worked examples of the specification, and the command over all of these.

pub mod backend;
pub mod bench;
pub mod bench_device;
pub mod command;
pub mod deviation;
pub mod element;
pub mod error;
pub mod example;
pub mod identify;
pub mod implementation;
pub mod inputs;
pub mod judge;
pub mod judging;
pub mod lockstep;
pub mod numbers;
pub mod outputs;
pub mod page;
pub mod problem;
pub mod recording;
pub mod report;
pub mod run;
pub mod selection;
pub mod settings_file;
pub mod state_file;
pub mod store;
pub mod survey;
pub mod trace;
pub mod vectors;
pub mod verify;
pub mod walk;

pub use error::{Error, Result};
