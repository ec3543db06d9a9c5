//! Feeds `dunnage_fuzzing::frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dunnage_fuzzing::frames(data));
