//! The CUDA implementation on the emulator, and the emulator itself.
#![cfg(feature = "emulator")]

pub(crate) mod common;

mod bits;
mod emulator;
mod errors;
mod failures;
mod interrupted;
mod properties;
mod record;
mod refused;
mod release;
mod resident;
mod resident_calls;
mod stages;
mod state;
