//! The emulator as a device: the kernels, compiled by the host's C++ compiler, thread by thread.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, CString, c_char, c_void};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::backend::{Argument, Backend, Number, Shape};
use crate::constants::Constants;
use crate::error::{Error, Result};

mod graph;

pub use graph::Graph;
use graph::Operation;

#[repr(C)]
struct RawMemory {
    _opaque: [u8; 0],
}

/// As in emulator/interface.hpp.
#[repr(C)]
struct RawArgument {
    value: u64,
    offset: u64,
    is_memory: u64,
}

#[expect(unsafe_code, reason = "the emulator is C++")]
unsafe extern "C" {
    fn emulator_allocate(name: *const c_char, bytes: usize) -> *mut RawMemory;
    fn emulator_free(memory: *mut RawMemory);
    fn emulator_write(memory: *mut RawMemory, offset: usize, from: *const c_void, bytes: usize) -> bool;
    fn emulator_read(memory: *const RawMemory, offset: usize, to: *mut c_void, bytes: usize) -> bool;
    fn emulator_copy(
        to: *mut RawMemory,
        to_offset: usize,
        from: *const RawMemory,
        from_offset: usize,
        bytes: usize,
    ) -> bool;
    fn emulator_launch(
        kernel: *const c_char,
        names: *const *const c_char,
        values: *const f64,
        constants: usize,
        grid: u32,
        block: u32,
        dynamic_bytes: usize,
        cooperative: bool,
        seed: u64,
        arguments: *const RawArgument,
        count: usize,
        error: *mut c_char,
        error_size: usize,
    ) -> bool;
}

/// Memory of the emulator, which knows what was written and by whom.
#[derive(Clone, Debug)]
pub struct Buffer(Rc<Owned>);

#[derive(Debug)]
struct Owned {
    memory: *mut RawMemory,
    bytes: usize,
    /// Where a device would have put it: nowhere else, at 512 bytes.
    address: u64,
}

static NEXT_ADDRESS: AtomicU64 = AtomicU64::new(512);

impl Drop for Owned {
    #[expect(unsafe_code, reason = "frees what was allocated")]
    fn drop(&mut self) {
        // SAFETY: the pointer came from emulator_allocate, and nobody else frees it.
        unsafe { emulator_free(self.memory) }
    }
}

/// Constants as the emulator takes them.
#[derive(Clone, Debug)]
pub struct Module {
    names: Rc<[CString]>,
    values: Rc<[f64]>,
}

impl Module {
    /// A module of these constants.
    pub fn new(constants: &[(&str, f64)]) -> Self {
        let names = constants.iter().map(|(name, _)| CString::new(*name).unwrap_or_default()).collect();
        Self { names, values: constants.iter().map(|&(_, value)| value).collect() }
    }
}

/// A device whose schedule follows from a seed.
#[derive(Debug)]
pub struct Emulator {
    seed: u64,
    launches: Cell<u64>,
    /// What is being recorded.
    recording: RefCell<Option<Vec<Operation>>>,
}

impl Emulator {
    /// A device; every launch has another schedule, all following from the seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, launches: Cell::new(0), recording: RefCell::new(None) }
    }

    /// Runs a kernel.
    ///
    /// # Errors   `Error::Device` with the fault the emulator found
    #[expect(unsafe_code, reason = "the emulator is C++")]
    pub fn run(&self, module: &Module, kernel: &str, shape: Shape, arguments: &[Argument<Buffer>]) -> Result<()> {
        self.launches.set(self.launches.get() + 1);
        let seed = self.seed.wrapping_mul(0x2545_f491_4f6c_dd1d).wrapping_add(self.launches.get());
        let device = |reason: String| Error::Device { call: format!("kernel {kernel}"), reason };
        let name = CString::new(kernel).map_err(|error| device(error.to_string()))?;
        let names: Vec<*const c_char> = module.names.iter().map(|name| name.as_ptr()).collect();
        let arguments: Vec<RawArgument> = arguments
            .iter()
            .map(|argument| match argument {
                Argument::Buffer(buffer, offset) => {
                    RawArgument { value: buffer.0.memory as usize as u64, offset: *offset as u64, is_memory: 1 }
                }
                Argument::Integer(value) => {
                    RawArgument { value: u64::from(value.cast_unsigned()), offset: 0, is_memory: 0 }
                }
            })
            .collect();
        let (grid, block) = (shape.grid.try_into(), shape.block.try_into());
        let (Ok(grid), Ok(block)) = (grid, block) else { return Err(device("too many blocks or threads".into())) };
        let mut error: [c_char; 1024] = [0; 1024];
        // SAFETY: every pointer is to memory that outlives the call, with the lengths given; buffers are alive and used by this
        // thread alone, since they are not Sync. The emulator checks kernel, number and kinds of arguments, and every access.
        let good = unsafe {
            emulator_launch(
                name.as_ptr(),
                names.as_ptr(),
                module.values.as_ptr(),
                names.len(),
                grid,
                block,
                shape.shared,
                shape.together,
                seed,
                arguments.as_ptr(),
                arguments.len(),
                error.as_mut_ptr(),
                error.len(),
            )
        };
        if good {
            return Ok(());
        }
        // SAFETY: the emulator ends the text with 0 within the array.
        let reason = unsafe { CStr::from_ptr(error.as_ptr()) }.to_string_lossy().into_owned();
        Err(device(reason))
    }
}

