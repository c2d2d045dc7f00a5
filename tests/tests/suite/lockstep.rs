//! NUM-11: long texts in lockstep, in free runs, and what a bound may be to judge at all.

use fwpkm::implementation::Implementation;
use fwpkm::judge::{Check, Declaration, Distance, Judgement, Verdict, judge};
use fwpkm::lockstep::cases;
use fwpkm::numbers::Numbers;
use fwpkm::outputs::of_walk;
use fwpkm::problem::{Problem, Text, Tokens};
use fwpkm::run::{Outputs, Plan};
use fwpkm::walk::{Order, Walk};
use fwpkm_reference::projection::{NormedLinear, Projection};
use fwpkm_reference::rules::StreamCount;
use fwpkm_reference::settings::Border;
use fwpkm_reference::tables::descend;
use fwpkm_reference::{Scalar, Settings, Stages, Tables};
use ndarray::{Array, Dimension, s};
use ndarray_rand::RandomExt;
use ndarray_rand::rand::SeedableRng;
use ndarray_rand::rand::rngs::StdRng;
use ndarray_rand::rand_distr::Normal;

const CHUNK: usize = 4;

fn settings(border: Border, lookahead: usize) -> Settings {
    Settings {
        heads: 2,
        sub_keys: 6,
        key_dim: 6,
        value_dim: 4,
        top_k: 2,
        chunk: CHUNK,
        lookahead,
        border,
        ..Settings::paper()
    }
}

fn normal<D: Dimension>(shape: impl ndarray::ShapeBuilder<Dim = D>, rng: &mut StdRng) -> Array<f64, D> {
    Array::random_using(shape, Normal::new(0.0, 1.0).unwrap(), rng)
}

/// Two sequences of so many tokens
fn problem(settings: Settings, tokens: usize, seed: u64) -> Problem {
    let mut rng = StdRng::seed_from_u64(seed);
    let tables = Tables::random(&settings, &mut rng).unwrap();
    let text = Text::Memory(Tokens {
        queries: normal((tokens, 2, settings.heads * settings.key_dim), &mut rng) * 0.4,
        values: normal((tokens, 2, settings.value_dim), &mut rng),
        gates: Some(normal((tokens, 2), &mut rng).mapv(|x| 1.0 / (1.0 + (-x).exp()))),
        mask: Some(normal((tokens, 2), &mut rng).mapv(|x| x < 1.5)),
    });
    let plan = Plan { trace: true, ..Plan::one_call(settings) };
    Problem {
        name: "long".into(),
        clauses: Vec::new(),
        plan,
        sequences: 2,
        tokens,
        text,
        tables,
        projection: None,
        cotangents: None,
    }
}

/// The same as a layer of hidden size 5
fn layer(settings: Settings, tokens: usize, seed: u64) -> Problem {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut map = |inputs: usize, outputs: usize| NormedLinear {
        norm: normal(inputs, &mut rng) * 0.1,
        weight: normal((outputs, inputs), &mut rng) / (inputs as f64).sqrt(),
        bias: normal(outputs, &mut rng) * 0.1,
    };
    let projection = Projection {
        query: map(5, settings.heads * settings.key_dim),
        value: map(5, settings.value_dim),
        gate: Some(map(5, 2)),
        output: map(settings.value_dim, 5),
    };
    let hidden = normal((2 * tokens, 5), &mut rng);
    let text = Text::Layer { hidden, mask: None };
    Problem { text, projection: Some(projection), ..problem(settings, tokens, seed) }
}

fn judged(problem: &Problem, numbers: Numbers, outputs: &Outputs) -> Judgement {
    let declared = Declaration { numbers, distance: Distance::Direct };
    judge(problem, &Implementation::specification(), declared, outputs).unwrap()
}

fn run(problem: &Problem, numbers: Numbers) -> Outputs {
    Implementation::specification().run(problem, numbers).unwrap()
}

