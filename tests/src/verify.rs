//! Recorded outputs against the interpreter.                                                NUM-1
//!
//! The interpreter runs in f64 on the recorded inputs. Indices must be equal; every other tensor may differ by
//! 1e-10 of its largest recorded magnitude, far above what the order of sums costs in f64 and far below any real difference.

use std::path::{Path, PathBuf};

use fwpkm_reference::Rules;
use fwpkm_spec::{CaseFile, Data, Tensor, listed, shortened};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::inputs::{Inputs, is_given};
use crate::run::{Outputs, Plan, run};

/// Allowed difference, relative to the largest recorded magnitude of the tensor.
pub const RELATIVE_BOUND: f64 = 1e-10;

/// What became of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every recorded output that is specified agrees.
    Conforms,
    /// At least one does not.
    Differs,
    /// The case could not be judged.
    Error,
}

/// One recorded tensor against the interpreter's.
#[derive(Clone, Debug, Serialize)]
pub struct TensorReport {
    /// Name, as in the file.
    pub name: String,
    /// Whether it is inside the bound.
    pub conforms: bool,
    /// Largest difference over the tensor's largest recorded magnitude; for indices, how many differ.
    pub error: f64,
    /// What is allowed of it.
    pub bound: f64,
    /// Where the largest difference is; none where nothing differs.
    pub at: Option<Vec<usize>>,
    /// Recorded number there.
    pub expected: Option<f64>,
    /// The interpreter's number there.
    pub actual: Option<f64>,
}

/// One case file.
#[derive(Clone, Debug, Serialize)]
pub struct CaseReport {
    /// Its path, as given.
    pub path: PathBuf,
    /// What became of it.
    pub verdict: Verdict,
    /// Why, where it could not be judged.
    pub error: Option<String>,
    /// The recorded outputs.
    pub tensors: Vec<TensorReport>,
    /// Recorded tensors that no clause specifies; they are neither passed nor failed.
    pub not_specified: Vec<String>,
    /// Keys of the case that nothing reads.
    pub unknown_keys: Vec<String>,
}

impl CaseReport {
    fn new(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            verdict: Verdict::Error,
            error: None,
            tensors: Vec::new(),
            not_specified: Vec::new(),
            unknown_keys: Vec::new(),
        }
    }

    /// The report of a path that holds no case at all.
    pub fn unreadable(path: &Path, error: &fwpkm_spec::Error) -> Self {
        Self { error: Some(error.to_string()), ..Self::new(path) }
    }
}

/// Verifies one file; whatever is wrong with it stands in the report.
///
/// `rules` replace those the case states (the release's where it states none).
pub fn verify(path: &Path, rules: Option<&Rules>) -> CaseReport {
    match CaseFile::open(path) {
        Ok(file) => verify_file(&file, rules),
        Err(error) => CaseReport::unreadable(path, &error),
    }
}

/// The same, of a file that is read already.
pub fn verify_file(file: &CaseFile, rules: Option<&Rules>) -> CaseReport {
    let mut report = CaseReport::new(&file.path);
    match judge(file, rules, &mut report) {
        Ok(()) if report.tensors.iter().all(|tensor| tensor.conforms) => report.verdict = Verdict::Conforms,
        Ok(()) => report.verdict = Verdict::Differs,
        Err(error) => report.error = Some(error.to_string()),
    }
    report
}

fn judge(file: &CaseFile, rules: Option<&Rules>, report: &mut CaseReport) -> Result<()> {
    report.unknown_keys.clone_from(&file.case.unknown);
    let mut plan = Plan::of_case(&file.case, rules)?;
    plan.trace = file.file.names().any(|name| name.starts_with("trace."));
    let is_result = |name: &&str| ["out.", "trace.", "grad."].iter().any(|prefix| name.starts_with(prefix));
    let recorded: Vec<String> = file.file.names().filter(is_result).map(str::to_string).collect();
    if recorded.is_empty() {
        return Err(Error::Missing { tensor: "out.*".into(), found: listed(file.file.names()) });
    }
    let outputs = run::<f64>(&plan, &Inputs::of_case(file)?)?;
    for name in recorded {
        report.tensors.push(compare(&name, &file.file.tensor(&name)?, &outputs)?);
    }
    let unspecified = |name: &&str| !is_result(name) && !is_given(name);
    report.not_specified = file.file.names().filter(unspecified).map(str::to_string).collect();
    Ok(())
}

/// Compares one recorded tensor.
///
/// # Errors   a recorded tensor of another element type than f64 (i64 for indices), which has no bound yet
pub(crate) fn compare(name: &str, recorded: &Tensor, outputs: &Outputs) -> Result<TensorReport> {
    let Some(actual) = outputs.get(name) else {
        return Err(Error::Missing {
            tensor: format!("{} among the results", shortened(name)),
            found: listed(outputs.keys().map(String::as_str)),
        });
    };
    if recorded.shape != actual.shape {
        return Err(Error::Shape {
            tensor: name.into(),
            expected: format!("the interpreter gives {:?}", actual.shape),
            found: recorded.shape.clone(),
        });
    }
    match (&recorded.data, &actual.data) {
        (Data::I64(expected), Data::I64(actual)) => Ok(compare_indices(name, &recorded.shape, expected, actual)),
        (Data::F64(expected), Data::F64(actual)) => Ok(compare_numbers(name, &recorded.shape, expected, actual)),
        (found, _) => Err(Error::ElementType {
            tensor: name.into(),
            expected: "F64 (I64 for out.indices); other recordings have no bound yet".into(),
            found: found.element_type().name().into(),
        }),
    }
}

fn compare_indices(name: &str, shape: &[usize], expected: &[i64], actual: &[i64]) -> TensorReport {
    let differing = expected.iter().zip(actual).filter(|(e, a)| e != a).count();
    let first = expected.iter().zip(actual).position(|(e, a)| e != a);
    TensorReport {
        name: name.into(),
        conforms: differing == 0,
        error: differing as f64,
        bound: 0.0,
        at: first.map(|flat| unravel(flat, shape)),
        expected: first.map(|flat| expected[flat] as f64),
        actual: first.map(|flat| actual[flat] as f64),
    }
}

fn compare_numbers(name: &str, shape: &[usize], expected: &[f64], actual: &[f64]) -> TensorReport {
    let largest = expected.iter().fold(0.0_f64, |largest, x| largest.max(x.abs()));
    // A difference that is not a number counts as the worst there is.
    let gap =
        |flat: usize| Some((expected[flat] - actual[flat]).abs()).filter(|gap| !gap.is_nan()).unwrap_or(f64::INFINITY);
    let worst = (0..expected.len()).max_by(|&x, &y| gap(x).total_cmp(&gap(y))).filter(|&flat| gap(flat) > 0.0);
    let error = worst.map_or(0.0, |flat| if largest > 0.0 { gap(flat) / largest } else { f64::INFINITY });
    TensorReport {
        name: name.into(),
        conforms: error <= RELATIVE_BOUND,
        error,
        bound: RELATIVE_BOUND,
        at: worst.map(|flat| unravel(flat, shape)),
        expected: worst.map(|flat| expected[flat]),
        actual: worst.map(|flat| actual[flat]),
    }
}

fn unravel(mut flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut at = vec![0; shape.len()];
    for (index, &length) in at.iter_mut().zip(shape).rev() {
        *index = flat % length;
        flat /= length;
    }
    at
}
