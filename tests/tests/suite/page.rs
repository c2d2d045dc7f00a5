//! The page of `fwpkm trace`: that it shows what the interpreter computed, and needs nothing else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fwpkm::inputs::Inputs;
use fwpkm::page::{Record, example, page};
use fwpkm::run::{Plan, run};
use fwpkm_reference::chunk::{Stages, read};
use fwpkm_reference::{Rules, Settings};
use fwpkm_spec::{Case, CaseFile, case_paths, clause};
use ndarray::{ArrayD, s};

mod files;
mod numbers;

/// One head; several; several sequences; a mask; a stream in calls; a layer; the other score.
const CASES: [&str; 7] = ["base", "heads2", "batch3", "mask", "stream_ragged", "layer_base", "dot_product"];

fn release() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors/release")
}

fn case(name: &str) -> CaseFile {
    CaseFile::open(release().join(format!("{name}.safetensors"))).unwrap()
}

fn record(name: &str) -> Record {
    Record::of_case(&case(name), None).unwrap()
}

#[test]
fn every_panel_is_headed_by_its_clause() {
    let common = "CHK-1 MEM-2 ADR-3 SEL-1 SEL-2 SEL-3 SEL-4 RD-3 MEM-1 CHK-2 MEM-3 MEM-4 MEM-5 ADR-2 ADR-5 ADR-6";
    let own = |name: &str| match name {
        "stream_ragged" => "SCR-1 RD-1 STR-5",
        "layer_base" => "SCR-1 RD-1 STR-2 OUT-1",
        "dot_product" => "SCR-2 RD-1 STR-2",
        "silu" => "SCR-1 RD-2 STR-2",
        "relu" => "SCR-2 RD-2 STR-2",
        "mem_grad_to_keys" => "SCR-1 RD-1 STR-2 MEM-6",
        _ => "SCR-1 RD-1 STR-2",
    };
    for name in CASES.into_iter().chain(["silu", "relu", "mem_grad_to_keys"]) {
        let page = page(&record(name)).unwrap();
        for label in common.split(' ').chain(own(name).split(' ')) {
            let heading = format!("<h3><b>{label}</b> {}</h3>", clause(label).unwrap().title);
            assert!(page.contains(&heading), "{name}: no {heading}");
        }
        let panels = page.matches("<section class=\"panel").count() - page.matches("class=\"panels\"").count();
        assert_eq!(panels, page.matches("The clause in full").count(), "{name}");
    }
}

#[test]
fn a_page_needs_nothing_but_itself() {
    for path in case_paths(release()).unwrap() {
        let record = Record::of_case(&CaseFile::open(&path).unwrap(), None).unwrap();
        match page(&record) {
            Ok(page) => {
                for foreign in ["http", "src=", "href=", "url(", "@import", "<link", "import("] {
                    assert!(!page.contains(foreign), "{}: {foreign}", path.display());
                }
            }
            Err(error) => assert!(error.to_string().contains("size in bytes"), "{}: {error}", path.display()),
        }
    }
}

#[test]
fn the_page_of_base_is_under_a_megabyte() {
    assert!(page(&record("base")).unwrap().len() < 1_000_000);
}

/// Without a script the first of every kind of view is seen, and only it.
#[test]
fn every_token_and_step_has_its_views_and_the_first_are_seen() {
    for name in CASES {
        let record = record(name);
        let page = page(&record).unwrap();
        let (tokens, sequences, heads) = (record.tokens(), record.sequences(), record.settings.heads);
        let layer = usize::from(name == "layer_base");
        let of_tokens = tokens * sequences * (3 * heads + 1 + layer);
        let of_steps = record.steps.len() * (6 + heads);
        assert_eq!(page.matches("data-view=").count(), of_tokens + of_steps, "{name}");
        assert_eq!(page.matches("class=\"view on\" data-view=\"t0b0").count(), 4 + layer, "{name}");
        assert_eq!(page.matches("class=\"view on\" data-view=\"s0").count(), 7, "{name}");
        assert_eq!(page.matches("view on").count(), 11 + layer, "{name}");
    }
}

