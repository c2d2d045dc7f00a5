//! Every deviation computes something else than the specification, and every clause and every choice has one.

mod problems;

use std::collections::BTreeSet;
use std::path::Path;

use fwpkm::Error;
use fwpkm::deviation::{CONTROL, Deviation, all};
use fwpkm::implementation::Implementation;
use fwpkm::numbers::Numbers;
use fwpkm::problem::Problem;
use fwpkm::run::{Outputs, Plan};
use fwpkm::settings_file::{RulesFile, SettingsFile};
use fwpkm_spec::CaseFile;
use rayon::prelude::*;

/// What a deviation must differ by, as a share of a tensor's largest number.
const REAL: f64 = 1e-3;

/// Clauses without a deviation, and why.
const NO_DEVIATION: [(&str, &str); 2] = [
    ("BAT-3", "cases give the tables, so what an implementation draws by itself does not show"),
    ("BAT-5", "a definition of files, which no case has"),
];

/// Groups without deviations, and why.
const NO_DEVIATIONS: [(&str, &str); 1] = [("NUM", "says how far results may differ, and computes none")];

/// Fields that no deviation changes, and why.
const NO_CHANGE: [(&str, &str); 6] = [
    ("heads", "the shape of the tables"),
    ("sub_keys", "the shape of the tables"),
    ("key_dim", "the shape of the tables"),
    ("value_dim", "the shape of the tables"),
    ("top_k", "the shape of the outputs; SEL-1 to SEL-4 have deviations that keep it"),
    ("base", "no choice, but a name for all of them"),
];

/// The cases of this test, and some of the release's.
fn problems() -> Vec<Problem> {
    let release = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors/release");
    let recorded = ["heads2", "stream_ragged", "layer_heads2_batch2"].map(|name| {
        let file = CaseFile::open(release.join(format!("{name}.safetensors"))).unwrap();
        Problem::of_case(name, &file, Vec::new()).unwrap()
    });
    problems::all().into_iter().chain(recorded).collect()
}

/// What a deviation computes; none where that is not finite.
fn run(deviation: &'static Deviation, problem: &Problem) -> Option<Outputs> {
    match Implementation::deviating(deviation).run(problem, Numbers::F64) {
        Ok(outputs) => Some(outputs),
        Err(Error::Reference(fwpkm_reference::Error::Diverged { .. })) => None,
        Err(error) => panic!("{} in case {}: {error}", deviation.name, problem.name),
    }
}

/// How far apart the results and gradients are: the largest difference, as a share of its tensor's
/// largest number. Tensors of different shapes are left out.
fn apart(found: &Outputs, expected: &Outputs) -> f64 {
    let given = expected.iter().filter(|(name, _)| name.starts_with("out.") || name.starts_with("grad."));
    given.fold(0.0, |most, (name, expected)| match found.get(name) {
        Some(found) if found.shape == expected.shape => {
            let (found, expected) = (found.data.to_f64(), expected.data.to_f64());
            let largest = expected.iter().fold(f64::MIN_POSITIVE, |most, x| x.abs().max(most));
            found.iter().zip(&expected).fold(most, |most, (x, y)| f64::max(most, (x - y).abs() / largest))
        }
        _ => most,
    })
}

#[test]
fn every_deviation_is_real_and_no_two_are_the_same() {
    let problems = problems();
    let run_all = |deviation: &'static Deviation| problems.iter().map(|problem| run(deviation, problem)).collect();
    let specification: Vec<Option<Outputs>> = run_all(&CONTROL);
    assert!(specification.iter().all(Option::is_some));
    let found: Vec<Vec<Option<Outputs>>> = all().par_iter().map(run_all).collect();
    let differ = |a: &[Option<Outputs>], b: &[Option<Outputs>]| {
        a.iter().zip(b).any(|pair| matches!(pair, (Some(a), Some(b)) if apart(a, b) > REAL))
    };
    for (deviation, outputs) in all().iter().zip(&found) {
        assert!(differ(outputs, &specification), "{} computes what the specification does", deviation.name);
    }
    let pairs: Vec<(usize, usize)> = (0..found.len()).flat_map(|a| (0..a).map(move |b| (a, b))).collect();
    let same: Vec<_> = pairs.par_iter().filter(|&&(a, b)| !differ(&found[a], &found[b])).collect();
    let same: Vec<_> = same.into_iter().map(|&(a, b)| (all()[a].name, all()[b].name)).collect();
    assert!(same.is_empty(), "these compute the same: {same:?}");
}

