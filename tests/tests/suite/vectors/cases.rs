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

/// The readings that vectors are recorded under; a vector without a step serves both.
pub(crate) const READINGS: [&str; 2] = ["paper", "release"];

impl Vector {
    /// Whether it is a vector of a clause, under a reading.
    pub(crate) fn is_for(&self, clause: &str, reading: &str) -> bool {
        self.has(clause) && (self.name.starts_with("both/") || self.name.starts_with(reading))
    }
}

/// A difference shows if it exceeds this share of the tensor's largest magnitude: well above what bf16 loses.
pub(crate) const SHOWS: f64 = 0.2;

/// The outputs in which what a clause says must show, by the beginning of their names.
pub(crate) fn shown_in(clause: &str) -> Vec<&'static str> {
    let (group, number) = clause.split_once('-').unwrap();
    match (group, number) {
        ("SEL", _) => vec!["out.indices", "out.weights", "out.reads"],
        ("SCR" | "RD", _) => vec!["out.weights", "out.reads"],
        ("MEM", "2") => vec!["out.mem_losses", "out.slot_values"],
        ("MEM", "6") | ("ADR", "4" | "5" | "6") => vec!["out.sub_keys"],
        ("MEM", _) => vec!["out.slot_values"],
        ("ADR", _) => vec!["out.addr_loss_mean", "out.sub_keys"],
        ("PRJ", "5") => vec!["out.gates", "out.layer"],
        ("PRJ", _) => vec!["out.layer", "out.reads", "out.slot_values"],
        ("OUT", _) => vec!["out.layer", "out.hidden"],
        ("GRD", _) => vec!["grad."],
        _ => vec!["out.reads", "out.slot_values", "out.sub_keys"],
    }
}

/// The largest difference of the outputs whose names begin so, over the tensor's largest magnitude, and the tensor's name.
/// Tensors of another shape, and those that are 0, say nothing.
pub(crate) fn difference_in(names: &[&str], one: &Outputs, other: &Outputs) -> (f64, String) {
    let same_shape = one.iter().filter_map(|(name, tensor)| {
        let other = other.get(name).filter(|other| other.shape == tensor.shape)?;
        Some((name, tensor.data.to_f64(), other.data.to_f64()))
    });
    let asked = same_shape.filter(|(name, ..)| names.iter().any(|start| name.starts_with(start)));
    let measured = asked.map(|(name, one, other)| {
        let largest = one.iter().fold(0.0_f64, |largest, x| largest.max(x.abs()));
        let gap = one.iter().zip(&other).fold(0.0_f64, |gap, (a, b)| gap.max((a - b).abs()));
        // Another slot is another slot, however near its number.
        let share = if name.starts_with("out.indices") { gap.min(1.0) } else { gap / largest };
        (if largest == 0.0 { 0.0 } else { share }, name.clone())
    });
    measured.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or_default()
}
