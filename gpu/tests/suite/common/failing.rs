//! An emulator that fails where it is told to.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use fwpkm_gpu::emulator::{Buffer, Emulator, Graph, Module};
use fwpkm_gpu::{Argument, Backend, Constants, Error, Number, Result, Shape};

/// An emulator of which one call fails, or whose memory ends.
#[derive(Debug)]
pub(crate) struct Failing {
    emulator: Emulator,
    /// Calls that still succeed.
    pub(crate) left: Rc<Cell<usize>>,
    /// Bytes of memory that are left; of what is freed nothing comes back.
    pub(crate) room: Rc<Cell<usize>>,
    /// Addresses that buffers say instead of their own.
    pub(crate) places: Rc<RefCell<HashMap<u64, u64>>>,
    /// What is told apart here of the calls: moments, questions for the time between them, questions for the blocks that run at
    /// once, and the blocks of a launch of whole chunks.
    pub(crate) seen: Rc<RefCell<Vec<Seen>>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Seen {
    Moment,
    Seconds,
    Asked,
    Together(usize),
}

impl Failing {
    pub(crate) fn new(emulator: Emulator) -> Self {
        let [left, room] = [(); 2].map(|()| Rc::new(Cell::new(usize::MAX)));
        Self { emulator, left, room, places: Rc::default(), seen: Rc::default() }
    }

    fn passes(&self, call: &str) -> Result<()> {
        let left = self.left.get();
        self.left.set(left.wrapping_sub(1));
        let failed = || Error::Device { call: call.into(), reason: "planted".into() };
        if left == 0 { Err(failed()) } else { Ok(()) }
    }
}

// SAFETY: the emulator's calls, or none.
#[expect(unsafe_code, reason = "calls of the emulator")]
unsafe impl Backend for Failing {
    type Buffer = Buffer;
    type Module = Module;
    type Graph = Graph;
    type Moment = ();

    fn load(&self, constants: &Constants) -> Result<Module> {
        self.emulator.load(constants)
    }
    fn allocate(&self, name: &'static str, bytes: usize) -> Result<Buffer> {
        let room = self.room.get();
        if bytes > room {
            return Err(Error::OutOfMemory { buffer: name, bytes, free: Some(room), advice: String::new() });
        }
        self.room.set(room - bytes);
        self.emulator.allocate(name, bytes)
    }
    fn bytes(&self, buffer: &Buffer) -> usize {
        self.emulator.bytes(buffer)
    }
    fn address(&self, buffer: &Buffer) -> u64 {
        let own = self.emulator.address(buffer);
        self.places.borrow().get(&own).copied().unwrap_or(own)
    }
    fn owns(&self, buffer: &Buffer) -> bool {
        self.emulator.owns(buffer)
    }
    fn write<T: Number>(&self, to: &Buffer, offset: usize, from: &[T]) -> Result<()> {
        self.passes("write")?;
        self.emulator.write(to, offset, from)
    }
    fn read<T: Number>(&self, from: &Buffer, offset: usize, to: &mut [T]) -> Result<()> {
        self.passes("read")?;
        self.emulator.read(from, offset, to)
    }
    fn copy(&self, to: &Buffer, to_offset: usize, from: &Buffer, from_offset: usize, bytes: usize) -> Result<()> {
        self.passes("copy")?;
        self.emulator.copy(to, to_offset, from, from_offset, bytes)
    }
    fn zero(&self, buffer: &Buffer) -> Result<()> {
        self.passes("zero")?;
        self.emulator.zero(buffer)
    }
    fn moment(&self) -> Result<()> {
        self.seen.borrow_mut().push(Seen::Moment);
        Ok(())
    }
    fn seconds(&self, (): &(), (): &()) -> Result<Option<f64>> {
        self.seen.borrow_mut().push(Seen::Seconds);
        Ok(Some(1.0))
    }
    unsafe fn launch(
        &self,
        module: &Module,
        kernel: &'static str,
        shape: Shape,
        arguments: &[Argument<Buffer>],
    ) -> Result<()> {
        self.passes(kernel)?;
        if shape.together {
            self.seen.borrow_mut().push(Seen::Together(shape.grid));
        }
        // SAFETY: as given.
        unsafe { self.emulator.launch(module, kernel, shape, arguments) }
    }
    fn together(&self, module: &Module, kernel: &'static str, block: usize, shared: usize) -> Result<usize> {
        self.seen.borrow_mut().push(Seen::Asked);
        self.emulator.together(module, kernel, block, shared)
    }
    fn record(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Graph> {
        self.emulator.record(work)
    }
    unsafe fn replay(&self, graph: &Graph) -> Result<()> {
        self.passes("replay")?;
        // SAFETY: as given.
        unsafe { self.emulator.replay(graph) }
    }
}
