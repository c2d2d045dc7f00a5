//! Kernels to machine code with NVRTC.

use std::ffi::{CString, c_char};
use std::path::Path;

use cudarc::nvrtc::{result, sys};

use super::cache;
use crate::constants::Constants;
use crate::error::{Error, Result};
use crate::source::{options, source};

/// Version of NVRTC, as (13, 0).
///
/// # Errors   `Error::NoNvrtc`
#[expect(unsafe_code, reason = "queries of NVRTC")]
pub fn nvrtc_version() -> Result<(i32, i32)> {
    // SAFETY: only looks for the library.
    if !unsafe { sys::is_culib_present() } {
        return Err(Error::NoNvrtc);
    }
    let (mut major, mut minor) = (0, 0);
    // SAFETY: writes two integers.
    unsafe { sys::nvrtcVersion(&raw mut major, &raw mut minor) }
        .result()
        .map_err(|error| nvrtc("nvrtcVersion", error))?;
    Ok((major, minor))
}

fn nvrtc(call: &str, error: result::NvrtcError) -> Error {
    Error::Device { call: call.into(), reason: error.to_string() }
}

/// Machine code of all kernels, from the cache where it is there.
pub(super) fn cubin(constants: &Constants, architecture: &str, cache: Option<&Path>) -> Result<Vec<u8>> {
    let (source, options) = (source(constants.kernels), options(constants, architecture));
    let key = cache::key(&source, &options, nvrtc_version()?);
    if let Some(cubin) = cache.and_then(|folder| cache::load(folder, &key)) {
        return Ok(cubin);
    }
    let cubin = compile(&source, &options, architecture)?;
    if let Some(folder) = cache {
        cache::store(folder, &key, &cubin);
    }
    Ok(cubin)
}

/// A program of NVRTC, destroyed when dropped.
struct Program(sys::nvrtcProgram);

impl Drop for Program {
    #[expect(unsafe_code, reason = "frees what was created")]
    fn drop(&mut self) {
        // SAFETY: the program came from create_program and nobody else destroys it.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}

#[expect(unsafe_code, reason = "calls of NVRTC")]
fn compile(source: &str, options: &[String], architecture: &str) -> Result<Vec<u8>> {
    let text = |text: &str| {
        CString::new(text)
            .map_err(|error| Error::Device { call: "nvrtcCompileProgram".into(), reason: error.to_string() })
    };
    let source = text(source)?;
    let options = options.iter().map(|option| text(option)).collect::<Result<Vec<_>>>()?;
    let pointers: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
    let count = i32::try_from(pointers.len()).unwrap_or(0);
    let created = result::create_program(&source, Some(c"fwpkm.cu"));
    let program = Program(created.map_err(|error| nvrtc("nvrtcCreateProgram", error))?);
    // SAFETY: the program is alive, `pointers` holds `count` texts that end with 0.
    let compiled = unsafe { sys::nvrtcCompileProgram(program.0, count, pointers.as_ptr()) }.result();
    if compiled.is_err() {
        // SAFETY: the program is alive.
        let log = unsafe { result::get_program_log(program.0) }.map_err(|error| nvrtc("nvrtcGetProgramLog", error))?;
        let log: Vec<u8> = log.into_iter().map(i8::cast_unsigned).filter(|&byte| byte != 0).collect();
        let log = String::from_utf8_lossy(&log).trim().to_string();
        return Err(Error::Compile { architecture: architecture.into(), log });
    }
    let mut size = 0;
    // SAFETY: the program is alive; writes one number.
    unsafe { sys::nvrtcGetCUBINSize(program.0, &raw mut size) }
        .result()
        .map_err(|error| nvrtc("nvrtcGetCUBINSize", error))?;
    let mut cubin = vec![0_u8; size];
    // SAFETY: the program is alive; writes `size` bytes.
    unsafe { sys::nvrtcGetCUBIN(program.0, cubin.as_mut_ptr().cast()) }
        .result()
        .map_err(|error| nvrtc("nvrtcGetCUBIN", error))?;
    Ok(cubin)
}

#[cfg(test)]
mod tests {
    use fwpkm_reference::{Rules, Settings};

    use super::*;
    use crate::constants::Tile;
    use crate::source::Kernels;

    fn paper() -> Constants {
        Constants::new(&Settings::paper(), &Rules::paper(), Tile::SMALL, Kernels::Walk).unwrap()
    }

    /// Where NVRTC is not installed, the error says how to install it.
    #[test]
    fn kernels_compile_without_a_device_and_are_found_in_the_cache() {
        let folder = tempfile::tempdir().unwrap();
        match cubin(&paper(), "sm_90", Some(folder.path())) {
            Ok(cubin_) => {
                assert!(cubin_.starts_with(b"\x7fELF"));
                let files: Vec<_> =
                    std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path()).collect();
                assert_eq!(files.len(), 1);
                assert_eq!(cubin(&paper(), "sm_90", Some(folder.path())).unwrap(), cubin_);
                // A damaged file is not used.
                std::fs::write(&files[0], b"damaged").unwrap();
                assert_eq!(cubin(&paper(), "sm_90", Some(folder.path())).unwrap(), cubin_);
                let error = compile("no kernel", &[], "sm_90").unwrap_err();
                assert!(matches!(error, Error::Compile { ref log, .. } if log.contains("fwpkm.cu")), "{error}");
            }
            Err(error) => {
                assert_eq!(error, Error::NoNvrtc);
                assert!(error.to_string().contains("pip install nvidia-cuda-nvrtc"));
            }
        }
    }

    #[test]
    fn without_a_driver_the_error_says_so() {
        // A machine with a driver and a device passes as well.
        match super::super::Cuda::new(0) {
            Ok(_) => {}
            Err(error) => assert!(error.to_string().contains("driver") || error == Error::NoNvrtc, "{error}"),
        }
    }
}
