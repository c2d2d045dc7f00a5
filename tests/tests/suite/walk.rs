//! Walks give what the interpreter gives.

use approx::assert_abs_diff_eq;
use fwpkm::implementation::Implementation;
use fwpkm::inputs::Inputs;
use fwpkm::numbers::Numbers;
use fwpkm::problem::Problem;
use fwpkm::run::{Outputs, Plan, run};
use fwpkm_spec::{CaseFile, case_paths};

/// Where the recorded files are.
fn release() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors/release")
}

/// Every tensor of every recorded case, bit for bit, in f64; but for gradients, which a walk gets otherwise.
#[test]
fn a_walk_gives_the_bits_of_a_run() {
    for path in case_paths(release()).unwrap() {
        let file = CaseFile::open(&path).unwrap();
        let problem = Problem::of_case("", &file, Vec::new()).unwrap();
        let mut walked = Implementation::specification().run(&problem, Numbers::F64).unwrap();
        let plan = Plan { trace: true, ..Plan::of_case(&file.case, None).unwrap() };
        let ran = run::<f64>(&plan, &Inputs::of_case(&file).unwrap()).unwrap();
        let (results, gradients): (Outputs, Outputs) =
            ran.into_iter().partition(|(name, _)| !name.starts_with("grad."));
        for (name, tensor) in &gradients {
            let walked = walked.remove(name).unwrap_or_else(|| panic!("no {name} of {}", path.display()));
            assert_eq!(walked.shape, tensor.shape, "{name} of {}", path.display());
            let (walked, ran) = (walked.data.to_f64(), tensor.data.to_f64());
            let largest = ran.iter().fold(0.0_f64, |largest, x| largest.max(x.abs()));
            for (found, expected) in walked.iter().zip(&ran) {
                assert_abs_diff_eq!(found, expected, epsilon = 1e-13 * largest);
            }
        }
        assert_eq!(walked.keys().collect::<Vec<_>>(), results.keys().collect::<Vec<_>>(), "{}", path.display());
        for (name, tensor) in &results {
            assert_eq!(tensor, &walked[name], "{name} of {}", path.display());
        }
    }
}
