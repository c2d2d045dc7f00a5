//! A CUDA device: memory, launches, and kernels compiled at run time.

mod cache;
mod compile;
mod record;
mod survey;

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::{c_int, c_uint, c_void};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use cudarc::driver::{CudaFunction, CudaModule, DriverError, result, sys};
use cudarc::nvrtc::Ptx;

use crate::backend::{Argument, Backend, Number, Shape};
use crate::constants::Constants;
use crate::error::{Error, Result};

pub use compile::nvrtc_version;
pub use cudarc::driver::sys::CUdeviceptr;
pub use cudarc::driver::{CudaContext, CudaEvent, CudaStream};
pub use record::Graph;
use record::Recorder;
pub use survey::{Device, Driver, Nvrtc, Survey};

/// The Python package of the NVRTC that is looked for, and the folder of its libraries in site-packages.
pub const NVRTC_WHEEL: (&str, &str) = crate::error::NVRTC_WHEEL;

/// Major number of the compute capability that the kernels need.
const NEEDED_CAPABILITY: i32 = 8;
/// The oldest driver with all calls that are made, as the version of CUDA it supports: those of 13.0 and later are in 12.8 already.
const NEEDED_DRIVER: (i32, i32) = {
    const VERSIONS: [(bool, (i32, i32)); 12] = [
        (cfg!(feature = "cuda-11040"), (11, 4)),
        (cfg!(feature = "cuda-11050"), (11, 5)),
        (cfg!(feature = "cuda-11060"), (11, 6)),
        (cfg!(feature = "cuda-11070"), (11, 7)),
        (cfg!(feature = "cuda-11080"), (11, 8)),
        (cfg!(feature = "cuda-12000"), (12, 0)),
        (cfg!(feature = "cuda-12010"), (12, 1)),
        (cfg!(feature = "cuda-12020"), (12, 2)),
        (cfg!(feature = "cuda-12030"), (12, 3)),
        (cfg!(feature = "cuda-12040"), (12, 4)),
        (cfg!(feature = "cuda-12050"), (12, 5)),
        (cfg!(feature = "cuda-12060"), (12, 6)),
    ];
    let mut at = 0;
    while at < VERSIONS.len() && !VERSIONS[at].0 {
        at += 1;
    }
    if at < VERSIONS.len() { VERSIONS[at].1 } else { (12, 8) }
};

/// A CUDA device with one stream.
#[derive(Debug)]
pub struct Cuda {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    recorder: Recorder,
    /// Whether work goes to the recorder. A cell: no other thread can come in between.
    recording: Cell<bool>,
    architecture: String,
    cache: Option<PathBuf>,
}

/// Memory of a device.
#[derive(Debug)]
pub struct Buffer {
    pointer: sys::CUdeviceptr,
    bytes: usize,
    stream: Arc<CudaStream>,
    borrowed: bool,
}

/// Loaded kernels.
#[derive(Debug)]
pub struct Module {
    module: Arc<CudaModule>,
    functions: Mutex<HashMap<&'static str, CudaFunction>>,
}

impl Cuda {
    /// The device of this number, usually 0. Compiled kernels are kept in the folder `FWPKM_CACHE`, else in `fwpkm` under
    /// `XDG_CACHE_HOME` or `~/.cache`.
    ///
    /// # Errors   `Error::NoDriver`, `NoNvrtc`, `NoDevice`, `DriverTooOld`, `Architecture`: what is missing, and how to get it
    #[expect(unsafe_code, reason = "queries of the driver")]
    pub fn new(device: usize) -> Result<Self> {
        // SAFETY: only looks for the library. CudaContext::new panics without it.
        if !unsafe { sys::is_culib_present() } {
            return Err(Error::NoDriver);
        }
        check_driver()?;
        // The driver cannot say more than that it has no device; cudarc would index beyond them.
        let found = match result::init() {
            Err(DriverError(sys::CUresult::CUDA_ERROR_NO_DEVICE)) => 0,
            Err(error) => return Err(driver("cuInit", error)),
            Ok(()) => {
                let count = result::device::get_count().map_err(|error| driver("cuDeviceGetCount", error))?;
                usize::try_from(count).unwrap_or(0)
            }
        };
        if device >= found {
            return Err(Error::NoDevice { asked: device, found });
        }
        let context = CudaContext::new(device).map_err(|error| driver("cuDevicePrimaryCtxRetain", error))?;
        // Else making the first stream waits for the whole device, which fails while another thread records.
        // SAFETY: it is about memory that cudarc allocates; until it is on again there is none.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().map_err(|error| driver("cuStreamCreate", error));
        // For whoever allocates by the context of `stream`.
        // SAFETY: no memory was allocated meanwhile.
        unsafe { context.enable_event_tracking() };
        Self::with_stream(stream?)
    }

