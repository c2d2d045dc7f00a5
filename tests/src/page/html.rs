//! Text, numbers and panels as HTML.

use std::fmt::Write;

use crate::error::Result;

/// Text in which no character means anything to HTML, in an element or in a quoted attribute.
///
/// ```
/// assert_eq!(fwpkm::page::escape("<b a='1'>&\""), "&lt;b a=&#39;1&#39;&gt;&amp;&quot;");
/// ```
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

/// A number of four significant digits, as short as it can be written.
///
/// ```
/// use fwpkm::page::number;
/// assert_eq!([number(0.0), number(-1.5), number(2.0 / 3.0), number(1e-7)], ["0", "-1.5", "0.6667", "1e-7"]);
/// ```
pub fn number(x: f64) -> String {
    rounded(x, 4)
}

/// A number of `digits` significant digits
pub(crate) fn rounded(x: f64, digits: usize) -> String {
    let rounded: f64 = format!("{x:.*e}", digits - 1).parse().unwrap_or(x);
    match rounded.abs() {
        0.0 => "0".into(),
        1e-3..1e6 => rounded.to_string(),
        _ => format!("{rounded:e}"),
    }
}

/// The same to be read: with a minus sign instead of a hyphen
pub(crate) fn shown(x: f64) -> String {
    number(x).replace('-', "\u{2212}")
}

/// Numbers as the value of a data attribute
pub(crate) fn numbers(all: impl IntoIterator<Item = f64>) -> String {
    let all: Vec<String> = all.into_iter().map(number).collect();
    all.join(" ")
}

/// A vector to be read: (1, 2, 3)
pub(crate) fn vector(all: impl IntoIterator<Item = f64>) -> String {
    let all: Vec<String> = all.into_iter().map(shown).collect();
    format!("({})", all.join(", "))
}

/// A coordinate of a drawing, to a tenth
pub(crate) fn px(x: f64) -> f64 {
    (x * 10.0).round() / 10.0
}

/// The largest magnitude; 0 without numbers
pub(crate) fn largest<'a>(all: impl IntoIterator<Item = &'a f64>) -> f64 {
    all.into_iter().fold(0.0, |largest, x| largest.max(x.abs()))
}

/// A figure under its caption.
pub(crate) fn figure(out: &mut String, caption: &str, content: impl FnOnce(&mut String)) {
    let _ = write!(out, "<figure><figcaption>{caption}</figcaption>");
    content(out);
    out.push_str("</figure>");
}

/// One panel: clauses with their equations, words, and its views, of which one is seen at a time.
pub(crate) struct Panel<'a> {
    /// Labels, each with its equation in one line.
    pub(crate) clauses: &'a [(&'a str, &'a str)],
    /// What to look for.
    pub(crate) words: &'a str,
    /// Whether it takes the whole width of the page.
    pub(crate) wide: bool,
}

impl Panel<'_> {
    /// Writes the panel; `views` writes what stands below the words.
    ///
    /// # Errors   a label that no clause has
    pub(crate) fn write(&self, out: &mut String, views: impl FnOnce(&mut String)) -> Result<()> {
        let _ = write!(out, "\n<section class=\"panel{}\">", if self.wide { " wide" } else { "" });
        for (label, equation) in self.clauses {
            let title = escape(&fwpkm_spec::clause(label)?.title);
            let _ = write!(out, "<header><h3><b>{label}</b> {title}</h3><p class=\"equation\">{equation}</p></header>");
        }
        let _ = writeln!(out, "<p class=\"words\">{}</p>", self.words);
        views(out);
        out.push_str("<details><summary>The clause in full</summary>");
        for (label, _) in self.clauses {
            let clause = fwpkm_spec::clause(label)?;
            let _ = write!(out, "<h4>{label} {}</h4>", escape(&clause.title));
            clause_text(out, clause.part("Semantics").unwrap_or_default());
        }
        out.push_str("</details></section>");
        Ok(())
    }
}

/// Text of the specification: indented lines and tables as they stand, the rest as paragraphs, each item of a list as one.
fn clause_text(out: &mut String, text: &str) {
    let mut open = "";
    for line in text.lines() {
        let verbatim = line.starts_with("    ") || line.starts_with('|');
        let item =
            line.starts_with("- ") || line.split_once(". ").is_some_and(|(number, _)| number.parse::<u8>().is_ok());
        let wanted = match line.trim() {
            "" => "",
            _ if verbatim => "pre",
            _ => "p",
        };
        if wanted != open || item {
            close(out, open);
            if !wanted.is_empty() {
                let _ = write!(out, "<{wanted}>");
            }
            open = wanted;
        }
        let _ = writeln!(out, "{}", escape(if verbatim { line } else { line.trim() }).replace('`', ""));
    }
    close(out, open);
}

fn close(out: &mut String, element: &str) {
    if !element.is_empty() {
        let _ = write!(out, "</{element}>");
    }
}

/// One view of a panel. The first of its kind is seen until the script shows another.
pub(crate) fn view(out: &mut String, key: &str, first: bool, content: impl FnOnce(&mut String)) {
    let on = if first { " on" } else { "" };
    let _ = write!(out, "<div class=\"view{on}\" data-view=\"{key}\">");
    content(out);
    out.push_str("</div>\n");
}
