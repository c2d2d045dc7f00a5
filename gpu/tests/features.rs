//! The versions of CUDA that can be chosen are cudarc's, by the same names.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

/// Features that name a version, and what each turns on.
fn versions(metadata: &Value, package: &str) -> BTreeMap<String, Vec<String>> {
    let packages = metadata["packages"].as_array().unwrap();
    let features = packages.iter().find(|found| found["name"] == package).unwrap()["features"].clone();
    let features: BTreeMap<String, Vec<String>> = serde_json::from_value(features).unwrap();
    features.into_iter().filter(|(name, _)| name.starts_with("cuda-")).collect()
}

#[test]
fn every_version_of_cudarc_can_be_chosen() {
    // Not what only other systems need: it may never have been fetched.
    let rustc = Command::new("rustc").arg("-vV").output().unwrap();
    let rustc = String::from_utf8(rustc.stdout).unwrap();
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let cargo = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", host])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
    let metadata: Value = serde_json::from_slice(&cargo.stdout).unwrap();
    let cudarc = versions(&metadata, "cudarc");
    assert!(cudarc.len() > 15, "{cudarc:?}");
    for (package, dependency) in [("fwpkm-gpu", "cudarc"), ("fwpkm", "fwpkm-gpu?")] {
        let expected = cudarc.keys().map(|name| (name.clone(), vec![format!("{dependency}/{name}")])).collect();
        assert_eq!(versions(&metadata, package), expected, "{package}");
    }
}
