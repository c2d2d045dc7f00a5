//! Stage `output`: reads and values to the layer's output.

use crate::common;
use crate::common::cases::cases;
use crate::common::{ROUNDING, bits, projection, small, tables};
use approx::assert_abs_diff_eq;
use fwpkm_reference::output::{add_residual, mix, output, project};
use fwpkm_reference::projection::NormedLinear;
use fwpkm_reference::{Layer, LayerFed, Memory, Rules, Settings};
use ndarray::{Array1, Array2, Array3, arr1, arr2, s};
use proptest::prelude::*;

#[test]
fn out_1_mixes_read_and_value_by_the_gate_of_the_token() {
    let (reads, values) = (arr2(&[[8.0, 0.0], [1.0, 2.0]]), arr2(&[[4.0, 4.0], [10.0, 20.0]]));
    let mixed = mix(reads.view(), values.view(), Some(&arr1(&[0.25, 0.5])));
    assert_eq!(mixed, arr2(&[[5.0, 3.0], [5.5, 11.0]]));
}

// The ends: gate 1 is the read alone, gate 0 the value alone.
#[test]
fn out_1_gates_of_one_and_zero() {
    let (reads, values) = (arr2(&[[8.0], [8.0]]), arr2(&[[4.0], [4.0]]));
    assert_eq!(mix(reads.view(), values.view(), Some(&arr1(&[1.0, 0.0]))), arr2(&[[8.0], [4.0]]));
}

#[test]
fn out_1_without_a_gate_is_the_sum() {
    assert_eq!(mix(arr2(&[[8.0, 1.0]]).view(), arr2(&[[4.0, 2.0]]).view(), None), arr2(&[[12.0, 3.0]]));
}

/// A layer of hidden size 4 on [`small`] memory, run on 2 sequences of 3 tokens, one short of C = 4, then flushed.
fn run(settings: &Settings, hidden: &Array3<f64>, seed: u64) -> (LayerFed<f64>, Vec<f64>) {
    let gates = usize::from(settings.output_gate || settings.gate_weighted_loss) * 2;
    let memory = Memory::new(settings.clone(), Rules::paper(), tables(settings, seed)).unwrap();
    let mut layer = Layer::new(projection(settings, 4, gates, seed), memory).unwrap();
    let fed = layer.feed(hidden.view(), None).unwrap();
    let losses = layer.flush().unwrap().unwrap().pair_losses;
    (fed, losses.into_iter().collect())
}

fn hidden(seed: u64) -> Array3<f64> {
    common::text(&small(), 2, 3, seed).queries
}

// Four settings: the gate mixes only under output_gate, and weighs the loss only under gate_weighted_loss.
#[test]
fn out_1_the_gate_mixes_and_weighs_where_it_is_asked_to() {
    let run =
        |output_gate, gate_weighted_loss| run(&Settings { output_gate, gate_weighted_loss, ..small() }, &hidden(1), 2);
    let ((both, weighted), (mixing, plain)) = (run(true, true), run(true, false));
    let ((weighing, weighted_again), (neither, plain_again)) = (run(false, true), run(false, false));
    assert_eq!((&weighted, &plain), (&weighted_again, &plain_again));
    assert_ne!(weighted, plain);
    assert_eq!(both.output.mixed, mixing.output.mixed);
    assert_eq!(weighing.output.mixed, neither.output.mixed);
    let sum = neither.memory.reads.to_shape((6, 2)).unwrap().to_owned() + &neither.projected.values;
    assert_eq!(neither.output.mixed, sum);
    assert_ne!(both.output.mixed, neither.output.mixed);
    // Losses are by (pair, sequence): gates of tokens 0 and 1, of sequence 0 and 1; rows of `projected` by (sequence, token).
    let gates = both.projected.gates.unwrap();
    let weighed: Vec<f64> = [0, 3, 1, 4].iter().zip(&plain).map(|(&row, loss)| gates[row] * loss).collect();
    assert_abs_diff_eq!(weighted[..], weighed[..], epsilon = ROUNDING);
}

// d_v = 1, hidden = 2. √(1.25² + 12.5) = 3.75: RMSNorm of 1.25 is 1/3, doubled by w = 1.
#[test]
fn out_2_normalises_and_maps_to_the_model_width() {
    let map = NormedLinear { norm: arr1(&[1.0]), weight: arr2(&[[3.0], [6.0]]), bias: arr1(&[0.5, -1.0]) };
    assert_abs_diff_eq!(project(&map, arr2(&[[1.25]]).view(), 12.5), arr2(&[[2.5, 3.0]]), epsilon = ROUNDING);
}

#[test]
fn out_3_adds_the_layer_to_the_hidden_state() {
    let sum = add_residual(arr2(&[[3.0, 4.0]]).view(), arr2(&[[1.5, -1.0]]).view());
    assert_eq!(sum, arr2(&[[4.5, 3.0]]));
}

// With an output map of zeros the hidden state passes: raw, not normalised, in its own order.
#[test]
fn out_3_the_residual_stream_is_the_raw_hidden_state() {
    let (settings, hidden) = (small(), hidden(3));
    let mut maps = projection(&settings, 4, 1, 3);
    maps.output.weight.fill(0.0);
    maps.output.bias.fill(0.0);
    let memory = Memory::new(settings.clone(), Rules::paper(), tables(&settings, 1)).unwrap();
    let fed = Layer::new(maps, memory).unwrap().feed(hidden.view(), None).unwrap();
    assert_eq!(bits(&fed.output.hidden), bits(&hidden));
    assert_eq!(fed.output.layer, Array2::<f64>::zeros((6, 4)));
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn prop_out_1_lies_between_read_and_value(seed in any::<u64>(), gate in 0.0..=1.0) {
        let text = common::text(&small(), 1, 5, seed);
        let (reads, values) = (text.values.slice(s![0, .., ..]), text.queries.slice(s![0, .., ..2]));
        let mixed = mix(reads, values, Some(&Array1::from_elem(5, gate)));
        for ((mixed, &read), &value) in mixed.iter().zip(reads).zip(values) {
            let (low, high) = (read.min(value), read.max(value));
            prop_assert!(*mixed >= low - ROUNDING && *mixed <= high + ROUNDING);
        }
    }

    // The stages in a row, by the layer, against each stage alone on what the layer reports.
    #[test]
    fn prop_out_3_the_layer_is_its_stages_in_a_row(seed in any::<u64>(), output_gate in any::<bool>()) {
        let settings = Settings { output_gate, ..small() };
        let hidden = hidden(seed);
        let (fed, _) = run(&settings, &hidden, seed);
        let maps = projection(&settings, 4, 2, seed);
        let rows = hidden.to_shape((6, 4)).unwrap();
        let reads = fed.memory.reads.to_shape((6, 2)).unwrap();
        let gates = fed.projected.gates.as_ref().filter(|_| output_gate);
        let alone =
            output(&settings, &maps.output, reads.view(), fed.projected.values.view(), gates, rows.view());
        prop_assert_eq!(bits(&alone.mixed), bits(&fed.output.mixed));
        prop_assert_eq!(bits(&alone.hidden), bits(&fed.output.hidden));
        let difference = &fed.output.hidden - &rows - &fed.output.layer;
        prop_assert!(difference.iter().all(|x| x.abs() < 1e2 * ROUNDING));
    }
}
