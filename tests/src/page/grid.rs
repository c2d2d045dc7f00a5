//! The candidates of a head: k × k sums, and where they lie among the n × n slots.

use std::fmt::Write;

use ndarray::s;

use super::html::{numbers, px, shown};
use super::token::Place;

/// The k × k candidate pairs, ranks of half 0 downwards, of half 1 to the right.
pub(crate) fn candidates(out: &mut String, place: &Place) {
    let selected = &place.reading().selected;
    let of_half = |half: usize| selected.half_scores.slice(s![place.row, place.head, half, ..]);
    let (first, second) = (of_half(0), of_half(1));
    let ranks = selected.ranks.slice(s![place.row, place.head, .., ..]);
    let k = first.len();
    let wide = px((424.0 / k as f64).clamp(50.0, 96.0));
    let (tall, left, top) = (if k > 4 { 34.0 } else { 56.0 }, 98.0, 36.0);
    let (width, height) = (left + wide * k as f64 + 1.0, top + tall * k as f64 + 1.0);
    let sums = first.iter().flat_map(|a| second.iter().map(move |b| a + b));
    let _ = write!(
        out,
        "<svg class=\"candidates\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
         aria-label=\"Sums of all candidate pairs\" data-name=\"sums\" data-values=\"{}\">",
        numbers(sums)
    );
    for (rank, (sub_key, score)) in place.chosen(1).iter().zip(second).enumerate() {
        let x = left + wide * (rank as f64 + 0.5);
        let _ = write!(out, "<text class=\"mid head\" x=\"{x}\" y=\"13\">K{sub_key}</text>");
        let _ = write!(out, "<text class=\"mid\" x=\"{x}\" y=\"28\">{}</text>", shown(*score));
    }
    for (rank, (sub_key, score)) in place.chosen(0).iter().zip(first).enumerate() {
        let y = top + tall * (rank as f64 + 0.5) + 4.0;
        let _ = write!(out, "<text class=\"end head\" x=\"38\" y=\"{y}\">K{sub_key}</text>");
        let _ = write!(out, "<text class=\"end\" x=\"{}\" y=\"{y}\">{}</text>", left - 6.0, shown(*score));
    }
    for (a, b) in (0..k).flat_map(|a| (0..k).map(move |b| (a, b))) {
        let won = ranks.rows().into_iter().position(|pair| (pair[0], pair[1]) == (a, b));
        let class = match won {
            Some(_) => "won",
            None if (a + 1) * (b + 1) <= k => "lost",
            None => "never",
        };
        let (x, y) = (left + wide * b as f64, top + tall * a as f64);
        let (middle, base) = (x + wide / 2.0, y + tall / 2.0 + 4.0);
        let _ = write!(
            out,
            "<g class=\"{class}\"><rect x=\"{x}\" y=\"{y}\" width=\"{wide}\" height=\"{tall}\"/>\
             <text class=\"mid\" x=\"{middle}\" y=\"{base}\">{}</text>",
            shown(first[a] + second[b])
        );
        if let Some(number) = won {
            let _ = write!(out, "<text class=\"small\" x=\"{}\" y=\"{}\">{number}</text>", x + 3.0, y + 10.0);
        } else if class == "never" {
            let _ = write!(out, "<path d=\"M{x} {}L{} {y}\"/>", y + tall, x + wide);
        }
        out.push_str("</g>");
    }
    out.push_str("</svg>");
}

/// Rows and columns of the table that were chosen, and the slots that won.
pub(crate) fn chosen_slots(out: &mut String, place: &Place) {
    let n = place.record.settings.sub_keys;
    let slots = place.reading().selected.slots.slice(s![place.row, place.head, ..]);
    let (size, left, top) = (288.0, 26.0, 18.0);
    let cell = size / n as f64;
    let (width, height) = (left + size + 1.0, top + size + 1.0);
    let _ = write!(
        out,
        "<svg class=\"map\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
         aria-label=\"Chosen rows, columns and slots of the table\" data-name=\"slots\" data-values=\"{}\">",
        numbers(slots.iter().map(|&slot| slot as f64))
    );
    for (half, class) in [(0, "end"), (1, "mid")] {
        let mut chosen = place.chosen(half);
        chosen.sort_unstable();
        let mut last = f64::NEG_INFINITY;
        for index in chosen {
            let middle = cell * (index as f64 + 0.5);
            // Names of neighbours in a large table would lie over each other.
            if middle - last < [11.0, 18.0][half] {
                continue;
            }
            last = middle;
            let (x, y) = if half == 0 { (left - 5.0, px(top + middle + 4.0)) } else { (px(left + middle), 13.0) };
            let _ = write!(out, "<text class=\"{class} head\" x=\"{x}\" y=\"{y}\">{index}</text>");
        }
    }
    let _ = write!(
        out,
        "<g transform=\"translate({left} {top})\"><rect class=\"ground\" width=\"{size}\" height=\"{size}\"/>\
         <g transform=\"scale({cell})\">"
    );
    for index in place.chosen(0) {
        let _ = write!(out, "<path class=\"band\" d=\"M0 {index}h{n}v1h-{n}z\"/>");
    }
    for index in place.chosen(1) {
        let _ = write!(out, "<path class=\"band\" d=\"M{index} 0v{n}h1v-{n}z\"/>");
    }
    for slot in slots {
        let _ = write!(out, "<path class=\"won\" d=\"M{} {}h1v1h-1z\"/>", slot % n, slot / n);
    }
    out.push_str("</g>");
    for (number, slot) in slots.iter().enumerate().filter(|_| cell >= 13.0) {
        let (x, y) = (px(cell * ((slot % n) as f64 + 0.5)), px(cell * ((slot / n) as f64 + 0.5) + 4.0));
        let _ = write!(out, "<text class=\"mid strong\" x=\"{x}\" y=\"{y}\">{number}</text>");
    }
    out.push_str("</g></svg><p class=\"caption\">");
    for (number, slot) in slots.iter().enumerate() {
        let comma = if number > 0 { ", " } else { "" };
        let _ = write!(out, "{comma}{} · {n} + {} = <b>{slot}</b>", slot / n, slot % n);
    }
    out.push_str("</p>");
}
