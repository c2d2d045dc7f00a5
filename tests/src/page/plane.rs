//! Sub-keys and queries as points of a plane, where a half has one or two numbers.

use std::fmt::Write;

use ndarray::{ArrayView1, ArrayView2};

use super::html::{escape, largest, px, rounded};
use super::record::Record;

/// Width and height of the plane.
const SIZE: f64 = 250.0;

/// Points of one half of one head.
pub(crate) struct Plane<'a> {
    /// In words, for those who cannot see it.
    pub(crate) label: &'a str,
    /// The coordinate at the border.
    pub(crate) border: f64,
    /// The sub-keys: [n, 1 or 2]
    pub(crate) sub_keys: ArrayView2<'a, f64>,
    /// Where they are afterwards.
    pub(crate) moved: Option<ArrayView2<'a, f64>>,
    /// Those that stand out.
    pub(crate) chosen: Vec<usize>,
    /// The query that is compared with them.
    pub(crate) query: Option<ArrayView1<'a, f64>>,
    /// Other queries, in the background.
    pub(crate) queries: Vec<ArrayView1<'a, f64>>,
}

/// Whether halves can be seen as points.
pub(crate) fn is_plane(record: &Record) -> bool {
    record.settings.half_dim() <= 2
}

/// The coordinate at the border of every plane of a run, so that planes can be compared.
pub(crate) fn border(record: &Record) -> f64 {
    let sub_keys = record.tables.iter().map(|tables| largest(&tables.sub_keys)).fold(0.0, f64::max);
    sub_keys.max(largest(&record.text.queries)).max(f64::MIN_POSITIVE) * 1.08
}

impl Plane<'_> {
    /// Writes the plane.
    pub(crate) fn write(&self, out: &mut String) {
        let label = escape(self.label);
        let _ = write!(
            out,
            "<svg class=\"plane\" width=\"{SIZE}\" height=\"{SIZE}\" viewBox=\"0 0 {SIZE} {SIZE}\" role=\"img\" \
             aria-label=\"{label}\"><rect class=\"ground\" width=\"{SIZE}\" height=\"{SIZE}\"/>"
        );
        let (middle, border) = (SIZE / 2.0, rounded(self.border, 2));
        let _ = write!(
            out,
            "<path class=\"rule\" d=\"M0 {middle}H{SIZE}M{middle} 0V{SIZE}\"/>\
             <text class=\"end\" x=\"{}\" y=\"{}\">{border}</text>\
             <text x=\"{}\" y=\"11\">{border}</text>",
            SIZE - 3.0,
            middle - 4.0,
            middle + 4.0
        );
        for query in &self.queries {
            let (x, y) = self.place(query.view());
            let _ = write!(out, "<circle class=\"other\" cx=\"{x}\" cy=\"{y}\" r=\"3\"/>");
        }
        self.lines(out);
        // Those that stand out lie on top.
        let (over, under): (Vec<usize>, Vec<usize>) =
            (0..self.sub_keys.nrows()).partition(|number| self.chosen.contains(number));
        for number in under.into_iter().chain(over) {
            let (x, y) = self.place(self.moved.unwrap_or(self.sub_keys).row(number));
            let class = if self.chosen.contains(&number) { "key chosen" } else { "key" };
            let _ = write!(
                out,
                "<g class=\"{class}\"><circle cx=\"{x}\" cy=\"{y}\" r=\"8\"/>\
                 <text class=\"mid\" x=\"{x}\" y=\"{}\">{number}</text></g>",
                px(y + 4.0)
            );
        }
        if let Some(query) = self.query {
            let (x, y) = self.place(query);
            let _ = write!(out, "<path class=\"query\" d=\"M{} {y}h12M{x} {}v12\"/>", px(x - 6.0), px(y - 6.0));
        }
        out.push_str("</svg>");
    }

    /// From the query to the chosen sub-keys; from where each sub-key was to where it is
    fn lines(&self, out: &mut String) {
        for &number in &self.chosen {
            if let Some(query) = self.query {
                let ((x, y), (to_x, to_y)) = (self.place(query), self.place(self.sub_keys.row(number)));
                let _ = write!(out, "<path class=\"distance\" d=\"M{x} {y}L{to_x} {to_y}\"/>");
            }
        }
        for (old, new) in self.moved.iter().flat_map(|moved| self.sub_keys.rows().into_iter().zip(moved.rows())) {
            let ((x, y), (to_x, to_y)) = (self.place(old), self.place(new));
            let _ = write!(out, "<circle class=\"old\" cx=\"{x}\" cy=\"{y}\" r=\"3\"/>");
            let _ = write!(out, "<path class=\"move\" d=\"M{x} {y}L{to_x} {to_y}\"/>");
        }
    }

    fn place(&self, point: ArrayView1<f64>) -> (f64, f64) {
        let coordinate = |axis: usize| point.get(axis).copied().unwrap_or(0.0) / self.border;
        (px(SIZE / 2.0 * (1.0 + coordinate(0))), px(SIZE / 2.0 * (1.0 - coordinate(1))))
    }
}
