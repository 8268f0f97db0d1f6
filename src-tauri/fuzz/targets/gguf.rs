//! A GGUF file of arbitrary bytes: its header and the model that it describes are read within bounds, or refused.

#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use model::{Gguf, plan_of};

/// A model is read from a file, so there must be one; each process of a run has its own.
static FILE: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("samovar-fuzz-{}.gguf", std::process::id())));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    std::fs::write(&*FILE, bytes).expect("a temporary file");
    let Ok(gguf) = Gguf::open(&FILE) else { return };
    let mut ends = Vec::new();
    for tensor in gguf.tensors() {
        assert_eq!(gguf.read(tensor).expect("it lies in the file").len(), tensor.range.len());
        assert!(tensor.range.end <= bytes.len());
        assert!(ends.iter().all(|(start, end)| tensor.range.end <= *start || tensor.range.start >= *end));
        ends.push((tensor.range.start, tensor.range.end));
    }
    let _ = (gguf.name(), gguf.n_params());
    if let Ok(plan) = plan_of(&gguf) {
        let _ = plan.cache_spec();
    }
});
