//! Walks give what the interpreter gives.

use fwpkm::implementation::Implementation;
use fwpkm::inputs::Inputs;
use fwpkm::numbers::Numbers;
use fwpkm::problem::Problem;
use fwpkm::run::{Plan, run};
use fwpkm_spec::{CaseFile, case_paths};

/// Where the recorded files are.
fn release() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors/release")
}

/// Every tensor of every recorded case, bit for bit, in f64.
#[test]
fn a_walk_gives_the_bits_of_a_run() {
    for path in case_paths(release()).unwrap() {
        let file = CaseFile::open(&path).unwrap();
        let problem = Problem::of_case("", &file, Vec::new()).unwrap();
        let walked = Implementation::specification().run(&problem, Numbers::F64).unwrap();
        let plan = Plan { trace: true, ..Plan::of_case(&file.case, None).unwrap() };
        let ran = run::<f64>(&plan, &Inputs::of_case(&file).unwrap()).unwrap();
        assert_eq!(walked.keys().collect::<Vec<_>>(), ran.keys().collect::<Vec<_>>(), "{}", path.display());
        for (name, tensor) in &ran {
            assert_eq!(tensor, &walked[name], "{name} of {}", path.display());
        }
    }
}
