//! Other half scores, each with the gradient of its own.                                 SCR-1, SCR-2

use fwpkm_reference::address::{Addressed, address};
use fwpkm_reference::chunk::{Chunk, Reading, Stages};
use fwpkm_reference::scalar::sum_over;
use fwpkm_reference::score::{dot_product, half_scores, inverse_distance, squared_distance};
use fwpkm_reference::settings::Score;
use fwpkm_reference::{Rules, Scalar, Settings, Tables};
use ndarray::{Array1, Array2, Array4, ArrayView1, ArrayView4, Zip, s};

use super::address::{derivative, with_derivative};
use super::{Change, Deviation, PORTS, SLIP, faults};

faults! { Score {
    Distance "scr-1-distance-not-squared" "SCR-1"
        "-ln(ε + |q - K|) where SCR-1 has the squared distance" SLIP
        {
            score: |s, k, q| by_pair(s, k, q, distance),
            address: |s, r, t, c, g, m| with_derivative(s, r, t, c, g, m, distance_slope),
        }
    Root "scr-1-epsilon-inside-the-root" "SCR-1"
        "-ln √(ε + |q - K|²), half of the score, where SCR-1 takes no root" SLIP
        {
            score: |s, k, q| by_pair(s, k, q, root),
            address: |s, r, t, c, g, m| with_derivative(s, r, t, c, g, m, root_slope),
        }
    Inverse "scr-1-inverse-without-logarithm" "SCR-1"
        "1/(ε + |q - K|²) where SCR-1 takes its logarithm" SLIP
        {
            score: |s, k, q| by_pair(s, k, q, inverse),
            address: |s, r, t, c, g, m| with_derivative(s, r, t, c, g, m, inverse_slope),
        }
    Negative "scr-1-negative-distance" "SCR-1"
        "-|q - K|² where SCR-1 has -ln(ε + |q - K|²)" SLIP
        {
            score: |s, k, q| by_pair(s, k, q, negative),
            address: |s, r, t, c, g, m| with_derivative(s, r, t, c, g, m, negative_slope),
        }
    MeanDistance "scr-1-mean-over-features" "SCR-1"
        "the squared distance is a mean over features where SCR-1 has a sum" SLIP
        {
            score: |s, k, q| by_pair(s, k, q, mean_distance),
            address: |s, r, t, c, g, m| with_derivative(s, r, t, c, g, m, mean_slope),
        }
    LogarithmTwo "scr-1-logarithm-base-2" "SCR-1"
        "the logarithm has base 2 where SCR-1 has the natural one" SLIP
        {
            score: |s, k, q| by_pair(s, k, q, base_two),
            address: |s, r, t, c, g, m| with_derivative(s, r, t, c, g, m, base_two_slope),
        }
    OtherHalf "scr-1-other-half-of-the-query" "SCR-1"
        "the first half of a query meets the sub-keys of half 1, and the second those of half 0" PORTS
        {
            score: |s, k, q| half_scores(s, k, by_place(s, q, other_place).view()),
            address: |s, r, t, c, g, m| placed(s, r, t, c, g, m, other_place),
        }
    Interleaved "scr-1-halves-interleaved" "SCR-1"
        "half 0 of a query is its even numbers and half 1 its odd ones, where SCR-1 has the first and the last d_k/2" SLIP
        {
            score: |s, k, q| half_scores(s, k, by_place(s, q, even_place).view()),
            address: |s, r, t, c, g, m| placed(s, r, t, c, g, m, even_place),
        }
    HalfMajor "scr-1-halves-before-heads" "SCR-1"
        "a query holds half 0 of all heads, then half 1 of all heads, where SCR-1 keeps the halves of a head together" SLIP
        {
            score: |s, k, q| half_scores(s, k, by_place(s, q, half_major_place).view()),
            address: |s, r, t, c, g, m| placed(s, r, t, c, g, m, half_major_place),
        }
    OneHead "scr-1-sub-keys-of-head-0" "SCR-1"
        "all heads share the sub-keys of head 0 where SCR-1 gives each its own" SLIP
        {
            score: |s, k, q| half_scores(s, head_0(k).view(), q),
            address: of_head_0,
        }
    Scaled "scr-2-scaled-dot-product" "SCR-2"
        "the dot product is divided by √(d_k/2) where SCR-2 leaves it as it is" SLIP
        {
            score: |s, k, q| by_pair(s, k, q, scaled),
            address: |s, r, t, c, g, m| with_derivative(s, r, t, c, g, m, scaled_slope),
        }
    Cosine "scr-2-cosine" "SCR-2"
        "the cosine of query and sub-key where SCR-2 has their dot product" SLIP
        {
            score: |s, k, q| by_pair(s, k, q, cosine),
            address: |s, r, t, c, g, m| with_derivative(s, r, t, c, g, m, cosine_slope),
        }
} }

