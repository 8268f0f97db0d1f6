//! An agent's manifest of arbitrary bytes: read as it would be written, or not at all.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| store::fuzzing::manifest(bytes));
