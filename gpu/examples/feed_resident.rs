//! A memory fed from buffers of the device, as a layer would whose queries and values are there already.
//!
//! ```text
//! cargo run -p fwpkm-gpu --example feed_resident                         # on device 0
//! cargo run -p fwpkm-gpu --example feed_resident --features emulator     # on the CPU
//! ```

use std::process::ExitCode;

use fwpkm_gpu::{Backend, Error, Memory, Resident, Result, Tile, Variant};
use fwpkm_reference::{Rules, Settings, Tables};
use ndarray::{Array2, Array4};

/// T and B: two chunks of two sequences.
const TOKENS: usize = 16;
const SEQUENCES: usize = 2;

fn main() -> ExitCode {
    #[cfg(feature = "emulator")]
    let outcome = Ok(fwpkm_gpu::emulator::Emulator::new(1)).and_then(run);
    #[cfg(not(feature = "emulator"))]
    let outcome = fwpkm_gpu::cuda::Cuda::new(0).and_then(run);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ (Error::NoDriver | Error::NoDevice { .. } | Error::NoNvrtc)) => {
            eprintln!("no device to run on: {error}; with --features emulator this runs on the CPU");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Numbers as they come from anywhere; any will do here.
fn number(i: usize) -> f32 {
    (i as f32 * 0.7).sin()
}

fn run<B: Backend>(device: B) -> Result<()> {
    let settings = Settings { sub_keys: 16, key_dim: 8, value_dim: 4, top_k: 4, chunk: 8, ..Settings::paper() };
    let sub_keys = (settings.heads, 2, settings.sub_keys, settings.key_dim / 2);
    let mut next = 0..;
    let mut numbers = || next.next().map_or(0.0, number);
    let tables = Tables {
        sub_keys: Array4::from_shape_simple_fn(sub_keys, &mut numbers),
        slot_values: Array2::from_shape_simple_fn((settings.slots(), settings.value_dim), &mut numbers),
    };
    let (query, value) = (settings.heads * settings.key_dim, settings.value_dim);
    let mut memory = Memory::new(device, settings, Rules::paper(), tables, Variant::Fast(Tile::SMALL))?;

    // Tokens first, then sequences: number d of token t of sequence b stands at (t · SEQUENCES + b) · width + d. A program that
    // computes them on the device passes its own memory instead, by Cuda::with_stream and Cuda::buffer_from_raw.
    let device = memory.device();
    let on_device = |width: usize| {
        let numbers: Vec<f32> = (0..TOKENS * SEQUENCES * width).map(number).collect();
        let buffer = device.allocate("tokens", numbers.len() * 4)?;
        device.write(&buffer, 0, &numbers)?;
        Ok::<_, Error>(buffer)
    };
    let (queries, values) = (on_device(query)?, on_device(value)?);
    let reads = device.allocate("reads", TOKENS * SEQUENCES * value * 4)?;

    // Nothing waits here: more work can be given to the device, and more tokens.
    let tokens =
        Resident { tokens: TOKENS, sequences: SEQUENCES, queries: &queries, values: &values, gates: None, mask: None };
    memory.feed_resident(&tokens, &reads)?;

    // This waits, and says whether every number was finite.
    memory.settle()?;
    let mut read = vec![0.0_f32; TOKENS * SEQUENCES * value];
    memory.device().read(&reads, 0, &mut read)?;
    let step = memory.last_step()?;
    println!("{} steps, {} tokens wait for the next", memory.steps(), memory.queued());
    println!("read of token 0, sequence 1: {:?}", &read[value..2 * value]);
    println!("last step: {} slots changed, mean loss {:?}", step.slots_touched, step.pair_losses.mean());
    Ok(())
}

#[cfg(feature = "emulator")]
#[test]
fn it_runs() {
    assert_eq!(main(), ExitCode::SUCCESS);
}
