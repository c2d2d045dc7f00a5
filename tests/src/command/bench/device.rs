//! `fwpkm bench --backend cuda` and `--backend emulator`.

use fwpkm_gpu::cuda::{Cuda, Survey};
use serde::Serialize;

use super::super::backend::{BackendName, missing};
use super::super::{DIM, Outcome, print, print_json};
use super::{Arguments, baseline, note};
use crate::backend::VARIANT;
use crate::bench::Workload;
use crate::bench_device::{Extent, Measured, WholeText, measure, table};
use crate::error::{Error, Result};

#[derive(Serialize)]
struct Document {
    spec: &'static str,
    device: String,
    /// Whether the times are a device's.
    timed: bool,
    measured: Measured,
    baselines: Vec<Baseline>,
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
        return show(arguments, "the emulator, tiny shapes, no times".into(), emulated()?, Vec::new());
    }
    let survey = Survey::new();
    let new = || Cuda::new(0).map_err(missing);
    new()?;
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
    let measured = measure(&new, VARIANT, &extent)?;
    let workload = Workload { tokens, sub_keys: extent.settings.sub_keys, batch: 1 };
    let mut baselines = Vec::new();
    for command in &arguments.baseline {
        note(command);
        let report = baseline::run(command, workload, Some("cuda"))?;
        let ours = measured.texts.iter().find(|text| (text.sequences, text.tokens) == (1, tokens)).cloned();
        baselines.extend(ours.map(|ours| Baseline { report, workload, ours }));
    }
    let name = survey.driver.and_then(|driver| {
        let cuda =
            driver.version.map_or_else(String::new, |(major, minor)| format!(", a driver for CUDA {major}.{minor}"));
        Some(driver.devices.first()?.name.clone() + &cuda)
    });
    show(arguments, name.unwrap_or_default(), measured, baselines)
}

fn show(arguments: &Arguments, device: String, measured: Measured, baselines: Vec<Baseline>) -> Result<Outcome> {
    let (spec, timed) = (fwpkm_spec::version(), measured.copy_rate.is_some());
    if arguments.json {
        print_json(&Document { spec, device, timed, measured, baselines })?;
        return Ok(Outcome::Done);
    }
    print(&format!("{DIM}{device}; specification {spec}{DIM:#}\n{}", table(&measured)));
    for Baseline { report, workload, ours } in &baselines {
        if let Some(seconds) = ours.seconds {
            print(&report.beside(*workload, "this implementation", seconds, ""));
        }
    }
    Ok(Outcome::Done)
}

#[cfg(feature = "emulator")]
fn emulated() -> Result<Measured> {
    measure(&|| Ok(fwpkm_gpu::emulator::Emulator::new(1)), VARIANT, &Extent::tiny())
}

#[cfg(not(feature = "emulator"))]
fn emulated() -> Result<Measured> {
    Err(super::super::backend::without_emulator())
}
