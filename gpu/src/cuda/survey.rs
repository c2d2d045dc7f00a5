//! What of CUDA there is on a machine. Nothing here needs a driver, or fails.

use std::ffi::c_int;
use std::path::PathBuf;

use cudarc::driver::{DriverError, result, sys};

use super::{NEEDED_CAPABILITY, cache, needed_driver, nvrtc_version};

/// What of CUDA there is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Survey {
    /// The driver's library; none where it is not found.
    pub driver: Option<Driver>,
    /// The run-time compiler; none where it is not found.
    pub nvrtc: Option<Nvrtc>,
    /// Where compiled kernels are kept; none where no folder is known.
    pub cache: Option<PathBuf>,
}

/// A driver.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Driver {
    /// Where it was loaded from, where the system tells.
    pub library: Option<PathBuf>,
    /// The CUDA version it supports, as (13, 0).
    pub version: Option<(i32, i32)>,
    /// Its devices; empty where there are none.
    pub devices: Vec<Device>,
    /// What it answered instead of its devices.
    pub error: Option<String>,
}

/// A device.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Compute capability, as (9, 0).
    pub capability: (i32, i32),
    /// Bytes of its memory.
    pub memory: usize,
}

impl Device {
    /// Whether the kernels run on it.
    pub fn is_supported(&self) -> bool {
        self.capability.0 >= NEEDED_CAPABILITY
    }
}

/// A run-time compiler.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Nvrtc {
    /// Where it was loaded from, where the system tells.
    pub library: Option<PathBuf>,
    /// Its version, as (13, 0).
    pub version: (i32, i32),
}

impl Survey {
    /// Looks at this machine.
    pub fn new() -> Self {
        let nvrtc = nvrtc_version().ok().map(|version| Nvrtc { library: loaded("libnvrtc.so"), version });
        Self { driver: driver(), nvrtc, cache: cache::folder() }
    }

    /// Whether kernels can be compiled and run on device 0.
    pub fn is_ready(&self) -> bool {
        let (Some(driver), Some(nvrtc)) = (&self.driver, &self.nvrtc) else { return false };
        driver.devices.first().is_some_and(Device::is_supported) && driver.supports(nvrtc.version)
    }
}

impl Default for Survey {
    fn default() -> Self {
        Self::new()
    }
}

impl Driver {
    /// Whether it has all calls that are made, and runs what a compiler of this version makes.
    pub fn supports(&self, nvrtc: (i32, i32)) -> bool {
        self.version.is_some_and(|version| version >= needed_driver(nvrtc))
    }

    /// The oldest that does, as (12, 8).
    pub fn needed(nvrtc: (i32, i32)) -> (i32, i32) {
        needed_driver(nvrtc)
    }
}

#[expect(unsafe_code, reason = "queries of the driver")]
fn driver() -> Option<Driver> {
    // SAFETY: only looks for the library.
    if !unsafe { sys::is_culib_present() } {
        return None;
    }
    let mut found = Driver { library: None, version: None, devices: Vec::new(), error: None };
    let mut version: c_int = 0;
    // SAFETY: writes one integer.
    if unsafe { sys::cuDriverGetVersion(&raw mut version) }.result().is_ok() {
        found.version = Some((version / 1000, version % 1000 / 10));
    }
    found.library = loaded("libcuda.so");
    match devices() {
        Ok(devices) => found.devices = devices,
        Err(DriverError(sys::CUresult::CUDA_ERROR_NO_DEVICE)) => {}
        Err(error) => found.error = Some(error.to_string()),
    }
    Some(found)
}

#[expect(unsafe_code, reason = "queries of the driver")]
fn devices() -> Result<Vec<Device>, DriverError> {
    use sys::CUdevice_attribute::{
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as MINOR,
    };
    result::init()?;
    let count = result::device::get_count()?;
    (0..count)
        .map(|number| {
            let device = result::device::get(number)?;
            let name = result::device::get_name(device)?;
            // SAFETY: the device came from the driver.
            unsafe {
                let capability =
                    (result::device::get_attribute(device, MAJOR)?, result::device::get_attribute(device, MINOR)?);
                Ok(Device { name, capability, memory: result::device::total_mem(device)? })
            }
        })
        .collect()
}

/// The file of a loaded library, on systems that list what a process has mapped.
fn loaded(name: &str) -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let path = maps.lines().filter_map(|line| Some(&line[line.find('/')?..])).find(|path| path.contains(name))?;
    Some(path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_ready_with_driver_compiler_and_a_recent_device() {
        let device = |major| Device { name: "device".into(), capability: (major, 0), memory: 1 << 34 };
        let driver = |version, devices| Driver { library: None, version: Some(version), devices, error: None };
        let nvrtc = Some(Nvrtc { library: None, version: (13, 0) });
        let survey = |driver, nvrtc| Survey { driver, nvrtc, cache: None };
        assert!(survey(Some(driver((13, 0), vec![device(8)])), nvrtc.clone()).is_ready());
        assert!(!survey(Some(driver((12, 8), vec![device(8)])), nvrtc.clone()).is_ready());
        let older = Some(Nvrtc { library: None, version: (12, 9) });
        assert!(survey(Some(driver((12, 8), vec![device(8)])), older.clone()).is_ready());
        assert!(!survey(Some(driver((12, 6), vec![device(8)])), older).is_ready());
        assert!(!survey(Some(driver((13, 0), vec![device(7)])), nvrtc.clone()).is_ready());
        assert!(!survey(Some(driver((13, 0), vec![])), nvrtc.clone()).is_ready());
        assert!(!survey(Some(driver((13, 0), vec![device(9)])), None).is_ready());
        assert!(!survey(None, nvrtc).is_ready());
    }

    #[test]
    fn looking_at_this_machine_agrees_with_using_it() {
        assert_eq!(Survey::new().is_ready(), super::super::Cuda::new(0).is_ok());
    }
}