#[test]
fn the_control_is_the_specification_bit_for_bit() {
    assert!(all().iter().all(|deviation| deviation.name != CONTROL.name));
    for problem in problems() {
        for numbers in Numbers::ALL {
            let specification = Implementation::specification().run(&problem, numbers);
            let control = Implementation::deviating(&CONTROL).run(&problem, numbers);
            match (specification, control) {
                (Ok(specification), Ok(control)) => assert!(specification == control, "{}", problem.name),
                (specification, control) => {
                    let errors = [specification, control].map(|result| result.err().map(|error| error.to_string()));
                    assert_eq!(errors[0], errors[1], "{}", problem.name);
                }
            }
        }
    }
}

#[test]
fn names_are_unique_and_begin_with_a_clause() {
    let labels: BTreeSet<String> = fwpkm_spec::clauses().iter().map(|clause| clause.label.to_string()).collect();
    let mut names = BTreeSet::new();
    for Deviation { name, clause, instead, source, .. } in all() {
        assert!(names.insert(name), "{name} twice");
        assert!(labels.contains(*clause), "{name}: no clause {clause}");
        assert!(name.starts_with(&format!("{}-", clause.to_lowercase())), "{name} is of {clause}");
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{name}");
        assert!(!instead.is_empty() && !instead.ends_with('.') && !source.is_empty(), "{name}");
        assert!(instead.lines().count() == 1 && !instead.contains("  "), "{name}: {instead:?}");
    }
}

#[test]
fn every_clause_has_a_deviation_or_a_reason() {
    let with: BTreeSet<String> = all().iter().map(|deviation| deviation.clause.to_string()).collect();
    let without: BTreeSet<String> = NO_DEVIATION.iter().map(|(clause, _)| (*clause).to_string()).collect();
    let groups = NO_DEVIATIONS.map(|(group, _)| format!("{group}-"));
    let labels = fwpkm_spec::clauses().iter().map(|clause| clause.label.to_string());
    let needed: BTreeSet<String> =
        labels.filter(|label| !groups.iter().any(|group| label.starts_with(group))).collect();
    assert_eq!(needed.difference(&with).cloned().collect::<BTreeSet<_>>(), without);
}

/// Settings and rules of a plan, by field.
fn fields(plan: &Plan) -> serde_json::Map<String, serde_json::Value> {
    let settings = serde_json::to_value(SettingsFile::from(&plan.settings)).unwrap();
    let rules = serde_json::to_value(RulesFile::from(&plan.rules)).unwrap();
    settings.as_object().unwrap().clone().into_iter().chain(rules.as_object().unwrap().clone()).collect()
}

#[test]
fn every_choice_has_a_deviation_that_changes_it_alone() {
    let mut changed = BTreeSet::new();
    let mut names = BTreeSet::new();
    for problem in problems() {
        let given = fields(&problem.plan);
        names.extend(given.keys().cloned());
        for deviation in all() {
            let made = fields(&Implementation::deviating(deviation).plan(&problem.plan));
            let different = given.keys().filter(|field| made[*field] != given[*field]);
            // A dot product has no epsilon.
            let of_score = made["score"] != given["score"];
            let different: Vec<&String> = different.filter(|field| !(of_score && *field == "epsilon")).collect();
            if let [field] = different[..] {
                changed.insert(field.clone());
            }
        }
    }
    let without: BTreeSet<String> = NO_CHANGE.iter().map(|(field, _)| (*field).to_string()).collect();
    assert_eq!(names.difference(&changed).cloned().collect::<BTreeSet<_>>(), without);
}

#[test]
fn a_deviation_says_which_stages_it_replaces() {
    let of = |stage: &str| all().iter().filter(|deviation| deviation.change.is_of(stage)).count();
    let named = |name: &str| fwpkm::deviation::named(name).unwrap().change;
    assert!(named("sel-3-slot-transposed").is_of("select") && !named("sel-3-slot-transposed").is_of("score"));
    assert!(named("scr-1-distance-not-squared").is_of("score") && named("scr-1-distance-not-squared").is_of("address"));
    assert!(named("bat-1-package-on-pypi").is_of("memorize") && !named("bat-1-package-on-pypi").is_of("select"));
    let stages = ["project", "score", "select", "weigh", "read", "output", "memorize", "address", "value_step"];
    assert!(stages.iter().chain(&["sub_key_step"]).all(|stage| of(stage) > 0));
    assert!(!CONTROL.change.is_of("select"));
}
