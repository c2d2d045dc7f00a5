//! Retrieval against brute force over all n² slots, and against exact scores where rounding decides.
//!
//! ```text
//! half top-k   a stable sort by score, cut at k                                            SEL-1
//! best pairs   all k² sums in the order (sum descending, rank 0, rank 1), cut at k         SEL-2
//! slots        all n² sums in the order (sum descending, rank of i, rank of j), cut at k   SEL-3, SEL-4
//! choices      certain where the margin exceeds the bounds, right elsewhere                NUM-2, NUM-6
//! ```

use std::cmp::Ordering;

use fwpkm_reference::score::half_scores;
use fwpkm_reference::select::{best_pairs, half_top_k, select};
use fwpkm_reference::{Error, Memory, Scalar, Tables};
use ndarray::{Array1, Array4, s};

use super::bytes::{Bytes, Range};
use super::judge::Judge;
use super::near_ties::near_ties_hold;
use super::scene::{Most, Scene, Text, cast_tables};

const MOST: Most = Most { heads: 3, sub_keys: 12, half_dim: 2, value_dim: 1, sequences: 1, tokens: 3 };

/// What is chosen, in f32 and f64.                                   SEL-1 … SEL-4, NUM-2, NUM-6, NUM-7
///
/// With the feature `emulator` the CUDA kernels read the same scene.
///
/// # Panics
/// Where a score, a choice or its order is not what its clause says.
pub fn top_k_retrieval(bytes: &[u8]) {
    let mut scene = Scene::choose(&mut Bytes::new(bytes), MOST);
    scene.settings.writes = false;
    retrieval_holds::<f32>(&scene);
    retrieval_holds::<f64>(&scene);
    #[cfg(feature = "emulator")]
    super::kernels::kernels_hold(&scene, None);
}

fn retrieval_holds<S: Scalar>(scene: &Scene) {
    let judge = Judge::new::<S>(scene);
    let (settings, tables, text): (_, Tables<S>, Text<S>) =
        (&scene.settings, cast_tables(&scene.tables), scene.text.cast());
    let finite = text.is_finite() && tables.sub_keys.iter().chain(&tables.slot_values).all(|x| x.is_finite());
    let fed = Memory::new(settings.clone(), scene.rules.clone(), tables.clone())
        .and_then(|mut memory| memory.feed(&text.tokens()));
    if !finite {
        let refused = matches!(fed, Err(Error::NotFinite { .. }));
        return judge.claim("NUM-7", refused, || "numbers that are not finite were taken".into());
    }
    // One sequence, so that rows are tokens.
    let shape = (text.shape().1, settings.heads, 2, settings.half_dim());
    let queries = Array4::from_shape_fn(shape, |(t, h, m, d)| text.queries[[0, t, (h * 2 + m) * shape.3 + d]]);
    let scores = half_scores(settings, tables.sub_keys.view(), queries.view());
    if !scores.iter().all(|score| score.is_finite()) {
        let diverged = matches!(fed, Err(Error::Diverged { chunk: 0, stage: "score", .. }));
        return judge.claim("NUM-7", diverged, || "scores that are not finite were taken".into());
    }
    let selected = select(settings, scores.view());
    for (row, head) in ndarray::indices((shape.0, settings.heads)) {
        let halves = [0, 1].map(|half| scores.slice(s![row, head, half, ..]).to_vec());
        for half in &halves {
            half_holds(&judge, half, settings.top_k);
        }
        pairs_hold(&judge, &halves, settings.top_k);
        let slots = selected.slots.slice(s![row, head, ..]).to_vec();
        let sums = selected.pair_scores.slice(s![row, head, ..]).to_vec();
        let found: Vec<(usize, S)> = slots.into_iter().zip(sums).collect();
        let best = brute_force(&halves[0], &halves[1], settings.top_k);
        // Where a sum overflows there is no order (NUM-7).
        let holds = found == best || best.iter().any(|(_, sum)| !sum.is_finite());
        judge.claim("SEL-3, SEL-4", holds, || format!("token {row}, head {head}: {found:?}, not {best:?}"));
    }
    match fed {
        Ok(fed) => judge.claim("CHK-1", fed.slots.iter().eq(&selected.slots), || format!("read {:?}", fed.slots)),
        Err(error) => judge.claim("NUM-7", scene.range != Range::Small, || error.to_string()),
    }
    near_ties_hold(&judge, settings, &tables.sub_keys, &queries, &scores);
}

/// The k best of all n² slots of a head with their sums, by (sum descending, rank of i in half 0, rank of j in half 1), with
/// ranks in the full order of each half.                                                                  SEL-4
pub fn brute_force<S: Scalar>(first: &[S], second: &[S], k: usize) -> Vec<(usize, S)> {
    let n = first.len();
    let rank = |half: &[S], i: usize| (0..n).filter(|&o| half[o] > half[i] || (half[o] == half[i] && o < i)).count();
    let ranks = [first, second].map(|half| (0..n).map(|i| rank(half, i)).collect::<Vec<usize>>());
    let mut slots: Vec<usize> = (0..n * n).collect();
    slots.sort_by_key(|slot| (ranks[0][slot / n], ranks[1][slot % n]));
    best_first(slots.into_iter().map(|slot| (slot, first[slot / n] + second[slot % n])).collect(), k)
}

/// By number descending; equal numbers stay in their order
fn best_first<T, S: Scalar>(mut numbered: Vec<(T, S)>, k: usize) -> Vec<(T, S)> {
    numbered.sort_by(|x, y| y.1.partial_cmp(&x.1).unwrap_or(Ordering::Equal));
    numbered.truncate(k);
    numbered
}

fn half_holds<S: Scalar>(judge: &Judge, scores: &[S], k: usize) {
    let best = best_first(scores.iter().copied().enumerate().collect(), k);
    let found = half_top_k(ndarray::aview1(scores), k);
    judge.claim("SEL-1", found == best, || format!("the {k} best are {found:?}, not {best:?}"));
}

/// The best pairs of the k best of each half, against all k²
fn pairs_hold<S: Scalar>(judge: &Judge, halves: &[Vec<S>; 2], k: usize) {
    let best_of =
        |half: &Vec<S>| Array1::from_iter(half_top_k(ndarray::aview1(half), k).into_iter().map(|best| best.1));
    let (first, second) = (best_of(&halves[0]), best_of(&halves[1]));
    let sums = (0..k * k).map(|pair| ((pair / k, pair % k), first[pair / k] + second[pair % k])).collect();
    let best = best_first(sums, k);
    let found: Vec<_> =
        best_pairs(first.view(), second.view(), k).into_iter().map(|(sum, a, b)| ((a, b), sum)).collect();
    let holds = found == best || best.iter().any(|(_, sum)| !sum.is_finite());
    judge.claim("SEL-2", holds, || format!("the {k} best pairs are {found:?}, not {best:?}"));
}
