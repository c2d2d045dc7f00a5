//! NUM-8: the same bits for every variant, tile, schedule, and cut of a text.

use fwpkm_gpu::{Tile, Variant};
use fwpkm_reference::rules::StreamCount;
use fwpkm_reference::settings::Border;

use crate::common::{self, TINY, assert_same_bits, close_scenes, emulate, scenes};

#[test]
fn num_8_fast_kernels_give_the_bits_of_simple_ones() {
    for (name, scene) in scenes().into_iter().chain(close_scenes()) {
        let simple = emulate(&scene, Variant::Simple, 1).unwrap_or_else(|error| panic!("{name}, simple: {error}"));
        let fast = emulate(&scene, Variant::Fast(TINY), 2).unwrap_or_else(|error| panic!("{name}, fast: {error}"));
        assert_same_bits(name, &simple, &fast);
        for tile in [Tile::TENSOR, Tile::TENSOR_SMALL] {
            let tensor = emulate(&scene, Variant::Fast(tile), 2).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_same_bits(name, &simple, &tensor);
        }
    }
}

#[test]
fn num_8_every_tile_gives_the_same_bits() {
    for (name, scene) in scenes().into_iter().step_by(13) {
        let tiny = emulate(&scene, Variant::Fast(TINY), 1).unwrap();
        for tile in [
            Tile { side: 8, per_thread: 1, blocks: 1, tensor_cores: false },
            Tile { side: 32, per_thread: 4, blocks: 7, tensor_cores: false },
            Tile::SMALL,
            Tile::LARGE,
            Tile::TENSOR,
        ] {
            assert_same_bits(name, &tiny, &emulate(&scene, Variant::Fast(tile), 1).unwrap());
        }
    }
}

#[test]
fn num_8_every_schedule_gives_the_same_bits() {
    for (name, scene) in scenes().into_iter().step_by(5) {
        let first = emulate(&scene, Variant::Fast(TINY), 0).unwrap();
        for seed in 1..4 {
            assert_same_bits(name, &first, &emulate(&scene, Variant::Fast(TINY), seed).unwrap());
        }
    }
}

#[test]
fn str_1_every_cut_gives_the_same_bits() {
    for (name, scene) in scenes() {
        if scene.rules.stream_count == StreamCount::Call && scene.settings.border == Border::Carry {
            continue;
        }
        let tokens: usize = scene.calls.iter().sum();
        let whole = emulate(&common::Scene { calls: vec![tokens], ..scene.clone() }, Variant::Fast(TINY), 1).unwrap();
        assert_same_bits(name, &whole, &emulate(&scene, Variant::Fast(TINY), 1).unwrap());
        let ones = common::Scene { calls: vec![1; tokens.min(25)], ..scene.clone() };
        if tokens <= 25 {
            assert_same_bits(name, &whole, &emulate(&ones, Variant::Fast(TINY), 1).unwrap());
        }
    }
}
