//! Numbers that are not finite: refused where they are given, an error where they arise.

use fwpkm_reference::projection::{NormedLinear, Projection};
use fwpkm_reference::settings::{Activation, Border, Norm, Score};
use fwpkm_reference::{Error, Layer, Memory, Rules, Settings, Tables};
use ndarray::{Array3, Array4, arr1, arr2, array};

use crate::common::{
    Drawn as _, Text, cast, grid, grid_tables, hits, narrowed, projection, slots, small, table_bits, tables, text,
};

/// The tensor that a memory refuses, and where its first number that is not finite stands.
fn refused<T>(result: fwpkm_reference::Result<T>) -> (&'static str, Vec<usize>) {
    match result.map(|_| ()).unwrap_err() {
        Error::NotFinite { tensor, at, value } => {
            assert!(!value.is_finite());
            (tensor, at)
        }
        other => panic!("{other}"),
    }
}

#[test]
fn num_7_numbers_that_are_not_finite_are_refused_with_their_place() {
    let settings = Settings { heads: 2, ..small() };
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let new = |tables| Memory::new(settings.clone(), Rules::paper(), tables);
        let mut broken = tables(&settings, 1);
        broken.sub_keys[[1, 0, 2, 1]] = bad;
        assert_eq!(refused(new(broken)), ("sub_keys", vec![1, 0, 2, 1]));
        let mut broken = tables(&settings, 1);
        broken.slot_values[[8, 1]] = bad;
        broken.slot_values[[3, 0]] = bad;
        assert_eq!(refused(new(broken)), ("slot_values", vec![3, 0]));

        let mut memory = new(tables(&settings, 1)).unwrap();
        let good = text(&settings, 2, 3, 1).gated(2);
        let mut broken = good.clone();
        broken.queries[[1, 2, 7]] = bad;
        assert_eq!(refused(memory.feed(&broken.tokens())), ("queries", vec![1, 2, 7]));
        let mut broken = good.clone();
        broken.values[[0, 1, 1]] = bad;
        assert_eq!(refused(memory.feed(&broken.tokens())), ("values", vec![0, 1, 1]));
        let mut broken = good.clone();
        broken.gates.as_mut().unwrap()[[1, 0]] = bad;
        assert_eq!(refused(memory.feed(&broken.tokens())), ("gates", vec![1, 0]));
        // Refused, not failed: nothing was queued, and the memory goes on.
        assert_eq!((memory.queued(), memory.tables()), (0, &tables(&settings, 1)));
        memory.feed(&good.tokens()).unwrap();
    }
}

// In f32, numbers that an f64 could hold.
#[test]
fn num_7_f32_overflows_at_its_own_limit() {
    let settings = grid(2, 1, 0);
    let huge = hits(&settings, &[&[(0, 1e30)]]);
    let mut wide = Memory::new(settings.clone(), Rules::paper(), grid_tables(&settings)).unwrap();
    wide.feed(&huge.tokens()).unwrap();
    let mut narrow = Memory::new(settings.clone(), Rules::paper(), narrowed(&grid_tables(&settings))).unwrap();
    let failed = narrow.feed(&huge.cast::<f32>().tokens()).unwrap_err();
    assert_eq!(failed, Error::Diverged { chunk: 0, stage: "memorize", tensor: "pair_losses" });
}

/// One head, n = 2, `d_k` = 2, dot products, k = 1, L = 0, C = 1, relu: most numbers may be chosen freely.
fn open() -> Settings {
    Settings { score: Score::DotProduct, activation: Activation::Relu, ..grid(2, 1, 0) }
}

/// A memory that takes one harmless step with the query (0, 0), then fails on these numbers with this error.
struct Overflow {
    settings: Settings,
    sub_keys: [f64; 4],
    slot: f64,
    query: [f64; 2],
    value: f64,
    fails: (&'static str, &'static str),
}

