//! Bodies of arbitrary bytes: each is a call of its API, or refused in its words.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| server::fuzzing::request(bytes));
