//! Plausible slips of a stage show as rules and settings do: each in a case labelled with its clause.

#[path = "slips/of_addressing.rs"]
mod of_addressing;
#[path = "slips/of_layers.rs"]
mod of_layers;
#[path = "slips/of_memorizing.rs"]
mod of_memorizing;
#[path = "slips/of_reading.rs"]
mod of_reading;
#[path = "slips/of_streams.rs"]
mod of_streams;

use fwpkm::inputs::Piece;
use fwpkm::run::{Outputs, Plan};
use fwpkm_reference::{Layer, Memory, Stages, StepReport, Tokens};
use fwpkm_spec::{Data, Tensor};
use ndarray::{Array, Dimension};

use super::cases::{READINGS, SHOWS, Vector, difference_in, shown_in, vectors};

/// Name, clauses in whose cases it must show, and the stages with the slip.
type Slip = (&'static str, &'static [&'static str], fn(&mut Stages<f64>));

/// The outputs of a case with some stages replaced; one call, or the case's.
fn outputs(vector: &Vector, plan: &Plan, stages: Stages<f64>) -> Outputs {
    let inputs = vector.inputs();
    let tables = inputs.tables().unwrap();
    let memory = Memory::with_stages(plan.settings.clone(), plan.rules.clone(), tables, stages).unwrap();
    let mut out = Outputs::new();
    let calls = plan.calls.clone().unwrap_or_else(|| vec![inputs.tokens()]);
    let mut from = 0;
    let mut steps: Vec<StepReport<f64>> = Vec::new();
    let mut layer = inputs.projection().unwrap().map(|projection| Layer::new(projection, memory.clone()).unwrap());
    let mut bare = memory;
    for (number, call) in calls.into_iter().enumerate() {
        match (inputs.piece(from, from + call).unwrap(), &mut layer) {
            (Piece::Memory { queries, values, gates, mask }, None) => {
                let (queries, values) = (queries.view(), values.view());
                let (gates, mask) = (gates.as_ref().map(|g| g.view()), mask.as_ref().map(|m| m.view()));
                let fed = bare.feed(&Tokens { queries, values, gates, mask }).unwrap();
                put(&mut out, &format!("out.reads {number}"), &fed.reads);
                put(&mut out, &format!("out.weights {number}"), &fed.weights);
                put(&mut out, &format!("out.indices {number}"), &fed.slots.mapv(|slot| slot as f64));
                steps.extend(fed.steps);
            }
            (Piece::Layer { hidden, mask }, Some(layer)) => {
                let fed = layer.feed(hidden.view(), mask.as_ref().map(|m| m.view())).unwrap();
                put(&mut out, &format!("out.layer {number}"), &fed.output.layer);
                put(&mut out, &format!("out.hidden {number}"), &fed.output.hidden);
                fed.projected.gates.iter().for_each(|gates| put(&mut out, &format!("out.gates {number}"), gates));
                steps.extend(fed.memory.steps);
            }
            _ => unreachable!("a case is a memory or a layer"),
        }
        from += call;
    }
    let memory = layer.as_mut().map_or(&mut bare, |layer| layer.memory_mut());
    if plan.flush {
        steps.extend(memory.flush().unwrap());
    }
    put(&mut out, "out.slot_values", &memory.tables().slot_values);
    put(&mut out, "out.sub_keys", &memory.tables().sub_keys);
    let losses: Vec<f64> = steps.iter().flat_map(|step| step.pair_losses.iter().copied()).collect();
    put(&mut out, "out.mem_losses", &ndarray::Array1::from(losses));
    let mean = steps.iter().map(|step| step.addressing_loss).sum::<f64>() / steps.len().max(1) as f64;
    put(&mut out, "out.addr_loss_mean", &ndarray::arr1(&[mean]));
    out
}

fn put<D: Dimension>(out: &mut Outputs, name: &str, array: &Array<f64, D>) {
    let tensor = Tensor { shape: array.shape().to_vec(), data: Data::F64(array.iter().copied().collect()) };
    out.insert(name.to_string(), tensor);
}

#[test]
fn every_slip_shows_in_a_case_of_its_clause() {
    let vectors = vectors();
    let right: Vec<Outputs> = vectors.iter().map(|v| outputs(v, &v.plan, Stages::specification())).collect();
    let slips = [of_reading::SLIPS, of_memorizing::SLIPS, of_addressing::SLIPS, of_layers::SLIPS].concat();
    let mut hidden = Vec::new();
    for (name, clauses, change) in slips {
        for (clause, reading) in clauses.iter().flat_map(|clause| READINGS.map(|reading| (clause, reading))) {
            let mut most = (0.0, String::new(), "none");
            let cases = vectors.iter().zip(&right).filter(|(vector, _)| vector.is_for(clause, reading));
            for (vector, right) in cases {
                let mut stages = Stages::specification();
                change(&mut stages);
                let (difference, tensor) =
                    difference_in(&shown_in(clause), right, &outputs(vector, &vector.plan, stages));
                if difference > most.0 {
                    most = (difference, tensor, vector.name.as_str());
                }
            }
            println!("{name:42} {clause:6} {reading:8} {:9.3} {:18} {}", most.0, most.1, most.2);
            if most.0 <= SHOWS {
                hidden.push(format!("{name} in {clause}, {reading}: at most {:.3}, {} of {}", most.0, most.1, most.2));
            }
        }
    }
    assert!(hidden.is_empty(), "slips that no case shows:\n{}", hidden.join("\n"));
}
