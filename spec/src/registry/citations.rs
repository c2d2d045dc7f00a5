//! Where a text cites clauses.

use super::Group;

/// A place in a text that names a clause, which may or may not exist.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Citation {
    /// The label as cited, in capitals, such as MEM-4; [`crate::clause`] says whether there is such a clause.
    pub label: String,
    /// The line, from 1.
    pub line: usize,
}

/// Every citation of a clause in a text, in its order.
///
/// A citation is a label of a known group, `MEM-4` or `[MEM-4]`, as a word of its own, or a function named after one:
/// `fn mem_4_counts_masked_tokens`. What looks like a label of no known group (UTF-8) is not one.
///
/// ```
/// let cited = fwpkm_spec::registry::cited_labels("// see MEM-4\nfn sel_2_orders_pairs() {}");
/// assert_eq!((cited[0].label.as_str(), cited[0].line), ("MEM-4", 1));
/// assert_eq!((cited[1].label.as_str(), cited[1].line), ("SEL-2", 2));
/// ```
pub fn cited_labels(text: &str) -> Vec<Citation> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let words = line.split(|letter: char| !(letter.is_alphanumeric() || letter == '_' || letter == '-'));
        let mut previous = "";
        for word in words.filter(|word| !word.is_empty()) {
            let named = if previous == "fn" { function_label(word) } else { None };
            let labels = named.into_iter().chain(hyphenated_labels(word));
            found.extend(labels.map(|label| Citation { label, line: index + 1 }));
            previous = word;
        }
    }
    found
}

/// The labels within a word: `MEM-4`, also in `MEM-4-MEM-6`.
fn hyphenated_labels(word: &str) -> impl Iterator<Item = String> {
    let pairs = word.split('-').zip(word.split('-').skip(1));
    pairs
        .filter(|(code, number)| Group::of_code(code).is_some() && is_number(number))
        .map(|(code, number)| format!("{code}-{number}"))
}

/// The label a function's name starts with: `mem_4_counts_masked_tokens`.
fn function_label(name: &str) -> Option<String> {
    let mut words = name.split('_');
    let (code, number) = (words.next()?, words.next()?);
    let capitals = code.to_ascii_uppercase();
    let named = capitals != code && Group::of_code(&capitals).is_some() && is_number(number);
    named.then(|| format!("{capitals}-{number}"))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cited(text: &str) -> Vec<(String, usize)> {
        cited_labels(text).into_iter().map(|citation| (citation.label, citation.line)).collect()
    }

    #[test]
    fn labels_are_found_bare_bracketed_and_in_test_names_with_their_lines() {
        let text =
            "/// Sum of slots. [RD-3]\n\n(MEM-4, MEM-12; ADR-1/ADR-2) STR-5's\n    fn str_2_drop() {}\nfn mem_4() {}";
        let expected = [
            ("RD-3", 1),
            ("MEM-4", 3),
            ("MEM-12", 3),
            ("ADR-1", 3),
            ("ADR-2", 3),
            ("STR-5", 3),
            ("STR-2", 4),
            ("MEM-4", 5),
        ];
        assert_eq!(cited(text), expected.map(|(label, line)| (label.to_owned(), line)));
    }

    #[test]
    fn what_only_resembles_a_label_is_not_cited() {
        let text = "UTF-8 GRD-x MEM-4th mem-4 XMEM-4 MEM_4 MEM- 4 SHA-256 let mem_4_x = 1; fn memory_4() fn members() fn xyz_1_a()";
        assert_eq!(cited(text), []);
    }

    #[test]
    fn a_cited_label_that_no_clause_can_have_is_still_reported() {
        assert_eq!(cited("MEM-0 and MEM-04"), [("MEM-0".to_owned(), 1), ("MEM-04".to_owned(), 1)]);
    }
}
