#![no_main]

use fwpkm::oracle::settings_files;

libfuzzer_sys::fuzz_target!(init: fwpkm_fuzz::one_thread(), |bytes: &[u8]| settings_files(bytes));