fn by_pair<S: Scalar>(
    settings: &Settings,
    sub_keys: ArrayView4<S>,
    queries: ArrayView4<S>,
    score: fn(&Settings, ArrayView1<S>, ArrayView1<S>) -> S,
) -> Array4<S> {
    let (heads, _, n, _) = sub_keys.dim();
    Array4::from_shape_fn((queries.dim().0, heads, 2, n), |(row, head, half, sub_key)| {
        score(settings, queries.slice(s![row, head, half, ..]), sub_keys.slice(s![head, half, sub_key, ..]))
    })
}

/// An inverse-distance score; a dot product stays one
fn with_distance<S: Scalar>(settings: &Settings, q: ArrayView1<S>, k: ArrayView1<S>, score: impl Fn(S, S) -> S) -> S {
    match settings.score {
        Score::InverseDistance { epsilon } => score(S::from_f64(epsilon), squared_distance(q, k)),
        Score::DotProduct => dot_product(q, k),
    }
}

/// scale(ε, |q - K|²) · (q - K); a dot product's slope stays q
fn with_slope<S: Scalar>(
    settings: &Settings,
    q: ArrayView1<S>,
    k: ArrayView1<S>,
    scale: impl Fn(S, S) -> S,
) -> Array1<S> {
    match settings.score {
        Score::InverseDistance { epsilon } => {
            let scale = scale(S::from_f64(epsilon), squared_distance(q, k));
            Zip::from(q).and(k).map_collect(|&q, &k| scale * (q - k))
        }
        Score::DotProduct => q.to_owned(),
    }
}

fn two<S: Scalar>() -> S {
    S::from_f64(2.0)
}

fn distance<S: Scalar>(settings: &Settings, q: ArrayView1<S>, k: ArrayView1<S>) -> S {
    with_distance(settings, q, k, |e, square| -(e + square.sqrt()).ln())
}

fn distance_slope<S: Scalar>(settings: &Settings, q: ArrayView1<S>, k: ArrayView1<S>) -> Array1<S> {
    with_slope(settings, q, k, |e, square| {
        let d = square.sqrt();
        if d > S::ZERO { S::ONE / (d * (e + d)) } else { S::ZERO }
    })
}

fn root<S: Scalar>(settings: &Settings, q: ArrayView1<S>, k: ArrayView1<S>) -> S {
    with_distance(settings, q, k, |e, square| -(e + square).sqrt().ln())
}

fn root_slope<S: Scalar>(settings: &Settings, q: ArrayView1<S>, k: ArrayView1<S>) -> Array1<S> {
    with_slope(settings, q, k, |e, square| S::ONE / (e + square))
}

fn inverse<S: Scalar>(settings: &Settings, q: ArrayView1<S>, k: ArrayView1<S>) -> S {
    with_distance(settings, q, k, |e, square| S::ONE / (e + square))
}

fn inverse_slope<S: Scalar>(settings: &Settings, q: ArrayView1<S>, k: ArrayView1<S>) -> Array1<S> {
    with_slope(settings, q, k, |e, square| two::<S>() / ((e + square) * (e + square)))
}

fn negative<S: Scalar>(settings: &Settings, q: ArrayView1<S>, k: ArrayView1<S>) -> S {
    with_distance(settings, q, k, |_, square| -square)
}

fn negative_slope<S: Scalar>(settings: &Settings, q: ArrayView1<S>, k: ArrayView1<S>) -> Array1<S> {
    with_slope(settings, q, k, |_, _| two())
}

fn mean_distance<S: Scalar>(settings: &Settings, q: ArrayView1<S>, k: ArrayView1<S>) -> S {
    let features = S::from_f64(q.len() as f64);
    with_distance(settings, q, k, |e, square| -(e + square / features).ln())
}

fn mean_slope<S: Scalar>(settings: &Settings, q: ArrayView1<S>, k: ArrayView1<S>) -> Array1<S> {
    let features = S::from_f64(q.len() as f64);
    with_slope(settings, q, k, |e, square| two::<S>() / (features * (e + square / features)))
}

fn base_two<S: Scalar>(settings: &Settings, q: ArrayView1<S>, k: ArrayView1<S>) -> S {
    with_distance(settings, q, k, |e, square| -(e + square).ln() / two::<S>().ln())
}

fn base_two_slope<S: Scalar>(settings: &Settings, q: ArrayView1<S>, k: ArrayView1<S>) -> Array1<S> {
    with_slope(settings, q, k, |e, square| two::<S>() / ((e + square) * two::<S>().ln()))
}

