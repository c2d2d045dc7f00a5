//! Charts with axes: lines over the steps, columns over the tokens of a step.

use std::fmt::Write;

use super::html::{escape, numbers, px, rounded, shown};

/// One line of a chart.
pub(crate) struct Line<'a> {
    /// In the legend.
    pub(crate) name: String,
    /// Name of its data.
    pub(crate) data: &'a str,
    /// A value per step; none where there is nothing to show.
    pub(crate) values: Vec<Option<f64>>,
}

/// Room around the plotted area.
const LEFT: f64 = 46.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 34.0;

/// The area of a chart and its scales.
struct Frame {
    width: f64,
    height: f64,
    places: usize,
    axis: Axis,
}

/// An axis of numbers: its ends and the distance of its ticks.
struct Axis {
    low: f64,
    high: f64,
    step: f64,
}

impl Frame {
    /// The middle of a place
    fn x(&self, place: usize) -> f64 {
        px(LEFT + (place as f64 + 0.5) * (self.width - LEFT) / self.places.max(1) as f64)
    }

    fn y(&self, value: f64) -> f64 {
        px(TOP + (self.height - TOP - BOTTOM) * (self.axis.high - value) / (self.axis.high - self.axis.low))
    }

    fn open(&self, out: &mut String, class: &str, label: &str, data: &str) {
        let (width, height) = (self.width, self.height);
        let _ = write!(
            out,
            "<svg class=\"chart {class}\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
             role=\"img\" aria-label=\"{}\"{data}>",
            escape(label)
        );
    }

    /// Both axes; `first` is the number of the first place.
    fn axes(&self, out: &mut String, first: usize, title: &str) {
        let Axis { low, high, step } = self.axis;
        let ticks = (0..=20).map(|tick| low + step * f64::from(tick));
        for tick in ticks.take_while(|&tick| tick <= high + step * 0.01) {
            let (y, text) = (self.y(tick), shown(tick));
            let _ = write!(out, "<path class=\"rule\" d=\"M{LEFT} {y}H{}\"/>", self.width);
            let _ = write!(out, "<text class=\"end\" x=\"{}\" y=\"{}\">{text}</text>", LEFT - 6.0, px(y + 4.0));
        }
        let every = (self.places / 16 + 1).next_power_of_two();
        for place in (0..self.places).filter(|place| (first + place).is_multiple_of(every)) {
            let (x, y) = (self.x(place), self.height - BOTTOM + 14.0);
            let _ = write!(out, "<text class=\"mid\" x=\"{x}\" y=\"{y}\">{}</text>", first + place);
        }
        let (x, y) = (px(LEFT.midpoint(self.width)), self.height - 4.0);
        let _ = write!(out, "<text class=\"mid title\" x=\"{x}\" y=\"{y}\">{title}</text>");
    }
}

/// Lines over the steps, with a mark at the step that is looked at; `from_zero` says whether the axis must begin there.
pub(crate) fn lines(out: &mut String, label: &str, lines: &[Line], reference: Option<(f64, &str)>, from_zero: bool) {
    let places = lines.iter().map(|line| line.values.len()).max().unwrap_or(0);
    let values = lines.iter().flat_map(|line| line.values.iter().flatten().copied());
    let axis = Axis::over(values.chain(reference.map(|(value, _)| value)), from_zero);
    let frame = Frame { width: 560.0, height: 230.0, places, axis };
    let unit = px((frame.width - LEFT) / places.max(1) as f64);
    frame.open(out, "lines", label, &format!(" data-places=\"{LEFT} {unit}\""));
    let (first, bottom) = (frame.x(0), frame.height - BOTTOM);
    let _ = write!(out, "<path class=\"now\" d=\"M{first} {TOP}V{bottom}\"/>");
    frame.axes(out, 0, "step");
    if let Some((value, name)) = reference {
        let y = frame.y(value);
        let _ = write!(out, "<path class=\"reference\" d=\"M{LEFT} {y}H{}\"/>", frame.width);
        let _ = write!(out, "<text class=\"end\" x=\"{}\" y=\"{}\">{name}</text>", frame.width - 2.0, px(y - 4.0));
    }
    for (number, line) in lines.iter().enumerate() {
        let stored = line.values.iter().map(|value| value.unwrap_or(f64::NAN));
        let _ =
            write!(out, "<g class=\"line{number}\" data-name=\"{}\" data-values=\"{}\">", line.data, numbers(stored));
        let mut path = String::new();
        let mut gap = true;
        for (place, value) in line.values.iter().enumerate() {
            if let Some(value) = *value {
                let (x, y) = (frame.x(place), frame.y(value));
                let _ = write!(path, "{}{x} {y}", if gap { "M" } else { "L" });
                if places <= 64 {
                    let _ = write!(out, "<circle cx=\"{x}\" cy=\"{y}\" r=\"3.5\"/>");
                }
            }
            gap = value.is_none();
        }
        let _ = write!(out, "<path d=\"{path}\"/></g>");
    }
    out.push_str("</svg>");
    if lines.len() > 1 {
        out.push_str("<p class=\"legend\">");
        for (number, line) in lines.iter().enumerate() {
            let _ = write!(out, "<span class=\"line{number}\">{}</span> ", escape(&line.name));
        }
        out.push_str("</p>");
    }
}

