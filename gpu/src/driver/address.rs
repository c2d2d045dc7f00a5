//! The launches of the addressing step, up to the sub-keys that it would give.                   ADR-1 ... ADR-6

use fwpkm_reference::rules::Kept;

use super::{Driver, StepPlan, ToArgument, Variant, int, shape};
use crate::backend::Backend;
use crate::buffers::{ChunkBuffers, TableBuffers};
use crate::constants::kept_lanes;
use crate::error::Result;

impl<B: Backend> Driver<B> {
    pub(super) fn address(&self, t: &TableBuffers<B>, c: &ChunkBuffers<B>, plan: &StepPlan) -> Result<()> {
        let s = &self.settings;
        let (n, rows, words) = (s.sub_keys, int(plan.rows), int(c.words));
        let units = plan.rows * s.heads * 2;
        let threads = shape(units, 128, 128);
        let lanes = shape(units, 128 / kept_lanes(s, &self.rules), 128);
        let ties = self.rules.kept == Kept::Ties;
        if ties {
            if self.variant != Variant::Simple {
                self.score_all(t, c, 0, plan.rows)?;
            }
            let arguments =
                arguments![&c.distances, &c.half_values, &c.kept_count, &c.kept_index, &c.kept_value, int(units)];
            self.launch("address_ties", threads, arguments)?;
        }
        let (kept_index, kept_value) =
            if ties { (&c.kept_index, &c.kept_value) } else { (&c.half_indices, &c.half_values) };
        let kept = &c.kept_count;
        let usage = arguments![kept, kept_index, kept_value, &c.usage, &c.bits, words, int(units)];
        self.launch("address_usage", lanes, usage)?;
        if self.variant == Variant::Simple {
            let marginal = arguments![kept, kept_index, &c.usage, &t.marginal, &t.slopes, rows];
            self.launch("address_marginal_each", shape(2 * n, 64, 64), marginal)?;
            let entropy = arguments![&t.flag, &t.slopes, &t.report];
            self.launch("address_entropy_alone", shape(1, 1, 1), entropy)?;
        } else {
            let marginal = arguments![kept, kept_index, &c.usage, &c.bits, words, &t.marginal, &t.slopes, rows];
            self.launch("address_marginal", shape(2 * n, 8, 256), marginal)?;
            let entropy = arguments![&t.flag, &t.slopes, &t.report];
            self.launch("address_entropy", shape(1, 1, 64), entropy)?;
        }
        let slopes = arguments![
            kept,
            kept_index,
            kept_value,
            &t.slopes,
            &c.half_indices,
            &c.half_gradient,
            &c.usage,
            rows,
            int(units)
        ];
        self.launch("address_slopes", lanes, slopes)?;
        let queries = &c.queue.queries;
        if self.variant == Variant::Simple {
            let numbers = s.heads * 2 * n * s.half_dim();
            let arguments = arguments![&t.flag, kept, kept_index, &c.usage, queries, &t.sub_keys, &t.next, rows];
            self.launch("address_gradient_each", shape(numbers, 128, 128), arguments)
        } else {
            let arguments =
                arguments![&t.flag, kept, kept_index, &c.usage, &c.bits, words, queries, &t.sub_keys, &t.next];
            self.launch("address_gradient", shape(s.heads * 2 * n, 1, 256), arguments)
        }
    }
}
