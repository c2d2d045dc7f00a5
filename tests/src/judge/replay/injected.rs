//! Runs with rounding injected: what it makes of every number, and which choices it turns.              NUM-11

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use fwpkm_reference::TracedStep;
use fwpkm_spec::Data;
use rayon::prelude::*;

use super::near_ties::NearTie;
use super::noise::{LOUD, drawn, noise, noise_of_values, shaken};
use super::{HALF_SCORES, PAIR_SCORES, Replayed, near_ties};
use crate::element::Element;
use crate::error::{Error, Result};
use crate::gradients::gradients;
use crate::judge::check::unravel;
use crate::judge::recorded::Recorded;
use crate::judge::{Declaration, walk_of};
use crate::numbers::Numbers;
use crate::outputs::of_walk;
use crate::run::Outputs;
use crate::selection::{Choices, Exchange};
use crate::walk::{Walk, Walked};

/// The bound over the envelope.
const FACTOR: f64 = 8.0;

/// How often near-ties are looked for after the first time, with the bounds that turning those found before gave.
const MOST_LOOKS: usize = 16;

/// Near-ties are turned ahead: by bounds so many times as large, so that few are found later.
const AHEAD: f64 = 2.0;

/// What near-ties may do over what turning some of them does.
const TURNED: f64 = 2.0;

/// What injected runs show.
pub(super) struct Injected {
    envelopes: BTreeMap<String, Envelope>,
    /// Steps up to the first one whose choices are not known.
    pub(super) steps: usize,
    /// Tokens read before that step.
    pub(super) tokens: usize,
}

/// The largest difference of each number of one tensor from the oracle.
struct Envelope {
    /// In runs that make the oracle's choices.
    rounded: Vec<f64>,
    /// In those that turn near-ties; empty where there is none.
    turned: Vec<f64>,
}

/// One run.
struct Run {
    /// Which rounding is injected.
    number: usize,
    purpose: Purpose,
    exchanged: Vec<Exchange>,
}

/// What one run shows.
struct Seen {
    /// Steps, and tokens, before the first choice that is not known.
    known: (usize, usize),
    outputs: Outputs,
}

/// What a run is made for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Rounding.
    Rounding,
    /// Near-ties.
    Turning,
}

impl Injected {
    /// The bound of every number of a tensor.
    pub(super) fn bounds(&self, name: &str, expected: &Outputs, numbers: Numbers) -> Vec<f64> {
        let expected = &expected[name];
        let values = expected.data.to_f64();
        let Some(Envelope { rounded, turned }) = self.envelopes.get(name) else {
            return vec![f64::INFINITY; values.len()];
        };
        let width = expected.shape.last().copied().unwrap_or(1).max(1);
        let squares: f64 = rounded.iter().map(|x| x * x).sum();
        let typical = (squares / rounded.len().max(1) as f64).sqrt();
        let most = |row: &[f64]| row.iter().fold(0.0f64, |most, x| most.max(*x));
        let own =
            |x: f64| 4.0 * numbers.unit_roundoff() * x.abs() + numbers.spacing().max(f64::from(f32::MIN_POSITIVE));
        let mut bounds: Vec<f64> = values.iter().map(|&x| own(x)).collect();
        for (bounds, row) in bounds.chunks_mut(width).zip(rounded.chunks(width)) {
            let bound = FACTOR * most(row).max(typical);
            for x in bounds {
                *x += bound;
            }
        }
        // The scores of a row are of different sub-keys, and a near-tie moves few of these.
        let width = if name == HALF_SCORES { 1 } else { width };
        for (bounds, row) in bounds.chunks_mut(width).zip(turned.chunks(width)) {
            let bound = TURNED * most(row);
            for x in bounds {
                *x += bound;
            }
        }
        bounds
    }

    /// Takes in how far a run is from the oracle.
    fn widen(&mut self, expected: &Outputs, run: &Outputs, purpose: Purpose) {
        for (name, envelope) in &mut self.envelopes {
            let most = match purpose {
                Purpose::Rounding => &mut envelope.rounded,
                Purpose::Turning => &mut envelope.turned,
            };
            let wanted = &expected[name];
            most.resize(wanted.data.len(), 0.0);
            let Some(found) = run.get(name).filter(|tensor| tensor.shape == wanted.shape) else {
                most.fill(f64::INFINITY);
                continue;
            };
            let pairs = wanted.data.to_f64().into_iter().zip(found.data.to_f64());
            for (most, (x, y)) in most.iter_mut().zip(pairs) {
                *most = most.max((x - y).abs());
            }
        }
    }

