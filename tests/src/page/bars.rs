//! Bars: one number per line, with its name, its value and a remark.

use std::fmt::Write;

use super::html::{escape, numbers, px, shown};

/// One line of a chart of bars.
pub(crate) struct Bar {
    /// On the left.
    pub(crate) name: String,
    /// Its length.
    pub(crate) value: f64,
    /// On the right.
    pub(crate) remark: String,
    /// Whether it stands out.
    pub(crate) chosen: bool,
}

/// A chart of bars.
pub(crate) struct Bars<'a> {
    /// Name of its data.
    pub(crate) name: &'a str,
    /// In words, for those who cannot see it.
    pub(crate) label: &'a str,
    /// Room for the bars.
    pub(crate) length: f64,
    /// A value that a dashed line marks.
    pub(crate) reference: Option<f64>,
    /// The lines.
    pub(crate) lines: Vec<Bar>,
}

/// Room for a value, and for a character of a name or a remark.
const VALUE: f64 = 68.0;
const CHARACTER: f64 = 7.6;

/// Room for the longest of some texts
fn room<'a>(texts: impl Iterator<Item = &'a String>) -> f64 {
    let longest = texts.map(|text| text.chars().count()).max().unwrap_or(0);
    px(CHARACTER * longest as f64 + if longest > 0 { 8.0 } else { 0.0 })
}

impl Bars<'_> {
    /// Writes the chart; all bars start at 0, those of negative numbers to the left.
    pub(crate) fn write(&self, out: &mut String) {
        let values = || self.lines.iter().map(|bar| bar.value);
        let names = room(self.lines.iter().map(|bar| &bar.name)) + 6.0;
        let low = values().chain(self.reference).fold(0.0, f64::min);
        let high = values().chain(self.reference).fold(0.0, f64::max);
        let scale = if high > low { self.length / (high - low) } else { 0.0 };
        let x = |value: f64| px(names + (value - low) * scale);
        let row = if self.lines.len() > 24 { 13.0 } else { 19.0 };
        let height = row * self.lines.len() as f64 + 2.0;
        let remarks = room(self.lines.iter().map(|bar| &bar.remark));
        let width = names + self.length + VALUE + remarks;
        let _ = write!(
            out,
            "<svg class=\"bars\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
             aria-label=\"{}\" data-name=\"{}\" data-values=\"{}\">",
            escape(self.label),
            self.name,
            numbers(values())
        );
        for (line, bar) in self.lines.iter().enumerate() {
            let (top, base) = (row * line as f64 + 1.0, px(row * line as f64 + row * 0.72));
            let class = if bar.chosen { " class=\"chosen\"" } else { "" };
            let (left, length) = (x(bar.value.min(0.0)), px((bar.value.abs() * scale).max(0.5)));
            let _ = write!(
                out,
                "<g{class}><text x=\"{}\" y=\"{base}\" class=\"end\">{}</text>\
                 <rect x=\"{left}\" y=\"{}\" width=\"{length}\" height=\"{}\"/>\
                 <text x=\"{}\" y=\"{base}\" class=\"end\">{}</text>",
                names - 6.0,
                escape(&bar.name),
                top + 2.0,
                row - 5.0,
                names + self.length + VALUE - 8.0,
                shown(bar.value)
            );
            if !bar.remark.is_empty() {
                let _ =
                    write!(out, "<text x=\"{}\" y=\"{base}\">{}</text>", width - remarks + 2.0, escape(&bar.remark));
            }
            out.push_str("</g>");
        }
        let _ = write!(out, "<path class=\"axis\" d=\"M{0} 0V{height}\"/>", x(0.0));
        if let Some(reference) = self.reference {
            let _ = write!(out, "<path class=\"reference\" d=\"M{0} 0V{height}\"/>", x(reference));
        }
        out.push_str("</svg>");
    }
}