impl Overflow {
    fn check(&self) {
        let [a, b, c, d] = self.sub_keys;
        let start = Tables {
            sub_keys: array![[[[a], [b]], [[c], [d]]]],
            slot_values: arr2(&[[self.slot], [0.0], [0.0], [0.0]]),
        };
        let mut memory = Memory::new(self.settings.clone(), Rules::paper(), start.clone()).unwrap();
        let token = |[first, second]: [f64; 2], value: f64| Text {
            queries: array![[[first, second]]],
            values: array![[[value]]],
            gates: None,
            mask: None,
        };
        // Without the harmless step first, then with it: `chunk` counts the steps before.
        for chunk in [0, 1] {
            memory.reset_tables(start.clone()).unwrap();
            if chunk == 1 {
                // Far from every number of the overflow: weights are 0, so nothing moves but the count of steps.
                memory.feed(&token([0.0, 0.0], 0.0).tokens()).unwrap();
            }
            let (before, (stage, tensor)) = (table_bits(memory.tables()), self.fails);
            let expected = Error::Diverged { chunk, stage, tensor };
            assert_eq!(memory.feed(&token(self.query, self.value).tokens()).unwrap_err(), expected);
            assert_eq!((table_bits(memory.tables()), memory.steps()), (before.clone(), chunk), "{expected}");
            // The same error until a reset, whatever is asked.
            assert_eq!(memory.feed(&token([0.0, 0.0], 0.0).tokens()).unwrap_err(), expected);
            assert_eq!(memory.feed(&token([0.0, 0.0], 0.0).part(0, 0).tokens()).unwrap_err(), expected);
            assert_eq!(memory.flush().unwrap_err(), expected);
            assert_eq!(table_bits(memory.tables()), before);
            memory.reset_queue();
            memory.feed(&token([0.0, 0.0], 0.0).tokens()).unwrap();
        }
    }
}

// Each tensor on the way, in the order of the stages; each overflow leaves all tensors before it finite.
#[test]
fn num_7_finite_input_that_overflows_is_an_error_and_changes_no_table() {
    let plain = Overflow {
        settings: open(),
        sub_keys: [1.0, 0.0, 1.0, 0.0],
        slot: 0.0,
        query: [1.0, 1.0],
        value: 0.0,
        fails: ("", ""),
    };
    let idw = Score::InverseDistance { epsilon: 1e-3 };
    // (1e200)² inside the logarithm
    let settings = Settings { score: idw, ..open() };
    Overflow { settings, query: [1e200, 0.0], fails: ("score", "half_scores"), ..plain.clone() }.check();
    // 1.7e308 + 1.7e308
    Overflow { query: [1.7e308, 1.7e308], fails: ("select", "pair_scores"), ..plain.clone() }.check();
    // 1e308 / 0.1
    let settings = Settings { temperature: 0.1, ..open() };
    Overflow { settings, query: [1e308, 0.0], fails: ("read", "weights"), ..plain.clone() }.check();
    // The same under softmax: ∞ - ∞
    let settings = Settings { temperature: 0.1, activation: Activation::Softmax, ..open() };
    Overflow { settings, query: [1e308, 0.0], fails: ("read", "weights"), ..plain.clone() }.check();
    // 1e200·1e200
    Overflow { query: [1e200, 0.0], slot: 1e200, fails: ("read", "reads"), ..plain.clone() }.check();
    // (0 - 1e200)²
    Overflow { value: 1e200, fails: ("memorize", "pair_losses"), ..plain.clone() }.check();
    // A loss of 1e300, a weight of 1e200: their product; clipping must not hide it
    for gradient_clip in [None, Some(1.0)] {
        let settings = Settings { gradient_clip, ..open() };
        let fails = ("memorize", "value_gradient");
        Overflow { settings, query: [1e200, 0.0], value: 1e150, fails, ..plain.clone() }.check();
    }
    // η·G = 1e300·1e100
    let settings = Settings { learning_rate: 1e300, ..open() };
    Overflow { settings, value: 1e100, fails: ("memorize", "slot_values"), ..plain.clone() }.check();
}

// The sub-keys' half of the step fails after the slots' half was computed: the slots must not have moved. k = 2 and equal
// scores: both entropies are ln 2.
#[test]
fn num_7_an_overflow_of_the_sub_keys_leaves_the_slots_as_they_were() {
    let even = Settings { top_k: 2, activation: Activation::Softmax, ..open() };
    // 1.7e308·2·ln 2. (The query (0, 0) would fail as well, so that there is no harmless step to take first.)
    let settings = Settings { addressing_weight: 1.7e308, ..even.clone() };
    let tables = Tables { sub_keys: Array4::from_elem((1, 2, 2, 1), 1.0), ..grid_tables(&settings) };
    let mut memory = Memory::new(settings, Rules::paper(), tables).unwrap();
    let before = table_bits(memory.tables());
    let failed = memory.feed(&hits(&grid(2, 1, 0), &[&[(3, 1.0)]]).tokens()).unwrap_err();
    assert_eq!(failed, Error::Diverged { chunk: 0, stage: "address", tensor: "addressing_loss" });
    assert_eq!(table_bits(memory.tables()), before);

    // Scores 1 and 0 from q = 1e10: half-score gradients near 0.2·1e300, times q.
    let settings = Settings { addressing_weight: 1e300, ..even.clone() };
    let fails = ("address", "sub_key_gradient");
    let (sub_keys, query) = ([1e-10, 0.0, 0.0, 0.0], [1e10, 0.0]);
    Overflow { settings, sub_keys, slot: 0.0, query, value: 1.0, fails }.check();
    // η·G = 1e300·1e100·0.2, while the slots need no step: their values are the target.
    let settings = Settings { addressing_weight: 1e100, learning_rate: 1e300, ..even };
    let fails = ("address", "sub_keys");
    let (sub_keys, query) = ([1.0, 0.0, 0.0, 0.0], [1.0, 0.0]);
    Overflow { settings, sub_keys, slot: 0.0, query, value: 0.0, fails }.check();
}

