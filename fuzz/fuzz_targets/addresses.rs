//! Feeds `dunnage_fuzzing::addresses`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dunnage_fuzzing::addresses(data));
