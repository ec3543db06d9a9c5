//! Feeds `dunnage_fuzzing::messages`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dunnage_fuzzing::messages(data));
