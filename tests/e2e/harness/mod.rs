//! What the tests are written with: a server of their own, an HTTP client, answers, and waiting for a condition.

pub(crate) mod answer;
pub(crate) mod gguf;
pub(crate) mod http;
pub(crate) mod server;
pub(crate) mod tiny_gguf;

use std::path::PathBuf;
use std::time::{Duration, Instant};

pub(crate) use answer::AnswerStream;
pub(crate) use http::{Connection, Response};
pub(crate) use server::{Samovar, Setup};

/// Nothing that these tests wait for takes this long unless it hangs. Never what a test measures.
pub(crate) const HANG_GUARD: Duration = Duration::from_secs(600);

/// SmolLM2 135M Instruct: llama family, with a chat template.
pub(crate) const SMOLLM2: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";

/// Gemma 3 270M: sliding windows of 512 tokens, a base model without a chat template.
pub(crate) const GEMMA3: &str = "gemma-3-270m-q4_k_m.gguf";

/// all-MiniLM-L6-v2: it reads texts for their vectors.
pub(crate) const MINILM: &str = "all-MiniLM-L6-v2.f32.gguf";

/// The real model file called `name`.
pub(crate) fn model(name: &str) -> PathBuf {
    let folder = std::env::var_os("SAMOVAR_TEST_MODELS").map(PathBuf::from).unwrap_or_else(|| {
        let home = std::env::var_os("HOME").expect("a home folder");
        PathBuf::from(home).join(".cache/samovar-dev/models")
    });
    let path = folder.join(name);
    assert!(path.is_file(), "{} is missing: run `make models`", path.display());
    path
}

/// Look until `probe` finds what it looks for; `what` is said when it never does.
pub(crate) fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(start.elapsed() < HANG_GUARD, "never happened: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
