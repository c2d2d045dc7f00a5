//! The kernels as one text, and the options they are compiled with.

use crate::constants::Constants;

const PRELUDE: &str = include_str!("../kernels/prelude.cuh");
const FAST: [&str; 9] = [
    include_str!("../kernels/measure.cu"),
    include_str!("../kernels/input.cu"),
    include_str!("../kernels/score.cu"),
    include_str!("../kernels/select.cu"),
    include_str!("../kernels/read.cu"),
    include_str!("../kernels/memorize.cu"),
    include_str!("../kernels/memorize_sub_keys.cu"),
    include_str!("../kernels/address.cu"),
    // Ties need all distances.
    include_str!("../kernels/simple/score.cu"),
];
const WALK: [&str; 1] = [include_str!("../kernels/chunk.cu")];
const SIMPLE: [&str; 4] = [
    include_str!("../kernels/simple/select.cu"),
    include_str!("../kernels/simple/read.cu"),
    include_str!("../kernels/simple/memorize.cu"),
    include_str!("../kernels/simple/address.cu"),
];

/// Which kernels are compiled: no more than are used, since each takes its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kernels {
    Fast,
    /// With the fast ones, whose functions they use.
    Simple,
    /// With the fast ones, as before.
    Walk,
}

/// The kernels as one text.
pub(crate) fn source(kernels: Kernels) -> String {
    let mut text = String::from(PRELUDE);
    let more: &[&str] = match kernels {
        Kernels::Fast => &[],
        Kernels::Simple => &SIMPLE,
        Kernels::Walk => &WALK,
    };
    for file in FAST.iter().chain(more) {
        text.push('\n');
        text.push_str(file);
    }
    text
}

/// Options of NVRTC. Without --fmad=false products and sums would be fused where the kernels do not say so.
pub(crate) fn options(constants: &Constants, architecture: &str) -> Vec<String> {
    let mut options =
        vec![format!("--gpu-architecture={architecture}"), "--std=c++17".to_string(), "--fmad=false".to_string()];
    options.extend(constants.options());
    options
}
