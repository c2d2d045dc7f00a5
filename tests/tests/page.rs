//! The page of `fwpkm trace`: that it shows what the interpreter computed, and needs nothing else. What it refuses and writes:
//! `page/files.rs`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fwpkm::inputs::Inputs;
use fwpkm::page::{Record, example, number, page};
use fwpkm::run::{Outputs, Plan, run};
use fwpkm_reference::chunk::{Stages, read};
use fwpkm_reference::{Rules, Settings};
use fwpkm_spec::{Case, CaseFile, case_paths, clause};
use ndarray::{ArrayD, Axis, s};

#[path = "page/files.rs"]
mod files;

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

/// The number texts of one name inside the views of one key.
fn shown<'a>(page: &'a str, view: &str, name: &str) -> Vec<&'a str> {
    let (view, name) = (format!("data-view=\"{view}\""), format!("data-name=\"{name}\""));
    let views =
        page.split("data-view=").skip(1).map(|part| page_from(page, part)).filter(|part| part.starts_with(&view));
    let found: Vec<&str> = views.filter_map(|part| part.split_once(&name).map(|(_, rest)| rest)).collect();
    let [rest] = found[..] else { panic!("{name} stands {} times in {view}", found.len()) };
    let values = rest.split_once("data-values=\"").unwrap().1;
    values.split_once('"').unwrap().0.split(' ').collect()
}

/// The part of a page with the ten characters before it.
fn page_from<'a>(page: &'a str, part: &'a str) -> &'a str {
    let start = part.as_ptr() as usize - page.as_ptr() as usize - "data-view=".len();
    &page[start..start + "data-view=".len() + part.len()]
}

fn texts(numbers: impl IntoIterator<Item = f64>) -> Vec<String> {
    numbers.into_iter().map(number).collect()
}

/// Part of a tensor: everything below an index of its first dimensions.
fn below(outputs: &Outputs, name: &str, at: &[usize]) -> Vec<f64> {
    let tensor = &outputs[name];
    let mut array = ArrayD::from_shape_vec(tensor.shape.clone(), tensor.data.to_f64()).unwrap();
    for &index in at {
        array = array.index_axis_move(Axis(0), index);
    }
    array.iter().copied().collect()
}

/// The same run by the way of `fwpkm run --trace`.
fn outputs(name: &str) -> (Settings, Outputs) {
    let file = case(name);
    let plan = Plan { trace: true, ..Plan::of_case(&file.case, None).unwrap() };
    let outputs = run::<f64>(&plan, &Inputs::of_case(&file).unwrap()).unwrap();
    (plan.settings, outputs)
}

fn lengths(rows: &[f64], width: usize) -> Vec<f64> {
    rows.chunks(width).map(|row| row.iter().map(|x| x * x).sum::<f64>().sqrt()).collect()
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

#[test]
fn numbers_of_a_token_are_those_of_the_run() {
    for name in CASES {
        let page = page(&record(name)).unwrap();
        let (settings, outputs) = outputs(name);
        let (token, sequence, head) = (13, outputs["out.reads"].shape[0] - 1, settings.heads - 1);
        let of_head = format!("t{token}b{sequence}h{head}");
        let of_token = format!("t{token}b{sequence}");
        let at = [sequence, token, head];
        for half in [0, 1] {
            let scores = below(&outputs, "trace.score.half_scores", &[sequence, token, head, half]);
            assert_eq!(shown(&page, &of_head, &format!("half_scores_{half}")), texts(scores), "{name}");
        }
        let chosen = below(&outputs, "trace.select.half_scores", &at);
        let (first, second) = chosen.split_at(settings.top_k);
        let sums = first.iter().flat_map(|a| second.iter().map(move |b| a + b));
        assert_eq!(shown(&page, &of_head, "sums"), texts(sums), "{name}");
        assert_eq!(shown(&page, &of_head, "slots"), texts(below(&outputs, "out.indices", &at)), "{name}");
        assert_eq!(shown(&page, &of_token, "weights"), texts(below(&outputs, "out.weights", &at[..2])), "{name}");
        let rows = shown(&page, &of_token, "read");
        let read = below(&outputs, "out.reads", &at[..2]);
        let from = settings.heads * settings.top_k * settings.value_dim;
        assert_eq!(rows[from..from + read.len()], texts(read), "{name}");
        let values = if name == "layer_base" {
            below(&outputs, "trace.projection.values", &[sequence, token + 1])
        } else {
            let file = case(name).file.tensor("in.values").unwrap();
            below(&BTreeMap::from([("v".into(), file)]), "v", &[sequence, token + 1])
        };
        assert_eq!(rows[from + values.len()..], texts(values), "{name}: the target");
    }
}

#[test]
fn numbers_of_a_step_are_those_of_the_run() {
    for name in CASES {
        let page = page(&record(name)).unwrap();
        let (settings, outputs) = outputs(name);
        let (step, last) = ("s1", record(name).steps.len() - 1);
        let touched = below(&outputs, "trace.memorize.slots.1", &[]);
        let over_slots = |numbers: Vec<f64>| {
            let mut all = vec![0.0; settings.slots()];
            touched.iter().zip(numbers).for_each(|(&slot, number)| all[usize::try_from(slot as i64).unwrap()] = number);
            texts(all)
        };
        let counts = below(&outputs, "trace.memorize.read_counts.1", &[]);
        assert_eq!(shown(&page, step, "read_counts"), over_slots(counts), "{name}");
        let gradient = lengths(&below(&outputs, "trace.memorize.value_gradient.1", &[]), settings.value_dim);
        assert_eq!(shown(&page, step, "gradient_norms"), over_slots(gradient), "{name}");
        let losses = texts(below(&outputs, "trace.memorize.pair_losses.1", &[0]));
        assert_eq!(shown(&page, step, "pair_losses")[..losses.len()], losses, "{name}");
        for half in [0, 1] {
            let marginal = below(&outputs, "trace.address.marginal.1", &[half]);
            assert_eq!(shown(&page, step, &format!("marginal_{half}")), texts(marginal), "{name}");
        }
        let entropy = below(&outputs, "trace.address.entropy.1", &[]);
        assert_eq!(shown(&page, step, "entropy"), texts(entropy), "{name}");
        let after = lengths(&below(&outputs, "out.slot_values", &[]), settings.value_dim);
        assert_eq!(shown(&page, &format!("s{last}"), "values_after"), texts(after), "{name}");
        // Without clipping and decay a sub-key moves by η times its gradient.
        let head = settings.heads - 1;
        let gradient = below(&outputs, "trace.address.sub_key_gradient.1", &[head, 1]);
        let moved: Vec<f64> =
            shown(&page, &format!("s1h{head}"), "moved_1").iter().map(|text| text.parse().unwrap()).collect();
        for (moved, length) in moved.iter().zip(lengths(&gradient, settings.half_dim())) {
            // Four digits, and the rounding of the step itself.
            assert!((moved - length).abs() <= 6e-4 * length + 1e-12, "{name}: {moved} and {length}");
        }
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
        let plan = Plan { settings, rules: Rules::paper(), calls: None, flush: true, trace: false };
        let record = Record::new("small".into(), None, &plan, &Inputs::new(&all).unwrap()).unwrap();
        let page = page(&record).unwrap();
        assert_eq!(record.steps.len(), usize::from(writes));
        assert_eq!(page.contains("A step writes"), writes);
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
