//! Random settings, shapes and cuts: bounds of every stage, and equal bits of both variants.

use fwpkm_gpu::emulator::Emulator;
use fwpkm_gpu::{Error, Launching, Variant};
use fwpkm_reference::Error::Diverged;
use fwpkm_reference::rules::StreamCount;
use fwpkm_reference::settings::{Activation, Border, Score, WeightsOver};
use fwpkm_reference::{Rules, Settings};
use proptest::prelude::*;

use crate::common::lockstep::check_scene;
use crate::common::stages::Shares;
use crate::common::{self, Scene, TINY, WALKING, assert_same_bits, emulate, resident, scene};

prop_compose! {
    fn shapes()(
        heads in 1_usize..4,
        sub_keys in prop_oneof![1_usize..12, 30_usize..40, 60_usize..66],
        half_dim in prop_oneof![1_usize..10, 126_usize..131],
        value_dim in prop_oneof![1_usize..10, Just(16), 126_usize..131],
        top_k in 1_usize..9,
        chunk in 1_usize..12,
        lookahead in 0_usize..4,
    ) -> Settings {
        let (top_k, key_dim) = (top_k.min(sub_keys), 2 * half_dim);
        Settings { heads, sub_keys, key_dim, value_dim, top_k, chunk, lookahead, ..Settings::paper() }
    }
}

prop_compose! {
    fn options()(
        mut settings in shapes(),
        (carry, dot, activation, each_head) in (any::<bool>(), any::<bool>(), 0_usize..4, any::<bool>()),
        temperature in prop_oneof![Just(1.0), 0.5..3.0],
        learning_rate in prop_oneof![Just(1.0), 0.1..1.0],
        weight_decay in prop_oneof![Just(0.0), 0.01..0.3],
        clip in prop::option::of(0.01..1.0),
        alpha in prop_oneof![Just(1.0), Just(0.0), 0.1..3.0],
        release in any::<bool>(),
    ) -> (Settings, Rules) {
        settings.border = if carry { Border::Carry } else { Border::Drop };
        if !carry {
            settings.lookahead = settings.lookahead.min(settings.chunk - 1);
        }
        if dot {
            settings.score = Score::DotProduct;
        }
        settings.activation = [Activation::Softmax, Activation::Softmax, Activation::Silu, Activation::Relu][activation];
        if each_head && settings.activation == Activation::Softmax {
            settings.weights_over = WeightsOver::EachHead;
        }
        // silu and relu of dot products grow without a limit: small steps keep numbers where bounds are valid.
        let rate = if settings.activation == Activation::Softmax { learning_rate } else { 0.01 };
        let (settings, rules) = (
            Settings { temperature, learning_rate: rate, weight_decay, gradient_clip: clip, addressing_weight: alpha, ..settings },
            if release { Rules::release() } else { Rules::paper() },
        );
        (settings, rules)
    }
}

fn a_scene() -> impl Strategy<Value = Scene> {
    (options(), any::<u64>(), 1_usize..4, prop::collection::vec(1_usize..14, 1..4))
        .prop_map(|((settings, rules), seed, sequences, calls)| scene(seed, settings, rules, sequences, &calls))
}

/// Whether the memory of a scene diverges: then interpreter and emulator both refuse it.                       NUM-7
fn diverges(scene: &Scene) -> bool {
    let (settings, rules) = (scene.settings.clone(), scene.rules.clone());
    let mut interpreter = fwpkm_reference::Memory::new(settings, rules, scene.tables.clone()).unwrap();
    let mut from = 0;
    let fed = scene.calls.iter().try_for_each(|&call| {
        from += call;
        interpreter.feed(&scene.text.slice(from - call, from)).map(|_| ())
    });
    let theirs = fed.and_then(|()| interpreter.flush().map(|_| ()));
    let ours = emulate(scene, Variant::Fast(TINY), 0).map(|_| ());
    match (&ours, &theirs) {
        (Ok(()), Ok(())) => false,
        (Err(Error::Memory(Diverged { .. })), Err(Diverged { .. })) => true,
        _ => panic!("the emulator gives {ours:?}, the interpreter {theirs:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn prop_every_stage_is_within_its_bound(scene in a_scene(), seed in any::<u64>()) {
        if diverges(&scene) {
            return Ok(());
        }
        check_scene(&scene, Variant::Fast(TINY), seed, &mut Shares::default());
    }

    #[test]
    fn prop_num_8_variants_schedules_and_cuts_give_the_same_bits(scene in a_scene(), cut in 1_usize..9, seed in any::<u64>()) {
        if diverges(&scene) {
            return Ok(());
        }
        let fast = emulate(&scene, Variant::Fast(TINY), seed).unwrap();
        assert_same_bits("simple", &fast, &emulate(&scene, Variant::Simple, seed ^ 1).unwrap());
        let device = Emulator::new(seed ^ 3);
        let (mut memory, reads) = resident::feed(device, &scene, Variant::Fast(WALKING), Launching::Persistent).unwrap();
        memory.settle().unwrap();
        memory.flush().unwrap();
        let walked = common::Outcome { reads, tables: memory.tables().unwrap(), ..fast.clone() };
        assert_same_bits("walked", &fast, &walked);
        if scene.rules.stream_count == StreamCount::Chunk || scene.settings.border == Border::Drop {
            let tokens: usize = scene.calls.iter().sum();
            let mut calls = vec![cut; tokens / cut];
            calls.push(tokens % cut);
            let other = Scene { calls, ..scene.clone() };
            assert_same_bits("cut", &fast, &emulate(&other, Variant::Fast(TINY), seed ^ 2).unwrap());
        }
    }
}
