//! Feeds `dunnage_fuzzing::forms`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dunnage_fuzzing::forms(data));
