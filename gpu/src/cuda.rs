//! A CUDA device: memory, launches, and kernels compiled at run time.

mod cache;
mod compile;
mod survey;

use std::collections::HashMap;
use std::ffi::{c_int, c_uint, c_void};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use cudarc::driver::{
    CudaContext, CudaEvent, CudaFunction, CudaGraph, CudaModule, CudaStream, DriverError, result, sys,
};
use cudarc::nvrtc::Ptx;

use crate::backend::{Argument, Backend, Number, Shape};
use crate::constants::Constants;
use crate::error::{Error, Result};

pub use compile::nvrtc_version;
pub use survey::{Device, Driver, Nvrtc, Survey};

/// Major number of the compute capability that the kernels need.
const NEEDED_CAPABILITY: i32 = 8;

/// A CUDA device with one stream.
#[derive(Debug)]
pub struct Cuda {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
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

/// Recorded work of the device's stream.
pub struct Graph(CudaGraph);

impl std::fmt::Debug for Graph {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("Graph")
    }
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
        let nvrtc = nvrtc_version()?;
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
        let mut version: c_int = 0;
        // SAFETY: writes one integer.
        unsafe { sys::cuDriverGetVersion(&raw mut version) }
            .result()
            .map_err(|error| driver("cuDriverGetVersion", error))?;
        if version / 1000 < nvrtc.0 {
            let found = format!("{}.{}", version / 1000, version % 1000 / 10);
            return Err(Error::DriverTooOld { found, needed: format!("{}.0", nvrtc.0) });
        }
        let context = CudaContext::new(device).map_err(|error| driver("cuDevicePrimaryCtxRetain", error))?;
        // Else making a stream waits for the whole device, which fails while another thread records.
        // SAFETY: it is about memory that cudarc allocates; here there is none.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().map_err(|error| driver("cuStreamCreate", error))?;
        Self::on(stream)
    }

    /// The device of a stream, which all work goes to: what is put into it before a call is done before, what is put into it after
    /// is done after. It must not be recorded by others meanwhile, nor be the default stream, which cannot be recorded.
    ///
    /// # Errors   `Error::NoNvrtc`, `Architecture`; `Device` for the default stream
    pub fn on(stream: Arc<CudaStream>) -> Result<Self> {
        nvrtc_version()?;
        if stream.cu_stream().is_null() {
            let reason = "the default stream cannot be recorded; make one of its own".into();
            return Err(Error::Device { call: "Cuda::on".into(), reason });
        }
        let context = stream.context().clone();
        let (major, minor) = context.compute_capability().map_err(|error| driver("cuDeviceGetAttribute", error))?;
        if major < NEEDED_CAPABILITY {
            let name = context.name().map_err(|error| driver("cuDeviceGetName", error))?;
            return Err(Error::Architecture { name, found: format!("{major}.{minor}") });
        }
        Ok(Self { context, stream, architecture: format!("sm_{major}{minor}"), cache: cache::folder() })
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
    pub unsafe fn borrow(&self, address: sys::CUdeviceptr, bytes: usize) -> Buffer {
        Buffer { pointer: address, bytes, stream: self.stream.clone(), borrowed: true }
    }

    fn bind(&self) -> Result<()> {
        self.context.bind_to_thread().map_err(|error| driver("cuCtxSetCurrent", error))
    }
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
    pub fn address(&self) -> sys::CUdeviceptr {
        self.pointer
    }

    /// Address of a byte, if `bytes` fit behind it
    fn at(&self, offset: usize, bytes: usize) -> Result<sys::CUdeviceptr> {
        if offset <= self.bytes && bytes <= self.bytes - offset {
            return Ok(self.pointer + offset as u64);
        }
        let reason = format!("{bytes} bytes at {offset} of a buffer of {}", self.bytes);
        Err(Error::Device { call: "copy".into(), reason })
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

#[expect(unsafe_code, reason = "calls of the driver")]
impl Backend for Cuda {
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
            Err(DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => {
                Err(Error::OutOfMemory { buffer: name, bytes })
            }
            Err(error) => Err(driver("cuMemAlloc", error)),
        }
    }

    fn bytes(&self, buffer: &Buffer) -> usize {
        buffer.bytes
    }

    fn address(&self, buffer: &Buffer) -> u64 {
        buffer.pointer
    }

    fn write<T: Number>(&self, to: &Buffer, offset: usize, from: &[T]) -> Result<()> {
        self.bind()?;
        let pointer = to.at(offset, size_of_val(from))?;
        // SAFETY: the range is inside the buffer; `from` is pageable, so the call returns once it has been read.
        unsafe { result::memcpy_htod_async(pointer, from, self.stream.cu_stream()) }
            .map_err(|error| driver("cuMemcpyHtoDAsync", error))
    }

    fn read<T: Number>(&self, from: &Buffer, offset: usize, to: &mut [T]) -> Result<()> {
        self.bind()?;
        let pointer = from.at(offset, size_of_val(to))?;
        // SAFETY: the range is inside the buffer, any bits are a number, and the stream is waited for.
        unsafe { result::memcpy_dtoh_async(to, pointer, self.stream.cu_stream()) }
            .map_err(|error| driver("cuMemcpyDtoHAsync", error))?;
        self.stream.synchronize().map_err(|error| driver("cuStreamSynchronize", error))
    }

    fn copy(&self, to: &Buffer, to_offset: usize, from: &Buffer, from_offset: usize, bytes: usize) -> Result<()> {
        self.bind()?;
        let (to, from) = (to.at(to_offset, bytes)?, from.at(from_offset, bytes)?);
        // SAFETY: both ranges are inside their buffers, which are alive.
        unsafe { result::memcpy_dtod_async(to, from, bytes, self.stream.cu_stream()) }
            .map_err(|error| driver("cuMemcpyDtoDAsync", error))
    }

    fn zero(&self, buffer: &Buffer) -> Result<()> {
        self.bind()?;
        // SAFETY: the range is the buffer.
        unsafe { result::memset_d8_async(buffer.pointer, 0, buffer.bytes, self.stream.cu_stream()) }
            .map_err(|error| driver("cuMemsetD8Async", error))
    }

    fn moment(&self) -> Result<CudaEvent> {
        let flags = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
        self.stream.record_event(flags).map_err(|error| driver("cuEventRecord", error))
    }

    fn seconds(&self, from: &CudaEvent, to: &CudaEvent) -> Result<Option<f64>> {
        let milliseconds = from.elapsed_ms(to).map_err(|error| driver("cuEventElapsedTime", error))?;
        Ok(Some(f64::from(milliseconds) * 1e-3))
    }

    fn launch(
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
                Argument::Buffer(buffer, offset) => buffer.pointer + *offset as u64,
                Argument::Integer(value) => u64::from(value.cast_unsigned()),
            })
            .collect();
        let mut pointers: Vec<*mut c_void> = words.iter_mut().map(|word| std::ptr::from_mut(word).cast()).collect();
        let (Ok(grid), Ok(block), Ok(shared)) =
            (c_uint::try_from(shape.grid), c_uint::try_from(shape.block), c_uint::try_from(shape.shared))
        else {
            return Err(Error::Device { call: kernel.into(), reason: format!("{shape:?} is too large") });
        };
        // SAFETY: each pointer is to 8 bytes, enough for a pointer or (little-endian) a 32-bit integer, and the driver copies
        // them. The arguments are those of the kernel's parameters: the emulator, which counts them, runs the same calls. The
        // kernels stay inside buffers of the sizes in buffers.rs: the emulator checks every access. Buffers are freed only after
        // the work that uses them.
        unsafe {
            let call = if shape.together { result::launch_cooperative_kernel } else { result::launch_kernel };
            call(function.cu_function(), (grid, 1, 1), (block, 1, 1), shared, self.stream.cu_stream(), &mut pointers)
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
        self.bind()?;
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        self.stream.begin_capture(mode).map_err(|error| driver("cuStreamBeginCapture", error))?;
        let recorded = work();
        // Also after an error, or the stream would stay recording.
        let graph = self.stream.end_capture(sys::CUgraphInstantiate_flags(0));
        recorded?;
        let graph = graph.map_err(|error| driver("cuStreamEndCapture, cuGraphInstantiate", error))?;
        let none = || Error::Device { call: "cuStreamEndCapture".into(), reason: "it gave no graph".into() };
        graph.map(Graph).ok_or_else(none)
    }

    fn replay(&self, graph: &Graph) -> Result<()> {
        self.bind()?;
        graph.0.launch().map_err(|error| driver("cuGraphLaunch", error))
    }
}
