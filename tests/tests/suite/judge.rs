//! The comparison engine.

use std::path::{Path, PathBuf};

use fwpkm::implementation::Implementation;
use fwpkm::judge::{Check, Declaration, Distance, is_in_one_step, judge};
use fwpkm::numbers::Numbers;
use fwpkm::problem::Problem;
use fwpkm::run::Outputs;
use fwpkm_spec::{CaseFile, Data, Tensor, case_paths};
use rayon::prelude::*;

fn release() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors/release")
}

fn problems() -> Vec<Problem> {
    let problem = |path: &PathBuf| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        Problem::of_case(&name, &CaseFile::open(path).unwrap(), Vec::new()).unwrap()
    };
    case_paths(release()).unwrap().iter().map(problem).collect()
}

/// Findings of the specification against itself, with either form of the distance.
fn findings(problem: &Problem, numbers: &[Numbers]) -> Vec<String> {
    let mut found = Vec::new();
    for distance in [Distance::Direct, Distance::Expanded] {
        for &numbers in numbers {
            let subject = Implementation { distance, ..Implementation::specification() };
            let outputs = subject.run(problem, numbers).unwrap();
            let declared = Declaration { numbers, distance };
            let judgement = judge(problem, &Implementation::specification(), declared, &outputs).unwrap();
            let said = |check: &Check| format!("{} {} {distance:?}: {check:?}", problem.name, numbers.name());
            found.extend(judgement.findings().map(said));
        }
    }
    found
}

