//! Numbers that remember how they were computed, for gradients of whatever an implementation computes.     GRD-1
//!
//! Reverse-mode automatic differentiation: every operation is noted on a tape, with the slopes of its result; [`backward`] goes
//! through the notes in reverse. It knows no formula of a stage, so it differentiates a deviation as readily as the
//! specification. What a comparison chooses is constant. [`Scalar::constant`] cuts the way back, as `detach` does elsewhere.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::ops::{Add, Div, Mul, Neg, Sub};
use std::sync::{Mutex, PoisonError};

use fwpkm_reference::Scalar;
use ndarray::{Array, Dimension};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{Error, Result};

/// A number, and where on the tape it was noted; 0 where it depends on no input.
#[derive(Clone, Copy, Debug)]
pub struct Reverse<S> {
    /// As computed in `S`.
    pub value: S,
    note: u32,
}

/// A result's operands, and its slopes by these.
#[derive(Clone, Copy)]
struct Note {
    operands: [u32; 2],
    slopes: [f64; 2],
}

const NOTHING: Note = Note { operands: [0; 2], slopes: [0.0; 2] };

/// Notes of a tape at most: 0.8 GB. No certified vector needs a hundredth of them.
const MOST_NOTES: usize = 1 << 25;

struct Tape {
    notes: Vec<Note>,
    most: usize,
}

thread_local! {
    static TAPE: RefCell<Tape> = const { RefCell::new(Tape { notes: Vec::new(), most: MOST_NOTES }) };
}

/// Does work on a thread of its own, whose tape begins empty: stages that would use several threads use this one.
///
/// # Errors   a thread that cannot be had; more operations than a tape holds
pub fn alone<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    within(MOST_NOTES, work)
}

fn within<T: Send>(most: usize, work: impl FnOnce() -> T + Send) -> Result<T> {
    static POOLS: Mutex<Vec<ThreadPool>> = Mutex::new(Vec::new());
    let kept = POOLS.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let pool = match kept {
        Some(pool) => pool,
        None => ThreadPoolBuilder::new().num_threads(1).build().map_err(|error| no_thread(&error))?,
    };
    let begin = || {
        TAPE.set(Tape { notes: vec![NOTHING], most });
        let done = work();
        let tape = TAPE.replace(Tape { notes: Vec::new(), most });
        (done, tape.notes.len() >= most)
    };
    // A thread of another pool would take up other work while it waits, and more and more of it; one of no pool only waits.
    let waiting = std::thread::Builder::new();
    let joined = std::thread::scope(|scope| {
        let spawned = waiting.spawn_scoped(scope, || pool.install(begin));
        spawned.map(std::thread::ScopedJoinHandle::join).map_err(|error| no_thread(&error))
    })?;
    let (done, full) = joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    POOLS.lock().unwrap_or_else(PoisonError::into_inner).push(pool);
    if full {
        let reason =
            format!("gradients that take {most} operations or more are not judged; a shorter text takes fewer");
        return Err(Error::Usage { reason });
    }
    Ok(done)
}

fn no_thread(error: &dyn std::error::Error) -> Error {
    Error::Usage { reason: format!("no thread for gradients: {error}") }
}

/// Numbers as inputs that gradients are asked for.
pub fn inputs<S: Scalar, D: Dimension>(numbers: &Array<f64, D>) -> Array<Reverse<S>, D> {
    numbers.mapv(|x| Reverse { value: S::from_f64(x), note: note(NOTHING) })
}

/// The same value with the same way back, computed otherwise.
pub fn with_value<S>(x: Reverse<S>, value: S) -> Reverse<S> {
    Reverse { value, ..x }
}

/// The slopes of Σ weight·result by every note, computed in `S`; `shake` changes each product on the way.
pub fn backward<S: Scalar>(results: &[(Reverse<S>, f64)], shake: impl Fn(u64, f64) -> f64) -> Slopes {
    TAPE.with_borrow(|tape| {
        let mut slopes = vec![0.0; tape.notes.len()];
        for (result, weight) in results {
            slopes[result.note as usize] = (S::from_f64(slopes[result.note as usize]) + S::from_f64(*weight)).to_f64();
        }
        for (number, note) in tape.notes.iter().enumerate().rev() {
            let slope = S::from_f64(slopes[number]);
            for (side, (&operand, &by)) in note.operands.iter().zip(&note.slopes).enumerate() {
                if operand != 0 && slopes[number] != 0.0 {
                    let product = shake(2 * number as u64 + side as u64, (S::from_f64(by) * slope).to_f64());
                    let sum = &mut slopes[operand as usize];
                    *sum = (S::from_f64(*sum) + S::from_f64(product)).to_f64();
                }
            }
        }
        Slopes(slopes)
    })
}

/// What [`backward`] gives.
#[derive(Debug)]
pub struct Slopes(Vec<f64>);

impl Slopes {
    /// By each of some inputs.
    pub fn of<S: Scalar, D: Dimension>(&self, inputs: &Array<Reverse<S>, D>) -> Array<S, D> {
        inputs.mapv(|input| S::from_f64(self.0.get(input.note as usize).copied().unwrap_or(0.0)))
    }
}

fn note(note: Note) -> u32 {
    TAPE.with_borrow_mut(|tape| {
        if tape.notes.len() >= tape.most {
            // What is computed goes nowhere: `within` refuses it.
            return 0;
        }
        tape.notes.push(note);
        (tape.notes.len() - 1) as u32
    })
}