impl Clone for Overflow {
    fn clone(&self) -> Self {
        Self { settings: self.settings.clone(), ..*self }
    }
}

// C = 2: the first chunk is done when the second fails in the same call; a failing flush is no different; reset_tables also ends it.
#[test]
fn num_7_what_came_before_the_failing_chunk_is_done() {
    for (border, failing) in [(Border::Drop, 4), (Border::Carry, 4), (Border::Drop, 3)] {
        let settings = Settings { border, ..grid(2, 2, 0) };
        let mut memory = Memory::new(settings.clone(), Rules::paper(), grid_tables(&settings)).unwrap();
        let text = hits(&settings, &[&[(0, 2.0), (0, 4.0), (1, 1e200), (1, 1.0)][..failing]]);
        let fed = memory.feed(&text.tokens());
        let failed = if failing == 3 { memory.flush().map(|_| ()) } else { fed.map(|_| ()) };
        let expected = Error::Diverged { chunk: 1, stage: "memorize", tensor: "pair_losses" };
        assert_eq!(failed.unwrap_err(), expected);
        assert_eq!((slots(&memory), memory.steps()), (vec![3.0, 0.0, 0.0, 0.0], 1));
        assert!(expected.to_string().contains("chunk 1") && expected.to_string().contains("pair_losses"));
        memory.reset_tables(grid_tables(&settings)).unwrap();
        memory.reset_queue();
        memory.feed(&text.part(0, 2).tokens()).unwrap();
        assert_eq!(slots(&memory)[0], 3.0);
    }
}

// A step fails on the table's 1e200, not on the tokens. With new tables the same chunk is stepped first, then the next token
// reads its mean.
#[test]
fn num_7_after_new_tables_the_failed_chunk_is_stepped() {
    let settings = grid(2, 2, 0);
    let mut broken = grid_tables(&settings);
    broken.slot_values[[0, 0]] = 1e200;
    let mut memory = Memory::new(settings.clone(), Rules::paper(), broken).unwrap();
    let text = hits(&settings, &[&[(0, 2.0), (0, 4.0), (0, 9.0)]]);
    assert!(matches!(memory.feed(&text.part(0, 2).tokens()), Err(Error::Diverged { chunk: 0, .. })));
    memory.reset_tables(grid_tables(&settings)).unwrap();
    let nothing = memory.feed(&text.part(2, 2).tokens()).unwrap();
    assert_eq!((nothing.steps.len(), memory.queued()), (0, 2), "a call without tokens changes nothing");
    let fed = memory.feed(&text.part(2, 3).tokens()).unwrap();
    assert_eq!((fed.steps.len(), fed.reads[[0, 0, 0]], memory.queued()), (1, 3.0, 1));
}

// Numbers that underflow are no error: a distance of 1e-170 has the square 0.
#[test]
fn num_7_underflow_is_no_error() {
    let settings = grid(2, 1, 0);
    let mut text = hits(&settings, &[&[(0, f64::MIN_POSITIVE / 4.0)]]);
    text.queries[[0, 0, 0]] = 1e-170;
    let mut memory = Memory::new(settings.clone(), Rules::paper(), grid_tables(&settings)).unwrap();
    memory.feed(&text.tokens()).unwrap();
}

// 1e308 - 3·1e308 in a slot that nobody reads: without decay nothing moves it.
#[test]
fn num_7_decay_of_a_slot_that_was_not_read_may_overflow() {
    for (weight_decay, fails) in [(0.0, false), (3.0, true)] {
        let settings = Settings { weight_decay, ..grid(2, 1, 0) };
        let mut start = grid_tables(&settings);
        start.slot_values[[1, 0]] = 1e308;
        let mut memory = Memory::new(settings.clone(), Rules::paper(), start.clone()).unwrap();
        let fed = memory.feed(&hits(&settings, &[&[(0, 1.0)]]).tokens());
        let diverged = Error::Diverged { chunk: 0, stage: "memorize", tensor: "slot_values" };
        assert_eq!(fed.map(|_| ()).err(), fails.then_some(diverged));
        assert_eq!(*memory.tables() == start, fails);
    }
}

