//! Stage `train`: outer gradients, in numbers worked by hand, and what is refused.

mod properties;

use approx::assert_abs_diff_eq;
use fwpkm_reference::address::Sparse;
use fwpkm_reference::settings::{Activation, Border, Score, WeightsOver};
use fwpkm_reference::train::addressing::{entropy_curvature, sub_key_gradient_back};
use fwpkm_reference::train::descend_back;
use fwpkm_reference::{Cotangents, Error, Gradients, Memory, Rules, Settings, Tables, Tape};
use ndarray::{Array2, Array3, Array4, arr2, arr3};
use ndarray_rand::RandomExt;
use ndarray_rand::rand_distr::StandardNormal;

use crate::common::{ROUNDING, Text, bits, grid, grid_tables, hits, reading, rng, small, tables, text};

/// What an outer loss takes of reads and last tables.
#[derive(Clone)]
struct Asked {
    reads: Array3<f64>,
    tables: Option<Tables<f64>>,
}

impl Asked {
    /// Random numbers for everything.
    fn random(settings: &Settings, text: &Text<f64>, seed: u64) -> Self {
        let ((b, t), tables) = (text.shape(), tables(settings, seed));
        let random = Array3::random_using((b, t, settings.value_dim), StandardNormal, &mut rng(seed));
        Self { reads: random, tables: Some(tables) }
    }

    /// Only these reads.
    fn reads(reads: Array3<f64>) -> Self {
        Self { reads, tables: None }
    }

    fn cotangents(&self) -> Cotangents<'_, f64> {
        Cotangents {
            reads: self.reads.view(),
            sub_keys: self.tables.as_ref().map(|tables| tables.sub_keys.view()),
            slot_values: self.tables.as_ref().map(|tables| tables.slot_values.view()),
        }
    }

    fn loss(&self, settings: &Settings, rules: &Rules, tables: &Tables<f64>, text: &Text<f64>) -> f64 {
        let mut memory = Memory::new(settings.clone(), rules.clone(), tables.clone()).unwrap();
        let fed = memory.read_text(&text.tokens()).unwrap();
        let of_tables = self.tables.as_ref().map_or(0.0, |asked| {
            (&asked.sub_keys * &memory.tables().sub_keys).sum()
                + (&asked.slot_values * &memory.tables().slot_values).sum()
        });
        (&self.reads * &fed.reads).sum() + of_tables
    }
}

fn tape(settings: &Settings, rules: &Rules, tables: &Tables<f64>) -> Tape<f64> {
    Tape::new(Memory::new(settings.clone(), rules.clone(), tables.clone()).unwrap()).unwrap()
}

/// Back through a text that is fed in one call and flushed.
fn gradients(settings: &Settings, tables: &Tables<f64>, text: &Text<f64>, asked: &Asked) -> Gradients<f64> {
    let mut tape = tape(settings, &Rules::paper(), tables);
    tape.feed(&text.tokens()).unwrap();
    tape.flush().unwrap();
    tape.backward(&asked.cotangents()).unwrap()
}

/// A value table that is asked for at one slot.
fn last_slot(settings: &Settings, slot: usize) -> Asked {
    let mut tables = Tables {
        sub_keys: Array4::zeros((settings.heads, 2, settings.sub_keys, settings.half_dim())),
        slot_values: Array2::zeros((settings.slots(), settings.value_dim)),
    };
    tables.slot_values.row_mut(slot).fill(1.0);
    Asked { reads: Array3::zeros((1, 0, settings.value_dim)), tables: Some(tables) }
}

impl Asked {
    fn of_tokens(self, tokens: usize) -> Self {
        let width = self.reads.dim().2;
        Self { reads: Array3::zeros((1, tokens, width)), ..self }
    }
}

// Three tokens hit slot 0, C = 1: V becomes the mean of itself and the target each time, so that the derivative of the third
// read is ½ by the second value, ¼ by the first and ¼ by the slot.
#[test]
fn grd_1_goes_through_every_step() {
    let settings = Settings { learning_rate: 0.5, ..grid(2, 1, 0) };
    let text = hits(&settings, &[&[(0, 4.0), (0, 8.0), (0, 0.0)]]);
    let asked = Asked::reads(arr3(&[[[0.0], [0.0], [1.0]]]));
    let found = gradients(&settings, &grid_tables(&settings), &text, &asked);
    assert_eq!(found.values, arr3(&[[[0.25], [0.5], [0.0]]]));
    assert_eq!(found.tables.slot_values, arr2(&[[0.25], [0.0], [0.0], [0.0]]));
    assert_eq!(found.gates, None);
}

