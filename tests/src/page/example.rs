//! The run that is shown where no case is given: a sentence of eight tokens, heard three times.

use std::collections::BTreeMap;

use fwpkm_reference::settings::Border;
use fwpkm_reference::{Rules, Settings, Tables};
use ndarray::{Array2, ArrayD, Axis, concatenate};
use ndarray_rand::RandomExt;
use ndarray_rand::rand::{SeedableRng, rngs::StdRng};
use ndarray_rand::rand_distr::{Normal, StandardNormal, Uniform};

use super::record::Record;
use crate::error::{Error, Result};
use crate::inputs::Inputs;
use crate::run::Plan;

/// Tokens of the sentence, and how often it is heard.
const SENTENCE: usize = 8;
const TIMES: usize = 3;

/// One of the seeds at which the loss falls and usage becomes more even, as it mostly does.
const SEED: u64 = 40;

/// The built-in run: n = 8, k = 3, C = 8, 24 tokens, halves of two numbers, so that they can be seen as points.
///
/// # Errors   those of the interpreter
pub fn example(rules: Option<&Rules>) -> Result<Record> {
    let settings = Settings {
        sub_keys: 8,
        key_dim: 4,
        value_dim: 4,
        top_k: 3,
        chunk: SENTENCE,
        border: Border::Drop,
        ..Settings::paper()
    };
    let mut rng = StdRng::seed_from_u64(SEED);
    let tables = Tables::<f64>::random(&settings, &mut rng)?;
    let distribution = |e: &dyn std::fmt::Display| Error::Usage { reason: e.to_string() };
    let wide = Uniform::new(-0.7, 0.7).map_err(|e| distribution(&e))?;
    let near = Normal::new(0.0, 0.03).map_err(|e| distribution(&e))?;
    let queries: Array2<f64> = Array2::random_using((SENTENCE, settings.key_dim), wide, &mut rng);
    let values: Array2<f64> = Array2::random_using((SENTENCE, settings.value_dim), StandardNormal, &mut rng);
    let queries = concatenate(Axis(0), &[queries.view(); TIMES])?;
    let queries = &queries + &Array2::<f64>::random_using(queries.dim(), near, &mut rng);
    let values = concatenate(Axis(0), &[values.view(); TIMES])?;
    let tensors: BTreeMap<String, ArrayD<f64>> = BTreeMap::from([
        ("queries".into(), queries.insert_axis(Axis(0)).into_dyn()),
        ("values".into(), values.insert_axis(Axis(0)).into_dyn()),
        ("sub_keys".into(), tables.sub_keys.into_dyn()),
        ("slot_values".into(), tables.slot_values.into_dyn()),
    ]);
    let rules = rules.cloned().unwrap_or_else(Rules::paper);
    let plan = Plan { rules, trace: true, ..Plan::one_call(settings) };
    let name = "Built-in example: a sentence of 8 tokens, read three times";
    Record::new(name.into(), None, &plan, &Inputs::new(&tensors)?)
}
