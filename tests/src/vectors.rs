//! The certified vectors: cases of the specification itself, made from a catalogue.
//!
//! | file | what it holds |
//! |---|---|
//! | [`catalogue`] | the entries: purpose, clauses, settings, and how inputs are drawn; split by topic |
//! | [`entry`] | what an entry is |
//! | [`draw`] | the generator |
//! | `tables`, `course`, [`compose`] | the inputs: tokens drawn until every selection has its margin |
//! | [`margin`] | selection margins |
//! | [`vector`] | an entry as files: case, certificate, inputs, outputs |
//! | [`certify`], `agreement` | bounds of the outputs, and margins of deviations; how far machines may differ in them |
//! | [`regenerate`], [`export`] | the files of a folder against the catalogue; inputs for a port |

mod agreement;
pub mod catalogue;
pub mod certify;
pub mod collection;
pub mod compose;
mod course;
pub mod draw;
pub mod entry;
pub mod export;
pub mod margin;
pub mod regenerate;
mod tables;
pub mod vector;
