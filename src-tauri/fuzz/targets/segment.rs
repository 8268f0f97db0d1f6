//! Segments of arbitrary bytes: a whole store over them must open, serve nothing wrong, and go on.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| store::fuzzing::segments(bytes));
