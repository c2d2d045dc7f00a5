//! The runs whose launches emulator/check records; see there.
#![cfg(feature = "emulator")]

mod common;

use common::{TINY, emulate, scenes};
use fwpkm_gpu::Variant;

#[test]
#[ignore = "writes the file that FWPKM_RECORD names; emulator/check runs it"]
fn record_launches() {
    assert!(std::env::var_os("FWPKM_RECORD").is_some());
    for name in ["mask", "carry", "release, mask", "to sub-keys", "decay", "dot product", "hot slots", "odd shapes"] {
        let scene = scenes().into_iter().find(|(other, _)| *other == name).unwrap().1;
        emulate(&scene, Variant::Fast(TINY), 1).unwrap();
        emulate(&scene, Variant::Simple, 1).unwrap();
    }
}
