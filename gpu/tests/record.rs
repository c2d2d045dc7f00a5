//! The runs whose launches emulator/check records; see there.
#![cfg(feature = "emulator")]

mod common;

use common::{TINY, close_scenes, emulate, scenes};
use fwpkm_gpu::Variant;

#[test]
#[ignore = "writes the file that FWPKM_RECORD names; emulator/check runs it"]
fn record_launches() {
    assert!(std::env::var_os("FWPKM_RECORD").is_some());
    let names = [
        "mask",
        "carry",
        "release, mask",
        "to sub-keys",
        "decay",
        "dot product",
        "hot slots",
        "odd shapes",
        "each head",
        "wide",
    ];
    let some = scenes().into_iter().filter(|(name, _)| names.contains(name));
    for (_, scene) in some.chain(close_scenes()) {
        emulate(&scene, Variant::Fast(TINY), 1).unwrap();
        emulate(&scene, Variant::Simple, 1).unwrap();
    }
}
