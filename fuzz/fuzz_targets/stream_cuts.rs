#![no_main]

use fwpkm::oracle::stream_cuts;

libfuzzer_sys::fuzz_target!(init: fwpkm_fuzz::one_thread(), |bytes: &[u8]| stream_cuts(bytes));
