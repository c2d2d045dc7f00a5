//! NUM-5, address: the slope of the entropy, and the gradient of the half scores.

use fwpkm_reference::address::{address, entropy_slope, half_score_gradient, sub_key_gradient, usage};
use fwpkm_reference::numerics::{Precision, half_score_gradient_bounds, marginal_bounds, slope_bound};
use ndarray_rand::rand::Rng;

use super::addressing::half_rows;
use super::observed::Observed;
use super::scenes::{Scene, Sizes, exact, exact_reading, rng};

/// One token, dot products, queries of 1: the sub-key gradient of a head is the half-score gradient of its row
#[test]
fn num_5_half_score_gradient() {
    let mut own = Observed::new("half-score gradient");
    let mut from_scores = Observed::new("half-score gradient from scores");
    for seed in 0..40 {
        let sizes = Sizes { heads: 5, sub_keys: 8, half_dim: 1, value_dim: 1, top_k: 4, tokens: 1, sequences: 1 };
        let mut scene = Scene::random(sizes, seed).dot_product();
        scene.settings.addressing_weight = 2.3;
        scene.chunk.queries.fill(1.0);
        scene.tables.sub_keys *= 4.0;
        let reading = scene.reading();
        let (settings, rules) = (&scene.settings, &scene.rules);
        let (tables, chunk) = (scene.exact_tables(), scene.exact_chunk());
        let computed = address(settings, rules, &scene.tables, &scene.chunk, &reading, None);
        let expected = address(settings, rules, &tables, &chunk, &exact_reading(&reading), None);
        let own_marginal = exact(&computed.marginal);
        let queries = chunk.query_halves(settings);
        let slopes = half_score_gradient(settings, rules, usage(rules, &exact_reading(&reading)), own_marginal.view());
        let given = sub_key_gradient(settings, tables.sub_keys.view(), queries.view(), &slopes);
        for half in 0..2 {
            let rows = half_rows(&scene, &reading, half);
            let bounds = marginal_bounds(Precision::F32, &rows, settings.sub_keys);
            for (head, row) in rows.iter().enumerate() {
                for (observed, expected, marginal, bounds) in [
                    (&mut own, &given, &own_marginal, &vec![0.0; settings.sub_keys]),
                    (&mut from_scores, &expected.sub_key_gradient, &expected.marginal, &bounds),
                ] {
                    let marginal = marginal.row(half).to_vec();
                    let bounds =
                        half_score_gradient_bounds(Precision::F32, row, 2.3, rows.len(), 0.0, &marginal, bounds);
                    for (&i, bound) in row.sub_keys.iter().zip(bounds) {
                        let at = [head, half, i, 0];
                        observed.within(f64::from(computed.sub_key_gradient[at]), expected[at], bound);
                    }
                }
            }
        }
    }
    // Seen: 0.064, 0.036.
    own.comes_close(1.0 / 50.0);
    from_scores.comes_close(1.0 / 50.0);
}

#[test]
fn num_5_slope() {
    let mut own = Observed::new("slope");
    let mut shifted = Observed::new("slope of a marginal that is off by β");
    let mut rng = rng(9);
    for _ in 0..20_000 {
        let p = rng.random_range(-87.0f32..0.0).exp();
        for e in [0.0, 1e-8] {
            let exact_slope = entropy_slope(f64::from(p), e);
            let bound = slope_bound(Precision::F32, f64::from(p), e, 0.0);
            own.within(f64::from(entropy_slope(p, e)), exact_slope, bound);
            for beta in [-0.25, -0.1, 1e-4, 0.2, 0.25] {
                let off = f64::from(p) * (1.0 + beta);
                let bound = slope_bound(Precision::F32, f64::from(p), e, (off - f64::from(p)).abs() * (1.0 - 1e-12));
                shifted.within(entropy_slope(off, e), exact_slope, bound);
            }
        }
    }
    // Seen: 0.21, 0.58.
    own.comes_close(1.0 / 50.0);
    shifted.comes_close(1.0 / 50.0);
    assert!(slope_bound(Precision::F32, 0.4, 0.0, 0.1001).is_nan());
}
