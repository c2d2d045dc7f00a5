//! A page that shows a small run step by step, for people who learn the algorithm by watching it.
//!
//! One self-contained HTML document: no network, styles and script inside, drawings as inline SVG. It shows every token and
//! every step; a script chooses which are seen, without it the first are. Every number that is drawn stands, rounded to
//! four digits, in a `data-values` attribute as well, under a `data-name`, inside the `data-view` it belongs to: `t5b0h1`
//! is head 1 of token 5 of sequence 0, `t5b0` the token, `s2` a step, `s2h1` a head of it.

mod bars;
mod chart;
mod course;
mod example;
mod grid;
mod heat;
mod html;
pub mod limits;
mod moves;
mod plane;
mod record;
mod step;
mod token;
mod words;

use std::fmt::Write;

pub use example::example;
pub use html::{escape, number};
pub use record::{Record, Slice, Taken, Text};

use crate::error::Result;

const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/script.js");

/// The page of a run.
///
/// # Errors   `Error::Usage` for a page too large to be loaded
pub fn page(record: &Record) -> Result<String> {
    let name = escape(&record.name);
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>FwPKM step by step: {name}</title>\n<style>\n{STYLE}</style>\n</head>\n"
    );
    let steps_of: Vec<String> = (0..record.tokens())
        .map(|token| record.step_of(token).map_or_else(|| "-".into(), |step| step.to_string()))
        .collect();
    let _ = writeln!(
        out,
        "<body data-tokens=\"{}\" data-sequences=\"{}\" data-heads=\"{}\" data-steps=\"{}\" data-steps-of=\"{}\">",
        record.tokens(),
        record.sequences(),
        record.settings.heads,
        record.steps.len(),
        steps_of.join(" ")
    );
    introduction(&mut out, record);
    out.push_str("<section class=\"panels\">");
    course::panels(&mut out, record)?;
    out.push_str("</section>");
    controls(&mut out, record);
    out.push_str("<h2>A token reads · <span data-says=\"token\">token 0</span></h2><section class=\"panels\">");
    token::panels(&mut out, record)?;
    out.push_str("</section>");
    if !record.steps.is_empty() {
        out.push_str("<h2>A step writes · <span data-says=\"step\">step 0</span></h2><section class=\"panels\">");
        step::panels(&mut out, record)?;
        out.push_str("</section>");
    }
    let _ = write!(out, "</main>\n<div id=\"tip\" hidden></div>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n");
    limits::check_page(&out)?;
    Ok(out)
}

fn introduction(out: &mut String, record: &Record) {
    let _ = write!(
        out,
        "<main>\n<h1>FwPKM, step by step</h1>\n<p class=\"name\">{}</p>\n<p class=\"origin\">",
        escape(&record.name)
    );
    if let Some(source) = &record.source {
        let _ = write!(out, "{}. ", escape(source));
    }
    let _ = write!(
        out,
        "Specification {}, computed in f64; numbers are rounded to four digits, all indices start at 0.</p>\n\
         <noscript><p class=\"origin\">Without JavaScript this page shows token 0 and step 0.</p></noscript>\n<ul>",
        fwpkm_spec::version()
    );
    words::sentences(out, record);
    out.push_str("</ul>\n<details><summary>All settings and rules</summary><div class=\"row\">");
    words::tables(out, record);
    out.push_str("</div></details>\n");
}

/// Buttons and sliders; hidden until the script has given them a meaning.
fn controls(out: &mut String, record: &Record) {
    out.push_str("<form class=\"controls\" hidden>");
    slider(out, "token", record.tokens(), "← →");
    if !record.steps.is_empty() {
        slider(out, "step", record.steps.len(), "Shift + ← →");
    }
    for (name, count) in [("sequence", record.sequences()), ("head", record.settings.heads)] {
        if count > 1 {
            let _ = write!(out, "<label>{name} <select name=\"{name}\">");
            (0..count).for_each(|index| {
                let _ = write!(out, "<option>{index}</option>");
            });
            out.push_str("</select></label>");
        }
    }
    out.push_str("<button type=\"button\" data-play>Play</button></form>");
}

fn slider(out: &mut String, name: &str, count: usize, keys: &str) {
    let last = count - 1;
    let _ = write!(
        out,
        "<div class=\"slider\" title=\"{keys}\"><button type=\"button\" data-move=\"{name} -1\" aria-label=\"previous {name}\">◀</button>\
         <label>{name} <output>0</output> of {count} <input type=\"range\" name=\"{name}\" min=\"0\" max=\"{last}\" \
         value=\"0\"></label>\
         <button type=\"button\" data-move=\"{name} 1\" aria-label=\"next {name}\">▶</button></div>"
    );
}
