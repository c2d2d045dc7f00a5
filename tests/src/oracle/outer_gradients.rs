//! Outer gradients against dual numbers, through every step of a text, cut in any way.
//!
//! ```text
//! E          Σ c·reads + Σ c_K·(last K) + Σ c_V·(last V)
//! backward   Σ ∂E/∂x · direction of x, over all inputs x, from one way back through the tape
//! dual       the derivative of E along that direction, from the same text with dual numbers
//! ```
//!
//! Both sides carry a bound of their own rounding errors ([`Tracked`]); nothing is allowed beyond. What a tape feeds and steps
//! has the bits of a memory without one, and a cut of the text that changes no step changes no bit of a gradient.

use fwpkm_reference::rules::StreamCount;
use fwpkm_reference::scalar::Dual;
use fwpkm_reference::settings::Border;
use fwpkm_reference::{Cotangents, Error, Gradients, Memory, Result, Scalar, Settings, Tables, Tape};
use ndarray::{Array, Array2, Array3, Array4, Dimension, IntoDimension};

use super::bytes::{Bytes, Range};
use super::judge::{Judge, Judged};
use super::outcome::bits;
use super::scene::{Most, Scene, Text, cast, cast_tables};
use super::tracked::Tracked;

const MOST: Most = Most { heads: 2, sub_keys: 4, half_dim: 2, value_dim: 2, sequences: 2, tokens: 7 };

type Real = Tracked<f64>;

/// A text with what its reads and last tables contribute to an outer loss.
#[derive(Clone, Debug)]
pub struct Differentiated {
    /// What is read.
    pub scene: Scene,
    /// Tokens after which a call ends.
    pub cuts: Vec<usize>,
    /// Whether tokens that are left are flushed.
    pub flush: bool,
    /// After which of the cuts the tables are those of the beginning again.
    pub reset: Option<usize>,
    /// Of numbers and directions.
    pub seed: u64,
    /// Whether the last tables contribute.
    pub tables: bool,
}

/// Gradients of a text, in f64.                                                        GRD-1 … GRD-7
///
/// # Panics
/// Where a gradient is not the derivative, or a tape changes a bit.
pub fn outer_gradients(bytes: &[u8]) {
    let mut bytes = Bytes::new(bytes);
    let border = bytes.one_of(&[Border::Drop, Border::Carry]);
    let chunk = bytes.count(1, 4);
    let lookahead = bytes.count(0, if border == Border::Carry { chunk + 2 } else { chunk - 1 });
    let count = bytes.count(0, 3);
    let mut cuts: Vec<usize> = (0..count).map(|_| bytes.count(0, MOST.tokens)).collect();
    cuts.sort_unstable();
    let (flush, tables, seed) = (!bytes.flag(), !bytes.flag(), u64::from(bytes.byte()));
    let reset = bytes.flag().then(|| bytes.count(0, 3));
    let mut scene = Scene::choose(&mut bytes, MOST);
    scene.settings = Settings { border, chunk, lookahead, ..scene.settings };
    cuts.retain(|&cut| cut <= scene.text.shape().1);
    gradients_hold(&Differentiated { scene, cuts, flush, reset, seed, tables });
}

/// The gradients of a text are its derivatives.
///
/// # Panics
/// As [`outer_gradients`].
pub fn gradients_hold(text: &Differentiated) -> Judged {
    let mut judge = Judge::new::<f64>(text);
    let taped = text.taped();
    match (&taped, text.derivative()) {
        (Ok((gradients, _)), Ok(derivative)) => {
            let along = text.along(gradients);
            judge.near("GRD-1", along, derivative, || "the outer loss along a direction".into());
        }
        (Err(Error::GradientOverflow { .. }), Ok(_)) => {
            judge.claim("GRD-1", text.scene.range != Range::Small, || "a gradient overflowed".into());
        }
        // Where a derivative is not finite, the dual numbers are refused on the way (NUM-7).
        (Ok(_), Err(error)) => {
            judge.claim("GRD-1", text.scene.range != Range::Small, || error.to_string());
        }
        (Err(_), Err(_)) => {}
        (Err(error), Ok(_)) => judge.claim("GRD-1", false, || error.to_string()),
    }
    if let Ok((gradients, outcome)) = &taped {
        text.tape_changes_nothing(&judge, outcome);
        text.cuts_change_nothing(&judge, gradients);
    }
    judge.judged
}

