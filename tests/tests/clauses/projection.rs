//! Stage `projection`: hidden states to queries, values and gates.

mod properties;

use crate::common::{ROUNDING, projection, refused, small, tables};
use approx::assert_abs_diff_eq;
use fwpkm_reference::projection::{NormedLinear, Projected, Projection, gates, l2, linear, project, rms_norm, z_score};
use fwpkm_reference::rules::ZScore;
use fwpkm_reference::settings::Norm;
use fwpkm_reference::{Error, Layer, Memory, Rules, Settings};
use ndarray::{Array1, Array2, Array3, arr1, arr2, array, s};

/// A map that gives the same outputs for every hidden state.
fn constant(inputs: usize, outputs: &[f64]) -> NormedLinear<f64> {
    NormedLinear {
        norm: Array1::zeros(inputs),
        weight: Array2::zeros((outputs.len(), inputs)),
        bias: Array1::from(outputs.to_vec()),
    }
}

// The mean square of (3, 4) is 12.5; with ε = 12.5 the root is 5.
#[test]
fn prj_1_divides_by_the_root_mean_square_and_scales_by_one_plus_w() {
    let normed = rms_norm(arr1(&[3.0, 4.0]).view(), arr1(&[0.0, 1.0]).view(), 12.5);
    assert_abs_diff_eq!(normed, arr1(&[0.6, 1.6]), epsilon = ROUNDING);
}

// One feature: the mean is over that one. -1 is the w that switches a feature off.
#[test]
fn prj_1_of_one_feature_and_of_w_minus_one() {
    let normed = rms_norm(arr1(&[-6.0]).view(), arr1(&[0.5]).view(), 13.0);
    assert_abs_diff_eq!(normed, arr1(&[-9.0 / 7.0]), epsilon = ROUNDING);
    assert_eq!(rms_norm(arr1(&[3.0, 4.0]).view(), arr1(&[-1.0, 0.0]).view(), 1.0)[0], 0.0);
}

#[test]
fn prj_1_rms_epsilon_must_be_a_number_and_not_negative() {
    for rms_epsilon in [-1e-5, f64::NAN, f64::INFINITY] {
        assert_eq!(refused(Settings { rms_epsilon, ..small() }), "rms_epsilon");
    }
}

#[test]
fn prj_1_a_zero_vector_stays_zero() {
    assert_eq!(rms_norm(arr1(&[0.0, 0.0]).view(), arr1(&[3.0, 4.0]).view(), 1e-5), arr1(&[0.0, 0.0]));
}

// Two outputs from three inputs, so that a transposed weight cannot pass.
#[test]
fn prj_2_multiplies_and_adds_the_bias() {
    let weight = arr2(&[[1.0, 2.0, 3.0], [-1.0, 0.5, 4.0]]);
    let mut out = Array1::zeros(2);
    linear(arr1(&[1.0, 10.0, 100.0]).view(), weight.view(), arr1(&[7.0, -4.0]).view(), out.view_mut());
    assert_eq!(out, arr1(&[328.0, 400.0]));
}

#[test]
fn prj_2_follows_the_norm_in_every_row() {
    let map = NormedLinear {
        norm: arr1(&[0.0, 0.0]),
        weight: arr2(&[[1.0, 2.0], [3.0, 4.0], [0.0, 0.0]]),
        bias: arr1(&[0.5, -0.5, 9.0]),
    };
    let out = map.apply(arr2(&[[3.0, 4.0], [0.0, 0.0]]).view(), 12.5);
    assert_abs_diff_eq!(out, arr2(&[[2.7, 4.5, 9.0], [0.5, -0.5, 9.0]]), epsilon = ROUNDING);
}

// Two features are the fewest the sample rule takes.
#[test]
fn prj_3_centres_and_divides_by_the_deviation_plus_a_millionth() {
    let mut x = arr1(&[1.0, 3.0]);
    z_score(x.view_mut(), ZScore::Sample).unwrap();
    let y = 1.0 / (2f64.sqrt() + 1e-6);
    assert_abs_diff_eq!(x, arr1(&[-y, y]), epsilon = ROUNDING);
    let mut x = arr1(&[1.0, 3.0]);
    z_score(x.view_mut(), ZScore::Population).unwrap();
    assert_abs_diff_eq!(x, arr1(&[-1.0, 1.0]) / (1.0 + 1e-6), epsilon = ROUNDING);
}

#[test]
fn prj_3_equal_features_become_zero() {
    let mut x = arr1(&[4.0, 4.0, 4.0]);
    z_score(x.view_mut(), ZScore::Sample).unwrap();
    assert_eq!(x, arr1(&[0.0, 0.0, 0.0]));
}

