//! Recorded work of the emulator: the calls, with the arguments they had.

use super::{Buffer, Emulator, Module};
use crate::backend::{Argument, Backend, Shape};
use crate::error::{Error, Result};

/// Work that was recorded.
#[derive(Debug)]
pub struct Graph(Vec<Operation>);

#[derive(Debug)]
pub(super) enum Operation {
    Launch { module: Module, kernel: &'static str, shape: Shape, arguments: Vec<Kept> },
    Copy { to: (Buffer, usize), from: (Buffer, usize), bytes: usize },
    Zero(Buffer),
}

/// An argument that keeps its buffer.
#[derive(Debug)]
pub(super) enum Kept {
    Buffer(Buffer, usize),
    Integer(i32),
}

impl Kept {
    fn given(&self) -> Argument<'_, Buffer> {
        match self {
            Self::Buffer(buffer, offset) => Argument::Buffer(buffer, *offset),
            Self::Integer(value) => Argument::Integer(*value),
        }
    }
}

impl Operation {
    pub(super) fn launch(module: &Module, kernel: &'static str, shape: Shape, arguments: &[Argument<Buffer>]) -> Self {
        let keep = |argument: &Argument<Buffer>| match argument {
            Argument::Buffer(buffer, offset) => Kept::Buffer((*buffer).clone(), *offset),
            Argument::Integer(value) => Kept::Integer(*value),
        };
        Self::Launch { module: module.clone(), kernel, shape, arguments: arguments.iter().map(keep).collect() }
    }

    fn run(&self, emulator: &Emulator) -> Result<()> {
        match self {
            Self::Launch { module, kernel, shape, arguments } => {
                let arguments: Vec<Argument<Buffer>> = arguments.iter().map(Kept::given).collect();
                emulator.run(module, kernel, *shape, &arguments)
            }
            Self::Copy { to, from, bytes } => emulator.copy(&to.0, to.1, &from.0, from.1, *bytes),
            Self::Zero(buffer) => emulator.zero(buffer),
        }
    }
}

/// Ends a recording when dropped.
struct End<'a>(&'a Emulator);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.recording.take();
    }
}

impl Emulator {
    /// Whether work is being recorded; then this is, too.
    pub(super) fn records(&self, operation: impl FnOnce() -> Operation) -> bool {
        let mut recording = self.recording.borrow_mut();
        recording.as_mut().map(|operations| operations.push(operation())).is_some()
    }

    /// As on a device, numbers cannot come or go while work is recorded.
    pub(super) fn not_recording(&self, call: &str) -> Result<()> {
        let recording = self.recording.borrow().is_some();
        if recording { Err(Error::misuse(call, "not allowed while work is recorded")) } else { Ok(()) }
    }

    pub(super) fn recorded(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Graph> {
        self.not_recording("record")?;
        self.recording.replace(Some(Vec::new()));
        // Also after a panic, or everything would be recorded from then on.
        let end = End(self);
        work()?;
        Ok(Graph(end.0.recording.take().unwrap_or_default()))
    }

    pub(super) fn replayed(&self, graph: &Graph) -> Result<()> {
        graph.0.iter().try_for_each(|operation| operation.run(self))
    }
}
