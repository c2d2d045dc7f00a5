//! The numbers on the page are those of the run.

use std::collections::BTreeMap;

use fwpkm::inputs::Inputs;
use fwpkm::page::{number, page};
use fwpkm::run::{Outputs, Plan, run};
use fwpkm_reference::Settings;
use ndarray::{ArrayD, Axis};

use super::{CASES, case, record};

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