// One feature has no sample deviation.
#[test]
fn prj_3_one_feature_is_refused_under_sample_only() {
    let mut x = arr1(&[4.0]);
    assert!(matches!(z_score(x.view_mut(), ZScore::Sample), Err(Error::Setting { .. })));
    assert_eq!(x, arr1(&[4.0]));
    z_score(x.view_mut(), ZScore::Population).unwrap();
    assert_eq!(x, arr1(&[0.0]));

    let settings = Settings { value_dim: 1, ..small() };
    let hidden = arr2(&[[1.0, 2.0]]);
    let refused = project(&settings, &Rules::paper(), &projection(&settings, 2, 1, 1), hidden.view());
    assert!(matches!(refused, Err(Error::Setting { .. })), "{refused:?}");
}

#[test]
fn prj_4_divides_by_the_length() {
    let mut x = arr1(&[3.0, -4.0]);
    l2(x.view_mut());
    assert_abs_diff_eq!(x, arr1(&[3.0, -4.0]) / (25.0f64 + 1e-6).sqrt(), epsilon = ROUNDING);
    let mut zero = arr1(&[0.0, 0.0]);
    l2(zero.view_mut());
    assert_eq!(zero, arr1(&[0.0, 0.0]));
}

// The constant is inside the root: at a length of 1e-3 it halves the square.
#[test]
fn prj_4_adds_its_constant_inside_the_root() {
    let mut x = arr1(&[1e-3]);
    l2(x.view_mut());
    assert_abs_diff_eq!(x[0], 0.5f64.sqrt(), epsilon = ROUNDING);
}

// Outputs 2 and 0: the sigmoid of the mean is sigmoid(1), the mean of the sigmoids would be 0.69.
#[test]
fn prj_5_is_the_sigmoid_of_the_mean_output() {
    let found = gates(&arr2(&[[2.0, 0.0], [-1.0, 1.0]]));
    assert_abs_diff_eq!(found, arr1(&[1.0 / (1.0 + (-1f64).exp()), 0.5]), epsilon = ROUNDING);
}

// G = 1 is the paper, G = 8 the release.
#[test]
fn prj_5_takes_any_number_of_outputs() {
    for count in [1, 8] {
        let found = gates(&Array2::from_elem((3, count), 3f64.ln()));
        assert_abs_diff_eq!(found, Array1::from_elem(3, 0.75), epsilon = ROUNDING);
    }
}

#[test]
fn prj_5_large_outputs_give_zero_and_one() {
    assert_eq!(gates(&arr2(&[[1e4], [-1e4], [f64::MAX], [-f64::MAX]])), arr1(&[1.0, 0.0, 1.0, 0.0]));
}

#[test]
fn prj_5_is_projected_where_a_gate_is_used() {
    let hidden = Array3::from_shape_fn((1, 2, 4), |(_, t, d)| (t + d) as f64);
    for (output_gate, gate_weighted_loss) in [(true, true), (true, false), (false, true), (false, false)] {
        let settings = Settings { output_gate, gate_weighted_loss, ..small() };
        let used = output_gate || gate_weighted_loss;
        let memory = || Memory::new(settings.clone(), Rules::paper(), tables(&settings, 1)).unwrap();
        let mut layer = Layer::new(projection(&settings, 4, usize::from(used), 2), memory()).unwrap();
        assert_eq!(layer.feed(hidden.view(), None).unwrap().projected.gates.is_some(), used);
        if used {
            let without = Layer::new(projection(&settings, 4, 0, 2), memory()).map(|_| ());
            assert!(matches!(without, Err(Error::Setting { name: "projection.gate", .. })), "{without:?}");
        }
    }
}

/// A projection whose linear maps give these queries and values.
fn fixed(queries: &[f64], values: &[f64]) -> Projection<f64> {
    Projection {
        query: constant(2, queries),
        value: constant(2, values),
        gate: None,
        output: constant(values.len(), &[0.0; 2]),
    }
}

fn projected(settings: &Settings, projection: &Projection<f64>) -> Projected<f64> {
    project(settings, &Rules::paper(), projection, arr2(&[[3.0, 4.0]]).view()).unwrap()
}

// Two heads with d_k = 2: halves of the heads would have one number each, which the sample rule refuses.
#[test]
fn prj_6_queries_are_normalised_by_halves_of_the_whole_vector() {
    let settings = Settings { heads: 2, key_dim: 2, query_norm: Norm::ZScore, value_norm: Norm::None, ..small() };
    let found = projected(&settings, &fixed(&[1.0, 3.0, 10.0, 30.0], &[5.0, 6.0]));
    let (near, far) = (1.0 / (2f64.sqrt() + 1e-6), 10.0 / (200f64.sqrt() + 1e-6));
    assert_abs_diff_eq!(found.queries, arr2(&[[-near, near, -far, far]]), epsilon = ROUNDING);
    assert_eq!(found.values, arr2(&[[5.0, 6.0]]));

    let settings = Settings { query_norm: Norm::L2, ..settings };
    let found = projected(&settings, &fixed(&[3.0, 4.0, 0.0, -7.0], &[5.0, 6.0]));
    let (near, far) = ((25.0f64 + 1e-6).sqrt(), (49.0f64 + 1e-6).sqrt());
    assert_abs_diff_eq!(found.queries, arr2(&[[3.0 / near, 4.0 / near, 0.0, -7.0 / far]]), epsilon = ROUNDING);
}

