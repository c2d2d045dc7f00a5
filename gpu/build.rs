//! Builds the emulator with the host's C++ compiler, where the feature asks for it. Refuses two versions of CUDA, of which cudarc
//! would only say that its types do not compile.

fn main() {
    println!("cargo::rerun-if-changed=emulator");
    println!("cargo::rerun-if-changed=kernels");
    let versions = versions();
    if versions.len() > 1 {
        println!(
            "cargo::error=fwpkm-gpu is built for one version of CUDA, and {} were chosen; keep one of these features, and turn \
             the default, cuda-13000, off by default-features = false (--no-default-features) to choose another",
            versions.join(" and ")
        );
    }
    #[cfg(feature = "emulator")]
    cc::Build::new()
        .cpp(true)
        .std("gnu++17")
        .opt_level(2)
        .flag("-ffp-contract=off")
        .warnings(false)
        .file("emulator/machine.cpp")
        .file("emulator/kernels.cpp")
        .compile("fwpkm_emulator");
}

/// The features that name a version of CUDA. None is an error of cudarc, unless another crate chose one.
fn versions() -> Vec<String> {
    let features = std::env::vars().filter_map(|(name, _)| Some(name.strip_prefix("CARGO_FEATURE_CUDA_")?.to_string()));
    let mut versions: Vec<_> = features.map(|name| format!("cuda-{}", name.to_lowercase().replace('_', "-"))).collect();
    versions.sort();
    versions
}
