//! What a loaded model costs; alone in its process, because it measures the process.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::vectors::{GEMMA3, SMOLLM2, model_path};

/// Resident bytes of this process.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}

#[test]
fn a_loaded_model_stays_within_1_3_times_its_file() {
    for model in [SMOLLM2, GEMMA3] {
        let file_bytes = std::fs::metadata(model_path(model)).unwrap().len();
        let before = resident_bytes();
        // A gigabyte of pool, none of it written: it costs nothing until it is.
        let runner = common::runner(model, 2, 1000);
        let grown = resident_bytes().saturating_sub(before);
        drop(runner);
        assert!(10 * grown <= 13 * file_bytes, "{model}: {grown} bytes for a file of {file_bytes}");
        assert!(2 * grown > file_bytes, "{model}: {grown} bytes cannot be all of it");
    }
}
