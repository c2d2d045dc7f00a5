//! The list of certified vectors, by topic. Within a case k, H, C, L, B, `d_v` and n differ, so that no factor can be taken
//! for another.

mod address;
mod chunk;
mod large;
mod layer;
mod memorize;
mod read;
mod score;
mod select;
mod stream;
mod train;

use super::entry::{Entry, Least};

/// Margins for selections of many entries, where wide ones are rare.
const CLOSER: Least = Least { set: 0.08, relative: 0.03, order: 0.02, near: None };
/// Where the whole of each half is chosen, so that only pairs compete.
const ORDER_ONLY: Least = Least { set: 0.1, relative: 0.04, order: 0.03, near: None };

/// Every entry, in the order of the specification.
pub fn catalogue() -> Vec<Entry> {
    let topics = [
        layer::entries,
        score::entries,
        select::entries,
        read::entries,
        memorize::entries,
        address::entries,
        chunk::entries,
        stream::entries,
        train::entries,
        large::entries,
    ];
    topics.into_iter().flat_map(|entries| entries()).collect()
}
