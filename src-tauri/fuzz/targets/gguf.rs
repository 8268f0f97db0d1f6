//! A GGUF file of arbitrary bytes, or a model in several of them: the headers and the model that they describe are read
//! within bounds, or refused.
//!
//! ```text
//! "GGUF" …                                  one file
//! n, then n - 1 x (u16 length, so many bytes), rest      n parts, 2 to 5
//! ```

#![no_main]

use std::path::PathBuf;

use model::{Gguf, outline, plan_of};

/// A model is read from files, so there must be some; each process of a run has its own.
fn path(number: usize, count: usize) -> PathBuf {
    let part = if count == 1 { String::new() } else { format!("-{number:05}-of-{count:05}") };
    std::env::temp_dir().join(format!("samovar-fuzz-{}{part}.gguf", std::process::id()))
}

fn parts(bytes: &[u8]) -> Vec<&[u8]> {
    if bytes.starts_with(b"GGUF") {
        return vec![bytes];
    }
    let Some((n, mut rest)) = bytes.split_first() else { return vec![bytes] };
    let mut parts = Vec::new();
    for _ in 0..1 + n % 4 {
        let Some((length, after)) = rest.split_first_chunk() else { break };
        let (part, after) = after.split_at(after.len().min(u16::from_le_bytes(*length).into()));
        parts.push(part);
        rest = after;
    }
    parts.push(rest);
    parts
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let parts = parts(bytes);
    for (idx, part) in parts.iter().enumerate() {
        std::fs::write(path(idx + 1, parts.len()), part).expect("a temporary file");
    }
    let first = path(1, parts.len());
    if let Ok(gguf) = Gguf::open_to_describe(&first) {
        let _ = (outline(&gguf), gguf.unknown_tensors().len());
    }
    let Ok(gguf) = Gguf::open(&first) else { return };
    assert!(gguf.parts().len() == 1 || gguf.parts().len() == parts.len());
    let mut ends = Vec::new();
    for tensor in gguf.tensors() {
        assert_eq!(gguf.read(tensor).expect("it lies in the file").len(), tensor.range.len());
        assert!(tensor.range.end <= parts[tensor.part_idx].len());
        let is_apart = |(part_idx, start, end): &(usize, usize, usize)| {
            *part_idx != tensor.part_idx || tensor.range.end <= *start || tensor.range.start >= *end
        };
        assert!(ends.iter().all(is_apart));
        ends.push((tensor.part_idx, tensor.range.start, tensor.range.end));
    }
    assert!(gguf.digest().is_ok());
    let _ = (gguf.name(), gguf.n_params());
    if let Ok(plan) = plan_of(&gguf) {
        let _ = plan.cache_spec();
    }
});
