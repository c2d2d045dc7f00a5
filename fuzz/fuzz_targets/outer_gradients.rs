#![no_main]

use fwpkm::oracle::outer_gradients;

libfuzzer_sys::fuzz_target!(init: fwpkm_fuzz::one_thread(), |bytes: &[u8]| outer_gradients(bytes));
