//! What can go wrong, each with what was found, what is needed, and how to get it.

use crate::constants::Tile;

/// An error of the CUDA implementation.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What the interpreter refuses as well: settings, shapes, numbers that are not finite, divergence.
    #[error(transparent)]
    Memory(#[from] fwpkm_reference::Error),
    /// A number from a buffer of the device that is not finite.
    #[error("{tensor} fed from the device for chunk {chunk}, token {token} of it, sequence {sequence}, are not finite")]
    NotFinite {
        /// queries, values or gates.
        tensor: &'static str,
        /// Number of the step that the token would have been part of; tables are as before it.
        chunk: usize,
        /// Token of the queue.
        token: usize,
        /// Sequence.
        sequence: usize,
    },
    /// Within the specification, beyond what the kernels are built for.
    #[error("{what} is {given}; the kernels take at most {most}")]
    Limit {
        /// What is too large.
        what: &'static str,
        /// How large it is.
        given: u128,
        /// The limit.
        most: u128,
    },
    /// A tile that the kernels cannot be cut into.
    #[error("{tile:?}: {needed}; Tile::SMALL, Tile::LARGE and Tile::TENSOR are tiles that can be used")]
    Tile {
        /// The tile.
        tile: Tile,
        /// What does not hold of it.
        needed: &'static str,
    },
    /// No CUDA driver.
    #[error("no CUDA driver found (libcuda); it comes with NVIDIA's display or data centre driver")]
    NoDriver,
    /// A driver, but no such device.
    #[error("the CUDA driver has {found} devices; device {asked} was asked for")]
    NoDevice {
        /// Index asked for.
        asked: usize,
        /// Devices there are.
        found: usize,
    },
    /// A driver older than the compiled code needs.
    #[error("the CUDA driver supports CUDA {found}; {needed} or later is needed: update the driver")]
    DriverTooOld {
        /// Version found, as 12.8.
        found: String,
        /// Oldest that will do.
        needed: String,
    },
    /// No run-time compiler.
    #[error(
        "no NVRTC found (libnvrtc); install it with `pip install {}` and put the folder of its libraries, {}, on LD_LIBRARY_PATH",
        NVRTC_WHEEL.0,
        NVRTC_WHEEL.1
    )]
    NoNvrtc,
    /// A device that is too old for the kernels.
    #[error("{name} has compute capability {found}; the kernels need 8.0 or later")]
    Architecture {
        /// Name of the device.
        name: String,
        /// Its compute capability, as 7.5.
        found: String,
    },
    /// The device's memory does not suffice.
    #[error("no room for {buffer} on the device: {bytes} bytes were asked for{}; {advice}", there_are(*.free))]
    OutOfMemory {
        /// What it was for.
        buffer: &'static str,
        /// Its size.
        bytes: usize,
        /// Bytes that are free, where the device tells.
        free: Option<usize>,
        /// What would need less.
        advice: String,
    },
    /// A kernel that does not compile.
    #[error("the kernels do not compile for {architecture}: {log}")]
    Compile {
        /// Architecture, as sm_90.
        architecture: String,
        /// What the compiler says.
        log: String,
    },
    /// An error of the device interrupted the memory's work earlier.
    #[error("what the memory holds is unknown since {call} failed ({reason}); only reset_tables makes it usable again")]
    Interrupted {
        /// What was tried then.
        call: String,
        /// Why it failed.
        reason: String,
    },
    /// A call that must not be made now, or not with these arguments.
    #[error("{call}: {reason}")]
    Misuse {
        /// What was called.
        call: String,
        /// Why it is refused, and what can be called.
        reason: String,
    },
    /// Something the driver or the emulator refused.
    #[error("{call} failed: {reason}")]
    Device {
        /// What was tried.
        call: String,
        /// Why it failed.
        reason: String,
    },
}

/// The Python package of an NVRTC that the chosen version of CUDA finds, and the folder in it.
pub(crate) const NVRTC_WHEEL: (&str, &str) = if cfg!(any(
    feature = "cuda-11040",
    feature = "cuda-11050",
    feature = "cuda-11060",
    feature = "cuda-11070",
    feature = "cuda-11080"
)) {
    ("nvidia-cuda-nvrtc-cu11", "nvidia/cuda_nvrtc/lib")
} else if cfg!(any(
    feature = "cuda-12000",
    feature = "cuda-12010",
    feature = "cuda-12020",
    feature = "cuda-12030",
    feature = "cuda-12040",
    feature = "cuda-12050",
    feature = "cuda-12060",
    feature = "cuda-12080",
    feature = "cuda-12090"
)) {
    ("nvidia-cuda-nvrtc-cu12", "nvidia/cuda_nvrtc/lib")
} else {
    ("nvidia-cuda-nvrtc", "nvidia/cu13/lib")
};

fn there_are(free: Option<usize>) -> String {
    free.map_or(String::new(), |free| format!(", {free} are free"))
}

impl Error {
    /// A device without room for a buffer that nothing more is known of.
    pub(crate) fn out_of_memory(buffer: &'static str, bytes: usize, free: Option<usize>) -> Self {
        Self::OutOfMemory { buffer, bytes, free, advice: "ask for less, or free other memory of the device".into() }
    }

    /// The same, where it is known what would need less.
    pub(crate) fn advising(self, advice: impl FnOnce() -> String) -> Self {
        match self {
            Self::OutOfMemory { buffer, bytes, free, .. } => {
                Self::OutOfMemory { buffer, bytes, free, advice: advice() }
            }
            other => other,
        }
    }

    pub(crate) fn misuse(call: &str, reason: impl Into<String>) -> Self {
        Self::Misuse { call: call.into(), reason: reason.into() }
    }
}

/// Result of the CUDA implementation.
pub type Result<T> = std::result::Result<T, Error>;
