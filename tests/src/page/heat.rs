//! Heat maps: a table of numbers as cells, the stronger the larger; below 0 in another colour.

use std::fmt::Write;

use super::html::{escape, largest, numbers, px, rounded};

/// Shades of a colour.
const SHADES: f64 = 20.0;

/// A heat map.
pub(crate) struct Heat<'a> {
    /// Name of its data.
    pub(crate) name: &'a str,
    /// In words, for those who cannot see it.
    pub(crate) label: &'a str,
    /// Names of the rows; those of all, or of none.
    pub(crate) rows: Vec<String>,
    /// Room for them.
    pub(crate) names: f64,
    /// Columns of the table.
    pub(crate) columns: usize,
    /// The numbers, row by row.
    pub(crate) values: Vec<f64>,
    /// What has the full colour; 0 for the largest magnitude there is.
    pub(crate) full: f64,
    /// Width and height of a cell.
    pub(crate) cell: (f64, f64),
    /// Significant digits of the numbers in the cells; 0 for none.
    pub(crate) digits: usize,
    /// Whether the cells are the slots i·n + j of the table.
    pub(crate) slots: bool,
}

impl Heat<'_> {
    /// A map over the n × n slots: sub-key i of half 0 is the row, sub-key j of half 1 the column.
    pub(crate) fn of_slots<'a>(name: &'a str, label: &'a str, n: usize, values: Vec<f64>, width: f64) -> Heat<'a> {
        let cell = px(width / n as f64);
        let rows = (0..n).map(|i| if n <= 16 || i % 8 == 0 { i.to_string() } else { String::new() }).collect();
        let digits = if n <= 8 { 2 } else { 0 };
        Heat { name, label, rows, names: 22.0, columns: n, values, full: 0.0, cell: (cell, cell), digits, slots: true }
    }

    /// Writes the map.
    pub(crate) fn write(&self, out: &mut String) {
        let rows = self.values.len().checked_div(self.columns).unwrap_or(0);
        let (width, height) = self.cell;
        let (inner, down) = (px(width * self.columns as f64), px(height * rows as f64));
        let (left, top) = (self.names, 15.0);
        let (all, tall) = (left + inner + 1.0, top + down + 1.0);
        let _ = write!(
            out,
            "<svg class=\"heat{}\" width=\"{all}\" height=\"{tall}\" viewBox=\"0 0 {all} {tall}\" role=\"img\" \
             aria-label=\"{}\" data-name=\"{}\" data-columns=\"{}\" data-box=\"{left} {top} {width} {height}\" \
             data-values=\"{}\">",
            if self.slots { " slots" } else { "" },
            escape(self.label),
            self.name,
            self.columns,
            numbers(self.values.iter().copied())
        );
        for (row, name) in self.rows.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            let y = px(top + height * (row as f64 + 0.5) + 4.0);
            let _ = write!(out, "<text class=\"end\" x=\"{}\" y=\"{y}\">{}</text>", left - 5.0, escape(name));
        }
        for column in (0..self.columns).filter(|&column| width >= 16.0 || column % 8 == 0) {
            let x = px(left + width * (column as f64 + 0.5));
            let _ = write!(out, "<text class=\"mid\" x=\"{x}\" y=\"11\">{column}</text>");
        }
        let _ = write!(out, "<g transform=\"translate({left} {top})\">");
        let _ = write!(out, "<rect class=\"ground\" width=\"{inner}\" height=\"{down}\"/>");
        self.cells(out);
        self.numbers(out);
        out.push_str("</g></svg>");
    }

    /// One path for all cells of a shade
    fn cells(&self, out: &mut String) {
        let full = if self.full > 0.0 { self.full } else { largest(&self.values) };
        let (width, height) = self.cell;
        let shades: Vec<i32> = self.values.iter().map(|&value| shade(value, full)).collect();
        let _ = write!(out, "<g transform=\"scale({width} {height})\">");
        for shade in (-SHADES as i32..=SHADES as i32).filter(|&shade| shade != 0) {
            let cells = shades.iter().enumerate().filter(|&(_, &other)| other == shade);
            let path = cells.fold(String::new(), |mut path, (cell, _)| {
                let _ = write!(path, "M{} {}h1v1h-1z", cell % self.columns, cell / self.columns);
                path
            });
            if !path.is_empty() {
                let class = if shade < 0 { "below" } else { "above" };
                let opacity = f64::from(shade.abs()) / SHADES;
                let _ = write!(out, "<path class=\"{class}\" fill-opacity=\"{opacity}\" d=\"{path}\"/>");
            }
        }
        out.push_str("</g>");
    }

    fn numbers(&self, out: &mut String) {
        if self.digits == 0 {
            return;
        }
        let full = if self.full > 0.0 { self.full } else { largest(&self.values) };
        let (width, height) = self.cell;
        for (cell, &value) in self.values.iter().enumerate().filter(|(_, value)| **value != 0.0) {
            let (row, column) = ((cell / self.columns) as f64, (cell % self.columns) as f64);
            let (x, y) = (px(width * (column + 0.5)), px(height * (row + 0.5) + 4.0));
            let strong = match shade(value, full).abs() {
                16.. => " strong",
                12.. => " middling",
                _ => "",
            };
            let text = rounded(value, self.digits).replace('-', "\u{2212}");
            let _ = write!(out, "<text class=\"mid{strong}\" x=\"{x}\" y=\"{y}\">{text}</text>");
        }
    }
}

/// -20 to 20; what is not 0 is at least the first shade
fn shade(value: f64, full: f64) -> i32 {
    if value == 0.0 || full == 0.0 {
        return 0;
    }
    let shade = (value.abs() / full * SHADES).round().clamp(1.0, SHADES) as i32;
    if value < 0.0 { -shade } else { shade }
}