fn unless(good: bool, call: &str, reason: &str) -> Result<()> {
    if good { Ok(()) } else { Err(Error::Device { call: call.into(), reason: reason.into() }) }
}

// SAFETY: memory is the emulator's own, in the length asked for, and counted by those who have it, graphs too. Every call is done
// when it returns. An address is of no memory, but of nobody else's either.
#[expect(unsafe_code, reason = "the emulator is C++")]
unsafe impl Backend for Emulator {
    type Buffer = Buffer;
    type Module = Module;
    type Graph = Graph;
    type Moment = ();

    fn load(&self, constants: &Constants) -> Result<Module> {
        Ok(Module::new(constants.values()))
    }

    fn allocate(&self, name: &'static str, bytes: usize) -> Result<Buffer> {
        let text = CString::new(name).unwrap_or_default();
        // SAFETY: the name is copied.
        let memory = unsafe { emulator_allocate(text.as_ptr(), bytes) };
        if memory.is_null() {
            Err(Error::out_of_memory(name, bytes, None))
        } else {
            let room = (bytes as u64).next_multiple_of(512);
            let address = NEXT_ADDRESS.fetch_add(room, Ordering::Relaxed);
            Ok(Buffer(Rc::new(Owned { memory, bytes, address })))
        }
    }

    fn bytes(&self, buffer: &Buffer) -> usize {
        buffer.0.bytes
    }

    fn address(&self, buffer: &Buffer) -> u64 {
        buffer.0.address
    }

    fn owns(&self, _: &Buffer) -> bool {
        true
    }

    fn write<T: Number>(&self, to: &Buffer, offset: usize, from: &[T]) -> Result<()> {
        self.not_recording("write")?;
        // SAFETY: `from` is readable for its size; the emulator checks the range of the buffer.
        let good = unsafe { emulator_write(to.0.memory, offset, from.as_ptr().cast(), size_of_val(from)) };
        unless(good, "write", "beyond the buffer")
    }

    fn read<T: Number>(&self, from: &Buffer, offset: usize, to: &mut [T]) -> Result<()> {
        self.not_recording("read")?;
        // SAFETY: `to` is writable for its size, any bits are a number; the emulator checks the range of the buffer.
        let good = unsafe { emulator_read(from.0.memory, offset, to.as_mut_ptr().cast(), size_of_val(to)) };
        unless(good, "read", "beyond the buffer, or nobody wrote it")
    }

    fn copy(&self, to: &Buffer, to_offset: usize, from: &Buffer, from_offset: usize, bytes: usize) -> Result<()> {
        let operation = || Operation::Copy { to: (to.clone(), to_offset), from: (from.clone(), from_offset), bytes };
        if self.records(operation) {
            return Ok(());
        }
        // SAFETY: both are alive; the emulator checks the ranges.
        let good = unsafe { emulator_copy(to.0.memory, to_offset, from.0.memory, from_offset, bytes) };
        unless(good, "copy", "beyond the buffer")
    }

    fn zero(&self, buffer: &Buffer) -> Result<()> {
        if self.records(|| Operation::Zero(buffer.clone())) {
            return Ok(());
        }
        let zeros = vec![0_u8; buffer.0.bytes];
        // SAFETY: `zeros` is readable for its size, which is the buffer's.
        let good = unsafe { emulator_write(buffer.0.memory, 0, zeros.as_ptr().cast(), zeros.len()) };
        unless(good, "zero", "beyond the buffer")
    }

    fn moment(&self) -> Result<()> {
        Ok(())
    }

    /// The time of an emulator says nothing about a device.
    fn seconds(&self, (): &(), (): &()) -> Result<Option<f64>> {
        Ok(None)
    }

    /// What is not the kernel's is refused, or found in the run.
    unsafe fn launch(
        &self,
        module: &Module,
        kernel: &'static str,
        shape: Shape,
        arguments: &[Argument<Buffer>],
    ) -> Result<()> {
        if shape.together {
            self.not_recording("a launch of blocks that wait for each other")?;
        } else if self.records(|| Operation::launch(module, kernel, shape, arguments)) {
            return Ok(());
        }
        self.run(module, kernel, shape, arguments)
    }

    /// As many as there are schedules worth trying.
    fn together(&self, _: &Module, _: &'static str, _: usize, _: usize) -> Result<usize> {
        Ok(3)
    }

    fn record(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Graph> {
        self.recorded(work)
    }

    unsafe fn replay(&self, graph: &Graph) -> Result<()> {
        self.replayed(graph)
    }
}