/// Every case has one step; its tables after it are those that the next one begins with, and at last those of the whole run.
#[test]
fn num_11_lockstep_cases_are_the_steps_of_the_run() {
    let (drop, carry) = (Border::Drop, Border::Carry);
    for (tokens, border, lookahead, lengths) in [
        (12, drop, 1, vec![4, 4, 4]),
        (14, drop, 1, vec![4, 4, 4, 2]),
        (1, drop, 1, vec![1]),
        (14, drop, 0, vec![4, 4, 4, 2]),
        (12, carry, 0, vec![4, 4, 4]),
        (13, carry, 1, vec![5, 5, 5]),
        (14, carry, 1, vec![5, 5, 5, 2]),
        (12, carry, 1, vec![5, 5, 4]),
        (16, carry, 6, vec![10, 10, 8]),
        (5, carry, 6, vec![5]),
    ] {
        for problem in [problem(settings(border, lookahead), tokens, 1), layer(settings(border, lookahead), tokens, 2)]
        {
            let cases = cases(&problem).unwrap();
            let found: Vec<usize> = cases.iter().map(|case| case.tokens).collect();
            assert_eq!(found, lengths, "{tokens} tokens, {border:?}, L = {lookahead}");
            let whole = run(&problem, Numbers::F64);
            let mut tables = problem.tables.clone();
            for case in &cases {
                assert_eq!(case.tables, tables, "{}", case.name);
                let outputs = run(case, Numbers::F64);
                for (name, table) in [
                    ("out.slot_values", tables.slot_values.view_mut().into_dyn()),
                    ("out.sub_keys", tables.sub_keys.view_mut().into_dyn()),
                ] {
                    let after = outputs[name].data.to_f64();
                    for (x, after) in table.into_iter().zip(after) {
                        *x = after;
                    }
                }
            }
            assert_eq!(tables.slot_values.into_raw_vec_and_offset().0, whole["out.slot_values"].data.to_f64());
            assert_eq!(tables.sub_keys.into_raw_vec_and_offset().0, whole["out.sub_keys"].data.to_f64());
        }
    }
}

/// Without a flush, tokens after the last step are a case without a step.
#[test]
fn num_11_lockstep_has_the_tokens_after_the_last_step() {
    let mut unfinished = problem(settings(Border::Drop, 1), 14, 1);
    unfinished.plan.flush = false;
    let cases = cases(&unfinished).unwrap();
    assert_eq!(cases.iter().map(|case| case.tokens).collect::<Vec<_>>(), [4, 4, 4, 2]);
    assert!(run(&cases[3], Numbers::F64)["out.mem_losses"].data.is_empty());
    // A memory that does not write is one case.
    unfinished.plan.settings.writes = false;
    assert_eq!(fwpkm::lockstep::cases(&unfinished).unwrap().len(), 1);
}

#[test]
fn num_11_lockstep_refuses_steps_that_count_other_slices() {
    let mut by_call = problem(settings(Border::Carry, 1), 14, 1);
    by_call.plan.rules.stream_count = StreamCount::Call;
    let refused = cases(&by_call).unwrap_err().to_string();
    assert!(refused.contains("long.chunk-1") && refused.contains("stream_count = call"), "{refused}");
    // With L = 0 and one call it is the chunk itself that is counted.
    by_call.plan.settings.lookahead = 0;
    assert_eq!(cases(&by_call).unwrap().len(), 4);
}

/// Judges every lockstep case of a text of 60 chunks and a short one, as a memory and as a layer
fn conforms(numbers: Numbers, border: Border) {
    let mut largest = 0.0f64;
    let (mut conforming, mut not_judged) = (0, 0);
    let tokens = 60 * CHUNK + 2;
    for problem in [problem(settings(border, 1), tokens, 3), layer(settings(border, 1), tokens, 4)] {
        let cases = cases(&problem).unwrap();
        assert_eq!(cases.len(), 61);
        for case in &cases {
            for check in judged(case, numbers, &run(case, numbers)).checks {
                assert!(check.verdict != Verdict::Differs, "{} {}: {check:?}", case.name, numbers.name());
                largest = largest.max(check.ratio);
                match check.verdict {
                    Verdict::NotJudged => not_judged += 1,
                    _ => conforming += 1,
                }
            }
        }
    }
    println!("{border:?} {}: {conforming} conform, {not_judged} not judged, {largest:.3}", numbers.name());
    // Bounds that no error comes near would find nothing.
    assert!(largest > 0.5 && not_judged * 20 < conforming, "{}: {largest}, {not_judged} not judged", numbers.name());
}

#[test]
fn num_11_lockstep_of_a_long_text_conforms() {
    // Seen: f32 0.999, nothing not judged.
    conforms(Numbers::F32, Border::Drop);
    conforms(Numbers::F32, Border::Carry);
}

#[test]
fn num_11_lockstep_in_half_precision_conforms() {
    conforms(Numbers::Bf16, Border::Drop);
    conforms(Numbers::F16, Border::Drop);
}

