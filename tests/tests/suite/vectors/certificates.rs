//! The numbers of the certificates: bounds that an implementation can be held against, and margins of deviations.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use fwpkm::deviation;
use fwpkm::implementation::Implementation;
use fwpkm::inputs::is_given;
use fwpkm::numbers::Numbers;
use fwpkm::run::Outputs;
use fwpkm::vectors::collection::{FOLDER, Vector, vectors};
use fwpkm_spec::{CaseFile, Tensor, TensorFile, tensor_file};
use rayon::prelude::*;
use serde_json::{Value, json};

/// A vector with what its file holds.
struct Recorded {
    vector: Vector,
    outputs: Outputs,
}

fn recorded() -> Vec<Recorded> {
    let open = |vector: Vector| {
        let file = CaseFile::open(Path::new(FOLDER).join(&vector.name).with_extension("safetensors")).unwrap().file;
        let results = file.names().filter(|name| !is_given(name));
        let outputs = results.map(|name| (name.to_string(), file.tensor(name).unwrap())).collect();
        Recorded { vector, outputs }
    };
    vectors(Path::new(FOLDER)).unwrap().into_iter().map(open).collect()
}

impl Recorded {
    /// Whether outputs hold the recorded choices.
    fn is_chosen_by(&self, outputs: &Outputs) -> bool {
        let mut choices = self
            .outputs
            .iter()
            .filter(|(name, _)| ["out.indices", "trace.select.half_indices"].contains(&name.as_str()));
        choices.all(|(name, tensor)| outputs.get(name) == Some(tensor))
    }

    /// By tensor, how far outputs are from the recorded ones at most, over the stated bound.
    fn ratios(&self, outputs: &Outputs, numbers: Numbers) -> BTreeMap<&str, f64> {
        let bounds = self.vector.certificate.bounds.as_ref().unwrap();
        let of_type =
            |(name, types): (_, &BTreeMap<String, f64>)| Some((name, *types.get(numbers.element_type().name())?));
        let stated = bounds.iter().filter_map(of_type);
        let compared = stated.filter_map(|(name, bound): (&String, f64)| {
            let (found, expected) = (outputs.get(name)?, &self.outputs[name]);
            if found.shape != expected.shape {
                return Some((name.as_str(), f64::INFINITY));
            }
            let pairs = found.data.to_f64().into_iter().zip(expected.data.to_f64());
            let error = pairs.fold(0.0f64, |error, (x, y)| error.max((x - y).abs()));
            Some((name.as_str(), if error == 0.0 { 0.0 } else { error / bound }))
        });
        compared.collect()
    }
}

/// Everything the interpreter computes is inside the stated bounds, and its errors come near them.
#[test]
fn the_interpreter_is_within_the_stated_bounds() {
    let recorded = recorded();
    // How near the largest error comes, and the vectors where it chooses as recorded.
    for (numbers, near, fewest) in
        [(Numbers::F64, 0.0, 235), (Numbers::F32, 0.5, 230), (Numbers::Bf16, 0.5, 225), (Numbers::F16, 0.5, 225)]
    {
        let of_vector = |recorded: &Recorded| {
            let outputs = Implementation::specification().run(&recorded.vector.problem, numbers).unwrap();
            let named = |(name, ratio): (&str, f64)| (ratio, format!("{} {name}", recorded.vector.name));
            let ratios = || recorded.ratios(&outputs, numbers).into_iter().map(named).collect::<Vec<_>>();
            recorded.is_chosen_by(&outputs).then(ratios)
        };
        let chosen: Vec<_> = recorded.par_iter().filter_map(of_vector).collect();
        let count = chosen.len();
        let ratios: Vec<(f64, String)> = chosen.into_iter().flatten().collect();
        let outside: Vec<_> = ratios.iter().filter(|(ratio, _)| *ratio > 1.0).collect();
        assert!(outside.is_empty(), "{}: {outside:?}", numbers.name());
        let most = ratios.iter().fold(0.0f64, |most, (ratio, _)| most.max(*ratio));
        println!("{}: largest error / bound {most:.3}, {count} vectors, {} tensors", numbers.name(), ratios.len());
        assert!(most >= near && count >= fewest, "{}: {most} {count}", numbers.name());
    }
}