// Under carry with L = 1 the pair of token 0 steps after token 1, and token 2 reads the step: its value is that of token 1.
#[test]
fn grd_1_under_carry_the_target_is_the_later_value() {
    let settings = Settings { border: Border::Carry, ..grid(2, 1, 1) };
    let text = hits(&settings, &[&[(0, 4.0), (3, 8.0), (0, 0.0)]]);
    let asked = Asked::reads(arr3(&[[[0.0], [0.0], [1.0]]]));
    assert_eq!(gradients(&settings, &grid_tables(&settings), &text, &asked).values, arr3(&[[[0.0], [1.0], [0.0]]]));
}

// A gate of 0 takes no step, yet the step grows with it: V = 0 - g·(0 - 4).
#[test]
fn grd_1_a_gate_of_zero_has_a_gradient_and_a_masked_one_has_none() {
    let settings = grid(2, 1, 0);
    let asked = Asked::reads(arr3(&[[[0.0], [1.0]]]));
    for (mask, expected) in [(None, 4.0), (Some(arr2(&[[false, true]])), 0.0)] {
        let text = Text { gates: Some(arr2(&[[0.0, 1.0]])), mask, ..hits(&settings, &[&[(0, 4.0), (0, 0.0)]]) };
        let found = gradients(&settings, &grid_tables(&settings), &text, &asked);
        assert_eq!(found.gates, Some(arr2(&[[expected, 0.0]])));
        assert_eq!(found.values, Array3::<f64>::zeros((1, 2, 1)));
    }
}

// The second of two tokens reads tables that were reset: what it reads comes from the given tables, not from the first step.
#[test]
fn grd_1_reset_tables_are_the_given_ones_again() {
    let settings = grid(2, 1, 0);
    let (start, text) = (grid_tables(&settings), hits(&settings, &[&[(0, 4.0), (0, 0.0)]]));
    let mut tape = tape(&settings, &Rules::paper(), &start);
    tape.feed(&text.part(0, 1).tokens()).unwrap();
    tape.reset_tables(start).unwrap();
    tape.feed(&text.part(1, 2).tokens()).unwrap();
    let reads = arr3(&[[[1.0], [1.0]]]);
    let found = tape.backward(&Asked::reads(reads).cotangents()).unwrap();
    assert_eq!(found.values, Array3::<f64>::zeros((1, 2, 1)));
    assert_eq!(found.tables.slot_values, arr2(&[[2.0], [0.0], [0.0], [0.0]]));
}

// Tokens that a reset of the queue forgets have no pair, and the tokens after them count from there.
#[test]
fn grd_1_after_a_reset_queue_pairs_are_those_of_the_new_text() {
    let settings = grid(2, 2, 0);
    let text = hits(&settings, &[&[(3, 9.0), (0, 4.0), (0, 6.0), (0, 0.0)]]);
    let mut tape = tape(&settings, &Rules::paper(), &grid_tables(&settings));
    tape.feed(&text.part(0, 1).tokens()).unwrap();
    tape.reset_queue().unwrap();
    tape.feed(&text.part(1, 4).tokens()).unwrap();
    let found = tape.backward(&Asked::reads(arr3(&[[[0.0], [0.0], [0.0], [1.0]]])).cotangents()).unwrap();
    assert_eq!(found.values, arr3(&[[[0.0], [0.5], [0.5], [0.0]]]));
    assert_eq!(tape.memory().queued(), 1);
    assert_eq!(tape.into_memory().tables().slot_values[[0, 0]], 5.0);
}

