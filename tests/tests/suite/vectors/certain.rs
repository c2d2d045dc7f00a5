//! Selections are certain in f32 by NUM-6, but in the cases made for ties and near-ties.

use std::ops::ControlFlow;

use fwpkm::run::{Plan, Session};
use fwpkm_reference::chunk::Reading;
use fwpkm_reference::numerics::{Precision, gamma, inverse_distance_bound, pair_score_bound, selection_is_certain};
use fwpkm_reference::settings::Score;

use super::cases::{Vector, vectors};

/// All readings of a vector, those of its steps included
fn readings(vector: &Vector) -> Vec<Reading<f64>> {
    let plan = Plan { trace: true, ..vector.plan.clone() };
    let inputs = vector.inputs();
    let mut session = Session::<f64>::new(&plan, &inputs).unwrap();
    session.feed(&plan, &inputs, (0, inputs.tokens()), &mut |_, _| Ok(ControlFlow::Continue(()))).unwrap();
    if plan.flush {
        session.flush().unwrap();
    }
    let trace = session.trace().unwrap();
    let first = trace.readings.iter().map(|(_, reading)| reading.clone());
    first.chain(trace.steps.iter().map(|step| step.reading.clone())).collect()
}

/// Largest magnitude of a tensor of the file, 0 where there is none
fn largest(vector: &Vector, name: &str) -> f64 {
    let count = vector.file.shape(name).map_or(0, |shape| shape.iter().product());
    let numbers = vector.file.elements(name, 0..count).map(|data| data.to_f64()).unwrap_or_default();
    numbers.iter().fold(0.0, |largest, x| largest.max(x.abs()))
}

/// Bound of a half score; for dot products from the largest numbers there are
fn half_bound(vector: &Vector, precision: Precision, score: f64) -> f64 {
    let s = &vector.plan.settings;
    match s.score {
        Score::InverseDistance { .. } => inverse_distance_bound(precision, s.half_dim(), score),
        Score::DotProduct => {
            let sub_key = largest(vector, "in.sub_keys").max(largest(vector, "out.sub_keys"));
            let width = s.half_dim() as f64;
            gamma(s.half_dim(), precision.unit_roundoff) * width * largest(vector, "in.queries") * sub_key
        }
    }
}

/// Whether the chosen sets of all readings are certain: of the halves, and of the pairs whose half scores are off as well
fn certain(vector: &Vector, readings: &[Reading<f64>], precision: Precision) -> bool {
    let n = vector.plan.settings.sub_keys;
    readings.iter().all(|reading| {
        let heads = reading.scores.outer_iter().zip(reading.selected.half_indices.outer_iter());
        heads.zip(reading.selected.slots.outer_iter()).all(|((scores, chosen), slots)| {
            (0..scores.dim().0).all(|head| {
                let half = |half: usize| scores.slice(ndarray::s![head, half, ..]).to_vec();
                let halves = [half(0), half(1)];
                let bounds = halves.each_ref().map(|scores| {
                    scores.iter().map(|score| half_bound(vector, precision, *score)).collect::<Vec<f64>>()
                });
                let of_halves = (0..2).all(|m| {
                    let chosen = chosen.slice(ndarray::s![head, m, ..]).to_vec();
                    selection_is_certain(&halves[m], &bounds[m], &chosen)
                });
                let pairs = (0..n * n).map(|slot| {
                    let sum = halves[0][slot / n] + halves[1][slot % n];
                    (sum, bounds[0][slot / n] + bounds[1][slot % n] + pair_score_bound(precision, sum))
                });
                let (sums, pair_bounds): (Vec<f64>, Vec<f64>) = pairs.unzip();
                of_halves && selection_is_certain(&sums, &pair_bounds, &slots.row(head).to_vec())
            })
        })
    })
}

#[test]
fn num_6_selections_are_certain_in_f32_but_in_cases_of_ties() {
    for vector in vectors() {
        let certificate = &vector.certificate;
        let readings = readings(&vector);
        assert_eq!(certain(&vector, &readings, Precision::F64), !certificate.ties, "{} in f64", vector.name);
        let in_f32 = !certificate.ties && !certificate.near_ties;
        assert_eq!(certain(&vector, &readings, Precision::F32), in_f32, "{} in f32", vector.name);
    }
}