impl<S: Scalar> Reverse<S> {
    fn noted(value: S, operands: [u32; 2], slopes: [S; 2]) -> Self {
        if operands == [0; 2] {
            return Self { value, note: 0 };
        }
        Self { value, note: note(Note { operands, slopes: slopes.map(S::to_f64) }) }
    }

    fn of_one(self, value: S, slope: S) -> Self {
        Self::noted(value, [self.note, 0], [slope, S::ZERO])
    }
}

/// Equal are only numbers that change alike, so that what changes nothing at 0 keeps its slope.
impl<S: Scalar> PartialEq for Reverse<S> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value && self.note == other.note
    }
}

impl<S: Scalar> PartialOrd for Reverse<S> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.value.partial_cmp(&other.value)
    }
}

impl<S: Scalar> Add for Reverse<S> {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self::noted(self.value + other.value, [self.note, other.note], [S::ONE, S::ONE])
    }
}

impl<S: Scalar> Sub for Reverse<S> {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self::noted(self.value - other.value, [self.note, other.note], [S::ONE, -S::ONE])
    }
}

impl<S: Scalar> Mul for Reverse<S> {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        Self::noted(self.value * other.value, [self.note, other.note], [other.value, self.value])
    }
}

impl<S: Scalar> Div for Reverse<S> {
    type Output = Self;
    fn div(self, other: Self) -> Self {
        let quotient = self.value / other.value;
        Self::noted(quotient, [self.note, other.note], [S::ONE / other.value, -quotient / other.value])
    }
}

impl<S: Scalar> Neg for Reverse<S> {
    type Output = Self;
    fn neg(self) -> Self {
        self.of_one(-self.value, -S::ONE)
    }
}

impl<S: Scalar> Scalar for Reverse<S> {
    const ZERO: Self = Self { value: S::ZERO, note: 0 };
    const ONE: Self = Self { value: S::ONE, note: 0 };
    const UNIT_ROUNDOFF: f64 = S::UNIT_ROUNDOFF;

    fn from_f64(x: f64) -> Self {
        Self { value: S::from_f64(x), note: 0 }
    }
    fn to_f64(self) -> f64 {
        self.value.to_f64()
    }
    fn exp(self) -> Self {
        let value = self.value.exp();
        self.of_one(value, value)
    }
    fn ln(self) -> Self {
        self.of_one(self.value.ln(), S::ONE / self.value)
    }
    fn sqrt(self) -> Self {
        let value = self.value.sqrt();
        self.of_one(value, S::ONE / (value + value))
    }
    fn is_finite(self) -> bool {
        self.value.is_finite()
    }
    fn constant(self) -> Self {
        Self { note: 0, ..self }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::arr1;

    use super::*;

    type Number = Reverse<f64>;

    /// The slopes of one result by some numbers
    fn slopes(at: &[f64], f: impl Fn(&[Number]) -> Number + Send + Sync) -> Vec<f64> {
        let numbers = arr1(at);
        let of = || {
            let inputs = inputs::<f64, _>(&numbers);
            let result = f(&inputs.to_vec());
            backward(&[(result, 1.0)], |_, x| x).of(&inputs).to_vec()
        };
        alone(of).unwrap()
    }

    #[test]
    fn slopes_are_those_of_calculus() {
        assert_eq!(slopes(&[3.0, 4.0], |x| x[0] * x[1] + x[0]), [5.0, 3.0]);
        assert_eq!(slopes(&[3.0, 4.0], |x| (x[0] - x[1]) / x[1]), [0.25, -0.1875]);
        assert_eq!(slopes(&[4.0, 1.0], |x| x[0].sqrt() + x[1].ln() - -x[0]), [1.25, 1.0]);
        assert_eq!(slopes(&[0.0], |x| x[0].exp() * x[0].exp()), [2.0]);
        assert_eq!(slopes(&[2.0], |x| x[0].max(Number::ONE) * Number::from_f64(7.0)), [7.0]);
    }

    #[test]
    fn a_constant_has_no_slope_and_a_changed_value_has() {
        assert_eq!(slopes(&[3.0], |x| x[0] * x[0].constant()), [3.0]);
        assert_eq!(slopes(&[3.0], |x| with_value(x[0], 4.0) * x[0]), [3.0 + 4.0]);
    }

    #[test]
    fn a_full_tape_is_an_error() {
        let sum = |count: usize| {
            within(10, || {
                let inputs = inputs::<f64, _>(&arr1(&[1.0]));
                let result = (0..count).fold(inputs[0], |sum, _| sum + inputs[0]);
                backward(&[(result, 1.0)], |_, x| x).of(&inputs).to_vec()
            })
        };
        assert_eq!(sum(7).unwrap(), [8.0]);
        assert!(sum(8).unwrap_err().to_string().contains("10 operations"));
        assert!(sum(1000).is_err());
        assert_eq!(sum(7).unwrap(), [8.0]);
    }

    #[test]
    fn equal_are_numbers_that_change_alike() {
        let equal = |x: &[Number]| {
            assert!(x[0] == x[0] && x[0] != x[1] && x[0] != Number::ZERO && !(x[0] < x[1] || x[1] < x[0]));
            x[0]
        };
        assert_eq!(slopes(&[0.0, 0.0], equal), [1.0, 0.0]);
    }
}
