//! Other reports of a run, and outputs made from other values.              STA-1 … STA-3, ADR-3, PRJ-6

use std::collections::BTreeMap;

use fwpkm_reference::Settings;
use fwpkm_reference::output::output;
use fwpkm_reference::projection::project;
use fwpkm_reference::settings::Norm;
use fwpkm_spec::{Data, Tensor};
use ndarray::{Array1, Array2};

use super::{Change, Deviation, PORTS, SLIP};
use crate::problem::{Problem, Text};
use crate::run::{Outputs, Plan};

const fn reported(
    name: &'static str,
    clause: &'static str,
    instead: &'static str,
    source: &'static str,
    change: fn(&mut Outputs, &Problem, &Plan),
) -> Deviation {
    Deviation { name, clause, instead, source, change: Change::Report(change) }
}

pub(super) const LIST: &[Deviation] = &[
    reported(
        "sta-1-share-of-slots",
        "STA-1",
        "the share of the slots read that were read more than once where STA-1 has the share of the reads",
        SLIP,
        |out, _, _| {
            let counts = read_counts(out);
            let shared = counts.values().filter(|&&count| count > 1.0).count();
            put(out, "out.stats.collision_rate", shared as f64 / counts.len().max(1) as f64);
        },
    ),
    reported(
        "sta-1-reads-after-the-first",
        "STA-1",
        "the share of reads that were not their slot's first where STA-1 counts the first as well",
        SLIP,
        |out, _, _| {
            let counts = read_counts(out);
            let reads: f64 = counts.values().sum();
            put(out, "out.stats.collision_rate", (reads - counts.len() as f64) / reads.max(1.0));
        },
    ),
    reported(
        "sta-2-share-of-reads",
        "STA-2",
        "the slots read are divided by the reads where STA-2 divides them by all slots",
        SLIP,
        |out, _, _| {
            let counts = read_counts(out);
            put(out, "out.stats.coverage", counts.len() as f64 / counts.values().sum::<f64>().max(1.0));
        },
    ),
    reported("sta-3-base-2", "STA-3", "the divergence is in bits where STA-3 has nats", SLIP, |out, _, plan| {
        put(out, "out.stats.divergence", divergence(out, plan.settings.slots()) / 2f64.ln());
    }),
    reported(
        "sta-3-over-slots-read",
        "STA-3",
        "the divergence is that from the uniform distribution over the slots read where STA-3 takes all slots",
        SLIP,
        |out, _, _| put(out, "out.stats.divergence", divergence(out, read_counts(out).len())),
    ),
    reported(
        "adr-3-losses-summed",
        "ADR-3",
        "the addressing losses of the steps are summed where ADR-3 reports their mean",
        SLIP,
        |out, _, _| {
            let steps = out.keys().filter(|name| name.starts_with("trace.address.entropy.")).count();
            let mean = out.get("out.addr_loss_mean").map_or(0.0, |tensor| tensor.data.to_f64()[0]);
            put(out, "out.addr_loss_mean", mean * steps as f64);
        },
    ),
    reported(
        "prj-6-residual-not-normalised",
        "PRJ-6",
        "the z-score is applied to the target but not to the residual path, where PRJ-6 has one value for both",
        PORTS,
        |out, problem, plan| {
            with_values(out, problem, plan, &Settings { value_norm: Norm::None, ..plan.settings.clone() });
        },
    ),
    Deviation {
        name: "prj-6-target-not-normalised",
        clause: "PRJ-6",
        instead: "the z-score is applied to the residual path but not to the target, where PRJ-6 has one value for both",
        source: SLIP,
        change: Change::Several(&[
            Change::Settings(|settings| settings.value_norm = Norm::None),
            Change::Report(|out, problem, plan| with_values(out, problem, plan, &problem.plan.settings)),
        ]),
    },
];

/// How often each slot occurs in `out.indices`
fn read_counts(out: &Outputs) -> BTreeMap<i64, f64> {
    let mut counts = BTreeMap::new();
    for slot in out.get("out.indices").map(|tensor| tensor.data.to_f64()).unwrap_or_default() {
        *counts.entry(slot as i64).or_default() += 1.0;
    }
    counts
}

fn divergence(out: &Outputs, slots: usize) -> f64 {
    let counts = read_counts(out);
    let reads: f64 = counts.values().sum();
    counts.values().map(|count| count / reads * (count / reads * slots as f64).ln()).sum()
}

/// A tensor with one number
fn put(out: &mut Outputs, name: &str, number: f64) {
    replace(out, name, vec![number]);
}

/// Other numbers in a tensor that is there, of its shape and type
fn replace(out: &mut Outputs, name: &str, numbers: Vec<f64>) {
    let Some(Tensor { data, .. }) = out.get_mut(name) else { return };
    *data = match data {
        Data::F32(_) => Data::F32(numbers.into_iter().map(|x| x as f32).collect()),
        _ => Data::F64(numbers),
    };
}

/// The output of the same reads with the values that other settings give
fn with_values(out: &mut Outputs, problem: &Problem, plan: &Plan, settings: &Settings) {
    let (Text::Layer { hidden, .. }, Some(maps)) = (&problem.text, &problem.projection) else { return };
    if settings.value_norm == plan.settings.value_norm {
        return;
    }
    let Some(reads) = out.get("out.reads") else { return };
    let shape = (hidden.nrows(), plan.settings.value_dim);
    let Ok(reads) = Array2::from_shape_vec(shape, reads.data.to_f64()) else { return };
    let gates =
        out.get("out.gates").filter(|_| plan.settings.output_gate).map(|gates| Array1::from(gates.data.to_f64()));
    let Ok(projected) = project(settings, &plan.rules, maps, hidden.view()) else { return };
    let made = output(settings, &maps.output, reads.view(), projected.values.view(), gates.as_ref(), hidden.view());
    for (name, rows) in [("trace.output.mixed", made.mixed), ("out.layer", made.layer), ("out.hidden", made.hidden)] {
        replace(out, name, rows.into_iter().collect());
    }
}
