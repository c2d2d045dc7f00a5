//! `fwpkm doctor`: what of the backends works on this machine, and how to get the rest.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use fwpkm_gpu::cuda::Survey;
use fwpkm_spec::counted;
use serde::Serialize;

use super::{BOLD, DIM, GREEN, Outcome, YELLOW, print, print_json};
use crate::error::Result;

/// Say what this machine has for CUDA and the emulator
///
/// With the command that installs what is missing. Exit status: 0 everything for --backend cuda is there, 1 something is missing. The interpreter needs nothing.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// One JSON document instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Document {
    cuda_ready: bool,
    emulator_ready: bool,
    findings: Vec<Finding>,
}

/// One thing that is there or not.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    /// Whether it will do; none where nothing depends on it.
    good: Option<bool>,
    found: String,
    /// How to get it.
    mend: Option<String>,
}

pub(super) fn doctor(arguments: &Arguments) -> Result<Outcome> {
    let survey = Survey::new();
    let mut findings = vec![processor()];
    findings.extend(cuda(&survey));
    findings.extend([emulator(), compiler()]);
    let (cuda_ready, emulator_ready) = (survey.is_ready(), cfg!(feature = "emulator"));
    let document = Document { cuda_ready, emulator_ready, findings };
    if arguments.json {
        print_json(&document)?;
    } else {
        print(&text(&document));
    }
    Ok(if cuda_ready { Outcome::Done } else { Outcome::Differs })
}

fn processor() -> Finding {
    let super::bench::Machine { processor, cores, system } = super::bench::machine();
    let found = format!("{processor}, {}, {system}{}", counted(cores, "core"), extensions());
    Finding { what: "processor", good: None, found, mend: None }
}