fn scaled<S: Scalar>(settings: &Settings, q: ArrayView1<S>, k: ArrayView1<S>) -> S {
    match settings.score {
        Score::InverseDistance { epsilon } => inverse_distance(q, k, epsilon),
        Score::DotProduct => dot_product(q, k) / S::from_f64((q.len() as f64).sqrt()),
    }
}

fn scaled_slope<S: Scalar>(settings: &Settings, q: ArrayView1<S>, k: ArrayView1<S>) -> Array1<S> {
    match settings.score {
        Score::InverseDistance { .. } => derivative(settings, q, k),
        Score::DotProduct => q.mapv(|x| x / S::from_f64((q.len() as f64).sqrt())),
    }
}

fn cosine<S: Scalar>(settings: &Settings, q: ArrayView1<S>, k: ArrayView1<S>) -> S {
    match settings.score {
        Score::InverseDistance { epsilon } => inverse_distance(q, k, epsilon),
        Score::DotProduct => dot_product(q, k) / (length(q) * length(k)),
    }
}

/// (q/|q| - cosine·K/|K|) / |K|
fn cosine_slope<S: Scalar>(settings: &Settings, q: ArrayView1<S>, k: ArrayView1<S>) -> Array1<S> {
    match settings.score {
        Score::InverseDistance { .. } => derivative(settings, q, k),
        Score::DotProduct => {
            let (cosine, of_q, of_k) = (cosine(settings, q, k), length(q), length(k));
            Zip::from(q).and(k).map_collect(|&q, &k| (q / of_q - cosine * k / of_k) / of_k)
        }
    }
}

fn length<S: Scalar>(x: ArrayView1<S>) -> S {
    sum_over(x, x, |a, b| a * b).sqrt().max(S::from_f64(1e-8))
}

/// Where number (head, half, d) of a query is looked for
type Place = fn(&Settings, usize, usize, usize) -> usize;

fn other_place(settings: &Settings, head: usize, half: usize, d: usize) -> usize {
    (2 * head + 1 - half) * settings.half_dim() + d
}

fn even_place(settings: &Settings, head: usize, half: usize, d: usize) -> usize {
    head * settings.key_dim + 2 * d + half
}

fn half_major_place(settings: &Settings, head: usize, half: usize, d: usize) -> usize {
    (half * settings.heads + head) * settings.half_dim() + d
}

fn by_place<S: Scalar>(settings: &Settings, queries: ArrayView4<S>, place: Place) -> Array4<S> {
    let half_dim = settings.half_dim();
    Array4::from_shape_fn(queries.dim(), |(row, head, half, d)| {
        let at = place(settings, head, half, d);
        queries[[row, at / half_dim / 2, at / half_dim % 2, at % half_dim]]
    })
}

/// Addressing with the numbers of the queries looked for elsewhere
fn placed<S: Scalar>(
    settings: &Settings,
    rules: &Rules,
    tables: &Tables<S>,
    chunk: &Chunk<S>,
    reading: &Reading<S>,
    memory: Option<&Array4<S>>,
    place: Place,
) -> Addressed<S> {
    let half_dim = settings.half_dim();
    let mut chunk = chunk.clone();
    let given = chunk.queries.clone();
    for ((token, sequence, at), number) in chunk.queries.indexed_iter_mut() {
        let (block, d) = (at / half_dim, at % half_dim);
        *number = given[[token, sequence, place(settings, block / 2, block % 2, d)]];
    }
    address(settings, rules, tables, &chunk, reading, memory)
}

fn head_0<S: Scalar>(sub_keys: ArrayView4<S>) -> Array4<S> {
    Array4::from_shape_fn(sub_keys.dim(), |(_, half, sub_key, d)| sub_keys[[0, half, sub_key, d]])
}

/// All heads' gradients move head 0
fn of_head_0<S: Scalar>(
    settings: &Settings,
    rules: &Rules,
    tables: &Tables<S>,
    chunk: &Chunk<S>,
    reading: &Reading<S>,
    memory: Option<&Array4<S>>,
) -> Addressed<S> {
    let empty = Array2::from_elem((0, 0), S::ZERO);
    let shared = Tables { sub_keys: head_0(tables.sub_keys.view()), slot_values: empty };
    let mut addressed = address(settings, rules, &shared, chunk, reading, memory);
    for head in 1..settings.heads {
        let (mut first, mut other) =
            addressed.sub_key_gradient.multi_slice_mut((s![0, .., .., ..], s![head, .., .., ..]));
        Zip::from(&mut first).and(&mut other).for_each(|first, other| {
            *first = *first + *other;
            *other = S::ZERO;
        });
    }
    addressed
}
