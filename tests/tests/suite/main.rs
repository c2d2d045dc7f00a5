//! The suite itself: engine, vectors, deviations, commands, documents.

mod book;
mod command;
mod deviations;
mod gates;
mod gradients;
mod identified;
mod judge;
mod lockstep;
mod near_ties;
mod numerics_bounds;
mod page;
mod readme;
mod release;
mod specification;
mod state;
mod vectors;
mod walk;

/// The command's. Much of what the judge does is to allocate.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