#[cfg(target_arch = "x86_64")]
fn extensions() -> String {
    let found = [
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("fma", std::arch::is_x86_feature_detected!("fma")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
    ];
    found.iter().filter(|(_, found)| *found).fold(String::new(), |text, (name, _)| text + ", " + name)
}

#[cfg(not(target_arch = "x86_64"))]
fn extensions() -> String {
    String::new()
}

fn cuda(survey: &Survey) -> Vec<Finding> {
    let mut findings = vec![driver(survey), compiled_by(survey)];
    findings.extend(devices(survey));
    let found = survey.cache.as_ref().map_or("none".into(), |folder| folder.display().to_string());
    findings.push(Finding {
        what: "compiled kernels",
        good: None,
        mend: survey.cache.is_none().then(|| "export FWPKM_CACHE=FOLDER keeps them from run to run".into()),
        found,
    });
    findings
}

fn driver(survey: &Survey) -> Finding {
    let what = "CUDA driver";
    let update =
        "install NVIDIA's driver: https://www.nvidia.com/drivers, or on Debian `apt-get install nvidia-driver`";
    let Some(driver) = &survey.driver else {
        return Finding { what, good: Some(false), found: "no libcuda".into(), mend: Some(update.into()) };
    };
    let version = driver.version.map_or("unknown".into(), |(major, minor)| format!("{major}.{minor}"));
    let found = format!("CUDA {version}{}", at(driver.library.as_deref()));
    // Without NVRTC what any of them needs.
    let nvrtc = survey.nvrtc.as_ref().map_or((0, 0), |nvrtc| nvrtc.version);
    let (good, (major, minor)) = (driver.supports(nvrtc), fwpkm_gpu::cuda::Driver::needed(nvrtc));
    let mend = (!good).then(|| format!("CUDA {major}.{minor} or later is needed; {update}"));
    Finding { what, good: Some(good), found, mend }
}

fn devices(survey: &Survey) -> Vec<Finding> {
    let what = "CUDA device";
    let Some(driver) = &survey.driver else {
        return vec![Finding { what, good: Some(false), found: "unknown without a driver".into(), mend: None }];
    };
    if driver.devices.is_empty() {
        let found = driver.error.clone().unwrap_or_else(|| "none".into());
        let mend = "a device that the driver sees: `nvidia-smi` lists them; in a container, `--gpus all`";
        return vec![Finding { what, good: Some(false), found, mend: Some(mend.into()) }];
    }
    let finding = |device: &fwpkm_gpu::cuda::Device| {
        let (major, minor) = device.capability;
        let found = format!("{}, compute capability {major}.{minor}, {} MiB", device.name, device.memory >> 20);
        let mend = (!device.is_supported()).then(|| "the kernels need compute capability 8.0 or later".into());
        Finding { what, good: Some(device.is_supported()), found, mend }
    };
    driver.devices.iter().map(finding).collect()
}

fn compiled_by(survey: &Survey) -> Finding {
    let what = "NVRTC";
    if let Some(nvrtc) = &survey.nvrtc {
        let found = format!("{}.{}{}", nvrtc.version.0, nvrtc.version.1, at(nvrtc.library.as_deref()));
        return Finding { what, good: Some(true), found, mend: None };
    }
    let (found, mend) = if let Some(folder) = installed() {
        let folder = folder.display();
        (format!("in {folder}, not on LD_LIBRARY_PATH"), format!("export LD_LIBRARY_PATH={folder}"))
    } else {
        let (package, folder) = fwpkm_gpu::cuda::NVRTC_WHEEL;
        let mend = format!("pip install {package}, then export LD_LIBRARY_PATH=SITE-PACKAGES/{folder}");
        ("no libnvrtc".into(), mend)
    };
    Finding { what, good: Some(false), found, mend: Some(mend) }
}

/// The folder of the compiler that pip installed, in the virtual environment that is active
fn installed() -> Option<PathBuf> {
    let environment = PathBuf::from(std::env::var_os("VIRTUAL_ENV")?);
    let folders = |path: PathBuf| std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    folders(environment.join("lib"))
        .flat_map(|python| folders(python.join("site-packages/nvidia")))
        .map(|package| package.join("lib"))
        .find(|folder| {
            folders(folder.clone())
                .any(|file| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libnvrtc.so")))
        })
}

fn at(library: Option<&Path>) -> String {
    library.map_or(String::new(), |path| format!(", {}", path.display()))
}

fn emulator() -> Finding {
    let good = cfg!(feature = "emulator");
    Finding {
        what: "emulator",
        good: Some(good),
        found: if good { "built in" } else { "not built in" }.into(),
        mend: (!good).then(|| "cargo build --release --features emulator".into()),
    }
}

/// The C++ compiler that would build the emulator
fn compiler() -> Finding {
    let (what, asked) = ("C++ compiler", std::env::var("CXX").ok().filter(|name| !name.is_empty()));
    let names = asked.as_deref().map_or(vec!["c++", "g++", "clang++"], |name| vec![name]);
    for name in names {
        let output = std::process::Command::new(name).arg("--version").stdin(std::process::Stdio::null()).output();
        if let Ok(output) = output.as_ref().map(|output| String::from_utf8_lossy(&output.stdout))
            && let Some(line) = output.lines().next()
        {
            return Finding { what, good: Some(true), found: line.into(), mend: None };
        }
    }
    let found = asked.map_or("none".into(), |name| format!("CXX={name} does not run"));
    Finding { what, good: Some(false), found, mend: Some("apt-get install g++".into()) }
}

fn text(document: &Document) -> String {
    let mut out = String::new();
    for Finding { what, good, found, mend } in &document.findings {
        let (style, mark) = match good {
            None => (DIM, "     "),
            Some(true) => (GREEN, "good "),
            Some(false) => (YELLOW, "LACKS"),
        };
        let _ = writeln!(out, "{style}{mark}{style:#}  {what:17} {found}");
        if let Some(mend) = mend {
            let _ = writeln!(out, "       {DIM}{:17}{DIM:#} {mend}", "");
        }
    }
    let line = |ready, backend: &str| {
        let (style, word) = if ready { (GREEN, "ready") } else { (YELLOW, "not ready") };
        format!("{style}{BOLD}--backend {backend}: {word}{BOLD:#}{style:#}\n")
    };
    out + "\n" + &line(document.cuda_ready, "cuda") + &line(document.emulator_ready, "emulator")
}
