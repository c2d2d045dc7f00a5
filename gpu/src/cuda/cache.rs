//! Compiled kernels on disk, under a hash of all they depend on. A cache that cannot be used is no error.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Where compiled kernels are kept.
pub(super) fn folder() -> Option<PathBuf> {
    let path = |name: &str| std::env::var_os(name).filter(|value: &OsString| !value.is_empty()).map(PathBuf::from);
    path("FWPKM_CACHE")
        .or_else(|| path("XDG_CACHE_HOME").map(|folder| folder.join("fwpkm")))
        .or_else(|| path("HOME").map(|folder| folder.join(".cache").join("fwpkm")))
}

/// A name that source, options (with them the architecture) and compiler determine.
pub(super) fn key(source: &str, options: &[String], version: (i32, i32)) -> String {
    let mut hasher = blake3::Hasher::new();
    for text in options.iter().map(String::as_str).chain([source, &format!("NVRTC {}.{}", version.0, version.1)]) {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// A file is the hash of the code, then the code; one that does not fit is not used.
pub(super) fn load(folder: &Path, key: &str) -> Option<Vec<u8>> {
    let file = std::fs::read(folder.join(format!("{key}.cubin"))).ok()?;
    let (hash, cubin) = file.split_at_checked(blake3::OUT_LEN)?;
    (blake3::hash(cubin).as_bytes() == hash).then(|| cubin.to_vec())
}

/// Written beside its place and moved there, so that nobody reads half a file.
pub(super) fn store(folder: &Path, key: &str, cubin: &[u8]) {
    let file = [blake3::hash(cubin).as_bytes(), cubin].concat();
    let part = folder.join(format!("{key}.{}.part", std::process::id()));
    let stored = std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&part, file))
        .and_then(|()| std::fs::rename(&part, folder.join(format!("{key}.cubin"))));
    if stored.is_err() {
        let _ = std::fs::remove_file(part);
    }
}
