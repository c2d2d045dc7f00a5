//! A text cut in any way against the same text in one feed: the same bits.
//!
//! ```text
//! stream_count = chunk, or border = drop   any cut                                                 STR-1
//! stream_count = call under carry          the given calls, cut further where a slice ends anyway   STR-5
//! ```
//!
//! At a cut there may be an empty call, a call that is refused (NUM-7, BAT-1, STR-1), or the memory may be taken down to its
//! state and made again, by way of a file too (BAT-5). None of it may show.

use fwpkm_reference::rules::StreamCount;
use fwpkm_reference::settings::Border;
use fwpkm_reference::{Error, Memory, Result, Settings};

use super::bytes::Bytes;
use super::interruptions::{ACTS, Act, interrupt};
use super::judge::Judge;
use super::outcome::{Outcome, run, run_with, table_bits};
use super::scene::{Most, Scene, Text, cast_tables};
use crate::element::Element;

const MOST: Most = Most { heads: 2, sub_keys: 3, half_dim: 2, value_dim: 2, sequences: 2, tokens: 12 };

/// A stream, in f32 and f64.                                             STR-1, STR-5, BAT-5, NUM-7, NUM-8
///
/// # Panics
/// Where a cut, or what was done at it, shows in a result.
pub fn stream_cuts(bytes: &[u8]) {
    let mut bytes = Bytes::new(bytes);
    let border = bytes.one_of(&[Border::Drop, Border::Carry]);
    let chunk = bytes.count(1, 4);
    let lookahead = bytes.count(0, if border == Border::Carry { chunk + 2 } else { chunk - 1 });
    let mut places = |most| -> Vec<(usize, Act)> {
        let count = bytes.count(0, most);
        (0..count).map(|_| (bytes.count(0, MOST.tokens), bytes.one_of(&ACTS))).collect()
    };
    let (cuts, flushes) = (places(7), places(2));
    let mut scene = Scene::choose(&mut bytes, MOST);
    scene.settings = Settings { border, chunk, lookahead, ..scene.settings };
    let tokens = scene.text.shape().1;
    let within = |places: Vec<(usize, Act)>| places.into_iter().filter(move |place| place.0 <= tokens).collect();
    let stream = Stream { cuts: within(cuts), flushes: within(flushes), scene };
    stream.holds::<f32>();
    stream.holds::<f64>();
}

#[derive(Debug)]
struct Stream {
    /// Positions, each with what is done there.
    cuts: Vec<(usize, Act)>,
    /// Positions; what is done there is nothing.
    flushes: Vec<(usize, Act)>,
    scene: Scene,
}

impl Stream {
    fn holds<S: Element>(&self) {
        let judge = Judge::new::<S>(self);
        let text: Text<S> = self.scene.text.cast();
        let (settings, rules) = (self.scene.settings.clone(), self.scene.rules.clone());
        let Ok(mut whole) = Memory::<S>::new(settings, rules, cast_tables(&self.scene.tables)) else {
            // Tables that are not finite: nothing to stream (NUM-7).
            return;
        };
        let mut parts = whole.clone();
        let (cuts, flushes) = (positions(&self.cuts), positions(&self.flushes));
        let (given, finer) = if self.sees_calls() { (cuts.clone(), self.slices(&cuts)) } else { (vec![], cuts) };
        let expected = run(&mut whole, &text, &given, &flushes);
        let found = run_with(&mut parts, &text, &finer, &flushes, |position, memory| {
            for &(_, act) in self.cuts.iter().filter(|cut| cut.0 == position) {
                interrupt(&judge, act, memory, &text);
            }
        });
        same(&judge, &expected, &found);
        same_memory(&judge, &expected, whole, parts);
    }

    /// Whether the result may depend on the calls
    fn sees_calls(&self) -> bool {
        self.scene.settings.border == Border::Carry && self.scene.rules.stream_count == StreamCount::Call
    }

    /// The cuts, and the ends of the slices that the calls between them are cut into                        STR-5
    fn slices(&self, cuts: &[usize]) -> Vec<usize> {
        let Settings { chunk, lookahead, .. } = self.scene.settings;
        let mut calls: Vec<usize> = cuts.iter().copied().chain(positions(&self.flushes)).collect();
        calls.push(self.scene.text.shape().1);
        calls.sort_unstable();
        let (mut at, mut queued, mut ends) = (0, 0, cuts.to_vec());
        for end in calls {
            while at < end {
                let slice = (end - at).min(chunk + lookahead - queued);
                (at, queued) = (at + slice, queued + slice);
                if queued >= chunk {
                    queued = queued.min(lookahead);
                }
                ends.push(at);
            }
        }
        ends
    }
}

fn positions(places: &[(usize, Act)]) -> Vec<usize> {
    places.iter().map(|place| place.0).collect()
}

fn same(judge: &Judge, expected: &Result<Outcome>, found: &Result<Outcome>) {
    let same = match (expected, found) {
        // In which stage a slice overflows first depends on the tokens it has; in which chunk, not.
        (Err(Error::Diverged { chunk: expected, .. }), Err(Error::Diverged { chunk: found, .. })) => expected == found,
        // Numbers that are not finite are refused with the whole call, so that more or less was done before.
        (Err(Error::NotFinite { .. }), Err(Error::NotFinite { .. } | Error::Diverged { .. })) => true,
        (expected, found) => expected == found,
    };
    judge.claim("STR-1, STR-5, BAT-5, NUM-8", same, || format!("cut: {found:?}\nnot: {expected:?}"));
}

/// Both memories are the same, and fail in the same way where they failed                                    NUM-7
fn same_memory<S: Element>(judge: &Judge, expected: &Result<Outcome>, whole: Memory<S>, parts: Memory<S>) {
    if let Err(Error::NotFinite { .. }) = expected {
        return;
    }
    let (tables, steps) = (table_bits(whole.tables()), whole.steps());
    let same = tables == table_bits(parts.tables()) && steps == parts.steps();
    judge.claim("STR-1, NUM-7", same, || format!("tables or steps differ: {whole:?}\n{parts:?}"));
    if let Err(error) = expected {
        let again = whole.clone().flush();
        judge.claim("NUM-7", again.as_ref().err() == Some(error), || format!("after {error}: {again:?}"));
        return;
    }
    let (expected, found) = (whole.into_state(), parts.into_state());
    judge.claim("STR-1, BAT-5", expected == found, || format!("state {found:?}, not {expected:?}"));
}