#[test]
fn grd_1_refuses_what_it_cannot_differentiate() {
    let settings = grid(2, 2, 0);
    let text = hits(&settings, &[&[(0, 1.0), (1, 2.0), (2, 3.0)]]);
    let mut queued = Memory::new(settings.clone(), Rules::paper(), grid_tables(&settings)).unwrap();
    queued.feed(&text.part(0, 1).tokens()).unwrap();
    assert!(matches!(Tape::new(queued), Err(Error::Shape { tensor: "queue", .. })));
    let mut tape = tape(&settings, &Rules::paper(), &grid_tables(&settings));
    tape.feed(&text.part(0, 2).tokens()).unwrap();
    let two = Text { queries: Array3::zeros((2, 1, 2)), values: Array3::zeros((2, 1, 1)), gates: None, mask: None };
    let before = format!("{tape:?}");
    assert!(matches!(tape.feed(&two.tokens()), Err(Error::Shape { tensor: "queries", .. })));
    let mut wrong = text.part(2, 3);
    wrong.values[[0, 0, 0]] = f64::NAN;
    assert!(matches!(tape.feed(&wrong.tokens()), Err(Error::NotFinite { tensor: "values", .. })));
    assert_eq!(format!("{tape:?}"), before, "a refused call changes a tape");
    let refused = |asked: &Asked| tape.backward(&asked.cotangents()).unwrap_err().to_string();
    let short = Asked::reads(Array3::zeros((1, 1, 1)));
    assert!(refused(&short).contains("cotangent of reads has shape [1, 1, 1]"), "{}", refused(&short));
    let mut wide = last_slot(&settings, 0).of_tokens(2);
    wide.tables.as_mut().unwrap().slot_values = Array2::zeros((3, 1));
    assert!(refused(&wide).contains("cotangent of slot_values"), "{}", refused(&wide));
    let infinite = Asked::reads(arr3(&[[[0.0], [f64::INFINITY]]]));
    assert!(refused(&infinite).contains("cotangent of reads[0, 1, 0] is inf"), "{}", refused(&infinite));
    let huge = Asked { reads: arr3(&[[[f64::MAX], [f64::MAX]]]), ..last_slot(&settings, 0) };
    let same = Text { queries: Array3::zeros((1, 2, 2)), ..text.part(0, 2) };
    let mut twice = self::tape(&settings, &Rules::paper(), &grid_tables(&settings));
    twice.feed(&same.tokens()).unwrap();
    let overflow = twice.backward(&huge.cotangents()).unwrap_err();
    assert_eq!(overflow, Error::GradientOverflow { tensor: "slot_values" });
}

// A step that overflows leaves a tape without gradients, whatever is reset.
#[test]
fn grd_1_a_tape_ends_with_a_step_that_diverged() {
    let settings = grid(2, 1, 0);
    let text = hits(&settings, &[&[(0, f64::MAX), (0, -f64::MAX), (0, f64::MAX)]]);
    let mut tape = tape(&settings, &Rules::paper(), &grid_tables(&settings));
    let diverged = tape.feed(&text.tokens()).unwrap_err();
    assert!(matches!(diverged, Error::Diverged { .. }));
    assert_eq!(tape.reset_queue().unwrap_err(), diverged);
    assert_eq!(tape.reset_tables(grid_tables(&settings)).unwrap_err(), diverged);
    assert_eq!(tape.flush().unwrap_err(), diverged);
    let asked = Asked::reads(Array3::zeros((1, 3, 1)));
    assert_eq!(tape.backward(&asked.cotangents()).unwrap_err(), diverged);
}

// Nothing read, nothing asked: gradients without tokens; the tables are their own.
#[test]
fn grd_1_without_tokens_the_last_tables_are_the_first() {
    let settings = grid(2, 1, 0);
    let tape = tape(&settings, &Rules::paper(), &grid_tables(&settings));
    let asked = last_slot(&settings, 2);
    let found = tape.backward(&asked.cotangents()).unwrap();
    assert_eq!((found.queries.dim(), found.values.dim()), ((1, 0, 2), (1, 0, 1)));
    assert_eq!(Some(found.tables), asked.tables);
}

// Static product key memory takes no step: values have no gradient, and tables that of the reads alone.
#[test]
fn grd_1_without_writes_only_reads_count() {
    let settings = Settings { writes: false, heads: 2, weights_over: WeightsOver::EachHead, ..small() };
    let (start, text) = (tables(&settings, 1), text(&settings, 2, 5, 2));
    let asked = Asked { tables: None, ..Asked::random(&settings, &text, 3) };
    let found = gradients(&settings, &start, &text, &asked);
    assert_eq!(found.values, Array3::<f64>::zeros(text.values.dim()));
    let weights = reading(&settings, &start, &text).weights;
    // Softmax over each head: the weights of a token add up to 2, and so do the gradients of the slots it reads.
    assert_abs_diff_eq!(weights.sum(), 20.0, epsilon = 1e-13);
    assert_abs_diff_eq!(found.tables.slot_values.sum(), 2.0 * asked.reads.sum(), epsilon = 1e-13);
}

