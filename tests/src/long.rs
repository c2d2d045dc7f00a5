//! A long random text: as a whole, and chunk by chunk.                                            NUM-11

use fwpkm_reference::{Settings, Tables};
use fwpkm_spec::{Label, counted};
use ndarray::Array3;
use ndarray_rand::rand::rngs::StdRng;
use ndarray_rand::rand::{Rng, SeedableRng};
use ndarray_rand::rand_distr::StandardNormal;

use crate::error::{Error, Result};
use crate::lockstep::cases;
use crate::problem::{Problem, Text, Tokens};
use crate::run::Plan;

/// Most tokens of a text; all of them are held in memory.
pub const MOST: usize = 1 << 20;

/// What the text goes through.
const CLAUSES: [&str; 19] = [
    "SCR-1", "SEL-1", "SEL-2", "SEL-3", "SEL-4", "RD-1", "RD-3", "MEM-1", "MEM-2", "MEM-3", "MEM-4", "MEM-5", "ADR-1",
    "ADR-2", "ADR-3", "ADR-4", "ADR-5", "ADR-6", "STR-2",
];

/// A text of the paper's settings, but 64 sub-keys of 32 numbers and values of 32: first the whole, whose outputs alone are judged,
/// by replay, then its one-chunk cases with all stages.
///
/// # Errors   no tokens, or more than [`MOST`]
pub fn problems(tokens: usize) -> Result<Vec<Problem>> {
    if tokens == 0 || tokens > MOST {
        return Err(Error::Usage {
            reason: format!("a long text of {}: 1 to {MOST} are allowed", counted(tokens, "token")),
        });
    }
    let settings = Settings { sub_keys: 64, key_dim: 64, value_dim: 32, ..Settings::paper() };
    let mut rng = StdRng::seed_from_u64(1);
    let tables = Tables::random(&settings, &mut rng)?;
    let mut normal = |width| Array3::from_shape_simple_fn((tokens, 1, width), || rng.sample(StandardNormal));
    let (queries, values) = (normal(settings.key_dim), normal(settings.value_dim));
    let exercised = |label: &Label| CLAUSES.contains(&label.to_string().as_str());
    let whole = Problem {
        name: counted(tokens, "token"),
        clauses: fwpkm_spec::clauses().iter().map(|clause| clause.label).filter(exercised).collect(),
        plan: Plan::one_call(settings),
        sequences: 1,
        tokens,
        text: Text::Memory(Tokens { queries, values, gates: None, mask: None }),
        tables,
        projection: None,
        cotangents: None,
    };
    let mut problems = cases(&whole)?;
    for case in &mut problems {
        case.plan.trace = true;
    }
    problems.insert(0, whole);
    Ok(problems)
}
