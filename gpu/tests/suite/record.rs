//! The runs whose launches emulator/check records; see there.

use fwpkm_gpu::emulator::Emulator;
use fwpkm_gpu::{Launching, Tile, Variant};

use crate::common::{TINY, WALKING, close_scenes, emulate, resident, scenes};

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
        emulate(&scene, Variant::Fast(Tile::TENSOR), 1).unwrap();
        let walk = resident::evenly_cut(&scene, 1);
        resident::feed(Emulator::new(1), &walk, Variant::Fast(WALKING), Launching::Persistent).unwrap();
    }
}
