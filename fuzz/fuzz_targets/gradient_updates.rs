#![no_main]

use fwpkm::oracle::gradient_updates;

libfuzzer_sys::fuzz_target!(init: fwpkm_fuzz::one_thread(), |bytes: &[u8]| gradient_updates(bytes));
