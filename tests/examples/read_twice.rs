//! A text of 256 tokens read four times: the memory learns it while it reads.

use fwpkm_reference::{Memory, Result, Rules, Settings, Tables, Tokens};
use ndarray::Array3;
use ndarray_rand::rand::{SeedableRng, rngs::StdRng};
use ndarray_rand::{RandomExt, rand_distr::StandardNormal};

fn main() -> Result<()> {
    let settings = Settings { sub_keys: 64, key_dim: 32, value_dim: 16, chunk: 256, ..Settings::paper() };
    let mut rng = StdRng::seed_from_u64(1);
    let tables = Tables::<f64>::random(&settings, &mut rng)?;
    let queries = Array3::random_using((1, 256, 32), StandardNormal, &mut rng);
    let values = Array3::random_using((1, 256, 16), StandardNormal, &mut rng);
    let mut memory = Memory::new(settings, Rules::paper(), tables)?;
    for reading in 1..=4 {
        let tokens = Tokens { queries: queries.view(), values: values.view(), gates: None, mask: None };
        let fed = memory.read_text(&tokens)?;
        println!("reading {reading}: mean loss {:.3}", fed.steps[0].pair_losses.mean().unwrap_or(0.0));
    }
    Ok(())
}
