//! The comparison engine.

use std::path::{Path, PathBuf};

use fwpkm::implementation::Implementation;
use fwpkm::judge::{Declaration, Distance, Verdict, judge};
use fwpkm::numbers::Numbers;
use fwpkm::problem::Problem;
use fwpkm_spec::{CaseFile, case_paths};

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

/// The specification has no findings on the release's inputs, in the numbers these were made for.
#[test]
fn the_specification_conforms() {
    let mut wrong = Vec::new();
    for problem in problems() {
        for distance in [Distance::Direct, Distance::Expanded] {
            for numbers in [Numbers::F64, Numbers::F32] {
                let subject = Implementation { distance, ..Implementation::specification() };
                let outputs = subject.run(&problem, numbers).unwrap();
                let declared = Declaration { numbers, distance };
                let judgement = judge(&problem, &Implementation::specification(), declared, &outputs).unwrap();
                for check in &judgement.checks {
                    if check.verdict == Verdict::Differs {
                        wrong.push(format!("{} {} {distance:?}: {check:?}", problem.name, numbers.name()));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Nor on the certified vectors, in any numbers and with either form of the distance.
#[test]
fn the_specification_conforms_on_the_certified_vectors() {
    let mut wrong = Vec::new();
    for vector in fwpkm::vectors::collection::vectors(Path::new(fwpkm::vectors::collection::FOLDER)).unwrap() {
        let problem = vector.problem;
        for distance in [Distance::Direct, Distance::Expanded] {
            for numbers in Numbers::ALL {
                let subject = Implementation { distance, ..Implementation::specification() };
                let outputs = subject.run(&problem, numbers).unwrap();
                let declared = Declaration { numbers, distance };
                let judgement = judge(&problem, &Implementation::specification(), declared, &outputs).unwrap();
                for check in &judgement.checks {
                    if check.verdict == Verdict::Differs {
                        wrong.push(format!("{} {} {distance:?}: {check:?}", problem.name, numbers.name()));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
