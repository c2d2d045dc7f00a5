//! The release as a subject, through its recorded outputs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fwpkm::implementation::Implementation;
use fwpkm::judge::{Declaration, Distance, Judgement, judge};
use fwpkm::numbers::Numbers;
use fwpkm::problem::{Problem, Text, Tokens};
use fwpkm::walk::{Due, Event, events};
use fwpkm_reference::Rules;
use fwpkm_reference::settings::Border;
use fwpkm_spec::{CaseFile, case_paths};
use ndarray::s;

/// One recorded file as a subject's outputs.
struct Recorded {
    problem: Problem,
    outputs: fwpkm::run::Outputs,
    declared: Declaration,
}

fn recorded() -> Vec<Recorded> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors/release");
    case_paths(folder).unwrap().iter().map(of_file).collect()
}

fn of_file(path: &PathBuf) -> Recorded {
    let file = CaseFile::open(path).unwrap();
    let name = path.file_stem().unwrap().to_string_lossy();
    let problem = Problem::of_case(&name, &file, Vec::new()).unwrap();
    let names = file.file.names().filter(|name| name.starts_with("out.") || name.starts_with("grad."));
    let names: Vec<String> = names.map(str::to_string).collect();
    let outputs = names.into_iter().map(|name| (name.clone(), file.file.tensor(&name).unwrap())).collect();
    // torch.cdist takes distances expanded where either side has more than 25 rows.
    let many = file.case.n_subkeys > 25 || file.case.tokens.min(file.case.chunk) > 25;
    let distance = if many { Distance::Expanded } else { Distance::Direct };
    Recorded { problem, outputs, declared: Declaration { numbers: Numbers::F64, distance } }
}

impl Recorded {
    fn judged(&self, rules: Rules) -> Judgement {
        let oracle = Implementation { rules: Some(rules), ..Implementation::specification() };
        judge(&self.problem, &oracle, self.declared, &self.outputs).unwrap()
    }

    /// Whether they are outside the bounds of these rules by a factor of 10, as identification asks.
    fn differs(&self, rules: Rules) -> bool {
        self.judged(rules).findings().any(|check| check.ratio >= 10.0)
    }

    /// S / (B · pairs) of every step with pairs.
    fn pair_factors(&self) -> Vec<f64> {
        let (plan, b) = (&self.problem.plan, self.problem.sequences);
        let (Text::Memory(Tokens { mask, .. }) | Text::Layer { mask, .. }) = &self.problem.text;
        let steps = events(plan, self.problem.tokens).unwrap().into_iter().filter_map(|event| match event {
            Event::Step(due) => Some(due),
            _ => None,
        });
        let factor = |due: Due| {
            let from = due.queries.start;
            let pairs = due.queries.len().min((due.values_to - from).saturating_sub(plan.settings.lookahead));
            let samples = match mask {
                Some(mask) => mask.slice(s![from..from + pairs, ..]).iter().filter(|&&present| present).count(),
                None => due.counted.len() * b,
            };
            (pairs > 0).then(|| samples as f64 / (pairs * b) as f64)
        };
        steps.filter_map(factor).collect()
    }

    /// The fields of Rules whose two readings these outputs tell apart, by what FACTS of the release are in the case.
    fn predicted(&self) -> Vec<&'static str> {
        let settings = &self.problem.plan.settings;
        let judgement = self.judged(Rules::release());
        let steps = judgement.steps > 0;
        let carried = settings.border == Border::Carry;
        let mut fields = Vec::new();
        if steps && settings.top_k * settings.heads > 1 {
            fields.push("read_factor");
        }
        // A factor of 0 belongs to a step whose pairs are all masked: it has nothing to scale.
        if self.pair_factors().iter().any(|factor| ![0.0, 1.0].contains(factor)) {
            fields.push("pair_factor");
        }
        if carried {
            fields.push("stream_count");
        }
        // In the gradient 1e-8 cancels to first order; the entropy itself shows it.
        if steps && settings.addressing_weight > 0.0 && self.outputs.contains_key("out.addr_loss_mean") {
            fields.push("log_epsilon");
        }
        if steps && settings.memory_gradient_to_sub_keys {
            fields.push("sub_key_loss");
        }
        fields
    }
}

/// The release's rules with one field as in the paper.
fn fields() -> BTreeMap<&'static str, Rules> {
    let (paper, release) = (Rules::paper(), Rules::release());
    BTreeMap::from([
        ("read_factor", Rules { read_factor: paper.read_factor, ..release.clone() }),
        ("pair_factor", Rules { pair_factor: paper.pair_factor, ..release.clone() }),
        ("stream_count", Rules { stream_count: paper.stream_count, ..release.clone() }),
        ("log_epsilon", Rules { log_epsilon: paper.log_epsilon, ..release.clone() }),
        ("kept", Rules { kept: paper.kept, ..release.clone() }),
        ("z_score", Rules { z_score: paper.z_score, ..release.clone() }),
        ("sub_key_loss", Rules { sub_key_loss: paper.sub_key_loss, ..release }),
    ])
}

/// Under its own rules the release has no findings, within the bounds of f64.
#[test]
fn under_release_the_release_conforms() {
    for recorded in recorded() {
        let judgement = recorded.judged(Rules::release());
        let findings: Vec<String> = judgement.findings().map(|check| format!("{check:?}")).collect();
        assert!(findings.is_empty(), "{}: {}", recorded.problem.name, findings.join("\n"));
        let judged = judgement.checks.iter().any(|check| check.judged > 0);
        assert!(judged, "{}: nothing judged", recorded.problem.name);
    }
}

/// Under the paper's rules it differs by exactly the fields that its case makes visible; each alone is told apart.
#[test]
fn under_paper_the_release_differs_by_the_predicted_fields_only() {
    let mut wrong = Vec::new();
    for recorded in recorded() {
        let predicted = recorded.predicted();
        let seen: Vec<&str> =
            fields().into_iter().filter(|(_, rules)| recorded.differs(rules.clone())).map(|(name, _)| name).collect();
        let mut expected = predicted.clone();
        expected.sort_unstable();
        if seen != expected {
            wrong.push(format!("{}: predicted {expected:?}, seen {seen:?}", recorded.problem.name));
        }
        assert_eq!(recorded.differs(Rules::paper()), !seen.is_empty(), "{}", recorded.problem.name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
