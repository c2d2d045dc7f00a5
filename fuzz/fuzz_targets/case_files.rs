#![no_main]

use fwpkm::oracle::case_files;

libfuzzer_sys::fuzz_target!(init: fwpkm_fuzz::one_thread(), |bytes: &[u8]| case_files(bytes));
