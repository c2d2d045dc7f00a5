//! Every deviation computes something else than the specification, and every clause and field has one.

#[path = "deviations/problems.rs"]
mod problems;

use std::collections::{BTreeMap, BTreeSet};

use fwpkm::deviation::{Change, Deviation, all};
use fwpkm::implementation::Implementation;
use fwpkm::numbers::Numbers;
use fwpkm::problem::Problem;
use fwpkm::run::Outputs;
use rayon::prelude::*;

/// How far apart the results are that any implementation gives: the largest difference, as a share of its tensor's
/// largest number.
///
/// Tensors of other shapes are left out.
fn apart(found: &Outputs, expected: &Outputs) -> f64 {
    let given = expected.iter().filter(|(name, _)| name.starts_with("out."));
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
#[ignore]
fn survey() {
    let problems = problems::all();
    let specification: Vec<Outputs> =
        problems.par_iter().map(|p| Implementation::specification().run(p, Numbers::F64).unwrap()).collect();
    let lines: Vec<(String, Vec<f64>)> = all()
        .par_iter()
        .map(|deviation| {
            let mut found: Vec<(f64, String)> = Vec::new();
            let mut signature = Vec::new();
            for (problem, expected) in problems.iter().zip(&specification) {
                match Implementation::deviating(deviation).run(problem, Numbers::F64) {
                    Ok(out) => {
                        let d = apart(&out, expected);
                        signature.push(d);
                        if d > 1e-12 {
                            found.push((d, problem.name.clone()))
                        }
                    }
                    Err(e) => {
                        signature.push(-1.0);
                        found.push((-1.0, format!("{}: {e}", problem.name)))
                    }
                }
            }
            found.sort_by(|a, b| b.0.total_cmp(&a.0));
            let finite = found.iter().map(|f| f.0).filter(|x| x.is_finite()).fold(0.0, f64::max);
            let errors = found.iter().filter(|f| f.0 < 0.0).map(|f| f.1.clone()).take(2).collect::<Vec<_>>();
            (
                format!(
                    "{:45} {:3} finite {:9.2e} {:?} {:?}",
                    deviation.name,
                    found.len(),
                    finite,
                    found.first(),
                    errors
                ),
                signature,
            )
        })
        .collect();
    for (line, _) in &lines {
        println!("{line}");
    }
    let outs: Vec<Vec<Option<Outputs>>> = all()
        .par_iter()
        .map(|d| problems.iter().map(|p| Implementation::deviating(d).run(p, Numbers::F64).ok()).collect())
        .collect();
    let pairs: Vec<(usize, usize)> = (0..outs.len()).flat_map(|i| (0..i).map(move |j| (i, j))).collect();
    let alike: Vec<String> = pairs
        .par_iter()
        .filter_map(|&(i, j)| {
            let most = outs[i].iter().zip(&outs[j]).fold(0.0, |m: f64, (a, b)| match (a, b) {
                (Some(a), Some(b)) => m.max(apart(a, b)),
                (None, None) => m,
                _ => f64::INFINITY,
            });
            (most < 1e-3).then(|| format!("ALIKE {} {} {most:e}", all()[i].name, all()[j].name))
        })
        .collect();
    alike.iter().for_each(|line| println!("{line}"));
    println!("{} deviations", lines.len());
}
