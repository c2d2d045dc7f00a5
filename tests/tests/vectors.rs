//! The certified vectors: what is checked in, what it covers, and that every choice shows in it.

#[path = "vectors/cases.rs"]
mod cases;
#[path = "vectors/factors.rs"]
mod factors;
#[path = "vectors/files.rs"]
mod files;
#[path = "vectors/settings_show.rs"]
mod settings_show;
