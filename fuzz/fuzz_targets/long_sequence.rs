#![no_main]

use fwpkm::oracle::long_sequence;

libfuzzer_sys::fuzz_target!(init: fwpkm_fuzz::one_thread(), |bytes: &[u8]| long_sequence(bytes));
