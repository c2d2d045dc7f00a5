//! What the driver needs of a device: memory and launches. The CUDA device and the emulator both give it.

use crate::constants::Constants;
use crate::error::Result;

/// A number that buffers hold: plain bits, 4 or 8 bytes.
pub trait Number: Copy + Default + private::Sealed + 'static {}

impl Number for f32 {}
impl Number for f64 {}
impl Number for i32 {}

mod private {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
    impl Sealed for i32 {}
}

/// An argument of a kernel.
#[derive(Debug)]
pub enum Argument<'a, Buffer> {
    /// A buffer, from a number of bytes on.
    Buffer(&'a Buffer, usize),
    /// A 32-bit integer.
    Integer(i32),
}

/// How a kernel is launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Blocks.
    pub grid: usize,
    /// Threads of a block.
    pub block: usize,
    /// Bytes of dynamic shared memory.
    pub shared: usize,
    /// Whether all blocks run at once, since they wait for each other; no more than [`Backend::together`] says, and not while work
    /// is recorded.
    pub together: bool,
}

/// Memory and launches, in order, on one stream.
///
/// Offsets and lengths of buffers are in bytes. What does not fit is refused.
///
/// # Safety
///
/// The launches of a [`Memory`](crate::Memory) rely on what an implementation says. [`allocate`](Backend::allocate) gives memory of
/// the length asked for, which is nobody else's until the buffer is dropped; [`bytes`](Backend::bytes),
/// [`address`](Backend::address) and [`owns`](Backend::owns) tell the truth. Work is done in the order of the calls, also what is
/// replayed, and a buffer that is dropped stays until the work given before is done with it. [`record`](Backend::record) records
/// what its closure does and nothing else.
#[expect(unsafe_code, reason = "launches trust what a backend says")]
pub unsafe trait Backend {
    /// Memory of the device; freed when dropped.
    type Buffer: std::fmt::Debug;
    /// Compiled kernels.
    type Module: std::fmt::Debug;
    /// Recorded launches, copies and zeros.
    type Graph: std::fmt::Debug;
    /// A point between launches.
    type Moment: std::fmt::Debug;

    /// Compiles the kernels, or takes them from a cache.
    fn load(&self, constants: &Constants) -> Result<Self::Module>;
    /// Memory that nobody has written yet.
    fn allocate(&self, name: &'static str, bytes: usize) -> Result<Self::Buffer>;
    /// Size of a buffer.
    fn bytes(&self, buffer: &Self::Buffer) -> usize;
    /// Where a buffer begins.
    fn address(&self, buffer: &Self::Buffer) -> u64;
    /// Whether a buffer is of this device, and work on it is in order with this device's.
    fn owns(&self, buffer: &Self::Buffer) -> bool;
    /// Host to device.
    fn write<T: Number>(&self, to: &Self::Buffer, offset: usize, from: &[T]) -> Result<()>;
    /// Device to host; waits for everything before it.
    fn read<T: Number>(&self, from: &Self::Buffer, offset: usize, to: &mut [T]) -> Result<()>;
    /// Within the device; the two must not overlap.
    fn copy(
        &self,
        to: &Self::Buffer,
        to_offset: usize,
        from: &Self::Buffer,
        from_offset: usize,
        bytes: usize,
    ) -> Result<()>;
    /// Sets all bytes to 0.
    fn zero(&self, buffer: &Self::Buffer) -> Result<()>;
    /// The point that the stream's work has come to when everything before it is done.
    fn moment(&self) -> Result<Self::Moment>;
    /// Seconds between two points; waits for them. None where time means nothing.
    fn seconds(&self, from: &Self::Moment, to: &Self::Moment) -> Result<Option<f64>>;
    /// Runs a kernel.
    ///
    /// # Safety
    ///
    /// The arguments are as many as the kernel has parameters, buffers for its pointers and integers for its integers; the buffers
    /// hold from their offsets on what the kernel reads and writes in this shape, and the module was loaded by this backend.
    unsafe fn launch(
        &self,
        module: &Self::Module,
        kernel: &'static str,
        shape: Shape,
        arguments: &[Argument<Self::Buffer>],
    ) -> Result<()>;
    /// Most blocks of a kernel that run at once; 0 where the device cannot do that.
    fn together(&self, module: &Self::Module, kernel: &'static str, block: usize, shared: usize) -> Result<usize>;
    /// Records what `work` launches, copies and sets to 0, and does none of it; `work` may do nothing else.
    fn record(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Self::Graph>;
    /// Does what was recorded.
    ///
    /// # Safety
    ///
    /// This backend recorded the graph, and the buffers and modules that were used then are still there.
    unsafe fn replay(&self, graph: &Self::Graph) -> Result<()>;
}