    /// The device of a stream, which all work goes to: what is put into it before a call is done before, what is put into it after
    /// is done after. It must not be recorded by others meanwhile, nor be a default stream: of those every thread may mean another.
    ///
    /// # Errors   `Error::NoNvrtc`, `DriverTooOld`, `Architecture`; `Misuse` for a default stream
    pub fn with_stream(stream: Arc<CudaStream>) -> Result<Self> {
        check_driver()?;
        // The default stream, CU_STREAM_LEGACY, CU_STREAM_PER_THREAD.
        if stream.cu_stream() as usize <= 2 {
            let reason = "a default stream cannot be used; make one with CudaContext::new_stream";
            return Err(Error::misuse("Cuda::with_stream", reason));
        }
        let context = stream.context().clone();
        let (major, minor) = context.compute_capability().map_err(|error| driver("cuDeviceGetAttribute", error))?;
        if major < NEEDED_CAPABILITY {
            let name = context.name().map_err(|error| driver("cuDeviceGetName", error))?;
            return Err(Error::Architecture { name, found: format!("{major}.{minor}") });
        }
        let recorder = Recorder::new(&context)?;
        let (recording, architecture) = (Cell::new(false), format!("sm_{major}{minor}"));
        Ok(Self { context, stream, recorder, recording, architecture, cache: cache::folder() })
    }

    /// The stream that all work goes to.
    pub fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// Memory of the device that somebody else allocated, and frees.
    ///
    /// # Safety
    ///
    /// The address is one of this device's, with so many bytes of memory behind it, until the buffer is dropped and the stream's
    /// work before that is done; what else uses it is ordered with the stream.
    #[expect(unsafe_code, reason = "an address is taken on trust")]
    pub unsafe fn buffer_from_raw(&self, address: CUdeviceptr, bytes: usize) -> Buffer {
        Buffer { pointer: address, bytes, stream: self.stream.clone(), borrowed: true }
    }

    fn bind(&self) -> Result<()> {
        self.context.bind_to_thread().map_err(|error| driver("cuCtxSetCurrent", error))
    }

    /// Where launches, copies and zeros go.
    fn target(&self) -> sys::CUstream {
        if self.recording.get() { self.recorder.stream() } else { self.stream.cu_stream() }
    }

    /// What cannot be recorded.
    fn not_recording(&self, call: &str) -> Result<()> {
        let reason = "not allowed while work is recorded";
        if self.recording.get() { Err(Error::misuse(call, reason)) } else { Ok(()) }
    }

    /// Address of a byte, if the buffer is of this device and `bytes` fit behind it
    fn at(&self, buffer: &Buffer, offset: usize, bytes: usize) -> Result<CUdeviceptr> {
        if !self.owns(buffer) {
            let (theirs, ours) = (buffer.stream.context().ordinal(), self.context.ordinal());
            let reason = if theirs == ours {
                format!("a buffer of another stream of device {ours}; Cuda::with_stream shares one")
            } else {
                format!("a buffer of device {theirs} cannot be used on device {ours}")
            };
            return Err(Error::misuse("buffer", reason));
        }
        if offset <= buffer.bytes && bytes <= buffer.bytes - offset {
            return Ok(buffer.pointer + offset as u64);
        }
        let reason = format!("{bytes} bytes at {offset} are beyond a buffer of {}", buffer.bytes);
        Err(Error::misuse("buffer", reason))
    }
}

/// Whether the driver has all calls that are made, and runs what NVRTC compiles
#[expect(unsafe_code, reason = "a query of the driver")]
fn check_driver() -> Result<()> {
    let nvrtc = nvrtc_version()?;
    let mut version: c_int = 0;
    // SAFETY: writes one integer.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }
        .result()
        .map_err(|error| driver("cuDriverGetVersion", error))?;
    let (found, needed) = ((version / 1000, version % 1000 / 10), needed_driver(nvrtc));
    if found >= needed {
        return Ok(());
    }
    let text = |(major, minor)| format!("{major}.{minor}");
    Err(Error::DriverTooOld { found: text(found), needed: text(needed) })
}

/// The oldest driver that will do with this NVRTC
fn needed_driver(nvrtc: (i32, i32)) -> (i32, i32) {
    NEEDED_DRIVER.max((nvrtc.0, 0))
}

