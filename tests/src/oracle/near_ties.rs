//! Choices against exact scores: what is certain must be met, and the rest may only be what rounding can explain.       NUM-6

use std::collections::BTreeSet;

use fwpkm_reference::numerics::{
    Precision, dot_product_bound, inverse_distance_bound, order_is_right, pair_score_bound, selection_is_certain,
    selection_is_right,
};
use fwpkm_reference::score::half_scores;
use fwpkm_reference::select::{best_pairs, half_top_k};
use fwpkm_reference::settings::Score;
use fwpkm_reference::{Scalar, Settings};
use ndarray::{Array1, Array4, s};

use super::judge::Judge;
use super::scene::cast;

/// Exact scores or sums, their bounds, and what `S` and f64 choose of them, best first.
struct Choice {
    exact: Vec<f64>,
    bounds: Vec<f64>,
    found: Vec<usize>,
    best: Vec<usize>,
}

impl Choice {
    fn holds(&self, judge: &Judge, what: &str) {
        let Self { exact, bounds, found, best } = self;
        let right = selection_is_right(exact, bounds, found) && order_is_right(exact, bounds, found);
        judge.claim("NUM-6", right, || format!("{what}: {found:?} of {exact:?}, bounds {bounds:?}"));
        let set = |chosen: &[usize]| chosen.iter().copied().collect::<BTreeSet<usize>>();
        let met = !selection_is_certain(exact, bounds, best) || set(found) == set(best);
        judge
            .claim("NUM-6", met, || format!("{what}: {found:?}, certain are {best:?} of {exact:?}, bounds {bounds:?}"));
    }
}

/// What f32 chooses of half scores, and of pairs given its half scores. Nothing of f64, which nothing here is exact for, and
/// nothing where the bounds are not valid.
///
/// # Shapes   as `fwpkm_reference::score::half_scores`
pub(super) fn near_ties_hold<S: Scalar>(
    judge: &Judge,
    settings: &Settings,
    sub_keys: &Array4<S>,
    queries: &Array4<S>,
    scores: &Array4<S>,
) {
    let precision = Precision::of::<S>();
    let (sub_keys, queries) = (cast::<S, f64, _>(sub_keys), cast::<S, f64, _>(queries));
    let exact = half_scores(settings, sub_keys.view(), queries.view());
    let bound = |(row, head, half, i): (usize, usize, usize, usize)| match settings.score {
        Score::InverseDistance { epsilon } if epsilon < 2f64.powi(-80) => f64::NAN,
        Score::InverseDistance { .. } => {
            inverse_distance_bound(precision, settings.half_dim(), exact[[row, head, half, i]])
        }
        Score::DotProduct => {
            let query = queries.slice(s![row, head, half, ..]).to_vec();
            dot_product_bound(precision, &query, &sub_keys.slice(s![head, half, i, ..]).to_vec())
        }
    };
    let bounds = Array4::from_shape_fn(exact.dim(), bound);
    if precision == Precision::F64 || !exact.iter().chain(&bounds).all(|x| x.is_finite()) {
        return;
    }
    for (row, head) in ndarray::indices((exact.dim().0, settings.heads)) {
        let choices = [0, 1].map(|half| {
            let at = s![row, head, half, ..];
            let (scores, exact, bounds) = (scores.slice(at), exact.slice(at), bounds.slice(at));
            for ((score, exact), bound) in scores.iter().zip(exact).zip(bounds) {
                judge.claim("NUM-2", (score.to_f64() - exact).abs() <= *bound, || {
                    format!("half score {score:?} of {exact}, bound {bound:e}")
                });
            }
            let best = half_top_k(exact, settings.top_k).into_iter().map(|best| best.0).collect();
            let chosen = half_top_k(scores, settings.top_k);
            let found = chosen.iter().map(|best| best.0).collect();
            Choice { exact: exact.to_vec(), bounds: bounds.to_vec(), found, best }.holds(judge, "half");
            Array1::from_iter(chosen.into_iter().map(|best| best.1))
        });
        pairs_hold(judge, &choices[0], &choices[1]);
    }
}

fn pairs_hold<S: Scalar>(judge: &Judge, first: &Array1<S>, second: &Array1<S>) {
    let k = first.len();
    let places = |pairs: Vec<(usize, usize)>| pairs.into_iter().map(|(a, b)| a * k + b).collect();
    let found = best_pairs(first.view(), second.view(), k).into_iter().map(|(_, a, b)| (a, b)).collect();
    let (first, second) = (cast::<S, f64, _>(first), cast::<S, f64, _>(second));
    let best = best_pairs(first.view(), second.view(), k).into_iter().map(|(_, a, b)| (a, b)).collect();
    let exact: Vec<f64> = (0..k * k).map(|pair| first[pair / k] + second[pair % k]).collect();
    let bounds = exact.iter().map(|&sum| pair_score_bound(Precision::of::<S>(), sum)).collect();
    Choice { exact, bounds, found: places(found), best: places(best) }.holds(judge, "pairs");
}