// At the limit the gradient passes, beyond it not; decay keeps 1 - ηλ of what follows.
#[test]
fn grd_2_passes_what_is_not_clipped() {
    let settings = Settings { learning_rate: 0.5, gradient_clip: Some(2.0), ..small() };
    let back = |gradient| descend_back(&settings, gradient, 4.0);
    assert_eq!([-2.5, -2.0, 0.0, 2.0, 2.5].map(back), [0.0, -2.0, -2.0, -2.0, 0.0]);
    let decaying = Settings { learning_rate: 0.5, weight_decay: 0.5, ..grid(2, 1, 0) };
    let text = hits(&decaying, &[&[(0, 4.0), (0, 4.0)]]);
    let found = gradients(&decaying, &grid_tables(&decaying), &text, &last_slot(&decaying, 3).of_tokens(2));
    assert_eq!(found.tables.slot_values[[3, 0]], 0.75 * 0.75);
}

// relu is flat at 0 and below.
#[test]
fn grd_3_relu_passes_nothing_where_it_is_flat() {
    let settings = Settings { score: Score::DotProduct, activation: Activation::Relu, writes: false, ..grid(2, 1, 0) };
    let mut start = grid_tables(&settings);
    start.slot_values.fill(1.0);
    let asked = Asked::reads(arr3(&[[[1.0]]]));
    // Sub-keys 0 and 1: a query of (-1, -1) scores best 0 with both halves, (2, 1) scores 2 + 1.
    for (query, expected) in [([-1.0, -1.0], [0.0, 0.0]), ([2.0, 1.0], [1.0, 1.0])] {
        let text = Text {
            queries: Array3::from_shape_vec((1, 1, 2), query.to_vec()).unwrap(),
            values: Array3::zeros((1, 1, 1)),
            gates: None,
            mask: None,
        };
        let found = gradients(&settings, &start, &text, &asked);
        assert_eq!(found.queries.into_raw_vec_and_offset().0, expected);
    }
}

// Two heads that each choose one slot have weight 1 in a softmax of their own, and share one jointly.
#[test]
fn grd_3_weights_of_a_softmax_of_one_have_no_slope() {
    let settings = Settings { heads: 2, top_k: 1, writes: false, ..small() };
    let (start, text) = (tables(&settings, 4), text(&settings, 1, 3, 5));
    let asked = Asked { tables: None, ..Asked::random(&settings, &text, 6) };
    let joint = gradients(&settings, &start, &text, &asked);
    assert!(joint.queries.iter().any(|x| x.abs() > 1e-3));
    let alone = Settings { weights_over: WeightsOver::EachHead, ..settings };
    let found = gradients(&alone, &start, &text, &asked);
    assert!(found.queries.iter().chain(&found.tables.sub_keys).all(|&x| x == 0.0));
}

// Where a query hits a sub-key the distance has slope 0, however large its score.
#[test]
fn grd_4_an_exact_hit_has_slope_zero() {
    let settings = Settings { top_k: 2, writes: false, ..grid(2, 1, 0) };
    let mut start = grid_tables(&settings);
    start.slot_values = arr2(&[[1.0], [2.0], [5.0], [7.0]]);
    let text = hits(&settings, &[&[(0, 0.0)]]);
    let found = gradients(&settings, &start, &text, &Asked::reads(arr3(&[[[1.0]]])));
    // Chosen are slot 0 and, tied with slot 2, slot 1: of half 1 sub-key 1 pulls, of half 0 both pairs share sub-key 0.
    assert_eq!(found.tables.sub_keys[[0, 1, 0, 0]], 0.0);
    assert!(found.tables.sub_keys[[0, 1, 1, 0]].abs() > 1e-4);
    assert_eq!(found.queries[[0, 0, 1]], -found.tables.sub_keys[[0, 1, 1, 0]]);
}

