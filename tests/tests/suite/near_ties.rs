//! NUM-11: sub-keys that may have been chosen in place of others, and nothing recorded says so.

use fwpkm::implementation::Implementation;
use fwpkm::judge::{Declaration, Distance, Judgement, Verdict, judge};
use fwpkm::numbers::Numbers;
use fwpkm::outputs::of_walk;
use fwpkm::problem::{Problem, Text, Tokens};
use fwpkm::run::Plan;
use fwpkm::selection::Exchange;
use fwpkm::walk::{Order, Walk, Walked};
use fwpkm_reference::rules::Kept;
use fwpkm_reference::{Rules, Settings, Stages, Tables};
use ndarray::{Array1, Array3, s};
use ndarray_rand::RandomExt;
use ndarray_rand::rand::SeedableRng;
use ndarray_rand::rand::rngs::StdRng;
use ndarray_rand::rand_distr::StandardNormal;

const CHUNK: usize = 128;
/// In the second chunk.
const PLANTED: usize = 150;

fn problem(kept: Kept, seed: u64) -> Problem {
    // A weight so small that what a near-tie does is far below what is ill-conditioned.
    let settings = Settings { addressing_weight: 0.05, chunk: CHUNK, ..Settings::paper() };
    let settings = Settings { sub_keys: 8, key_dim: 8, value_dim: 3, top_k: 2, ..settings };
    let mut rng = StdRng::seed_from_u64(seed);
    let tables = Tables::random(&settings, &mut rng).unwrap();
    let tokens = 3 * CHUNK;
    let queries = Array3::random_using((tokens, 1, 8), StandardNormal, &mut rng) * 0.3;
    let values = Array3::random_using((tokens, 1, 3), StandardNormal, &mut rng);
    let mut plan = Plan { trace: false, ..Plan::one_call(settings) };
    plan.rules = Rules { kept, ..Rules::paper() };
    let text = Text::Memory(Tokens { queries, values, gates: None, mask: None });
    let (name, clauses) = ("planted".into(), Vec::new());
    Problem { name, clauses, plan, sequences: 1, tokens, text, tables, projection: None, cotangents: None }
}

fn walked<S: fwpkm_reference::Scalar>(problem: &Problem, exchanged: &[Exchange]) -> Walked<S> {
    let (plan, stages) = (&problem.plan, Stages::specification());
    let walk = Walk { plan, stages, order: Order::Specification, choices: None, exchanged, as_specified: true };
    walk.run(problem).unwrap()
}

/// The k-th of half 0 of a token, if it is in no slot, and the one after it; and how far apart their scores are.
fn last_and_next(problem: &Problem, token: usize) -> Option<([usize; 2], f64)> {
    let walked = walked::<f64>(problem, &[]);
    let (_, reading) = &walked.trace.readings[token / CHUNK];
    let (row, n) = (token % CHUNK, problem.plan.settings.sub_keys);
    let scores = reading.scores.slice(s![row, 0, 0, ..]);
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| scores[j].total_cmp(&scores[i]));
    let in_a_slot = reading.selected.slots.slice(s![row, 0, ..]).iter().any(|slot| slot / n == order[1]);
    (!in_a_slot).then(|| ([order[1], order[2]], scores[order[1]] - scores[order[2]]))
}

