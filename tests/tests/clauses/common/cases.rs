//! Random cases for the properties: every setting and rule that a stream depends on, with sizes that reach the borders.

use fwpkm::oracle::Scene;
use fwpkm::oracle::bytes::Range;
use fwpkm_reference::rules::StreamCount;
use fwpkm_reference::settings::{Activation, Border, Score, WeightsOver};
use fwpkm_reference::{Memory, Rules, Settings};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

use super::{Drawn, Text, is_unbounded, tables, text};

/// A number of cases, the same in every run. `PROPTEST_RNG_SEED` and `PROPTEST_CASES` draw others, or more. Failures are written
/// down as named tests, not in files.
pub(crate) fn cases(count: u32) -> Config {
    let chosen = Config::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { chosen.cases } else { count };
    let rng_seed = if chosen.rng_seed == RngSeed::Random { RngSeed::Fixed(1) } else { chosen.rng_seed };
    Config { cases, rng_seed, failure_persistence: None, max_global_rejects: 4 * cases, ..chosen }
}

/// Settings, rules, and what a text needs.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) settings: Settings,
    pub(crate) rules: Rules,
    pub(crate) sequences: usize,
    pub(crate) tokens: usize,
    pub(crate) gates: bool,
    pub(crate) mask: bool,
    pub(crate) seed: u64,
}

impl Case {
    pub(crate) fn memory(&self) -> Memory<f64> {
        Memory::new(self.settings.clone(), self.rules.clone(), tables(&self.settings, self.seed)).unwrap()
    }

    pub(crate) fn text(&self) -> Text<f64> {
        self.text_from(self.seed + 1)
    }

    /// What an oracle takes.
    pub(crate) fn scene(&self) -> Scene {
        Scene {
            range: Range::Small,
            settings: self.settings.clone(),
            rules: self.rules.clone(),
            tables: tables(&self.settings, self.seed),
            text: self.text(),
        }
    }

    /// Another text of the same shape.
    pub(crate) fn text_from(&self, seed: u64) -> Text<f64> {
        let mut text = text(&self.settings, self.sequences, self.tokens, seed);
        if self.gates {
            text = text.gated(seed + 1);
        }
        if self.mask {
            text = text.masked(seed + 2);
        }
        text
    }
}

prop_compose! {
    /// H 1-2, n 1-4, `d_k` 2-6, `d_v` 1-3, k 1-n, every activation, score and scope of the softmax.
    pub(crate) fn reading_settings()(
        heads in 1..=2usize,
        (sub_keys, top_k) in (1..=4usize).prop_flat_map(|n| (Just(n), 1..=n)),
        half_dim in 1..=3usize,
        value_dim in 1..=3usize,
        activation in prop_oneof![
            2 => Just(Activation::Softmax), 1 => Just(Activation::Silu), 1 => Just(Activation::Relu)
        ],
        each_head in any::<bool>(),
        dot_product in prop::bool::weighted(0.3),
        epsilon in prop_oneof![Just(0.1), Just(1e-3)],
        temperature in prop_oneof![Just(1.0), Just(0.5), Just(3.0)],
    ) -> Settings {
        let weights_over =
            if each_head && activation == Activation::Softmax { WeightsOver::EachHead } else { WeightsOver::AllHeads };
        let score = if dot_product { Score::DotProduct } else { Score::InverseDistance { epsilon } };
        Settings {
            heads, sub_keys, key_dim: 2 * half_dim, value_dim, top_k, activation, weights_over, score, temperature,
            ..Settings::paper()
        }
    }
}

prop_compose! {
    /// Steps of every kind: T from 0 to three chunks, L up to C + 2 where the border allows, all rules of the step.
    pub(crate) fn stream_case()(
        settings in reading_settings(),
        carry in any::<bool>(),
        (chunk, lookahead) in (1..=5usize).prop_flat_map(|chunk| (Just(chunk), 0..=chunk + 2)),
        weight_decay in prop_oneof![Just(0.0), Just(0.02)],
        gradient_clip in prop_oneof![Just(None), Just(Some(0.3))],
        memory_gradient_to_sub_keys in any::<bool>(),
        release in any::<bool>(),
        sequences in 1..=3usize,
        tokens in 0..=15usize,
        gates in any::<bool>(),
        mask in any::<bool>(),
        seed in any::<u32>(),
    ) -> Case {
        let border = if carry { Border::Carry } else { Border::Drop };
        let lookahead = if carry { lookahead } else { lookahead.min(chunk - 1) };
        let learning_rate = if is_unbounded(&settings) { 0.02 } else { 1.0 };
        let rules = Rules {
            stream_count: StreamCount::Chunk,
            ..if release { Rules::release() } else { Rules::paper() }
        };
        let settings = Settings {
            border, chunk, lookahead, weight_decay, gradient_clip, memory_gradient_to_sub_keys, learning_rate,
            ..settings
        };
        Case { settings, rules, sequences, tokens, gates, mask, seed: u64::from(seed) }
    }
}

/// An order of 0 … n-1.
pub(crate) fn permutation(n: usize) -> impl Strategy<Value = Vec<usize>> {
    Just((0..n).collect::<Vec<_>>()).prop_shuffle()
}