// N = 4 reads, two of them with a pair each: a value moves its slot by 1/4 (and by k·H·S/pairs = 4/2 times that in the release).
#[test]
fn grd_5_divides_by_the_read_count() {
    let settings = grid(2, 4, 2);
    let text = hits(&settings, &[&[(0, 1.0), (0, 2.0), (0, 3.0), (0, 4.0)]]);
    let asked = last_slot(&settings, 0).of_tokens(4);
    for (rules, expected) in [(Rules::paper(), 0.25), (Rules::release(), 0.5)] {
        let mut tape = tape(&settings, &rules, &grid_tables(&settings));
        tape.feed(&text.tokens()).unwrap();
        let found = tape.backward(&asked.cotangents()).unwrap();
        assert_eq!(found.values, arr3(&[[[0.0], [0.0], [expected], [expected]]]));
        assert_eq!(found.tables.slot_values[[0, 0]], 1.0 - 2.0 * expected);
    }
}

// 1/p̄ without the constant, 1/(p̄ + e) + e/(p̄ + e)² with it; unused sub-keys and the smallest numbers do no harm.
#[test]
fn grd_6_the_curvature_of_the_entropy() {
    assert_eq!((entropy_curvature(0.25, 0.0), entropy_curvature(0.25, 0.25)), (4.0, 3.0));
    assert_eq!(entropy_curvature(0.0, 0.0), 0.0);
    assert_eq!(entropy_curvature(2f64.powi(-600), 0.0), 2f64.powi(600));
}

// Without the addressing step K after is K before, and queries have no gradient from it.
#[test]
fn grd_6_without_addressing_sub_keys_pass_as_they_are() {
    let settings = Settings { addressing_weight: 0.0, ..small() };
    let (start, text) = (tables(&settings, 7), text(&settings, 2, 9, 8));
    let mut asked = Asked::random(&settings, &text, 9);
    asked.reads.fill(0.0);
    asked.tables.as_mut().unwrap().slot_values.fill(0.0);
    let found = gradients(&settings, &start, &text, &asked);
    assert_eq!(bits(&found.tables.sub_keys), bits(&asked.tables.unwrap().sub_keys));
    assert!(found.queries.iter().chain(&found.values).all(|&x| x == 0.0));
}

// At a hit X is ε, whose square is no f32; the slope is 2Ḡ/ε.
#[test]
fn grd_6_a_hit_with_the_smallest_epsilon_has_a_gradient() {
    let epsilon = 2.0_f64.powi(-80);
    let settings = Settings { score: Score::InverseDistance { epsilon }, ..grid(2, 1, 0) };
    let (sub_keys, adjoint) = (Array4::<f32>::ones((1, 2, 2, 1)), Array4::from_elem((1, 2, 2, 1), 2.0_f32.powi(-20)));
    let mut slopes = Sparse::empty(1, 1);
    slopes.lists[0].push((0, 0.5));
    let back = sub_key_gradient_back(&settings, &sub_keys, &Array4::ones((1, 1, 2, 1)), &slopes, &adjoint);
    assert_eq!(back.slopes.lists[0], [(0, 0.0)]);
    assert_eq!(back.queries.into_iter().collect::<Vec<_>>(), [2.0_f32.powi(60), 0.0]);
    assert_eq!(back.sub_keys.into_iter().collect::<Vec<_>>(), [-(2.0_f32.powi(60)), 0.0, 0.0, 0.0]);
}

// The option off, the values never reach the sub-keys; on, they do, and divided by B·pairs·d_v under the mean.
#[test]
fn grd_7_only_where_the_sub_keys_are_moved_by_the_loss() {
    let settings = Settings { chunk: 8, lookahead: 0, ..small() };
    let (start, text) = (tables(&settings, 10), text(&settings, 1, 4, 11));
    let mut asked = Asked::random(&settings, &text, 12);
    asked.reads.fill(0.0);
    asked.tables.as_mut().unwrap().slot_values.fill(0.0);
    assert!(gradients(&settings, &start, &text, &asked).values.iter().all(|&x| x == 0.0));
    let settings = Settings { memory_gradient_to_sub_keys: true, ..settings };
    let of = |rules: Rules| {
        let mut tape = tape(&settings, &rules, &start);
        tape.feed(&text.tokens()).unwrap();
        tape.flush().unwrap();
        tape.backward(&asked.cotangents()).unwrap().values
    };
    let (sum, mean) = (of(Rules::paper()), of(Rules { sub_key_loss: Rules::release().sub_key_loss, ..Rules::paper() }));
    assert!(sum.iter().any(|x| x.abs() > 1e-3));
    assert_abs_diff_eq!(mean * 8.0, sum, epsilon = ROUNDING);
}