/// The specification has no findings on the release's inputs, in the numbers these were made for.
#[test]
fn the_specification_conforms() {
    let of = |problem: &Problem| findings(problem, &[Numbers::F64, Numbers::F32]);
    let wrong: Vec<String> = problems().iter().flat_map(of).collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Nor on the certified vectors, in any numbers.
#[test]
fn the_specification_conforms_on_the_certified_vectors() {
    let vectors = fwpkm::vectors::collection::vectors(Path::new(fwpkm::vectors::collection::FOLDER)).unwrap();
    let wrong: Vec<String> = vectors.iter().flat_map(|vector| findings(&vector.problem, &Numbers::ALL)).collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Nor where it computes in f64 and keeps its results in a narrower type only when it records them: stages read them before.
#[test]
fn the_specification_in_f64_conforms_in_the_type_that_it_records() {
    let vectors = fwpkm::vectors::collection::vectors(Path::new(fwpkm::vectors::collection::FOLDER)).unwrap();
    let of = |vector: &fwpkm::vectors::collection::Vector| {
        let specification = Implementation::specification();
        let mut found = Vec::new();
        for numbers in [Numbers::F32, Numbers::Bf16, Numbers::F16] {
            let problem = vector.problem.rounded(numbers);
            let mut outputs = specification.run_with::<f64>(&problem, specification.stages(Numbers::F64)).unwrap();
            for tensor in outputs.values_mut() {
                if let Data::F64(data) = &mut tensor.data {
                    for x in data {
                        *x = numbers.round(*x);
                    }
                }
            }
            let declared = Declaration { numbers, distance: Distance::Direct };
            let judgement = judge(&problem, &specification, declared, &outputs).unwrap();
            let said = |check: &Check| format!("{} {}: {check:?}", problem.name, numbers.name());
            found.extend(judgement.findings().map(said));
        }
        found
    };
    let wrong: Vec<String> = vectors.par_iter().flat_map(of).collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Nor where only results are recorded, or a single one beside the slots: what was not recorded may have been kept.
#[test]
fn the_specification_conforms_with_few_tensors_recorded() {
    let vectors = fwpkm::vectors::collection::vectors(Path::new(fwpkm::vectors::collection::FOLDER)).unwrap();
    let specification = Implementation::specification();
    let wrong = |problem: &Problem, numbers: Numbers| {
        let mut outputs = specification.run(problem, numbers).unwrap();
        outputs.retain(|name, _| name.starts_with("out."));
        let alone = |name: &String| {
            let kept = outputs.iter().filter(|(other, _)| *other == name || *other == "out.indices");
            kept.map(|(name, tensor)| (name.clone(), tensor.clone())).collect::<Outputs>()
        };
        let parts: Vec<Outputs> = outputs.keys().map(alone).chain([outputs.clone()]).collect();
        let declared = Declaration { numbers, distance: Distance::Direct };
        let judgements = parts.iter().map(|part| judge(problem, &specification, declared, part).unwrap());
        let findings = judgements.flat_map(|judgement| judgement.findings().cloned().collect::<Vec<_>>());
        findings.map(|check| format!("{} {}: {check:?}", problem.name, numbers.name())).collect::<Vec<_>>()
    };
    let cases: Vec<(&Problem, Numbers)> =
        vectors.iter().flat_map(|vector| Numbers::ALL.map(|numbers| (&vector.problem, numbers))).collect();
    let wrong: Vec<String> = cases.par_iter().flat_map_iter(|(problem, numbers)| wrong(problem, *numbers)).collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// A layer is judged without its reads too, before and after the first step.
#[test]
fn a_layer_is_judged_without_its_reads() {
    let vectors = fwpkm::vectors::collection::vectors(Path::new(fwpkm::vectors::collection::FOLDER)).unwrap();
    let specification = Implementation::specification();
    let declared = Declaration { numbers: Numbers::F32, distance: Distance::Direct };
    let mut after_a_step = 0;
    for vector in vectors.iter().filter(|vector| vector.problem.projection.is_some()) {
        let mut outputs = specification.run(&vector.problem, Numbers::F32).unwrap();
        outputs.retain(|name, _| ["out.indices", "out.hidden"].contains(&name.as_str()));
        let count = outputs["out.hidden"].data.len();
        for token in [0, vector.problem.tokens - 1] {
            let mut moved = outputs.clone();
            let place = token * count / vector.problem.sequences / vector.problem.tokens;
            let Data::F32(numbers) = &mut moved.get_mut("out.hidden").unwrap().data else { panic!("not F32") };
            numbers[place] += 0.25;
            let judgement = judge(&vector.problem, &specification, declared, &moved).unwrap();
            let found: Vec<&str> = judgement.findings().map(|check| check.tensor.as_str()).collect();
            assert_eq!(found, ["out.hidden"], "{}, token {token}", vector.name);
        }
        after_a_step += usize::from(!is_in_one_step(&vector.problem).unwrap());
    }
    assert!(after_a_step >= 2, "{after_a_step}");
}

/// Without a step the mean addressing loss is 0.
#[test]
fn a_loss_without_a_step_is_found() {
    let folder = Path::new(fwpkm::vectors::collection::FOLDER);
    let path = folder.join("both/sel_3_slot_index.safetensors");
    let vector = fwpkm::vectors::collection::vector(folder, &path).unwrap();
    let specification = Implementation::specification();
    let mut outputs = specification.run(&vector.problem, Numbers::F32).unwrap();
    outputs.insert("out.addr_loss_mean".into(), Tensor { shape: vec![1], data: Data::F32(vec![1.0]) });
    let declared = Declaration { numbers: Numbers::F32, distance: Distance::Direct };
    let judgement = judge(&vector.problem, &specification, declared, &outputs).unwrap();
    let found: Vec<&str> = judgement.findings().map(|check| check.tensor.as_str()).collect();
    assert_eq!(found, ["out.addr_loss_mean"]);
}

/// A wrong number is found at its place in the tensor as it was recorded.
#[test]
fn findings_are_at_their_place_in_the_recorded_tensor() {
    let vectors = fwpkm::vectors::collection::vectors(Path::new(fwpkm::vectors::collection::FOLDER)).unwrap();
    let specification = Implementation::specification();
    let declared = Declaration { numbers: Numbers::F32, distance: Distance::Direct };
    let mut found = std::collections::BTreeMap::<String, usize>::new();
    for vector in vectors.iter().filter(|vector| vector.problem.sequences > 1 && vector.problem.tokens > 1) {
        let outputs = specification.run(&vector.problem, Numbers::F32).unwrap();
        let (b, t) = (vector.problem.sequences, vector.problem.tokens);
        for (name, tensor) in outputs.iter().filter(|(_, tensor)| tensor.shape.starts_with(&[b, t])) {
            // The last number of the last sequence's first token.
            let flat = (b - 1) * tensor.data.len() / b + tensor.data.len() / b / t - 1;
            let mut at = vec![b - 1, 0];
            at.extend(tensor.shape[2..].iter().map(|length| length - 1));
            let mut moved = outputs.clone();
            match &mut moved.get_mut(name).unwrap().data {
                Data::F32(numbers) => numbers[flat] += 100.0,
                Data::I64(numbers) => numbers[flat] = -1,
                other => panic!("{other:?}"),
            }
            let judgement = judge(&vector.problem, &specification, declared, &moved).unwrap();
            let Some(finding) = judgement.findings().find(|check| check.tensor == *name) else { continue };
            let whole = if finding.at.len() == at.len() { &at[..] } else { &[] };
            assert_eq!((&finding.at[..], finding.first.as_ref()), (whole, Some(&at)), "{} {name}", vector.name);
            *found.entry(name.clone()).or_default() += 1;
        }
    }
    for name in [
        "out.reads",
        "out.indices",
        "out.weights",
        "out.hidden",
        "out.gates",
        "trace.projection.queries",
        "trace.score.half_scores",
        "trace.select.half_indices",
        "trace.select.pair_scores",
    ] {
        assert!(found.get(name).is_some_and(|count| *count >= 1), "{name}: {found:?}");
    }
}

/// After the first step too, slots must be best first.
#[test]
fn the_order_of_slots_is_judged_after_the_first_step() {
    let vectors = fwpkm::vectors::collection::vectors(Path::new(fwpkm::vectors::collection::FOLDER)).unwrap();
    let specification = Implementation::specification();
    let declared = Declaration { numbers: Numbers::F32, distance: Distance::Direct };
    let mut after_a_step = 0;
    for vector in vectors.iter().filter(|vector| !is_in_one_step(&vector.problem).unwrap()) {
        let mut outputs = specification.run(&vector.problem, Numbers::F32).unwrap();
        outputs.retain(|name, _| ["out.indices", "out.reads"].contains(&name.as_str()));
        let k = vector.problem.plan.settings.top_k;
        let Data::I64(slots) = &mut outputs.get_mut("out.indices").unwrap().data else { panic!("not I64") };
        if k < 2 {
            continue;
        }
        let last = slots.len() - k;
        slots[last..].reverse();
        let judgement = judge(&vector.problem, &specification, declared, &outputs).unwrap();
        let found: Vec<&Check> = judgement.findings().collect();
        if let [check] = found[..] {
            assert!(check.replayed && check.tensor == "out.indices" && check.clause.len() > 3, "{check:?}");
            assert!(check.reason.as_deref().unwrap().contains("not best first"), "{check:?}");
            after_a_step += 1;
        }
    }
    assert!(after_a_step >= 10, "{after_a_step}");
}