/// Columns over consecutive tokens from `first` on; `marks` stand where there is no number, or beside a 0. The axis reaches
/// over all of `range`.
pub(crate) fn columns(
    out: &mut String,
    name: &str,
    label: &str,
    first: usize,
    values: &[Option<f64>],
    marks: &[&str],
    range: impl IntoIterator<Item = f64>,
) {
    let frame = Frame { width: 560.0, height: 190.0, places: values.len(), axis: Axis::over(range, true) };
    let stored = numbers(values.iter().map(|value| value.unwrap_or(f64::NAN)));
    frame.open(out, "columns", label, &format!(" data-name=\"{name}\" data-values=\"{stored}\""));
    frame.axes(out, first, "token");
    let room = (frame.width - LEFT) / values.len().max(1) as f64;
    let width = px((room * 0.7).clamp(1.0, 44.0));
    let zero = frame.y(0.0);
    for (place, value) in values.iter().enumerate() {
        let (x, end) = (frame.x(place), frame.y(value.unwrap_or(0.0)));
        let (left, top, tall) = (px(x - width / 2.0), zero.min(end), px((zero - end).abs()));
        let _ = write!(out, "<rect x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{tall}\"/>");
        let mark = marks.get(place).copied().unwrap_or_default();
        let text = match value {
            _ if !mark.is_empty() => mark.to_string(),
            Some(value) if room >= 34.0 => rounded(*value, 3),
            _ => String::new(),
        };
        if !text.is_empty() {
            let _ = write!(out, "<text class=\"mid\" x=\"{x}\" y=\"{}\">{text}</text>", px(top - 4.0));
        }
    }
    out.push_str("</svg>");
}

impl Axis {
    /// An axis over all values. It begins at 0, unless 0 lies far from all of them and need not be seen.
    fn over(values: impl IntoIterator<Item = f64>, from_zero: bool) -> Self {
        let (low, high) = values
            .into_iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        let far = !from_zero && low > 0.6 * high && high - low > 1e-6 * high;
        let (low, high) = if far { (low, high) } else { (low.min(0.0), high.max(0.0)) };
        let step = round_step((high - low) / 4.0);
        let low = (low / step).floor() * step;
        Self { low, high: ((high / step).ceil() * step).max(low + step), step }
    }
}

/// 1, 2 or 5 times a power of ten, not less than `x`
fn round_step(x: f64) -> f64 {
    if x <= 0.0 || !x.is_finite() {
        return 1.0;
    }
    let power = 10f64.powf(x.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|&step| step >= x * 0.999).unwrap_or(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_holds_its_values_and_begins_at_zero_unless_that_is_far() {
        let ends = |values: &[f64], from_zero| {
            let Axis { low, high, step } = Axis::over(values.iter().copied(), from_zero);
            assert!(step > 0.0 && high > low && values.iter().all(|value| (low..=high).contains(value)), "{values:?}");
            (low, high)
        };
        assert_eq!(ends(&[], true), (0.0, 1.0));
        assert_eq!(ends(&[0.0, 0.0], false), (0.0, 1.0));
        assert_eq!(ends(&[3.0, 3.5], true), (0.0, 4.0));
        assert_eq!(ends(&[3.0, 3.5], false), (3.0, 3.6));
        assert_eq!(ends(&[1.0, 3.5], false), (0.0, 4.0));
        assert_eq!(ends(&[2.0, 2.0], false), (0.0, 2.0));
        assert_eq!(ends(&[-1.0, 1.0], true), (-1.0, 1.0));
    }

    /// Gates, and with them losses, may be negative.
    #[test]
    fn columns_below_zero_hang_down() {
        let mut out = String::new();
        columns(&mut out, "x", "x", 0, &[Some(1.0), Some(-1.0), None], &["", "", "-"], [1.0, -1.0]);
        let heights: Vec<&str> = out.split("height=\"").skip(2).map(|rest| rest.split('"').next().unwrap()).collect();
        assert_eq!(heights, ["72", "72", "0"]);
    }
}
