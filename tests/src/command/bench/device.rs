//! `fwpkm bench --backend cuda` and `--backend emulator`.

use fwpkm_gpu::cuda::{Cuda, Survey};
use serde::Serialize;

use super::super::backend::{BackendName, missing};
use super::super::{DIM, Outcome, print, print_json};
use super::{Arguments, baseline, note, write_out};
use crate::backend::VARIANT;
use crate::bench::Workload;
use crate::bench_device::{Extent, Measured, WholeText, measure, table};
use crate::error::{Error, Result};

#[derive(Serialize)]
struct Document<'a> {
    spec: &'static str,
    device: &'a str,
    /// Whether the times are a device's.
    timed: bool,
    measured: &'a Measured,
    baselines: &'a [Baseline],
}

fn document<'a>(device: &'a str, measured: &'a Measured, baselines: &'a [Baseline]) -> Document<'a> {
    let (spec, timed) = (fwpkm_spec::version(), measured.copy_rate.is_some());
    Document { spec, device, timed, measured, baselines }
}

#[derive(Serialize)]
struct Baseline {
    report: baseline::Report,
    workload: Workload,
    ours: WholeText,
}

/// The CUDA implementation.
pub(super) fn on_device(arguments: &Arguments) -> Result<Outcome> {
    if arguments.backend == BackendName::Emulator {
        if !arguments.baseline.is_empty() {
            return Err(Error::Usage { reason: "--baseline: the emulator has no times to put it beside".into() });
        }
        let device = "the emulator, tiny shapes, no times";
        let measured = emulated(&mut |measured| write_out(arguments, &document(device, measured, &[])))?;
        return show(arguments, device, &measured, &[]);
    }
    let new = || Cuda::new(0).map_err(missing);
    // The driver keeps its context while somebody has it.
    let _held = new()?;
    let device = device();
    let mut extent = if arguments.tiny { Extent::tiny() } else { Extent::canonical() };
    let (tokens, chunk) = (arguments.baseline_tokens, extent.settings.chunk);
    if !arguments.baseline.is_empty() {
        if tokens == 0 || !tokens.is_multiple_of(chunk) {
            let reason = format!("--baseline-tokens {tokens}: on a device it is a multiple of the chunk, {chunk}");
            return Err(Error::Usage { reason });
        }
        extent.texts.insert(0, tokens / chunk);
    }
    note("the device");
    let mut batch = |measured: &Measured| write_out(arguments, &document(&device, measured, &[]));
    let measured = measure(&new, VARIANT, &extent, &mut batch)?;
    let workload = Workload { tokens, sub_keys: extent.settings.sub_keys, batch: 1 };
    let mut baselines = Vec::new();
    for command in &arguments.baseline {
        note(command);
        let report = baseline::run(command, workload, Some("cuda"))?;
        let ours = measured.texts.iter().find(|text| (text.sequences, text.tokens) == (1, tokens)).cloned();
        baselines.extend(ours.map(|ours| Baseline { report, workload, ours }));
    }
    show(arguments, &device, &measured, &baselines)
}

/// Device 0 and its driver, in words
fn device() -> String {
    let Some(driver) = Survey::new().driver else { return String::new() };
    let cuda = driver.version.map_or_else(String::new, |(major, minor)| format!(", a driver for CUDA {major}.{minor}"));
    driver.devices.first().map_or_else(String::new, |device| device.name.clone() + &cuda)
}

fn show(arguments: &Arguments, device: &str, measured: &Measured, baselines: &[Baseline]) -> Result<Outcome> {
    let document = document(device, measured, baselines);
    write_out(arguments, &document)?;
    if arguments.json {
        print_json(&document)?;
        return Ok(Outcome::Done);
    }
    print(&format!("{DIM}{device}; specification {}{DIM:#}\n{}", document.spec, table(measured)));
    for Baseline { report, workload, ours } in baselines {
        if let Some(seconds) = ours.seconds {
            print(&report.beside(*workload, "this implementation", seconds, ""));
        }
    }
    Ok(Outcome::Done)
}

#[cfg(feature = "emulator")]
fn emulated(batch: &mut dyn FnMut(&Measured) -> Result<()>) -> Result<Measured> {
    measure(&|| Ok(fwpkm_gpu::emulator::Emulator::new(1)), VARIANT, &Extent::tiny(), batch)
}

#[cfg(not(feature = "emulator"))]
fn emulated(_: &mut dyn FnMut(&Measured) -> Result<()>) -> Result<Measured> {
    Err(super::super::backend::without_emulator())
}
