//! Which clause specifies a tensor.

use fwpkm_reference::Settings;
use fwpkm_reference::settings::{Activation, Score};

use crate::problem::Problem;

/// The label of the clause by which a case judges a tensor: of a gradient, the one of GRD that the case was made for.
pub(crate) fn clause_in(problem: &Problem, tensor: &str, settings: &Settings) -> String {
    let of_gradients = if tensor.starts_with("grad.") { made_for(problem, &["GRD"]) } else { None };
    of_gradients.unwrap_or_else(|| clause_of(tensor, settings).into())
}

/// The first clause of these groups that a case was made for.
pub(crate) fn made_for(problem: &Problem, groups: &[&str]) -> Option<String> {
    let first = problem.clauses.iter().find(|label| groups.contains(&label.group().code()));
    first.map(ToString::to_string)
}

/// The label of the clause that specifies a tensor, by its name.
pub fn clause_of(tensor: &str, settings: &Settings) -> &'static str {
    let by_step = tensor.rsplit_once('.').filter(|(_, last)| last.bytes().all(|byte| byte.is_ascii_digit()));
    match by_step.map_or(tensor, |(name, _)| name) {
        "trace.projection.queries" | "trace.projection.values" => "PRJ-6",
        "trace.projection.gates" | "out.gates" => "PRJ-5",
        "trace.score.half_scores" if settings.score == Score::DotProduct => "SCR-2",
        "trace.score.half_scores" => "SCR-1",
        "trace.select.half_indices" | "trace.select.half_scores" => "SEL-1",
        "trace.select.pair_scores" => "SEL-2",
        "out.indices" => "SEL-3",
        "out.weights" if settings.activation == Activation::Softmax => "RD-1",
        "out.weights" => "RD-2",
        "out.reads" => "RD-3",
        "trace.output.mixed" => "OUT-1",
        "out.layer" => "OUT-2",
        "out.hidden" => "OUT-3",
        "out.mem_losses" | "trace.memorize.pair_losses" => "MEM-2",
        "trace.memorize.slots" | "trace.memorize.read_counts" => "MEM-3",
        "trace.memorize.value_gradient" => "MEM-4",
        "out.slot_values" => "MEM-5",
        "trace.address.marginal" => "ADR-2",
        "trace.address.entropy" | "out.addr_loss_mean" => "ADR-3",
        "trace.address.sub_key_gradient" => "ADR-5",
        "out.sub_keys" => "ADR-6",
        "out.stats.collision_rate" => "STA-1",
        "out.stats.coverage" => "STA-2",
        "out.stats.divergence" => "STA-3",
        name if name.starts_with("grad.") => "GRD-1",
        _ => "NUM-11",
    }
}
