//! `--backend`: what computes.

use fwpkm_gpu::cuda::Cuda;

use crate::backend::{VARIANT, run};
use crate::error::{Error, Result};
use crate::problem::Problem;
use crate::run::Outputs;

/// What computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum BackendName {
    /// The interpreter
    #[default]
    Cpu,
    /// The CUDA implementation, on device 0
    Cuda,
    /// The CUDA implementation, its kernels run on the CPU; in builds with the feature "emulator"
    Emulator,
}

/// Computes the outputs of a case.
pub(super) type Run = Box<dyn Fn(&Problem) -> Result<Option<Outputs>> + Sync>;

impl BackendName {
    /// As an argument.
    pub(super) fn argument(self) -> &'static str {
        match self {
            Self::Cpu => "",
            Self::Cuda => " --backend cuda",
            Self::Emulator => " --backend emulator",
        }
    }

    /// What computes, in words.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cpu => "the interpreter",
            Self::Cuda => "the CUDA implementation on device 0",
            Self::Emulator => "the CUDA implementation on the emulator",
        }
    }

    /// The CUDA implementation; none for the interpreter.
    ///
    /// # Errors   what is missing, and how to get it
    pub(super) fn run(self) -> Result<Option<Run>> {
        match self {
            Self::Cpu => Ok(None),
            Self::Cuda => {
                // The driver keeps its context while somebody has it; made anew for every case, it costs more than the case.
                let context = Cuda::new(0).map_err(missing)?.stream().context().clone();
                Ok(Some(Box::new(move |problem| {
                    let _held = &context;
                    run(Cuda::new(0)?, problem, VARIANT).map(Some)
                })))
            }
            Self::Emulator => emulator().map(Some),
        }
    }
}

/// A device that cannot be used, and where to learn more.
pub(super) fn missing(error: fwpkm_gpu::Error) -> Error {
    Error::Usage { reason: format!("{error}; `fwpkm doctor` says what is missing") }
}

#[cfg(feature = "emulator")]
#[expect(clippy::unnecessary_wraps, reason = "an error without the feature")]
fn emulator() -> Result<Run> {
    Ok(Box::new(|problem| run(fwpkm_gpu::emulator::Emulator::new(1), problem, VARIANT).map(Some)))
}

#[cfg(not(feature = "emulator"))]
fn emulator() -> Result<Run> {
    Err(without_emulator())
}

/// What to do where the emulator is not built in.
#[cfg(not(feature = "emulator"))]
pub(super) fn without_emulator() -> Error {
    let reason = "this program was built without the emulator; `cargo run --release --features emulator -- ...` builds it \
                  with, and needs a C++17 compiler (`apt-get install g++`)";
    Error::Usage { reason: reason.into() }
}