/// Reads and last tables, as numbers.
type Outcome<S> = (Array3<S>, Tables<S>);

/// Numbers as many as sub-keys, and as slot values.
type Shares = (Array4<f64>, Array2<f64>);

impl Differentiated {
    /// The numbers of the outer loss and of the direction: between -2 and 2, and never 0
    fn drawn<D: Dimension>(&self, purpose: u64, shape: impl IntoDimension<Dim = D>) -> Array<f64, D> {
        let mut place = 0;
        Array::from_shape_simple_fn(shape, || {
            place += 1;
            let bits = (place ^ (self.seed << 40) ^ (purpose << 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            f64::from((bits >> 57) as u8 | 1) / 64.0 * if bits & (1 << 56) == 0 { 1.0 } else { -1.0 }
        })
    }

    fn cotangents(&self) -> (Array3<f64>, Option<Shares>) {
        let (tables, (b, t)) = (&self.scene.tables, self.scene.text.shape());
        let of_tables = || (self.drawn(2, tables.sub_keys.dim()), self.drawn(3, tables.slot_values.dim()));
        (self.drawn(1, (b, t, self.scene.settings.value_dim)), self.tables.then(of_tables))
    }

    /// The ends of the calls
    fn ends(&self) -> Vec<usize> {
        self.cuts.iter().copied().chain([self.scene.text.shape().1]).collect()
    }

    /// Through a tape: the gradients, and what was read
    fn taped(&self) -> Result<(Gradients<Real>, Outcome<Real>)> {
        self.taped_in(&self.ends(), self.reset)
    }

    fn taped_in(&self, ends: &[usize], reset: Option<usize>) -> Result<(Gradients<Real>, Outcome<Real>)> {
        let tables = cast_tables::<f64, Real>(&self.scene.tables);
        let (settings, rules) = (self.scene.settings.clone(), self.scene.rules.clone());
        let mut tape = Tape::new(Memory::new(settings, rules, tables.clone())?)?;
        let text: Text<Real> = self.scene.text.cast();
        let (mut from, mut reads) = (0, Vec::new());
        for (call, &end) in ends.iter().enumerate() {
            reads.push(tape.feed(&text.part(from, end).tokens())?.reads);
            if reset == Some(call) {
                tape.reset_tables(tables.clone())?;
            }
            from = end;
        }
        if self.flush {
            tape.flush()?;
        }
        let (reads_share, of_tables) = self.cotangents();
        let (reads_share, of_tables) = (cast(&reads_share), of_tables.map(|(k, v)| (cast(&k), cast(&v))));
        let cotangents = Cotangents {
            reads: reads_share.view(),
            sub_keys: of_tables.as_ref().map(|(sub_keys, _)| sub_keys.view()),
            slot_values: of_tables.as_ref().map(|(_, slot_values)| slot_values.view()),
        };
        let gradients = tape.backward(&cotangents)?;
        Ok((gradients, (joined(&reads), tape.into_memory().tables().clone())))
    }

    /// What a memory without tape reads and holds at the end
    fn run<S: Scalar>(&self, tables: &Tables<S>, text: &Text<S>) -> Result<Outcome<S>> {
        let mut memory = Memory::new(self.scene.settings.clone(), self.scene.rules.clone(), tables.clone())?;
        let (mut from, mut reads) = (0, Vec::new());
        for (call, end) in self.ends().into_iter().enumerate() {
            reads.push(memory.feed(&text.part(from, end).tokens())?.reads);
            if self.reset == Some(call) {
                memory.reset_tables(tables.clone())?;
            }
            from = end;
        }
        if self.flush {
            memory.flush()?;
        }
        Ok((joined(&reads), memory.tables().clone()))
    }

    /// The derivative of the outer loss along the direction
    fn derivative(&self) -> Result<Real> {
        let Scene { tables, text, .. } = &self.scene;
        let tables = Tables {
            sub_keys: moved(&tables.sub_keys, &self.drawn(4, tables.sub_keys.dim())),
            slot_values: moved(&tables.slot_values, &self.drawn(5, tables.slot_values.dim())),
        };
        let text = Text {
            queries: moved(&text.queries, &self.drawn(6, text.queries.dim())),
            values: moved(&text.values, &self.drawn(7, text.values.dim())),
            gates: text.gates.as_ref().map(|gates| moved(gates, &self.drawn(8, gates.dim()))),
            mask: text.mask.clone(),
        };
        let (reads, last) = self.run(&tables, &text)?;
        let (of_reads, of_tables) = self.cotangents();
        let mut sum = product(&of_reads, &reads.mapv(|x| x.tangent));
        if let Some((sub_keys, slot_values)) = of_tables {
            sum = sum + product(&sub_keys, &last.sub_keys.mapv(|x| x.tangent));
            sum = sum + product(&slot_values, &last.slot_values.mapv(|x| x.tangent));
        }
        Ok(sum)
    }

    /// Σ ∂E/∂x · direction of x
    fn along(&self, gradients: &Gradients<Real>) -> Real {
        let Gradients { queries, values, gates, tables } = gradients;
        let mut sum = product(&self.drawn(6, queries.dim()), queries);
        sum = sum + product(&self.drawn(7, values.dim()), values);
        if let Some(gates) = gates {
            sum = sum + product(&self.drawn(8, gates.dim()), gates);
        }
        sum = sum + product(&self.drawn(4, tables.sub_keys.dim()), &tables.sub_keys);
        sum + product(&self.drawn(5, tables.slot_values.dim()), &tables.slot_values)
    }

    fn tape_changes_nothing(&self, judge: &Judge, (reads, tables): &Outcome<Real>) {
        let Ok((free, last)) = self.run::<f64>(&self.scene.tables, &self.scene.text) else {
            return judge.claim("GRD-1", false, || "only the tape could read this".into());
        };
        let same = bits(&cast::<_, f64, _>(reads)) == bits(&free)
            && bits(&cast::<_, f64, _>(&tables.sub_keys)) == bits(&last.sub_keys)
            && bits(&cast::<_, f64, _>(&tables.slot_values)) == bits(&last.slot_values);
        judge.claim("GRD-1", same, || "a tape changes what is read".into());
    }

    /// Another cut, where calls cut nothing by themselves                                           GRD-1, STR-1
    fn cuts_change_nothing(&self, judge: &Judge, gradients: &Gradients<Real>) {
        let by_call = self.scene.settings.border == Border::Carry && self.scene.rules.stream_count == StreamCount::Call;
        if by_call || self.reset.is_some() {
            return;
        }
        let tokens = self.scene.text.shape().1;
        for ends in [vec![tokens], (1..=tokens).collect()] {
            if let Ok((other, _)) = self.taped_in(&ends, None) {
                let same = all_bits(&other) == all_bits(gradients);
                judge.claim("GRD-1", same, || format!("calls that end at {ends:?} change a bit of a gradient"));
            }
        }
    }
}

/// Numbers with their direction
fn moved<D: Dimension>(numbers: &Array<f64, D>, direction: &Array<f64, D>) -> Array<Dual<Real>, D> {
    let dual = |&value: &f64, &tangent: &f64| Dual { value: Real::from_f64(value), tangent: Real::from_f64(tangent) };
    ndarray::Zip::from(numbers).and(direction).map_collect(dual)
}

fn product<D: Dimension>(factors: &Array<f64, D>, numbers: &Array<Real, D>) -> Real {
    factors.iter().zip(numbers).fold(Real::ZERO, |sum, (&factor, &x)| sum + Real::from_f64(factor) * x)
}

/// The reads of consecutive calls
fn joined<S: Scalar>(reads: &[Array3<S>]) -> Array3<S> {
    let views: Vec<_> = reads.iter().map(|reads| reads.view()).collect();
    ndarray::concatenate(ndarray::Axis(1), &views).unwrap_or_else(|_| Array3::from_elem((0, 0, 0), S::ZERO))
}

fn all_bits(gradients: &Gradients<Real>) -> Vec<u64> {
    let Gradients { queries, values, gates, tables } = gradients;
    let all = queries.iter().chain(values).chain(gates.iter().flatten());
    all.chain(&tables.sub_keys).chain(&tables.slot_values).map(|x| x.value.to_bits()).collect()
}
