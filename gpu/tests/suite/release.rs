//! The 48 recordings of the release, slice by slice in f32: every stage within its bound of the oracle at the same inputs.
//!
//! Layers are projected by the interpreter; the memory inside is what runs here.

use std::path::Path;

use fwpkm::inputs::{Inputs, Piece};
use fwpkm::run::Plan;
use fwpkm_gpu::Variant;
use fwpkm_reference::projection::project;
use fwpkm_spec::CaseFile;
use ndarray::Array2;

use crate::common::lockstep::check_scene;
use crate::common::stages::Shares;
use crate::common::{Scene, TINY, Text};

fn scene_of(path: &Path) -> Scene {
    let file = CaseFile::open(path).unwrap();
    let plan = Plan::of_case(&file.case, None).unwrap();
    let inputs = Inputs::of_case(&file).unwrap();
    let text = text_of(&plan, &inputs);
    let calls = plan.calls.clone().unwrap_or_else(|| vec![inputs.tokens()]);
    Scene { settings: plan.settings, rules: plan.rules, tables: inputs.tables().unwrap(), text, calls }
}

fn text_of(plan: &Plan, inputs: &Inputs) -> Text<f32> {
    let (b, t) = (inputs.sequences(), inputs.tokens());
    match inputs.piece::<f32>(0, t).unwrap() {
        Piece::Memory { queries, values, gates, mask } => Text { queries, values, gates, mask },
        Piece::Layer { hidden, mask } => {
            let rows = hidden.to_shape((b * t, hidden.dim().2)).unwrap();
            let projection = inputs.projection().unwrap().unwrap();
            let projected = project(&plan.settings, &plan.rules, &projection, rows.view()).unwrap();
            let cube = |rows: &Array2<f32>| rows.to_shape((b, t, rows.ncols())).unwrap().to_owned();
            let gates = projected.gates.as_ref().filter(|_| plan.settings.gate_weighted_loss);
            Text {
                queries: cube(&projected.queries),
                values: cube(&projected.values),
                gates: gates.map(|gates| gates.to_shape((b, t)).unwrap().to_owned()),
                mask,
            }
        }
    }
}

#[test]
fn every_recording_is_within_its_bounds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors/release");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    paths.sort();
    assert_eq!(paths.len(), 48);
    let mut shares = Shares::default();
    for path in paths {
        println!("{}", path.display());
        check_scene(&scene_of(&path), Variant::Fast(TINY), 1, &mut shares);
    }
    println!("{:#.3?}", shares.0);
}
