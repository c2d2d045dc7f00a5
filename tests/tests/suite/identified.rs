//! What is identified from outputs that another program may give: computed in another order, recorded in part, of another form.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use fwpkm::deviation::named;
use fwpkm::identify::{Evidence, Identification, identify};
use fwpkm::implementation::Implementation;
use fwpkm::judge::{Declaration, Distance, judge};
use fwpkm::numbers::Numbers;
use fwpkm::problem::Problem;
use fwpkm::run::Outputs;
use fwpkm::vectors::collection::{FOLDER, Vector, vectors};
use fwpkm_reference::Settings;
use fwpkm_reference::settings::Score;
use fwpkm_spec::Data;
use ndarray::{Array4, ArrayView4, s};
use rayon::prelude::*;

const DECLARED: Declaration = Declaration { numbers: Numbers::F32, distance: Distance::Direct };

fn identified(vectors: &[Vector], outputs: impl Fn(&Problem) -> Outputs + Sync) -> Identification {
    let specification = Implementation::specification();
    let evidence = |vector: &'_ Vector| {
        let outputs = outputs(&vector.problem);
        (outputs.clone(), judge(&vector.problem, &specification, DECLARED, &outputs).unwrap())
    };
    let judged: Vec<_> = vectors.par_iter().map(evidence).collect();
    let evidence = vectors.iter().zip(judged);
    let evidence: Vec<Evidence> = evidence
        .map(|(vector, (outputs, judgement))| Evidence { problem: &vector.problem, outputs, judgement })
        .collect();
    identify(&evidence, DECLARED, &AtomicBool::new(false)).unwrap()
}

fn names(identification: &Identification) -> Vec<String> {
    match identification {
        Identification::Conforms => vec!["the specification".into()],
        Identification::Unknown => vec!["nothing known".into()],
        Identification::ConsistentWith(explanations) => {
            explanations.iter().map(|explanation| explanation.deviations.join(" and ")).collect()
        }
        Identification::OfResults(of) => of.consistent_with.iter().map(|it| it.deviations.join(" and ")).collect(),
    }
}

fn results_alone(mut outputs: Outputs) -> Outputs {
    outputs.retain(|name, _| name.starts_with("out."));
    outputs
}

/// Half scores of another program: summed from the last number to the first, with another logarithm.
fn reversed(settings: &Settings, sub_keys: ArrayView4<f32>, queries: ArrayView4<f32>) -> Array4<f32> {
    let (rows, heads, _, width) = queries.dim();
    Array4::from_shape_fn((rows, heads, 2, sub_keys.dim().2), |(row, head, half, i)| {
        let (query, key) = (queries.slice(s![row, head, half, ..]), sub_keys.slice(s![head, half, i, ..]));
        let sum = |term: &dyn Fn(f32, f32) -> f32| (0..width).rev().fold(0.0, |sum, d| sum + term(query[d], key[d]));
        match settings.score {
            Score::InverseDistance { epsilon } => {
                let distance = sum(&|q, k| (q - k) * (q - k)) + epsilon as f32;
                -(f64::from(distance).ln() as f32)
            }
            Score::DotProduct => sum(&|q, k| q * k),
        }
    })
}

/// Another choice of slots is named from results alone, near-ties included, in any order of sums.
#[test]
fn another_choice_of_slots_is_named_from_results_of_another_program() {
    let vectors = vectors(Path::new(FOLDER)).unwrap();
    for name in ["sel-3-slot-transposed", "sel-3-rows-of-top-k", "sel-3-slots-sorted-scores-not"] {
        let deviating = Implementation::deviating(named(name).unwrap());
        let found = identified(&vectors, |problem| {
            let mut stages = deviating.stages::<f32>(Numbers::F32);
            stages.score = reversed;
            results_alone(deviating.run_with(&problem.rounded(Numbers::F32), stages).unwrap())
        });
        assert_eq!(names(&found), [name]);
    }
}

/// Puts slots with their weights in an order.
type Order = fn(&mut [(i64, f32)]);

/// Slots with their weights in an order of their own: what torch.topk(sorted=False) may give.
#[test]
fn slots_that_are_not_best_first_are_named() {
    let vectors = vectors(Path::new(FOLDER)).unwrap();
    let specification = Implementation::specification();
    let orders: [Order; 3] = [
        |slots| slots.sort_by_key(|(slot, _)| *slot),
        |slots| slots.sort_by_key(|(slot, _)| -slot),
        |slots| slots.rotate_left(1),
    ];
    for order in orders {
        let found = identified(&vectors, |problem| {
            let mut outputs = results_alone(specification.run(problem, Numbers::F32).unwrap());
            let k = problem.plan.settings.top_k;
            let (Data::I64(slots), Data::F32(weights)) = (&outputs["out.indices"].data, &outputs["out.weights"].data)
            else {
                panic!("not I64 and F32")
            };
            let pairs: Vec<(i64, f32)> = slots.iter().copied().zip(weights.iter().copied()).collect();
            let ordered = pairs.chunks(k).flat_map(|row| {
                let mut row = row.to_vec();
                order(&mut row);
                row
            });
            let (slots, weights): (Vec<i64>, Vec<f32>) = ordered.unzip();
            outputs.get_mut("out.indices").unwrap().data = Data::I64(slots);
            outputs.get_mut("out.weights").unwrap().data = Data::F32(weights);
            outputs
        });
        assert_eq!(names(&found), ["sel-2-slots-not-best-first"]);
    }
}

fn negated(outputs: &mut Outputs, prefix: &str) {
    for (_, tensor) in outputs.iter_mut().filter(|(name, _)| name.starts_with(prefix)) {
        let Data::F32(numbers) = &mut tensor.data else { panic!("not F32") };
        for x in numbers {
            *x = -*x;
        }
    }
}

/// Where a stage is recorded in another form than its name says, what the results show is still named.
#[test]
fn results_are_identified_where_a_stage_has_another_form() {
    let vectors = vectors(Path::new(FOLDER)).unwrap();
    let gradient = "trace.address.sub_key_gradient";
    for (implementation, expected) in [
        (Implementation::deviating(named("adr-6-sign").unwrap()), vec!["adr-6-sign"]),
        (Implementation::specification(), Vec::new()),
    ] {
        let found = identified(&vectors, |problem| {
            let mut outputs = implementation.run(problem, Numbers::F32).unwrap();
            negated(&mut outputs, gradient);
            outputs
        });
        assert_eq!(names(&found), expected);
        let Identification::OfResults(of) = found else { panic!("{found:?}") };
        assert_eq!(of.differing, [gradient]);
    }
}
