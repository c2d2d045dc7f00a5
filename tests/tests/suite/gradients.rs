//! Outer gradients as the engine judges them.

use std::path::Path;

use fwpkm::implementation::Implementation;
use fwpkm::inputs::Inputs;
use fwpkm::judge::{Declaration, Distance, Verdict, judge};
use fwpkm::numbers::Numbers;
use fwpkm::problem::Problem;
use fwpkm::run::{Outputs, run};
use fwpkm::vectors::collection::FOLDER;
use fwpkm_spec::{CaseFile, case_paths};

/// What the formulas of GRD give in f32 and f64 is inside the bounds, which come from another way of computing them; and some
/// of it comes near.
#[test]
fn gradients_by_the_tape_conform() {
    for (numbers, near) in [(Numbers::F64, 0.05), (Numbers::F32, 0.05)] {
        let (mut judged, mut closest) = (0, 0.0_f64);
        for path in case_paths(FOLDER).unwrap() {
            let file = CaseFile::open(&path).unwrap();
            let inputs = Inputs::of_case(&file).unwrap();
            if inputs.cotangents::<f64>().unwrap().is_none() {
                continue;
            }
            let problem = Problem::of_case("case", &file, Vec::new()).unwrap();
            let outputs = match numbers {
                Numbers::F64 => run::<f64>(&problem.plan, &inputs),
                _ => run::<f32>(&problem.plan, &inputs),
            };
            let declared = Declaration { numbers, distance: Distance::Direct };
            let judgement = judge(&problem, &Implementation::specification(), declared, &outputs.unwrap()).unwrap();
            let findings: Vec<String> = judgement.findings().map(|check| format!("{check:?}")).collect();
            assert!(findings.is_empty(), "{}: {}", path.display(), findings.join("\n"));
            for check in judgement.checks.iter().filter(|check| check.tensor.starts_with("grad.")) {
                assert_eq!((check.verdict, check.not_judged), (Verdict::Conforms, 0), "{}: {check:?}", path.display());
                (judged, closest) = (judged + check.judged, closest.max(check.ratio));
            }
        }
        println!("{}: {judged} gradients, the largest error over its bound {closest:.3}", numbers.name());
        assert!(judged > 5000 && closest > near, "{}: {judged} {closest}", numbers.name());
    }
}

/// In half precision gradients are recorded as they are, and neither passed nor failed; another shape is a fault all the same.
#[test]
fn gradients_in_half_precision_are_not_judged() {
    let path = Path::new(FOLDER).join("paper/grd_5_three_heads.safetensors");
    let file = CaseFile::open(&path).unwrap();
    let problem = Problem::of_case("case", &file, Vec::new()).unwrap();
    let outputs = run::<f64>(&problem.plan, &Inputs::of_case(&file).unwrap()).unwrap();
    let declared = Declaration { numbers: Numbers::Bf16, distance: Distance::Direct };
    let of_gradients = |outputs: &Outputs| {
        let judgement = judge(&problem, &Implementation::specification(), declared, outputs).unwrap();
        let checks = judgement.checks.iter().filter(|check| check.tensor.starts_with("grad."));
        checks.map(|check| (check.tensor.clone(), check.verdict)).collect::<Vec<_>>()
    };
    let kept = of_gradients(&outputs);
    assert_eq!(kept.len(), 4);
    assert!(kept.iter().all(|(_, verdict)| *verdict == Verdict::NotJudged), "{kept:?}");
    let mut short = outputs;
    let values = short.get_mut("grad.values").unwrap();
    values.shape = vec![values.data.len()];
    assert!(of_gradients(&short).contains(&("grad.values".into(), Verdict::Differs)));
}
