//! Recording work as a graph, on a stream that nobody else has.

use std::cell::Cell;
use std::sync::Arc;

use cudarc::driver::{CudaContext, result, sys};

use super::driver;
use crate::error::{Error, Result};

/// A stream that is recorded, and runs nothing. On the stream that others have, their work would come into the recording.
#[derive(Debug)]
pub(super) struct Recorder {
    stream: sys::CUstream,
    context: Arc<CudaContext>,
}

/// Recorded work.
#[derive(Debug)]
pub struct Graph {
    executable: sys::CUgraphExec,
    context: Arc<CudaContext>,
}

// SAFETY: a stream may be used from any thread, and one at a time has this one.
#[expect(unsafe_code, reason = "a handle of the driver")]
unsafe impl Send for Recorder {}

// SAFETY: calls with one graph must not be made at the same time, which takes two references in two threads; it is not Sync. No
// thread of its own belongs to it.
#[expect(unsafe_code, reason = "a handle of the driver")]
unsafe impl Send for Graph {}

impl Recorder {
    pub(super) fn new(context: &Arc<CudaContext>) -> Result<Self> {
        context.bind_to_thread().map_err(|error| driver("cuCtxSetCurrent", error))?;
        // By the driver itself: cudarc would wait for the device before the first stream of a context.
        let made = result::stream::create(result::stream::StreamKind::NonBlocking);
        let stream = made.map_err(|error| driver("cuStreamCreate", error))?;
        Ok(Self { stream, context: context.clone() })
    }

    pub(super) fn stream(&self) -> sys::CUstream {
        self.stream
    }

    /// Records what `work` does; `recording` holds meanwhile.
    #[expect(unsafe_code, reason = "calls of the driver")]
    pub(super) fn record(&self, recording: &Cell<bool>, work: &mut dyn FnMut() -> Result<()>) -> Result<Graph> {
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is alive.
        unsafe { result::stream::begin_capture(self.stream, mode) }
            .map_err(|error| driver("cuStreamBeginCapture", error))?;
        recording.set(true);
        let capture = Capture { recorder: self, recording };
        work()?;
        let graph = capture.end()?;
        let flags = sys::CUgraphInstantiate_flags(0);
        // SAFETY: the graph is alive.
        let executable = unsafe { result::graph::instantiate(graph.0, flags) }
            .map_err(|error| driver("cuGraphInstantiate", error))?;
        Ok(Graph { executable, context: self.context.clone() })
    }
}

impl Drop for Recorder {
    #[expect(unsafe_code, reason = "frees what was created")]
    fn drop(&mut self) {
        if self.context.bind_to_thread().is_ok() {
            // SAFETY: the stream came from stream::create and nobody else destroys it.
            let _ = unsafe { result::stream::destroy(self.stream) };
        }
    }
}

/// A recording under way. Ended when dropped, also by an error or a panic: else the stream would stay recording.
struct Capture<'a> {
    recorder: &'a Recorder,
    recording: &'a Cell<bool>,
}

impl Capture<'_> {
    fn end(self) -> Result<Captured> {
        let captured = self.ended();
        std::mem::forget(self);
        captured
    }

    #[expect(unsafe_code, reason = "calls of the driver")]
    fn ended(&self) -> Result<Captured> {
        self.recording.set(false);
        // SAFETY: the stream is alive.
        let graph = unsafe { result::stream::end_capture(self.recorder.stream) }
            .map_err(|error| driver("cuStreamEndCapture", error))?;
        let none = || Error::Device { call: "cuStreamEndCapture".into(), reason: "it gave no graph".into() };
        if graph.is_null() { Err(none()) } else { Ok(Captured(graph)) }
    }
}

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        let _ = self.ended();
    }
}

/// What was recorded, before it can be launched.
struct Captured(sys::CUgraph);

impl Drop for Captured {
    #[expect(unsafe_code, reason = "frees what was created")]
    fn drop(&mut self) {
        // SAFETY: the graph came from end_capture and nobody else destroys it.
        let _ = unsafe { result::graph::destroy(self.0) };
    }
}

impl Graph {
    pub(super) fn executable(&self) -> sys::CUgraphExec {
        self.executable
    }
}

impl Drop for Graph {
    #[expect(unsafe_code, reason = "frees what was created")]
    fn drop(&mut self) {
        if self.context.bind_to_thread().is_ok() {
            // SAFETY: the graph came from instantiate and nobody else destroys it.
            let _ = unsafe { result::graph::exec_destroy(self.executable) };
        }
    }
}
