//! Builds the emulator with the host's C++ compiler, where the feature asks for it.

fn main() {
    println!("cargo::rerun-if-changed=emulator");
    println!("cargo::rerun-if-changed=kernels");
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
