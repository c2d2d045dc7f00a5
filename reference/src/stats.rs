//! Stage `stats`: how reads spread over the slots.                                   STA-1 … STA-3
//!
//! ```text
//! collision   Σ_{N_i > 1} N_i / Σ N_i        coverage   |{N_i > 0}| / N
//! divergence  Σ_i p_i ln(p_i · N),  p_i = N_i / Σ N_i
//! ```

use std::collections::HashMap;

/// Read counts of slots, gathered over any number of calls.
#[derive(Clone, Debug, Default)]
pub struct SlotReads {
    counts: HashMap<usize, u64>,
    reads: u64,
}

impl SlotReads {
    /// Counts more reads.
    pub fn extend<'a>(&mut self, slots: impl IntoIterator<Item = &'a usize>) {
        for &slot in slots {
            *self.counts.entry(slot).or_default() += 1;
            self.reads += 1;
        }
    }

    /// Share of reads that hit a slot read more than once; 0 without reads.                [STA-1]
    ///
    /// ```
    /// let mut reads = fwpkm_reference::stats::SlotReads::default();
    /// reads.extend(&[3, 3, 5, 7]);
    /// assert_eq!((reads.collision_rate(), reads.coverage(16)), (0.5, 3.0 / 16.0));
    /// ```
    pub fn collision_rate(&self) -> f64 {
        let shared: u64 = self.counts.values().filter(|&&count| count > 1).sum();
        if self.reads == 0 { 0.0 } else { shared as f64 / self.reads as f64 }
    }

    /// Share of the table's slots that were read.                                          [STA-2]
    pub fn coverage(&self, slots: usize) -> f64 {
        self.counts.len() as f64 / slots as f64
    }

    /// Divergence of the read distribution from the uniform one, in nats; 0 without reads. [STA-3]
    pub fn divergence(&self, slots: usize) -> f64 {
        // By slot, so that the sum has one order.
        let mut counts: Vec<(&usize, &u64)> = self.counts.iter().collect();
        counts.sort_unstable();
        let share = |count: u64| count as f64 / self.reads as f64;
        counts.into_iter().fold(0.0, |sum, (_, &count)| sum + share(count) * (share(count) * slots as f64).ln())
    }
}