/// Every step's reading is that of its tokens with the tables before it, and so is every token's; the last tables are the
/// run's.
#[test]
fn tokens_and_tables_are_those_of_their_readings() {
    for path in case_paths(release()).unwrap() {
        let file = CaseFile::open(&path).unwrap();
        let record = Record::of_case(&file, None).unwrap();
        let stages = Stages::specification();
        let reads = |tokens: &std::ops::Range<usize>, tables: usize| {
            let queries = record.text.queries.slice(s![.., tokens.clone(), ..]).permuted_axes([1, 0, 2]).to_owned();
            read(&stages, &record.settings, &record.tables[tables], queries.view(), 0).unwrap().reads
        };
        for (number, step) in record.steps.iter().enumerate() {
            assert_eq!(step.reading.reads, reads(&step.tokens, number), "{}, step {number}", path.display());
        }
        for slice in &record.slices {
            assert_eq!(slice.reading.reads, reads(&slice.tokens, slice.tables), "{}", path.display());
        }
        assert_eq!(record.tables.len(), record.steps.len() + 1);
        let plan = Plan::of_case(&file.case, None).unwrap();
        let outputs = run::<f64>(&plan, &Inputs::of_case(&file).unwrap()).unwrap();
        let last = record.tables.last().unwrap();
        assert_eq!(outputs["out.slot_values"].data.to_f64(), last.slot_values.iter().copied().collect::<Vec<_>>());
        assert_eq!(outputs["out.sub_keys"].data.to_f64(), last.sub_keys.iter().copied().collect::<Vec<_>>());
    }
}

/// A pair beyond the chunk's border has no target; a masked one has, and says so.
#[test]
fn missing_targets_and_masks_are_named() {
    let mask = page(&record("mask")).unwrap();
    assert!(mask.contains("No target: token 8 is not in the chunk of step 0."));
    assert!(mask.contains(": it weighs 0 (masked)."));
    let stream = page(&record("stream_ragged")).unwrap();
    assert!(stream.contains("The run ends before a step takes this token."));
}

/// The example is there to show a memory that learns.
#[test]
fn the_loss_of_the_example_falls() {
    let losses: Vec<f64> =
        example(None).unwrap().steps.iter().map(|step| step.step.memorized.pair_losses.mean().unwrap()).collect();
    assert!(losses.is_sorted_by(|a, b| a > b), "{losses:?}");
}

/// One token, one sub-key, one feature; and a static memory, which has no steps.
#[test]
fn the_smallest_runs_have_pages() {
    let tensors = |shapes: &[(&str, &[usize])]| -> BTreeMap<String, ArrayD<f64>> {
        shapes.iter().map(|&(name, shape)| (name.to_string(), ArrayD::zeros(shape))).collect()
    };
    let all = tensors(&[
        ("queries", &[1, 1, 2]),
        ("values", &[1, 1, 1]),
        ("sub_keys", &[1, 2, 1, 1]),
        ("slot_values", &[1, 1]),
    ]);
    for (writes, lookahead) in [(true, 0), (true, 1), (false, 1)] {
        let shapes = Settings { sub_keys: 1, key_dim: 2, value_dim: 1, top_k: 1, ..Settings::paper() };
        let settings = Settings { writes, lookahead, chunk: 2, ..shapes };
        let plan = Plan::one_call(settings);
        let record = Record::new("small".into(), None, &plan, &Inputs::new(&all).unwrap()).unwrap();
        let page = page(&record).unwrap();
        assert_eq!(record.steps.len(), usize::from(writes));
        assert_eq!(page.contains("A step writes"), writes);
        for of_steps in ["The step of this chunk", "a step is taken", "read and target", "the step whose chunk"] {
            assert_eq!(page.contains(of_steps), writes, "{of_steps}");
        }
        assert_eq!(page.contains(&clause("BAT-4").unwrap().title), !writes);
        assert_drawable(&page, "small");
    }
}

/// No coordinate of a drawing is something else than a number.
fn assert_drawable(page: &str, name: &str) {
    let tags = page.split('<').filter_map(|rest| rest.split_once('>')).map(|(tag, _)| tag);
    for tag in
        tags.filter(|tag| ["svg", "g ", "rect", "path", "circle", "text"].iter().any(|kind| tag.starts_with(kind)))
    {
        let drawn = tag.split_once("data-").map_or(tag, |(drawn, _)| drawn);
        assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "{name}: {tag}");
    }
}

#[test]
fn every_coordinate_is_a_number() {
    for name in CASES.into_iter().chain(["far_keys", "topk_full", "topk1", "many_chunks", "stream_by_token"]) {
        assert_drawable(&page(&record(name)).unwrap(), name);
    }
}

/// The rules of a case are those it states, unless others are asked for.
#[test]
fn rules_given_replace_those_of_the_case() {
    let file = case("base");
    let Case { rules, .. } = &file.case;
    assert!(rules.is_none());
    let stated = Record::of_case(&file, None).unwrap();
    let paper = Record::of_case(&file, Some(&Rules::paper())).unwrap();
    assert_eq!((stated.rules, paper.rules), (Rules::release(), Rules::paper()));
    // F = k·H·|Q|/(|Q| - L) and 1.
    assert_eq!((stated.steps[0].factor, paper.steps[0].factor), (3.0 * (8.0 / 7.0), 1.0));
}
