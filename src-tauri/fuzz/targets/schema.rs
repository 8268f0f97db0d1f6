//! A JSON schema of arbitrary bytes, of an answer and of a tool's arguments: it becomes a grammar within its stack and
//! time, or is refused; and what holds an answer to it says at every step which tokens may come next, or that none may.

#![no_main]

use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use text::{
    AnswerRules, Begins, CONSTRAINT_STACK_BYTES, Calls, Constraint, ConstraintError, Most, OutputFormat,
    Strictness, TextMetadata, TextModel, Tool,
};

/// Far more than any schema within the bounds takes.
const DEADLINE: Duration = Duration::from_secs(60);
const N_STEPS: usize = 64;

/// As much of templates as tells three families, which write arguments as JSON, between tags and between quotes of
/// their own.
const FORMS: [&str; 3] =
    ["<tool_call>", "<tool_call> <function=f> <parameter=p>", "<|tool_call>call: <tool_call|>"];

/// Vocabularies of all bytes and some words.
static MODELS: LazyLock<[TextModel; 3]> = LazyLock::new(|| FORMS.map(model));

fn model(template: &str) -> TextModel {
    let words = ["\":", "\", \"", "true", "null", "{}", "[]", "  ", "\n  ", "<end>"];
    let bytes = (0..=255).map(|byte| format!("<0x{byte:02X}>"));
    let tokens: Vec<String> = bytes.chain(words.map(str::to_owned)).collect();
    let n_tokens = tokens.len();
    let kind = |i: usize| {
        if i < 256 {
            6
        } else if i + 1 == n_tokens {
            3
        } else {
            1
        }
    };
    let metadata = TextMetadata {
        tokenizer_model: "llama".into(),
        token_types: (0..n_tokens).map(kind).collect(),
        scores: vec![0.0; n_tokens],
        eos: u32::try_from(n_tokens - 1).ok(),
        tokens,
        chat_template: Some(template.to_owned()),
        ..TextMetadata::default()
    };
    TextModel::new(metadata).expect("a vocabulary")
}

/// Takes tokens that `choices` choose.
fn walk(mut constraint: Constraint, choices: &[u8]) {
    for step in 0..N_STEPS {
        let Ok(mask) = constraint.mask() else { break };
        let n = mask.n_allowed();
        assert!(n > 0, "a mask without tokens is an error");
        let turn = usize::from(choices[step % choices.len()]) % n;
        let id = mask.allowed().nth(turn).expect("one of them");
        if constraint.commit(id).is_err() || constraint.is_finished() {
            break;
        }
    }
}

/// Builds where a stack of its own bounds it.
fn built<T: Send + 'static>(
    build: impl FnOnce() -> Result<T, ConstraintError> + Send + 'static,
) -> Result<T, ConstraintError> {
    let since = Instant::now();
    let building = thread::Builder::new().stack_size(CONSTRAINT_STACK_BYTES);
    let built = building.spawn(build).expect("a thread").join();
    assert!(since.elapsed() < DEADLINE, "{:?}", since.elapsed());
    built.expect("no panic")
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(schema) = serde_json::from_slice::<serde_json::Value>(bytes) else { return };
    for strictness in [Strictness::Lenient, Strictness::Strict] {
        let format = OutputFormat::JsonSchema { schema: schema.clone(), strictness };
        if let Ok(constraint) = built(move || MODELS[0].constraint(&format)) {
            walk(constraint, bytes);
        }
    }
    let turn = bytes.iter().fold(0_usize, |sum, byte| sum.wrapping_add(usize::from(*byte)));
    let model = &MODELS[turn % MODELS.len()];
    for strict in [false, true] {
        let parameters = Some(schema.clone());
        let tool = Tool { name: "f".into(), parameters, strict, ..Tool::default() };
        let rules = AnswerRules {
            form: Arc::clone(model.answer_form().expect("a template")),
            begins: Begins::Text,
            tools: vec![tool],
            calls: Calls::Must,
            most: Most::One,
            format: None,
            most_thoughts: None,
        };
        if let Ok(constraint) = built(move || model.answer_constraint(&rules)) {
            walk(constraint.expect("a call is wanted"), bytes);
        }
    }
});
