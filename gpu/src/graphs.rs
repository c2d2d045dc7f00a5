//! Launches that come again and again: recorded once, then given to the device in one call.
//!
//! What is launched for a slice or a step follows from a few numbers, its [`Work`]: buffers stay where they are, and the number
//! of the chunk is counted on the device. The first time, the kernels are launched one by one (and loaded by that), the second
//! time recorded.

use std::collections::HashMap;

use crate::backend::Backend;
use crate::driver::{Driver, StepPlan};
use crate::error::Result;

/// How [`Memory::feed_resident`](crate::Memory::feed_resident) gives its work to the device. The results have the same bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Launching {
    /// Every kernel by itself.
    Single,
    /// Kernels that were launched before in the same way, as a recorded graph.
    #[default]
    Graphs,
    /// Whole chunks in one launch where [`Memory::can_walk`](crate::Memory::can_walk) says so, else as graphs.
    Persistent,
}

/// Launches are the same where this is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Work {
    /// Rows of the queue that are checked and read.
    Reading { from: usize, rows: usize, has_gates: bool },
    /// A step, and the tokens that stay queued, from the given one on.
    Step { plan: StepPlan, from: usize, kept: usize },
}

/// Works are remembered up to so many: a stream cut into chunks has two, one cut into tokens two for every token of a chunk.
const MOST: usize = 1024;

/// What was launched before: a graph, from the second time on.
#[derive(Debug)]
pub(crate) struct Graphs<B: Backend> {
    launching: Launching,
    seen: HashMap<Work, Option<B::Graph>>,
}

impl<B: Backend> Default for Graphs<B> {
    fn default() -> Self {
        Self { launching: Launching::default(), seen: HashMap::new() }
    }
}

impl<B: Backend> Driver<B> {
    /// Does what `launches` does, as a graph where the same work was done before.
    pub(crate) fn repeat(&self, work: Work, launches: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        let mut graphs = self.graphs.borrow_mut();
        if graphs.launching == Launching::Single || self.profile.borrow().is_some() {
            return launches();
        }
        #[expect(unsafe_code, reason = "recorded launches are done again")]
        // SAFETY: this backend recorded it, with modules that live as long; buffers are forgotten with the graphs that use them.
        let replay = |graph: &B::Graph| unsafe { self.backend.replay(graph) };
        if let Some(Some(graph)) = graphs.seen.get(&work) {
            return replay(graph);
        }
        if graphs.seen.contains_key(&work) {
            let graph = self.backend.record(launches)?;
            let graph = graphs.seen.entry(work).insert_entry(Some(graph)).into_mut();
            return graph.as_ref().map_or(Ok(()), replay);
        }
        if graphs.seen.len() >= MOST {
            graphs.seen.retain(|_, graph| graph.is_some());
        }
        if graphs.seen.len() < MOST {
            graphs.seen.insert(work, None);
        }
        launches()
    }

    /// When buffers are freed that graphs use: right after, so that no graph is dropped that still runs.
    pub(crate) fn forget_graphs(&self) {
        self.graphs.borrow_mut().seen.clear();
    }

    /// As it was set last.
    pub(crate) fn launching(&self) -> Launching {
        self.graphs.borrow().launching
    }

    /// From now on.
    pub(crate) fn set_launching(&self, launching: Launching) {
        self.graphs.borrow_mut().launching = launching;
    }

    /// Whether chunks are to be walked; not while kernels are timed one by one.
    pub(crate) fn walks(&self) -> bool {
        self.graphs.borrow().launching == Launching::Persistent && self.profile.borrow().is_none()
    }

    /// How many there are.
    pub(crate) fn graphs(&self) -> usize {
        self.graphs.borrow().seen.values().flatten().count()
    }
}
