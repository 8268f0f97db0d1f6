//! A JSON schema of arbitrary bytes: it becomes a grammar within its stack and time, or is refused; and what holds an
//! answer to it says at every step which tokens may come next, or that none may.

#![no_main]

use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use text::{CONSTRAINT_STACK_BYTES, OutputFormat, Strictness, TextMetadata, TextModel};

/// Far more than any schema within the bounds takes.
const DEADLINE: Duration = Duration::from_secs(60);
const N_STEPS: usize = 64;

/// A vocabulary of all bytes and some words.
static MODEL: LazyLock<TextModel> = LazyLock::new(|| {
    let words = ["\":", "\", \"", "true", "null", "{}", "[]", "  ", "\n  ", "<end>"];
    let bytes = (0..=255).map(|byte| format!("<0x{byte:02X}>"));
    let tokens: Vec<String> = bytes.chain(words.map(str::to_owned)).collect();
    let n_tokens = tokens.len();
    let kind = |i: usize| if i < 256 { 6 } else if i + 1 == n_tokens { 3 } else { 1 };
    let metadata = TextMetadata {
        tokenizer_model: "llama".into(),
        token_types: (0..n_tokens).map(kind).collect(),
        scores: vec![0.0; n_tokens],
        eos: u32::try_from(n_tokens - 1).ok(),
        tokens,
        ..TextMetadata::default()
    };
    TextModel::new(metadata).expect("a vocabulary")
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(schema) = serde_json::from_slice::<serde_json::Value>(bytes) else { return };
    for strictness in [Strictness::Lenient, Strictness::Strict] {
        let format = OutputFormat::JsonSchema { schema: schema.clone(), strictness };
        let since = Instant::now();
        let building = thread::Builder::new().stack_size(CONSTRAINT_STACK_BYTES);
        let built = building.spawn(move || MODEL.constraint(&format)).expect("a thread").join();
        assert!(since.elapsed() < DEADLINE, "{:?}", since.elapsed());
        let Ok(mut constraint) = built.expect("no panic") else { continue };
        for step in 0..N_STEPS {
            let Ok(mask) = constraint.mask() else { break };
            let n = mask.n_allowed();
            assert!(n > 0, "a mask without tokens is an error");
            let turn = usize::from(bytes[step % bytes.len()]) % n;
            let id = mask.allowed().nth(turn).expect("one of them");
            if constraint.commit(id).is_err() || constraint.is_finished() {
                break;
            }
        }
    }
});
