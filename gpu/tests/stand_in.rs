//! The code that talks to a device, on a machine without one: driver and NVRTC are libraries whose device is the emulator.
#![cfg(feature = "emulator")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

#[path = "device.rs"]
mod device;

/// The folder of the libraries, built anew.
fn libraries(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("emulator").join("stand-in");
    let built = Command::new("bash").arg(script).arg(&folder).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    folder
}

/// Runs tests of this program with the libraries.
fn run(folder: &Path, tests: &[&str], device: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(tests)
        .args(["--nocapture", "--include-ignored", "--test-threads=3"])
        .env("LD_LIBRARY_PATH", folder)
        .env("FWPKM_CACHE", folder.join("cache"))
        .env("FWPKM_STAND_IN", device)
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

#[test]
fn the_tests_of_a_device_pass_and_no_rule_of_the_driver_is_broken() {
    let folder = libraries("stand-in-passes");
    // Side by side: what one thread does must not disturb the recording of another.
    let output = run(&folder, &["device::"], "contexts=9");
    let text = text(&output);
    assert!(output.status.success() && text.contains("12 passed"), "{text}");
    assert!(!text.contains("not run") && !text.contains("stand-in driver:"), "{text}");
}

/// Says what a device of the driver is, or why it cannot be used.
#[test]
#[ignore = "run by a_machine_that_will_not_do_is_refused_with_the_reason"]
fn opening() {
    use fwpkm_gpu::{Tile, Variant, cuda::Cuda};
    let opened = Cuda::new(0).and_then(|device| {
        let scene = device::common::scenes().swap_remove(0).1;
        device::common::run_on(device, &scene, Variant::Fast(Tile::SMALL)).map(|_| ())
    });
    println!("\n{}", opened.map_or_else(|error| error.to_string(), |()| "it runs".into()));
}

#[test]
#[ignore = "run by buffers_of_another_device_are_refused"]
fn two_devices() {
    use fwpkm_gpu::{Backend, Error, Memory, Resident, Tile, Variant, cuda::Cuda};
    let (one, other) = (Cuda::new(0).unwrap(), Cuda::new(1).unwrap());
    // Work on another stream of the same device has no order with this one's.
    let (apart, again) = (Cuda::new(0).unwrap(), Cuda::with_stream(one.stream().clone()).unwrap());
    let [ours, theirs, unordered, too] = [&one, &other, &apart, &again].map(|device| {
        let buffer = device.allocate("buffer", 256).unwrap();
        device.zero(&buffer).unwrap();
        buffer
    });
    one.copy(&ours, 0, &too, 0, 4).unwrap();
    let mut number = [0_i32];
    let scene = device::common::scenes().swap_remove(0).1;
    let (s, variant) = (scene.settings.clone(), Variant::Fast(Tile::SMALL));
    let refused = [
        one.write(&theirs, 0, &[1_i32]),
        one.read(&theirs, 0, &mut number),
        one.copy(&ours, 0, &theirs, 0, 4),
        one.copy(&theirs, 0, &ours, 0, 4),
        one.zero(&theirs),
        one.copy(&ours, 0, &unordered, 0, 4),
        {
            let mut memory = Memory::new(one, s, scene.rules, scene.tables, variant).unwrap();
            let tokens = Resident { tokens: 1, sequences: 1, queries: &theirs, values: &ours, gates: None, mask: None };
            let refused = memory.feed_resident(&tokens, &ours);
            // Nothing was asked of the device.
            memory.tables().unwrap();
            refused
        },
    ];
    for refused in refused {
        let error = refused.unwrap_err();
        assert!(matches!(error, Error::Misuse { .. }) && error.to_string().contains("device"), "{error}");
    }
}

#[test]
fn buffers_of_another_device_are_refused() {
    let output = run(&libraries("stand-in-two"), &["two_devices", "--exact"], "devices=2");
    let text = text(&output);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    assert!(!text.contains("stand-in driver:"), "{text}");
}

#[test]
#[ignore = "run by a_call_that_the_host_has_no_memory_for_is_an_error"]
#[expect(unsafe_code, reason = "the crate asks for no such thing")]
fn impossible() {
    use cudarc::driver::result::memset_d8_async;
    use fwpkm_gpu::{Backend, cuda::Cuda};
    let device = Cuda::new(0).unwrap();
    let buffer = device.allocate("buffer", 256).unwrap();
    device.stream().context().bind_to_thread().unwrap();
    // SAFETY: the stand-in keeps what it fills with, and has no room for so much.
    let error = unsafe { memset_d8_async(device.address(&buffer), 0, 1 << 60, device.stream().cu_stream()) };
    println!("\n{}", error.unwrap_err());
    device.zero(&buffer).unwrap();
}

/// Rust must never see a C++ exception.
#[test]
fn a_call_that_the_host_has_no_memory_for_is_an_error() {
    let output = run(&libraries("stand-in-impossible"), &["impossible", "--exact"], "");
    let text = text(&output);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    assert!(text.contains("CUDA_ERROR_OUT_OF_MEMORY"), "{text}");
    assert!(text.contains("stand-in driver: cuMemsetD8Async: the host has no memory for it"), "{text}");
}

#[test]
fn a_machine_that_will_not_do_is_refused_with_the_reason() {
    let folder = libraries("stand-in-refuses");
    for (device, expected) in [
        ("", "it runs"),
        ("devices=0", "the CUDA driver has 0 devices; device 0 was asked for"),
        ("driver=12080", "the CUDA driver supports CUDA 12.8; 13.0 or later is needed: update the driver"),
        ("driver=12080 nvrtc=12090", "it runs"),
        ("driver=12060 nvrtc=12060", "the CUDA driver supports CUDA 12.6; 12.8 or later is needed: update the driver"),
        ("capability=75", "no GPU, the emulator has compute capability 7.5; the kernels need 8.0 or later"),
        ("memory=3000", "no room for slot_values on the device: "),
    ] {
        let output = run(&folder, &["opening", "--exact"], device);
        let text = text(&output);
        assert!(output.status.success() && text.contains(expected), "{device}: {text}");
        assert!(!text.contains("stand-in driver:"), "{text}");
    }
    std::fs::remove_file(folder.join("libnvrtc.so")).unwrap();
    std::fs::remove_file(folder.join("libnvrtc.so.13")).unwrap();
    assert!(text(&run(&folder, &["opening", "--exact"], "")).contains("no NVRTC found"));
}
