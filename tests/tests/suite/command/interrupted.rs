//! Ctrl-C while what is computed instead is looked for.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fwpkm::identify::{Evidence, identify};
use fwpkm::implementation::Implementation;
use fwpkm::judge::{Declaration, Distance, judge};
use fwpkm::numbers::Numbers;
use fwpkm::run::Outputs;
use fwpkm::vectors::collection::{FOLDER, Vector, vectors};
use fwpkm_spec::{Data, tensor_file};
use serde_json::Value;
use tempfile::TempDir;

use super::valid;

/// Outputs that nothing known explains, so that everything is tried.
fn unknown(vector: &Vector) -> Outputs {
    let mut outputs = Implementation::specification().run(&vector.problem, Numbers::F32).unwrap();
    if let Some(Data::F32(values)) = outputs.get_mut("out.slot_values").map(|tensor| &mut tensor.data) {
        values.fill(7.0);
    }
    outputs
}

fn some_vectors() -> Vec<Vector> {
    let mut all = vectors(Path::new(FOLDER)).unwrap();
    all.retain(|vector| vector.name.starts_with("paper/"));
    all
}

/// Stopped after a moment, it gives nothing, and soon.
#[test]
fn identification_ends_once_it_is_stopped() {
    let declared = Declaration { numbers: Numbers::F32, distance: Distance::Direct };
    let vectors = some_vectors();
    let specification = Implementation::specification();
    let outputs = vectors.iter().map(|vector| (&vector.problem, unknown(vector)));
    let evidence: Vec<Evidence> = outputs
        .map(|(problem, outputs)| {
            let judgement = judge(problem, &specification, declared, &outputs).unwrap();
            Evidence { problem, outputs, judgement }
        })
        .collect();
    let (stop, started) = (AtomicBool::new(false), Instant::now());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(200));
            stop.store(true, Ordering::SeqCst);
        });
        assert!(identify(&evidence, declared, &stop).is_none());
    });
    // To try everything takes ten seconds of two fast cores.
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

/// Status 130 and a whole report, with all that was judged.
#[cfg(unix)]
#[test]
fn ctrl_c_ends_identification_with_a_report() {
    let folder = TempDir::new().unwrap();
    let vectors = some_vectors();
    for vector in &vectors {
        let path = folder.path().join(&vector.name).with_extension("safetensors");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        tensor_file::write(&path, &[].into(), &unknown(vector).iter().collect::<Vec<_>>()).unwrap();
    }
    let mut delay = Duration::from_millis(500);
    let report = loop {
        let child = Command::new(env!("CARGO_BIN_EXE_fwpkm"))
            .args(["identify", "--json"])
            .arg(folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(delay);
        Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        let output = child.wait_with_output().unwrap();
        match output.status.code() {
            // Before it took signals.
            None => delay *= 2,
            Some(130) => {
                let document: Value = serde_json::from_slice(&output.stdout).unwrap();
                valid(fwpkm_spec::REPORT_SCHEMA, &document);
                let report = document["reports"][0].clone();
                assert_eq!(report["stopped"], true);
                if report["cases"].as_array().unwrap().len() == vectors.len() {
                    break report;
                }
                delay = delay.mul_f64(1.5);
            }
            status => panic!("ended with {status:?} before {delay:?}"),
        }
    };
    assert_eq!(report["identification"], Value::Null);
}
