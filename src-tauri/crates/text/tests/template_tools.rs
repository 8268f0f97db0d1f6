//! What the reference's templates make of tools and calls, and whether a call that they show is read as the call it is.
//!
//! `tests/data/template_tools.txt` has a line for each: `SAMOVAR_TEST_BLESS=1 cargo test -p text --test template_tools`
//! writes what is so now into it; review the diff.

#![allow(clippy::unwrap_used, reason = "the lint knows tests by their attribute, not their helpers")]

#[allow(dead_code, reason = "of the support only the bytes and the reference are used")]
mod support;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use support::{bytes, reference};
use text::{
    AnswerReader, Chat, ChatMessage, ChatRenderer, ChatTemplate, RENDER_STACK_BYTES, Spoken, TextError,
    TextModel, Tool, ToolCall,
};

fn tools() -> Vec<Tool> {
    let tool = |name: &str, parameters| Tool {
        name: name.into(),
        description: Some(format!("It is about {name}_words.")),
        parameters: Some(parameters),
        strict: false,
    };
    let text = |words: &str| json!({"type": "string", "description": words});
    vec![
        tool(
            "get_weather",
            json!({
                "type": "object",
                "properties": {"city": text("a city"), "days": {"type": "integer", "description": "how many"}},
                "required": ["city"],
            }),
        ),
        tool(
            "note",
            json!({"type": "object", "properties": {"text": text("what to note")}, "required": ["text"]}),
        ),
    ]
}

fn call(id: &str, name: &str, arguments: &Value) -> ToolCall {
    ToolCall { id: id.into(), name: name.into(), arguments: arguments.to_string() }
}

/// A question, and, where there are some, its answer's calls with their results.
fn chat(calls: &[ToolCall], add_generation_prompt: bool) -> Chat {
    let mut messages = vec![ChatMessage::new("user", "How is the weather?")];
    if !calls.is_empty() {
        messages.push(ChatMessage { tool_calls: calls.to_vec(), ..ChatMessage::new("assistant", "") });
    }
    for call in calls {
        let result = format!("RESULT OF {}", call.id);
        messages
            .push(ChatMessage { tool_call_id: Some(call.id.clone()), ..ChatMessage::new("tool", result) });
    }
    Chat { messages, add_generation_prompt, tools: tools(), ..Chat::default() }
}

/// The template's own text for a chat; or why there is none.
struct Templated {
    renderer: ChatRenderer,
    model: TextModel,
}

impl Templated {
    fn new(source: &str) -> Templated {
        let text = |text: &str| Some(text.to_owned());
        let template = ChatTemplate {
            source: source.to_owned(),
            bos: text("<s>"),
            eos: text("</s>"),
            unk: text("<unk>"),
            pad: text("<pad>"),
            ..ChatTemplate::default()
        };
        Templated { renderer: ChatRenderer::new(&template).unwrap(), model: bytes::model(source, &[]) }
    }

    /// The text, and whether the tools are described in words of ours.
    fn text(&self, chat: &Chat) -> Result<(String, bool), TextError> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let rendered = self.renderer.render(chat, now)?;
        Ok((rendered.plain(), rendered.has_tools_in_words()))
    }

    /// What is read of the answer that has these calls, as the template shows it.
    fn read(&self, calls: &[ToolCall]) -> Result<Vec<(String, Value)>, TextError> {
        let (shown, in_words) = self.text(&chat(calls, true))?;
        for call in calls {
            let result = format!("RESULT OF {}", call.id);
            assert_eq!(shown.matches(&result).count(), 1, "{shown}");
        }
        let (prompt, _) = self.text(&chat(&[], true))?;
        let (without_prompt, _) = self.text(&chat(&[], false))?;
        let before = [prompt, without_prompt].into_iter().find(|before| shown.starts_with(before));
        // Where a template writes other words before a conversation with calls, its answer is read with these.
        let before = before.unwrap_or_default();
        let form = Arc::clone(self.model.answer_form().unwrap());
        let begins = form.begins(&before);
        let form = if in_words { Arc::new(form.as_ref().clone().in_words()) } else { form };
        let mut reader = AnswerReader::new(form, tools(), begins);
        let mut spoken = reader.push(&shown[before.len()..]);
        spoken.extend(reader.finish());
        let mut read: Vec<(String, String)> = Vec::new();
        for piece in spoken {
            match piece {
                Spoken::Call(name) => read.push((name, String::new())),
                Spoken::Arguments(more) => read.last_mut().unwrap().1.push_str(&more),
                Spoken::Text { .. } | Spoken::Thoughts(_) => {}
            }
        }
        let value = |text: String| serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok(read.into_iter().map(|(name, arguments)| (name, value(arguments))).collect())
    }
}

/// What comes of calls that are shown and read.
fn outcome(templated: &Templated, calls: &[(&str, &str, Value)]) -> String {
    let written: Vec<ToolCall> =
        calls.iter().map(|(id, name, arguments)| call(id, name, arguments)).collect();
    match templated.read(&written) {
        Ok(read) => {
            let wanted: Vec<(String, Value)> =
                calls.iter().map(|(_, name, arguments)| ((*name).to_owned(), arguments.clone())).collect();
            match read {
                read if read == wanted => "read".to_owned(),
                read if read.is_empty() => "unread".to_owned(),
                read => format!("read as {}", json!(read)),
            }
        }
        Err(TextError::Refused(words)) => format!("refused: {words}"),
        Err(error) => format!("failed: {error}"),
    }
}

fn line(source: &str) -> String {
    let templated = Templated::new(source);
    let form = templated.model.answer_form().unwrap();
    let thinks = if form.thinks() { ", thinks" } else { "" };
    let name = if form.is_known() { form.name() } else { "unknown" };
    let shown = match templated.text(&chat(&[], true)) {
        Ok((text, in_words)) => {
            for tool in tools() {
                assert!(text.contains(&tool.name), "{text}");
                assert!(text.contains(&format!("{}_words", tool.name)), "{text}");
            }
            if in_words { "in words".to_owned() } else { "shown".to_owned() }
        }
        Err(error) => format!("failed: {error}"),
    };
    let weather = ("abcdefghi", "get_weather", json!({"city": "Köln", "days": 3}));
    let note = ("jklmnopqr", "note", json!({"text": "a \"b\"\n<c>'d'"}));
    let one = outcome(&templated, std::slice::from_ref(&weather));
    let text = outcome(&templated, std::slice::from_ref(&note));
    let two = outcome(&templated, &[weather, note]);
    format!("{name}{thinks} | tools {shown} | a call {one} | text {text} | two calls {two}")
}

#[test]
fn tools_are_shown_and_calls_that_templates_show_are_read_back() {
    let mut found = String::new();
    for path in reference::files("templates", ".jinja", 70) {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let source = fs::read_to_string(&path).unwrap();
        let line = thread::scope(|scope| {
            let work = || line(&source);
            let thread =
                thread::Builder::new().stack_size(RENDER_STACK_BYTES).spawn_scoped(scope, work).unwrap();
            thread.join().unwrap_or_else(|_| format!("{name} panicked"))
        });
        let _ = writeln!(found, "{name}: {line}");
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/template_tools.txt");
    if std::env::var_os("SAMOVAR_TEST_BLESS").is_some() {
        fs::write(&file, &found).unwrap();
    }
    assert_eq!(fs::read_to_string(&file).unwrap_or_default(), found);
    assert!(!found.contains("panicked"), "{found}");
}
