//! Fast-weight Product Key Memory in CUDA, for inference, and an emulator that runs its kernels on the CPU.
//!
//! The kernels stand in `kernels/`, one file per stage of the layer, each with the clauses it implements and its departures
//! from the interpreter. [`Memory`] has the interpreter's calls. Results are within the error bounds of SPEC.md (NUM) of the
//! interpreter's, and bit for bit the same for any cut of a text, tile, schedule and run.
//!
//! `examples/feed_resident.rs` feeds from buffers of the device. What every call gives after a failure stands in
//! `docs/src/gpu.md`.
//!
//! # Version of CUDA
//!
//! The features `cuda-11040` to `cuda-13040`, and `cuda-version-from-build-system`, are those of
//! [cudarc](https://docs.rs/cudarc), which calls the driver; the default is `cuda-13000`. All crates of a build share one cudarc, so
//! all of them together choose exactly one. Where another crate chooses another, take this one without default features:
//!
//! ```toml
//! fwpkm-gpu = { version = "0.1", default-features = false, features = ["cuda-12080"] }
//! ```
//!
//! Without any feature the other crate's choice holds. With two, the build ends with an error.

mod backend;
mod buffers;
mod constants;
pub mod cuda;
mod driver;
#[cfg(feature = "emulator")]
pub mod emulator;
mod error;
mod failures;
mod feed;
mod given;
mod graphs;
mod memory;
mod resident;
mod source;
mod timing;
mod tokens;
mod trace;
mod transfer;

pub use backend::{Argument, Backend, Number, Shape};
pub use constants::{Constants, MOST_HALF_DIM, MOST_HEADS, MOST_SUB_KEYS, MOST_TOP_K, MOST_VALUE_DIM, Tile};
pub use driver::Variant;
pub use error::{Error, Result};
pub use graphs::Launching;
pub use memory::Memory;
pub use resident::Resident;
pub use timing::{ChunkInput, Timings};
pub use trace::{Reading, Trace};