// RMSNorm of (3, 4) with ε = 12.5 is (0.6, 0.8); then (3, 4) + (0, 2) = (3, 6), of length √45. Normalising before the bias, or
// before the map, gives other numbers.
#[test]
fn prj_6_order_is_norm_then_linear_map_then_normalisation() {
    let map = |norm: [f64; 2]| NormedLinear {
        norm: arr1(&norm),
        weight: arr2(&[[5.0, 0.0], [0.0, 5.0]]),
        bias: arr1(&[0.0, 2.0]),
    };
    let projection = Projection {
        query: NormedLinear { norm: arr1(&[0.0, 1.0]), ..map([0.0, 0.0]) },
        value: map([0.0, 0.0]),
        ..fixed(&[0.0; 2], &[0.0; 2])
    };
    let settings = Settings { key_dim: 2, value_norm: Norm::L2, rms_epsilon: 12.5, ..small() };
    let found = projected(&settings, &projection);
    assert_abs_diff_eq!(found.values, arr2(&[[3.0, 6.0]]) / (45.0f64 + 1e-6).sqrt(), epsilon = ROUNDING);
    // The query's own norm scales its second feature by 2: (3, 8) + (0, 2), not normalised by default.
    assert_abs_diff_eq!(found.queries, arr2(&[[3.0, 10.0]]), epsilon = 1e1 * ROUNDING);
}

#[test]
fn prj_6_wrong_maps_name_their_tensor() {
    let settings = small();
    let good = projection(&settings, 4, 3, 1);
    let memory = Memory::new(settings.clone(), Rules::paper(), tables(&settings, 1)).unwrap();
    let refused = |change: &dyn Fn(&mut Projection<f64>)| {
        let mut changed = good.clone();
        change(&mut changed);
        match Layer::new(changed, memory.clone()) {
            Err(Error::Shape { tensor, .. } | Error::NotFinite { tensor, .. }) => tensor,
            other => panic!("{other:?}"),
        }
    };
    let fewer = |map: &mut NormedLinear<f64>| map.weight = map.weight.slice(s![1.., ..]).to_owned();
    assert_eq!(refused(&|p| fewer(&mut p.query)), "projection.query.weight");
    assert_eq!(refused(&|p| fewer(&mut p.value)), "projection.value.weight");
    assert_eq!(refused(&|p| fewer(&mut p.output)), "projection.output.weight");
    // A gate may have any number of outputs, but weight and bias must agree, and there must be one.
    assert_eq!(refused(&|p| fewer(p.gate.as_mut().unwrap())), "projection.gate.bias");
    assert_eq!(refused(&|p| p.gate = Some(constant(4, &[]))), "projection.gate.weight");
    assert_eq!(refused(&|p| p.query = constant(4, &[0.0; 3])), "projection.query.weight");
    assert_eq!(refused(&|p| p.value = constant(5, &[0.0; 2])), "projection.value.norm");
    assert_eq!(refused(&|p| p.output.norm = Array1::zeros(3)), "projection.output.norm");
    assert_eq!(refused(&|p| p.value.bias[1] = f64::NAN), "projection.value.bias");
    assert_eq!(refused(&|p| p.output.weight[[0, 1]] = f64::INFINITY), "projection.output.weight");
    assert_eq!(refused(&|p| p.query.norm[0] = f64::NEG_INFINITY), "projection.query.norm");

    // One feature cannot be z-scored: refused before the first token, by the setting that asks for it.
    for (name, value_norm, query_norm) in
        [("value_norm", Norm::ZScore, Norm::None), ("query_norm", Norm::None, Norm::ZScore)]
    {
        let narrow = Settings { value_dim: 1, key_dim: 2, heads: 1, value_norm, query_norm, ..settings.clone() };
        let memory = Memory::new(narrow.clone(), Rules::paper(), tables(&narrow, 1)).unwrap();
        let refused = Layer::new(projection(&narrow, 4, 3, 1), memory).unwrap_err();
        assert!(matches!(&refused, Error::Setting { name: found, .. } if *found == name), "{refused}");
    }

    let mut layer = Layer::new(good, memory).unwrap();
    let wide = layer.feed(Array3::zeros((1, 2, 5)).view(), None).unwrap_err();
    assert!(matches!(wide, Error::Shape { tensor: "hidden", .. }), "{wide}");
    let nan = layer.feed(array![[[0.0, 0.0, 0.0, 0.0], [0.0, f64::NAN, 0.0, 0.0]]].view(), None).unwrap_err();
    assert!(matches!(&nan, Error::NotFinite { tensor: "hidden", at, .. } if *at == [0, 1, 1]), "{nan}");
}