#[test]
fn num_11_lockstep_in_half_precision_under_carry_conforms() {
    conforms(Numbers::Bf16, Border::Carry);
    conforms(Numbers::F16, Border::Carry);
}

/// P' nowhere above 10
fn saturating<S: Scalar>(settings: &Settings, value: S, gradient: S) -> S {
    descend(settings, value, gradient).min(S::from_f64(10.0))
}

/// A fault that no slot shows before chunk 40, where values grow: the first case that differs is that of chunk 40.
#[test]
fn num_11_lockstep_names_the_chunk_of_a_late_fault() {
    let mut long = problem(settings(Border::Drop, 1), 60 * CHUNK, 5);
    let Text::Memory(tokens) = &mut long.text else { unreachable!() };
    tokens.values.slice_mut(s![40 * CHUNK + 1.., .., ..]).mapv_inplace(|value| 400.0 + value);
    let stages = Stages { value_step: saturating, ..Stages::<f32>::specification() };
    let differing: Vec<String> = cases(&long)
        .unwrap()
        .into_iter()
        .filter(|case| {
            let case = case.rounded(Numbers::F32);
            let walk = Walk {
                plan: &case.plan,
                stages,
                order: Order::Specification,
                choices: None,
                exchanged: &[],
                as_specified: true,
            };
            let outputs = of_walk(&walk.run(&case).unwrap(), &case, &case.plan).unwrap();
            let judgement = judged(&case, Numbers::F32, &outputs);
            if judgement.verdict() == Verdict::Differs {
                let found: Vec<&str> = judgement.findings().map(|check| check.tensor.as_str()).collect();
                assert_eq!(found, ["out.slot_values"], "{}", case.name);
            }
            judgement.verdict() == Verdict::Differs
        })
        .map(|case| case.name)
        .collect();
    assert_eq!(differing.first().map(String::as_str), Some("long.chunk-40"), "{differing:?}");
}

/// Rounding errors grow from chunk to chunk in a free run, which is reported; in lockstep each chunk starts anew.
#[test]
fn num_11_free_runs_drift_and_are_not_judged() {
    let mut long = problem(settings(Border::Drop, 1), 100 * CHUNK, 6);
    // Clustered queries: what is chosen depends on the last bits of the tables.
    let Text::Memory(tokens) = &mut long.text else { unreachable!() };
    let center = tokens.queries.slice(s![0, 0, ..]).to_owned();
    tokens.queries.mapv_inplace(|x| 0.02 * x);
    tokens.queries += &center;
    let judgement = judged(&long, Numbers::F32, &run(&long, Numbers::F32));
    assert_eq!(judgement.drift.len(), 100);
    assert!(judgement.verdict() != Verdict::Differs, "{:?}", judgement.findings().next());
    let (first, last) = (judgement.drift[0], judgement.drift[90..].iter().fold(0.0f64, |most, x| most.max(*x)));
    println!("drift {first:e} to {last:e}");
    // Seen: 1.3e-7 to 1.6e-6.
    assert!(first < 1e-6 && last > 10.0 * first, "{first:e} to {last:e}");
    for case in cases(&long).unwrap() {
        let judgement = judged(&case, Numbers::F32, &run(&case, Numbers::F32));
        assert_eq!(judgement.verdict(), Verdict::Conforms, "{}: {:?}", case.name, judgement.findings().next());
        assert!(judgement.drift.is_empty());
    }
}

/// A bound above 1 % of the largest number, or 64·u of the type it is kept in, judges nothing.
#[test]
fn num_11_a_bound_too_large_judges_nothing() {
    for (numbers, limit) in
        [(Numbers::F32, 0.01), (Numbers::F64, 0.01), (Numbers::Bf16, 0.25), (Numbers::F16, 1.0 / 32.0)]
    {
        for (bound, verdict) in [(0.99 * limit, Verdict::Differs), (1.01 * limit, Verdict::NotJudged)] {
            let check = Check::of_numbers(
                "RD-3",
                "out.reads",
                &[2],
                &[(-2.0, 2.0 * bound), (0.5, 2.0 * bound)],
                &[-2.0, 9.0],
                numbers,
            );
            assert_eq!(check.verdict, verdict, "{} {bound}", numbers.name());
        }
    }
    // Only some of a tensor's bounds may be too large.
    let check = Check::of_numbers("RD-3", "out.reads", &[2], &[(2.0, 1.0), (0.5, 1e-6)], &[2.0, 0.5], Numbers::F32);
    assert_eq!((check.verdict, check.judged, check.not_judged), (Verdict::Conforms, 1, 1));
}
