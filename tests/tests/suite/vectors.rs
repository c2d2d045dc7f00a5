//! The certified vectors: what is checked in, what it covers, and that every choice shows in it.

mod cases;
mod certain;
mod certificates;
mod factors;
mod files;
mod settings_show;
