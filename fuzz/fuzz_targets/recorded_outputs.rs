#![no_main]

use fwpkm::oracle::recorded_outputs;

libfuzzer_sys::fuzz_target!(init: fwpkm_fuzz::one_thread(), |bytes: &[u8]| recorded_outputs(bytes));
