//! The parser on small texts, and the specification itself.

use super::*;

/// A clause whose parts hold their own names, with an example.
fn clause_text(label: &str) -> String {
    let parts = PARTS
        .map(|part| {
            format!(
                "**{part}** the {} of {label}

",
                part.to_lowercase()
            )
        })
        .concat();
    format!("### {label} About {label}\n\n{parts}```toml\nlabel = \"{label}\"\n```\n\n")
}

fn spec_text(clauses: &[&str]) -> String {
    let mut text = "# The layer\n\nVersion: 1.0.0\n\n## Choices\n\n### Notation\n\nFree.\n\n".to_owned();
    let mut group = "";
    for label in clauses {
        let code = label.split('-').next().unwrap();
        if code != group {
            text += &["## Stage of ", code, " (", code, ")\n\nAbout the group.\n\n"].concat();
            group = code;
        }
        text += &clause_text(label);
    }
    text
}

fn labels(registry: &Registry) -> Vec<String> {
    registry.clauses().iter().map(|clause| clause.label.to_string()).collect()
}

#[test]
fn clauses_are_read_with_title_parts_example_and_line() {
    let text = spec_text(&["MEM-1", "MEM-3", "RD-1"]) + "## Appendix\n\n### Sources\n\n**Inputs** none\n";
    let registry = Registry::parse(&text).unwrap();
    assert_eq!(labels(&registry), ["MEM-1", "MEM-3", "RD-1"]);
    let clause = registry.clause("mem-3").unwrap();
    assert_eq!(clause.title, "About MEM-3");
    assert_eq!(clause.part("Inputs"), Some("the inputs of MEM-3"));
    assert_eq!(clause.part("ruling"), Some("the ruling of MEM-3"));
    assert_eq!(clause.part("Example"), Some("the example of MEM-3\n\n```toml\nlabel = \"MEM-3\"\n```"));
    assert_eq!(clause.part("Note"), None);
    assert_eq!(clause.example(), Some("label = \"MEM-3\"\n"));
    assert!(clause.body.starts_with("**Inputs**") && clause.body.ends_with("```"), "{:?}", clause.body);
    assert_eq!(text.lines().nth(clause.line - 1), Some("### MEM-3 About MEM-3"));
    let sections: Vec<_> =
        registry.groups().iter().map(|section| (section.group.code(), section.title.as_str())).collect();
    assert_eq!(sections, [("MEM", "Stage of MEM"), ("RD", "Stage of RD")]);
}

#[test]
fn the_last_clause_ends_before_a_heading_that_is_no_clause() {
    let text = spec_text(&["MEM-1"]) + "### Remarks\n\nMEM-1 is short.\n";
    assert!(Registry::parse(&text).unwrap().clauses()[0].body.ends_with("```"));
}

#[test]
fn a_sub_heading_stays_in_its_clause() {
    let text = spec_text(&["MEM-1"]) + "#### Proof\n\nObvious.\n";
    assert!(Registry::parse(&text).unwrap().clauses()[0].body.ends_with("Obvious."));
}

#[test]
fn a_fenced_block_holds_no_headings_parts_or_other_blocks() {
    let block = "````text\n## Other (XYZ)\n### MEM-1 Again\n**Inputs** again\n```toml\nwrong = 1\n```\n````\n";
    let text = spec_text(&["MEM-1"]).replace("```toml", &format!("{block}~~~\n```toml\n~~~\n\n```toml"));
    let registry = Registry::parse(&text).unwrap();
    assert_eq!(labels(&registry), ["MEM-1"]);
    assert_eq!(registry.clauses()[0].example(), Some("label = \"MEM-1\"\n"));
}

#[test]
fn several_examples_are_read_in_order() {
    let text = spec_text(&["MEM-1"]) + "And:\n\n```toml\nmore = 1\n```\n\n```text\nno = 1\n```\n";
    let registry = Registry::parse(&text).unwrap();
    assert_eq!(registry.clauses()[0].examples().collect::<Vec<_>>(), ["label = \"MEM-1\"\n", "more = 1\n"]);
}

#[test]
fn windows_line_ends_change_nothing_but_the_text() {
    let registry = Registry::parse(&spec_text(&["MEM-1", "MEM-2"]).replace('\n', "\r\n")).unwrap();
    assert_eq!(labels(&registry), ["MEM-1", "MEM-2"]);
    assert_eq!(registry.clauses()[1].part("Source"), Some("the source of MEM-2"));
    assert_eq!(registry.clauses()[1].example(), Some("label = \"MEM-2\"\r\n"));
}

#[test]
fn a_text_without_clauses_has_none() {
    assert_eq!(Registry::parse(""), Ok(Registry::default()));
}

#[test]
fn a_label_twice_is_refused_with_both_lines() {
    let error = Registry::parse(&spec_text(&["MEM-1", "MEM-1"])).unwrap_err();
    assert!(matches!(error, Error::DuplicateLabel { line, first_line, .. } if line > first_line), "{error}");
}

