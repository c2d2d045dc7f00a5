//! All stages of a chunk and of a layer in any element type, from the same numbers in f32.

use fwpkm::judge::Distance;
use fwpkm_reference::chunk::{Chunk, Counted, Reading};
use fwpkm_reference::projection::{NormedLinear, Projection};
use fwpkm_reference::select::Selected;
use fwpkm_reference::tables::descend;
use fwpkm_reference::{Rules, Scalar, Settings, Stages, Tables};
use ndarray::{Array, Array1, Array2, Dimension};

use crate::scenes::{Scene, normal, rng, uniform};

/// Named results, flat.
pub(crate) type Results<S> = Vec<(&'static str, Vec<S>)>;

fn cast<S: Scalar, D: Dimension>(numbers: &Array<f32, D>) -> Array<S, D> {
    numbers.mapv(|x| S::from_f64(f64::from(x)))
}

fn flat<S: Scalar, D: Dimension>(numbers: &Array<S, D>) -> Vec<S> {
    numbers.iter().copied().collect()
}

fn cast_reading<S: Scalar>(reading: &Reading<f32>) -> Reading<S> {
    let selected = &reading.selected;
    Reading {
        scores: cast(&reading.scores),
        selected: Selected {
            half_indices: selected.half_indices.clone(),
            half_scores: cast(&selected.half_scores),
            ranks: selected.ranks.clone(),
            pair_scores: cast(&selected.pair_scores),
            slots: selected.slots.clone(),
        },
        weights: cast(&reading.weights),
        reads: cast(&reading.reads),
    }
}

/// The stages of a chunk, each given the results in f32 of the stages before it.
pub(crate) fn of_chunk<S: Scalar>(scene: &Scene, reading: &Reading<f32>, distance: Distance) -> Results<S> {
    let Scene { settings, rules, .. } = scene;
    let stages = distance.stages(Stages::<S>::specification());
    let tables = Tables { sub_keys: cast(&scene.tables.sub_keys), slot_values: cast(&scene.tables.slot_values) };
    let chunk = Chunk {
        queries: cast(&scene.chunk.queries),
        values: cast(&scene.chunk.values),
        gates: scene.chunk.gates.as_ref().map(cast),
        mask: scene.chunk.mask.clone(),
        lookahead: scene.chunk.lookahead,
    };
    let given = cast_reading(reading);
    let counted = Counted {
        slots: reading.selected.slots.view(),
        samples: scene.chunk.queries.dim().0 * scene.chunk.queries.dim().1,
    };
    let (slots, weights) = (given.selected.slots.view(), given.weights.view());
    let memorized = (stages.memorize)(settings, rules, &tables, &chunk, &given, &counted);
    let to_scores = memorized.half_score_gradient.as_ref();
    let addressed = (stages.address)(settings, rules, &tables, &chunk, &given, to_scores);
    let moved = tables.sub_keys.iter().zip(&addressed.sub_key_gradient);
    vec![
        ("half scores", flat(&(stages.score)(settings, tables.sub_keys.view(), chunk.query_halves(settings).view()))),
        ("weights", flat(&(stages.weigh)(settings, given.selected.pair_scores.view()))),
        ("reads", flat(&(stages.read)(tables.slot_values.view(), slots, weights).unwrap())),
        ("pair losses", flat(&memorized.pair_losses)),
        ("value gradient", flat(&memorized.value_gradient)),
        ("gradient to half scores", to_scores.map_or_else(Vec::new, flat)),
        ("marginal", flat(&addressed.marginal)),
        ("entropy", flat(&addressed.entropy)),
        ("addressing loss", vec![addressed.loss]),
        ("sub-key gradient", flat(&addressed.sub_key_gradient)),
        ("sub-keys after", moved.map(|(&key, &gradient)| descend(settings, key, gradient)).collect()),
    ]
}

/// A layer's maps and hidden states.
pub(crate) struct Maps {
    pub(crate) settings: Settings,
    pub(crate) rules: Rules,
    pub(crate) hidden: Array2<f32>,
    pub(crate) projection: Projection<f32>,
}

impl Maps {
    /// Normal weights of standard deviation 1/√inputs, hidden states around `offset`
    pub(crate) fn random(settings: Settings, width: usize, tokens: usize, offset: f32, seed: u64) -> Self {
        let mut rng = rng(seed);
        let mut map = |inputs: usize, outputs: usize| NormedLinear {
            norm: uniform(inputs, -0.5, 0.5, &mut rng),
            weight: normal((outputs, inputs), &mut rng) / (inputs as f32).sqrt(),
            bias: normal(outputs, &mut rng) * 0.1,
        };
        let projection = Projection {
            query: map(width, settings.heads * settings.key_dim),
            value: map(width, settings.value_dim),
            gate: settings.output_gate.then(|| map(width, 8)),
            output: map(settings.value_dim, width),
        };
        let hidden = normal((tokens, width), &mut rng).mapv(|x| offset + x);
        Self { settings, rules: Rules::paper(), hidden, projection }
    }
}

/// The stages before and after the memory; the output from the projections in f32 and these reads.
pub(crate) fn of_layer<S: Scalar>(maps: &Maps, reads: &Array2<f32>) -> Results<S> {
    let Maps { settings, rules, .. } = maps;
    let map = |map: &NormedLinear<f32>| NormedLinear {
        norm: cast(&map.norm),
        weight: cast(&map.weight),
        bias: cast(&map.bias),
    };
    let projection = Projection::<S> {
        query: map(&maps.projection.query),
        value: map(&maps.projection.value),
        gate: maps.projection.gate.as_ref().map(map),
        output: map(&maps.projection.output),
    };
    let hidden = cast(&maps.hidden);
    let stages = Stages::<S>::specification();
    let projected = (stages.project)(settings, rules, &projection, hidden.view()).unwrap();
    let before = (Stages::<f32>::specification().project)(settings, rules, &maps.projection, maps.hidden.view());
    let before = before.unwrap();
    let (values, gates): (Array2<S>, Option<Array1<S>>) = (cast(&before.values), before.gates.as_ref().map(cast));
    let reads = cast(reads);
    let (output, gates) = (&projection.output, gates.as_ref());
    let after = (stages.output)(settings, output, reads.view(), values.view(), gates, hidden.view());
    vec![
        ("queries", flat(&projected.queries)),
        ("values", flat(&projected.values)),
        ("gates", projected.gates.as_ref().map_or_else(Vec::new, flat)),
        ("mixed", flat(&after.mixed)),
        ("layer", flat(&after.layer)),
        ("hidden", flat(&after.hidden)),
    ]
}