/// Who compares slots and bounds of `out.*` and `grad.*`, and nothing else, sees every deviation.
#[test]
fn the_stated_bounds_alone_show_every_deviation() {
    let recorded = recorded();
    let hidden = |deviation: &&'static deviation::Deviation| {
        let shows = |recorded: &&Recorded| {
            let made_for = recorded.vector.certificate.clauses.iter().any(|clause| clause == deviation.clause);
            let run = || Implementation::deviating(deviation).run(&recorded.vector.problem, Numbers::F32).ok();
            made_for
                && run().is_some_and(|outputs| {
                    let of_results = |name: &str| name.starts_with("out.") || name.starts_with("grad.");
                    let results: Outputs = outputs.into_iter().filter(|(name, _)| of_results(name)).collect();
                    results.get("out.indices") != recorded.outputs.get("out.indices")
                        || recorded.ratios(&results, Numbers::F32).values().any(|ratio| *ratio > 1.0)
                })
        };
        !recorded.iter().any(|recorded| shows(&recorded))
    };
    let hidden: BTreeSet<&str> = deviation::all().par_iter().filter(hidden).map(|deviation| deviation.name).collect();
    assert_eq!(hidden, BTreeSet::new());
}

#[test]
fn every_deviation_is_separated_by_a_vector() {
    let vectors = vectors(Path::new(FOLDER)).unwrap();
    let stated =
        |name: &str| vectors.iter().any(|vector| vector.certificate.separates.as_ref().unwrap().contains_key(name));
    let missing: Vec<&str> =
        deviation::all().iter().map(|deviation| deviation.name).filter(|name| !stated(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    for vector in &vectors {
        for name in vector.certificate.separates.iter().flat_map(BTreeMap::keys) {
            let known = deviation::named(name).unwrap_or_else(|| panic!("{}: {name}", vector.name));
            assert!(vector.certificate.clauses.iter().any(|clause| clause == known.clause), "{}: {name}", vector.name);
        }
    }
}

/// A change of a certificate
type Change<'a> = &'a dyn Fn(&mut Value);

/// What `regenerate --check` says of a copy of a vector whose certificate was changed
fn said_of(name: &str, change: impl Fn(&mut Value)) -> (i32, String) {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join(name).with_extension("safetensors");
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    let original = TensorFile::open(Path::new(FOLDER).join(name).with_extension("safetensors")).unwrap();
    let mut metadata = original.metadata().clone();
    let mut certificate: Value = serde_json::from_str(&metadata["certificate"]).unwrap();
    change(&mut certificate);
    metadata.insert("certificate".into(), certificate.to_string());
    let tensors: Vec<(String, Tensor)> =
        original.names().map(|name| (name.to_string(), original.tensor(name).unwrap())).collect();
    tensor_file::write(&path, &metadata, &tensors).unwrap();
    let (folder, file) = name.split_once('/').unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_fwpkm"))
        .args(["vectors", "regenerate", "--check", "--only", file])
        .arg(root.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find(|line| line.contains(&format!("{folder}/{file}.safetensors"))).unwrap_or_default();
    (output.status.code().unwrap(), line.to_string())
}

#[test]
fn a_changed_bound_or_margin_is_refused_and_named() {
    let (one_step, run) = ("both/sel_3_slot_index", "paper/str_2_no_lookahead");
    assert_eq!(said_of(one_step, |_| {}), (0, String::new()));
    assert_eq!(said_of(run, |_| {}).1, "");
    let multiplied = |number: &mut Value, factor: f64| *number = json!(number.as_f64().unwrap() * factor);
    let removed = |object: &mut Value, key: &str| assert!(object.as_object_mut().unwrap().remove(key).is_some());
    let changes: [(&str, &str, Change); 12] = [
        (one_step, "out.reads in F32", &|it| multiplied(&mut it["bounds"]["out.reads"]["F32"], 1.1)),
        (one_step, "out.reads in F64", &|it| multiplied(&mut it["bounds"]["out.reads"]["F64"], 0.9)),
        (one_step, "out.weights in BF16", &|it| removed(&mut it["bounds"]["out.weights"], "BF16")),
        (one_step, "out.weights in BF16", &|it| removed(&mut it["bounds"], "out.weights")),
        (one_step, "out.absent in F64", &|it| it["bounds"]["out.absent"] = json!({"F64": 1.0})),
        (one_step, "no bounds", &|it| removed(it, "bounds")),
        (one_step, "sel-3-slot-transposed", &|it| removed(&mut it["separates"], "sel-3-slot-transposed")),
        (one_step, "sel-3-slot-transposed", &|it| it["separates"]["sel-3-slot-transposed"] = json!(7)),
        (one_step, "rd-3-not-weighted", &|it| multiplied(&mut it["separates"]["rd-3-not-weighted"], 1.1)),
        (one_step, "mem-4-sum-instead-of-division", &|it| it["separates"]["mem-4-sum-instead-of-division"] = json!(7)),
        (run, "out.slot_values in F32", &|it| multiplied(&mut it["bounds"]["out.slot_values"]["F32"], 5.0)),
        (run, "chk-1-one-token-late", &|it| multiplied(&mut it["separates"]["chk-1-one-token-late"], 5.0)),
    ];
    for (name, part, change) in changes {
        let (status, text) = said_of(name, change);
        assert!(status == 1 && text.contains(part), "{part}: {text}");
    }
}