/// Bytes of memory that nobody has, on the device of this thread's context; none where the driver does not say.
#[expect(unsafe_code, reason = "a query of the driver")]
fn free() -> Option<usize> {
    // cudarc panics at a call that a driver lacks, as the one whose device is the emulator does.
    // SAFETY: the library was found before; the call is only looked for.
    let is_there = unsafe { sys::culib().get::<unsafe extern "C" fn()>(b"cuMemGetInfo_v2") }.is_ok();
    is_there.then(|| result::mem_get_info().ok()).flatten().map(|(free, _)| free)
}

fn driver(call: &str, error: DriverError) -> Error {
    Error::Device { call: call.into(), reason: error.to_string() }
}

impl Module {
    fn function(&self, kernel: &'static str) -> Result<CudaFunction> {
        let mut functions = self.functions.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(function) = functions.get(kernel) {
            return Ok(function.clone());
        }
        let function = self.module.load_function(kernel).map_err(|error| driver(kernel, error))?;
        functions.insert(kernel, function.clone());
        Ok(function)
    }
}

impl Buffer {
    /// Where it is on the device.
    pub fn address(&self) -> CUdeviceptr {
        self.pointer
    }
}

impl Drop for Buffer {
    #[expect(unsafe_code, reason = "frees what was allocated")]
    fn drop(&mut self) {
        // An error cannot be reported here; the context frees the memory at the latest.
        if !self.borrowed && self.stream.context().bind_to_thread().is_ok() {
            // SAFETY: the pointer came from malloc_sync and nobody else frees it; cuMemFree waits for work that uses it.
            let _ = unsafe { result::free_sync(self.pointer) };
        }
    }
}

// SAFETY: memory comes from cuMemAlloc, in the length asked for, and is freed after the work that uses it, since cuMemFree waits;
// memory of others is answered for by whoever gave its address. All work goes to one stream, or while it is recorded to one that
// nobody else has.
#[expect(unsafe_code, reason = "calls of the driver")]
unsafe impl Backend for Cuda {
    type Buffer = Buffer;
    type Module = Module;
    type Graph = Graph;
    type Moment = CudaEvent;

    fn load(&self, constants: &Constants) -> Result<Module> {
        self.bind()?;
        let cubin = compile::cubin(constants, &self.architecture, self.cache.as_deref())?;
        let module =
            self.context.load_module(Ptx::from_binary(cubin)).map_err(|error| driver("cuModuleLoadData", error))?;
        Ok(Module { module, functions: Mutex::new(HashMap::new()) })
    }

