//! Feeding from buffers of the device.

use fwpkm_gpu::{Backend, Launching, Memory, Number, Resident, Result, Variant};
use fwpkm_reference::Tokens;
use ndarray::{Array3, ArrayView, Dimension, s};

use super::{Scene, scene};

fn time_major<T: Copy, D: Dimension>(mut tokens: ArrayView<T, D>) -> Vec<T> {
    tokens.swap_axes(0, 1);
    tokens.iter().copied().collect()
}

fn on_device<B: Backend, T: Number>(device: &B, numbers: &[T]) -> Result<B::Buffer> {
    let buffer = device.allocate("tokens", size_of_val(numbers).max(4))?;
    device.write(&buffer, 0, numbers)?;
    Ok(buffer)
}

/// Memory after the scene's calls, fed from the device, and what was read
pub(crate) fn feed<B: Backend>(
    device: B,
    scene: &Scene,
    variant: Variant,
    launching: Launching,
) -> Result<(Memory<B>, Array3<f32>)> {
    let (settings, rules) = (scene.settings.clone(), scene.rules.clone());
    let mut memory = Memory::new(device, settings, rules, scene.tables.clone(), variant)?;
    memory.set_launching(launching);
    // As device-check.sh asks for under sanitizers.
    memory.set_most_blocks(std::env::var("FWPKM_WALK_BLOCKS").ok().and_then(|most| most.parse().ok()));
    let mut from = 0;
    let mut all = Array3::zeros((scene.text.queries.dim().0, scene.calls.iter().sum(), scene.settings.value_dim));
    for &call in &scene.calls {
        let part = feed_call(&mut memory, &scene.text.slice(from, from + call))?;
        all.slice_mut(s![.., from..from + call, ..]).assign(&part);
        from += call;
    }
    Ok((memory, all))
}

/// Feeds from the device, [sequences, tokens, ..]
pub(crate) fn feed_call<B: Backend>(memory: &mut Memory<B>, tokens: &Tokens<f32>) -> Result<Array3<f32>> {
    feed_call_to(memory, tokens, false)
}

/// The same; what is read goes over the values where it is said so.
pub(crate) fn feed_call_to<B: Backend>(
    memory: &mut Memory<B>,
    tokens: &Tokens<f32>,
    over_values: bool,
) -> Result<Array3<f32>> {
    let (sequences, call, width) = (tokens.sequences(), tokens.len(), memory.settings().value_dim);
    let count = call * sequences * width;
    let device = memory.device();
    let reads = device.allocate("read", (count * 4).max(4))?;
    let mask = tokens.mask.map(|mask| on_device(device, &time_major(mask.mapv(i32::from).view()))).transpose()?;
    let gates = tokens.gates.map(|gates| on_device(device, &time_major(gates))).transpose()?;
    let queries = on_device(device, &time_major(tokens.queries))?;
    let values = on_device(device, &time_major(tokens.values))?;
    let (gates, mask) = (gates.as_ref(), mask.as_ref());
    let resident = Resident { tokens: call, sequences, queries: &queries, values: &values, gates, mask };
    let reads = if over_values { &values } else { &reads };
    memory.feed_resident(&resident, reads)?;
    let mut numbers = vec![0.0_f32; count];
    memory.device().read(reads, 0, &mut numbers)?;
    let mut part = Array3::from_shape_vec((call, sequences, width), numbers).unwrap();
    part.swap_axes(0, 1);
    Ok(part)
}

/// The options of a scene on a text of several calls of one chunk each.
pub(crate) fn evenly_cut(of: &Scene, calls: usize) -> Scene {
    let sequences = of.text.queries.dim().0;
    let even = scene(31, of.settings.clone(), of.rules.clone(), sequences, &vec![of.settings.chunk; calls]);
    Scene { tables: of.tables.clone(), ..even }
}