/// A case whose planted token has two sub-keys equally near, as far as f32 can tell; the better one is chosen and in no slot.
fn planted(kept: Kept) -> (Problem, Exchange) {
    for seed in 0..1000 {
        let mut problem = problem(kept, seed).rounded(Numbers::F32);
        let Some((sub_keys, gap)) = last_and_next(&problem, PLANTED) else { continue };
        if gap > 0.1 {
            continue;
        }
        let tables = &walked::<f64>(&problem, &[]).trace.steps[0].step.sub_keys;
        let key = |i: usize| -> Array1<f64> { tables.slice(s![0, 0, i, ..]).to_owned() };
        let (better, other) = (key(sub_keys[0]), key(sub_keys[1]));
        // Moved along the line between the two until it is as far from one as from the other.
        let towards: Array1<f64> = &other - &better;
        let Text::Memory(tokens) = &mut problem.text else { unreachable!() };
        let mut query = tokens.queries.slice_mut(s![PLANTED, 0, ..4]);
        let middle: Array1<f64> = (&better + &other) / 2.0 - &query;
        let share = middle.dot(&towards) / towards.dot(&towards);
        query.scaled_add(share, &towards);
        let problem = problem.rounded(Numbers::F32);
        match last_and_next(&problem, PLANTED) {
            Some((mut now, gap)) if gap < 1e-6 => {
                let [better, other] = now;
                now.sort_unstable();
                let mut were = sub_keys;
                were.sort_unstable();
                if now == were {
                    let exchange =
                        Exchange { token: PLANTED, sequence: 0, head: 0, half: 0, sub_keys: [better, other] };
                    return (problem, exchange);
                }
            }
            _ => {}
        }
    }
    panic!("no seed plants a near-tie");
}

/// What is made of a run in f32 with these sub-keys exchanged, of which only `out.*` was recorded.
fn judged(problem: &Problem, exchanged: &[Exchange]) -> Judgement {
    let walked = walked::<f32>(problem, exchanged);
    let mut outputs = of_walk(&walked, problem, &problem.plan).unwrap();
    outputs.retain(|name, _| name.starts_with("out."));
    let declared = Declaration { numbers: Numbers::F32, distance: Distance::Direct };
    judge(problem, &Implementation::specification(), declared, &outputs).unwrap()
}

/// Numbers of the last sub-keys that were judged, and those that were not.
fn of_sub_keys(judgement: &Judgement) -> (usize, usize) {
    let check = judgement.checks.iter().find(|check| check.tensor == "out.sub_keys").unwrap();
    (check.judged, check.not_judged)
}

#[test]
fn num_11_either_choice_at_a_near_tie_in_no_slot_conforms() {
    for kept in [Kept::TopK, Kept::Ties] {
        let (problem, exchange) = planted(kept);
        let effect = |exchanged: &[Exchange]| walked::<f64>(&problem, exchanged).tables.sub_keys;
        let effect = (effect(&[exchange]) - effect(&[])).iter().fold(0.0f64, |most, x| most.max(x.abs()));
        assert!(effect > 1e-5, "the exchange does nothing that could be judged: {effect:e}");
        for exchanged in [&[][..], &[exchange]] {
            let judgement = judged(&problem, exchanged);
            let finding = judgement.findings().next();
            assert_eq!(judgement.verdict(), Verdict::Conforms, "{kept:?} {exchanged:?}: {finding:?}");
            let (judged, not_judged) = of_sub_keys(&judgement);
            println!("{kept:?}: effect {effect:e}, {judged} numbers of the sub-keys judged, {not_judged} not");
            assert!(judged > 3 * not_judged, "{judged} judged, {not_judged} not");
        }
    }
}

#[test]
fn num_11_a_choice_that_no_near_tie_explains_differs() {
    for kept in [Kept::TopK, Kept::Ties] {
        let (problem, near_tie) = planted(kept);
        let clear = (CHUNK..2 * CHUNK).filter(|&token| token != PLANTED).find_map(|token| {
            let (sub_keys, gap) = last_and_next(&problem, token)?;
            let apart = sub_keys.iter().all(|i| !near_tie.sub_keys.contains(i));
            (gap > 0.01 && apart).then_some(Exchange { token, sub_keys, ..near_tie })
        });
        let clear = clear.unwrap();
        for exchanged in [&[clear][..], &[near_tie, clear]] {
            let judgement = judged(&problem, exchanged);
            let found: Vec<&str> = judgement.findings().map(|check| check.tensor.as_str()).collect();
            // Under kept = ties rounding turns the near-tie in the injected runs as well, and bounds are larger.
            let shown = if kept == Kept::Ties { "out.reads" } else { "out.sub_keys" };
            assert!(found.contains(&shown), "{kept:?} {exchanged:?}: {found:?}");
        }
    }
}