    fn allocate(&self, name: &'static str, bytes: usize) -> Result<Buffer> {
        self.bind()?;
        // SAFETY: the memory is written before it is read: the emulator checks that of every kernel.
        match unsafe { result::malloc_sync(bytes) } {
            Ok(pointer) => Ok(Buffer { pointer, bytes, stream: self.stream.clone(), borrowed: false }),
            Err(DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => Err(Error::out_of_memory(name, bytes, free())),
            Err(error) => Err(driver("cuMemAlloc", error)),
        }
    }

    fn bytes(&self, buffer: &Buffer) -> usize {
        buffer.bytes
    }

    fn address(&self, buffer: &Buffer) -> u64 {
        buffer.pointer
    }

    fn owns(&self, buffer: &Buffer) -> bool {
        // Work on another stream has no order with ours.
        *buffer.stream.context() == self.context && buffer.stream.cu_stream() == self.stream.cu_stream()
    }

    fn write<T: Number>(&self, to: &Buffer, offset: usize, from: &[T]) -> Result<()> {
        self.not_recording("write")?;
        self.bind()?;
        let pointer = self.at(to, offset, size_of_val(from))?;
        // SAFETY: the range is inside the buffer, and the stream is waited for: whether the call returns before it has read `from`
        // is not said of all memory.
        let copied = unsafe { result::memcpy_htod_async(pointer, from, self.stream.cu_stream()) };
        let waited = self.stream.synchronize();
        copied.map_err(|error| driver("cuMemcpyHtoDAsync", error))?;
        waited.map_err(|error| driver("cuStreamSynchronize", error))
    }

    fn read<T: Number>(&self, from: &Buffer, offset: usize, to: &mut [T]) -> Result<()> {
        self.not_recording("read")?;
        self.bind()?;
        let pointer = self.at(from, offset, size_of_val(to))?;
        // SAFETY: the range is inside the buffer, any bits are a number, and the stream is waited for.
        unsafe { result::memcpy_dtoh_async(to, pointer, self.stream.cu_stream()) }
            .map_err(|error| driver("cuMemcpyDtoHAsync", error))?;
        self.stream.synchronize().map_err(|error| driver("cuStreamSynchronize", error))
    }

    fn copy(&self, to: &Buffer, to_offset: usize, from: &Buffer, from_offset: usize, bytes: usize) -> Result<()> {
        self.bind()?;
        let (to, from) = (self.at(to, to_offset, bytes)?, self.at(from, from_offset, bytes)?);
        // SAFETY: both ranges are inside their buffers, which are alive.
        unsafe { result::memcpy_dtod_async(to, from, bytes, self.target()) }
            .map_err(|error| driver("cuMemcpyDtoDAsync", error))
    }

    fn zero(&self, buffer: &Buffer) -> Result<()> {
        self.bind()?;
        let pointer = self.at(buffer, 0, buffer.bytes)?;
        // SAFETY: the range is the buffer.
        unsafe { result::memset_d8_async(pointer, 0, buffer.bytes, self.target()) }
            .map_err(|error| driver("cuMemsetD8Async", error))
    }

    fn moment(&self) -> Result<CudaEvent> {
        self.not_recording("moment")?;
        let flags = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
        self.stream.record_event(flags).map_err(|error| driver("cuEventRecord", error))
    }

    fn seconds(&self, from: &CudaEvent, to: &CudaEvent) -> Result<Option<f64>> {
        let milliseconds = from.elapsed_ms(to).map_err(|error| driver("cuEventElapsedTime", error))?;
        Ok(Some(f64::from(milliseconds) * 1e-3))
    }

    unsafe fn launch(
        &self,
        module: &Module,
        kernel: &'static str,
        shape: Shape,
        arguments: &[Argument<Buffer>],
    ) -> Result<()> {
        self.bind()?;
        let function = module.function(kernel)?;
        let mut words: Vec<u64> = arguments
            .iter()
            .map(|argument| match argument {
                Argument::Buffer(buffer, offset) => self.at(buffer, *offset, 0),
                Argument::Integer(value) => Ok(u64::from(value.cast_unsigned())),
            })
            .collect::<Result<_>>()?;
        let mut pointers: Vec<*mut c_void> = words.iter_mut().map(|word| std::ptr::from_mut(word).cast()).collect();
        let (Ok(grid), Ok(block), Ok(shared)) =
            (c_uint::try_from(shape.grid), c_uint::try_from(shape.block), c_uint::try_from(shape.shared))
        else {
            return Err(Error::misuse(kernel, format!("{shape:?} is too large")));
        };
        if shape.together {
            self.not_recording("a launch of blocks that wait for each other")?;
        }
        // SAFETY: each pointer is to 8 bytes, enough for a pointer or (little-endian) a 32-bit integer, and the driver copies
        // them. That they are the kernel's arguments, and buffers large enough, the caller answers for. Buffers are freed only
        // after the work that uses them.
        unsafe {
            let call = if shape.together { result::launch_cooperative_kernel } else { result::launch_kernel };
            call(function.cu_function(), (grid, 1, 1), (block, 1, 1), shared, self.target(), &mut pointers)
        }
        .map_err(|error| driver(kernel, error))
    }

    fn together(&self, module: &Module, kernel: &'static str, block: usize, shared: usize) -> Result<usize> {
        use sys::CUdevice_attribute::{
            CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH as COOPERATIVE, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT as COUNT,
        };
        self.bind()?;
        let attribute = |which| {
            let found = self.context.attribute(which).map_err(|error| driver("cuDeviceGetAttribute", error))?;
            Ok::<_, Error>(usize::try_from(found).unwrap_or(0))
        };
        let each = module
            .function(kernel)?
            .occupancy_max_active_blocks_per_multiprocessor(u32::try_from(block).unwrap_or(u32::MAX), shared, None)
            .map_err(|error| driver("cuOccupancyMaxActiveBlocksPerMultiprocessor", error))?;
        Ok(attribute(COOPERATIVE)? * attribute(COUNT)? * usize::try_from(each).unwrap_or(0))
    }

    fn record(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Graph> {
        self.not_recording("record")?;
        self.bind()?;
        self.recorder.record(&self.recording, work)
    }

    unsafe fn replay(&self, graph: &Graph) -> Result<()> {
        self.not_recording("replay")?;
        self.bind()?;
        // SAFETY: graph and stream are alive; for what was recorded the caller answers.
        unsafe { result::graph::launch(graph.executable(), self.stream.cu_stream()) }
            .map_err(|error| driver("cuGraphLaunch", error))
    }
}

/// A memory can be moved to another thread.
const _: () = {
    const fn can_be_sent<T: Send>() {}
    can_be_sent::<crate::Memory<Cuda>>();
};
