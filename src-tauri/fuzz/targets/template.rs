//! A chat template of arbitrary bytes: it compiles within its stack or is refused, and a worker renders a message and a
//! chat with tools with it, fails or is ended, in time. `SAMOVAR_BIN` is the program whose workers render.

#![no_main]

use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use server::RenderWorkers;
use text::{
    Chat, ChatMessage, ChatRenderer, RENDER_STACK_BYTES, TextError, TextMetadata, TextModel, Tool, ToolCall,
};

/// A worker's own deadline, and some more for a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

static WORKERS: LazyLock<RenderWorkers> = LazyLock::new(|| {
    let program = std::env::var_os("SAMOVAR_BIN").expect("SAMOVAR_BIN is the program that renders");
    RenderWorkers::new(program.into(), "render-chats")
});

/// A chat with everything that templates have fields for.
fn chat() -> Chat {
    let call = ToolCall { id: "abcdefghi".into(), name: "f".into(), arguments: r#"{"a": [1, "x"]}"#.into() };
    let answer = ChatMessage {
        tool_calls: vec![call],
        thinking: Some("t".into()),
        ..ChatMessage::new("assistant", "y")
    };
    let result = ChatMessage { tool_call_id: Some("abcdefghi".into()), ..ChatMessage::new("tool", "z") };
    let tool = Tool { name: "f".into(), description: Some("d".into()), ..Tool::default() };
    Chat {
        messages: vec![ChatMessage::new("user", "x"), answer, result],
        add_generation_prompt: true,
        tools: vec![tool],
        ..Chat::default()
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(source) = std::str::from_utf8(bytes) else { return };
    let metadata = TextMetadata {
        tokenizer_model: "llama".into(),
        tokens: vec!["<s>".into(), "a".into()],
        token_types: vec![3, 1],
        scores: vec![0.0; 2],
        chat_template: Some(source.to_owned()),
        ..TextMetadata::default()
    };
    let model = TextModel::new(metadata).expect("a vocabulary");
    let template = model.chat_template().expect("a template").clone();
    let compiling = thread::Builder::new().stack_size(RENDER_STACK_BYTES);
    // Rendering may ask for anything and is a worker's; compiling is bounded by the source.
    let compiled = compiling.spawn(move || ChatRenderer::new(&template).is_ok()).expect("a thread").join();
    let compiles = compiled.expect("no panic");
    let since = Instant::now();
    let fault = WORKERS.template_fault(&model);
    assert!(since.elapsed() < DEADLINE, "{:?}", since.elapsed());
    assert!(compiles || fault.is_some(), "a template that does not compile does not work");
    if let Some(fault) = fault {
        assert!(!fault.contains("cannot be used"), "{fault}");
    }
    let since = Instant::now();
    let rendered = server::fuzzing::render(&WORKERS, &model, &chat());
    assert!(since.elapsed() < DEADLINE, "{:?}", since.elapsed());
    match rendered {
        Err(TextError::Template(fault)) => assert!(!fault.contains("cannot be used"), "{fault}"),
        Err(_) => {}
        // Where the template takes both, the text can be encoded.
        Ok(rendered) if compiles => {
            let _ = rendered.plain();
        }
        Ok(_) => panic!("a template that does not compile renders"),
    }
});
