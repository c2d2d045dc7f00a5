//! The suite catches every deviation, and says which it is.

use std::path::Path;

use fwpkm::deviation::{self, Deviation};
use fwpkm::identify::Identification;
use fwpkm::numbers::Numbers;
use fwpkm::survey::Ground;
use fwpkm::vectors::collection::{FOLDER, Vector, vectors};
use rayon::prelude::*;

fn certified() -> Vec<Vector> {
    vectors(Path::new(&std::env::var("VECTORS").unwrap_or(FOLDER.into()))).unwrap()
}

fn selected() -> Vec<&'static Deviation> {
    let only = std::env::var("ONLY").unwrap_or_default();
    deviation::all()
        .iter()
        .filter(|deviation| only.is_empty() || only.split(',').any(|only| deviation.name == only))
        .collect()
}

/// In every kind of numbers, a case labelled with its clause catches every deviation.
#[test]
fn every_deviation_is_caught_by_a_case_of_its_clause() {
    let vectors = certified();
    for numbers in [Numbers::F32, Numbers::Bf16, Numbers::F16] {
        let started = std::time::Instant::now();
        let ground = Ground::new(&vectors, numbers).unwrap();
        assert_eq!(ground.findings(), Vec::<String>::new());
        let missed: Vec<String> = selected()
            .par_iter()
            .filter_map(|deviation| {
                let (surveyed, _) = ground.survey(&[deviation]);
                let caught = surveyed.caught_by[0].is_some();
                (!caught).then(|| {
                    format!(
                        "{} {}: {} cases differ, {} errors",
                        numbers.name(),
                        deviation.name,
                        surveyed.differing,
                        surveyed.errors
                    )
                })
            })
            .collect();
        println!("{}: {} missed, {:?}\n{}", numbers.name(), missed.len(), started.elapsed(), missed.join("\n"));
    }
}

/// In f32 every deviation is identified as itself, or as one of a set.
#[test]
fn every_deviation_is_identified() {
    let vectors = certified();
    let ground = Ground::new(&vectors, Numbers::F32).unwrap();
    let lines: Vec<String> = selected()
        .par_iter()
        .map(|deviation| {
            let started = std::time::Instant::now();
            let (_, evidence) = ground.survey(&[deviation]);
            let surveyed = started.elapsed();
            let found = match ground.identified(&evidence) {
                Identification::Conforms => "CONFORMS".to_string(),
                Identification::Unknown => {
                    let own = fwpkm::implementation::Implementation::deviating(deviation);
                    let declared =
                        fwpkm::judge::Declaration { numbers: Numbers::F32, distance: fwpkm::judge::Distance::Direct };
                    let mut text = "UNKNOWN".to_string();
                    for case in &evidence {
                        match fwpkm::judge::judge(case.problem, &own, declared, &case.outputs) {
                            Err(error) => text += &format!("\n    {}: {error}", case.problem.name),
                            Ok(judgement) => {
                                for check in judgement.findings().take(2) {
                                    text += &format!("\n    {}: {check:?}", case.problem.name);
                                }
                            }
                        }
                    }
                    text.lines().take(6).collect::<Vec<_>>().join("\n")
                }
                Identification::ConsistentWith(explanations) => {
                    let names: Vec<String> = explanations.iter().map(|e| e.deviations.join("+")).collect();
                    let own = names.iter().any(|name| name == deviation.name);
                    if own && names.len() == 1 {
                        "itself".into()
                    } else {
                        format!("{}{names:?}", if own { "set " } else { "OTHER " })
                    }
                }
            };
            format!("{}: {found} {:.1?} {:.1?}", deviation.name, surveyed, started.elapsed())
        })
        .collect();
    println!("{}", lines.join("\n"));
}
