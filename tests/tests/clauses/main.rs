//! The claims of the clauses, one module for each stage.

mod address;
mod batch;
mod chunk;
mod common;
mod memorize;
mod numerics;
mod oracles;
mod output;
mod projection;
mod read;
mod score;
mod select;
mod stats;
mod stream;
mod train;
