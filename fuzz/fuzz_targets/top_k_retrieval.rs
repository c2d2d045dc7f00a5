#![no_main]

use fwpkm::oracle::top_k_retrieval;

libfuzzer_sys::fuzz_target!(init: fwpkm_fuzz::one_thread(), |bytes: &[u8]| top_k_retrieval(bytes));
