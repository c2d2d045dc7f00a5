//! NUM-6: margins, certain and right selections.

use fwpkm_reference::numerics::{
    Precision, dot_product_bound, inverse_distance_bound, order_is_right, pair_score_bound, selection_is_certain,
    selection_is_right, selection_margin,
};
use fwpkm_reference::score::{dot_product, inverse_distance};
use fwpkm_reference::select::{best_pairs, half_top_k};
use ndarray::{Array1, Array2};
use ndarray_rand::rand::Rng;
use proptest::prelude::*;

use super::observed::Observed;
use super::scenes::{cases, exact, normal, rng, uniform};

/// Scores of one half, exact, with their bounds, and as f32 computes them.
struct Half {
    scores: Vec<f64>,
    bounds: Vec<f64>,
    computed: Array1<f32>,
}

impl Half {
    fn distances(query: &Array1<f32>, sub_keys: &Array2<f32>) -> Self {
        let scores: Vec<f64> = sub_keys
            .rows()
            .into_iter()
            .map(|k| inverse_distance(exact(query).view(), k.mapv(f64::from).view(), 1e-3))
            .collect();
        let bounds = scores.iter().map(|&s| inverse_distance_bound(Precision::F32, query.len(), s)).collect();
        let computed = sub_keys.rows().into_iter().map(|k| inverse_distance(query.view(), k, 1e-3)).collect();
        Self { scores, bounds, computed }
    }

    fn products(query: &Array1<f32>, sub_keys: &Array2<f32>) -> Self {
        let q = exact(query);
        let (mut scores, mut bounds) = (Vec::new(), Vec::new());
        for k in sub_keys.rows() {
            let k = k.mapv(f64::from);
            scores.push(dot_product(q.view(), k.view()));
            bounds.push(dot_product_bound(Precision::F32, &q.to_vec(), &k.to_vec()));
        }
        let computed = sub_keys.rows().into_iter().map(|k| dot_product(query.view(), k)).collect();
        Self { scores, bounds, computed }
    }

    /// The k best by the exact scores, and by those of f32
    fn choices(&self, k: usize) -> [Vec<usize>; 2] {
        let indices = |chosen: Vec<(usize, f64)>| chosen.into_iter().map(|(index, _)| index).collect();
        [
            indices(half_top_k(ndarray::aview1(&self.scores), k)),
            indices(half_top_k(self.computed.mapv(f64::from).view(), k)),
        ]
    }

    /// Returns whether the set was certain
    fn check(&self, k: usize) -> bool {
        let [exact, computed] = self.choices(k);
        let Self { scores, bounds, .. } = self;
        assert!(selection_is_right(scores, bounds, &exact) && selection_is_right(scores, bounds, &computed));
        assert!(order_is_right(scores, bounds, &exact) && order_is_right(scores, bounds, &computed));
        let certain = selection_is_certain(scores, bounds, &exact);
        if certain {
            assert_eq!(sorted(&exact), sorted(&computed));
        }
        certain
    }
}

fn sorted(chosen: &[usize]) -> Vec<usize> {
    let mut chosen = chosen.to_vec();
    chosen.sort_unstable();
    chosen
}

#[test]
fn num_6_a_certain_selection_is_that_of_f64() {
    let mut rng = rng(61);
    let (mut certain, mut all) = (0, 0);
    for _ in 0..300 {
        let sub_keys = uniform((64, 4), -0.3, 0.3, &mut rng);
        let query = normal(4, &mut rng) * 0.3;
        // k = 1, the paper's 8, all but one, all
        for k in [1, 8, 63, 64] {
            for half in [Half::distances(&query, &sub_keys), Half::products(&query, &sub_keys)] {
                certain += usize::from(half.check(k));
                all += 1;
            }
        }
    }
    println!("{certain} of {all} selections certain");
    // Seen: all 2400. A bound so wide that little were certain would be worth little.
    assert!(certain * 100 >= 98 * all, "{certain} of {all}");
}

/// Sub-keys one rounding apart: f32 may prefer the farther one, and is still right
#[test]
fn num_6_near_ties_are_uncertain_and_may_fall_either_way() {
    let mut rng = rng(62);
    let mut differs = 0;
    for _ in 0..2000 {
        let query = normal(5, &mut rng);
        let first = uniform(5, -1.0, 1.0, &mut rng);
        let mut second = first.clone();
        let moved = rng.random_range(0..5);
        second[moved] = if rng.random() { second[moved].next_up() } else { second[moved].next_down() };
        let far = first.mapv(|k| k + 3.0);
        let sub_keys = ndarray::stack![ndarray::Axis(0), first, second, far];
        for half in [Half::distances(&query, &sub_keys), Half::products(&query, &sub_keys)] {
            let Half { scores, bounds, .. } = &half;
            if scores[0].min(scores[1]) <= scores[2] + 1e-3 {
                continue;
            }
            assert!(!half.check(1), "{scores:?} {bounds:?}");
            assert!(selection_is_right(scores, bounds, &[0]) && selection_is_right(scores, bounds, &[1]));
            assert!(!selection_is_right(scores, bounds, &[2]), "{scores:?} {bounds:?}");
            // both near-ties together are certain, and their order is free
            assert!(half.check(2));
            assert!(order_is_right(scores, bounds, &[0, 1]) && order_is_right(scores, bounds, &[1, 0]));
            let [exact, computed] = half.choices(1);
            differs += usize::from(exact != computed);
        }
    }
    println!("{differs} of 4000 near-ties fall the other way");
    // Seen: 1259. A comparison of the chosen indices alone would fail as often.
    assert!(differs > 100, "{differs}");
}

