//! NUM-4: reads.

use fwpkm_reference::numerics::{Precision, read_bound};
use fwpkm_reference::read::read;
use ndarray::{Array2, Array3};
use ndarray_rand::rand::Rng;
use proptest::prelude::*;

use super::observed::Observed;
use super::scenes::{cases, exact, normal, rng, uniform};

fn check(observed: &mut Observed, slot_values: &Array2<f32>, slots: &Array3<usize>, weights: &Array3<f32>) {
    let computed = read(slot_values.view(), slots.view(), weights.view()).unwrap();
    let (values, exact_weights) = (exact(slot_values), exact(weights));
    let expected = read(values.view(), slots.view(), exact_weights.view()).unwrap();
    for ((token, d), &r) in expected.indexed_iter() {
        let slots = slots.index_axis(ndarray::Axis(0), token);
        let feature: Vec<f64> = slots.iter().map(|&slot| values[[slot, d]]).collect();
        let weights: Vec<f64> = exact_weights.index_axis(ndarray::Axis(0), token).iter().copied().collect();
        observed.within(f64::from(computed[[token, d]]), r, read_bound(Precision::F32, &weights, &feature));
    }
}

#[test]
fn num_4_reads() {
    // H·k: one slot, the paper's 8, static PKM's 4·32, and a sum long enough to drift
    for (heads, k) in [(1, 1), (1, 8), (4, 32), (1, 4000)] {
        let mut rng = rng(4);
        let mut observed = Observed::new(format!("reads, H·k = {}", heads * k));
        let random = normal((32, 40), &mut rng);
        let same_sign = uniform((32, 40), 0.5, 3.0, &mut rng);
        let equal = Array2::from_shape_fn((32, 40), |(_, d)| 0.7 + 0.013 * d as f32);
        let large_offset = normal((32, 40), &mut rng).mapv(|v| 1e4 + v);
        let tiny = normal((32, 40), &mut rng) * 1e-20;
        let slots = Array3::from_shape_fn((6, heads, k), |_| rng.random_range(0..32));
        // one slot in all places
        let hot = Array3::from_elem((6, heads, k), 7);
        let even = Array3::from_elem((6, heads, k), 0.3 / k as f32);
        let uneven = uniform((6, heads, k), 0.0, 1.0, &mut rng);
        // silu has negative weights
        let signed = uniform((6, heads, k), -0.3, 1.0, &mut rng);
        let underflowing = uniform((6, heads, k), 0.0, 1e-20, &mut rng);
        for slot_values in [random, same_sign, equal, large_offset, tiny] {
            for slots in [&slots, &hot] {
                for weights in [&even, &uneven, &signed, &underflowing] {
                    check(&mut observed, &slot_values, slots, weights);
                }
            }
        }
        // Seen: 0.99, 0.34, 0.24, 0.24.
        observed.comes_close(1.0 / 50.0);
    }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn prop_num_4_reads(
        entries in prop::collection::vec((0usize..3, -1.0f32..1.0, -1e3f32..1e3), 1..60),
        scale in -100i32..40,
    ) {
        let k = entries.len();
        let slot_values = Array2::from_shape_fn((k, 1), |(i, _)| entries[i].2 * 2f32.powi(scale));
        let slots = Array3::from_shape_fn((1, 1, k), |(_, _, i)| entries[i].0.min(k - 1));
        let weights = Array3::from_shape_fn((1, 1, k), |(_, _, i)| entries[i].1);
        check(&mut Observed::new("random read"), &slot_values, &slots, &weights);
    }
}
