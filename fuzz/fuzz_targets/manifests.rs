//! Feeds `dunnage_fuzzing::manifests`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dunnage_fuzzing::manifests(data));