// A slot that is read may decay without harm although it would overflow without its gradient: 1e308 - (-2e308/2 + 1.5e308).
#[test]
fn num_7_decay_of_a_slot_that_was_read_counts_with_its_gradient() {
    let settings = Settings { weight_decay: 3.0, learning_rate: 1.0, gradient_clip: Some(1.7e308), ..grid(2, 1, 0) };
    let mut start = grid_tables(&settings);
    start.slot_values[[0, 0]] = -1e150;
    let mut memory = Memory::new(settings.clone(), Rules::paper(), start).unwrap();
    memory.feed(&hits(&settings, &[&[(0, 1e150)]]).tokens()).unwrap();
    assert!(slots(&memory)[0].is_finite());
}

// What a division by an overflowed number would make 0: a mean square, a variance, a sum of squares of (1e20, 0) in f32.
#[test]
fn num_7_projections_that_overflow_are_an_error() {
    let settings = Settings { value_norm: Norm::None, ..small() };
    let width = 4;
    let diverges = |settings: &Settings, change: &dyn Fn(&mut Projection<f32>), hidden: f32| {
        let wide = projection(settings, width, 3, 1);
        let linear = |map: &NormedLinear<f64>| NormedLinear {
            norm: cast(&map.norm),
            weight: cast(&map.weight),
            bias: cast(&map.bias),
        };
        let mut narrow: Projection<f32> = Projection {
            query: linear(&wide.query),
            value: linear(&wide.value),
            gate: wide.gate.as_ref().map(linear),
            output: linear(&wide.output),
        };
        change(&mut narrow);
        let memory = Memory::new(settings.clone(), Rules::paper(), narrowed(&tables(settings, 1))).unwrap();
        let mut layer = Layer::new(narrow, memory).unwrap();
        let hidden = Array3::from_shape_fn((1, 2, width), |(_, t, i)| if (t, i) == (1, 0) { hidden } else { 1.0 });
        let failed = match layer.feed(hidden.view(), None).map(|_| ()) {
            Err(Error::Diverged { chunk: 0, stage, tensor }) => (stage, tensor),
            other => panic!("{other:?}"),
        };
        // Stopped, as after any overflow.
        assert!(matches!(layer.feed(Array3::zeros((1, 0, width)).view(), None), Err(Error::Diverged { .. })));
        layer.reset_queue();
        assert!(failed.0 == "output" || layer.feed(Array3::zeros((1, 1, width)).view(), None).is_ok());
        failed
    };
    let nothing = |_: &mut Projection<f32>| {};
    // The first map that sees it, by its mean square.
    assert_eq!(diverges(&settings, &nothing, 1e20), ("projection", "queries"));
    // 1e38 times 1e38; harmless hidden states, as long as the bias is.
    let query = |p: &mut Projection<f32>| p.query.weight.row_mut(0).assign(&arr1(&[3e38, -3e38, 0.0, 0.0]));
    assert_eq!(diverges(&settings, &query, 1e3), ("projection", "queries"));
    let value = |p: &mut Projection<f32>| p.value.weight.row_mut(1).assign(&arr1(&[3e38, -3e38, 0.0, 0.0]));
    assert_eq!(diverges(&settings, &value, 1e3), ("projection", "values"));
    let gate = |p: &mut Projection<f32>| p.gate.as_mut().unwrap().weight.fill(3e38);
    // sigmoid of an infinite sum is 1, so what must show is a sum without a sign.
    let spread = |p: &mut Projection<f32>| {
        gate(p);
        p.gate.as_mut().unwrap().weight.row_mut(0).fill(-3e38);
    };
    assert_eq!(diverges(&settings, &spread, 1e3), ("projection", "gates"));
    // z-score and l2 of (1e20, …): a variance and a sum of squares.
    let large = |p: &mut Projection<f32>| p.value.weight.row_mut(0).assign(&arr1(&[1e20, 0.0, 0.0, 0.0]));
    for value_norm in [Norm::ZScore, Norm::L2] {
        assert_eq!(
            diverges(&Settings { value_norm, ..small() }, &large, 1e3),
            ("projection", "values"),
            "{value_norm:?}"
        );
    }
    // Only the way out overflows.
    let out = |p: &mut Projection<f32>| p.output.weight.fill(3e38);
    let (stage, tensor) = diverges(&Settings { value_norm: Norm::ZScore, ..small() }, &out, 1e3);
    assert_eq!((stage, tensor), ("output", "layer"));
}