#[test]
fn num_6_exact_ties_are_never_certain() {
    let half = Half::products(&ndarray::arr1(&[1.0]), &ndarray::arr2(&[[1.0], [1.0], [0.0]]));
    let Half { scores, bounds, .. } = &half;
    assert_eq!(selection_margin(scores, 1), 0.0);
    assert!(!selection_is_certain(scores, bounds, &[0]));
    assert!(selection_is_right(scores, bounds, &[0]) && selection_is_right(scores, bounds, &[1]));
    assert!(!selection_is_right(scores, bounds, &[2]));
    // not even where the bounds are 0
    assert!(!selection_is_certain(&[1.0, 1.0], &[0.0, 0.0], &[0]));
    assert!(selection_is_right(&[1.0, 1.0], &[0.0, 0.0], &[1]));
}

#[test]
fn num_6_sets_that_are_no_sets_are_never_right() {
    let (scores, bounds) = ([3.0, 2.0, 1.0], [9.0; 3]);
    assert!(selection_is_right(&scores, &bounds, &[2, 0]));
    assert!(!selection_is_right(&scores, &bounds, &[0, 0]));
    assert!(!selection_is_right(&scores, &bounds, &[3]));
    assert!(!order_is_right(&scores, &bounds, &[0, 3]));
    // a bound that is not valid makes nothing right
    assert!(!selection_is_right(&scores, &[f64::NAN; 3], &[0]));
}

#[test]
fn num_6_pair_scores() {
    let mut rng = rng(63);
    let mut observed = Observed::new("pair scores");
    let mut certain = 0;
    for _ in 0..500 {
        let k = 8;
        let mut halves = [uniform(k, -20.0, 7.0, &mut rng), uniform(k, -20.0, 7.0, &mut rng)];
        if rng.random() {
            // many equal sums
            halves = halves.map(|half| half.mapv(f32::round));
        }
        for half in &mut halves {
            half.as_slice_mut().unwrap().sort_by(|a, b| b.total_cmp(a));
        }
        let (mut scores, mut bounds) = (Vec::new(), Vec::new());
        for (a, b) in (0..k * k).map(|pair| (pair / k, pair % k)) {
            let sum = f64::from(halves[0][a]) + f64::from(halves[1][b]);
            observed.within(f64::from(halves[0][a] + halves[1][b]), sum, pair_score_bound(Precision::F32, sum));
            scores.push(sum);
            bounds.push(pair_score_bound(Precision::F32, sum));
        }
        let pairs = |chosen: Vec<(usize, usize)>| chosen.into_iter().map(|(a, b)| a * k + b).collect::<Vec<_>>();
        let computed = best_pairs(halves[0].view(), halves[1].view(), k);
        let computed = pairs(computed.into_iter().map(|(_, a, b)| (a, b)).collect());
        let expected = best_pairs(exact(&halves[0]).view(), exact(&halves[1]).view(), k);
        let expected = pairs(expected.into_iter().map(|(_, a, b)| (a, b)).collect());
        assert!(selection_is_right(&scores, &bounds, &computed) && order_is_right(&scores, &bounds, &computed));
        if selection_is_certain(&scores, &bounds, &expected) {
            assert_eq!(sorted(&computed), sorted(&expected));
            certain += 1;
        }
    }
    // Seen: 1.00, and 392 of 500 certain.
    observed.comes_close(1.0 / 2.0);
    println!("{certain} of 500 sets of pairs certain");
    assert!(certain > 200, "{certain}");
}

proptest! {
    #![proptest_config(cases(256))]

    /// For inverse distance the definition of certain and the margin at the border say the same
    #[test]
    fn prop_num_6_certain_exactly_if_the_margin_exceeds_the_bounds_at_the_border(
        sub_keys in prop::collection::vec(-0.01f32..0.01, 2..20),
        places in prop::collection::vec(0usize..20, 2..20),
        k in 1usize..20,
    ) {
        // few different sub-keys, so that ties and near-ties are common
        let count = places.len();
        let near = |i: usize| sub_keys[places[i] % sub_keys.len()] * (1.0 + i as f32 * f32::EPSILON);
        let sub_keys = Array2::from_shape_fn((count, 1), |(i, _)| near(i));
        let half = Half::distances(&ndarray::arr1(&[0.003]), &sub_keys);
        let k = k.min(count);
        let [exact, _] = half.choices(k);
        let certain = half.check(k);
        let margin = selection_margin(&half.scores, k);
        let next = half_top_k(ndarray::aview1(&half.scores), k + 1).get(k).map(|&(i, _)| i);
        let border = next.map_or(0.0, |next| half.bounds[exact[k - 1]] + half.bounds[next]);
        prop_assert_eq!(certain, margin > border);
    }

    /// What f32 chooses is right whatever the numbers
    #[test]
    fn prop_num_6_the_interpreter_is_right(
        query in prop::collection::vec(-3.0f32..3.0, 3),
        sub_keys in prop::collection::vec(-3.0f32..3.0, 3..60),
        k in 1usize..20,
    ) {
        let n = sub_keys.len() / 3;
        let sub_keys = Array2::from_shape_fn((n, 3), |(i, d)| sub_keys[i * 3 + d]);
        let query = Array1::from_vec(query);
        Half::distances(&query, &sub_keys).check(k.min(n));
        Half::products(&query, &sub_keys).check(k.min(n));
    }
}