    /// Ends judging after some steps and tokens.
    fn end(&mut self, (steps, tokens): (usize, usize)) {
        self.steps = self.steps.min(steps);
        self.tokens = self.tokens.min(tokens);
    }
}

/// Steps before that one, and tokens read before it; without end where there is none.
fn before(step: usize, oracle: &Walked<f64>) -> (usize, usize) {
    oracle.trace.steps.get(step).map_or((usize::MAX, usize::MAX), |traced| {
        (step, oracle.trace.readings[..traced.after].iter().map(|(tokens, _)| tokens).sum())
    })
}

impl Replayed<'_> {
    /// Runs with rounding injected; for the bounds of what was recorded, and of scores.
    pub(super) fn injected<S: Element>(&self, declared: Declaration, recorded: &Recorded) -> Result<Injected> {
        let asked = |name: &str| recorded.has_real(name) || [HALF_SCORES, PAIR_SCORES].contains(&name);
        let real = self.expected.iter().filter(|(name, tensor)| asked(name) && !matches!(tensor.data, Data::I64(_)));
        let envelopes = real.map(|(name, _)| (name.clone(), Envelope { rounded: Vec::new(), turned: Vec::new() }));
        let envelopes = envelopes.collect();
        let injected = Injected { envelopes, steps: usize::MAX, tokens: self.problem.tokens };
        let choices = self.walked.and_then(|walked| Choices::made(&walked.trace.readings, self.problem.sequences));
        let rounding = |number| Run { number, purpose: Purpose::Rounding, exchanged: Vec::new() };
        let runs: Vec<Run> = (0..noise::<S>(declared.numbers).len()).map(rounding).collect();
        let injected = self.inject::<S>(declared, &runs, choices.as_ref(), injected)?;
        match (choices, self.walked.filter(|_| self.halves_are_open())) {
            (Some(choices), Some(oracle)) => self.turn::<S>(declared, &choices, oracle, injected),
            _ => Ok(injected),
        }
    }

    /// Takes in some runs.
    fn inject<S: Element>(
        &self,
        declared: Declaration,
        runs: &[Run],
        choices: Option<&Choices>,
        injected: Injected,
    ) -> Result<Injected> {
        let shared = Mutex::new(injected);
        runs.par_iter().try_for_each(|run| {
            let seen = self.seen::<S>(declared, run, choices)?;
            // Maxima and minima: the order of runs is of no account.
            let mut injected = shared.lock().unwrap_or_else(PoisonError::into_inner);
            injected.end(seen.known);
            if run.number >= LOUD {
                injected.widen(self.expected, &seen.outputs, run.purpose);
            }
            Ok::<(), Error>(())
        })?;
        Ok(shared.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// One run.
    fn seen<S: Element>(&self, declared: Declaration, run: &Run, choices: Option<&Choices>) -> Result<Seen> {
        let mut stages = self.oracle.stages_with(Numbers::F64, declared.distance);
        stages.keep = Some(noise::<S>(declared.numbers)[run.number]);
        let (as_specified, exchanged) = (self.oracle.selects_as_specified(), run.exchanged.as_slice());
        let walk = Walk { choices, exchanged, as_specified, ..walk_of(self.plan, stages, self.oracle) };
        let Some(oracle) = self.walked else {
            let outputs = self.oracle.run_with(self.problem, walk.stages)?;
            let known = self.first_other_choice(&outputs).map_or((usize::MAX, usize::MAX), |token| (0, token));
            return Ok(Seen { known, outputs });
        };
        let walked = walk.along(self.events, self.problem)?;
        let same = oracle.trace.steps.iter().zip(&walked.trace.steps).take_while(|(a, b)| chooses_the_same(a, b));
        let known = before(same.count(), oracle);
        let mut outputs = of_walk(&walked, self.problem, self.plan)?;
        self.oracle.report(&mut outputs, self.problem, self.plan);
        self.disturb(&mut outputs, declared.numbers, run.number);
        if declared.judges_gradients() && self.expected.keys().any(|name| name.starts_with("grad.")) {
            let mut stages = self.oracle.stages_with(Numbers::F64, declared.distance);
            stages.keep = Some(noise_of_values::<S>(declared.numbers)[run.number]);
            let walk = Walk { choices, exchanged, as_specified, ..walk_of(self.plan, stages, self.oracle) };
            let shake = |place, x| shaken(declared.numbers, run.number, place, x);
            outputs.extend(gradients(&walk, self.events, self.problem, shake)?);
        }
        Ok(Seen { known, outputs })
    }

    /// Runs in which near-ties of sub-keys that are in no slot are turned.
    ///
    /// Turning one moves what follows, so that others may come near: they are looked for until there are no more.
    fn turn<S: Element>(
        &self,
        declared: Declaration,
        choices: &Choices,
        oracle: &Walked<f64>,
        mut injected: Injected,
    ) -> Result<Injected> {
        let kinds = noise::<S>(declared.numbers).len() - LOUD;
        let turning = |(run, exchanged)| Run { number: LOUD + run % kinds, purpose: Purpose::Turning, exchanged };
        let mut told_apart = true;
        let mut turned: Vec<NearTie> = Vec::new();
        for look in 0.. {
            let bounds = injected.bounds(HALF_SCORES, self.expected, declared.numbers);
            let initial = self.initial.as_ref();
            let found = |times: f64| near_ties::of(oracle, self.problem, &bounds, initial, injected.steps, times);
            let open = found(1.0);
            let known = open.iter().all(|tie| tie.is_among(&turned));
            if known && told_apart {
                break;
            }
            if look == MOST_LOOKS {
                let new = open.iter().find(|tie| !tie.is_among(&turned));
                injected.end(new.map_or((usize::MAX, usize::MAX), |new| before(new.step, oracle)));
                break;
            }
            if !known {
                turned = found(AHEAD);
            }
            let exchanges = if known { near_ties::some(&turned) } else { vec![near_ties::all(&turned)] };
            let runs: Vec<Run> = exchanges.into_iter().enumerate().map(turning).collect();
            injected = self.inject::<S>(declared, &runs, Some(choices), injected)?;
            told_apart = known;
        }
        Ok(injected)
    }

    /// Rounding of what is reported otherwise than it is computed.
    fn disturb(&self, outputs: &mut Outputs, numbers: Numbers, seed: usize) {
        for name in &self.reported {
            let Some(tensor) = outputs.get_mut(*name) else { continue };
            if matches!(tensor.data, Data::I64(_)) {
                continue;
            }
            // Several roundings make one reported number.
            let of =
                |(place, x): (usize, f64)| x * (1.0 + 4.0 * numbers.unit_roundoff() * drawn(place as u64, seed as u64));
            tensor.data = Data::F64(tensor.data.to_f64().into_iter().enumerate().map(of).collect());
        }
    }

    /// The first token for which other slots were chosen than the oracle's.
    fn first_other_choice(&self, outputs: &Outputs) -> Option<usize> {
        let (own, other) = (self.expected.get("out.indices")?, outputs.get("out.indices")?);
        let (own, other) = (own.data.to_i64()?, other.data.to_i64()?);
        let differing = own.iter().zip(&other).enumerate().filter(|(_, (a, b))| a != b);
        differing.map(|(flat, _)| unravel(flat, &self.expected["out.indices"].shape)[1]).min()
    }
}

/// Whether two readings of a chunk choose the same sub-keys and slots, in whatever order
fn chooses_the_same<S, R>(a: &TracedStep<S>, b: &TracedStep<R>) -> bool {
    let sorted = |mut list: Vec<usize>| {
        list.sort_unstable();
        list
    };
    let (a, b) = (&a.reading.selected, &b.reading.selected);
    let slots = a.slots.rows().into_iter().zip(b.slots.rows());
    let halves = a.half_indices.rows().into_iter().zip(b.half_indices.rows());
    slots.chain(halves).all(|(a, b)| sorted(a.to_vec()) == sorted(b.to_vec()))
}
