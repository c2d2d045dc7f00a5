//! The vectors as the tests see them.

use std::path::{Path, PathBuf};

use fwpkm::inputs::Inputs;
use fwpkm::run::{Outputs, Plan, run};
use fwpkm_spec::{CaseFile, Certificate, case_paths};

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors/certified")
}

/// A certified file, opened.
pub(crate) struct Vector {
    pub(crate) name: String,
    pub(crate) file: CaseFile,
    pub(crate) certificate: Certificate,
    pub(crate) plan: Plan,
}

impl Vector {
    pub(crate) fn has(&self, clause: &str) -> bool {
        self.certificate.clauses.iter().any(|label| label == clause)
    }

    pub(crate) fn inputs(&self) -> Inputs<'_> {
        Inputs::of_case(&self.file).unwrap()
    }

    /// The interpreter's outputs under another plan; none where it refuses the plan.
    pub(crate) fn outputs(&self, plan: &Plan) -> Option<Outputs> {
        run::<f64>(plan, &self.inputs()).ok()
    }
}

pub(crate) fn vectors() -> Vec<Vector> {
    let open = |path: PathBuf| {
        let file = CaseFile::open(&path).unwrap();
        let name = path.strip_prefix(folder()).unwrap().with_extension("").to_string_lossy().into_owned();
        let certificate = file.certificate.clone().unwrap();
        let plan = Plan::of_case(&file.case, None).unwrap();
        Vector { name, file, certificate, plan }
    };
    case_paths(folder()).unwrap().into_iter().map(open).collect()
}

/// A difference shows if it exceeds this share of the tensor's largest magnitude: well above what bf16 loses.
pub(crate) const SHOWS: f64 = 0.2;

/// The largest difference of any output of the same shape, over the tensor's largest magnitude, and the tensor's name.
pub(crate) fn difference(one: &Outputs, other: &Outputs) -> (f64, String) {
    let same_shape = one.iter().filter_map(|(name, tensor)| {
        let other = other.get(name).filter(|other| other.shape == tensor.shape)?;
        Some((name, tensor.data.to_f64(), other.data.to_f64()))
    });
    let measured = same_shape.filter(|(name, ..)| name.starts_with("out.") && !name.ends_with("indices"));
    let measured = measured.map(|(name, one, other)| {
        let largest = one.iter().fold(0.0_f64, |largest, x| largest.max(x.abs()));
        let gap = one.iter().zip(&other).fold(0.0_f64, |gap, (a, b)| gap.max((a - b).abs()));
        (if gap == 0.0 { 0.0 } else { gap / largest }, name.clone())
    });
    measured.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or_default()
}