#[test]
fn every_part_is_required_and_may_not_be_empty() {
    for part in PARTS {
        let lead = format!("**{part}**");
        let without = spec_text(&["MEM-1"]).replace(&lead, "**Aside**");
        let error = Registry::parse(&without).unwrap_err();
        assert!(matches!(error, Error::MissingPart { expected, .. } if expected == part), "{error}");
    }
    let empty = spec_text(&["MEM-1"]).replace(" the ruling of MEM-1", "");
    let error = Registry::parse(&empty).unwrap_err();
    assert!(matches!(error, Error::MissingPart { expected: "Ruling", .. }), "{error}");
    assert!(error.to_string().contains("found Inputs, Semantics, Constraints, Source, Example"), "{error}");
}

#[test]
fn a_part_twice_is_refused() {
    let twice = spec_text(&["MEM-1"]).replace("**Ruling**", "**Inputs** more\n\n**Ruling**");
    let error = Registry::parse(&twice).unwrap_err();
    assert!(matches!(error, Error::RepeatedPart { part: "Inputs", .. }), "{error}");
}

#[test]
fn a_clause_outside_its_groups_section_is_refused() {
    for place in ["(RD)", "of nothing"] {
        let text = spec_text(&["MEM-1"]).replace("(MEM)", place);
        let error = Registry::parse(&text).unwrap_err();
        assert!(matches!(error, Error::MisplacedClause { .. }), "{error}");
        assert!(error.to_string().contains(place), "{error}");
    }
    let before = clause_text("MEM-1");
    assert!(Registry::parse(&before).unwrap_err().to_string().contains("no section"), "{before}");
}

#[test]
fn numbers_must_ascend_within_a_group() {
    let error = Registry::parse(&spec_text(&["MEM-3", "MEM-2"])).unwrap_err();
    assert_eq!(error.to_string(), "specification, line 33: expected a number above MEM-3, found MEM-2");
    assert!(Registry::parse(&spec_text(&["MEM-9", "MEM-10", "ADR-1"])).is_ok());
}

#[test]
fn a_heading_that_is_nearly_a_label_is_refused() {
    for heading in ["MEM-1: Pairs", "MEM-0 Pairs", "MEM-01 Pairs", "MEM-1", "MEN-1 Pairs"] {
        let text = spec_text(&["MEM-1"]).replace("### MEM-1 About MEM-1", &format!("### {heading}"));
        let error = Registry::parse(&text).unwrap_err();
        assert!(matches!(error, Error::BadLabel { line: 15, .. }), "{heading}: {error}");
    }
}

#[test]
fn an_unknown_or_repeated_group_is_refused() {
    for code in ["MEN", "RD"] {
        let text = spec_text(&["RD-1", "MEM-1"]).replace("(MEM)", &format!("({code})"));
        let error = Registry::parse(&text).unwrap_err();
        assert!(matches!(error, Error::BadGroup { .. }), "{error}");
    }
}

#[test]
fn an_unknown_label_is_answered_with_the_nearest() {
    let registry = Registry::parse(&spec_text(&["MEM-1", "MEM-2", "ADR-1", "NUM-1", "NUM-2"])).unwrap();
    for (asked, nearest) in [
        ("MEM-7", "MEM-1, MEM-2"),
        ("mem", "MEM-1, MEM-2"),
        ("men-1", "MEM-1, MEM-2"),
        ("XYZ-1", "MEM-1 to MEM-2, ADR-1, NUM-1 to NUM-2"),
        ("", "MEM-1 to MEM-2, ADR-1, NUM-1 to NUM-2"),
    ] {
        let error = registry.clause(asked).unwrap_err();
        assert_eq!(error, Error::UnknownClause { found: asked.to_owned(), expected: nearest.to_owned() });
    }
}

#[test]
fn the_specification_is_well_formed_and_every_clause_has_an_example() {
    let registry = registry().unwrap_or_else(|error| panic!("{error}"));
    assert!(!registry.clauses().is_empty(), "SPEC.md has no clauses");
    for clause in clauses() {
        for part in PARTS {
            assert!(clause.part(part).is_some_and(|text| !text.is_empty()), "{} has no {part}", clause.label);
        }
        let mut examples = clause.examples().peekable();
        assert!(examples.peek().is_some(), "{} has no toml example", clause.label);
        assert!(examples.all(|example| !example.trim().is_empty()), "{} has an empty example", clause.label);
        assert_eq!(super::clause(&clause.label.to_string()), Ok(clause));
    }
}

#[test]
fn the_specification_has_its_groups_in_order_each_with_clauses() {
    assert!(
        groups().is_sorted_by_key(|section| section.group),
        "the sections of SPEC.md are not in the order {}",
        Group::codes()
    );
    for section in groups() {
        let has_clauses = clauses().iter().any(|clause| clause.label.group() == section.group);
        assert!(has_clauses, "the section of {} has no clause", section.group);
    }
}

#[test]
fn the_specification_cites_no_clause_it_lacks() {
    for citation in cited_labels(crate::TEXT) {
        assert!(clause(&citation.label).is_ok(), "SPEC.md line {}: no clause {}", citation.line, citation.label);
    }
}
